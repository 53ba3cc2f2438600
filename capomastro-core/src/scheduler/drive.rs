//! Moving builds on: one look at the build system for all builds of a launcher that are due.

use super::{
    Inner,
    commit::Attempts,
    launching::{After, copy},
};
use crate::{
    Error, Result,
    error::ErrorKind,
    events::{Event, EventKind},
    launch::{BuildLauncher, Found, Report, send_before},
    lock::Lease,
    model::{Build, BuildId, ExternalRef, LaunchKey, LauncherName, Orphan, OrphanVerdict, Phase},
    store::{Claim, Draft, DueChange, Lane, ListKey, Query, Record, Task},
    time::Monotonic,
    track::{End, Judgement, Situation, Step, judge},
};
use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use std::{future::Future, pin::pin, sync::Arc, time::Duration};
use tokio::sync::SemaphorePermit;

/// The most orphans of one build that are judged at once.
const MOST_ORPHANS: usize = 100;

/// One build to move on, as it stood when it was claimed.
#[derive(Debug)]
pub(super) struct DriveItem {
    pub(super) claim: Claim,
    pub(super) build: Build,
}

/// The builds of one launcher that are due.
#[derive(Debug)]
pub(super) struct DriveJob {
    pub(super) name: LauncherName,
    pub(super) items: Vec<DriveItem>,
    pub(super) asked: Monotonic,
}

/// Whether this is the end of a build that was to stop and of which no end was seen.
fn is_given_up(end: &End) -> bool {
    matches!(end.build.phase, Phase::Cancelled | Phase::TimedOut | Phase::Lost)
        && end.events.iter().any(|event| matches!(event.kind, EventKind::MayStillRun { .. }))
}

impl Inner {
    pub(super) async fn drive(&self, job: DriveJob) {
        let DriveJob { name, items, asked } = job;
        let launcher = match self.launcher(&name) {
            Ok(launcher) => Arc::clone(launcher),
            Err(error) => {
                for item in items {
                    self.stall(item.claim, &error);
                }
                return;
            }
        };
        let mut looked_at = Vec::new();
        let mut alone = FuturesUnordered::new();
        for item in items {
            if item.build.external.is_some() {
                looked_at.push(item);
            } else {
                let (launcher, name) = (Arc::clone(&launcher), &name);
                alone.push(async move {
                    let claim = item.claim.clone();
                    let room = self.room_to_send(name).await;
                    // Too late to be sent safely: whoever takes it next may.
                    if self.clock.monotonic()
                        >= send_before(asked, self.config.drive_lease, self.config.request_timeout).0
                    {
                        self.give_back(claim.clone(), Duration::ZERO, claim.note);
                    } else if let Err(error) = self.drive_alone(item, launcher, asked).await {
                        self.stall(claim, &error);
                    }
                    drop(room);
                });
            }
        }
        let together = self.observe(launcher.as_ref(), looked_at);
        let each = async { while alone.next().await.is_some() {} };
        futures_util::future::join(together, each).await;
    }

