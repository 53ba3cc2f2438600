//! Crashes at every await, and commits that fail.

use capomastro_core::{
    ErrorKind, InMemoryStore, Scheduler,
    events::EventKind,
    launch::Outcome,
    model::{OnHeld, Phase, Policy},
    scheduler::SchedulerBuilder,
    store::{Key, LimitScope, Record},
};
use capomastro_testkit::{
    ControllableLauncher, ExpiringLock, ManualClock, ScriptedProbe, SeededRandom, fakes::LaunchAnswer,
};
use capomastro_tests::{Awaits, Fault, FaultyStore, Stage, person, polled};
use std::{sync::Arc, time::Duration};

/// A world in which every part waits at each await.
struct World {
    stage: Stage,
    lock: Option<ExpiringLock>,
}

impl World {
    fn new(launcher: ControllableLauncher, with_lock: bool) -> Self {
        let clock = ManualClock::new();
        let lock = with_lock.then(|| ExpiringLock::new(Arc::new(clock.clone()), Duration::from_secs(30)));
        Self { stage: Stage::at(clock, launcher, |b| b), lock }
    }

    /// A scheduler that has just been started.
    fn scheduler(&self, seed: u64) -> Scheduler {
        let stage = &self.stage;
        let lock = self.lock.clone();
        let mut builder: SchedulerBuilder = Scheduler::builder(Awaits(Arc::clone(&stage.store)))
            .clock(Arc::new(stage.clock.clone()))
            .random(Arc::new(SeededRandom::new(seed)))
            .probe("scripted", Arc::new(Awaits(stage.probe.clone())))
            .launcher("fake", Arc::new(Awaits(stage.launcher.clone())));
        builder = match lock {
            Some(lock) => builder.lock(Arc::new(Awaits(lock))),
            // A limit makes the record of a build and its send two commits.
            None => builder.overall_limit(1),
        };
        builder.build().expect("the choices are within their ranges")
    }

    /// Runs a scheduler until it has been polled so often, and drops it there. `true` if it came to the end before.
    async fn run_until_dropped(&self, seed: u64, polls: usize) -> bool {
        let scheduler = self.scheduler(seed);
        let mut left = polls;
        for _ in 0..600 {
            let next = loop {
                let (rest, done) = polled(left, scheduler.tick());
                left = rest;
                let Some(report) = done else { return false };
                let report = report.expect("the store answers");
                if report.taken == 0 {
                    break report.next_due_in.unwrap_or_default();
                }
            };
            let build = self.stage.builds("a").await.pop();
            if build.is_some_and(|b| b.phase.is_terminal()) && self.is_released() {
                return true;
            }
            self.stage.clock.advance(next.max(Duration::from_secs(1)));
        }
        panic!("the history does not end: {:#?}", self.stage);
    }

    fn is_released(&self) -> bool {
        self.lock.as_ref().is_none_or(|l| l.held() == 0)
    }

    /// The history that is tried: a change is seen, launched and built. Returns after how many drops it came to its end.
    async fn play(&self, drops: &[usize]) -> usize {
        self.stage.probe.set("a", "r1");
        self.stage.define("a", &["website"], Policy::default()).await;
        for (run, polls) in drops.iter().enumerate() {
            if self.run_until_dropped(100 + run as u64, *polls).await {
                return run;
            }
        }
        assert!(self.run_until_dropped(99, usize::MAX).await);
        drops.len()
    }

