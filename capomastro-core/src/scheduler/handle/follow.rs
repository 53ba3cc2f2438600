//! Following what happens, and reading logs and artifacts.

use crate::{
    Error, Result,
    error::ErrorKind,
    events::StoredEvent,
    launch::{BuildOutput, Chunk},
    model::{BuildId, EventSeq, ExternalRef},
    scheduler::Scheduler,
    store::{EventFilter, EventPage},
};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// How many events are fetched at once.
const PAGE: usize = 256;

/// Events in order, as they are committed, whoever commits them.
#[derive(Debug)]
pub struct EventStream {
    scheduler: Scheduler,
    filter: EventFilter,
    after: EventSeq,
    fetched: VecDeque<StoredEvent>,
}

impl EventStream {
    /// The next event; waits until there is one.
    ///
    /// *Cancellation*: harmless; no event is lost.
    ///
    /// # Errors
    /// What the store says; may be called again.
    pub async fn next(&mut self) -> Result<StoredEvent> {
        let clock = Arc::clone(&self.scheduler.inner.clock);
        let mut wait = Duration::from_millis(20);
        loop {
            if let Some(event) = self.fetched.pop_front() {
                return Ok(event);
            }
            let page = self.scheduler.events(self.filter, self.after, PAGE).await?;
            self.after = page.upto;
            self.fetched.extend(page.items);
            if self.fetched.is_empty() {
                clock.sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(1));
            }
        }
    }

    /// The place up to which everything was returned, to go on from after a restart.
    pub fn position(&self) -> EventSeq {
        self.fetched.front().map_or(self.after, |e| e.seq.saturating_sub(1))
    }
}

impl Scheduler {
    /// At most `limit` (1 to 1,000) events behind a place in the stream.
    ///
    /// # Errors
    /// What the store says.
    pub async fn events(&self, filter: EventFilter, after: EventSeq, limit: usize) -> Result<EventPage> {
        self.inner.store.events(filter, after, limit).await
    }

    /// Events from a place on, as they are committed. [`FIRST_EVENT`](crate::store::FIRST_EVENT) is the oldest that is kept.
    pub fn follow(&self, filter: EventFilter, after: EventSeq) -> EventStream {
        EventStream { scheduler: self.clone(), filter, after, fetched: VecDeque::new() }
    }

    async fn output_of(&self, id: BuildId) -> Result<(Arc<dyn BuildOutput>, ExternalRef)> {
        let build = self.build(id).await?;
        let output = self.inner.outputs.get(&build.launcher).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "no output is registered for the build's launcher: register one when the scheduler is built",
            )
            .with_context("launcher", &build.launcher)
        })?;
        let external = build.external.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, "the build system has not accepted the build")
                .with_context("build", id)
        })?;
        Ok((Arc::clone(output), external))
    }

    /// Up to `max` bytes of a build's log, from byte `offset`.
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported) if no output is registered for its launcher,
    /// [`NotFound`](ErrorKind::NotFound) if there is no such build or log.
    pub async fn log(&self, build: BuildId, offset: u64, max: usize) -> Result<Chunk> {
        let (output, external) = self.output_of(build).await?;
        output.log(&external, offset, max).await
    }

    /// Up to `max` bytes of one of a build's artifacts, from byte `offset`.
    ///
    /// # Errors
    /// As [`log`](Scheduler::log), and [`NotFound`](ErrorKind::NotFound) if the build has no such artifact.
    pub async fn artifact(&self, build: BuildId, name: &str, offset: u64, max: usize) -> Result<Chunk> {
        let known = self.build(build).await?.artifacts.iter().any(|a| a.name == name);
        if !known {
            return Err(Error::new(ErrorKind::NotFound, "the build has no such artifact")
                .with_context("artifact", name.escape_debug()));
        }
        let (output, external) = self.output_of(build).await?;
        output.artifact(&external, name, offset, max).await
    }
}
