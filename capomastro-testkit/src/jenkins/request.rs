//! A request as the server's rules see it.

use percent_encoding::percent_decode_str;

/// A request, its body read whole.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// As it was sent, without the query.
    pub(super) raw_path: String,
    /// Segments below the context path, decoded, without empty ones.
    pub(super) segments: Vec<String>,
    pub(super) trailing_slash: bool,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

/// Fields of a form beyond this are refused.
const MOST_FIELDS: usize = 10_000;

/// A form with too many fields.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct TooManyFields;

impl Request {
    /// Reads the parts of a path; `None` if it is outside of `context`.
    pub(super) fn new(
        method: &str,
        path_and_query: &str,
        context: &str,
        headers: Vec<(String, Vec<u8>)>,
        body: Vec<u8>,
    ) -> Option<Self> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let below = path.strip_prefix(context).filter(|below| below.is_empty() || below.starts_with('/'))?;
        Some(Self {
            method: method.to_owned(),
            raw_path: path.to_owned(),
            segments: below.split('/').filter(|s| !s.is_empty()).map(decode).collect(),
            trailing_slash: below.ends_with('/'),
            query: urlencoded(query),
            headers,
            body,
        })
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn wants_json(&self) -> bool {
        self.header("accept").is_some_and(|accept| accept.contains("application/json"))
    }

    pub(super) fn is(&self, method: &str) -> bool {
        self.method == method
    }

    pub(super) fn parts(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    fn content_type(&self) -> String {
        self.header("content-type").unwrap_or_default()
    }

    /// Fields of the query and then of the form in the body. A body of another type has none.
    pub(super) fn fields(&self) -> Result<Vec<(String, String)>, TooManyFields> {
        let mut fields = self.query.clone();
        let kind = self.content_type();
        if kind.is_empty() || kind.starts_with("application/x-www-form-urlencoded") {
            fields.extend(urlencoded(&String::from_utf8_lossy(&self.body)));
        } else if kind.starts_with("multipart/form-data") {
            fields.extend(multipart(&kind, &self.body));
        }
        if fields.len() > MOST_FIELDS { Err(TooManyFields) } else { Ok(fields) }
    }

    pub(super) fn field(&self, name: &str) -> Option<String> {
        self.fields().ok()?.into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    /// The cookie that names a session.
    pub(super) fn session(&self) -> Option<String> {
        let cookies = self.header("cookie")?;
        cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix("JSESSIONID=").map(str::to_owned))
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn urlencoded(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(&name.replace('+', " ")), decode(&value.replace('+', " ")))
        })
        .collect()
}

/// Parts of a multipart body. Text whose part names no character set is read as Latin-1, and so garbled.
fn multipart(kind: &str, body: &[u8]) -> Vec<(String, String)> {
    let Some(boundary) = kind.split("boundary=").nth(1).map(|b| b.trim().trim_matches('"')) else {
        return Vec::new();
    };
    let latin: String = body.iter().map(|byte| char::from(*byte)).collect();
    latin
        .split(&format!("--{boundary}"))
        .filter_map(|part| {
            let (head, value) = part.trim_start_matches("\r\n").split_once("\r\n\r\n")?;
            let name = head.split("name=\"").nth(1)?.split('"').next()?.to_owned();
            let value = value.strip_suffix("\r\n").unwrap_or(value);
            let value = if head.to_ascii_lowercase().contains("charset=utf-8") {
                let bytes: Vec<u8> = value.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            } else {
                value.to_owned()
            };
            Some((name, value))
        })
        .collect()
}
