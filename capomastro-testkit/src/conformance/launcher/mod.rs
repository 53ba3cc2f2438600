//! What every [`BuildLauncher`] must do, as cases: each a test of its own, none of which can be forgotten.
//!
//! A launcher of one's own is tested by a harness and one line. The harness makes launchers, plays the build system (a
//! build ends when and how it says) and tells what really runs there; what a build system cannot do it says by `false` or
//! `None`, and the case asserts what follows from that. The macro makes one `#[test]` for each case:
//!
//! ```
//! use capomastro_core::{async_trait, launch::{BuildLauncher, Ended, Outcome}, model::LaunchKey};
//! use capomastro_testkit::{
//!     conformance::{Time, launcher::{End, LauncherHarness, NextAnswer, Told}},
//!     fakes::{ControllableLauncher, LaunchAnswer, ManualClock},
//! };
//! use serde_json::{Value, json};
//! use std::sync::Arc;
//!
//! /// `ControllableLauncher`, which stands for a launcher of one's own: its clones share one build system.
//! #[derive(Debug)]
//! struct Mine {
//!     clock: ManualClock,
//!     system: ControllableLauncher,
//! }
//!
//! impl Mine {
//!     fn new() -> Self {
//!         let clock = ManualClock::new();
//!         Self { system: ControllableLauncher::accepting().with_clock(Arc::new(clock.clone())), clock }
//!     }
//! }
//!
//! #[async_trait]
//! impl LauncherHarness for Mine {
//!     fn time(&self) -> Time {
//!         Time::Manual(self.clock.clone())
//!     }
//!     async fn open(&self) -> Arc<dyn BuildLauncher> {
//!         Arc::new(self.system.clone())
//!     }
//!     fn job(&self) -> Value {
//!         json!({})
//!     }
//!     fn bad_jobs(&self) -> Vec<Value> {
//!         vec![json!({"invalid": "no"})]
//!     }
//!     fn refused_job(&self) -> Option<Value> {
//!         None
//!     }
//!     async fn builds(&self, key: LaunchKey) -> Vec<Told> {
//!         self.system.launched().iter().filter(|r| r.key == key).map(Told::all_of).collect()
//!     }
//!     async fn end(&self, key: LaunchKey, end: &End) -> bool {
//!         let build = self.system.build(key).unwrap();
//!         for (name, bytes) in &end.artifacts {
//!             build.artifact(name, bytes.clone());
//!         }
//!         let mut ended = Ended::new(end.outcome);
//!         ended.built = end.built.clone().or(Some(build.request().revision));
//!         build.finish_with(ended);
//!         true
//!     }
//!     async fn forget(&self, key: LaunchKey) -> bool {
//!         self.system.build(key).unwrap().vanish();
//!         true
//!     }
//!     async fn cut(&self, cut: bool) -> bool {
//!         self.system.outage(cut);
//!         true
//!     }
//!     async fn lose_answer(&self) -> NextAnswer {
//!         self.system.answer_next(LaunchAnswer::LoseAnswer);
//!         NextAnswer::IsLost
//!     }
//! }
//!
//! capomastro_testkit::build_launcher_conformance!(Mine::new());
//! ```

mod desk;
mod dropping;
mod ending;
mod finding;
mod jobs;
mod keys;
mod looking;
mod sending;
mod stopping;
mod telling;

use crate::conformance::{Time, suite};
use capomastro_core::{
    async_trait,
    launch::{BuildLauncher, LaunchRequest, Outcome},
    model::{BuildKey, DependencyName, LaunchKey, Parameters, Revision},
};
use serde_json::Value;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// What a build was told, as it can be seen where it runs. `None` for what the build system does not tell its builds; a
/// revision is told to every build.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Told {
    /// The revision to build.
    pub revision: Revision,
    /// The dependency's name.
    pub dependency: Option<DependencyName>,
    /// The build's number.
    pub number: Option<u64>,
    /// The parameters.
    pub parameters: Option<Parameters>,
    /// The key shared by the builds of one request, if it had one.
    pub build_key: Option<Option<BuildKey>>,
}

impl Told {
    /// A build that was told its revision alone.
    pub const fn revision(revision: Revision) -> Self {
        Self { revision, dependency: None, number: None, parameters: None, build_key: None }
    }

    /// A build that was told all that a request says.
    pub fn all_of(request: &LaunchRequest) -> Self {
        Self {
            revision: request.revision.clone(),
            dependency: Some(request.dependency.clone()),
            number: Some(request.number),
            parameters: Some(request.parameters.clone()),
            build_key: Some(request.build_key.clone()),
        }
    }
}

