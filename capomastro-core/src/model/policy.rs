//! What to do when: the choices that people make for a dependency.

use crate::{Error, Result, model::Relation, schedule::Schedule};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Setters that consume and return, so that choices can be chained.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident, $field:ident: $ty:ty;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(mut self, value: $ty) -> Self { self.$field = value; self }
    )*};
}

/// What happens to a trigger while the dependency is held by a build or others wait (row 10 of the decision table).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnHeld {
    /// A receipt, nothing else. The change is not lost: the next look finds the debt.
    DiscardSilently,
    /// A receipt, an event, and an error to whoever asked; once per holder and revision.
    DiscardLoudly,
    /// An automatic trigger stores nothing, since the debt says it all; forced ones wait as one request.
    #[default]
    Coalesce,
    /// Each waits in order, pinned to the revision that was seen; full is as `DiscardLoudly`.
    Queue {
        /// How many may wait, 1 to 1,000.
        max: u32,
    },
}

impl OnHeld {
    pub(crate) const fn is_in_range(self) -> bool {
        !matches!(self, Self::Queue { max } if max == 0 || max > 1_000)
    }
}

/// What the first observation of a source epoch means.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum First {
    /// Build, unless there is a good build of this very revision in this epoch.
    #[default]
    Auto,
    /// Build.
    Build,
    /// Take it as it is; build only what comes after.
    Baseline,
}

/// What a relation of what was seen to the accounted revision must not be, or an alert is raised instead of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Veto {
    /// The branch was moved back to an ancestor.
    pub rewound: bool,
    /// The branch was moved to another line of history.
    pub diverged: bool,
    /// The source was deleted and made anew.
    pub recreated: bool,
    /// The probe could not tell.
    pub unknown: bool,
}

impl Veto {
    setters! {
        /// Whether moving back to an ancestor is vetoed.
        with_rewound, rewound: bool;
        /// Whether moving to another line of history is vetoed.
        with_diverged, diverged: bool;
        /// Whether a source that was made anew is vetoed.
        with_recreated, recreated: bool;
        /// Whether what the probe cannot tell is vetoed.
        with_unknown, unknown: bool;
    }

    /// Whether anything is vetoed, so that a relation is needed to decide.
    pub const fn needs_relation(&self) -> bool {
        self.rewound || self.diverged || self.recreated || self.unknown
    }

    /// Whether this relation is vetoed.
    pub const fn forbids(&self, relation: Option<Relation>) -> bool {
        match relation {
            Some(Relation::Forward { .. }) => false,
            Some(Relation::Rewound) => self.rewound,
            Some(Relation::Diverged) => self.diverged,
            Some(Relation::Recreated) => self.recreated,
            None => self.unknown,
        }
    }
}

/// Wait until a source has been still for a while.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quiet {
    /// How long the observed revision must not have moved.
    #[serde(with = "humantime_serde")]
    pub period: Duration,
    /// Build all the same when the debt is this old.
    #[serde(with = "humantime_serde")]
    pub at_most: Duration,
}

/// Which ends of a build are tried again.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RetryOn {
    /// Builds that were lost or timed out.
    #[default]
    Infrastructure,
    /// These, and builds that failed.
    Any,
}

/// Whether a build that did not end good is tried again.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// How often, 0 to 100; 0 switches retries off.
    pub max: u32,
    /// How long after the first failure; doubled each time, up to an hour.
    #[serde(with = "humantime_serde")]
    pub backoff: Duration,
    /// After which ends.
    pub on: RetryOn,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max: 0, backoff: Duration::from_secs(60), on: RetryOn::Infrastructure }
    }
}

impl RetryPolicy {
    setters! {
        /// How often, 0 to 100.
        with_max, max: u32;
        /// How long after the first failure.
        with_backoff, backoff: Duration;
        /// After which ends.
        with_on, on: RetryOn;
    }
}

/// What a dependency chooses when its launcher cannot find a build again after a lost answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenBlind {
    /// Rather lose a build than run it twice: an unknown outcome ends `Lost`.
    AtMostOnce,
    /// Rather run a build twice than lose it: an unknown outcome is sent again.
    AtLeastOnce,
}

/// How long things may take.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Timeouts {
    /// One probe, from start to answer. Default 60 s; 1 s to 1 h.
    #[serde(with = "humantime_serde")]
    pub probe: Duration,
    /// From acceptance by the build system until the build runs. Default 24 h.
    #[serde(with = "humantime_serde")]
    pub queue: Duration,
    /// From the start of the build until its end. Default 24 h.
    #[serde(with = "humantime_serde")]
    pub run: Duration,
    /// From asking the build system to stop a build until it is given up. Default 10 min.
    #[serde(with = "humantime_serde")]
    pub stop: Duration,
    /// How long the build system may not know a build, by successful contact, until it is `Lost`. Default 15 min.
    #[serde(with = "humantime_serde")]
    pub lost_after: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            probe: Duration::from_secs(60),
            queue: Duration::from_secs(24 * 3_600),
            run: Duration::from_secs(24 * 3_600),
            stop: Duration::from_secs(600),
            lost_after: Duration::from_secs(900),
        }
    }
}

