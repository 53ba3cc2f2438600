//! Moving builds on: one look at the build system for all builds of a launcher that are due.

use super::{
    Inner,
    commit::Attempts,
    launching::{After, within_lease},
};
use crate::{
    Error, Result,
    error::ErrorKind,
    events::{Event, EventKind},
    launch::{BuildLauncher, Found, Report},
    lock::Lease,
    model::{Build, BuildId, ExternalRef, LaunchKey, LauncherName, Note, OrphanVerdict},
    store::{Claim, DueChange, Key, ListKey, Query, Record, Task},
    time::{Monotonic, Timestamp},
    track::{self, Ending, Next, Step},
};
use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use std::{future::Future, pin::pin, sync::Arc};

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
    pub(super) now: Timestamp,
}

impl Inner {
    pub(super) async fn drive(&self, job: DriveJob) {
        let DriveJob { name, items, asked, now } = job;
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
                let launcher = Arc::clone(&launcher);
                alone.push(async move {
                    let claim = item.claim.clone();
                    if let Err(error) = self.drive_alone(item, launcher, asked, now).await {
                        self.stall(claim, &error);
                    }
                });
            }
        }
        let together = self.observe(launcher.as_ref(), looked_at);
        let each = async { while alone.next().await.is_some() {} };
        futures_util::future::join(together, each).await;
    }

    /// Cuts a request to the build system off at its time-out.
    async fn in_time<T>(
        &self,
        request: impl Future<Output = T> + Send,
        otherwise: impl FnOnce(Error) -> T,
    ) -> T {
        match select(pin!(request), pin!(self.clock.sleep(self.config.request_timeout))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => {
                otherwise(Error::new(ErrorKind::TimedOut, "the build system did not answer in time"))
            }
        }
    }

    /// A build of which no reference is known: to be sent, or to be found.
    async fn drive_alone(
        &self,
        item: DriveItem,
        launcher: Arc<dyn BuildLauncher>,
        asked: Monotonic,
        now: Timestamp,
    ) -> Result<()> {
        let DriveItem { claim, build } = item;
        self.renew_lease(&build).await;
        let dependency = self.dependency_of(&build).await?;
        match track::next(&build, launcher.promise(), &dependency.policy, now) {
            Next::Admit | Next::Send => self.admit_and_send(build.id, &claim, &dependency).await,
            Next::Wait(after) => {
                let waits_for = Some("the build system to say whether it has the build".to_owned());
                let note =
                    Note { waits_for: claim.note.waits_for.clone().or(waits_for), ..claim.note.clone() };
                self.give_back(claim, within_lease(after, Some(&build)), note);
                Ok(())
            }
            Next::End(ending) => self.end_and_go_on(build.id, &claim, &ending).await,
            // A build without a reference cannot be looked at; it can be looked for.
            Next::Find | Next::Observe => {
                let request = self.request(&build, &dependency, asked);
                let found: Result<Found> = self.in_time(launcher.find(&request), Err).await;
                let mut attempts = Attempts::default();
                loop {
                    let mut draft = self.draft();
                    let Some(stored) = draft.build(build.id).await?.filter(|b| b.external.is_none()) else {
                        let note = claim.note.clone();
                        self.give_back(claim, std::time::Duration::ZERO, note);
                        return Ok(());
                    };
                    let step = track::found(&stored, &found, &dependency.policy, &claim.note, draft.now()?);
                    match self.perform_step(draft, build.id, &claim, step).await {
                        Ok(After::Send) => return self.admit_and_send(build.id, &claim, &dependency).await,
                        Ok(After::Launch(begun)) => {
                            self.launch_begun(*begun).await;
                            return Ok(());
                        }
                        Ok(After::Nothing) => return Ok(()),
                        Err(e) => attempts.again(e)?,
                    }
                }
            }
        }
    }

    async fn end_and_go_on(&self, id: BuildId, claim: &Claim, ending: &Ending) -> Result<()> {
        if let Some(begun) = self.end(id, Some(claim), ending).await? {
            self.launch_begun(begun).await;
        }
        Ok(())
    }

    /// One look at the build system for all these builds.
    #[tracing::instrument(name = "capomastro.observe", skip_all, fields(builds = items.len()))]
    async fn observe(&self, launcher: &dyn BuildLauncher, items: Vec<DriveItem>) {
        if items.is_empty() {
            return;
        }
        let asked: Vec<(LaunchKey, ExternalRef)> =
            items.iter().filter_map(|i| Some((i.build.key, i.build.external.clone()?))).collect();
        let mut reports = self
            .in_time(launcher.observe(&asked), |e| {
                asked.iter().map(|_| Err(Error::new(e.kind(), e.message().to_owned()))).collect()
            })
            .await;
        if reports.len() != items.len() {
            reports = items
                .iter()
                .map(|_| {
                    Err(Error::internal("the launcher gave another number of reports than there were builds"))
                })
                .collect();
        }
        let mut settling: FuturesUnordered<_> = items
            .into_iter()
            .zip(reports)
            .map(|(item, report)| async move {
                let claim = item.claim.clone();
                if let Err(error) = self.settle_report(launcher, item, report).await {
                    self.stall(claim, &error);
                }
            })
            .collect();
        while settling.next().await.is_some() {}
    }

    async fn settle_report(
        &self,
        launcher: &dyn BuildLauncher,
        item: DriveItem,
        report: Result<Report>,
    ) -> Result<()> {
        let DriveItem { claim, build } = item;
        self.renew_lease(&build).await;
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.draft();
            draft.load([Key::Build(build.id), Key::Dependency(build.dependency)]).await?;
            let (Some(stored), Some(dependency)) =
                (draft.build(build.id).await?, draft.dependency(build.dependency).await?)
            else {
                return Ok(());
            };
            if stored.phase.is_terminal() {
                draft.claim(claim.clone());
                draft.due(DueChange::Done { task: claim.task });
                self.commit(draft).await?;
                return Ok(());
            }
            let step = track::reported(&stored, &report, &dependency.policy, &claim.note, draft.now()?);
            if stored.stop.is_some() && !matches!(step, Step::End(_)) {
                self.ask_stop(launcher, &stored).await;
            }
            match self.perform_step(draft, build.id, &claim, step).await {
                Ok(After::Launch(begun)) => {
                    self.launch_begun(*begun).await;
                    return Ok(());
                }
                Ok(After::Nothing | After::Send) => return Ok(()),
                Err(e) => attempts.again(e)?,
            }
        }
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
        let renewed = match self.lock.renew(std::slice::from_ref(lease)).await.into_iter().next() {
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
                Err(e) => attempts.again(e)?,
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
                Err(e) => attempts.again(e)?,
            }
        }
    }

    /// Whether a reference means the build that is being driven: a queue item may have become a build meanwhile, so that
    /// only the build system can tell.
    async fn is_own(&self, launcher: &dyn BuildLauncher, build: &Build, found: &ExternalRef) -> Result<bool> {
        let Some(own) = &build.external else { return Ok(false) };
        if own == found {
            return Ok(true);
        }
        let asked = [(build.key, found.clone()), (build.key, own.clone())];
        let reports = self
            .in_time(launcher.observe(&asked), |e| vec![Err(Error::new(e.kind(), e.message().to_owned()))])
            .await;
        let mut names = Vec::with_capacity(asked.len());
        for (report, (_, name)) in reports.into_iter().zip(&asked) {
            names.push(report?.external.unwrap_or_else(|| name.clone()));
        }
        match names.as_slice() {
            [found_now, own_now] => Ok(found_now == own_now),
            _ => Err(Error::internal("the launcher gave another number of reports than there were builds")),
        }
    }

    /// External builds that turned up late: each is the build's own, or the build system is asked to stop it.
    pub(super) async fn judge_due(&self, claim: &Claim, id: BuildId) -> Result<()> {
        let mut draft = self.draft();
        draft.claim(claim.clone());
        draft.due(DueChange::Done { task: claim.task });
        let query = Query::List { list: ListKey::orphans_of(id), backwards: false };
        let page = self.store.list(&query, None, 100).await?;
        let Some(mut build) = draft.build(id).await? else {
            self.commit(draft).await?;
            return Ok(());
        };
        let launcher = Arc::clone(self.launcher(&build.launcher)?);
        for item in page.items {
            let Record::Orphan(found) = item.record else { continue };
            let key = Key::Orphan(id, found.external.0.clone());
            let Some(Record::Orphan(mut orphan)) = draft.record(key).await? else { continue };
            if orphan.verdict.is_some() {
                continue;
            }
            let adoptable = !build.phase.is_terminal() && build.external.is_none();
            let own = self.is_own(launcher.as_ref(), &build, &orphan.external).await?;
            orphan.verdict = Some(if own {
                OrphanVerdict::Adopted
            } else if adoptable {
                let now = draft.now()?;
                let asked = Ok(Found::Build(orphan.external.clone()));
                if let Step::Advance { build: next, .. } =
                    track::found(&build, &asked, &crate::model::Policy::default(), &claim.note, now)
                {
                    build = *next;
                    draft.put(Record::Build(build.clone()));
                    draft.due(DueChange::Nudge { task: Task::Drive(id), after: std::time::Duration::ZERO });
                }
                OrphanVerdict::Adopted
            } else {
                metrics::counter!("capomastro_duplicate_builds_total").increment(1);
                self.in_time(launcher.cancel(&build.key, &orphan.external), Err).await?;
                OrphanVerdict::Cancelled
            });
            draft.put(Record::Orphan(orphan));
        }
        self.commit(draft).await.map(drop)
    }
}
