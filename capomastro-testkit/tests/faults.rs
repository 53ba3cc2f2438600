//! What each fault does to a call, and that a scheduler whose every part meets them still builds each revision once.
#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_core::{
    Error, ErrorKind, InMemoryStore, Result, Scheduler, async_trait,
    launch::{BuildLauncher, Journal, LaunchRequest, Launched, Promise, SendBefore},
    lock::{Acquired, DependencyLock, LockAsk},
    model::{BuildId, CommitId, DependencyId, HolderId, LaunchKey, Policy},
    probe::{Ask, Probed, RevisionProbe},
    scheduler::DependencySpec,
    secret::Secrets,
    store::{Batch, StateStore},
    time::{Clock, Monotonic},
};
use capomastro_testkit::{
    ControllableLauncher, ExpiringLock, ManualClock, ScriptedProbe, SeededRandom,
    faults::{Fault, Faults, Faulty},
};
use futures_util::{FutureExt as _, poll};
use serde_json::{Value, json};
use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

const ALL: [Fault; 5] = [Fault::Before, Fault::After, Fault::Delay, Fault::Duplicate, Fault::Freeze];

/// A lock whose calls meet faults, and the sound one behind it.
struct Bench {
    clock: ManualClock,
    random: SeededRandom,
    faults: Faults,
    server: ExpiringLock,
    lock: Faulty<ExpiringLock>,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let clock = ManualClock::new();
        let ten = Duration::from_secs(10);
        let faults = Faults::new(Arc::new(clock.clone()), seed);
        faults.delays(ten..=ten);
        let server = ExpiringLock::new(Arc::new(clock.clone()), Duration::from_secs(3_600));
        let lock = Faulty::new(Arc::new(server.clone()), faults.clone());
        Self { clock, random: SeededRandom::new(seed), faults, server, lock }
    }

    fn id(&self) -> BuildId {
        BuildId::draw(self.clock.now(), &self.random)
    }

    fn ask(&self) -> LockAsk {
        let dependency = DependencyId::draw(self.clock.now(), &self.random);
        LockAsk::new(dependency, "lib".parse().unwrap(), self.id(), None, 0)
    }
}

