//! Taking due work and sorting it into jobs.

use super::{
    Inner, Scheduler,
    drive::{DriveItem, DriveJob},
    house::HouseJob,
    look::{LookItem, LookJob, Taken},
};
use crate::{
    Result,
    error::ErrorKind,
    model::{LauncherName, Note, ProbeKey, ProbeName},
    schedule::backoff,
    store::{Claim, ClaimAsk, Claimed, DueChange, Key, Lane, LaneAsk, PutBack, Record, Task},
    time::{Monotonic, until},
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

/// What a tick did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TickReport {
    /// How many tasks were due and taken.
    pub taken: usize,
    /// How long until the next known task is due, by the store's time; `None` if there is none.
    pub next_due_in: Option<Duration>,
}

/// Work that was taken, sorted: each job is one future that can fail alone.
#[derive(Debug)]
pub(super) enum Job {
    Look(LookJob),
    Drive(DriveJob),
    House(HouseJob),
}

impl Job {
    pub(super) fn lane(&self) -> Lane {
        match self {
            Self::Look(job) => Lane::Probe(job.name.clone()),
            Self::Drive(job) => Lane::Launcher(job.name.clone()),
            Self::House(_) => Lane::House,
        }
    }

    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Look(job) => job.items.len(),
            Self::Drive(job) => job.items.len(),
            Self::House(_) => 1,
        }
    }
}

impl Scheduler {
    /// Does what is due now, once, and returns when it is done.
    ///
    /// What becomes due meanwhile is left to the next tick; so is work beyond
    /// [`at_once`](super::SchedulerBuilder::at_once) and [`builds_at_once`](super::SchedulerBuilder::builds_at_once).
    ///
    /// *Cancellation*: dropping the future is a crash: nothing that was recorded is lost, and what was begun is gone on with
    /// when its claim ends.
    ///
    /// # Errors
    /// When the store cannot be asked for due work. What goes wrong with a single task is logged, shows in its health or
    /// its build, and is tried again.
    #[tracing::instrument(name = "capomastro.tick", skip_all)]
    pub async fn tick(&self) -> Result<TickReport> {
        let inner = &self.inner;
        inner.start_house().await?;
        let asked = inner.clock.monotonic();
        let claimed = inner.store.claim_due(&inner.ask(&BTreeMap::new())).await?;
        let report = TickReport {
            taken: claimed.claims.len(),
            next_due_in: claimed.next_due.map(|at| until(claimed.now, at)),
        };
        let jobs = inner.sort(claimed, asked).await?;
        let mut running: FuturesUnordered<_> = jobs.into_iter().map(|job| inner.perform(job)).collect();
        while running.next().await.is_some() {}
        drop(running);
        inner.flush().await;
        Ok(report)
    }
}

impl Inner {
    /// What to ask the store for, given what is being worked on.
    pub(super) fn ask(&self, busy: &BTreeMap<Lane, usize>) -> ClaimAsk {
        let free = |lane: &Lane| {
            let most = match lane {
                Lane::Launcher(_) => self.config.builds_at_once,
                Lane::Probe(_) | Lane::House => self.config.at_once,
            };
            most.saturating_sub(busy.get(lane).copied().unwrap_or_default())
        };
        let probes = self.probes.keys().map(|n| (Lane::Probe(n.clone()), self.config.look_lease));
        let launchers = self.launchers.keys().map(|n| (Lane::Launcher(n.clone()), self.config.drive_lease));
        let lanes = std::iter::once((Lane::House, self.config.drive_lease))
            .chain(launchers)
            .chain(probes)
            .map(|(lane, lease)| LaneAsk { limit: free(&lane), lane, lease })
            .filter(|l| l.limit > 0)
            .collect();
        ClaimAsk { lanes, holder: self.holder.clone() }
    }

    /// Loads what the claims are about, and puts together what one run answers.
    pub(super) async fn sort(&self, claimed: Claimed, asked: Monotonic) -> Result<Vec<Job>> {
        let Claimed { now, claims, .. } = claimed;
        let taken = Taken { asked, at: now, answered: self.clock.monotonic() };
        self.follow_clock(now).await;
        metrics::counter!("capomastro_tasks_total").increment(claims.len() as u64);
        if let Some(oldest) = claims.iter().map(|c| c.due_at).min() {
            metrics::histogram!("capomastro_lag_seconds").record(until(oldest, now).as_secs_f64());
        }
        let mut looks: BTreeMap<ProbeName, BTreeMap<ProbeKey, Vec<LookItem>>> = BTreeMap::new();
        let mut drives: BTreeMap<LauncherName, Vec<DriveItem>> = BTreeMap::new();
        let mut jobs = Vec::new();
        for (claim, records) in self.read_about(claims).await? {
            match (claim.task, records) {
                (Task::Look(_), [Some(Record::Dependency(dependency)), Some(Record::State(state))]) => {
                    match self.key_of(&dependency.source) {
                        Ok(key) => {
                            let probe = &dependency.source.probe;
                            if !looks.contains_key(probe) {
                                looks.insert(probe.clone(), BTreeMap::new());
                            }
                            if let Some(keys) = looks.get_mut(probe) {
                                // Most sources are alone with their key.
                                let items = keys.entry(key).or_insert_with(|| Vec::with_capacity(1));
                                items.push(LookItem { claim, dependency, state });
                            }
                        }
                        Err(error) => {
                            let item = LookItem { claim, dependency, state };
                            jobs.push(Job::Look(LookJob::broken(item, error, taken)));
                        }
                    }
                }
                (Task::Drive(_), [Some(Record::Build(build)), _]) if !build.phase.is_terminal() => {
                    drives.entry(build.launcher.clone()).or_default().push(DriveItem { claim, build });
                }
                (Task::Look(_) | Task::Drive(_), _) => self.forget_task(claim).await,
                _ => jobs.push(Job::House(HouseJob { claim })),
            }
        }
        for (name, keys) in looks {
            jobs.extend(
                keys.into_iter().map(|(key, items)| Job::Look(LookJob::new(name.clone(), key, items, taken))),
            );
        }
        jobs.extend(drives.into_iter().map(|(name, items)| Job::Drive(DriveJob { name, items, asked })));
        Ok(jobs)
    }

