//! What a history is to be, drawn from its seed: the world, and who does what to it when.

use super::dice::Dice;
use capomastro_core::{
    launch::Promise,
    model::{First, OnHeld, Policy, Quiet, RetryOn, RetryPolicy, Timeouts, Veto, WhenBlind},
    schedule::Schedule,
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// Until when things are done to the world.
const HORIZON: u64 = 70_000;

/// How long a claim of a build lasts in a history: short, so that a freeze outlasts it often.
pub(super) const DRIVE_LEASE: Duration = Duration::from_secs(4);
/// How long a request may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a claim of a look lasts.
pub(super) const LOOK_LEASE: Duration = Duration::from_secs(12);
/// After how long a build can be found, where it can.
pub(super) const SETTLE: Duration = Duration::from_secs(6);

/// One dependency of the history.
#[derive(Clone, Debug)]
pub(super) struct DependencyPlan {
    pub(super) name: String,
    pub(super) policy: Policy,
    pub(super) projects: Vec<String>,
}

/// How often what goes wrong by itself, of a thousand calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// Calls of the store that fail before they take effect.
    pub(super) store_before: u64,
    /// Calls of the store whose answer is lost.
    pub(super) store_after: u64,
    /// Calls that take longer than an instant.
    pub(super) slow: u64,
    /// Launches with another fate than acceptance.
    pub(super) launch: u64,
    /// Other requests to the build system that fail or hang.
    pub(super) system: u64,
    /// Probes that fail or hang.
    pub(super) probe: u64,
    /// Builds that do not end good.
    pub(super) bad_builds: u64,
}

/// Something that is done to the world, or that somebody does.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Move { source: usize, to: u64 },
    Gone { source: usize },
    Crash { process: usize, after: u64, down: Duration },
    Freeze { process: usize, after: u64, lasts: Duration },
    StoreOutage { lasts: Duration },
    SystemOutage { lasts: Duration },
    Forget { which: u64 },
    ClockJump { seconds: i64 },
    LockOutage { lasts: Duration },
    LockLoses,
    Ask { process: usize, what: Ask },
}

/// What a person asks of a scheduler.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Push { dependency: usize },
    Manual { dependency: usize, at: Option<u64>, parameter: bool, on_held: Option<OnHeld> },
    Pause { dependency: usize },
    Resume { dependency: usize },
    Cancel { dependency: usize },
    Retry { dependency: usize },
    BreakLock { dependency: usize },
    Edit { dependency: usize },
    Choose { dependency: usize, policy: Box<Policy> },
    Delete { dependency: usize },
    Define { dependency: usize },
    Join { dependency: usize, project: usize },
    Leave { dependency: usize, project: usize },
    Pin { dependency: usize, project: usize, which: u64 },
    Unpin { dependency: usize, project: usize },
    BuildProject { project: usize, move_pin: Option<usize> },
}

/// Everything that a seed says, besides the throws that are made on the way.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// For each scheduler whether it runs by itself; else it is ticked.
    pub(super) processes: Vec<bool>,
    pub(super) dependencies: Vec<DependencyPlan>,
    pub(super) projects: Vec<String>,
    pub(super) promise: Promise,
    pub(super) lock_lasts: Option<Duration>,
    pub(super) overall_limit: Option<u32>,
    pub(super) launcher_limit: Option<u32>,
    pub(super) one_repository: bool,
    pub(super) says_same: bool,
    pub(super) faults: Faults,
    pub(super) resumes_in_the_end: bool,
    /// In the order of their times, in milliseconds from the start.
    pub(super) actions: Vec<(u64, Action)>,
}

impl Plan {
    pub(super) fn draw(seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let d = &mut dice;
        let promise = match d.below(10) {
            0..=3 => Promise::IdempotentByKey,
            4..=8 => Promise::FindableByKey { settle: SETTLE },
            _ => Promise::Blind,
        };
        let projects: Vec<String> = (0..d.between(0, 2)).map(|n| format!("p{n}")).collect();
        let dependencies = (0..d.between(1, 3))
            .map(|n| DependencyPlan {
                name: format!("d{n}"),
                policy: policy(d),
                projects: projects.iter().filter(|_| d.chance(700)).cloned().collect(),
            })
            .collect();
        let calm = d.chance(150);
        let mut rate = |most: u64| if calm || d.chance(400) { 0 } else { d.between(1, most) };
        let faults = Faults {
            store_before: rate(40),
            store_after: rate(60),
            slow: rate(150),
            launch: rate(500),
            system: rate(150),
            probe: rate(200),
            bad_builds: rate(600),
        };
        let mut plan = Self {
            processes: (0..*[1, 2, 2, 3].get(d.index(4)).unwrap_or(&1)).map(|_| d.chance(400)).collect(),
            dependencies,
            projects,
            promise,
            lock_lasts: d.chance(120).then(|| d.seconds(5, 30)),
            overall_limit: d.chance(150).then_some(1),
            launcher_limit: d.chance(100).then_some(1),
            one_repository: d.chance(300),
            says_same: d.chance(300),
            faults,
            resumes_in_the_end: d.chance(600),
            actions: Vec::new(),
        };
        let jumps = d.chance(60);
        let count = d.between(4, 18);
        let mut actions: Vec<(u64, Action)> =
            (0..count).map(|_| (d.between(0, HORIZON), plan.action(d, jumps))).collect();
        actions.sort_by_key(|(at, _)| *at);
        plan.actions = actions;
        plan
    }

