//! Work that needs neither probe nor launcher: evaluations, releases, sweeping.

use super::{
    Inner,
    apply::Applying,
    commit::Attempts,
    launching::Begun,
    look::{count, counted},
    set_back::tells_of_set_back,
};
use crate::{
    Result,
    decide::Occasion,
    error::ErrorKind,
    model::{DependencyId, Note},
    store::{Claim, DueChange, Key, Lane, Record, Task},
};
use std::{sync::atomic::Ordering, time::Duration};

/// One task of the house.
#[derive(Debug)]
pub(super) struct HouseJob {
    pub(super) claim: Claim,
}

/// How often what need not be kept is looked for.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

impl Inner {
    /// Makes the house's own recurring work due, once for a store.
    pub(super) async fn start_house(&self) -> Result<()> {
        if self.housed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let stored = match self.store.get(&[Key::Due(Task::Sweep)]).await {
            Ok(stored) => stored,
            // It is there. Whoever takes it, or mends it, goes on with it.
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat) => {
                tracing::warn!(error = %error.report(), "the house's own work cannot be read");
                self.housed.store(true, Ordering::Relaxed);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match stored.records.first().and_then(Option::as_ref).map(|v| &v.record) {
            Some(Record::Due(row)) => {
                if tells_of_set_back(row.due_at, stored.at) {
                    self.make_all_due().await?;
                }
            }
            _ => {
                let mut draft = self.draft();
                let after = SWEEP_EVERY;
                draft.due(DueChange::Set { task: Task::Sweep, lane: Lane::House, after, note: None });
                self.commit(draft).await?;
            }
        }
        self.housed.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(super) async fn keep_house(&self, job: HouseJob) {
        let claim = job.claim;
        let done = match claim.task {
            Task::Evaluate(id) => self.evaluate_due(&claim, id).await,
            Task::Release(id) => self.release_due(&claim, id).await,
            Task::Judge(id) => self.judge_due(&claim, id).await,
            Task::Trim(id) => self.trim_due(&claim, id).await,
            Task::Sweep => self.sweep_due(&claim).await,
            Task::Look(_) | Task::Drive(_) => Ok(()),
        };
        if let Err(error) = done {
            self.stall(claim, &error);
        }
    }

    /// A retry may be due, or a lock that is kept elsewhere may be free.
    async fn evaluate_due(&self, claim: &Claim, id: DependencyId) -> Result<()> {
        let mut attempts = Attempts::default();
        loop {
            match self.try_evaluate_due(claim, id).await {
                Ok(Some(begun)) => {
                    drop(attempts);
                    self.launch_begun(begun).await;
                    return Ok(());
                }
                Ok(None) => return Ok(()),
                Err(error) => attempts.again(self, error).await?,
            }
        }
    }

    async fn try_evaluate_due(&self, claim: &Claim, id: DependencyId) -> Result<Option<Begun>> {
        let asked = self.clock.monotonic();
        let mut draft = self.draft();
        draft.claim(claim.clone());
        draft.due(DueChange::Done { task: claim.task });
        draft.load(Self::keys_about(id)).await?;
        let (Some(dependency), Some(state)) = (draft.dependency(id).await?, draft.state(id).await?) else {
            self.commit(draft).await?;
            return Ok(None);
        };
        let now = draft.now()?;
        let mut applying = Applying::new(self, dependency, now);
        applying.asked = asked;
        let evaluation = applying.evaluate(&mut draft, state.clone(), &Occasion::Released).await?;
        if let Some(after) = evaluation.evaluate_within
            && evaluation.state == state
            && !evaluation.decided.is_empty()
            && evaluation.decided.iter().all(|d| d.counted)
        {
            // Still held elsewhere: nothing is worth a durable commit.
            let names = evaluation.decided.iter().map(|d| d.decision.name());
            let note = names.fold(counted(claim, now, ""), count);
            self.give_back(claim.clone(), after, note);
            return Ok(None);
        }
        applying.apply(&mut draft, evaluation).await?;
        applying.commit(draft).await
    }

    /// The build has ended, and its lock is kept elsewhere.
    async fn release_due(&self, claim: &Claim, id: crate::model::BuildId) -> Result<()> {
        let mut draft = self.draft();
        draft.claim(claim.clone());
        draft.due(DueChange::Done { task: claim.task });
        if let Some(lease) = draft.ended_build(id).await?.and_then(|b| b.lease) {
            match self.in_time(self.lock.release(&lease), Err).await {
                Err(e) if e.kind() != ErrorKind::LeaseLost => {
                    return Err(e.with_operation("release the lock"));
                }
                _ => {}
            }
        }
        self.commit(draft).await.map(drop)
    }

    async fn sweep_due(&self, claim: &Claim) -> Result<()> {
        let more = self.sweep().await?;
        let after = if more { Duration::from_millis(100) } else { SWEEP_EVERY };
        let note = Note { stalls: 0, waits_for: None, ..claim.note.clone() };
        self.give_back(claim.clone(), after, note);
        Ok(())
    }
}
