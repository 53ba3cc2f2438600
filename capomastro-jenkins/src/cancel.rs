//! Stopping a build, wherever it stands.

use crate::{
    address::{JobName, Place},
    http::{Body, Call},
    launcher::Inner,
    observe::Ask,
    reference::Reference,
    stand::{Stand, is_or_may_be},
    wire::{self, Build},
};
use capomastro_core::{
    Error, ErrorKind, Result,
    model::{ExternalRef, LaunchKey},
};
use reqwest::StatusCode;
use std::time::Duration;

/// How long a pipeline that was asked to stop is given before it is ended harder, and then hardest.
const TERM: Duration = Duration::from_secs(30);
const KILL: Duration = Duration::from_secs(90);

/// What to ask for, so long after the first time. Other builds than pipelines know but one way.
fn how(is_pipeline: bool, since_first: Duration) -> &'static str {
    match is_pipeline {
        true if since_first >= KILL => "kill",
        true if since_first >= TERM => "term",
        _ => "stop",
    }
}

impl Inner {
    pub(crate) async fn cancel(&self, key: LaunchKey, external: &ExternalRef) -> Result<()> {
        let reference = Reference::parse(external)?;
        let name = reference.job()?;
        let ask = Ask { reference, key: key.to_string() };
        // An item can become a build between looking and cancelling: then it is looked at once more.
        for _ in 0..2 {
            if !self.stop_where_it_stands(&name, &ask).await? {
                return Ok(());
            }
        }
        let error =
            Error::new(ErrorKind::Unavailable, "the build is just being started: it is asked again to stop");
        Err(self.client.name(error, Some(&name)))
    }

    /// Returns whether something has moved meanwhile.
    async fn stop_where_it_stands(&self, name: &JobName, ask: &Ask) -> Result<bool> {
        let queue = self.client.queue().await?;
        let facts = self.facts_of(name, &[ask], &queue).await?;
        let Some(listed) = &facts.listed else { return self.stop_elsewhere(ask, &queue.items).await };
        let all = self.index(listed, &queue, &[ask]);
        let (items, twins) = all.all_of(&ask.reference, &ask.key);
        let mut has_moved = false;
        for item in items {
            has_moved |= !self.cancel_item(item, name).await?;
        }
        for twin in &twins {
            self.stop(name, twin).await?;
        }
        let is_one_of = |build: &Build| twins.iter().any(|t| t.number == build.number);
        match all.stand(&ask.reference, &ask.key) {
            Stand::Build(build) if !build.has_ended() && !is_one_of(build) => self.stop(name, build).await?,
            Stand::AskBuild(number) => {
                if let Some((build, _)) = self.client.build(name, number, wire::BUILD).await?
                    && is_or_may_be(&build, &ask.reference, &ask.key)
                    && !build.has_ended()
                {
                    self.stop(name, &build).await?;
                }
            }
            Stand::AskItem(id) => match self.client.item(id).await? {
                Some((item, session)) if session == ask.reference.session => {
                    if let Some(number) = item.executable {
                        let build = Build { number, ..Build::default() };
                        self.stop(item.job.as_ref().unwrap_or(name), &build).await?;
                    } else if !item.is_cancelled && !item.has_left {
                        has_moved |= !self.cancel_item(id, name).await?;
                    }
                }
                _ => {}
            },
            _ => {}
        }
        Ok(has_moved)
    }

    async fn stop_elsewhere(&self, ask: &Ask, items: &[wire::Item]) -> Result<bool> {
        let name = ask.reference.job()?;
        let mut has_moved = false;
        for item in items.iter().filter(|i| i.carries(&ask.reference.parameter, &ask.key)) {
            has_moved |= !self.cancel_item(item.id, &name).await?;
        }
        for (job, build) in self.client.running().await? {
            if build.carries(&ask.reference.parameter, &ask.key) {
                self.stop(&job, &build).await?;
            }
        }
        Ok(has_moved)
    }

    /// Takes an item out of the queue. False if it is not there any more.
    async fn cancel_item(&self, id: u64, job: &JobName) -> Result<bool> {
        let place = Place::of(["queue", "cancelItem"]).with("id", &id.to_string());
        let reply =
            self.client.exchange(Call::post(place, Body::Nothing).about(job)).await.map_err(Error::from)?;
        match reply.status {
            // Old servers lead elsewhere whatever came of it: the next look tells.
            status if status.is_success() || status == StatusCode::FOUND => Ok(true),
            StatusCode::UNPROCESSABLE_ENTITY => {
                let error = Error::new(
                    ErrorKind::PermissionDenied,
                    "the server does not let us take the build out of its queue: grant Job/Cancel to the user",
                );
                Err(self.client.name(error, Some(job)))
            }
            StatusCode::NOT_FOUND | StatusCode::INTERNAL_SERVER_ERROR if reply.is_of_jenkins() => Ok(false),
            _ => Err(self.client.name(reply.complaint(), Some(job))),
        }
    }

    pub(crate) async fn stop(&self, job: &JobName, build: &Build) -> Result<()> {
        let now = self.client.clock().monotonic();
        let first = self.memory.stops.first((job.to_string(), build.number), now, now);
        let how = how(build.is_pipeline, now.since(first));
        let number = build.number.to_string();
        let call = Call::post(job.build(&number, [how]), Body::Nothing).about(job);
        self.client.change(call, Some(job)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pipelines_are_ended_harder() {
        for (pipeline, seconds, asks) in [
            (false, 0, "stop"),
            (false, 1_000, "stop"),
            (true, 0, "stop"),
            (true, 29, "stop"),
            (true, 30, "term"),
            (true, 89, "term"),
            (true, 90, "kill"),
        ] {
            assert_eq!(how(pipeline, Duration::from_secs(seconds)), asks, "{pipeline} {seconds}");
        }
    }
}
