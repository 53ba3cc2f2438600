//! Texts in the form in which they are stored. PostgreSQL keeps no NUL in a text, and its indexes no long ones.

use sha2::{Digest, Sha256};
use std::{borrow::Cow, fmt::Write as _};

/// The longest stored text, in bytes: two of them, a list and a place in it, must fit into an entry of an index, which has
/// at most 2,704 bytes (<https://www.postgresql.org/docs/current/btree.html>).
const MAX_BYTES: usize = 1_300;

/// How much of a longer one is kept; a digest of all of it follows.
const KEPT_BYTES: usize = 1_200;

/// A text as it is stored. Different texts are stored differently, in the same order, byte for byte; of those longer than
/// 1,300 bytes only the first 1,200 count for the order.
///
/// A NUL becomes `\x01\x01`, and `\x01` becomes `\x01\x02`. A longer text goes on with `\x01\x03`, which no other has.
pub(crate) fn stored(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_BYTES && !text.contains(['\0', '\x01']) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len().min(MAX_BYTES) + 8);
    let mut kept = 0;
    for c in text.chars() {
        match c {
            '\0' => escaped.push_str("\x01\x01"),
            '\x01' => escaped.push_str("\x01\x02"),
            c => escaped.push(c),
        }
        if escaped.len() <= KEPT_BYTES {
            kept = escaped.len();
        } else if escaped.len() > MAX_BYTES {
            escaped.truncate(kept);
            escaped.push_str("\x01\x03");
            for byte in Sha256::digest(text.as_bytes()) {
                // Writing into a text cannot fail.
                write!(escaped, "{byte:02x}").ok();
            }
            break;
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_texts_stay() {
        for text in ["", "a", "build/1", "ä\u{2}", &"x".repeat(1_300)] {
            assert_eq!(stored(text), text);
        }
    }

    #[test]
    fn no_nul_is_stored_and_none_is_long() {
        let long = "\0".repeat(10_000);
        for text in ["\0", "a\0b", "\0\x01", &long, &"🦀".repeat(9_999)] {
            let stored = stored(text);
            assert!(!stored.contains('\0') && stored.len() <= MAX_BYTES, "{text:?}");
        }
    }

    #[test]
    fn different_texts_stay_different_and_in_order() {
        let long = |end: &str| format!("{}{end}", "x".repeat(2_000));
        let mut texts = vec![
            String::new(),
            "\0".into(),
            "\0\0".into(),
            "\0a".into(),
            "\x01".into(),
            "\x01\0".into(),
            "\x01\x01".into(),
            "\x01\x02".into(),
            "\x01\x03".into(),
            "\x02".into(),
            "a".into(),
            "a\0".into(),
            "a\x01".into(),
            "a ".into(),
        ];
        texts.sort_unstable();
        for pair in texts.windows(2) {
            assert!(stored(&pair[0]) < stored(&pair[1]), "{pair:?}");
        }
        assert_ne!(stored(&long("a")), stored(&long("b")));
        // What is stored of a long text is itself a text, and stored otherwise.
        let of_long = stored(&long("a")).into_owned();
        assert_ne!(stored(&of_long), of_long);
    }
}
