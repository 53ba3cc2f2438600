//! What scenarios ask of a stage again and again.

use crate::{Stage, revision};
use capomastro_core::{
    events::EventKind,
    launch::Outcome,
    model::{Build, BuildId, Policy, ProjectBuild, Receipt, ReceiptId, ReceiptState, Requester},
    scheduler::{DependencySpec, TriggerRequest},
    store::{EventFilter, FIRST_EVENT},
    why::WhyNotBuilding,
};
use capomastro_testkit::ScriptedProbe;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long a build's end may stay unseen, in seconds.
const MOST_SECONDS_UNSEEN: u64 = 40;

/// Somebody.
pub fn somebody() -> Requester {
    "somebody".parse().expect("a name")
}

/// A dependency of this name over the source of the same name.
pub fn plain_spec(name: &str, policy: Policy) -> DependencySpec {
    DependencySpec::new(name, ScriptedProbe::source(name), "fake").expect("names").with_policy(policy)
}

/// Looks every minute, and is otherwise as it comes.
pub fn each_minute() -> Policy {
    Policy::default().with_look_every(Duration::from_secs(60))
}

impl Stage {
    /// Another scheduler over what is there: after a restart, or beside the first.
    #[must_use]
    pub fn again(&self) -> Self {
        Self::over(
            Arc::clone(&self.store),
            self.clock.clone(),
            self.probe.clone(),
            self.launcher.clone(),
            |b| b.instance("another"),
        )
    }

    /// Lets this much time pass at once, and does what is due then.
    pub async fn skip(&self, by: Duration) {
        self.clock.advance(by);
        self.settle().await;
    }

    /// Why it is not building.
    pub async fn why(&self, name: &str) -> WhyNotBuilding {
        self.scheduler.why_not_building(name).await.expect("it is there")
    }

    /// Triggers, and settles what is due.
    pub async fn ask(&self, name: &str, request: TriggerRequest) -> ReceiptId {
        let receipt = self.scheduler.trigger(name, request).await.expect("the trigger is taken in");
        self.settle().await;
        receipt
    }

    /// A push.
    pub async fn push(&self, name: &str) -> ReceiptId {
        self.ask(name, TriggerRequest::push()).await
    }

    /// A manual trigger of whatever is there.
    pub async fn manual(&self, name: &str) -> ReceiptId {
        self.ask(name, TriggerRequest::manual().by(somebody())).await
    }

    /// A manual trigger of one revision.
    pub async fn manual_at(&self, name: &str, at: &str) -> ReceiptId {
        self.ask(name, TriggerRequest::manual().by(somebody()).at(revision(at))).await
    }

    /// A receipt.
    pub async fn receipt(&self, id: ReceiptId) -> Receipt {
        self.scheduler.receipt(id).await.expect("it is kept")
    }

    /// Where a receipt stands.
    pub async fn got(&self, id: ReceiptId) -> ReceiptState {
        self.receipt(id).await.state
    }

    /// The build that holds a dependency.
    ///
    /// # Panics
    /// If none does.
    pub async fn running(&self, name: &str) -> BuildId {
        self.state(name).await.held.unwrap_or_else(|| panic!("nothing builds {name}")).owner
    }

    /// Lets the build that runs end so, waits until that is recorded, and gives the record.
    pub async fn end(&self, name: &str, outcome: Outcome) -> Build {
        let id = self.running(name).await;
        let started = self.launcher.builds_of(name).into_iter().find(|b| b.request().build == id);
        started.expect("it was sent").finish(outcome);
        self.ended(id).await
    }

    /// Waits until the end of a build is recorded.
    ///
    /// # Panics
    /// If it is not soon.
    pub async fn ended(&self, id: BuildId) -> Build {
        for _ in 0..MOST_SECONDS_UNSEEN {
            self.pass(1).await;
            let build = self.scheduler.build(id).await.expect("it is kept");
            if build.phase.is_terminal() {
                return build;
            }
        }
        panic!("the end of {id} is not seen");
    }

    /// The recorded decisions of a dependency, in order.
    pub async fn decisions(&self, name: &str) -> Vec<String> {
        let page = self.scheduler.decisions(name, FIRST_EVENT, 1_000).await.expect("it is there");
        let decided = page.items.into_iter().filter_map(|e| match e.event.kind {
            EventKind::Decided { decision, .. } => Some(decision),
            _ => None,
        });
        decided.collect()
    }

    /// Everything that happened, in order.
    pub async fn happened(&self) -> Vec<EventKind> {
        let (mut all, mut after) = (Vec::new(), FIRST_EVENT);
        loop {
            let page =
                self.scheduler.events(EventFilter::All, after, 1_000).await.expect("the store answers");
            if page.items.is_empty() {
                return all;
            }
            after = page.upto;
            all.extend(page.items.into_iter().map(|e| e.event.kind));
        }
    }

    /// How often something of the kind happened.
    pub async fn times(&self, is: impl Fn(&EventKind) -> bool) -> usize {
        self.happened().await.iter().filter(|k| is(k)).count()
    }

    /// The revision of each dependency in a project's current project build; nothing if there is none.
    pub async fn current(&self, project: &str) -> BTreeMap<String, String> {
        let status = self.scheduler.project_status(project).await.expect("it is there");
        match status.current {
            Some(current) => self.shown(&current).await,
            None => BTreeMap::new(),
        }
    }

    /// The revision in each slot of a project build, by the dependency's name; `-` for none.
    pub async fn shown(&self, build: &ProjectBuild) -> BTreeMap<String, String> {
        let (living, _) = self.scheduler.dependencies(None, 1_000).await.expect("the store answers");
        let name = |id| {
            living.iter().find(|d| d.id == id).map_or_else(|| "deleted".to_owned(), |d| d.name.to_string())
        };
        let show = build.slots.iter().map(|(id, slot)| {
            (name(*id), slot.revision.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string))
        });
        show.collect()
    }

    /// The project builds of a project, oldest first.
    pub async fn project_builds(&self, project: &str) -> Vec<ProjectBuild> {
        let (mut builds, _) =
            self.scheduler.project_history(project, None, 1_000).await.expect("it is there");
        builds.reverse();
        builds
    }
}

/// A map of texts.
pub fn shows<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}
