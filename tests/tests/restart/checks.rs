//! What must hold when there is nothing left to do, whatever was killed on the way.

use crate::{kept, world::World};
use capomastro_core::{
    events::{EventKind, StoredEvent},
    model::{Build, BuildId, OrphanVerdict, Phase, SlotKind},
    store::{EventFilter, FIRST_EVENT, ListKey, Query, Record, StateStore as _},
};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// Nothing is lost, nothing was built twice, nothing is stale, and the store is sound.
    pub(crate) async fn check(&self) {
        assert_eq!(self.missing().await, None);
        let builds = self.builds().await;
        self.check_starts(&builds);
        self.check_builds(&builds);
        self.check_slots().await;
        self.check_events(&builds).await;
        self.check_receipts().await;
        kept::check(self.root()).await;
    }

    /// Nothing more will happen to any push.
    async fn check_receipts(&self) {
        for id in self.receipts() {
            let receipt = self.scheduler.receipt(id).await.unwrap();
            assert!(receipt.is_settled(), "{receipt:#?}");
        }
    }

    /// Each build that is recorded started exactly once, and no other did.
    fn check_starts(&self, builds: &[Build]) {
        let starts = self.starts();
        let keys: BTreeSet<String> = starts.iter().map(|s| s.key.clone()).collect();
        assert_eq!(keys.len(), starts.len(), "a launch key was started twice: {starts:#?}");
        let recorded: BTreeSet<String> = builds.iter().map(|b| b.key.to_string()).collect();
        assert_eq!(recorded, keys);
        for build in builds {
            let key = build.key.to_string();
            let start = starts.iter().find(|s| s.key == key).unwrap();
            assert_eq!(build.revision.as_str(), start.revision, "{build:#?}");
        }
    }

    /// No revision was built twice, except as the retry of a build that had failed, and all ended well.
    fn check_builds(&self, builds: &[Build]) {
        let mut firsts = BTreeMap::new();
        for build in builds.iter().filter(|b| b.retry_of.is_none()) {
            let before = firsts.insert((build.dependency, build.revision.to_string()), build.id);
            assert_eq!(before, None, "a revision was built twice: {build:#?}");
        }
        for build in builds {
            let first = firsts[&(build.dependency, build.revision.to_string())];
            assert!(build.retry_of.is_none_or(|of| of == first), "{build:#?}");
            let stumbled = self.kind().stumbles && build.retry_of.is_none();
            let end = if stumbled { (Phase::Failed, false) } else { (Phase::Succeeded, true) };
            assert_eq!((build.phase, build.good), end, "{build:#?}");
        }
        let retries = builds.iter().filter(|b| b.retry_of.is_some());
        let retried: BTreeSet<BuildId> = retries.filter_map(|b| b.retry_of).collect();
        assert_eq!(retried.len(), builds.len() - firsts.len(), "a build was retried twice");
    }

    /// The project shows the newest commits, with what their builds left behind.
    async fn check_slots(&self) {
        let current = self.scheduler.project_status("all").await.unwrap().current.unwrap();
        for name in self.names() {
            let id = self.scheduler.status(name).await.unwrap().state.id;
            let slot = &current.slots[&id];
            assert!(matches!(slot.kind, SlotKind::Fresh { .. } | SlotKind::Carried { .. }), "{slot:?}");
            assert_eq!(slot.revision.as_ref().unwrap().as_str(), self.head(name));
            let size = std::fs::metadata(self.repository(name).join("version.txt")).unwrap().len();
            let kept: Vec<_> = slot.artifacts.iter().map(|a| (a.name.as_str(), a.size)).collect();
            assert_eq!(kept, [("version.txt", Some(size))], "{name}");
        }
    }

    /// All events, in order.
    pub(crate) async fn events(&self) -> Vec<StoredEvent> {
        let (mut events, mut after) = (Vec::new(), FIRST_EVENT);
        loop {
            let page = self.scheduler.events(EventFilter::All, after, 1_000).await.unwrap();
            if page.items.is_empty() {
                break;
            }
            after = page.upto;
            events.extend(page.items);
        }
        let numbers = events.iter().map(|e| e.seq);
        if kept::HAS_NO_HOLES {
            assert!(numbers.eq(1..=events.len() as u64), "events have holes");
        } else {
            assert!(numbers.is_sorted_by(|a, b| a < b), "events are out of order");
        }
        events
    }

    /// The events tell of each build once, in order, and links only ever moved to newer commits.
    async fn check_events(&self, builds: &[Build]) {
        let mut told: BTreeMap<BuildId, Vec<&str>> = BTreeMap::new();
        let mut linked: BTreeMap<_, Vec<BuildId>> = BTreeMap::new();
        let events = self.events().await;
        for event in &events {
            let (build, what) = match &event.event.kind {
                EventKind::BuildStarted { build, .. } => (build, "started"),
                EventKind::BuildSubmitted { build } => (build, "submitted"),
                EventKind::BuildEnded { build, .. } => (build, "ended"),
                EventKind::Linked { build } => {
                    linked.entry(event.event.dependency.unwrap()).or_default().push(*build);
                    (build, "linked")
                }
                EventKind::OrphanSeen { build } => {
                    self.check_orphans(*build).await;
                    continue;
                }
                _ => continue,
            };
            told.entry(*build).or_default().push(what);
        }
        for build in builds {
            let all = ["started", "submitted", "ended", "linked"];
            let expected = if build.good { &all[..] } else { &all[..3] };
            assert_eq!(told[&build.id], expected, "{build:#?}");
        }
        for name in self.names() {
            let id = self.scheduler.status(name).await.unwrap().state.id;
            let commits = self.commits(name);
            let place = |of: &BuildId| {
                let build = builds.iter().find(|b| b.id == *of).unwrap();
                commits.iter().position(|c| c == build.revision.as_str()).unwrap()
            };
            let places: Vec<usize> = linked[&id].iter().map(place).collect();
            assert!(places.is_sorted_by(|a, b| a < b), "{name} was linked to an older commit: {places:?}");
        }
    }

    /// What turned up late, because its driver had lost its claim, was the build's own and no second one.
    async fn check_orphans(&self, build: BuildId) {
        let query = Query::List { list: ListKey::orphans_of(build), backwards: false };
        for item in self.store.list(&query, None, 100).await.unwrap().items {
            let Record::Orphan(orphan) = item.record else { panic!("not an orphan: {item:?}") };
            assert!(orphan.verdict != Some(OrphanVerdict::Cancelled), "{orphan:?}");
        }
    }
}
