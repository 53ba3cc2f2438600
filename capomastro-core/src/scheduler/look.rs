//! Looking at sources: one run of a probe for all dependencies it answers for, then one commit for each that changed.

use super::{Inner, apply::Applying, commit::Attempts};
use crate::{
    Error, Result, Retry,
    decide::{Context, Decided, Decision, LockView, Occasion, evaluate, is_steady},
    detect::{Answer, Detection, Look, detect},
    error::ErrorKind,
    events::Event,
    model::{
        BuildId, Cause, Dependency, DependencyState, Health, Note, ProbeFailure, ProbeKey, ProbeName,
        ReceiptId, StoredTrigger, Trigger,
    },
    probe::Ask,
    schedule::{Schedule, adaptive, backoff, next_due},
    store::{Claim, Draft, DueChange, Key, Lane, Task},
    time::{Monotonic, Timestamp, later, until},
    track::printable,
};
use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use std::{pin::pin, time::Duration};

/// One dependency to look at, as it stood when the look began.
#[derive(Debug)]
pub(super) struct LookItem {
    pub(super) claim: Claim,
    pub(super) dependency: Dependency,
    pub(super) state: DependencyState,
}

/// Dependencies that one run of a probe answers for.
#[derive(Debug)]
pub(super) struct LookJob {
    pub(super) name: ProbeName,
    pub(super) items: Vec<LookItem>,
    key: Result<ProbeKey, Error>,
    taken: Taken,
}

/// When claims were taken.
#[derive(Copy, Clone, Debug)]
pub(super) struct Taken {
    /// Just before the store was asked.
    pub(super) asked: Monotonic,
    /// What the store's clock showed.
    pub(super) at: Timestamp,
    /// Just after it had answered.
    pub(super) answered: Monotonic,
}

/// How long before the end of a claim a look must have ended.
const MARGIN: Duration = Duration::from_secs(10);
/// How soon a source that was not found is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// When a look that no schedule wants is due.
const NEVER: Duration = Duration::from_secs(100 * 366 * 86_400);

impl LookJob {
    pub(super) const fn new(name: ProbeName, key: ProbeKey, items: Vec<LookItem>, taken: Taken) -> Self {
        Self { name, items, key: Ok(key), taken }
    }

    /// A look whose source the probe cannot parse any more.
    pub(super) fn broken(item: LookItem, error: Error, taken: Taken) -> Self {
        Self { name: item.dependency.source.probe.clone(), items: vec![item], key: Err(error), taken }
    }
}

impl Inner {
    /// What answers together with this source, by its probe.
    pub(super) fn key_of(&self, source: &crate::model::Source) -> Result<ProbeKey> {
        let probe = self.probes.get(&source.probe).ok_or_else(|| {
            Error::config("no probe of this name is registered: register it when the scheduler is built, or edit the source")
                .with_context("probe", &source.probe)
        })?;
        probe.key(source)
    }

    pub(super) async fn look(&self, job: LookJob) {
        let LookJob { name, mut items, key, taken } = job;
        let answers = match key {
            Err(error) => items.iter().map(|_| failed(&error)).collect(),
            Ok(key) => {
                let longest = longest_deadline(&items);
                let permit = match self.budgets.take(&name, &key, self.clock.monotonic(), longest) {
                    Ok(permit) => permit,
                    Err(wait) => {
                        for item in items {
                            let note = Note { waits_for: Some(wait.why.clone()), ..item.claim.note.clone() };
                            self.give_back(item.claim, wait.wait, note);
                        }
                        return;
                    }
                };
                let claimed_until = taken.asked.plus(self.config.look_lease).minus(MARGIN);
                if claimed_until < self.clock.monotonic().plus(longest) {
                    items = Box::pin(self.hold_looks(items, longest + MARGIN * 2)).await;
                }
                let now = later(taken.at, self.clock.monotonic().since(taken.answered));
                let answers = self.probe(&name, &items, now).await;
                drop(permit);
                answers
            }
        };
        // By the store's clock, as far as this process can tell without asking it again.
        let now = later(taken.at, self.clock.monotonic().since(taken.answered));
        let before = items.len();
        let rest: Vec<_> =
            items.into_iter().zip(answers).filter_map(|(i, a)| self.settle_steady(i, a, now)).collect();
        let steady = u64::try_from(before - rest.len()).unwrap_or_default();
        if steady > 0 {
            metrics::counter!("capomastro_decisions_total", "decision" => Decision::Unchanged.name())
                .increment(steady);
        }
        if !rest.is_empty() {
            // Apart, so that the looks of which nothing comes stay small.
            Box::pin(self.settle_all(rest)).await;
        }
    }

