//! A lock that is kept somewhere else, and what goes wrong with such locks.

use super::world::World;
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    lock::{Acquired, DependencyLock, Lease, LockAsk, lease_lost},
    model::{BuildId, DependencyId},
    time::{Clock, Monotonic},
};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

/// A dependency lock as etcd or Redis would keep it: leases expire, fences grow, answers get lost. Clones share one
/// server.
///
/// Leases expire by the monotonic time of the clock it is given; at the very moment of its expiry a lease is lost.
///
/// ```
/// use capomastro_core::{lock::{Acquired, DependencyLock, LockAsk}, model::{BuildId, DependencyId}, time::Clock};
/// use capomastro_testkit::fakes::{ExpiringLock, ManualClock, SeededRandom};
/// use std::{sync::Arc, time::Duration};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> capomastro_core::Result<()> {
/// let (clock, random) = (ManualClock::new(), SeededRandom::new(1));
/// let lock = ExpiringLock::new(Arc::new(clock.clone()), Duration::from_secs(30));
/// let dependency = DependencyId::draw(clock.now(), &random);
/// let ask = || LockAsk::new(dependency, "lib".parse().unwrap(), BuildId::draw(clock.now(), &random), None, 0);
///
/// assert!(matches!(lock.acquire(&ask()).await?, Acquired::Granted(_)));
/// assert!(matches!(lock.acquire(&ask()).await?, Acquired::Held { .. }));
/// clock.advance(Duration::from_secs(30));
/// assert!(matches!(lock.acquire(&ask()).await?, Acquired::Granted(lease) if lease.fence == 2));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ExpiringLock {
    clock: Arc<dyn Clock>,
    lasts: Duration,
    server: Arc<World<Server>>,
}

#[derive(Debug, Default)]
struct Server {
    held: BTreeMap<DependencyId, Entry>,
    fences: BTreeMap<DependencyId, u64>,
    unreachable: bool,
    lost_answers: usize,
    acquires: usize,
    take_overs: Vec<(DependencyId, String)>,
}

#[derive(Clone, Debug)]
struct Entry {
    owner: Owner,
    fence: u64,
    until: Monotonic,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Build(BuildId),
    /// Somebody who is no build of this library.
    Stranger(String),
}

impl ExpiringLock {
    /// A lock whose leases last this long after they were granted or renewed.
    pub fn new(clock: Arc<dyn Clock>, lasts: Duration) -> Self {
        Self { clock, lasts, server: Arc::default() }
    }

    /// While `true`, nothing can be asked: every call is [`ErrorKind::Unavailable`] and changes nothing. Leases go on to
    /// expire.
    pub fn unreachable(&self, unreachable: bool) {
        self.server.change(|s| s.unreachable = unreachable);
    }

    /// The next call takes effect, and its answer is lost: [`ErrorKind::OutcomeUnknown`]. Several add up.
    pub fn lose_next_answer(&self) {
        self.server.change(|s| s.lost_answers += 1);
    }

    /// The server forgets who holds the dependency. Its fences go on to grow.
    pub fn lose(&self, dependency: DependencyId) {
        self.server.change(|s| s.held.remove(&dependency));
    }

    /// The server forgets who holds what. Its fences go on to grow.
    pub fn lose_all(&self) {
        self.server.change(|s| s.held.clear());
    }

    /// Somebody who is no build holds the dependency until the lease expires or is lost, whoever held it before.
    pub fn hold_for_stranger(&self, dependency: DependencyId, who: &str) {
        let until = self.until();
        self.server.change(|s| s.grant(dependency, Owner::Stranger(who.into()), 0, until));
    }

    /// The build that holds the dependency now, by a lease that has not expired.
    pub fn holder(&self, dependency: DependencyId) -> Option<BuildId> {
        let now = self.clock.monotonic();
        self.server.look(|s| match s.living(dependency, now)?.owner {
            Owner::Build(build) => Some(build),
            Owner::Stranger(_) => None,
        })
    }

    /// How many dependencies are held now.
    pub fn held(&self) -> usize {
        let now = self.clock.monotonic();
        self.server.look(|s| s.held.values().filter(|e| now < e.until).count())
    }

    /// How often the lock was asked for, with whatever answer.
    pub fn acquires(&self) -> usize {
        self.server.look(|s| s.acquires)
    }

    /// Every take-over, oldest first, with its reason.
    pub fn take_overs(&self) -> Vec<(DependencyId, String)> {
        self.server.look(|s| s.take_overs.clone())
    }

    fn until(&self) -> Monotonic {
        self.clock.monotonic().plus(self.lasts)
    }

