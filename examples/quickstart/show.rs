//! Telling what happens, in words.

use crate::{line, moment};
use capomastro_core::{
    Error, ErrorKind, Result, Scheduler,
    events::EventKind,
    model::{DependencyId, SlotKind},
    store::EventFilter,
    time::{Clock, SystemClock},
    why::WhyNotBuilding,
};
use std::{collections::BTreeMap, time::Duration};

/// Where one dependency stands.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) name: String,
    pub(crate) linked: Option<String>,
    pub(crate) is_settled: bool,
}

/// Follows the events and tells them.
#[derive(Debug)]
pub(crate) struct Narrator<'a> {
    scheduler: &'a Scheduler,
    names: BTreeMap<DependencyId, String>,
    position: u64,
    started: Vec<String>,
}

impl<'a> Narrator<'a> {
    pub(crate) async fn new(scheduler: &'a Scheduler, position: u64) -> Result<Self> {
        let (dependencies, _) = scheduler.dependencies(None, 100).await?;
        let names = dependencies.into_iter().map(|d| (d.id, d.name.to_string())).collect();
        Ok(Self { scheduler, names, position, started: Vec::new() })
    }

    /// Tells what happens until everything stands as it should, for at most a minute.
    pub(crate) async fn until(&mut self, done: impl Fn(&[Stand]) -> bool + Send + Sync) -> Result<()> {
        self.started.clear();
        let began = SystemClock.monotonic();
        loop {
            self.tell().await?;
            if done(&self.stands().await?) {
                return self.tell().await;
            }
            if SystemClock.monotonic() > began.plus(Duration::from_secs(60)) {
                return Err(Error::new(ErrorKind::TimedOut, "the quickstart takes longer than a minute"));
            }
            moment().await;
        }
    }

    async fn tell(&mut self) -> Result<()> {
        let page = self.scheduler.events(EventFilter::All, self.position, 1_000).await?;
        self.position = page.upto;
        for stored in page.items {
            let Some(name) = stored.event.dependency.and_then(|id| self.names.get(&id)) else { continue };
            if let EventKind::BuildStarted { .. } = stored.event.kind {
                self.started.push(name.clone());
            }
            if let Some(line) = line(&stored.event.kind) {
                println!("    {name}: {line}");
            }
        }
        Ok(())
    }

    async fn stands(&self) -> Result<Vec<Stand>> {
        let mut stands = Vec::new();
        for name in self.names.values() {
            let status = self.scheduler.status(name).await?;
            stands.push(Stand {
                name: name.clone(),
                linked: status.state.linked.as_ref().map(|l| l.revision.to_string()),
                is_settled: status.why == WhyNotBuilding::UpToDate,
            });
        }
        Ok(stands)
    }

    /// The dependencies whose builds were started since the last wait began, in order.
    pub(crate) fn started_since_commit(&self) -> impl Iterator<Item = &str> {
        self.started.iter().map(String::as_str)
    }

    /// Shows each project's current build, slot by slot.
    pub(crate) async fn projects(&self) -> Result<()> {
        let (projects, _) = self.scheduler.projects(None, 100).await?;
        for project in projects {
            let Some(current) = self.scheduler.project_status(project.name.as_str()).await?.current else {
                continue;
            };
            println!("\nProject {}: current project build {}", project.name, current.name);
            for (id, slot) in &current.slots {
                let kind = match slot.kind {
                    SlotKind::Fresh { .. } => "fresh  ",
                    SlotKind::Carried { .. } => "carried",
                    SlotKind::Pinned { .. } => "pinned ",
                    SlotKind::Awaiting { .. } | SlotKind::Missing { .. } => "missing",
                };
                let name = self.names.get(id).map_or("?", String::as_str);
                let revision = slot.revision.as_ref().map_or("", |r| &r.as_str()[..12]);
                let artifacts: Vec<&str> = slot.artifacts.iter().map(|a| a.name.as_str()).collect();
                println!("    {kind}  {name:<9} {revision}  {}", artifacts.join(" "));
            }
        }
        Ok(())
    }
}

/// The text of the newest artifact of a dependency.
pub(crate) async fn artifact(scheduler: &Scheduler, dependency: &str) -> Result<String> {
    let status = scheduler.status(dependency).await?;
    let linked = status.state.linked.ok_or_else(|| Error::internal("nothing is linked"))?;
    let build = scheduler.build(linked.build).await?;
    let first = build.artifacts.first().ok_or_else(|| Error::internal("the build left no artifact"))?;
    let chunk = scheduler.artifact(build.id, &first.name, 0, 4_096).await?;
    Ok(String::from_utf8_lossy(&chunk.bytes).into_owned())
}
