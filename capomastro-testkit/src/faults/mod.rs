//! What goes wrong between a scheduler and its parts: calls that fail before or after their effect, that are late, made
//! twice, or frozen.
//!
//! [`Faulty`] stands before any store, launcher, probe or lock; what it does to a call is said by the [`Faults`] it is
//! given: by chance from a seed, or call by call. The same seed over the same calls does the same.
//!
//! ```
//! use capomastro_core::{ErrorKind, InMemoryStore, store::StateStore};
//! use capomastro_testkit::{faults::{Fault, Faults, Faulty}, fakes::ManualClock};
//! use std::sync::Arc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> capomastro_core::Result<()> {
//! let clock = Arc::new(ManualClock::new());
//! let faults = Faults::new(clock.clone(), 7);
//! let store = Faulty::new(Arc::new(InMemoryStore::new(clock)), faults.clone());
//!
//! faults.next(Fault::Before);
//! assert_eq!(store.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
//! store.check().await?;
//! # Ok(()) }
//! ```

mod launcher;
mod lock;
mod probe;
mod store;

use crate::fakes::{SeededRandom, world::World};
use capomastro_core::{
    Error, ErrorKind, Result,
    time::{Clock, Random as _},
};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::Future,
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

/// What happens to one call.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// It has no effect, and the answer is [`ErrorKind::Unavailable`].
    Before,
    /// It has its effect, and the answer is lost: [`ErrorKind::OutcomeUnknown`] for what can change something,
    /// [`ErrorKind::Unavailable`] for what only reads.
    After,
    /// It is late: half of the delay is before the effect, half after it.
    Delay,
    /// It is made twice, as by a network that delivers a request again. The answer is that to the first.
    Duplicate,
    /// It has no effect and no answer until [`Faults::thaw`], as in a process that is stopped. Then it goes on as if
    /// nothing had been.
    Freeze,
}

/// What happens to the calls of the parts that share it. Clones share one state.
#[derive(Clone)]
pub struct Faults {
    clock: Arc<dyn Clock>,
    state: Arc<World<State>>,
}

#[derive(Debug)]
struct State {
    random: SeededRandom,
    of_thousand: BTreeMap<Fault, u16>,
    delays: RangeInclusive<Duration>,
    next: VecDeque<Option<Fault>>,
    /// How often frozen calls were let go.
    thaws: u64,
    frozen: usize,
    happened: BTreeMap<Fault, u64>,
}

impl State {
    /// What happens to the next call. One throw for each call, so that a rate does not move what is drawn for others.
    fn draw(&mut self) -> Option<Fault> {
        let throw = self.random.bits();
        let fault = match self.next.pop_front() {
            Some(said) => said,
            None => self.by_chance(throw),
        };
        if let Some(fault) = fault {
            *self.happened.entry(fault).or_default() += 1;
        }
        fault
    }

    fn by_chance(&self, throw: u128) -> Option<Fault> {
        let mut left = throw % 1_000;
        for (fault, rate) in &self.of_thousand {
            let rate = u128::from(*rate);
            if left < rate {
                return Some(*fault);
            }
            left -= rate;
        }
        None
    }

    /// Half of a delay.
    fn half_a_delay(&self) -> Duration {
        let (from, to) = (self.delays.start().as_nanos(), self.delays.end().as_nanos());
        let whole = from + self.random.bits() % (to - from + 1);
        Duration::from_nanos(u64::try_from(whole / 2).unwrap_or(u64::MAX))
    }
}