/// How a build is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// Succeeded, unstable or failed.
    pub outcome: Outcome,
    /// The revision that it really built, where that is another than the one it was told.
    pub built: Option<Revision>,
    /// What it leaves, by name.
    pub artifacts: BTreeMap<String, Vec<u8>>,
}

impl End {
    const fn of(outcome: Outcome) -> Self {
        Self { outcome, built: None, artifacts: BTreeMap::new() }
    }
}

/// Whether the answer to a launch can be lost.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NextAnswer {
    /// The next one is lost.
    IsLost,
    /// No answer can be lost here.
    CannotBeLost {
        /// Why not, for whoever reads the harness.
        because: &'static str,
    },
}

/// Makes the launchers that are tested, and plays their build system. One harness is one build system, without builds at
/// first.
#[async_trait]
pub trait LauncherHarness: fmt::Debug + Send + Sync {
    /// The time by which the launcher keeps [`LaunchRequest::send_before`] and its settle time passes.
    fn time(&self) -> Time;

    /// The launcher, made as a process does at its start: two of them are two processes at one build system.
    async fn open(&self) -> Arc<dyn BuildLauncher>;

    /// A job whose builds go on until [`end`](Self::end) or a cancel ends them.
    fn job(&self) -> Value;

    /// Jobs that the launcher must refuse when a dependency is defined; at least one.
    fn bad_jobs(&self) -> Vec<Value>;

    /// A job that looks good and is refused when it is launched. `None` if a job that looks good is never refused.
    fn refused_job(&self) -> Option<Value>;

    /// What each build of this key was told that the build system has really started or queued, whoever was told of it:
    /// looked up in the build system itself, not asked of the launcher. Builds that have ended are among them.
    async fn builds(&self, key: LaunchKey) -> Vec<Told>;

    /// Lets the build of this key, which goes on, end so. `false`, and nothing happens, if builds cannot end so;
    /// [`Succeeded`](Outcome::Succeeded) and [`Failed`](Outcome::Failed) without further facts they can.
    async fn end(&self, key: LaunchKey, end: &End) -> bool;

    /// Makes the build system forget the build of this key, which has ended, as if somebody had deleted it. `false` if it
    /// never forgets.
    async fn forget(&self, key: LaunchKey) -> bool;

    /// Keeps every launcher of this harness from reaching the build system, or lets it again; builds go on meanwhile.
    /// `false` if there is nothing that could be out of reach.
    async fn cut(&self, cut: bool) -> bool;

    /// Lets the answer to the next launch be lost: its build starts, and the launcher is not told so.
    async fn lose_answer(&self) -> NextAnswer;
}

suite! {
    launcher, LauncherHarness, build_launcher_conformance:
    sending:
        a_launch_starts_a_build
        nothing_is_sent_too_late
        nothing_is_sent_too_late_after_the_memo
        nothing_is_sent_that_is_not_kept
        nothing_is_sent_before_it_is_kept
        a_refusal_starts_nothing
        what_cannot_be_sent_is_an_error
        what_may_have_been_sent_is_not_called_unsent;
    keys:
        a_key_that_is_launched_again_starts_as_promised
        a_key_that_is_launched_by_another_process_starts_as_promised
        a_key_that_has_ended_is_not_started_again
        racing_launches_of_one_key_start_as_promised
        each_key_has_a_build_of_its_own
        a_promise_is_kept_for_life;
    telling:
        a_build_is_told_the_pinned_revision
        a_build_is_told_its_parameters
        a_build_is_told_what_it_is
        hostile_texts_arrive_as_they_are;
    finding:
        what_was_not_launched_is_not_found
        what_was_launched_is_found
        what_has_ended_is_found
        a_search_finds_no_other_build
        a_search_starts_nothing
        a_search_out_of_reach_is_an_error;
    looking:
        a_build_is_seen_until_it_ends
        another_process_sees_it_too
        reports_are_one_per_build_and_in_order
        no_builds_no_reports
        one_strange_reference_spoils_no_other
        what_was_forgotten_is_unknown
        a_look_out_of_reach_is_an_error
        what_happened_meanwhile_is_seen_afterwards;
    ending:
        each_outcome_is_told
        an_end_stays
        the_revision_that_was_built_is_told
        artifacts_are_told;
    stopping:
        a_build_that_is_stopped_ends
        a_stop_may_be_asked_for_again
        a_stop_by_another_process_counts
        a_stop_of_what_has_ended_changes_nothing
        a_stop_of_what_was_forgotten_is_harmless
        a_stop_touches_no_other_build
        a_stop_that_cannot_be_asked_for_is_an_error;
    dropping:
        a_dropped_launch_starts_as_promised
        dropped_looks_and_searches_leave_nothing
        a_dropped_stop_can_be_repeated;
    jobs:
        a_good_job_is_taken
        bad_jobs_are_refused_with_what_to_do;
}
