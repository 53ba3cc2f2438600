//! Why is a dependency not building? One typed reason. Pure.

use crate::{
    model::{Build, BuildId, DependencyState, Health, Paused, Phase, Policy, RetryReason, Revision, Settled},
    schedule::{Schedule, adaptive},
    store::{DueRow, Lane},
    time::{Timestamp, later, until},
};
use std::time::Duration;

/// Why a dependency is not building, or that it is: the first that applies, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhyNotBuilding {
    /// It is building.
    Building {
        /// The build.
        build: BuildId,
        /// Where it stands.
        phase: Phase,
        /// What it waits for, if it waits: a limit, a build system's queue or answer.
        waits_for: Option<String>,
    },
    /// No scheduler takes the work: none runs, or in none that runs is the probe registered.
    Unserved {
        /// What it is that nobody takes.
        lane: Lane,
        /// Since when it is due.
        since: Timestamp,
    },
    /// It was deleted.
    Deleted,
    /// Somebody paused it.
    Paused(Paused),
    /// The source is not there.
    SourceMissing,
    /// The source cannot be looked at.
    ProbeFailing {
        /// How often in a row.
        failures: u32,
        /// The last failure.
        message: String,
    },
    /// A trigger awaits the next look.
    AwaitsLook {
        /// What the look waits for, if it waits: a budget, say.
        waits_for: Option<String>,
    },
    /// Nothing was observed yet.
    NotLookedYet {
        /// What the look waits for, if it waits.
        waits_for: Option<String>,
    },
    /// The policy forbids how the source moved.
    Vetoed {
        /// To where.
        revision: Revision,
    },
    /// The source must be quiet first.
    Quiet {
        /// Until when.
        until: Timestamp,
    },
    /// A debt stands that the next look decides on.
    NextLook {
        /// The revision that is owed.
        revision: Revision,
        /// What the look waits for, if it waits: a budget, say, or who holds a lock that is kept elsewhere.
        waits_for: Option<String>,
    },
    /// The build system refused; it is tried again then, or waits for a person where there is no time.
    LaunchRefused {
        /// When.
        retry_at: Option<Timestamp>,
    },
    /// A build that did not end good is tried again then.
    RetryOwed {
        /// When.
        at: Option<Timestamp>,
    },
    /// A build of a revision that a person named stands.
    HeldAt {
        /// The revision.
        revision: Revision,
        /// The build.
        by: BuildId,
    },
    /// The last build of the accounted revision did not end good, and nothing has changed since.
    LastBuildFailed {
        /// The build.
        build: BuildId,
        /// How it ended.
        phase: Phase,
    },
    /// What is there is built, or was taken as it is; and since the policy's interval is
    /// [adaptive](crate::schedule::Schedule::Adaptive), a change that comes now is seen at the next look.
    Still {
        /// Since when the source has not moved.
        since: Timestamp,
        /// How far looks are apart by now.
        interval: Duration,
        /// When the next one is due.
        next_look: Option<Timestamp>,
    },
    /// What is there is built, or was taken as it is.
    UpToDate,
}

/// The one reason that applies.
pub fn why_not_building(
    state: &DependencyState,
    policy: &Policy,
    build: Option<&Build>,
    drive: Option<&DueRow>,
    look: Option<&DueRow>,
    now: Timestamp,
) -> WhyNotBuilding {
    if let Some(held) = &state.held {
        let phase = match (build.map(|b| b.phase), drive.and_then(|d| d.note.running_at)) {
            (Some(Phase::Submitted), Some(_)) => Phase::Running,
            (Some(phase), _) => phase,
            (None, _) => Phase::Requested,
        };
        let waits_for = match drive.and_then(|d| unserved(d, now)) {
            Some((Lane::Launcher(launcher), since)) => Some(format!(
                "a scheduler that has the launcher {launcher}: none has taken the build up since {since}"
            )),
            Some((lane, since)) => Some(format!("a scheduler that serves {lane:?}, since {since}")),
            None => drive.and_then(|d| d.note.waits_for.clone()),
        };
        return WhyNotBuilding::Building { build: held.owner, phase, waits_for };
    }
    if state.deleted {
        return WhyNotBuilding::Deleted;
    }
    if let Some(paused) = &state.paused {
        return WhyNotBuilding::Paused(paused.clone());
    }
    if let Some((lane, since)) = look.and_then(|l| unserved(l, now)) {
        return WhyNotBuilding::Unserved { lane, since };
    }
    if let Health::Failing { failures, message, .. } = &state.health {
        return WhyNotBuilding::ProbeFailing { failures: *failures, message: message.clone() };
    }
    if state.not_found > 0 {
        return WhyNotBuilding::SourceMissing;
    }
    let waits_for = look.and_then(|l| l.note.waits_for.clone());
    if !state.stored.is_empty() {
        return WhyNotBuilding::AwaitsLook { waits_for };
    }
    let Some(observed) = &state.observed else { return WhyNotBuilding::NotLookedYet { waits_for } };
    if state.in_debt() {
        let revision = observed.revision.clone();
        if state.vetoed.as_ref() == Some(&revision) {
            return WhyNotBuilding::Vetoed { revision };
        }
        if let Some(quiet) = policy.quiet
            && state.accounted.is_some()
        {
            let latest = later(state.debt_since.unwrap_or(observed.moved_at), quiet.at_most);
            let until = later(observed.moved_at, quiet.period).min(latest);
            if until > now {
                return WhyNotBuilding::Quiet { until };
            }
        }
        return WhyNotBuilding::NextLook { revision, waits_for };
    }
    if let Some(retry) = &state.retry {
        return match retry.reason {
            RetryReason::LaunchRefused => WhyNotBuilding::LaunchRefused { retry_at: retry.not_before },
            RetryReason::BuildFailed => WhyNotBuilding::RetryOwed { at: retry.not_before },
        };
    }
    if let Some(held_at) = &state.held_at {
        return WhyNotBuilding::HeldAt { revision: held_at.revision.clone(), by: held_at.by };
    }
    match &state.last_ended {
        Some((build, phase)) if is_owed_to(state, *build) && *phase != Phase::Succeeded => {
            WhyNotBuilding::LastBuildFailed { build: *build, phase: *phase }
        }
        _ => match policy.look {
            Schedule::Adaptive { shortest, longest } => WhyNotBuilding::Still {
                since: observed.moved_at,
                interval: adaptive(shortest, longest, until(observed.moved_at, now), state.id),
                next_look: look.map(|l| l.due_at),
            },
            _ => WhyNotBuilding::UpToDate,
        },
    }
}

/// For how long work may be due until it is said that nobody takes it.
const SOON_ENOUGH: Duration = Duration::from_secs(120);

/// What nobody takes, and since when: due for long, whether or not somebody held it once.
fn unserved(row: &DueRow, now: Timestamp) -> Option<(Lane, Timestamp)> {
    (later(row.due_at, SOON_ENOUGH) < now).then(|| (row.lane.clone(), row.due_at))
}

/// Whether the build that ended last was one of the accounted revision and did not come to stand for it.
fn is_owed_to(state: &DependencyState, ended: BuildId) -> bool {
    let Some(accounted) = &state.accounted else { return false };
    let (Settled::Built(by) | Settled::Joined(by)) = accounted.by else { return false };
    let linked = state.linked.as_ref();
    let is_linked = linked.is_some_and(|l| l.build == ended);
    // A retry is another build of the same revision.
    !is_linked && (by == ended || linked.is_none_or(|l| l.revision != accounted.revision))
}
