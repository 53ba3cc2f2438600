//! Servers that are started for each connection, on a port of this machine that nobody else has.

use super::repo::clean;
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

/// Calls `serve` on a thread of its own with each connection, until the test ends; the port.
pub(crate) fn on_each(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        thread::scope(|scope| {
            for stream in listener.incoming() {
                let serve = &serve;
                scope.spawn(move || serve(stream.expect("a connection")));
            }
        });
    });
    port
}

/// A program that speaks through the connection.
pub(crate) fn run(mut command: Command, stream: &TcpStream) {
    let end = || Stdio::from(OwnedFd::from(stream.try_clone().expect("a second handle")));
    let ran = command.stdin(end()).stdout(end()).stderr(Stdio::null()).status();
    ran.expect("the program runs");
}

/// `svnserve` over all repositories below `root`.
pub(crate) fn svnserve(root: PathBuf) -> u16 {
    on_each(move |stream| {
        let mut command = clean("svnserve");
        command.args(["--inetd", "--root"]).arg(&root);
        run(command, &stream);
    })
}

/// Whether an HTTP request is there in full.
fn is_complete(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|w| w == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}

/// A web server that is told what to say to a request, and hangs up after it.
pub(crate) fn web(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> u16 {
    on_each(move |mut stream| {
        let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
        while !is_complete(&request) {
            match stream.read(&mut buffer) {
                Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
                _ => return,
            }
        }
        // A client that has seen enough hangs up.
        drop(stream.write_all(&answer(&String::from_utf8_lossy(&request))));
        drop(stream.shutdown(Shutdown::Write));
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
    })
}

/// An answer of a web server.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}
