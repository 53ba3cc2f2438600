//! The console text of a build, as Jenkins hands out an unfinished log: with line ends of two bytes, with notes for its own
//! pages in it, and with a next offset that skips what it has not handed out. Here it becomes plain text of which no byte
//! is lost or comes twice.

/// Where a reader of a log stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cursor {
    /// The offset in the raw log to ask for next.
    pub(crate) start: u64,
    /// How much plain text came before `pending`.
    pub(crate) given: u64,
    /// Plain text that was read and is not handed on yet.
    pub(crate) pending: Vec<u8>,
    plain: Plain,
}

impl Cursor {
    /// Takes a piece of the answer for `start`, which begins where the last piece ended. `is_end` tells that nothing of
    /// this answer follows. Returns false when `enough` plain text has been read and the rest of the piece was left.
    ///
    /// The offset advances by what was taken, where a line end counts as the one byte that it is in the raw log: what
    /// the server says the next offset were is the length of the log, of which it may have handed out less.
    pub(crate) fn take(&mut self, piece: &[u8], enough: usize) -> bool {
        for byte in piece {
            if self.pending.len() >= enough && !self.plain.after_return {
                return false;
            }
            // A line end counts once, at its second byte.
            match (byte, self.plain.after_return) {
                (b'\n', true) => {}
                _ => self.start += 1,
            }
            self.plain.take(*byte, &mut self.pending);
        }
        true
    }

    /// Hands out up to `max` bytes.
    pub(crate) fn give(&mut self, max: usize) -> Vec<u8> {
        let given = self.pending.drain(..max.min(self.pending.len())).collect::<Vec<u8>>();
        self.given += given.len() as u64;
        given
    }

    /// Drops what lies before `offset`.
    pub(crate) fn skip_to(&mut self, offset: u64) {
        let skip = usize::try_from(offset.saturating_sub(self.given)).unwrap_or(usize::MAX);
        self.give(skip);
    }

    /// The answer has ended, or its reading; the next one is asked for from `start`.
    pub(crate) fn end_of_answer(&mut self) {
        if self.plain.after_return {
            // Of a line end that was cut, or a lone return: it is read again, and dropped again.
            self.plain.after_return = false;
        }
    }
}

/// Makes plain text: without notes, colours and control characters.
#[derive(Clone, Debug, Default)]
struct Plain {
    state: State,
    after_return: bool,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Text,
    /// After the first byte of what may be a control character of two bytes.
    Latin,
    Escape,
    /// In a control sequence; its parameters so far.
    Sequence(Vec<u8>),
    /// In a command to a terminal that ends with a bell or `ESC \`.
    Command,
    /// After the sequence with which notes begin; how much of `ha:` came.
    Opening(usize),
    Note,
    /// In a note; how much of the sequence with which it ends came.
    Closing(usize),
}

const OPENING: &[u8] = b"ha:";
const CLOSING: &[u8] = b"\x1b[0m";
const ESC: u8 = 0x1b;
const MAX_SEQUENCE: usize = 32;

impl Plain {
    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.after_return = byte == b'\r';
        self.state = match (std::mem::take(&mut self.state), byte) {
            (State::Text, ESC) => State::Escape,
            (State::Text, 0xc2) => State::Latin,
            (State::Text, b'\n' | b'\t') => {
                out.push(byte);
                State::Text
            }
            (State::Text, 0..=0x1f | 0x7f) => State::Text,
            (State::Text, _) => {
                out.push(byte);
                State::Text
            }
            (State::Latin, 0x80..=0x9f) => State::Text,
            (State::Latin, _) => {
                out.push(0xc2);
                return self.again(byte, out);
            }
            (State::Escape, b'[') => State::Sequence(Vec::new()),
            (State::Escape, b']') => State::Command,
            (State::Escape, 0x20..=0x7e) => State::Text,
            (State::Escape, _) => return self.again(byte, out),
            (State::Sequence(parameters), b'm') if parameters == b"8" => State::Opening(0),
            (State::Sequence(_), 0x40..=0x7e) => State::Text,
            (State::Sequence(mut parameters), 0x20..=0x3f) if parameters.len() < MAX_SEQUENCE => {
                parameters.push(byte);
                State::Sequence(parameters)
            }
            (State::Sequence(_), _) => return self.again(byte, out),
            (State::Command, 0x07) => State::Text,
            (State::Command, ESC) => State::Escape,
            // Neither notes nor commands go beyond a line: one that never ends hides no more than that.
            (State::Command | State::Note | State::Closing(_), b'\n') => return self.again(byte, out),
            (State::Command, _) => State::Command,
            (State::Opening(n), _) if byte == OPENING[n] => match n + 1 {
                n if n == OPENING.len() => State::Note,
                n => State::Opening(n),
            },
            (State::Opening(n), _) => {
                out.extend_from_slice(&OPENING[..n]);
                return self.again(byte, out);
            }
            (State::Note, ESC) => State::Closing(1),
            (State::Note, _) => State::Note,
            (State::Closing(n), _) if byte == CLOSING[n] => match n + 1 {
                n if n == CLOSING.len() => State::Text,
                n => State::Closing(n),
            },
            (State::Closing(_), ESC) => State::Closing(1),
            (State::Closing(_), _) => State::Note,
        };
    }

    /// Takes a byte as text that does not belong to what came before it.
    fn again(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.state = State::Text;
        self.take(byte, out);
    }
}