    fn lease(&self, dependency: DependencyId, owner: BuildId, fence: u64) -> Lease {
        Lease {
            dependency,
            owner,
            fence,
            expires_in: Some(self.lasts),
            token: Some(format!("lease-{fence}")),
        }
    }

    /// One call to the server: it is reachable or it is not, and the answer may get lost.
    fn call<R>(&self, serve: impl FnOnce(&mut Server) -> R) -> Result<R> {
        self.server.change(|s| {
            if s.unreachable {
                return Err(Error::new(ErrorKind::Unavailable, "the test says that the lock is unreachable"));
            }
            let answer = serve(s);
            if s.lost_answers > 0 {
                s.lost_answers -= 1;
                return Err(Error::new(
                    ErrorKind::OutcomeUnknown,
                    "the test says that the lock's answer is lost",
                ));
            }
            Ok(answer)
        })
    }
}

impl Server {
    fn living(&self, dependency: DependencyId, now: Monotonic) -> Option<&Entry> {
        self.held.get(&dependency).filter(|e| now < e.until)
    }

    fn living_lease(&mut self, lease: &Lease, now: Monotonic) -> Option<&mut Entry> {
        self.held
            .get_mut(&lease.dependency)
            .filter(|e| now < e.until && e.fence == lease.fence && e.owner == Owner::Build(lease.owner))
    }

    fn grant(&mut self, dependency: DependencyId, owner: Owner, above: u64, until: Monotonic) -> u64 {
        let fence = self.fences.entry(dependency).or_default();
        *fence = (*fence).max(above) + 1;
        self.held.insert(dependency, Entry { owner, fence: *fence, until });
        *fence
    }
}

impl fmt::Debug for ExpiringLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpiringLock").field("lasts", &self.lasts).field("server", &self.server).finish()
    }
}

#[async_trait]
impl DependencyLock for ExpiringLock {
    async fn acquire(&self, ask: &LockAsk) -> Result<Acquired> {
        let (now, until) = (self.clock.monotonic(), self.until());
        let owner = Owner::Build(ask.owner);
        self.server.change(|s| s.acquires += 1);
        self.call(|s| match s.living(ask.dependency, now) {
            // A fence that the store has passed meanwhile would be refused there, so the lease is granted anew.
            Some(e) if e.owner == owner && e.fence > ask.highest_fence => {
                let fence = e.fence;
                s.held.insert(ask.dependency, Entry { owner, fence, until });
                Acquired::Granted(self.lease(ask.dependency, ask.owner, fence))
            }
            Some(e) if e.owner != owner => Acquired::Held {
                by: match &e.owner {
                    Owner::Build(build) => build.to_string(),
                    Owner::Stranger(who) => who.clone(),
                },
            },
            _ => {
                let fence = s.grant(ask.dependency, owner, ask.highest_fence, until);
                Acquired::Granted(self.lease(ask.dependency, ask.owner, fence))
            }
        })
    }

    async fn renew(&self, leases: &[Lease]) -> Vec<Result<Lease>> {
        let (now, until) = (self.clock.monotonic(), self.until());
        let renew = |lease: &Lease| {
            self.call(|s| {
                let entry = s.living_lease(lease, now).ok_or_else(|| lease_lost(lease))?;
                entry.until = until;
                Ok(self.lease(lease.dependency, lease.owner, lease.fence))
            })?
        };
        leases.iter().map(renew).collect()
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        let now = self.clock.monotonic();
        self.call(|s| {
            if s.living_lease(lease, now).is_some() {
                s.held.remove(&lease.dependency);
            }
        })
    }