impl Faults {
    /// None, until it is told. Delays pass by this clock.
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        let state = State {
            random: SeededRandom::new(seed),
            of_thousand: BTreeMap::new(),
            delays: Duration::from_millis(1)..=Duration::from_secs(5),
            next: VecDeque::new(),
            thaws: 0,
            frozen: 0,
            happened: BTreeMap::new(),
        };
        Self { clock, state: Arc::new(World::new(state)) }
    }

    /// Of a thousand calls, so many meet this fault by chance; none unless told.
    ///
    /// # Panics
    /// If the rates of all faults are above a thousand together.
    pub fn rate(&self, fault: Fault, of_thousand: u16) {
        self.state.change(|s| {
            s.of_thousand.insert(fault, of_thousand);
            let sum: u32 = s.of_thousand.values().copied().map(u32::from).sum();
            assert!(sum <= 1_000, "of a thousand calls, {sum} cannot meet a fault");
        });
    }

    /// How long delays are; 1 ms to 5 s unless told.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn delays(&self, delays: RangeInclusive<Duration>) {
        assert!(
            !delays.is_empty(),
            "a delay is at least {:?} and at most {:?}",
            delays.start(),
            delays.end()
        );
        self.state.change(|s| s.delays = delays);
    }

    /// The next call that nothing was said about meets this, whatever chance says. Several are met in their order.
    pub fn next(&self, fault: Fault) {
        self.state.change(|s| s.next.push_back(Some(fault)));
    }

    /// The next call that nothing was said about meets no fault.
    pub fn spare_next(&self) {
        self.state.change(|s| s.next.push_back(None));
    }

    /// Lets every frozen call go on.
    pub fn thaw(&self) {
        self.state.change(|s| s.thaws += 1);
    }

    /// From now on nothing happens by chance, what was said about next calls is forgotten, and frozen calls go on.
    pub fn heal(&self) {
        self.state.change(|s| {
            s.of_thousand.clear();
            s.next.clear();
            s.thaws += 1;
        });
    }

    /// How many calls are frozen now.
    pub fn frozen(&self) -> usize {
        self.state.look(|s| s.frozen)
    }

    /// How often this has happened.
    pub fn happened(&self, fault: Fault) -> u64 {
        self.state.look(|s| s.happened.get(&fault).copied().unwrap_or_default())
    }

    /// Makes one call, or what happens to it. `fail` says how an answer looks that is an error.
    async fn meet<T, F: Future<Output = T>>(
        &self,
        changes: bool,
        call: impl Fn() -> F,
        fail: impl Fn(ErrorKind) -> T,
    ) -> T {
        let (fault, half, thaws) = self.state.change(|s| (s.draw(), s.half_a_delay(), s.thaws));
        match fault {
            None => call().await,
            Some(Fault::Before) => fail(ErrorKind::Unavailable),
            Some(Fault::After) => {
                call().await;
                fail(if changes { ErrorKind::OutcomeUnknown } else { ErrorKind::Unavailable })
            }
            Some(Fault::Delay) => {
                self.clock.sleep(half).await;
                let answer = call().await;
                self.clock.sleep(half).await;
                answer
            }
            Some(Fault::Duplicate) => {
                let answer = call().await;
                call().await;
                answer
            }
            Some(Fault::Freeze) => {
                {
                    let _frozen = Frozen::new(&self.state);
                    self.state.until(|s| (s.thaws > thaws).then_some(())).await;
                }
                call().await
            }
        }
    }

    /// Makes a call with one answer.
    async fn one<T, F>(&self, changes: bool, call: impl Fn() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.meet(changes, call, |kind| Err(fault(kind))).await
    }

    /// Makes a call with an answer for each of `asked`.
    async fn each<T, F>(&self, changes: bool, asked: usize, call: impl Fn() -> F) -> Vec<Result<T>>
    where
        F: Future<Output = Vec<Result<T>>>,
    {
        self.meet(changes, call, |kind| (0..asked).map(|_| Err(fault(kind))).collect()).await
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("state", &self.state).finish_non_exhaustive()
    }
}

fn fault(kind: ErrorKind) -> Error {
    Error::new(kind, "the test says that this call fails")
}

/// Counts a frozen call until it goes on or is dropped.
struct Frozen<'a>(&'a World<State>);

impl<'a> Frozen<'a> {
    fn new(state: &'a World<State>) -> Self {
        state.change(|s| s.frozen += 1);
        Self(state)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.change(|s| s.frozen -= 1);
    }
}

/// A store, launcher, probe or lock whose calls meet faults. It is what the part is: what has no answer from elsewhere
/// (a probe's key, a launcher's promise, the check of a job) is the part's own. Clones share the part and the faults.
pub struct Faulty<P: ?Sized> {
    part: Arc<P>,
    faults: Faults,
}

impl<P: ?Sized> Faulty<P> {
    /// This part, behind these faults.
    pub const fn new(part: Arc<P>, faults: Faults) -> Self {
        Self { part, faults }
    }
}

impl<P: ?Sized> Clone for Faulty<P> {
    fn clone(&self) -> Self {
        Self { part: Arc::clone(&self.part), faults: self.faults.clone() }
    }
}

impl<P: ?Sized + fmt::Debug> fmt::Debug for Faulty<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").field("part", &self.part).field("faults", &self.faults).finish()
    }
}