/// The beginning and the end of a text that is too long to be kept whole.
#[derive(Clone, Debug)]
pub(crate) struct HeadAndTail {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    /// How much each may have.
    each: usize,
    left_out: u64,
}

impl HeadAndTail {
    /// Keeps at most `max` bytes.
    pub(crate) fn new(max: usize) -> Self {
        Self { head: Vec::new(), tail: std::collections::VecDeque::new(), each: max / 2, left_out: 0 }
    }

    pub(crate) fn take(&mut self, bytes: &[u8]) {
        let room = (self.each - self.head.len()).min(bytes.len());
        let (head, rest) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        self.tail.extend(rest);
        let beyond = self.tail.len().saturating_sub(self.each);
        self.tail.drain(..beyond);
        self.left_out += beyond as u64;
    }

    /// What was kept, with a line that says how much is missing.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut text = self.head;
        if self.left_out > 0 {
            text.extend_from_slice(format!("\n[… {} bytes left out …]\n", self.left_out).as_bytes());
        }
        text.extend(self.tail);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(raw: &[u8], piece: usize) -> Vec<u8> {
        let mut cursor = Cursor::default();
        for part in raw.chunks(piece) {
            assert!(cursor.take(part, usize::MAX));
        }
        cursor.give(usize::MAX)
    }

    #[test]
    fn text_becomes_plain_wherever_it_is_cut() {
        let note = "\x1b[8mha:////4AAAAGE0NlcnR+/AAAA==\x1b[0m";
        for (raw, text) in [
            ("one\r\ntwo\r\n".to_owned(), "one\ntwo\n"),
            ("tab\there".into(), "tab\there"),
            (format!("Started by {note}admin\r\n"), "Started by admin\n"),
            (format!("{note}{note}x"), "x"),
            ("\x1b[31mred\x1b[0m \x1b[1;32mgreen\x1b[m".into(), "red green"),
            ("\x1b[8mhidden\x1b[0m".into(), "hidden"),
            ("\x1b[8mhat\x1b[0m".into(), "hat"),
            ("\x1b[8mha:never ends\nnext".into(), "\nnext"),
            ("\x1b]0;title\x07text \x1b]0;x\x1b\\y".into(), "text y"),
            ("\x1b]0;never ends\nnext".into(), "\nnext"),
            ("a\x08b\x00c\x7fd\re".into(), "abcde"),
            ("ä \u{85}🦀 \u{a0}".into(), "ä 🦀 \u{a0}"),
            ("\x1b\x1b[1mx".into(), "x"),
            (format!("\x1b[{}mx", "1;".repeat(50)), "m"),
            ("cut \x1b[8mha:AAA".into(), "cut "),
        ] {
            for piece in 1..raw.len() + 1 {
                let got = String::from_utf8_lossy(&plain(raw.as_bytes(), piece)).into_owned();
                if raw.contains(";1;") {
                    assert!(got.ends_with('x'), "an endless sequence ends");
                    continue;
                }
                assert_eq!(got, text, "{raw:?} in pieces of {piece}");
            }
        }
    }

    /// A server that hands out at most so many bytes of the raw log, with line ends of two bytes.
    fn answer(raw: &[u8], start: u64, most: usize) -> Vec<u8> {
        let from = usize::try_from(start).unwrap().min(raw.len());
        let to = (from + most).min(raw.len());
        String::from_utf8_lossy(&raw[from..to]).replace('\n', "\r\n").into_bytes()
    }

    #[test]
    fn no_byte_is_lost_or_comes_twice() {
        let raw: String =
            (0..200).map(|n| format!("line {n}\n{}", if n % 3 == 0 { "\n" } else { "" })).collect();
        for most in [1, 2, 7, 64, 10_000] {
            for enough in [1, 3, 50, usize::MAX] {
                for piece in [1, 5, 4096] {
                    let (mut cursor, mut text) = (Cursor::default(), Vec::new());
                    while cursor.start < raw.len() as u64 {
                        for part in answer(raw.as_bytes(), cursor.start, most).chunks(piece) {
                            if !cursor.take(part, enough) {
                                break;
                            }
                        }
                        cursor.end_of_answer();
                        text.extend(cursor.give(enough));
                    }
                    text.extend(cursor.give(usize::MAX));
                    assert_eq!(String::from_utf8(text).unwrap(), raw, "{most} {enough} {piece}");
                    assert_eq!(cursor.given, raw.len() as u64);
                }
            }
        }
    }

    #[test]
    fn a_long_text_keeps_both_ends() {
        let mut kept = HeadAndTail::new(8);
        for piece in ["ab", "cdefgh", "", "ijklmn"] {
            kept.take(piece.as_bytes());
        }
        assert_eq!(kept.finish(), b"abcd\n[\xe2\x80\xa6 6 bytes left out \xe2\x80\xa6]\nklmn");
        let mut short = HeadAndTail::new(8);
        short.take(b"abcdefgh");
        assert_eq!(short.finish(), b"abcdefgh");
    }
}
