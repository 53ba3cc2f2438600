//! A `config.xml` as text with the places of its elements, so that what is not ours is left as it is, byte for byte.

use capomastro_core::{Error, ErrorKind, Result};
use quick_xml::{Reader, XmlVersion, events::Event};
use std::{fmt::Write as _, ops::Range};

/// The largest document that is read, in bytes.
pub(super) const MAX_BYTES: usize = 8 * 1024 * 1024;
/// The deepest element.
const MAX_DEPTH: usize = 256;
/// The most elements.
const MAX_ELEMENTS: usize = 200_000;

/// The place of an element among the others of its document; the root's is 0.
pub(super) type Place = usize;

/// An element, by where it stands in the text.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) parent: Option<Place>,
    pub(super) children: Vec<Place>,
    /// From `<` to behind the last `>`.
    pub(super) whole: Range<usize>,
    /// Between the tags; empty, and behind the tag, for `<name/>`.
    pub(super) inside: Range<usize>,
    /// Whether it is written `<name/>`.
    pub(super) is_closed: bool,
    /// What a reader of the document sees as its own text.
    pub(super) text: String,
}

/// A document.
#[derive(Debug)]
pub(super) struct Document<'a> {
    pub(super) xml: &'a str,
    pub(super) elements: Vec<Element>,
}

impl<'a> Document<'a> {
    /// Reads a document, XML 1.0 or 1.1, in UTF-8.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > MAX_BYTES {
            return Err(corrupt("it is larger than 8 MiB"));
        }
        let xml = std::str::from_utf8(bytes).map_err(|e| corrupt("it is not UTF-8").with_source(e))?;
        // The reader counts from behind a byte order mark.
        let body = xml.strip_prefix('\u{feff}').unwrap_or(xml);
        let mut reader = Reader::from_str(body);
        let position = |reader: &Reader<&[u8]>| Ok::<_, Error>(position(reader)? + xml.len() - body.len());
        reader.config_mut().check_comments = false;
        let mut document = Self { xml, elements: Vec::new() };
        let mut open: Vec<Place> = Vec::new();
        let mut version = XmlVersion::Implicit1_0;
        loop {
            let start = position(&reader)?;
            let event = reader.read_event().map_err(|e| corrupt("it is not XML").with_source(e))?;
            let end = position(&reader)?;
            match event {
                Event::Eof => break,
                Event::Decl(declaration) => {
                    version =
                        declaration.xml_version().map_err(|e| corrupt("it is not XML").with_source(e))?;
                }
                Event::DocType(_) => {
                    return Err(corrupt("it has a document type, which Jenkins never writes"));
                }
                Event::Start(tag) => {
                    let place = document.add(tag.name().as_ref(), open.last().copied(), start..end)?;
                    open.push(place);
                    if open.len() > MAX_DEPTH {
                        return Err(corrupt("it is nested too deeply"));
                    }
                }
                Event::Empty(tag) => {
                    let place = document.add(tag.name().as_ref(), open.last().copied(), start..end)?;
                    if let Some(element) = document.elements.get_mut(place) {
                        element.is_closed = true;
                    }
                }
                Event::End(_) => {
                    let element = open.pop().and_then(|place| document.elements.get_mut(place));
                    let element = element.ok_or_else(|| corrupt("it ends more than it begins"))?;
                    element.inside.end = start;
                    element.whole.end = end;
                }
                Event::Text(text) => document.say(&open, &text.xml_content(version))?,
                Event::CData(text) => document.say(&open, &text.xml_content(version))?,
                Event::GeneralRef(reference) => {
                    let meant = match reference.resolve_char_ref() {
                        Ok(Some(c)) => c,
                        Ok(None) => named(reference.as_ref())?,
                        Err(e) => return Err(corrupt("it refers to a character that is none").with_source(e)),
                    };
                    document.say(&open, meant.encode_utf8(&mut [0; 4]))?;
                }
                Event::Comment(_) | Event::PI(_) => {}
            }
        }
        if !open.is_empty() || document.elements.is_empty() {
            return Err(corrupt("it ends before its time"));
        }
        Ok(document)
    }

    fn add(&mut self, name: &str, parent: Option<Place>, tag: Range<usize>) -> Result<Place> {
        let place = self.elements.len();
        if parent.is_none() && place > 0 {
            return Err(corrupt("it has several roots"));
        }
        if place >= MAX_ELEMENTS {
            return Err(corrupt("it has too many elements"));
        }
        self.elements.push(Element {
            name: name.to_owned(),
            parent,
            children: Vec::new(),
            inside: tag.end..tag.end,
            whole: tag,
            is_closed: false,
            text: String::new(),
        });
        if let Some(parent) = parent.and_then(|p| self.elements.get_mut(p)) {
            parent.children.push(place);
        }
        Ok(place)
    }

    fn say(&mut self, open: &[Place], text: &str) -> Result<()> {
        match open.last().and_then(|place| self.elements.get_mut(*place)) {
            Some(element) => element.text.push_str(text),
            None if text.trim_matches([' ', '\t', '\n', '\r']).is_empty() => {}
            None => return Err(corrupt("it has text outside of its root")),
        }
        Ok(())
    }

    /// The element at a place. Places come from this document only.
    pub(super) fn at(&self, place: Place) -> &Element {
        &self.elements[place]
    }

    /// The children of an element with this name, in order.
    pub(super) fn children(&self, of: Place, name: &str) -> Vec<Place> {
        self.at(of).children.iter().copied().filter(|c| self.at(*c).name == name).collect()
    }

    /// The first child of an element with this name.
    pub(super) fn child(&self, of: Place, name: &str) -> Option<Place> {
        self.at(of).children.iter().copied().find(|c| self.at(*c).name == name)
    }

    /// The text of the first child with this name.
    pub(super) fn text_of(&self, of: Place, name: &str) -> Option<&str> {
        self.child(of, name).map(|c| self.at(c).text.as_str())
    }

    /// The blanks before an element on its line; empty if something else stands there.
    pub(super) fn indent_of(&self, place: Place) -> &'a str {
        let before = &self.xml[..self.at(place).whole.start];
        let line = before.rfind('\n').map_or(before, |at| &before[at + 1..]);
        if line.chars().all(|c| c == ' ' || c == '\t') { line } else { "" }
    }

    /// An element with the line break and the blanks before it.
    pub(super) fn with_its_line(&self, place: Place) -> Range<usize> {
        let whole = self.at(place).whole.clone();
        let before = self.xml[..whole.start].trim_end_matches([' ', '\t']);
        let before = before.strip_suffix('\n').map(|b| b.strip_suffix('\r').unwrap_or(b));
        before.map_or(whole.start, str::len)..whole.end
    }
}