    async fn take_over(&self, ask: &LockAsk, reason: &str) -> Result<Lease> {
        let until = self.until();
        self.call(|s| {
            s.take_overs.push((ask.dependency, reason.into()));
            let fence = s.grant(ask.dependency, Owner::Build(ask.owner), ask.highest_fence, until);
            self.lease(ask.dependency, ask.owner, fence)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{ManualClock, SeededRandom};

    const LASTS: Duration = Duration::from_secs(30);

    struct Bench {
        clock: ManualClock,
        random: SeededRandom,
        lock: ExpiringLock,
        dependency: DependencyId,
    }

    impl Bench {
        fn new() -> Self {
            let (clock, random) = (ManualClock::new(), SeededRandom::new(1));
            let dependency = DependencyId::draw(clock.now(), &random);
            let lock = ExpiringLock::new(Arc::new(clock.clone()), LASTS);
            Self { clock, random, lock, dependency }
        }

        fn ask(&self, highest_fence: u64) -> LockAsk {
            let owner = BuildId::draw(self.clock.now(), &self.random);
            LockAsk::new(self.dependency, "d".parse().unwrap(), owner, None, highest_fence)
        }

        async fn granted(&self, ask: &LockAsk) -> Lease {
            match self.lock.acquire(ask).await.unwrap() {
                Acquired::Granted(lease) => lease,
                Acquired::Held { by } => panic!("held by {by}"),
            }
        }
    }

    #[tokio::test]
    async fn of_two_owners_one_is_granted_and_the_same_owner_gets_the_same_lease() {
        let b = Bench::new();
        let (first, second) = (b.ask(0), b.ask(0));
        let lease = b.granted(&first).await;
        assert_eq!(lease.expires_in, Some(LASTS));
        assert_eq!(b.granted(&first).await, lease);
        let held = b.lock.acquire(&second).await.unwrap();
        assert_eq!(held, Acquired::Held { by: first.owner.to_string() });
        assert_eq!((b.lock.holder(b.dependency), b.lock.acquires()), (Some(first.owner), 3));
    }

    #[tokio::test]
    async fn fences_grow_above_the_stores_and_over_every_loss() {
        let b = Bench::new();
        assert_eq!(b.granted(&b.ask(41)).await.fence, 42);
        b.lock.lose_all();
        assert_eq!(b.granted(&b.ask(0)).await.fence, 43);
        b.clock.advance(LASTS);
        let owner = b.ask(0);
        assert_eq!(b.granted(&owner).await.fence, 44);
        assert_eq!(b.lock.take_over(&b.ask(0), "it hangs").await.unwrap().fence, 45);
        assert_eq!(b.lock.take_overs(), [(b.dependency, "it hangs".to_owned())]);
    }

    #[tokio::test]
    async fn a_lease_that_the_store_has_passed_is_granted_anew() {
        let b = Bench::new();
        let mut ask = b.ask(0);
        let passed = b.granted(&ask).await;
        assert_eq!(passed.fence, 1);
        ask.highest_fence = 7;
        assert_eq!(b.granted(&ask).await.fence, 8);
        assert_eq!(b.lock.renew(&[passed]).await.remove(0).unwrap_err().kind(), ErrorKind::LeaseLost);
    }

    #[tokio::test]
    async fn a_renewed_lease_lasts_and_one_that_expired_is_lost() {
        let b = Bench::new();
        let lease = b.granted(&b.ask(0)).await;
        let almost = LASTS - Duration::from_nanos(1);
        for _ in 0..3 {
            b.clock.advance(almost);
            assert!(b.lock.renew(std::slice::from_ref(&lease)).await.remove(0).is_ok());
        }
        b.clock.advance(LASTS);
        let lost = b.lock.renew(std::slice::from_ref(&lease)).await.remove(0).unwrap_err();
        assert_eq!((lost.kind(), b.lock.held()), (ErrorKind::LeaseLost, 0));
    }

    #[tokio::test]
    async fn a_late_release_does_not_free_another_ones_lock() {
        let b = Bench::new();
        let late = b.granted(&b.ask(0)).await;
        b.clock.advance(LASTS);
        let ask = b.ask(0);
        let lease = b.granted(&ask).await;
        b.lock.release(&late).await.unwrap();
        assert_eq!(b.lock.holder(b.dependency), Some(ask.owner));
        b.lock.release(&lease).await.unwrap();
        b.lock.release(&lease).await.unwrap();
        assert_eq!(b.lock.holder(b.dependency), None);
    }

    #[tokio::test]
    async fn an_unreachable_lock_changes_nothing_and_a_lost_answer_does() {
        let b = Bench::new();
        let ask = b.ask(0);
        b.lock.unreachable(true);
        assert_eq!(b.lock.acquire(&ask).await.unwrap_err().kind(), ErrorKind::Unavailable);
        b.lock.unreachable(false);
        assert_eq!(b.lock.held(), 0);
        b.lock.lose_next_answer();
        assert_eq!(b.lock.acquire(&ask).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        assert_eq!(b.lock.holder(b.dependency), Some(ask.owner));
        assert_eq!(b.granted(&ask).await.fence, 1);
    }

    #[tokio::test]
    async fn leases_can_be_lost_or_be_a_strangers() {
        let b = Bench::new();
        let lease = b.granted(&b.ask(0)).await;
        b.lock.lose(b.dependency);
        assert!(b.lock.renew(&[lease]).await.remove(0).is_err());
        b.lock.hold_for_stranger(b.dependency, "cron on host7");
        let held = b.lock.acquire(&b.ask(0)).await.unwrap();
        assert_eq!(held, Acquired::Held { by: "cron on host7".into() });
        assert_eq!((b.lock.held(), b.lock.holder(b.dependency)), (1, None));
    }
}