    async fn settle_all(&self, answered: Vec<(LookItem, Answer)>) {
        let mut applying: FuturesUnordered<_> =
            answered.into_iter().map(|(item, answer)| self.settle(item, answer)).collect();
        while applying.next().await.is_some() {}
    }

    /// Gives a look back of which nothing comes, by the state on which it was begun: it is as if it had ended at once, and
    /// whatever has changed since has made the next look due where it wants one. Everything else is given to the caller.
    fn settle_steady(&self, item: LookItem, answer: Answer, now: Timestamp) -> Option<(LookItem, Answer)> {
        let LookItem { claim, dependency, state } = &item;
        let Answer::Probed(probed) = &answer else { return Some((item, answer)) };
        let (is_due, regardless_due) = regardless_due(dependency, state, now);
        if is_due
            || regardless_due != state.regardless_due
            || dependency.deleted_at.is_some()
            || !is_steady(state, claim.ticket, probed, now)
        {
            return Some((item, answer));
        }
        let after = self.next_look(dependency, state, Detection::Seen, (None, None), now);
        let mut claim = item.claim;
        let note = count(ran(std::mem::take(&mut claim.note), now), Decision::Unchanged.name());
        self.give_back(claim, after, note);
        None
    }

    /// One run of a probe.
    #[tracing::instrument(name = "capomastro.probe", skip_all, fields(probe = %name, asks = items.len()))]
    async fn probe(&self, name: &ProbeName, items: &[LookItem], now: Timestamp) -> Vec<Answer> {
        let Some(probe) = self.probes.get(name) else {
            let error = Error::config("no probe of this name is registered");
            return items.iter().map(|_| failed(&error)).collect();
        };
        let deadline = longest_deadline(items);
        let ask = |item: &LookItem| {
            let mut ask = self.ask_of(&item.dependency, &item.state, deadline);
            ask.trigger_age = item.state.stored.iter().map(|s| until(s.since, now)).min();
            ask
        };
        let asks: Vec<Ask> = items.iter().map(ask).collect();
        let began = self.clock.monotonic();
        let answered = match select(pin!(probe.probe(&asks)), pin!(self.clock.sleep(deadline))).await {
            Either::Left((answers, _)) => Some(answers),
            Either::Right(_) => None,
        };
        let took = self.clock.monotonic().0.saturating_sub(began.0);
        metrics::histogram!("capomastro_probe_seconds", "probe" => name.to_string())
            .record(took.as_secs_f64());
        metrics::counter!("capomastro_probes_total", "probe" => name.to_string()).increment(1);
        let Some(answers) = answered else {
            let error = Error::new(ErrorKind::TimedOut, "the probe did not answer within its deadline")
                .with_context("deadline", format!("{deadline:?}"));
            let labels = [("probe", name.to_string()), ("kind", error.kind().as_str().to_owned())];
            metrics::counter!("capomastro_probe_failures_total", &labels).increment(items.len() as u64);
            return items.iter().map(|_| failed(&error)).collect();
        };
        if answers.len() != items.len() {
            let error = Error::internal("the probe gave another number of answers than there were asks")
                .with_context("asks", items.len())
                .with_context("answers", answers.len());
            return items.iter().map(|_| failed(&error)).collect();
        }
        answers
            .into_iter()
            .map(|answer| match answer {
                Ok(probed) => Answer::Probed(probed),
                Err(error) => {
                    let labels = [("probe", name.to_string()), ("kind", error.kind().as_str().to_owned())];
                    metrics::counter!("capomastro_probe_failures_total", &labels).increment(1);
                    failed(&error)
                }
            })
            .collect()
    }

