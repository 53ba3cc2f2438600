//! How much there is, and what, as numbers that two stores can be compared by. Pure.

use super::{DueItem, Item, ItemKind};
use crate::{Error, Result, model::EventSeq, store::rows::micros};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;

/// All items of a kind, as two numbers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there are.
    pub count: u64,
    /// The SHA-256 digests of all of them, added up: whatever their order, equal for equal items.
    pub digest: [u8; 32],
}

impl Tally {
    /// The same with one more item.
    pub(super) fn plus(mut self, item: [u8; 32]) -> Self {
        self.count += 1;
        let mut carry = 0_u16;
        for (sum, byte) in self.digest.iter_mut().zip(item).rev() {
            let [high, low] = (u16::from(*sum) + u16::from(byte) + carry).to_be_bytes();
            *sum = low;
            carry = u16::from(high);
        }
        self
    }
}

/// The count, and the digest in hexadecimal digits.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.count)?;
        for byte in self.digest {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// Everything that a store keeps, as numbers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contents {
    /// The records with their versions.
    pub records: Tally,
    /// The due rows.
    pub due: Tally,
    /// The events with their numbers and times.
    pub events: Tally,
    /// The ids of commits with their times.
    pub commits: Tally,
    /// The highest version or ticket of any.
    pub highest_number: u64,
    /// The highest number of an event.
    pub highest_event: EventSeq,
}

impl Contents {
    /// The tally of a kind.
    pub const fn of(&self, kind: ItemKind) -> &Tally {
        match kind {
            ItemKind::Record => &self.records,
            ItemKind::Due => &self.due,
            ItemKind::Event => &self.events,
            ItemKind::Commit => &self.commits,
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        ItemKind::ALL.iter().all(|kind| self.of(*kind).count == 0)
    }

    /// Adds an item.
    ///
    /// # Errors
    /// [`Internal`](crate::ErrorKind::Internal) for one that cannot be written as JSON.
    pub fn add(&mut self, item: &Item) -> Result<()> {
        let digest = digest(item)?;
        match item {
            Item::Record(v) => {
                self.highest_number = self.highest_number.max(v.version);
                self.records = self.records.plus(digest);
            }
            Item::Due(d) => {
                self.highest_number = self.highest_number.max(d.row.ticket);
                self.due = self.due.plus(digest);
            }
            Item::Event(e) => {
                self.highest_event = self.highest_event.max(e.seq);
                self.events = self.events.plus(digest);
            }
            Item::Commit(..) => self.commits = self.commits.plus(digest),
        }
        Ok(())
    }
}

/// The digest of an item, over a form that no store has a say in.
fn digest(item: &Item) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    match item {
        Item::Record(v) => {
            hash.update(v.version.to_be_bytes());
            hash_value(&mut hash, &json(&v.record)?);
        }
        Item::Due(DueItem { row, nudge_at }) => {
            hash_value(&mut hash, &json(row)?);
            hash_value(&mut hash, &json(&nudge_at.map(micros))?);
        }
        Item::Event(e) => {
            hash.update(e.seq.to_be_bytes());
            hash.update(micros(e.at).to_be_bytes());
            hash_value(&mut hash, &json(&e.event)?);
        }
        Item::Commit(id, at) => {
            hash.update(id.as_uuid().as_bytes());
            hash.update(micros(*at).to_be_bytes());
        }
    }
    Ok(hash.finalize().into())
}

fn json<T: Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|e| Error::internal("an item cannot be written as JSON: report this").with_source(e))
}

/// Each value with its kind and length before it, so that no two read the same; keys in their own order, since some stores
/// keep another one.
fn hash_value(hash: &mut Sha256, value: &Value) {
    let mut begin = |kind: u8, len: usize| {
        hash.update([kind]);
        hash.update((len as u64).to_be_bytes());
    };
    match value {
        Value::Null => begin(b'n', 0),
        Value::Bool(b) => begin(b'b', usize::from(*b)),
        Value::Number(n) => {
            let text = n.to_string();
            begin(b'#', text.len());
            hash.update(text);
        }
        Value::String(text) => {
            begin(b's', text.len());
            hash.update(text);
        }
        Value::Array(items) => {
            begin(b'a', items.len());
            items.iter().for_each(|item| hash_value(hash, item));
        }
        Value::Object(fields) => {
            begin(b'o', fields.len());
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            for (key, value) in fields {
                hash.update((key.len() as u64).to_be_bytes());
                hash.update(key);
                hash_value(hash, value);
            }
        }
    }
}

/// The digest of a value alone.
#[cfg(test)]
pub(super) fn digest_of(value: &Value) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash_value(&mut hash, value);
    hash.finalize().into()
}
