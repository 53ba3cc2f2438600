//! What mod_dav_svn is asked and answers. No I/O.

use super::{
    answer::{Node, Origin, nonsense},
    revision::{is_date, is_uuid},
    xml::{Element, parse},
};
use capomastro_core::Result;
use percent_encoding::percent_decode_str;

const DAV: &str = "DAV:";
const TIGRIS: &str = "http://subversion.tigris.org/xmlns/dav/";
const SVN: &str = "svn:";

/// The properties that are asked for.
pub(super) const PROPFIND: &str = concat!(
    r#"<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><version-name/><creationdate/>"#,
    r#"<creator-displayname/><checked-in/><baseline-relative-path xmlns="http://subversion.tigris.org/xmlns/dav/"/>"#,
    r#"<repository-uuid xmlns="http://subversion.tigris.org/xmlns/dav/"/></prop></propfind>"#
);

/// What a path's properties say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) node: Node,
    /// Where to ask for the place of its last change, if that was not here.
    pub(super) elsewhere: Option<Elsewhere>,
}

/// A path whose content was last changed while it was elsewhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// The path of the URL at which the server keeps what we saw, percent-encoded.
    pub(super) href: String,
    /// The revision in which we saw it.
    pub(super) peg: u64,
    /// The path in the repository, starting with a slash.
    pub(super) own: String,
}

/// Reads the answer to [`PROPFIND`].
pub(super) fn properties(body: &[u8]) -> Result<Seen> {
    let root = parse(body)?;
    let response = root.child(DAV, "response").filter(|_| root.is(DAV, "multistatus"));
    let response = response.ok_or_else(|| nonsense("XML that is no list of properties"))?;
    let good = response.children.iter().filter(|p| p.is(DAV, "propstat") && is_good(p));
    let found = good.filter_map(|p| p.child(DAV, "prop")).next();
    let found = found.ok_or_else(|| nonsense("none of the properties that were asked for"))?;
    let uuid = found.text_of(TIGRIS, "repository-uuid").filter(|u| is_uuid(u));
    let number = found.text_of(DAV, "version-name").and_then(|n| n.parse().ok());
    let (Some(uuid), Some(number)) = (uuid, number) else {
        return Err(nonsense("properties without revision and UUID"));
    };
    let own = found.child(TIGRIS, "baseline-relative-path").map(|p| format!("/{}", p.text()));
    let href = found.child(DAV, "checked-in").and_then(|c| c.text_of(DAV, "href"));
    let elsewhere = match (own, href) {
        (Some(own), Some(href)) => elsewhere(own, href, number),
        _ => return Err(nonsense("properties without path and version")),
    };
    Ok(Seen {
        node: Node {
            uuid: uuid.to_owned(),
            number,
            date: found.text_of(DAV, "creationdate").filter(|d| is_date(d)).map(str::to_owned),
            author: found.text_of(DAV, "creator-displayname").map(str::to_owned),
            origin: Origin::Here,
            history: Vec::new(),
            head: None,
        },
        elsewhere: elsewhere?,
    })
}

/// Whether the properties of a `propstat` are there.
fn is_good(propstat: &Element) -> bool {
    propstat.text_of(DAV, "status").is_some_and(|s| s.split(' ').nth(1) == Some("200"))
}

/// The name of a version holds the revision of its last change, or the one in which we saw it if it was not changed here.
fn elsewhere(own: String, href: &str, number: u64) -> Result<Option<Elsewhere>> {
    let unreadable = || nonsense("a version whose name cannot be read");
    let decoded = percent_decode_str(href).decode_utf8().map_err(|_| unreadable())?;
    let name =
        decoded.trim_end_matches('/').strip_suffix(own.trim_end_matches('/')).ok_or_else(unreadable)?;
    let named: u64 = name.rsplit('/').next().and_then(|n| n.parse().ok()).ok_or_else(unreadable)?;
    if named == number {
        return Ok(None);
    }
    if named < number || !href.starts_with('/') || href.starts_with("//") || href.contains(['?', '#']) {
        return Err(unreadable());
    }
    Ok(Some(Elsewhere { href: href.to_owned(), peg: named, own }))
}

