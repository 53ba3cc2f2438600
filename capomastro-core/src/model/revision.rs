//! Revisions and what a probe saw.

use crate::{Error, Result, time::Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, str::FromStr};

/// The longest revision, in bytes.
pub const MAX_REVISION_BYTES: usize = 1_024;

/// An opaque token for the state of a source: compared byte for byte, never ordered.
///
/// 1 to 1,024 bytes of UTF-8 on one line.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(String);

impl Revision {
    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Revision {
    type Error = Error;

    fn try_from(s: String) -> Result<Self> {
        let problem = if s.is_empty() {
            "is empty"
        } else if s.len() > MAX_REVISION_BYTES {
            "is longer than 1,024 bytes"
        } else if s.contains(['\n', '\r', '\0']) {
            "spans several lines or contains a NUL"
        } else {
            return Ok(Self(s));
        };
        Err(Error::invalid(format!("a revision {problem}: give one line of 1 to 1,024 bytes")))
    }
}

impl TryFrom<&[u8]> for Revision {
    type Error = Error;

    fn try_from(bytes: &[u8]) -> Result<Self> {
        String::from_utf8(bytes.to_vec())
            .map_err(|_| Error::invalid("a revision is not UTF-8: give one line of 1 to 1,024 bytes"))?
            .try_into()
    }
}

impl FromStr for Revision {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        s.to_owned().try_into()
    }
}

impl From<Revision> for String {
    fn from(r: Revision) -> Self {
        r.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// How what was seen relates to the accounted revision: for people, events and policy, never for detection.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Relation {
    /// The accounted revision is an ancestor of it.
    Forward {
        /// How many revisions lie between, where the probe knows.
        by: Option<u64>,
    },
    /// It is an ancestor of the accounted revision.
    Rewound,
    /// Neither is an ancestor of the other.
    Diverged,
    /// The source was deleted and made anew; the accounted revision is not known there.
    Recreated,
}

/// A relation and the accounted revision to which it refers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationTo {
    /// The accounted revision at the time of the look; `None` where nothing was accounted.
    pub accounted: Option<Revision>,
    /// The relation, if the probe knew it.
    pub relation: Option<Relation>,
}

/// What a probe saw. Only `revision` takes part in comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The state of the source.
    pub revision: Revision,
    /// Opaque to everyone but the probe, such as an ETag; given back at the next look. At most 4 KiB is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// What to show people, such as a bzr revno.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// How it relates to the accounted revision, where that is cheap to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<Relation>,
    /// Further facts for people and builds; at most 32 entries of 1 KiB are kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Observation {
    /// An observation of a revision and nothing else.
    pub fn of(revision: Revision) -> Self {
        Self { revision, cursor: None, display: None, relation: None, metadata: BTreeMap::new() }
    }

    /// The same observation within the bounds that are kept: longer texts are cut at a character, further entries
    /// dropped; a cursor that is too long is dropped, since half of one would mislead.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.cursor = self.cursor.filter(|c| c.len() <= 4_096);
        self.display = self.display.map(|d| cut(d, 1_024));
        self.metadata =
            self.metadata.into_iter().take(32).map(|(k, v)| (cut(k, 128), cut(v, 1_024))).collect();
        self
    }
}

/// `text` cut to at most `max` bytes at a character boundary.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// The last good probe's answer, as a dependency's state keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// The state of the source.
    pub revision: Revision,
    /// Opaque to everyone but the probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// What to show people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<String>,
    /// The relation to the revision that was accounted when the look was applied.
    pub relation: RelationTo,
    /// Further facts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// When the observed revision last moved.
    pub moved_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_one_bounded_line() {
        for bad in ["", "a\nb", "a\r", "a\0", &"x".repeat(1_025)] {
            assert!(bad.parse::<Revision>().is_err(), "{bad:?}");
        }
        assert!(Revision::try_from(&[0xff_u8, 0xfe][..]).is_err());
        for good in ["1", " 7 ", &"x".repeat(1_024), "señor@example.org-20140922-🦀"] {
            assert!(good.parse::<Revision>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn an_observation_is_bounded() {
        let mut o = Observation::of("r".parse().unwrap());
        o.cursor = Some("c".repeat(5_000));
        o.display = Some("ä".repeat(5_000));
        o.metadata = (0..100).map(|i| (format!("k{i:03}"), "v".repeat(2_000))).collect();
        let o = o.bounded();
        assert_eq!(o.cursor, None);
        assert_eq!(o.display.unwrap().len(), 1_024);
        assert_eq!(o.metadata.len(), 32);
        assert!(o.metadata.values().all(|v| v.len() == 1_024));
    }
}
