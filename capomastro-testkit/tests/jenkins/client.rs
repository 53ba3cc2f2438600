//! A client that sends exactly what it is told, one connection per request.

use base64::{Engine, engine::general_purpose::STANDARD};
use capomastro_testkit::jenkins::Jenkins;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.iter().map(|byte| char::from(*byte)).collect())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The number in a `Location` of a queue item.
    #[track_caller]
    pub(crate) fn item(&self) -> u64 {
        let location = self.header("Location").unwrap();
        let number = location.trim_end_matches('/').rsplit_once("/queue/item/").unwrap().1;
        number.parse().unwrap()
    }

    pub(crate) fn cookie(&self) -> Option<String> {
        self.header("Set-Cookie")?.split(';').next().map(str::to_owned)
    }
}

pub(crate) fn basic(user: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{secret}")))
}

pub(crate) fn token() -> String {
    basic(Jenkins::ADMIN, Jenkins::TOKEN)
}

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

pub(crate) fn head(method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        head.push_str("Host: localhost:8080\r\n");
    }
    if !headers.iter().any(|(name, _)| *name == "Accept") {
        head.push_str("Accept: application/json\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
    head
}

/// Reads one answer; `None` where the connection closed before its head was there.
pub(crate) fn read_reply(stream: &mut TcpStream, without_body: bool) -> Option<Reply> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 65_536];
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend(&chunk[..count]),
        }
    };
    let mut body = bytes.split_off(end + 4);
    let head: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<(String, Vec<u8>)> = lines
        .map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.trim_start().chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect())
        })
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| String::from_utf8_lossy(value).parse::<usize>().unwrap());
    let expected = if without_body || matches!(status, 204 | 304) { Some(0) } else { length };
    while expected.is_none_or(|expected| body.len() < expected) {
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(count) => body.extend(&chunk[..count]),
        }
    }
    Some(Reply { status, headers, body })
}

pub(crate) fn connect(jenkins: &Jenkins) -> TcpStream {
    let stream = TcpStream::connect(jenkins.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Sends a request; `None` where nothing came back.
pub(crate) fn try_send(jenkins: &Jenkins, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Reply> {
    let mut stream = connect(jenkins);
    stream.write_all(head(method, path, headers, body.len()).as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    read_reply(&mut stream, method == "HEAD")
}

#[track_caller]
pub(crate) fn send(jenkins: &Jenkins, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    try_send(jenkins, method, path, headers, body).unwrap()
}

#[track_caller]
pub(crate) fn get(jenkins: &Jenkins, path: &str) -> Reply {
    send(jenkins, "GET", path, &[("Authorization", &token())], b"")
}

#[track_caller]
pub(crate) fn json(jenkins: &Jenkins, path: &str) -> Value {
    get(jenkins, path).json()
}

#[track_caller]
pub(crate) fn post(jenkins: &Jenkins, path: &str, form: &str) -> Reply {
    send(jenkins, "POST", path, &[("Authorization", &token()), FORM], form.as_bytes())
}

pub(crate) fn try_post(jenkins: &Jenkins, path: &str, form: &str) -> Option<Reply> {
    try_send(jenkins, "POST", path, &[("Authorization", &token()), FORM], form.as_bytes())
}

#[track_caller]
pub(crate) fn post_as(jenkins: &Jenkins, user: &str, path: &str, form: &str) -> Reply {
    send(jenkins, "POST", path, &[("Authorization", &basic(user, "t")), FORM], form.as_bytes())
}

#[track_caller]
pub(crate) fn get_as(jenkins: &Jenkins, user: &str, path: &str) -> Reply {
    send(jenkins, "GET", path, &[("Authorization", &basic(user, "t"))], b"")
}