    /// The claims with what they are about, read at once. A claim whose records cannot be read is given back: it must not
    /// hold up the others.
    async fn read_about(&self, claims: Vec<Claim>) -> Result<Vec<(Claim, [Option<Record>; 2])>> {
        let keys: Vec<Key> = claims.iter().flat_map(|c| keys_of(c.task)).flatten().collect();
        match self.read(&keys).await {
            Ok(mut records) => Ok(claims
                .into_iter()
                .map(|claim| {
                    let about = keys_of(claim.task).map(|key| key.and_then(|_| records.next().flatten()));
                    (claim, about)
                })
                .collect()),
            Err(e) if matches!(e.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat) => {
                let mut readable = Vec::with_capacity(claims.len());
                for claim in claims {
                    let keys: Vec<Key> = keys_of(claim.task).into_iter().flatten().collect();
                    match self.read(&keys).await {
                        Ok(mut records) => {
                            readable.push((claim, [records.next().flatten(), records.next().flatten()]));
                        }
                        Err(error) => self.stall(claim, &error),
                    }
                }
                Ok(readable)
            }
            Err(e) => Err(e),
        }
    }

    /// The records of these keys, in their order.
    async fn read(&self, keys: &[Key]) -> Result<impl Iterator<Item = Option<Record>> + Send + use<>> {
        let records = if keys.is_empty() { Vec::new() } else { self.store.get(keys).await?.records };
        Ok(records.into_iter().map(|stored| stored.map(|v| v.record)))
    }

    /// Does a job. What goes wrong is logged, and the task is tried again.
    pub(super) async fn perform(&self, job: Job) {
        match job {
            Job::Look(job) => self.look(job).await,
            // Apart, so that the many looks stay small.
            Job::Drive(job) => Box::pin(self.drive(job)).await,
            Job::House(job) => Box::pin(self.keep_house(job)).await,
        }
    }

    /// Gives a claim back: the task is due again after this long.
    pub(super) fn give_back(&self, claim: Claim, after: Duration, note: Note) {
        self.returns.lock().unwrap_or_else(PoisonError::into_inner).push(PutBack { claim, after, note });
    }

    /// Gives a claim back after something went wrong with it, later each time.
    pub(super) fn stall(&self, claim: Claim, error: &crate::Error) {
        if matches!(error.kind(), ErrorKind::ClaimLost) {
            tracing::debug!(task = %claim.task, "another scheduler has taken the task over");
            return;
        }
        metrics::counter!("capomastro_task_errors_total", "kind" => error.kind().as_str()).increment(1);
        tracing::warn!(task = %claim.task, error = %error.report(), "a task failed and is tried again");
        let stalls = claim.note.stalls.saturating_add(1);
        let note = Note { stalls, waits_for: Some(error.report()), ..claim.note.clone() };
        self.give_back(claim, backoff(stalls, Duration::from_millis(500), false).min(MOST_STALL), note);
    }

    /// Writes what was given back.
    pub(super) async fn flush(&self) {
        let items = std::mem::take(&mut *self.returns.lock().unwrap_or_else(PoisonError::into_inner));
        if !items.is_empty()
            && let Err(error) = self.store.put_back(&self.holder, &items).await
        {
            // The leases end by themselves.
            tracing::warn!(error = %error.report(), tasks = items.len(), "claims could not be given back");
        }
    }

    /// The task is about something that is gone.
    async fn forget_task(&self, claim: Claim) {
        let mut draft = self.draft();
        draft.due(DueChange::Done { task: claim.task });
        draft.claim(claim.clone());
        if let Err(error) = self.commit(draft).await {
            self.stall(claim, &error);
        }
    }
}

/// A task that keeps failing is tried again at least this often.
const MOST_STALL: Duration = Duration::from_secs(60);

/// What a task is about.
const fn keys_of(task: Task) -> [Option<Key>; 2] {
    match task {
        Task::Look(id) => [Some(Key::Dependency(id)), Some(Key::State(id))],
        Task::Drive(id) => [Some(Key::Build(id)), None],
        _ => [None, None],
    }
}