fn position(reader: &Reader<&[u8]>) -> Result<usize> {
    usize::try_from(reader.buffer_position()).map_err(|e| corrupt("it is too large").with_source(e))
}

fn named(entity: &str) -> Result<char> {
    Ok(match entity {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "apos" => '\'',
        "quot" => '"',
        _ => return Err(corrupt("it refers to an entity that is not known")),
    })
}

fn corrupt(problem: &str) -> Error {
    let message = format!("the job's config.xml cannot be read: {problem}; nothing was changed");
    Error::new(ErrorKind::Corrupt, message)
}

/// A text as it stands between tags, such that XML 1.0 and 1.1 read it back as it was once it is [`finished`].
///
/// Characters that only XML 1.1 knows as references (C1 controls) or as line ends are written as references; what neither
/// can hold was refused before, by [`check_text`].
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\n' => escaped.push(BREAK),
            '\r' | '\u{7f}'..='\u{9f}' | '\u{2028}' => {
                // Writing into a string cannot fail.
                let _ = write!(escaped, "&#x{:x};", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// Refuses what no XML 1.0 document can hold, not even as a reference.
pub(super) fn check_text(what: &str, text: &str) -> Result<()> {
    let bad = |c: char| {
        (c.is_ascii_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{7f}'))
            || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    if text.contains(bad) {
        return Err(Error::config(format!(
            "{what} contains a character that a config.xml cannot hold: remove control characters"
        )));
    }
    Ok(())
}

/// Stands for a line break inside of a text until a piece is finished, so that only those between elements are taken for
/// lines. No text can hold it.
pub(super) const BREAK: char = '\0';

/// A piece as it stands in a document.
pub(super) fn finished(piece: &str) -> String {
    piece.replace(BREAK, "\n")
}

/// Replacements in a text, none of which touches another.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<(Range<usize>, String)>);

impl Edits {
    pub(super) fn replace(&mut self, range: Range<usize>, with: impl Into<String>) {
        self.0.push((range, with.into()));
    }

    pub(super) fn insert(&mut self, at: usize, text: impl Into<String>) {
        self.replace(at..at, text);
    }

    /// The text with all of them made. Those at one place stand in the order in which they were added.
    pub(super) fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|(range, _)| (range.start, range.end));
        let mut done = String::with_capacity(text.len());
        let mut at = 0;
        for (range, with) in self.0 {
            if let Some(kept) = text.get(at..range.start) {
                done.push_str(kept);
            }
            done.push_str(&finished(&with));
            at = at.max(range.end);
        }
        done.push_str(&text[at..]);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_exact() {
        let xml = "\u{feff}<?xml version='1.1' encoding='UTF-8'?>\n<!-- é -->\n<project plugin=\"x&gt;>\">\n  <a/>\n  <b>é&#x85;&amp;<![CDATA[<&]]></b >\n</project>\n";
        let document = Document::parse(xml.as_bytes()).unwrap();
        let of = |name: &str| document.at(document.child(0, name).unwrap());
        assert_eq!(&xml[of("a").whole.clone()], "<a/>");
        assert!(of("a").is_closed && of("a").inside.is_empty());
        assert_eq!(&xml[of("b").whole.clone()], "<b>é&#x85;&amp;<![CDATA[<&]]></b >");
        assert_eq!(&xml[of("b").inside.clone()], "é&#x85;&amp;<![CDATA[<&]]>");
        assert_eq!(of("b").text, "é\u{85}&<&");
        assert_eq!(document.indent_of(document.child(0, "b").unwrap()), "  ");
        assert_eq!(&xml[document.with_its_line(document.child(0, "a").unwrap())], "\n  <a/>");
        assert!(xml[document.at(0).whole.clone()].starts_with("<project plugin"));
    }

    #[test]
    fn what_is_no_document_is_corrupt() {
        let deep = format!("{}{}", "<a>".repeat(300), "</a>".repeat(300));
        let many = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
        let cases: Vec<&[u8]> = vec![
            b"",
            b"   ",
            b"hello",
            b"<project>",
            b"<project></job>",
            b"</project>",
            b"<a/><b/>",
            b"<a/>text",
            b"<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
            b"<a>&x;</a>",
            b"<a>&#0;</a>",
            b"<a>&#xd800;</a>",
            b"<a>\xff</a>",
            deep.as_bytes(),
            many.as_bytes(),
        ];
        for case in cases {
            let shown = String::from_utf8_lossy(&case[..case.len().min(60)]).into_owned();
            let error = Document::parse(case).expect_err(&shown);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{shown}");
        }
        assert!(Document::parse(&vec![b' '; MAX_BYTES + 1]).is_err());
    }

    #[test]
    fn what_is_escaped_is_read_back_in_both_versions() {
        let text = "a<b>&\"'\t\n\r\r\n\u{7f}\u{80}\u{85}\u{9f}\u{2028}é日本🦀]]>";
        for version in ["1.0", "1.1"] {
            let xml =
                format!("<?xml version='{version}' encoding='UTF-8'?><a>{}</a>", finished(&escape(text)));
            assert_eq!(Document::parse(xml.as_bytes()).unwrap().at(0).text, text, "{version}");
        }
    }

    #[test]
    fn edits_are_made_where_they_belong() {
        let mut edits = Edits::default();
        edits.insert(5, "4");
        edits.replace(0..1, "A");
        edits.insert(5, "5");
        edits.replace(2..3, "");
        assert_eq!(edits.apply("abcde"), "Abde45");
    }
}