    /// Holds the claims of looks that may take longer than a claim usually lasts, each alone; what another has taken over,
    /// or cannot be held, is left to the next claim.
    async fn hold_looks(&self, items: Vec<LookItem>, lease: Duration) -> Vec<LookItem> {
        let mut held = Vec::with_capacity(items.len());
        for item in items {
            let mut draft = self.draft();
            draft.claim(item.claim.clone());
            draft.due(DueChange::Hold {
                task: item.claim.task,
                lane: Lane::Probe(item.dependency.source.probe.clone()),
                lease,
            });
            match self.commit(draft).await {
                Ok(_) => held.push(item),
                Err(error) => self.stall(item.claim, &error),
            }
        }
        held
    }

    pub(super) fn ask_of(&self, dependency: &Dependency, state: &DependencyState, deadline: Duration) -> Ask {
        let mut ask =
            Ask::new(dependency.name.clone(), dependency.source.clone(), deadline, self.secrets.clone());
        ask.seen = state.observed_revision().cloned();
        ask.cursor = state.observed.as_ref().and_then(|o| o.cursor.clone());
        ask.accounted = state.accounted_revision().cloned();
        ask.last_start = state.last_start;
        ask.building = state.held.is_some();
        ask.wanted = state.stored.iter().any(|s| s.cause.trigger.is_forced())
            || state.regardless_due.is_some_and(|at| at <= self.clock.now());
        ask
    }

    /// What one answer means, decided and written.
    async fn settle(&self, item: LookItem, answer: Answer) {
        let claim = item.claim.clone();
        let look = Look {
            ticket: claim.ticket,
            epoch: item.state.epoch,
            accounted: item.state.accounted_revision().cloned(),
            satisfies: item.state.stored.iter().map(|s| s.receipt).collect(),
        };
        let mut attempts = Attempts::default();
        loop {
            match self.try_settle(&claim, &look, &answer).await {
                Ok(Some(begun)) => {
                    drop(attempts);
                    return self.launch_begun(begun).await;
                }
                Ok(None) => return,
                Err(error) => {
                    if let Err(error) = attempts.again(self, error).await {
                        return self.stall(claim, &error);
                    }
                }
            }
        }
    }

    async fn try_settle(
        &self,
        claim: &Claim,
        look: &Look,
        answer: &Answer,
    ) -> Result<Option<super::launching::Begun>> {
        let Task::Look(id) = claim.task else { return Ok(None) };
        let mut draft = self.draft();
        draft.load([Key::Dependency(id), Key::State(id)]).await?;
        let (Some(dependency), Some(before)) = (draft.dependency(id).await?, draft.state(id).await?) else {
            draft.claim(claim.clone());
            draft.due(DueChange::Done { task: claim.task });
            self.commit(draft).await?;
            return Ok(None);
        };
        let now = draft.now()?;
        let detected = detect(&before, look, answer, now);
        if detected.detection == Detection::Stale {
            metrics::counter!("capomastro_decisions_total", "decision" => "Stale").increment(1);
            let note = counted(claim, now, "Stale");
            self.give_back(claim.clone(), Duration::ZERO, note);
            return Ok(None);
        }
        let mut state = detected.state;
        let mut satisfies = look.satisfies.clone();
        let mut schedule_receipts = Vec::new();
        if detected.detection == Detection::Seen {
            let receipt = self.regardless(&dependency, &mut state, now);
            satisfies.extend(receipt);
            schedule_receipts.extend(receipt);
        }
        let occasion = match detected.detection {
            Detection::Seen => Some(Occasion::Seen { satisfies }),
            Detection::NotFound { twice } => Some(Occasion::NotFound { satisfies, twice }),
            Detection::Failed | Detection::Nothing | Detection::Stale => None,
        };
        let mut applying = Applying::new(self, dependency, now);
        applying.asked = self.clock.monotonic();
        let mut decided: Vec<Decided> = Vec::new();
        let (mut look_within, mut written) = (None, false);
        for event in detected.events {
            draft.event(Event::of_dependency(id, event));
            written = true;
        }
        if let Some(occasion) = occasion {
            let evaluation = applying.evaluate(&mut draft, state, &occasion).await?;
            look_within = evaluation.look_within;
            decided.clone_from(&evaluation.decided);
            written |= !schedule_receipts.is_empty();
            state = applying.apply(&mut draft, evaluation).await?;
        } else {
            draft.put(crate::store::Record::State(state.clone()));
        }
        let left_alone = match answer {
            Answer::Failed(failure) => failure.retry_after,
            Answer::Probed(_) => None,
        };
        let within = (look_within, left_alone);
        let after = self.next_look(&applying.dependency, &state, detected.detection, within, now);
        let mut note = decided
            .iter()
            .filter(|d| d.counted)
            .fold(counted(claim, now, ""), |note, d| count(note, d.decision.name()));
        note.waits_for =
            applying.kept_by.as_ref().map(|by| format!("the lock, which is kept elsewhere: {by}"));
        if !written && is_uneventful(&before, &state, &decided) {
            for d in &decided {
                metrics::counter!("capomastro_decisions_total", "decision" => d.decision.name()).increment(1);
            }
            self.give_back(claim.clone(), after, note);
            return Ok(None);
        }
        let lane = Lane::Probe(applying.dependency.source.probe.clone());
        draft.due(DueChange::Set { task: claim.task, lane, after, note: Some(note) });
        draft.claim(claim.clone());
        applying.commit(draft).await
    }

