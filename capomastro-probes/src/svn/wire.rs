//! The items of which Subversion's own protocol is made, written and read. No I/O.
//!
//! An item is a number, a word, a string with its length before it, or a list of items; each ends with a blank.

use super::answer::nonsense;
use capomastro_core::Result;

/// The largest item at the top, in bytes.
const MAX_ITEM: usize = 256 * 1024;
/// How deep lists may lie in each other.
const MAX_DEPTH: usize = 16;

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Number(u64),
    Word(String),
    Text(Vec<u8>),
    List(Vec<Self>),
}

impl Item {
    pub(super) const fn number(&self) -> Option<u64> {
        match self {
            Self::Number(n) => Some(*n),
            _ => None,
        }
    }

    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Self::Word(w) => Some(w),
            _ => None,
        }
    }

    /// Text that is UTF-8.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(t) => str::from_utf8(t).ok(),
            _ => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The first item of a list that may be empty, as optional parts are written.
    pub(super) fn first(&self) -> Option<&Self> {
        self.list()?.first()
    }
}

/// Text with its length before it, as it is sent.
pub(super) fn text(text: &str) -> String {
    format!("{}:{text}", text.len())
}

/// Reads items from bytes that come in pieces of any size.
#[derive(Debug)]
pub(super) struct Reader {
    buffer: Vec<u8>,
    /// What was read already, at the start of the buffer.
    done: usize,
    left: u64,
}

/// What there is to read.
enum Next {
    Item(Item),
    /// The end of the list.
    End,
}

impl Reader {
    /// `max` bounds the bytes that are read.
    pub(super) const fn new(max: u64) -> Self {
        Self { buffer: Vec::new(), done: 0, left: max }
    }

    /// Takes more bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.left = self
            .left
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| nonsense("more than the probe's max_answer_bytes"))?;
        self.buffer.drain(..self.done);
        self.done = 0;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next item, once it is there in full.
    pub(super) fn next(&mut self) -> Result<Option<Item>> {
        let mut at = self.done;
        match read(&self.buffer, &mut at, 0)? {
            Some(Next::Item(item)) => {
                self.done = at;
                Ok(Some(item))
            }
            Some(Next::End) => Err(nonsense("a list that ends before it starts")),
            None if self.buffer.len() - self.done > MAX_ITEM => Err(nonsense("an item that is too large")),
            None => Ok(None),
        }
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n')
}

/// What stands at `at`; `None` if it is not there in full.
fn read(bytes: &[u8], at: &mut usize, depth: usize) -> Result<Option<Next>> {
    while bytes.get(*at).copied().is_some_and(is_blank) {
        *at += 1;
    }
    let start = *at;
    let Some(first) = bytes.get(start).copied() else { return Ok(None) };
    let item = match first {
        b'(' => {
            if depth == MAX_DEPTH {
                return Err(nonsense("lists that lie too deep in each other"));
            }
            *at += 1;
            if !blank(bytes, at)? {
                return Ok(None);
            }
            let mut items = Vec::new();
            loop {
                match read(bytes, at, depth + 1)? {
                    Some(Next::Item(item)) => items.push(item),
                    Some(Next::End) => return Ok(Some(Next::Item(Item::List(items)))),
                    None => return Ok(None),
                }
            }
        }
        b')' => {
            *at += 1;
            return Ok(blank(bytes, at)?.then_some(Next::End));
        }
        b'0'..=b'9' => {
            let digits = run(bytes, start, u8::is_ascii_digit);
            let number = str::from_utf8(&bytes[start..digits]).ok().and_then(|d| d.parse::<u64>().ok());
            let number = number.ok_or_else(|| nonsense("a number that is too large"))?;
            *at = digits;
            if bytes.get(digits) == Some(&b':') {
                let length = usize::try_from(number).ok().filter(|n| *n <= MAX_ITEM);
                let length = length.ok_or_else(|| nonsense("text that is too long"))?;
                let Some(text) = bytes.get(digits + 1..digits + 1 + length) else { return Ok(None) };
                *at = digits + 1 + length;
                Item::Text(text.to_vec())
            } else {
                Item::Number(number)
            }
        }
        b'a'..=b'z' | b'A'..=b'Z' => {
            *at = run(bytes, start, |b| b.is_ascii_alphanumeric() || *b == b'-');
            Item::Word(String::from_utf8_lossy(&bytes[start..*at]).into_owned())
        }
        _ => return Err(nonsense("bytes that are not Subversion's protocol")),
    };
    Ok(blank(bytes, at)?.then_some(Next::Item(item)))
}

fn run(bytes: &[u8], start: usize, fits: impl Fn(&u8) -> bool) -> usize {
    start + bytes[start..].iter().take_while(|b| fits(b)).count()
}

/// Takes the blank behind an item; false if nothing is there yet.
fn blank(bytes: &[u8], at: &mut usize) -> Result<bool> {
    match bytes.get(*at).copied() {
        Some(b) if is_blank(b) => {
            *at += 1;
            Ok(true)
        }
        Some(_) => Err(nonsense("bytes that are not Subversion's protocol")),
        None => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Result<Vec<Item>> {
        let (mut reader, mut items) = (Reader::new(1_000_000), Vec::new());
        for piece in pieces {
            reader.feed(piece)?;
            while let Some(item) = reader.next()? {
                items.push(item);
            }
        }
        Ok(items)
    }

    #[test]
    fn items_are_read_in_pieces_of_any_size() {
        let said = b"( success ( ( dir 18446744073709551615 false ( 4:r ot ) 0: ) ) ) done ( ) \n7 ";
        let word = |w: &str| Item::Word(w.into());
        let text = |t: &str| Item::Text(t.into());
        let inner = Item::List(vec![
            word("dir"),
            Item::Number(u64::MAX),
            word("false"),
            Item::List(vec![text("r ot")]),
            text(""),
        ]);
        let want = vec![
            Item::List(vec![word("success"), Item::List(vec![inner])]),
            word("done"),
            Item::List(vec![]),
            Item::Number(7),
        ];
        assert_eq!(all(&[said]).unwrap(), want);
        let bytes: Vec<&[u8]> = said.chunks(1).collect();
        assert_eq!(all(&bytes).unwrap(), want);
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\n"[..],
            b"<html>",
            b"SSH-2.0-OpenSSH\r\n",
            b"(success ) ",
            b") ",
            b"99999999999999999999999 ",
            b"9999999999:x",
            b"4:abcde ",
            b"\0\0\0\0",
        ] {
            assert!(all(&[bytes]).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(all(&[&b"( ".repeat(1_000)]).is_err());
        assert!(all(&[b"( ", &b"1 ".repeat(200_000)]).is_err());
        assert!(all(&[&b"1 ".repeat(600_000)]).is_err());
        assert_eq!(all(&[b"( 5:ab"]).unwrap(), []);
    }
}
