//! How much may be asked of one remote: a token bucket and a number of calls at once, per host or kind.
//!
//! Pure bookkeeping on injected monotonic time, kept per process. It only spreads load: nothing depends on it for being
//! right, so that it may be forgotten in a crash.

use crate::{Error, Result, time::Monotonic};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, time::Duration};

/// Above this many remotes, those that are idle and at full budget are forgotten.
const TIDY_ABOVE: usize = 1_024;

/// What one remote may be asked.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Budget {
    /// How many calls per second in the long run: above 0, up to 1,000,000. Default 10.
    pub per_second: f64,
    /// How many calls may start together after a rest: 1 to 1,000,000. Default 20.
    pub burst: u32,
    /// How many calls may be under way at once: 1 to 1,000,000. Default 8.
    pub concurrent: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { per_second: 10.0, burst: 20, concurrent: 8 }
    }
}

impl Budget {
    /// A budget.
    ///
    /// # Errors
    /// As [`Budget::validate`].
    pub fn new(per_second: f64, burst: u32, concurrent: u32) -> Result<Self> {
        let budget = Self { per_second, burst, concurrent };
        budget.validate().map(|()| budget)
    }

    /// Checks that each value is within its range.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig), naming the field and the range.
    pub fn validate(&self) -> Result<()> {
        const MOST: u32 = 1_000_000;
        let is_rate =
            self.per_second.is_finite() && self.per_second >= 1e-6 && self.per_second <= f64::from(MOST);
        if !is_rate {
            return Err(Error::config("budget.per_second is out of range: give 0.000001 to 1,000,000"));
        }
        for (field, value) in [("burst", self.burst), ("concurrent", self.concurrent)] {
            if !(1..=MOST).contains(&value) {
                return Err(Error::config(format!("budget.{field} is out of range: give 1 to 1,000,000")));
            }
        }
        Ok(())
    }

    /// How long it takes until one more call is earned.
    fn interval(&self) -> Duration {
        Duration::try_from_secs_f64(self.per_second.max(1e-6).recip()).unwrap_or_default()
    }
}

/// Why a call has to wait.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum BudgetReason {
    /// As many calls as the rate allows have been made.
    Rate {
        /// Of whom.
        remote: String,
        /// The rate.
        per_second: f64,
    },
    /// As many calls as allowed are under way.
    Concurrent {
        /// Of whom.
        remote: String,
        /// How many that is.
        calls: u32,
    },
    /// The remote asked for a rest.
    HeldOff {
        /// Who.
        remote: String,
    },
}

impl fmt::Display for BudgetReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate { remote, per_second } => {
                write!(f, "the budget of {remote}, {per_second} calls per second, is used up")
            }
            Self::Concurrent { remote, calls } => {
                write!(f, "{calls} calls to {remote} are under way, as many as allowed")
            }
            Self::HeldOff { remote } => write!(f, "{remote} asked for a rest"),
        }
    }
}

/// That a call may be made; given back with [`Budgets::release`] when it has ended.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit that is not released counts until its time is over"]
pub struct Permit {
    remotes: Vec<String>,
    number: u64,
}

/// The answer to [`Budgets::ask`].
#[derive(Debug, PartialEq)]
pub enum Answer {
    /// The call may be made now.
    Granted(Permit),
    /// Not before `until`, or, where too many are under way, when one of them is released.
    WaitUntil {
        /// When to ask again: a place in the line of those who wait, where the rate is used up. Another one who asks
        /// earlier may be granted what comes free, so that it may have to wait once more.
        until: Monotonic,
        /// Why, for people.
        why: BudgetReason,
    },
}

#[derive(Clone, Debug, Default)]
struct Remote {
    /// When the bucket is full again: each call moves it by the budget's interval.
    full_at: Monotonic,
    held_off_until: Monotonic,
    /// The last time at which somebody was told to ask again since the rate was used up: the end of their line.
    line_until: Monotonic,
    /// The calls under way, and when each counts no more.
    calls: BTreeMap<u64, Monotonic>,
}

