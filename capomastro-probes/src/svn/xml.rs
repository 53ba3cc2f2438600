//! Small XML documents as trees. What a server sends is bounded, and defines nothing of its own.

use super::answer::nonsense;
use capomastro_core::Result;
use quick_xml::{
    NsReader, XmlVersion,
    events::{BytesStart, Event},
    name::ResolveResult,
};

/// How deep elements may lie in each other.
const MAX_DEPTH: usize = 32;
/// How many elements there may be.
const MAX_ELEMENTS: usize = 10_000;

/// An element.
#[derive(Debug, Default)]
pub(super) struct Element {
    space: String,
    name: String,
    attributes: Vec<(String, String)>,
    text: String,
    pub(super) children: Vec<Self>,
}

impl Element {
    pub(super) fn is(&self, space: &str, name: &str) -> bool {
        self.space == space && self.name == name
    }

    pub(super) fn child(&self, space: &str, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(space, name))
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn text(&self) -> &str {
        self.text.trim()
    }

    /// The text of a child that is there and has one.
    pub(super) fn text_of(&self, space: &str, name: &str) -> Option<&str> {
        self.child(space, name).map(Self::text).filter(|t| !t.is_empty())
    }
}

/// Reads a document.
pub(super) fn parse(bytes: &[u8]) -> Result<Element> {
    let broken = || nonsense("XML that is damaged");
    let text = str::from_utf8(bytes).map_err(|_| nonsense("XML that is not UTF-8"))?;
    let mut reader = NsReader::from_str(text);
    let mut open = vec![Element::default()];
    let mut count = 0_usize;
    loop {
        let (space, event) = reader.read_resolved_event().map_err(|_| broken())?;
        let space = match space {
            ResolveResult::Bound(space) => space.as_ref().to_owned(),
            ResolveResult::Unbound => String::new(),
            ResolveResult::Unknown(_) => return Err(broken()),
        };
        let is_empty = matches!(event, Event::Empty(_));
        match event {
            Event::Start(start) | Event::Empty(start) => {
                count += 1;
                if count > MAX_ELEMENTS || open.len() > MAX_DEPTH {
                    return Err(nonsense("XML that is too large"));
                }
                let element = element(space, &start)?;
                if is_empty {
                    open.last_mut().ok_or_else(broken)?.children.push(element);
                } else {
                    open.push(element);
                }
            }
            Event::End(_) => {
                let done = open.pop().ok_or_else(broken)?;
                open.last_mut().ok_or_else(broken)?.children.push(done);
            }
            Event::Text(text) => {
                open.last_mut().ok_or_else(broken)?.text += &text.xml_content(XmlVersion::Explicit1_0);
            }
            Event::CData(text) => {
                open.last_mut().ok_or_else(broken)?.text += &text.xml_content(XmlVersion::Explicit1_0);
            }
            Event::GeneralRef(reference) => {
                // Only characters and the five names that XML itself knows.
                let whole = format!("&{};", &*reference);
                let text = quick_xml::escape::unescape(&whole).map_err(|_| broken())?;
                open.last_mut().ok_or_else(broken)?.text += &text;
            }
            Event::DocType(_) => return Err(nonsense("a web page, or XML that defines its own entities")),
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
    let top = open.pop().ok_or_else(broken)?;
    if !open.is_empty() {
        return Err(nonsense("XML that ends too early"));
    }
    let mut roots = top.children;
    if roots.len() != 1 || !top.text.trim().is_empty() {
        return Err(nonsense("something that is no XML"));
    }
    roots.pop().ok_or_else(broken)
}

fn element(space: String, start: &BytesStart<'_>) -> Result<Element> {
    let broken = || nonsense("XML that is damaged");
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|_| broken())?;
        let value = attribute.normalized_value(XmlVersion::Explicit1_0).map_err(|_| broken())?;
        attributes.push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    let name = start.local_name().as_ref().to_owned();
    Ok(Element { space, name, attributes, ..Element::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_and_text_is_unescaped() {
        let root = parse(
            b"<?xml version=\"1.0\"?>\n<a:x xmlns:a='A' xmlns='B' k='1 &amp; 2'><y>p&lt;&#252;<![CDATA[&]]></y><z xmlns=''/></a:x>\n",
        )
        .unwrap();
        assert!(root.is("A", "x"));
        assert_eq!(root.attribute("k"), Some("1 & 2"));
        assert_eq!(root.text_of("B", "y"), Some("p<\u{fc}&"));
        assert!(root.child("", "z").is_some() && root.child("B", "z").is_none());
        assert_eq!(root.text_of("", "z"), None);
    }

    #[test]
    fn bombs_and_what_is_no_document_are_refused() {
        let deep = "<a>".repeat(100) + &"</a>".repeat(100);
        let many = format!("<a>{}</a>", "<b/>".repeat(20_000));
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bb\"><!ENTITY c \"&b;&b;\">]><a>&c;</a>";
        for text in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>x",
            "<a>&c;</a>",
            "<p:a/>",
            "<a b='1' b='2'/>",
            &deep,
            &many,
            bomb,
            "<!DOCTYPE html><html><body>",
            "<a b=\"&c;\"/>",
            "<a><b></a>",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{}", &text[..text.len().min(60)]);
        }
        assert!(parse(b"<a>\xff</a>").is_err());
    }
}