#[tokio::test]
async fn before_has_no_effect_and_after_loses_the_answer() {
    let b = Bench::new(1);
    let ask = b.ask();
    b.faults.next(Fault::Before);
    assert_eq!(b.lock.acquire(&ask).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!((b.server.acquires(), b.server.held()), (0, 0), "it has no effect");
    b.faults.next(Fault::After);
    assert_eq!(b.lock.acquire(&ask).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(b.server.holder(ask.dependency), Some(ask.owner), "it has its effect");
}

#[tokio::test]
async fn a_delay_is_on_both_sides_of_the_effect() {
    let b = Bench::new(1);
    let ask = b.ask();
    b.faults.next(Fault::Delay);
    let mut call = pin!(b.lock.acquire(&ask));
    assert!(poll!(&mut call).is_pending());
    b.clock.advance(Duration::from_secs(4));
    assert!(poll!(&mut call).is_pending());
    assert_eq!(b.server.acquires(), 0, "the way there takes five seconds");
    b.clock.advance(Duration::from_secs(1));
    assert!(poll!(&mut call).is_pending());
    assert_eq!(b.server.acquires(), 1, "and the way back as long");
    b.clock.advance(Duration::from_secs(4));
    assert!(poll!(&mut call).is_pending());
    b.clock.advance(Duration::from_secs(1));
    assert!(matches!(poll!(&mut call), Poll::Ready(Ok(Acquired::Granted(_)))));
}

#[tokio::test]
async fn a_duplicate_is_made_twice_and_answered_once() {
    let b = Bench::new(1);
    b.faults.next(Fault::Duplicate);
    let lease = match b.lock.acquire(&b.ask()).await.unwrap() {
        Acquired::Granted(lease) => lease,
        Acquired::Held { by } => panic!("held by {by}"),
    };
    assert_eq!(b.server.acquires(), 2);
    b.faults.next(Fault::Duplicate);
    b.lock.take_over(&b.ask(), "twice").await.unwrap();
    assert_eq!(b.server.take_overs().len(), 2);
    b.lock.release(&lease).await.unwrap();
}

#[tokio::test]
async fn what_is_frozen_goes_on_when_it_thaws_and_not_when_it_was_dropped() {
    let b = Bench::new(1);
    let (one, other) = (b.ask(), b.ask());
    b.faults.next(Fault::Freeze);
    b.faults.next(Fault::Freeze);
    let mut goes_on = Box::pin(b.lock.acquire(&one));
    let mut dropped = Box::pin(b.lock.acquire(&other));
    assert!(poll!(&mut goes_on).is_pending() && poll!(&mut dropped).is_pending());
    assert_eq!((b.faults.frozen(), b.server.acquires()), (2, 0));
    b.clock.advance(Duration::from_secs(86_400));
    assert!(poll!(&mut goes_on).is_pending(), "time alone thaws nothing");
    drop(dropped);
    assert_eq!(b.faults.frozen(), 1);
    b.faults.thaw();
    assert!(goes_on.await.is_ok());
    assert_eq!((b.faults.frozen(), b.server.acquires()), (0, 1));
    b.faults.next(Fault::Freeze);
    assert!(b.lock.acquire(&b.ask()).now_or_never().is_none(), "an earlier thaw does not help later calls");
}

#[tokio::test]
async fn what_is_said_goes_before_chance_and_healing_ends_both() {
    let b = Bench::new(1);
    let faults = &b.faults;
    faults.rate(Fault::Before, 1_000);
    assert!(b.lock.acquire(&b.ask()).await.is_err());
    faults.spare_next();
    assert!(b.lock.acquire(&b.ask()).await.is_ok());
    faults.next(Fault::After);
    faults.heal();
    for _ in 0..100 {
        assert!(b.lock.acquire(&b.ask()).await.is_ok());
    }
    assert_eq!(ALL.map(|fault| faults.happened(fault)), [1, 0, 0, 0, 0]);
}

#[tokio::test]
async fn rates_are_kept_and_one_seed_is_one_history() {
    let history = async |seed| {
        let b = Bench::new(seed);
        b.faults.rate(Fault::Before, 200);
        b.faults.rate(Fault::After, 100);
        let mut answers = Vec::new();
        for _ in 0..5_000 {
            answers.push(b.lock.acquire(&b.ask()).await.err().map(|e| e.kind()));
        }
        (answers, [Fault::Before, Fault::After].map(|fault| b.faults.happened(fault)))
    };
    let (answers, [before, after]) = history(7).await;
    assert!((850..1_150).contains(&before) && (400..600).contains(&after), "{before} and {after} of 5,000");
    assert_eq!(history(7).await.0, answers);
    assert_ne!(history(8).await.0, answers);
}

#[test]
#[should_panic(expected = "of a thousand calls, 1001 cannot meet a fault")]
fn rates_above_all_calls_are_refused() {
    let faults = Bench::new(1).faults;
    faults.rate(Fault::Before, 1_000);
    faults.rate(Fault::After, 1);
}

#[tokio::test]
async fn a_store_loses_the_answer_to_what_it_wrote() {
    let b = Bench::new(1);
    let sound = Arc::new(InMemoryStore::new(Arc::new(b.clock.clone())));
    let store = Faulty::new(Arc::clone(&sound), b.faults.clone());
    let batch = || Batch::new(CommitId::draw(b.clock.now(), &b.random), "me".parse::<HolderId>().unwrap());
    let (unsent, unanswered) = (batch(), batch());
    b.faults.next(Fault::Before);
    assert_eq!(store.commit(&unsent).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(!store.commit(&unsent).await.unwrap().repeated);
    b.faults.next(Fault::After);
    assert_eq!(store.commit(&unanswered).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert!(store.commit(&unanswered).await.unwrap().repeated);
    b.faults.next(Fault::After);
    assert_eq!(store.get(&[]).await.unwrap_err().kind(), ErrorKind::Unavailable, "a read changes nothing");
}

#[derive(Debug)]
struct NoJournal;

#[async_trait]
impl Journal for NoJournal {
    async fn keep(&self, _: Value) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_launcher_loses_the_answer_to_what_it_started() {
    let b = Bench::new(1);
    let system = ControllableLauncher::auto_succeed();
    let launcher: Faulty<dyn BuildLauncher> = Faulty::new(Arc::new(system.clone()), b.faults.clone());
    let (build, far) = (b.id(), SendBefore(Monotonic(Duration::MAX)));
    let (key, name, revision) = (LaunchKey::of(build), "lib".parse().unwrap(), "r1".parse().unwrap());
    let (job, minute) = (json!({}), Duration::from_secs(60));
    let request = LaunchRequest::new(build, key, name, 1, revision, 1, job, minute, far, Secrets::none());
    b.faults.next(Fault::Before);
    assert_eq!(launcher.launch(&request, &NoJournal).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(system.external_builds(key), 0);
    b.faults.next(Fault::After);
    assert_eq!(launcher.launch(&request, &NoJournal).await.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(system.external_builds(key), 1);
    assert_eq!(launcher.promise(), system.promise());
    let Launched::Accepted(external) = launcher.launch(&request, &NoJournal).await.unwrap() else {
        panic!("the fake accepts");
    };
    let builds = [(key, external.clone()), (key, external)];
    b.faults.next(Fault::After);
    let kinds: Vec<_> =
        launcher.observe(&builds).await.into_iter().map(|r| r.map_err(|e| e.kind())).collect();
    assert_eq!(
        kinds,
        [Err(ErrorKind::Unavailable), Err(ErrorKind::Unavailable)],
        "one answer for each build"
    );
}

#[tokio::test]
async fn a_probe_answers_each_ask_also_when_it_fails() {
    let b = Bench::new(1);
    let world = ScriptedProbe::new();
    world.set("lib", "r1");
    let probe = Faulty::new(Arc::new(world.clone()), b.faults.clone());
    let source = ScriptedProbe::source("lib");
    assert_eq!(probe.key(&source).unwrap(), world.key(&source).unwrap());
    let asks = [(); 3]
        .map(|()| Ask::new("lib".parse().unwrap(), source.clone(), Duration::from_secs(60), Secrets::none()));
    for fault in [Fault::Before, Fault::After] {
        b.faults.next(fault);
        let answers = probe.probe(&asks).await;
        let is_away = |e: &Error| e.kind() == ErrorKind::Unavailable;
        assert!(answers.len() == 3 && answers.iter().all(|a| a.as_ref().is_err_and(is_away)), "{answers:?}");
    }
    assert!(probe.probe(&asks).await.iter().all(|a| matches!(a, Ok(Probed::Observed(_)))));
}

// --- all together

/// Ticks once; time passes while calls are late, and what is frozen thaws after some time.
async fn tick(scheduler: &Scheduler, b: &Bench) {
    let mut tick = pin!(scheduler.tick());
    for waited in 1_u32.. {
        if let Poll::Ready(ticked) = poll!(&mut tick) {
            // An error is what the test makes, and the next tick goes on.
            drop(ticked);
            return;
        }
        b.clock.advance(Duration::from_secs(1));
        if waited.is_multiple_of(100) {
            b.faults.thaw();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn with_faults_everywhere_each_revision_is_built_once() {
    for seed in 0..20 {
        let b = Bench::new(seed);
        ALL.iter().for_each(|fault| b.faults.rate(*fault, 40));
        let clock: Arc<dyn Clock> = Arc::new(b.clock.clone());
        let (world, system) = (ScriptedProbe::new(), ControllableLauncher::auto_succeed());
        let system = system.with_clock(Arc::clone(&clock));
        let system = system.with_promise(Promise::IdempotentByKey);
        let store = Faulty::new(Arc::new(InMemoryStore::new(Arc::clone(&clock))), b.faults.clone());
        let scheduler = Scheduler::builder(store)
            .clock(clock)
            .random(Arc::new(b.random.clone()))
            .probe("scripted", Arc::new(Faulty::new(Arc::new(world.clone()), b.faults.clone())))
            .launcher("fake", Arc::new(Faulty::new(Arc::new(system.clone()), b.faults.clone())))
            .lock(Arc::new(b.lock.clone()))
            .build()
            .unwrap();
        let policy = Policy::default().with_look_every(Duration::from_secs(60));
        let spec =
            DependencySpec::new("lib", ScriptedProbe::source("lib"), "fake").unwrap().with_policy(policy);
        // A person who is answered by an error would do it again.
        (0..50).for_each(|_| b.faults.spare_next());
        scheduler.ensure(&spec).await.unwrap();
        let revisions: Vec<String> = (1..=5).map(|n| format!("r{n}")).collect();
        for (n, revision) in revisions.iter().enumerate() {
            world.set("lib", revision);
            let built = || system.launched().iter().any(|l| l.revision.as_str() == revision.as_str());
            for _ in 0..20_000 {
                if built() {
                    break;
                }
                b.clock.advance(Duration::from_secs(1));
                tick(&scheduler, &b).await;
            }
            assert!(built(), "seed {seed}: {revision}, the one after {n} others, is built");
        }
        b.faults.heal();
        for _ in 0..2_000 {
            b.clock.advance(Duration::from_secs(1));
            tick(&scheduler, &b).await;
        }
        let built: Vec<String> = system.launched().iter().map(|l| l.revision.to_string()).collect();
        assert_eq!(built, revisions, "seed {seed}: each once, and in order");
        assert_eq!(system.duplicates(), [], "seed {seed}");
        assert_eq!(b.server.held(), 0, "seed {seed}: nothing is held when nothing is built");
        for fault in ALL {
            assert!(b.faults.happened(fault) > 0, "seed {seed}: {fault:?} happened");
        }
    }
}
