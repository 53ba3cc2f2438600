//! What happened, as a digest of all of it and, where somebody wants to read it, as a story.

use std::fmt::{self, Write};

/// Everything that was done and answered, in order, as one number; and in words where they are wanted.
#[derive(Debug)]
pub(super) struct Trace {
    digest: u64,
    story: Option<Vec<String>>,
}

/// The parameters of FNV-1a, 64 bits (<http://www.isthe.com/chongo/tech/comp/fnv/>).
const START: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// Adds text to a digest.
struct Sink<'a>(&'a mut u64);

impl Write for Sink<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        *self.0 = text.bytes().fold(*self.0, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(PRIME));
        Ok(())
    }
}

impl Trace {
    pub(super) fn new(tells: bool) -> Self {
        Self { digest: START, story: tells.then(Vec::new) }
    }

    pub(super) const fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn number(&mut self, n: u64) {
        self.digest = (self.digest ^ n).wrapping_mul(PRIME).rotate_left(5);
    }

    pub(super) fn text(&mut self, text: &str) {
        let _ = Sink(&mut self.digest).write_str(text);
        self.number(text.len() as u64);
    }

    pub(super) fn value(&mut self, value: &impl fmt::Debug) {
        let _ = write!(Sink(&mut self.digest), "{value:?}");
        self.number(1);
    }

    pub(super) const fn tells(&self) -> bool {
        self.story.is_some()
    }

    pub(super) fn line(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(line());
        }
    }

    pub(super) fn take_story(&mut self) -> Vec<String> {
        self.story.take().unwrap_or_default()
    }
}
