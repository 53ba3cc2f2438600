//! What every [`RevisionProbe`] must do, as cases: each a test of its own, none of which can be forgotten.
//!
//! A probe of one's own is tested by a harness and one line. The harness makes sources and lets happen to them what happens
//! to sources; what cannot happen to them it says by `false` or `None`, and the case asserts what follows from that. The
//! macro makes one `#[test]` for each case:
//!
//! ```
//! use capomastro_core::{Error, async_trait, model::Source, probe::{Ask, Probed, RevisionProbe, probe_fn}};
//! use capomastro_testkit::conformance::{Time, probe::{Guarded, Happens, ProbeHarness}};
//! use std::{fs, io, path::PathBuf, sync::{Arc, atomic::{AtomicU32, Ordering}}};
//!
//! /// The probe: a file whose text is the revision.
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Stamp {
//!     file: PathBuf,
//! }
//!
//! fn stamps() -> Arc<dyn RevisionProbe> {
//!     probe_fn(|stamp: Stamp, _: Ask| async move {
//!         match fs::read_to_string(&stamp.file) {
//!             Ok(text) => Probed::revision(text),
//!             Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Probed::NotFound),
//!             Err(e) => Err(Error::transient(e)),
//!         }
//!     })
//! }
//!
//! #[derive(Debug)]
//! struct Stamps {
//!     folder: tempfile::TempDir,
//!     made: AtomicU32,
//! }
//!
//! #[async_trait]
//! impl ProbeHarness for Stamps {
//!     fn time(&self) -> Time {
//!         Time::Machine
//!     }
//!     fn open(&self) -> Arc<dyn RevisionProbe> {
//!         stamps()
//!     }
//!     fn refused(&self) -> Vec<Source> {
//!         vec![Source::new("stamp", ["no file"]).unwrap()]
//!     }
//!     async fn source(&self) -> Source {
//!         let file = self.folder.path().join(self.made.fetch_add(1, Ordering::Relaxed).to_string());
//!         fs::write(&file, "r0").unwrap();
//!         Source::new("stamp", Stamp { file }).unwrap()
//!     }
//!     async fn beside(&self, _: &Source) -> Option<Source> {
//!         None
//!     }
//!     async fn cause(&self, source: &Source, what: Happens) -> bool {
//!         let file = source.parse::<Stamp>().unwrap().file;
//!         let aside = file.with_extension("aside");
//!         match what {
//!             Happens::Change => {
//!                 fs::copy(&file, &aside).unwrap();
//!                 fs::write(&file, format!("r{}", self.made.fetch_add(1, Ordering::Relaxed))).unwrap();
//!             }
//!             Happens::Rewind => fs::rename(&aside, &file).unwrap(),
//!             Happens::Vanish => fs::rename(&file, &aside).unwrap(),
//!             // A folder cannot be read as a file.
//!             Happens::Cut => {
//!                 fs::rename(&file, &aside).unwrap();
//!                 fs::create_dir(&file).unwrap();
//!             }
//!             Happens::Mend => {
//!                 if file.is_dir() {
//!                     fs::remove_dir(&file).unwrap();
//!                 }
//!                 fs::rename(&aside, &file).unwrap();
//!             }
//!             Happens::Diverge | Happens::Hang => return false,
//!         }
//!         true
//!     }
//!     async fn guarded(&self) -> Option<Guarded> {
//!         None
//!     }
//!     async fn left(&self) -> usize {
//!         0
//!     }
//! }
//!
//! # fn folder() -> tempfile::TempDir { tempfile::tempdir().unwrap() }
//! capomastro_testkit::revision_probe_conformance!(Stamps { folder: folder(), made: AtomicU32::new(1) });
//! ```

mod absent;
mod desk;
mod keys;
mod leaving;
mod looking;
mod many;
mod relations;
mod secrets;

use crate::conformance::{Time, suite};
use capomastro_core::{async_trait, model::Source, probe::RevisionProbe};
use std::{fmt, sync::Arc};

/// What can happen to a source.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Happens {
    /// It moves on to a state that it never had.
    Change,
    /// It goes back to the state that it had before the last [`Change`](Happens::Change) or [`Diverge`](Happens::Diverge).
    Rewind,
    /// It gets a state that it never had, which does not descend from the present one.
    Diverge,
    /// What is looked for is not there any more; where it was looked for can still be reached.
    Vanish,
    /// It cannot be looked at any more: out of reach, no permission, damaged.
    Cut,
    /// Looks at it do not end any more by themselves.
    Hang,
    /// It is as it was before [`Vanish`](Happens::Vanish), [`Cut`](Happens::Cut) or [`Hang`](Happens::Hang).
    Mend,
}