    fn action(&self, d: &mut Dice, jumps: bool) -> Action {
        let source = d.index(self.dependencies.len());
        let process = d.index(self.processes.len());
        match d.below(100) {
            0..=21 => Action::Move { source, to: d.between(1, 4) },
            22..=23 => Action::Gone { source },
            24..=37 => Action::Crash { process, after: d.below(60), down: d.millis(0, 9_000) },
            38..=47 => Action::Freeze { process, after: d.below(60), lasts: d.millis(500, 20_000) },
            48..=49 => Action::StoreOutage { lasts: d.millis(500, 8_000) },
            50..=52 => Action::SystemOutage { lasts: d.millis(500, 12_000) },
            53..=54 => Action::Forget { which: d.next() },
            55..=56 if jumps => Action::ClockJump { seconds: i64::try_from(d.below(400)).unwrap_or(0) - 200 },
            57 if self.lock_lasts.is_some() => Action::LockOutage { lasts: d.millis(500, 10_000) },
            58 if self.lock_lasts.is_some() => Action::LockLoses,
            _ => Action::Ask { process, what: self.ask(d) },
        }
    }

    fn ask(&self, d: &mut Dice) -> Ask {
        let dependency = d.index(self.dependencies.len());
        let project = d.index(self.projects.len().max(1));
        let has_projects = !self.projects.is_empty();
        match d.below(100) {
            0..=11 => Ask::Push { dependency },
            12..=31 => Ask::Manual {
                dependency,
                at: d.chance(450).then(|| d.between(1, 4)),
                parameter: d.chance(150),
                on_held: d.chance(200).then(|| on_held(d)),
            },
            32..=39 => Ask::Pause { dependency },
            40..=49 => Ask::Resume { dependency },
            50..=57 => Ask::Cancel { dependency },
            58..=60 => Ask::Retry { dependency },
            61..=63 => Ask::BreakLock { dependency },
            64..=69 => Ask::Edit { dependency },
            70..=73 => Ask::Choose { dependency, policy: Box::new(policy(d)) },
            74..=75 => Ask::Delete { dependency },
            76..=78 => Ask::Define { dependency },
            79..=81 if has_projects => Ask::Join { dependency, project },
            82..=83 if has_projects => Ask::Leave { dependency, project },
            84..=88 if has_projects => Ask::Pin { dependency, project, which: d.next() },
            89..=91 if has_projects => Ask::Unpin { dependency, project },
            92..=99 if has_projects => {
                Ask::BuildProject { project, move_pin: d.chance(200).then_some(dependency) }
            }
            _ => Ask::Manual { dependency, at: None, parameter: false, on_held: None },
        }
    }
}

fn on_held(d: &mut Dice) -> OnHeld {
    match d.below(6) {
        0 => OnHeld::DiscardSilently,
        1 => OnHeld::DiscardLoudly,
        2 | 3 => OnHeld::Queue { max: u32::try_from(d.between(1, 3)).unwrap_or(1) },
        _ => OnHeld::Coalesce,
    }
}

fn policy(d: &mut Dice) -> Policy {
    let veto = Veto::default().with_rewound(d.chance(100)).with_diverged(d.chance(50));
    let quiet = d.chance(150).then(|| {
        let period = d.seconds(2, 8);
        Quiet { period, at_most: period + d.seconds(0, 10) }
    });
    let on = if d.chance(500) { RetryOn::Any } else { RetryOn::Infrastructure };
    let retry = RetryPolicy::default()
        .with_max(u32::try_from(d.below(3)).unwrap_or(0))
        .with_backoff(d.seconds(1, 5))
        .with_on(on);
    let timeouts = Timeouts::default()
        .with_probe(d.seconds(1, 3))
        .with_queue(30 * SECOND)
        .with_run(40 * SECOND)
        .with_stop(10 * SECOND)
        .with_lost_after(15 * SECOND);
    let first = match d.below(5) {
        0 => First::Baseline,
        1 => First::Build,
        _ => First::Auto,
    };
    let blind = if d.chance(500) { WhenBlind::AtMostOnce } else { WhenBlind::AtLeastOnce };
    let policy = Policy::default()
        .with_look_every(d.seconds(5, 25))
        .with_on_held(on_held(d))
        .with_first(first)
        .with_reuse_known(d.chance(150))
        .with_veto(veto)
        .with_quiet(quiet)
        .with_retry(retry)
        .with_unstable_is_good(d.chance(300))
        .with_timeouts(timeouts)
        .with_when_blind(Some(blind));
    if d.chance(80) { policy.with_build_regardless(Schedule::Every(d.seconds(50, 90))) } else { policy }
}
