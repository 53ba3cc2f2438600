//! Validated names and tokens.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 200;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        ///
        /// 1 to 200 bytes of UTF-8 without control characters, characters that are not seen or turn
        /// the direction of text, and blanks at either end. Spaces, slashes
        /// and emoji inside are allowed: a name is never used as a path or as part of a command.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(s: String) -> Result<Self> {
                check_name(stringify!($name), &s)?;
                Ok(Self(s))
            }
        }
        impl TryFrom<&str> for $name {
            type Error = Error;
            fn try_from(s: &str) -> Result<Self> { s.to_owned().try_into() }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(s: &str) -> Result<Self> { s.to_owned().try_into() }
        }
        impl From<$name> for String {
            fn from(n: $name) -> Self { n.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { write!(f, "{:?}", self.0) }
        }
    )*};
}

names!(
    /// The name of a dependency, unique among the living ones.
    DependencyName,
    /// The name of a project, unique among the living ones.
    ProjectName,
    /// The name under which a probe was registered.
    ProbeName,
    /// The name under which a launcher was registered.
    LauncherName,
    /// Who asked for something, as the embedder names people and programs.
    Requester,
    /// One process run of a scheduler: the instance's name plus a random id.
    HolderId,
    /// A key shared by the builds of one whole-project request, given to the build as a parameter.
    BuildKey,
);

fn check_name(what: &str, s: &str) -> Result<()> {
    let problem = if s.is_empty() {
        "is empty"
    } else if s.len() > MAX_NAME_BYTES {
        "is longer than 200 bytes"
    } else if s.chars().any(char::is_control) {
        "contains a control character, such as a line break"
    } else if s.chars().any(is_deceptive) {
        "contains a character that is not seen or turns the direction of the text"
    } else if s.trim() != s {
        "starts or ends with a blank"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("{what} {problem}: give 1 to 200 bytes of printable text"))
        .with_context("name", s.escape_debug()))
}

/// Whether a character makes two names look alike, or a line of a log look like another: zero-width ones, and those that
/// turn the direction of text. The joiners that emoji and some scripts need are not among them.
const fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// What answers together: sources with equal keys (kind, canonical remote, credentials) are answered by one run of
/// a probe. 1 to 2,000 bytes; never contains a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeKey {
    key: String,
    remote: Option<String>,
}

impl ProbeKey {
    /// A key made of parts; equal parts, equal key.
    pub fn of(parts: &[&str]) -> Self {
        // A unit separator keeps ["a", "bc"] and ["ab", "c"] apart.
        Self { key: parts.join("\u{1f}"), remote: None }
    }

    /// The key with the host that is asked, so that looks at it share a budget.
    #[must_use]
    pub fn at(mut self, remote: impl Into<String>) -> Self {
        self.remote = Some(remote.into());
        self
    }

    /// The host that is asked, if one is.
    pub fn remote(&self) -> Option<&str> {
        self.remote.as_deref()
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_spaces_slashes_and_emoji_are_names() {
        for good in ["a", "lib foo", "lib/foo", "../x", "🦀", "👩\u{200d}🔧", "ö\u{301}"] {
            assert_eq!(good.parse::<DependencyName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn names_that_would_confuse_are_refused_with_what_to_do() {
        for bad in ["", " a", "a ", "a\nb", "a\0b", "a\u{7f}", "a\u{202e}b", "a\u{200b}", &"x".repeat(201)] {
            let e = bad.parse::<ProjectName>().unwrap_err();
            assert_eq!(e.kind(), crate::ErrorKind::InvalidInput, "{bad:?}");
            assert!(e.to_string().contains("give 1 to 200 bytes"), "{e}");
            assert!(!e.to_string().contains('\n'), "{e}");
        }
    }

    #[test]
    fn a_bad_name_is_refused_when_read_back_too() {
        assert!(serde_json::from_str::<LauncherName>("\"a\\nb\"").is_err());
    }
}