/// The budgets of many remotes.
#[derive(Clone, Debug, Default)]
pub struct Budgets {
    default: Budget,
    own: BTreeMap<String, Budget>,
    remotes: BTreeMap<String, Remote>,
    numbers: u64,
}

impl Budgets {
    /// Budgets where each remote without an own one has `default`.
    pub fn new(default: Budget) -> Self {
        Self { default, ..Self::default() }
    }

    /// Gives one remote (a host such as `git.example.org`, or a kind such as `kind:bzr`) a budget of its own.
    #[must_use]
    pub fn with(mut self, remote: impl Into<String>, budget: Budget) -> Self {
        self.own.insert(remote.into(), budget);
        self
    }

    fn budget(&self, remote: &str) -> Budget {
        self.own.get(remote).copied().unwrap_or(self.default)
    }

    /// May one call be made now that counts against each of these remotes (its host and its kind, say)? All of them or none
    /// are charged. It counts as under way until it is released, or for `at_most`, so that a permit that was dropped with
    /// its future does not count for ever.
    pub fn ask(&mut self, remotes: &[&str], now: Monotonic, at_most: Duration) -> Answer {
        if self.remotes.len() >= TIDY_ABOVE {
            self.tidy(now);
        }
        let waits =
            remotes.iter().filter_map(|remote| self.check(remote, now).map(|(u, why)| (u, why, *remote)));
        if let Some((until, why, remote)) = waits.max_by_key(|(until, _, _)| *until) {
            let until = if matches!(why, BudgetReason::Rate { .. }) {
                self.line_up(remote, now, until)
            } else {
                until
            };
            return Answer::WaitUntil { until, why };
        }
        self.numbers += 1;
        let number = self.numbers;
        for remote in remotes {
            let interval = self.budget(remote).interval();
            let state = self.remotes.entry((*remote).to_owned()).or_default();
            state.full_at = state.full_at.max(now).plus(interval);
            state.calls.retain(|_, until| *until > now);
            state.calls.insert(number, now.plus(at_most));
        }
        Answer::Granted(Permit { remotes: remotes.iter().map(|r| (*r).to_owned()).collect(), number })
    }

    /// Until when a call to this remote has to wait, and why.
    fn check(&self, remote: &str, now: Monotonic) -> Option<(Monotonic, BudgetReason)> {
        let state = self.remotes.get(remote)?;
        let budget = self.budget(remote);
        if state.held_off_until > now {
            return Some((state.held_off_until, BudgetReason::HeldOff { remote: remote.to_owned() }));
        }
        let calls = state.calls.values().filter(|until| **until > now);
        if calls.clone().count() >= usize::try_from(budget.concurrent.max(1)).unwrap_or(usize::MAX) {
            let until = calls.min().copied().unwrap_or(now);
            let why = BudgetReason::Concurrent { remote: remote.to_owned(), calls: budget.concurrent };
            return Some((until, why));
        }
        let interval = budget.interval();
        let full_at = state.full_at.plus(interval);
        let allowed = now.plus(interval.saturating_mul(budget.burst.max(1)));
        let why = BudgetReason::Rate { remote: remote.to_owned(), per_second: budget.per_second };
        (full_at > allowed).then(|| (now.plus(full_at.0.saturating_sub(allowed.0)), why))
    }

    /// Who waits for the rate is told a time of its own, one interval after the one before, so that a thousand who wait
    /// ask about twice each and not once an interval each.
    fn line_up(&mut self, remote: &str, now: Monotonic, earliest: Monotonic) -> Monotonic {
        let interval = self.budget(remote).interval();
        let state = self.remotes.entry(remote.to_owned()).or_default();
        let until =
            if state.line_until > now { state.line_until.plus(interval).max(earliest) } else { earliest };
        state.line_until = until;
        until
    }

    /// The call has ended.
    pub fn release(&mut self, permit: Permit) {
        for remote in &permit.remotes {
            if let Some(state) = self.remotes.get_mut(remote) {
                state.calls.remove(&permit.number);
            }
        }
    }