/// Asks where something was.
pub(super) fn where_was(peg: u64, number: u64) -> String {
    format!(
        "<S:get-locations xmlns:S=\"svn:\"><S:path></S:path><S:peg-revision>{peg}</S:peg-revision>\
         <S:location-revision>{number}</S:location-revision></S:get-locations>"
    )
}

/// Reads the answer to [`where_was`].
pub(super) fn location(body: &[u8], own: &str, number: u64) -> Result<Origin> {
    let root = parse(body)?;
    if !root.is(SVN, "get-locations-report") {
        return Err(nonsense("XML that is no list of places"));
    }
    let is_it =
        |e: &&Element| e.is(SVN, "location") && e.attribute("rev") == Some(number.to_string().as_str());
    let path = root.children.iter().find(is_it).and_then(|e| e.attribute("path"));
    Ok(match path {
        Some(path) if path != own => Origin::Elsewhere(path.to_owned()),
        // What is hidden from us cannot be told apart.
        _ => Origin::Here,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multistatus(number: &str, href: &str, path: &str) -> String {
        format!(
            "<D:multistatus xmlns:D=\"DAV:\"><D:response><D:href>/</D:href>\
             <D:propstat><D:prop><D:version-name>{number}</D:version-name>\
             <D:checked-in><D:href>{href}</D:href></D:checked-in>\
             <t:baseline-relative-path xmlns:t=\"{TIGRIS}\">{path}</t:baseline-relative-path>\
             <t:repository-uuid xmlns:t=\"{TIGRIS}\">u</t:repository-uuid></D:prop>\
             <D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response></D:multistatus>"
        )
    }

    #[test]
    fn where_content_comes_from_is_seen_in_its_version() {
        for (number, href, path, peg) in [
            ("2", "/svn/!svn/ver/2/trunk", "trunk", None),
            ("5", "/svn/!svn/ver/5/", "", None),
            ("5", "/svn/!svn/ver/5", "", None),
            ("2", "/svn/!svn/ver/7/b/s%20%C3%BC", "b/s \u{fc}", Some(7)),
            ("2", "/svn/!svn/ver/9/2/trunk", "2/trunk", Some(9)),
        ] {
            let seen = properties(multistatus(number, href, path).as_bytes()).unwrap();
            assert_eq!(seen.elsewhere.map(|e| e.peg), peg, "{href}");
        }
        for (number, href, path) in [
            ("x", "/svn/!svn/ver/2/trunk", "trunk"),
            ("-1", "/svn/!svn/ver/2/trunk", "trunk"),
            ("2", "/svn/!svn/ver/2/trunk", "other"),
            ("2", "/svn/!svn/ver/x/trunk", "trunk"),
            ("2", "/svn/!svn/ver/1/trunk", "trunk"),
            ("2", "http://evil/!svn/ver/7/trunk", "trunk"),
            ("2", "//evil/!svn/ver/7/trunk", "trunk"),
            ("2", "/svn/!svn/ver/7/%ff", "trunk"),
        ] {
            assert!(properties(multistatus(number, href, path).as_bytes()).is_err(), "{href}");
        }
    }

    #[test]
    fn other_xml_is_nonsense() {
        for text in
            ["<a/>", "<multistatus xmlns='DAV:'/>", "<multistatus xmlns='DAV:'><response/></multistatus>"]
        {
            assert!(properties(text.as_bytes()).is_err(), "{text}");
            assert!(location(text.as_bytes(), "/a", 1).is_err(), "{text}");
        }
        let missing = multistatus("1", "/!svn/ver/1/a", "a").replace("200 OK", "404 Not Found");
        assert!(properties(missing.as_bytes()).is_err());
    }
}
