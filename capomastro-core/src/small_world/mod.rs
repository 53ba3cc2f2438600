//! A small world of plain data, driven through all the pure rules together: looks are detected, decided, built, tracked and
//! linked as a scheduler does it, without store, probes, build system or runtime. The [`laws`] are checked after every step.
//!
//! It is walked by [histories] that are drawn at random and by [walks](walk) that leave nothing out.

mod act;
mod commit;
mod drive;
mod essence;
mod heal;
mod histories;
mod laws;
mod look;
mod people;
mod table;
mod walk;

use crate::{
    detect::Look,
    launch::{Promise, Report},
    model::{
        Build, BuildId, DependencyState, Note, Policy, Project, ProjectBuild, ProjectBuildId, ReceiptId,
        ReceiptState,
    },
    sample,
    time::Timestamp,
};
use act::{Act, Contact, Sent, Sight};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use uuid::Uuid;

/// A dependency, and what is under way around it.
#[derive(Clone, Debug)]
struct Dependency {
    state: DependencyState,
    policy: Policy,
    /// A look that was begun and is not answered yet.
    look: Option<Look>,
    /// The bookkeeping of whoever drives its build.
    note: Note,
    /// A "build regardless" is due: the next look that sees the source makes a trigger of it.
    regardless: bool,
    /// When an evaluation is due.
    evaluate_at: Option<Timestamp>,
    /// What looks have seen in this epoch.
    seen: BTreeSet<String>,
}

/// What the build system does with a build that it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Queued,
    Running,
    Ended(crate::launch::Outcome),
    Forgotten,
}

/// A build as the build system has it.
#[derive(Clone, Debug)]
struct External {
    build: BuildId,
    number: u32,
    fate: Fate,
    /// Whether it was asked to stop it.
    stopping: bool,
}

/// Dependencies, projects, and a build system.
#[derive(Clone, Debug)]
struct World {
    now: Timestamp,
    promise: Promise,
    dependencies: Vec<Dependency>,
    projects: Vec<Project>,
    /// The open project builds.
    open: BTreeMap<ProjectBuildId, ProjectBuild>,
    /// The seal sequence of each project's current project build.
    current_since: Vec<u64>,
    /// The builds that anything still refers to.
    builds: BTreeMap<BuildId, Build>,
    /// The receipts that are not settled.
    receipts: BTreeMap<ReceiptId, ReceiptState>,
    externals: Vec<External>,
    /// What the build system said of a build, newest last.
    reports: Vec<(BuildId, Report)>,
    /// The last ticket of a look.
    tickets: u64,
    drawn: u128,
}

const PROMISE: Promise = Promise::FindableByKey { settle: Duration::from_secs(90) };

impl World {
    /// Two dependencies: the first in both projects, the second in the first project only.
    fn new(policy: &Policy) -> Self {
        Self::with_projects(policy, &[&[0, 1], &[0]])
    }

    fn with_projects(policy: &Policy, projects: &[&[usize]]) -> Self {
        let now = sample::at(0);
        let mut policy = policy.clone();
        policy.timeouts.queue = Duration::from_secs(300);
        policy.timeouts.run = Duration::from_secs(600);
        policy.timeouts.stop = Duration::from_secs(200);
        policy.timeouts.lost_after = Duration::from_secs(300);
        let dependency = |n| Dependency {
            state: DependencyState::new(sample::dependency(n)),
            policy: policy.clone(),
            look: None,
            note: Note::default(),
            regardless: false,
            evaluate_at: None,
            seen: BTreeSet::new(),
        };
        let project = |n| Project::new(sample::project(n), "p".parse().unwrap(), now);
        let mut world = Self {
            now,
            promise: PROMISE,
            dependencies: vec![dependency(1), dependency(2)],
            projects: (1..=projects.len() as u128).map(project).collect(),
            open: BTreeMap::new(),
            current_since: vec![0; projects.len()],
            builds: BTreeMap::new(),
            receipts: BTreeMap::new(),
            externals: Vec::new(),
            reports: Vec::new(),
            tickets: 0,
            drawn: 1_000,
        };
        for (project, members) in projects.iter().enumerate() {
            for member in *members {
                world.join(project, *member);
            }
        }
        world
    }

    fn draw(&mut self) -> Uuid {
        self.drawn += 1;
        Uuid::from_u128(self.drawn)
    }

    /// The build under way.
    fn under_way(&self, d: usize) -> Option<&Build> {
        self.dependencies[d].state.held.as_ref().map(|h| &self.builds[&h.owner])
    }

    /// Drops what nothing refers to any more: it cannot matter again.
    fn forget(&mut self) {
        let mut kept: BTreeSet<BuildId> = BTreeSet::new();
        for d in &self.dependencies {
            let state = &d.state;
            kept.extend(state.held.iter().map(|h| h.owner));
            kept.extend(state.linked.iter().map(|l| l.build));
            kept.extend(state.retry.iter().map(|r| r.of));
            // The newest good build of each revision may be reused.
            let mut newest = BTreeMap::new();
            for b in self.builds.values().filter(|b| b.dependency == state.id && is_reusable(b, state)) {
                newest.insert(b.stands_for().as_str(), b.id);
            }
            kept.extend(newest.values());
        }
        for p in &self.projects {
            let open = p.open.iter().map(|id| &self.open[id]);
            kept.extend(crate::link::needed_builds(p, open));
            kept.extend(p.current.iter().flat_map(|c| c.builds.values()));
        }
        self.builds.retain(|id, _| kept.contains(id));
        let unfinished = |id: &BuildId| self.builds.get(id).is_some_and(|b| !b.phase.is_terminal());
        self.externals.retain(|e| unfinished(&e.build));
        self.reports.retain(|(b, _)| unfinished(b));
    }
}

/// Whether a build may stand again for its revision without being built anew.
fn is_reusable(build: &Build, state: &DependencyState) -> bool {
    build.good && build.epoch == state.epoch && build.parameters.is_empty()
}
