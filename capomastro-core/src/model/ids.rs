//! One id type per entity, so that they cannot be mixed up.

use crate::time::{Random, Timestamp, uuid_v7};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! uuid_ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The id with this UUID.
            pub const fn from_uuid(uuid: Uuid) -> Self { Self(uuid) }
            /// Its UUID.
            pub const fn as_uuid(&self) -> Uuid { self.0 }
            /// A new id, ordered by time (UUID version 7), from injected time and randomness.
            pub fn draw(at: Timestamp, random: &dyn Random) -> Self { Self(uuid_v7(at, random)) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.fmt(f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl FromStr for $name {
            type Err = crate::Error;
            fn from_str(s: &str) -> crate::Result<Self> {
                Uuid::parse_str(s).map(Self).map_err(|e| {
                    crate::Error::invalid(concat!("not a ", stringify!($name), ": a UUID is expected"))
                        .with_source(e)
                })
            }
        }
    )*};
}

uuid_ids!(
    /// One buildable thing with a source.
    DependencyId,
    /// A set of dependencies that is delivered together.
    ProjectId,
    /// One launch of one dependency.
    BuildId,
    /// The record of a project at a moment.
    ProjectBuildId,
    /// What a trigger got.
    ReceiptId,
    /// Makes the repetition of a commit harmless.
    CommitId,
    /// The idempotency key that travels with a build; one per build.
    LaunchKey,
);

/// Namespace of launch keys (version 5 UUIDs over the build's id).
const LAUNCH_KEYS: Uuid = Uuid::from_u128(0x6361_706f_6d61_5374_a172_6f6c_6175_6e63);

impl LaunchKey {
    /// The key of a build: a pure function of its id, so that it cannot be drawn twice.
    pub fn of(build: BuildId) -> Self {
        Self(Uuid::new_v5(&LAUNCH_KEYS, build.as_uuid().as_bytes()))
    }
}

/// The position of an event in the store's stream; grows, with gaps.
pub type EventSeq = u64;
