//! Locks elsewhere that do one thing otherwise than they should.

use crate::verdict;
use capomastro_core::{
    Error, ErrorKind, Result, async_trait,
    lock::{Acquired, DependencyLock, Lease, LockAsk, lease_lost},
    model::{BuildId, DependencyId},
    time::{Clock, Monotonic},
};
use capomastro_testkit::{
    conformance::{
        Time,
        lock::{CASES, Leases, LockHarness},
    },
    fakes::{ExpiringLock, ManualClock},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

const LASTS: Duration = Duration::from_secs(30);

/// What is remembered for the flaws, of a dependency.
#[derive(Debug, Default)]
struct Notes {
    refused: usize,
    repeated: usize,
    granted_by: usize,
    granted_at: Option<Monotonic>,
    touched_at: Option<Monotonic>,
    last: Option<Lease>,
    ousted: Option<Lease>,
    is_released: bool,
    in_flight: usize,
    was_crowded: bool,
}

#[derive(Clone, Debug)]
struct Twin {
    flaw: &'static str,
    clock: ManualClock,
    server: ExpiringLock,
    notes: Arc<Mutex<BTreeMap<DependencyId, Notes>>>,
    opened: Arc<AtomicUsize>,
    is_cut: Arc<AtomicUsize>,
    /// Which process this is.
    process: usize,
}

impl Twin {
    fn of(flaw: &'static str) -> Self {
        let clock = ManualClock::new();
        Self {
            flaw,
            server: ExpiringLock::new(Arc::new(clock.clone()), LASTS),
            clock,
            notes: Arc::default(),
            opened: Arc::default(),
            is_cut: Arc::default(),
            process: 0,
        }
    }

    fn has(&self, flaw: &str) -> bool {
        assert!(CASES.iter().any(|case| case.name == flaw), "{flaw} is no case");
        self.flaw == flaw
    }

    fn note<R>(&self, dependency: DependencyId, change: impl FnOnce(&mut Notes) -> R) -> R {
        change(self.notes.lock().unwrap().entry(dependency).or_default())
    }

    fn holder(&self, dependency: DependencyId) -> Option<BuildId> {
        self.server.holder(dependency)
    }

    /// Gives it to whoever asks.
    async fn forced(&self, ask: &LockAsk) -> Result<Acquired> {
        self.server.take_over(ask, "by a flaw").await.map(Acquired::Granted)
    }

    fn since(&self, at: Option<Monotonic>) -> Duration {
        at.map_or(Duration::ZERO, |at| self.clock.monotonic().0.saturating_sub(at.0))
    }

    /// What is granted wrongly, or refused wrongly; `None` if this ask is none of the flaw's.
    async fn wrong(&self, ask: &LockAsk) -> Option<Result<Acquired>> {
        let id = ask.dependency;
        let holder = self.holder(id);
        let (is_own, is_others) = (holder == Some(ask.owner), holder.is_some_and(|h| h != ask.owner));
        let at = self.note(id, |n| (n.granted_at, n.touched_at));
        let forced = match self.flaw {
            "of_two_owners_one_holds" => {
                is_others
                    && self.note(id, |n| {
                        n.refused += 1;
                        n.refused == 3
                    })
            }
            "the_same_owner_gets_the_same_lease_again" => {
                is_own
                    && self.note(id, |n| {
                        n.repeated += 1;
                        n.repeated == 3
                    })
            }
            "racing_owners_never_share" => is_others && self.note(id, |n| n.was_crowded),
            "racing_asks_of_one_owner_are_one_ask" => is_own && self.note(id, |n| n.was_crowded),
            "a_lease_holds_until_it_lapses" => is_others && self.since(at.1) > LASTS * 4 / 10,
            "asking_again_makes_a_lease_last" => is_others && self.since(at.0) > LASTS,
            _ => false,
        };
        if forced {
            return Some(self.forced(ask).await);
        }
        let held = |by: &str| Some(Ok(Acquired::Held { by: by.to_owned() }));
        match self.flaw {
            "names_are_for_people" if ask.name.as_str().contains('/') => {
                Some(Err(Error::invalid("a name must be the name of a file")))
            }
            "what_is_not_renewed_lapses" => {
                let last = self.note(id, |n| n.last.clone().filter(|_| !n.is_released));
                held("a dead one").filter(|_| last.is_some_and(|l| l.owner != ask.owner) && holder.is_none())
            }
            "a_take_over_ousts_the_holder" => self
                .note(id, |n| n.ousted.clone().filter(|ousted| ousted.owner == ask.owner))
                .map(|ousted| Ok(Acquired::Granted(ousted))),
            "another_process_meets_the_holder" if is_own => {
                held("another process").filter(|_| self.note(id, |n| n.granted_by) != self.process)
            }
            "a_lock_out_of_reach_is_an_error" if self.is_cut.load(Ordering::SeqCst) > 0 => held("somebody"),
            _ => None,
        }
    }

    /// How an ask is put to the server.
    fn bent_ask(&self, ask: &LockAsk) -> LockAsk {
        let mut ask = ask.clone();
        let is_own = self.holder(ask.dependency) == Some(ask.owner);
        if self.has("a_fence_is_higher_than_the_stores") && !is_own
            || self.has("a_lease_that_the_store_has_passed_is_granted_anew") && is_own
        {
            ask.highest_fence = 0;
        }
        ask
    }

    /// What the asker is told instead.
    fn bent_answer(&self, id: DependencyId, lapsed: bool, mut answer: Acquired) -> Acquired {
        match &mut answer {
            Acquired::Held { by } if self.has("a_refusal_says_who_holds_it") => by.clear(),
            Acquired::Granted(lease) => {
                let again = self.note(id, |n| n.is_released && n.last.is_some());
                if self.has("fences_grow_over_releases") && again
                    || self.has("fences_grow_over_lapses") && lapsed
                {
                    lease.fence = 1;
                }
                if self.has("a_free_lock_is_granted") {
                    lease.fence -= 1;
                }
            }
            Acquired::Held { .. } => {}
        }
        answer
    }

    async fn acquired(&self, ask: &LockAsk) -> Result<Acquired> {
        let id = ask.dependency;
        if let Some(wrong) = self.wrong(ask).await {
            return wrong;
        }
        let lapsed = self.holder(id).is_none() && self.note(id, |n| n.last.is_some() && !n.is_released);
        let is_own = self.holder(id) == Some(ask.owner);
        let answer = self.server.acquire(&self.bent_ask(ask)).await?;
        let answer = self.bent_answer(id, lapsed, answer);
        let now = Some(self.clock.monotonic());
        if let Acquired::Granted(lease) = &answer {
            self.note(id, |n| {
                if !is_own {
                    (n.granted_at, n.granted_by) = (now, self.process);
                }
                (n.touched_at, n.is_released, n.last) = (now, false, Some(lease.clone()));
            });
        }
        Ok(answer)
    }

    /// Asks that come at the same time are seen to.
    async fn crowd(&self, id: DependencyId) {
        self.note(id, |n| n.in_flight += 1);
        for _ in 0..200 {
            if self.note(id, |n| n.in_flight) > 1 {
                self.note(id, |n| n.was_crowded = true);
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The lease as the server knows it.
    fn known(&self, lease: &Lease) -> Lease {
        let more = u64::from(self.has("a_free_lock_is_granted"));
        Lease { fence: lease.fence + more, ..lease.clone() }
    }

    async fn renewed(&self, lease: &Lease) -> Result<Lease> {
        let (id, holder) = (lease.dependency, self.holder(lease.dependency));
        let ask = LockAsk::new(id, "lib".parse().unwrap(), lease.owner, None, 0);
        if self.has("a_renewed_lease_lasts") && holder == Some(lease.owner) {
            return Ok(lease.clone());
        }
        if self.has("a_released_lease_cannot_be_renewed") && holder.is_none() {
            return Ok(lease.clone());
        }
        if self.has("a_lease_that_lapsed_cannot_take_the_lock_back")
            && holder.is_some_and(|holder| holder != lease.owner)
        {
            return self.server.take_over(&ask, "by a flaw").await;
        }
        if self.has("another_process_goes_on_with_a_lease") && self.note(id, |n| n.granted_by) != self.process
        {
            return Err(lease_lost(lease));
        }
        let known = self.known(lease);
        let mut renewed = self.server.renew(std::slice::from_ref(&known)).await.remove(0)?;
        renewed.fence = lease.fence + u64::from(self.has("a_renewed_lease_keeps_its_owner_and_fence"));
        let now = Some(self.clock.monotonic());
        self.note(id, |n| (n.granted_at, n.touched_at) = (now, now));
        Ok(renewed)
    }
}

/// A dropped ask leaves the lock to a ghost.
struct Ghost<'a>(Option<(&'a Twin, DependencyId)>);

impl Drop for Ghost<'_> {
    fn drop(&mut self) {
        if let Some((twin, id)) = self.0.take() {
            twin.server.hold_for_stranger(id, "a ghost");
        }
    }
}

#[async_trait]
impl DependencyLock for Twin {
    async fn acquire(&self, ask: &LockAsk) -> Result<Acquired> {
        if self.has("a_dropped_ask_harms_nobody") {
            let mut ghost = Ghost(Some((self, ask.dependency)));
            tokio::task::yield_now().await;
            ghost.0 = None;
        }
        if self.flaw.starts_with("racing_") {
            self.crowd(ask.dependency).await;
            let answer = self.acquired(ask).await;
            self.note(ask.dependency, |n| n.in_flight -= 1);
            return answer;
        }
        self.acquired(ask).await
    }

    async fn renew(&self, leases: &[Lease]) -> Vec<Result<Lease>> {
        if self.has("no_leases_no_answers") && leases.is_empty() {
            return vec![Err(Error::invalid("there is nothing to renew"))];
        }
        let mut answers = Vec::new();
        for lease in leases {
            answers.push(self.renewed(lease).await);
        }
        if self.has("renewals_are_answered_in_order") {
            answers.sort_by_key(Result::is_err);
        }
        answers
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let (id, known) = (lease.dependency, self.known(lease));
        let is_held = self.server.renew(std::slice::from_ref(&known)).await.remove(0);
        if self.has("a_released_lock_is_free") {
            return Ok(());
        }
        if self.has("each_dependency_has_a_lock_of_its_own") {
            self.server.lose_all();
        }
        if self.has("a_late_release_frees_nothing") && self.note(id, |n| n.last.is_some()) {
            self.server.lose(id);
        }
        if self.has("only_the_holder_releases")
            && self.note(id, |n| n.last.as_ref().is_some_and(|last| last.fence == lease.fence))
        {
            self.server.lose(id);
        }
        if self.has("releasing_twice_is_harmless") && self.note(id, |n| n.is_released) {
            return Err(Error::new(ErrorKind::NotFound, "there is no such lease"));
        }
        self.server.release(&known).await?;
        if is_held.is_ok() {
            self.note(id, |n| n.is_released = true);
        }
        Ok(())
    }

    async fn take_over(&self, ask: &LockAsk, reason: &str) -> Result<Lease> {
        let (id, holder) = (ask.dependency, self.holder(ask.dependency));
        if self.has("a_free_lock_can_be_taken_over") && holder.is_none() {
            return Err(Error::new(ErrorKind::NotFound, "nobody holds the lock"));
        }
        if self.has("a_take_over_may_have_any_reason") && reason.is_empty() {
            return Err(Error::invalid("give a reason"));
        }
        let mut lease = self.server.take_over(ask, reason).await?;
        if self.has("fences_grow_over_take_overs") && holder.is_some() {
            lease.fence -= 1;
        }
        if self.has("a_lease_says_how_long_it_lasts") {
            lease.expires_in = None;
        }
        if self.has("a_free_lock_is_granted") {
            lease.fence -= 1;
        }
        let now = Some(self.clock.monotonic());
        self.note(id, |n| {
            n.ousted = n.last.replace(lease.clone());
            (n.granted_at, n.touched_at, n.granted_by, n.is_released) = (now, now, self.process, false);
        });
        Ok(lease)
    }
}

#[async_trait]
impl LockHarness for Twin {
    fn time(&self) -> Time {
        Time::Manual(self.clock.clone())
    }

    fn leases(&self) -> Leases {
        Leases::Expire(LASTS)
    }

    async fn open(&self) -> Arc<dyn DependencyLock> {
        Arc::new(Self { process: self.opened.fetch_add(1, Ordering::SeqCst), ..self.clone() })
    }

    async fn cut(&self, cut: bool) -> bool {
        self.server.unreachable(cut);
        self.is_cut.store(cut.into(), Ordering::SeqCst);
        if self.has("what_was_held_is_held_when_it_is_back") {
            self.server.lose_all();
        }
        true
    }
}

fn twin(flaw: &'static str) -> Box<dyn LockHarness> {
    Box::new(Twin::of(flaw))
}

#[test]
fn every_case_sees_its_twin() {
    verdict::every_case_sees_its_twin(CASES, "conformance/lock/", twin);
}

#[test]
fn without_a_flaw_all_is_green() {
    verdict::without_a_flaw_all_is_green(CASES, || twin("none"));
}

#[test]
fn flaws_are_small() {
    verdict::flaws_are_small(CASES, twin);
}