/// A source that is looked at with a secret.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// The source, which is there.
    pub source: Source,
    /// The name by which it refers to the secret.
    pub secret: String,
    /// The value with which it can be looked at: eight bytes or more, and nothing that is told otherwise.
    pub value: String,
}

/// Makes the probes that are tested, and sources for them.
#[async_trait]
pub trait ProbeHarness: fmt::Debug + Send + Sync {
    /// The time by which the probe lives.
    fn time(&self) -> Time;

    /// The probe, made as a process does at its start.
    fn open(&self) -> Arc<dyn RevisionProbe>;

    /// Sources that the probe must refuse when they are defined; at least one.
    fn refused(&self) -> Vec<Source>;

    /// A new source that is there, at a state of its own.
    async fn source(&self) -> Source;

    /// Another new source that is there and is answered by the same run as `source`: one whose key is the same. `None` if
    /// only sources that are equal are answered together.
    async fn beside(&self, source: &Source) -> Option<Source>;

    /// Lets this happen to a source of this harness, and returns when it has. `false`, and nothing happens, if it cannot
    /// happen to such sources. [`Change`](Happens::Change), [`Cut`](Happens::Cut) and [`Mend`](Happens::Mend) can happen to
    /// every source.
    async fn cause(&self, source: &Source, what: Happens) -> bool;

    /// A source that is looked at with a secret; `None` if the probe knows none.
    async fn guarded(&self) -> Option<Guarded>;

    /// How much of what looks have started goes on still, such as processes. 0 if they start nothing.
    async fn left(&self) -> usize;
}

suite! {
    probe, ProbeHarness, revision_probe_conformance:
    keys:
        a_source_has_one_key
        a_key_is_short
        a_key_needs_no_look
        what_answers_together_has_one_key
        what_cannot_be_looked_at_is_refused
        a_bad_source_is_an_error_at_a_look_too;
    looking:
        a_source_is_observed
        an_unchanged_source_has_the_same_revision
        a_changed_source_has_another_revision
        a_rewound_source_has_its_old_revision
        each_source_has_a_state_of_its_own
        a_probe_remembers_nothing
        nothing_is_the_same_where_nothing_was_seen
        what_has_changed_is_not_the_same_as_seen
        looking_changes_nothing;
    absent:
        what_is_not_there_is_not_found
        what_is_back_is_found
        what_cannot_be_reached_is_an_error
        a_fault_passes;
    many:
        answers_are_one_per_ask_and_in_order
        what_has_one_key_is_answered_together
        no_asks_no_answers
        one_that_is_missing_spoils_no_other
        asks_of_one_source_may_know_different_things
        looks_at_once_do_not_disturb_each_other;
    relations:
        a_step_forward_is_no_rewind
        a_rewind_is_no_step_forward
        a_divergence_is_neither
        there_is_no_relation_to_nothing
        each_is_told_its_own_relation;
    secrets:
        no_secret_is_told
        a_secret_that_is_missing_is_an_error;
    leaving:
        a_dropped_look_spoils_nothing
        a_look_that_hangs_can_be_dropped;
}
