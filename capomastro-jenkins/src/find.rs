//! Is there a build of a key?

use crate::{
    address::JobName,
    job::JenkinsJob,
    launcher::Inner,
    memo::Memo,
    reference::Reference,
    sweep::{Doubt, Looked, Swept},
};
use capomastro_core::{
    ErrorKind, Result,
    launch::{Found, LaunchRequest},
    time::Timestamp,
};
use std::time::Duration;

/// When a doubt is looked at again: what is young has told by then.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// When a doubt is looked at again that only people can end.
const DOUBTFUL: Duration = Duration::from_secs(60);
/// How many of a job's newest builds are looked at where it is not known which could be ours.
const NEWEST: u64 = 1_000;

impl Inner {
    pub(crate) async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        let job = JenkinsJob::parse(&request.job)?;
        let memo = Memo::read(request.memo.as_ref())?;
        let name = job.name()?;
        let key = request.key.to_string();
        let floor = memo.as_ref().map(|m| m.floor);
        let (looked, session) = match self.sweep(&name, &job.id_parameter, floor).await {
            Ok(looked) => looked,
            // Without a memo nothing was ever sent, and there is nothing that could show otherwise.
            Err(e) if e.kind() == ErrorKind::NotFound && memo.is_none() => return Ok(Found::Absent),
            // It was deleted, renamed, or is hidden now: no proof of anything.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return self.find_elsewhere(&job, request, floor).await;
            }
            Err(e) => return Err(e),
        };
        let reference =
            Reference::of(&job, request.key, &session, looked.floor.or(looked.next).unwrap_or_default());
        let answer = match looked.of(&job.id_parameter, &key) {
            Swept::Build(number) => Found::Build(reference.started(number).external()),
            Swept::Item(item) => Found::Build(reference.queued(item).external()),
            Swept::Doubtful(Doubt::Young(_) | Doubt::Restarted) => {
                Found::Inconclusive { look_again: LOOK_AGAIN }
            }
            Swept::Nothing | Swept::Doubtful(_) if memo.is_none() => Found::Absent,
            // The job was made again: ours may have gone on under another name.
            Swept::Nothing if looked.floor < floor => return self.find_elsewhere(&job, request, floor).await,
            Swept::Nothing => {
                let posted_at = memo.as_ref().map(|m| m.posted_at);
                return Ok(self.nothing_again(request, session, posted_at));
            }
            Swept::Doubtful(doubt) => {
                tracing::warn!(job = %name, launch.key = %key, %doubt, "it cannot be told whether a build is there");
                Found::Inconclusive { look_again: DOUBTFUL.min(LOOK_AGAIN * 3) }
            }
        };
        self.memory.nothing.forget(&request.key);
        Ok(answer)
    }

    /// A sweep has found nothing, which proves it if an earlier one has, long enough ago and in the same session.
    fn nothing_again(&self, request: &LaunchRequest, session: String, posted_at: Option<Timestamp>) -> Found {
        let now = self.client.clock().monotonic();
        let fact = (now, session, posted_at);
        let (since, in_session, of) = self.memory.nothing.first(request.key, fact.clone(), now);
        // Before a restart, or before the request was sent once more, it says nothing.
        if in_session != fact.1 || of != posted_at {
            self.memory.nothing.set(request.key, fact, now);
            return Found::Inconclusive { look_again: self.options.sweep_gap };
        }
        let waited = now.since(since);
        if waited < self.options.sweep_gap {
            return Found::Inconclusive { look_again: self.options.sweep_gap - waited };
        }
        self.memory.nothing.forget(&request.key);
        Found::Absent
    }

    /// Reads queue, builds and queue.
    async fn sweep(&self, name: &JobName, parameter: &str, floor: Option<u64>) -> Result<(Looked, String)> {
        let before = self.client.queue().await?;
        let next = self.memory.next.get(&name.to_string());
        let mut listed = match (floor, next) {
            (Some(floor), next) => self.client.builds(name, floor, next).await?,
            (None, _) => self.newest(name).await?,
        };
        let mut floor = floor;
        if floor.zip(listed.job.next).is_some_and(|(floor, next)| next < floor) {
            // The job was deleted and made again, and counts from the beginning.
            floor = Some(1);
            listed = self.client.builds(name, 1, listed.job.next).await?;
        }
        let after = self.client.queue().await?;
        let short = name.as_str().rsplit('/').next().unwrap_or_default();
        let has_hidden = before.hidden.iter().chain(&after.hidden).any(|hidden| hidden == short);
        let is_one_session =
            listed.is_one_session && listed.session == before.session && listed.session == after.session;
        let looked = Looked {
            before: before.items,
            next: listed.job.next,
            is_declared: listed.job.declared.contains_key(parameter),
            builds: listed.job.builds,
            after: after.items,
            floor,
            has_hidden,
            is_one_session,
        };
        Ok((looked, after.session))
    }

    async fn newest(&self, name: &JobName) -> Result<crate::read::Listed> {
        let (job, _) = self.client.job(name).await?;
        let lowest = job.next.unwrap_or_default().saturating_sub(NEWEST);
        self.client.builds(name, lowest, None).await
    }

    /// The job is not where it was: perhaps a build or item of ours tells where it went.
    async fn find_elsewhere(
        &self,
        job: &JenkinsJob,
        request: &LaunchRequest,
        floor: Option<u64>,
    ) -> Result<Found> {
        let key = request.key.to_string();
        let queue = self.client.queue().await?;
        let mut reference = Reference::of(job, request.key, &queue.session, floor.unwrap_or_default());
        if let Some(item) = queue.items.iter().find(|i| i.carries(&job.id_parameter, &key)) {
            if let Some(job) = &item.job {
                reference.job = job.to_string();
            }
            return Ok(Found::Build(reference.queued(item.id).external()));
        }
        let running = self.client.running().await?;
        if let Some((job, build)) = running.into_iter().find(|(_, b)| b.carries(&job.id_parameter, &key)) {
            reference.job = job.to_string();
            return Ok(Found::Build(reference.started(build.number).external()));
        }
        Ok(Found::Inconclusive { look_again: DOUBTFUL })
    }
}