    async fn check(&self, what: &str) {
        let stage = &self.stage;
        assert_eq!(stage.phases("a").await, [Phase::Succeeded], "{what}");
        assert_eq!(stage.launcher.builds().len(), 1, "{what}: one external build");
        let state = stage.state("a").await;
        assert!(state.held.is_none() && state.linked.is_some(), "{what}: {state:#?}");
        assert_eq!(state.fence, stage.last_build("a").await.fence, "{what}");
        let limit = stage.store.get(&[Key::Limit(LimitScope::Overall)]).await.expect("the store answers");
        if let Some(Record::Limit(limit)) = limit.records.into_iter().flatten().next().map(|v| v.record) {
            assert!(limit.active.is_empty() && limit.waiting.is_empty(), "{what}: {limit:#?}");
        }
        let project = stage.scheduler.project_status("website").await.expect("the project is there");
        assert!(project.current.is_some() && project.open.is_empty(), "{what}");
        assert_eq!(
            stage.count_events("a", |e| matches!(e, EventKind::BuildStarted { .. })).await,
            1,
            "{what}"
        );
        assert_eq!(stage.count_events("a", |e| matches!(e, EventKind::BuildEnded { .. })).await, 1, "{what}");
    }
}

#[tokio::test]
async fn a_crash_at_any_await_leads_to_one_external_build_that_ends() {
    for with_lock in [false, true] {
        for answer in [LaunchAnswer::Accept, LaunchAnswer::LoseAnswer, LaunchAnswer::LoseRequest] {
            let mut polls = 0;
            loop {
                let world = World::new(ControllableLauncher::auto_succeed(), with_lock);
                world.stage.launcher.answer_next(answer);
                let drops = world.play(&[polls]).await;
                world.check(&format!("{answer:?}, lock {with_lock}, dropped at poll {polls}")).await;
                if drops == 0 {
                    break;
                }
                polls += 1;
            }
            assert!(polls > 40, "{polls} awaits were tried");
        }
    }
}

#[tokio::test]
async fn two_crashes_at_any_awaits_lead_to_one_external_build_that_ends() {
    let mut first = 0;
    loop {
        let mut second = 0;
        loop {
            let world = World::new(ControllableLauncher::auto_succeed(), true);
            let drops = world.play(&[first, second]).await;
            world.check(&format!("dropped at polls {first} and {second}")).await;
            if drops == 0 {
                assert!(first > 40, "{first} awaits were tried");
                return;
            }
            if drops == 1 {
                break;
            }
            // Neighbouring awaits of the second run are much alike; all of the first one are tried.
            second += 3;
        }
        first += 1;
    }
}

#[tokio::test]
async fn a_crash_at_any_await_of_a_cancel_ends_it_cancelled() {
    let mut polls = 0;
    loop {
        let world = World::new(ControllableLauncher::accepting(), false);
        let stage = &world.stage;
        stage.begin("a", Policy::default()).await;
        let build = stage.last_build("a").await.id;
        let scheduler = world.scheduler(5);
        let (left, done) = polled(polls, scheduler.cancel(build, &person()));
        if done.is_none() {
            stage.scheduler.cancel(build, &person()).await.unwrap();
        }
        let ended = left > 0 && world.run_until_dropped(6, left).await;
        if !ended {
            assert!(world.run_until_dropped(7, usize::MAX).await);
        }
        assert_eq!(stage.phases("a").await, [Phase::Cancelled], "dropped at poll {polls}");
        assert!(stage.state("a").await.held.is_none());
        if ended {
            assert!(polls > 10);
            break;
        }
        polls += 1;
    }
}

#[tokio::test]
async fn a_crash_at_any_await_of_breaking_a_lock_leaves_it_held_or_broken() {
    let mut polls = 0;
    loop {
        let world = World::new(ControllableLauncher::accepting(), true);
        let (stage, lock) = (&world.stage, world.lock.as_ref().expect("there is one"));
        let scheduler = world.scheduler(5);
        stage.probe.set("a", "r1");
        stage.define("a", &[], Policy::default()).await;
        let (_, report) = polled(usize::MAX, scheduler.tick());
        report.expect("all parts answer").unwrap();
        let build = stage.last_build("a").await;
        assert_eq!(lock.holder(build.dependency), Some(build.id));
        let (left, done) = polled(polls, scheduler.break_lock("a", &person(), "it hangs"));
        for _ in 0..60 {
            drop(polled(usize::MAX, scheduler.tick()));
            stage.clock.advance(Duration::from_secs(1));
        }
        let phase = stage.last_build("a").await.phase;
        match done {
            Some(broken) => assert_eq!(broken.unwrap(), build.id),
            None => {
                assert!(matches!(phase, Phase::Submitted | Phase::Lost), "{phase}, dropped at poll {polls}")
            }
        }
        let held = stage.state("a").await.held.is_some();
        assert_eq!((held, lock.held() == 1), (phase == Phase::Submitted, held), "dropped at poll {polls}");
        if left > 0 {
            assert_eq!(phase, Phase::Lost);
            assert!(polls > 10);
            break;
        }
        polls += 1;
    }
}