    /// The remote asked for a rest of this long: nobody calls it meanwhile. Never makes an earlier rest shorter.
    pub fn hold_off(&mut self, remote: &str, now: Monotonic, rest: Duration) {
        let state = self.remotes.entry(remote.to_owned()).or_default();
        state.held_off_until = state.held_off_until.max(now.plus(rest));
    }

    /// Forgets remotes of which nothing is to be remembered.
    fn tidy(&mut self, now: Monotonic) {
        self.remotes.retain(|_, r| {
            r.full_at > now || r.held_off_until > now || r.calls.values().any(|until| *until > now)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    fn granted(answer: Answer) -> Permit {
        match answer {
            Answer::Granted(permit) => permit,
            Answer::WaitUntil { .. } => panic!("{answer:?}"),
        }
    }

    /// The permit is lost, as with a future that is dropped.
    fn drop_granted(answer: Answer) {
        drop(granted(answer));
    }

    fn wait(answer: Answer) -> (Monotonic, BudgetReason) {
        match answer {
            Answer::WaitUntil { until, why } => (until, why),
            Answer::Granted(_) => panic!("{answer:?}"),
        }
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut b = Budgets::new(Budget::new(2.0, 3, 100).unwrap());
        for _ in 0..3 {
            let permit = granted(b.ask(&["h"], at(1_000), MINUTE));
            b.release(permit);
        }
        let (until, why) = wait(b.ask(&["h"], at(1_000), MINUTE));
        assert_eq!(
            (until, why.to_string().as_str()),
            (at(1_500), "the budget of h, 2 calls per second, is used up")
        );
        assert!(matches!(b.clone().ask(&["h"], at(1_499), MINUTE), Answer::WaitUntil { .. }));
        drop_granted(b.ask(&["h"], at(1_500), MINUTE));
        assert_eq!(wait(b.ask(&["h"], at(1_500), MINUTE)).0, at(2_000));
    }

    #[test]
    fn those_who_wait_stand_in_a_line() {
        let mut b = Budgets::new(Budget::new(1.0, 1, 9).unwrap());
        drop_granted(b.ask(&["h"], at(0), MINUTE));
        let told: Vec<Monotonic> = (0..4).map(|_| wait(b.ask(&["h"], at(0), MINUTE)).0).collect();
        assert_eq!(told, [at(1_000), at(2_000), at(3_000), at(4_000)]);
        for until in told {
            drop_granted(b.ask(&["h"], until, MINUTE));
        }
        // Nobody waits any more: the line begins anew.
        assert_eq!(wait(b.ask(&["h"], at(4_001), MINUTE)).0, at(5_000));
    }

    #[test]
    fn a_rest_earns_no_more_than_a_burst() {
        let mut b = Budgets::new(Budget::new(1.0, 2, 100).unwrap());
        let now = at(3_600_000);
        drop_granted(b.ask(&["h"], now, MINUTE));
        drop_granted(b.ask(&["h"], now, MINUTE));
        assert_eq!(wait(b.ask(&["h"], now, MINUTE)).0, at(3_601_000));
    }

    #[test]
    fn calls_at_once_are_bounded_and_a_release_makes_room() {
        let mut b = Budgets::new(Budget::new(1_000.0, 1_000, 2).unwrap());
        let first = granted(b.ask(&["h"], at(0), MINUTE));
        let _second = granted(b.ask(&["h"], at(10), MINUTE));
        let (until, why) = wait(b.ask(&["h"], at(20), MINUTE));
        assert_eq!((until, why), (at(60_000), BudgetReason::Concurrent { remote: "h".into(), calls: 2 }));
        b.release(first);
        drop_granted(b.ask(&["h"], at(20), MINUTE));
    }

    #[test]
    fn a_permit_that_was_dropped_counts_no_longer_than_it_was_asked_for() {
        let mut b = Budgets::new(Budget::new(1_000.0, 1_000, 1).unwrap());
        drop_granted(b.ask(&["h"], at(0), MINUTE));
        assert!(matches!(b.ask(&["h"], at(59_999), MINUTE), Answer::WaitUntil { .. }));
        drop_granted(b.ask(&["h"], at(60_000), MINUTE));
    }

    #[test]
    fn remotes_do_not_share_and_may_have_their_own() {
        let mut b =
            Budgets::new(Budget::new(1.0, 1, 9).unwrap()).with("slow", Budget::new(0.1, 1, 9).unwrap());
        for remote in ["a", "b", "slow"] {
            drop_granted(b.ask(&[remote], at(0), MINUTE));
        }
        assert_eq!(wait(b.ask(&["a"], at(0), MINUTE)).0, at(1_000));
        assert_eq!(wait(b.ask(&["slow"], at(0), MINUTE)).0, at(10_000));
    }

    #[test]
    fn a_remote_that_asked_for_a_rest_gets_it() {
        let mut b = Budgets::default();
        b.hold_off("h", at(0), MINUTE);
        b.hold_off("h", at(0), Duration::from_secs(1));
        assert_eq!(
            wait(b.ask(&["h"], at(5), MINUTE)),
            (at(60_000), BudgetReason::HeldOff { remote: "h".into() })
        );
        drop_granted(b.ask(&["h"], at(60_000), MINUTE));
    }

    #[test]
    fn host_and_kind_are_charged_together_or_not_at_all() {
        let slow = Budget::new(0.1, 1, 9).unwrap();
        let mut b = Budgets::new(Budget::new(1.0, 2, 9).unwrap()).with("kind:bzr", slow);
        drop_granted(b.ask(&["a", "kind:bzr"], at(0), MINUTE));
        let (until, why) = wait(b.ask(&["b", "kind:bzr"], at(0), MINUTE));
        assert_eq!(until, at(10_000));
        assert!(why.to_string().contains("kind:bzr"), "{why}");
        drop_granted(b.ask(&["b"], at(0), MINUTE));
        drop_granted(b.ask(&["b"], at(0), MINUTE));
        let permit = granted(b.ask(&["c", "d"], at(0), MINUTE));
        b.release(permit);
        assert!(b.remotes["c"].calls.is_empty() && b.remotes["d"].calls.is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_by_what_is_under_way() {
        let mut b = Budgets::default();
        for n in 0..10_000_u64 {
            let permit = granted(b.ask(&[&format!("h{n}")], at(n * 1_000), MINUTE));
            b.release(permit);
        }
        assert!(b.remotes.len() <= TIDY_ABOVE + 1, "{}", b.remotes.len());
    }

    #[test]
    fn a_budget_out_of_range_is_refused_with_the_range() {
        for (per_second, burst, concurrent, field) in [
            (0.0, 1, 1, "per_second"),
            (-1.0, 1, 1, "per_second"),
            (f64::NAN, 1, 1, "per_second"),
            (f64::INFINITY, 1, 1, "per_second"),
            (1.0, 0, 1, "burst"),
            (1.0, 1, 0, "concurrent"),
            (1.0, 1, 1_000_001, "concurrent"),
        ] {
            let e = Budget::new(per_second, burst, concurrent).unwrap_err();
            assert!(e.message().contains(field) && e.message().contains("give"), "{e}");
        }
        Budget::default().validate().unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn never_more_than_burst_and_rate_and_waiting_as_told_is_enough(
            burst in 1_u32..5, rate in 1_u32..20, steps in prop::collection::vec(0_u64..400, 1..200),
        ) {
            let mut b = Budgets::new(Budget::new(f64::from(rate), burst, 1_000_000).unwrap());
            let (mut now, mut grants) = (0, 0_u64);
            for step in steps {
                now += step;
                match b.ask(&["h"], at(now), MINUTE) {
                    Answer::Granted(permit) => {
                        grants += 1;
                        b.release(permit);
                    }
                    Answer::WaitUntil { until, .. } => {
                        prop_assert!(until > at(now));
                        let mut later = b.clone();
                        prop_assert!(matches!(later.ask(&["h"], until, MINUTE), Answer::Granted(_)));
                    }
                }
                prop_assert!(grants <= u64::from(burst) + now * u64::from(rate) / 1_000 + 1);
            }
        }
    }
}