    /// Waits for room to send a build, or to find one.
    async fn room_to_send(&self, name: &LauncherName) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.sending.get(name)?.acquire().await.ok()
    }

    /// Cuts a request to the build system, or to a lock that is kept elsewhere, off at the time-out of requests.
    pub(super) async fn in_time<T>(
        &self,
        request: impl Future<Output = T> + Send,
        otherwise: impl FnOnce(Error) -> T,
    ) -> T {
        self.within(self.config.request_timeout, request, otherwise).await
    }

    async fn within<T>(
        &self,
        most: Duration,
        request: impl Future<Output = T> + Send,
        otherwise: impl FnOnce(Error) -> T,
    ) -> T {
        match select(pin!(request), pin!(self.clock.sleep(most))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => otherwise(Error::new(ErrorKind::TimedOut, "no answer came in time")),
        }
    }

    /// A build of which no reference is known: to be sent, or to be found.
    async fn drive_alone(
        &self,
        item: DriveItem,
        launcher: Arc<dyn BuildLauncher>,
        asked: Monotonic,
    ) -> Result<()> {
        let DriveItem { claim, build } = item;
        self.renew_lease(&build).await;
        let mut after = self.step(&build, &claim, |s| s.resume()).await?;
        if let After::Find = after {
            let dependency = self.dependency_of(&mut self.draft(), &build).await?;
            let request = self.request(&build, dependency.name, asked);
            let found: Result<Found> = self.in_time(launcher.find(&request), Err).await;
            after = self.step(&build, &claim, |s| s.found(copy(&found))).await?;
        }
        match after {
            After::Send(begun) => self.launch_begun(*begun).await,
            After::Find | After::Nothing | After::Advanced(_) => {}
        }
        Ok(())
    }

    /// One look at the build system for all these builds, after those to be stopped were asked to.
    #[tracing::instrument(name = "capomastro.observe", skip_all, fields(builds = items.len()))]
    async fn observe(&self, launcher: &dyn BuildLauncher, items: Vec<DriveItem>) {
        if items.is_empty() {
            return;
        }
        let mut stops: FuturesUnordered<_> = items
            .iter()
            .filter(|i| i.build.stop.is_some())
            .map(|i| self.ask_stop(launcher, &i.build))
            .collect();
        while stops.next().await.is_some() {}
        drop(stops);
        let asked: Vec<(LaunchKey, ExternalRef)> =
            items.iter().filter_map(|i| Some((i.build.key, i.build.external.clone()?))).collect();
        let reports = self.look_at(launcher, &asked).await;
        let mut settling: FuturesUnordered<_> = items
            .into_iter()
            .zip(asked)
            .zip(reports)
            .map(|((item, (_, external)), report)| async move {
                let claim = item.claim;
                self.renew_lease(&item.build).await;
                let was_asked = item.build.stop.is_some();
                let step = self
                    .step(&item.build, &claim, |s| match s.observed(&external, copy(&report)) {
                        // Somebody wants it stopped since this look began, and it hung for longer than the grace: the build
                        // system is asked once, before nobody waits for it any more.
                        Step::End(end) if !was_asked && s.build.stop.is_some() && is_given_up(&end) => {
                            Step::Nothing { after: Duration::ZERO, note: s.note.clone() }
                        }
                        step => step,
                    })
                    .await;
                match step {
                    Err(error) => self.stall(claim, &error),
                    Ok(After::Send(begun)) => self.launch_begun(*begun).await,
                    // What was to be found has a reference now; the next drive looks at it.
                    Ok(After::Find) => self.give_back(claim.clone(), Duration::ZERO, claim.note),
                    Ok(After::Nothing | After::Advanced(_)) => {}
                }
            })
            .collect();
        while settling.next().await.is_some() {}
    }

    /// One look, in time, with an answer for each. It sends nothing, so it may take what a claim leaves: there may be many
    /// builds in it.
    async fn look_at(
        &self,
        launcher: &dyn BuildLauncher,
        asked: &[(LaunchKey, ExternalRef)],
    ) -> Vec<Result<Report>> {
        let most = self
            .config
            .drive_lease
            .saturating_sub(self.config.request_timeout)
            .max(self.config.request_timeout);
        let late = |e: Error| asked.iter().map(|_| Err(e.copy())).collect();
        let reports = self.within(most, launcher.observe(asked), late).await;
        if reports.len() == asked.len() {
            return reports;
        }
        let wrong = || Error::internal("the launcher gave another number of reports than there were builds");
        asked.iter().map(|_| Err(wrong())).collect()
    }

    /// Asks the build system to stop a build; what it reports afterwards is what counts.
    async fn ask_stop(&self, launcher: &dyn BuildLauncher, build: &Build) {
        let Some(external) = &build.external else { return };
        if let Err(error) = self.in_time(launcher.cancel(&build.key, external), Err).await {
            tracing::warn!(build.id = %build.id, error = %error.report(), "the build system could not be asked to stop a build");
        }
    }

    /// A lease of a lock that is kept elsewhere lasts while its build is driven. Losing it is loud and changes nothing: the
    /// store's record is the referee.
    async fn renew_lease(&self, build: &Build) {
        let Some(lease) = build.lease.as_ref().filter(|l| l.expires_in.is_some()) else { return };
        let answers = self.in_time(self.lock.renew(std::slice::from_ref(lease)), |e| vec![Err(e)]).await;
        let renewed = match answers.into_iter().next() {
            Some(Ok(renewed)) if renewed.token != lease.token => self.keep_lease(build.id, renewed).await,
            Some(Err(error)) if error.kind() == ErrorKind::LeaseLost => {
                tracing::warn!(build.id = %build.id, error = %error.report(), "a lock's lease is lost");
                self.lease_is_lost(build.id).await
            }
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        };
        if let Err(error) = renewed {
            tracing::warn!(build.id = %build.id, error = %error.report(), "a lock's lease could not be renewed");
        }
    }

    /// Says once that a lease is lost; it is not renewed any more.
    async fn lease_is_lost(&self, id: BuildId) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.draft();
            let Some(mut build) = draft.build(id).await?.filter(|b| !b.phase.is_terminal()) else {
                return Ok(());
            };
            let Some(lease) = build.lease.as_mut().filter(|l| l.expires_in.is_some()) else { return Ok(()) };
            lease.expires_in = None;
            draft.event(Event::of_dependency(build.dependency, EventKind::LeaseLost { build: id }));
            draft.put(Record::Build(build));
            match self.commit(draft).await {
                Ok(_) => return Ok(()),
                Err(e) => attempts.again(self, e).await?,
            }
        }
    }

    /// A renewed lease says other facts than before.
    async fn keep_lease(&self, id: BuildId, lease: Lease) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.draft();
            let Some(mut build) = draft.build(id).await? else { return Ok(()) };
            build.lease = Some(lease.clone());
            draft.put(Record::Build(build));
            match self.commit(draft).await {
                Ok(_) => return Ok(()),
                Err(e) => attempts.again(self, e).await?,
            }
        }
    }

    /// External builds that turned up late: each is the build's own, has ended, or is asked to stop.
    pub(super) async fn judge_due(&self, claim: &Claim, id: BuildId) -> Result<()> {
        let query = Query::List { list: ListKey::orphans_of(id), backwards: false };
        let page = self.store.list(&query, None, MOST_ORPHANS).await?;
        let orphans: Vec<Orphan> = page
            .items
            .into_iter()
            .filter_map(|v| match v.record {
                Record::Orphan(o) if o.verdict.is_none() => Some(o),
                _ => None,
            })
            .collect();
        let mut again: Option<(Duration, Lane)> = None;
        for orphan in orphans {
            let mut attempts = Attempts::default();
            loop {
                match self.try_judge(&orphan).await {
                    Ok(None) => break,
                    Ok(Some(later)) => {
                        again = Some(later);
                        break;
                    }
                    Err(e) => attempts.again(self, e).await?,
                }
            }
        }
        let mut draft = self.draft();
        draft.claim(claim.clone());
        draft.due(match again {
            Some((after, lane)) => DueChange::Set { task: claim.task, lane, after, note: None },
            None => DueChange::Done { task: claim.task },
        });
        self.commit(draft).await.map(drop)
    }

    /// Judges one orphan; when to look again if it cannot be told yet.
    async fn try_judge(&self, orphan: &Orphan) -> Result<Option<(Duration, Lane)>> {
        let mut draft = self.draft();
        let Some(build) = draft.build(orphan.build).await? else {
            return self.give_verdict(draft, orphan, OrphanVerdict::Ignored).await.map(|()| None);
        };
        let launcher = Arc::clone(self.launcher(&build.launcher)?);
        let mut asked = vec![(build.key, orphan.external.clone())];
        asked.extend(build.external.clone().filter(|e| *e != orphan.external).map(|e| (build.key, e)));
        let mut reports = self.look_at(launcher.as_ref(), &asked).await.into_iter();
        let seen = reports.next().unwrap_or_else(|| Err(Error::internal("the launcher gave no report")));
        let own = reports.next();
        let verdict = match judge(orphan, Some(&build), &seen, own.as_ref(), draft.now()?) {
            Judgement::Verdict(verdict) => verdict,
            Judgement::Later(after) => return Ok(Some((after, Lane::Launcher(build.launcher)))),
            Judgement::Adopt(external) => {
                self.adopt(&mut draft, &build, external).await?;
                OrphanVerdict::Adopted
            }
            Judgement::Stop(external) => {
                self.in_time(launcher.cancel(&build.key, &external), Err).await?;
                metrics::counter!("capomastro_duplicate_builds_total").increment(1);
                OrphanVerdict::Cancelled
            }
        };
        self.give_verdict(draft, orphan, verdict).await.map(|()| None)
    }

    /// The late external build is the build's own.
    async fn adopt(&self, draft: &mut Draft<'_>, build: &Build, external: ExternalRef) -> Result<()> {
        let dependency = self.dependency_of(draft, build).await?;
        let situation = Situation {
            build,
            note: &crate::model::Note::default(),
            policy: &dependency.policy,
            promise: self.promise_of(build),
            now: draft.now()?,
        };
        if let Step::Advance { build, events, .. } = situation.found(Ok(Found::Build(external))) {
            for event in events {
                draft.event(event);
            }
            draft.due(DueChange::Nudge { task: Task::Drive(build.id), after: Duration::ZERO });
            draft.put(Record::Build(*build));
        }
        Ok(())
    }

    async fn give_verdict(
        &self,
        mut draft: Draft<'_>,
        orphan: &Orphan,
        verdict: OrphanVerdict,
    ) -> Result<()> {
        let judged = Orphan { verdict: Some(verdict), ..orphan.clone() };
        draft.load([Record::Orphan(judged.clone()).key()]).await?;
        draft.put(Record::Orphan(judged));
        self.commit(draft).await.map(drop)
    }
}