#[tokio::test]
async fn a_crash_at_any_await_of_an_end_starts_what_waits_once() {
    let mut polls = 0;
    loop {
        let world = World::new(ControllableLauncher::accepting(), false);
        let stage = &world.stage;
        stage.begin("a", Policy::default().with_on_held(OnHeld::Queue { max: 5 })).await;
        stage.build_now("a", "r2").await;
        stage.launcher.last_of("a").finish(Outcome::Succeeded);
        let crashed = world.scheduler(5);
        stage.clock.advance(Duration::from_secs(3));
        let (left, _) = polled(polls, crashed.tick());
        drop(crashed);
        let next = world.scheduler(6);
        for _ in 0..200 {
            let (_, report) = polled(usize::MAX, next.tick());
            report.expect("all parts answer").unwrap();
            stage.clock.advance(Duration::from_secs(1));
        }
        assert_eq!(stage.phases("a").await, [Phase::Succeeded, Phase::Submitted], "dropped at poll {polls}");
        assert_eq!(stage.built("a"), ["r1", "r2"]);
        if left > 0 {
            assert!(polls > 10);
            break;
        }
        polls += 1;
    }
}

#[tokio::test]
async fn two_schedulers_that_end_and_look_at_once_start_one_build() {
    let stage = Stage::new(ControllableLauncher::accepting());
    stage.begin("a", Policy::default()).await;
    stage.probe.set("a", "r2");
    stage.launcher.last_of("a").finish(Outcome::Succeeded);
    // The look and the end are due in the same moment, for whoever comes first.
    stage.clock.advance(Duration::from_secs(61));
    let world = World { stage: stage.clone(), lock: None };
    let (one, two) = (world.scheduler(3), world.scheduler(4));
    for _ in 0..100 {
        let (a, b) = futures_util::future::join(one.tick(), two.tick()).await;
        a.unwrap();
        b.unwrap();
        stage.clock.advance(Duration::from_secs(1));
    }
    assert_eq!(stage.built("a"), ["r1", "r2"]);
    assert_eq!(stage.phases("a").await, [Phase::Succeeded, Phase::Submitted]);
}

/// A stage whose scheduler writes to a store that fails when told.
fn faulty(launcher: ControllableLauncher) -> (Stage, FaultyStore, ExpiringLock) {
    let clock = ManualClock::new();
    let store = FaultyStore::new(Arc::new(InMemoryStore::new(Arc::new(clock.clone()))));
    let lock = ExpiringLock::new(Arc::new(clock.clone()), Duration::from_secs(30));
    let (shared, probe) = (lock.clone(), ScriptedProbe::new());
    let stage = Stage::over(Arc::new(store.clone()), clock, probe, launcher, |b| b.lock(Arc::new(shared)));
    (stage, store, lock)
}

/// Ticks while time moves to whoever sleeps, so that repeated commits go on.
async fn tick_through(stage: &Stage) {
    let tick = stage.scheduler.tick();
    let mut tick = std::pin::pin!(tick);
    while futures_util::poll!(&mut tick).is_pending() {
        assert!(stage.clock.advance_to_next_sleeper().is_some(), "the tick waits for nothing that comes");
    }
}