impl Timeouts {
    setters! {
        /// One probe, from start to answer.
        with_probe, probe: Duration;
        /// From acceptance by the build system until the build runs.
        with_queue, queue: Duration;
        /// From the start of the build until its end.
        with_run, run: Duration;
        /// From asking the build system to stop a build until it is given up.
        with_stop, stop: Duration;
        /// How long the build system may not know a build until it is `Lost`.
        with_lost_after, lost_after: Duration;
    }
}

/// The choices for one dependency. Every field has a default; unknown fields are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Policy {
    /// When to look for a change. Default every 5 minutes.
    pub look: Schedule,
    /// When to build whether something changed or not. Default never.
    pub build_regardless: Schedule,
    /// What happens to a trigger while a build runs.
    pub on_held: OnHeld,
    /// What the first observation means.
    pub first: First,
    /// Link an earlier good build of the same revision instead of building it again. Default no.
    pub reuse_known: bool,
    /// Which relations to the accounted revision raise an alert instead of a build. Default none.
    pub veto: Veto,
    /// Wait until the source has been still. Default no.
    pub quiet: Option<Quiet>,
    /// Try again after which failures.
    pub retry: RetryPolicy,
    /// Whether an unstable build counts as good and may be linked. Default no.
    pub unstable_is_good: bool,
    /// Needed only with a launcher that is blind.
    pub when_blind: Option<WhenBlind>,
    /// How long things may take.
    pub timeouts: Timeouts,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            look: Schedule::Every(Duration::from_secs(300)),
            build_regardless: Schedule::Never,
            on_held: OnHeld::default(),
            first: First::default(),
            reuse_known: false,
            veto: Veto::default(),
            quiet: None,
            retry: RetryPolicy::default(),
            unstable_is_good: false,
            when_blind: None,
            timeouts: Timeouts::default(),
        }
    }
}

impl Policy {
    setters! {
        /// When to look for a change.
        with_look, look: Schedule;
        /// When to build whether something changed or not.
        with_build_regardless, build_regardless: Schedule;
        /// What happens to a trigger while a build runs.
        with_on_held, on_held: OnHeld;
        /// What the first observation means.
        with_first, first: First;
        /// Link an earlier good build of the same revision instead of building it again.
        with_reuse_known, reuse_known: bool;
        /// Which relations raise an alert instead of a build.
        with_veto, veto: Veto;
        /// Wait until the source has been still.
        with_quiet, quiet: Option<Quiet>;
        /// Try again after which failures.
        with_retry, retry: RetryPolicy;
        /// Whether an unstable build may be linked.
        with_unstable_is_good, unstable_is_good: bool;
        /// What to do after a lost answer of a blind launcher.
        with_when_blind, when_blind: Option<WhenBlind>;
        /// How long things may take.
        with_timeouts, timeouts: Timeouts;
    }

    /// Looks for a change at this interval.
    #[must_use]
    pub fn with_look_every(self, interval: Duration) -> Self {
        self.with_look(Schedule::Every(interval))
    }

    /// Looks for a change at an interval that follows the source: seldom while it sleeps, often while it moves, so that a
    /// change is seen within `longest`; see [`Schedule::Adaptive`].
    #[must_use]
    pub fn with_look_adaptive(self, shortest: Duration, longest: Duration) -> Self {
        self.with_look(Schedule::Adaptive { shortest, longest })
    }

    /// Checks that each value is within its range.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig), naming the field and the range.
    pub fn validate(&self) -> Result<()> {
        const SECOND: Duration = Duration::from_secs(1);
        const YEAR: Duration = Duration::from_secs(366 * 86_400);
        let range = |field: &'static str, value: Duration, least: Duration, most: Duration| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(Error::config(format!(
                "policy.{field} is out of range: give {} to {}",
                humantime_serde::re::humantime::format_duration(least),
                humantime_serde::re::humantime::format_duration(most)
            ))
            .with_context("value", humantime_serde::re::humantime::format_duration(value)))
        };
        self.look.validate().map_err(|e| e.with_context("field", "policy.look"))?;
        self.build_regardless.validate().map_err(|e| e.with_context("field", "policy.build_regardless"))?;
        if matches!(self.build_regardless, Schedule::Adaptive { .. }) {
            return Err(Error::config(
                "policy.build_regardless cannot be adaptive, since it does not look at the source: give every or cron",
            ));
        }
        if !self.on_held.is_in_range() {
            return Err(Error::config("policy.on_held.queue.max is out of range: give 1 to 1,000"));
        }
        if self.retry.max > 100 {
            return Err(Error::config("policy.retry.max is out of range: give 0 to 100"));
        }
        range("retry.backoff", self.retry.backoff, SECOND, Duration::from_secs(3_600))?;
        if let Some(quiet) = self.quiet {
            range("quiet.period", quiet.period, SECOND, YEAR)?;
            range("quiet.at_most", quiet.at_most, quiet.period, YEAR)?;
        }
        range("timeouts.probe", self.timeouts.probe, SECOND, Duration::from_secs(3_600))?;
        range("timeouts.queue", self.timeouts.queue, SECOND, YEAR)?;
        range("timeouts.run", self.timeouts.run, SECOND, YEAR)?;
        range("timeouts.stop", self.timeouts.stop, SECOND, YEAR)?;
        range("timeouts.lost_after", self.timeouts.lost_after, SECOND, YEAR)?;
        Ok(())
    }
}