    /// A "build regardless" that is due becomes a forced trigger that this look satisfies.
    fn regardless(
        &self,
        dependency: &Dependency,
        state: &mut DependencyState,
        now: Timestamp,
    ) -> Option<ReceiptId> {
        let (due, next) = regardless_due(dependency, state, now);
        state.regardless_due = next;
        if !due || dependency.policy.build_regardless == Schedule::Never {
            return None;
        }
        let receipt = ReceiptId::draw(now, self.random.as_ref());
        state.stored.push(StoredTrigger {
            cause: Cause {
                trigger: Trigger::Schedule,
                requester: None,
                receipt: Some(receipt),
                project_build: None,
            },
            receipt,
            parameters: crate::model::Parameters::new(),
            build_key: None,
            on_held: None,
            since: now,
        });
        Some(receipt)
    }

    /// When to look again: within so long at the latest, and not before the other side wants to be asked.
    fn next_look(
        &self,
        dependency: &Dependency,
        state: &DependencyState,
        detection: Detection,
        (within, left_alone): (Option<Duration>, Option<Duration>),
        now: Timestamp,
    ) -> Duration {
        let scheduled = match dependency.policy.look {
            Schedule::Adaptive { shortest, longest } => {
                let moved_at = state.observed.as_ref().map_or(dependency.created_at, |o| o.moved_at);
                adaptive(shortest, longest, until(moved_at, now), dependency.id)
            }
            _ => next_due(&dependency.policy.look, dependency.created_at, dependency.id, now)
                .map_or(NEVER, |at| until(now, at)),
        };
        // One that is due and could not be decided waits for the looks that are due anyhow, and for its own next time.
        let regardless = match state.regardless_due {
            Some(at) if at > now => Some(at),
            Some(_) => {
                next_due(&dependency.policy.build_regardless, dependency.created_at, dependency.id, now)
            }
            None => None,
        };
        let regardless = regardless.map_or(NEVER, |at| until(now, at));
        match (&detection, &state.health) {
            (Detection::Failed, Health::Failing { failures, kind, .. }) => {
                let base = match dependency.policy.look {
                    Schedule::Every(interval) => interval,
                    Schedule::Adaptive { shortest, .. } => shortest,
                    _ => Duration::from_secs(60),
                };
                backoff(*failures, base, is_permanent_name(kind)).max(left_alone.unwrap_or_default())
            }
            (Detection::NotFound { twice: false }, _) => LOOK_AGAIN.min(scheduled),
            _ => scheduled.min(regardless).min(within.unwrap_or(NEVER)),
        }
    }
}