#[tokio::test]
async fn a_commit_that_fails_after_the_lock_was_acquired_gives_the_lock_back() {
    let (stage, store, lock) = faulty(ControllableLauncher::auto_succeed());
    stage.probe.set("a", "r1");
    tick_through(&stage).await;
    stage.define("a", &[], Policy::default()).await;
    store.next_commits([Fault::Fails(ErrorKind::Unavailable)]);
    tick_through(&stage).await;
    assert_eq!((lock.acquires(), lock.held()), (1, 0));
    assert!(stage.builds("a").await.is_empty() && stage.launcher.launch_calls() == 0);
    stage.pass_until(60, async |s| s.builds("a").await.len() == 1).await;
    stage.pass_until_phase(60, "a", Phase::Succeeded).await;
}

#[tokio::test]
async fn a_commit_that_may_have_been_made_keeps_the_lock() {
    // Nobody is told however often it is repeated; or the store fails in another way when it is repeated, which says
    // nothing of the first time.
    let lost = [Fault::AnswerLost; 7].to_vec();
    let full = [vec![Fault::AnswerLost], vec![Fault::Fails(ErrorKind::StorageFull); 6]].concat();
    let down = [vec![Fault::AnswerLost; 2], vec![Fault::Fails(ErrorKind::Unavailable); 5]].concat();
    for faults in [lost, full, down] {
        let (stage, store, lock) = faulty(ControllableLauncher::auto_succeed());
        stage.probe.set("a", "r1");
        tick_through(&stage).await;
        stage.define("a", &[], Policy::default()).await;
        store.next_commits(faults.clone());
        tick_through(&stage).await;
        let build = stage.last_build("a").await;
        assert_eq!((build.phase, stage.launcher.launch_calls()), (Phase::Launching, 0), "{faults:?}");
        assert_eq!(lock.holder(build.dependency), Some(build.id), "{faults:?}");
        stage.pass_until_phase(600, "a", Phase::Succeeded).await;
        assert_eq!(stage.launcher.builds().len(), 1);
        assert_eq!(stage.count_events("a", |e| matches!(e, EventKind::LeaseLost { .. })).await, 0);
    }
}

#[tokio::test]
async fn a_commit_that_may_have_been_made_is_repeated_through_a_short_outage() {
    let (stage, store, _) = faulty(ControllableLauncher::auto_succeed());
    stage.probe.set("a", "r1");
    stage.define("a", &[], Policy::default()).await;
    store.next_commits([Fault::AnswerLost, Fault::Fails(ErrorKind::StorageFull)]);
    tick_through(&stage).await;
    stage.pass_until_phase(5, "a", Phase::Succeeded).await;
    assert_eq!(stage.launcher.builds().len(), 1);
}

#[tokio::test]
async fn any_commit_may_fail_or_lose_its_answer_and_the_history_is_the_same() {
    let faults = [
        Fault::Fails(ErrorKind::Unavailable),
        Fault::Fails(ErrorKind::Conflict),
        Fault::AnswerLost,
        Fault::RequestLost,
    ];
    for fault in faults {
        for often in [1, 7] {
            let mut place = 0;
            loop {
                let (stage, store, lock) = faulty(ControllableLauncher::auto_succeed());
                stage.probe.set("a", "r1");
                stage.define("a", &["website"], Policy::default()).await;
                let before = store.commits();
                store.next_commits(
                    std::iter::repeat_n(Fault::None, place).chain(std::iter::repeat_n(fault, often)),
                );
                for _ in 0..600 {
                    tick_through(&stage).await;
                    stage.clock.advance(Duration::from_secs(1));
                    let build = stage.builds("a").await.pop();
                    if build.is_some_and(|b| b.phase.is_terminal()) && lock.held() == 0 {
                        break;
                    }
                }
                let made = store.commits() - before;
                let what = format!("{fault:?}, {often} times from commit {place}");
                World { stage, lock: Some(lock) }.check(&what).await;
                if made < place {
                    assert!(place > 4, "{place} commits were tried");
                    break;
                }
                place += 1;
            }
        }
    }
}