/// Whether a "build regardless" is due, and when the next one is.
fn regardless_due(
    dependency: &Dependency,
    state: &DependencyState,
    now: Timestamp,
) -> (bool, Option<Timestamp>) {
    let next = next_due(&dependency.policy.build_regardless, dependency.created_at, dependency.id, now);
    if state.regardless_due.is_some_and(|at| at <= now) {
        return (true, next);
    }
    // The earlier of the two, so that a clock that was set back does not stretch the wait.
    (false, state.regardless_due.min(next).or(next))
}

/// Whether nothing is worth a durable commit: the state says what it said, and each decision only repeats the last.
fn is_uneventful(before: &DependencyState, after: &DependencyState, decided: &[Decided]) -> bool {
    if !decided.iter().all(|d| d.counted) {
        return false;
    }
    let mut same = after.clone();
    same.applied_ticket = before.applied_ticket;
    same == *before
}

fn longest_deadline(items: &[LookItem]) -> Duration {
    items.iter().map(|i| i.dependency.policy.timeouts.probe).max().unwrap_or_default()
}

pub(super) fn counted(claim: &Claim, now: Timestamp, name: &str) -> Note {
    let note = ran(claim.note.clone(), now);
    if name.is_empty() { note } else { count(note, name) }
}

/// The note of a task that has run.
fn ran(note: Note, now: Timestamp) -> Note {
    Note { last_run: Some(now), stalls: 0, waits_for: None, ..note }
}

pub(super) fn count(mut note: Note, name: &str) -> Note {
    match note.counts.get_mut(name) {
        Some(n) => *n = n.saturating_add(1),
        None => drop(note.counts.insert(name.to_owned(), 1)),
    }
    note
}

/// The longest time for which a source is left alone because its server asks for that.
const MAX_LEFT_ALONE: Duration = Duration::from_secs(86_400);

pub(super) fn failed(error: &Error) -> Answer {
    Answer::Failed(ProbeFailure {
        kind: error.kind(),
        permanent: PERMANENT.contains(&error.kind()),
        message: error.report(),
        retry_after: match error.retry() {
            Retry::After(wait) => Some(wait.min(MAX_LEFT_ALONE)),
            _ => None,
        },
    })
}

/// The failures after which looking again soon is useless.
const PERMANENT: [ErrorKind; 4] =
    [ErrorKind::PermissionDenied, ErrorKind::InvalidConfig, ErrorKind::InvalidInput, ErrorKind::Unsupported];

fn is_permanent_name(kind: &str) -> bool {
    PERMANENT.iter().any(|k| k.as_str() == kind)
}

impl<'a> Applying<'a> {
    /// An evaluation, with the lock asked where it says Build.
    pub(super) async fn evaluate(
        &mut self,
        draft: &mut Draft<'_>,
        state: DependencyState,
        occasion: &Occasion,
    ) -> Result<crate::decide::Evaluation> {
        let known_good = self.known_good(draft, &state).await?;
        let build = BuildId::draw(self.now, self.inner.random.as_ref());
        let mut context = Context {
            policy: &self.dependency.policy,
            now: self.now,
            lock: LockView::AsStored,
            known_good: &known_good,
            build,
        };
        let evaluation = evaluate(&state, &context, occasion);
        if evaluation.start.is_none() {
            return Ok(evaluation);
        }
        let acquired = match self.inner.acquire(&self.dependency, &state, build).await {
            // A caller is told; what else there is, the end of a build above all, must not wait for the lock's server.
            Err(error) if !matches!(occasion, Occasion::Pinned(_)) => {
                tracing::warn!(dependency = %self.dependency.name, error = %error.report(), "the lock cannot be asked");
                crate::lock::Acquired::Held { by: error.report() }
            }
            acquired => acquired?,
        };
        match acquired {
            crate::lock::Acquired::Granted(lease) => {
                self.lease = Some(lease);
                Ok(evaluation)
            }
            crate::lock::Acquired::Held { by } => {
                self.kept_by = Some(printable(&by, 500));
                context.lock = LockView::HeldElsewhere { by };
                Ok(evaluate(&state, &context, occasion))
            }
        }
    }
}
