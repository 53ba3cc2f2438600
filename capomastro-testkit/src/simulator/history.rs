//! How a history goes: processes start, stand still and fall; time passes; the world moves; in the end everything heals.

use super::{
    Simulation, Verdict,
    dice::Dice,
    executor::{Executor, Work, at_once},
    parts::{SimLauncher, SimProbe},
    people::{self, LAUNCHER, PROBE},
    plan::{Action, Ask, DRIVE_LEASE, LOOK_LEASE, Plan, REQUEST_TIMEOUT},
    stage::{Stage, revision},
    stores::{AGAIN, Faulty, Watched},
    trace::Trace,
};
use crate::fakes::{ExpiringLock, SeededRandom};
use capomastro_core::{
    Scheduler,
    launch::BuildLauncher,
    lock::DependencyLock,
    probe::RevisionProbe,
    store::{Key, StateStore},
    time::{Clock, Monotonic},
};
use chrono::TimeDelta;
use std::{sync::Arc, time::Duration};

/// How long a scheduler waits at the most before it asks for work.
const IDLE: Duration = Duration::from_secs(4);
/// How long the healing may take: longer than the longest back-off.
const HEALING: Duration = Duration::from_secs(6_000);
/// More awaits than any history needs.
const MOST_POLLS: u64 = 400_000;

/// What strikes a process after some more awaits.
#[derive(Copy, Clone, Debug)]
enum Strike {
    Crash { down: Duration },
    Freeze { lasts: Duration },
}

#[derive(Debug, Default)]
struct Process {
    scheduler: Option<Scheduler>,
    starts: u64,
    down_until: Monotonic,
    frozen_until: Option<Monotonic>,
    armed: Vec<(u64, Strike)>,
}

struct History<'a> {
    simulation: &'a Simulation,
    stage: Arc<Stage>,
    plan: Arc<Plan>,
    base: Arc<dyn StateStore>,
    lock: Option<ExpiringLock>,
    executor: Executor,
    processes: Vec<Process>,
    order: Dice,
    began: Monotonic,
    lock_out_until: Monotonic,
    polls: u64,
}

pub(super) fn run(simulation: &Simulation, plan: Plan) -> Verdict {
    let plan = Arc::new(plan);
    let stage = Arc::new(Stage::new(Arc::clone(&plan), simulation.seed, Trace::new(simulation.tells)));
    let base = (simulation.store)(stage.clock.clone());
    let lock = plan.lock_lasts.map(|lasts| ExpiringLock::new(Arc::new(stage.clock.clone()), lasts));
    let mut history = History {
        simulation,
        began: stage.now(),
        base,
        lock,
        executor: Executor::default(),
        processes: plan.processes.iter().map(|_| Process::default()).collect(),
        order: Dice::new(simulation.seed, 3),
        lock_out_until: Monotonic::default(),
        polls: 0,
        plan,
        stage,
    };
    history.begin();
    history.go_on();
    history.end()
}

/// Ticks for ever, as an embedder's own loop does.
async fn tick(stage: Arc<Stage>, scheduler: Scheduler) {
    loop {
        let wait = match scheduler.tick().await {
            Ok(report) if report.taken > 0 => Duration::from_millis(1),
            Ok(report) => report.next_due_in.unwrap_or(IDLE).clamp(Duration::from_millis(1), IDLE),
            Err(_) => AGAIN,
        };
        stage.clock.sleep(wait).await;
    }
}

async fn run_for_ever(stage: Arc<Stage>, scheduler: Scheduler) {
    loop {
        if let Err(error) = scheduler.run(std::future::pending()).await {
            stage.world().trace.line(|| format!("a scheduler stops: {}", error.report()));
            stage.clock.sleep(AGAIN).await;
        }
    }
}

impl History<'_> {
    fn watched(&self) -> Watched {
        Watched { base: Arc::clone(&self.base), stage: Arc::clone(&self.stage) }
    }

    fn scheduler(&self, process: usize, start: u64, store: Arc<dyn StateStore>) -> Scheduler {
        let stage = &self.stage;
        let store = self
            .simulation
            .store_wrap
            .as_ref()
            .map_or_else(|| Arc::clone(&store), |wrap| wrap(Arc::clone(&store)));
        let launcher: Arc<dyn BuildLauncher> = Arc::new(SimLauncher { stage: Arc::clone(stage), process });
        let launcher = self
            .simulation
            .launcher_wrap
            .as_ref()
            .map_or_else(|| Arc::clone(&launcher), |wrap| wrap(Arc::clone(&launcher)));
        let probe: Arc<dyn RevisionProbe> = Arc::new(SimProbe { stage: Arc::clone(stage), process });
        let probe = self
            .simulation
            .probe_wrap
            .as_ref()
            .map_or_else(|| Arc::clone(&probe), |wrap| wrap(Arc::clone(&probe)));
        let mut draws = Dice::new(self.simulation.seed, 1_000 + start * 16 + process as u64);
        let mut builder = Scheduler::builder(store)
            .instance(format!("s{process}"))
            .clock(Arc::new(stage.clock.clone()))
            .random(Arc::new(SeededRandom::new(draws.next())))
            .probe(PROBE, probe)
            .launcher(LAUNCHER, launcher)
            .drive_lease(DRIVE_LEASE)
            .request_timeout(REQUEST_TIMEOUT)
            .look_lease(LOOK_LEASE)
            .idle(IDLE);
        if let Some(limit) = self.plan.overall_limit {
            builder = builder.overall_limit(limit);
        }
        if let Some(limit) = self.plan.launcher_limit {
            builder = builder.launcher_limit(LAUNCHER, limit);
        }
        if let Some(lock) = &self.lock {
            let lock: Arc<dyn DependencyLock> = Arc::new(lock.clone());
            builder = builder.lock(match &self.simulation.lock_wrap {
                Some(wrap) => wrap(lock),
                None => lock,
            });
        }
        builder.build().expect("the choices of a history are within their ranges")
    }

    /// Everything is defined before anything goes wrong.
    fn begin(&mut self) {
        let plan = Arc::clone(&self.plan);
        let scheduler = self.scheduler(plan.processes.len(), 0, Arc::new(self.watched()));
        for dependency in &plan.dependencies {
            let spec = people::spec(&plan, dependency, 0).expect("a definition");
            if let Err(error) = at_once(scheduler.apply(&spec)) {
                self.stage.world().checker.fail("answer", || error.report());
            }
        }
    }

    fn start(&mut self, process: usize) {
        self.processes[process].starts += 1;
        let start = self.processes[process].starts;
        let store = Faulty { watched: self.watched(), stage: Arc::clone(&self.stage), process };
        let scheduler = self.scheduler(process, start, Arc::new(store));
        {
            let mut world = self.stage.world();
            world.checker.began(process, scheduler.holder().clone());
            world.trace.line(|| format!("process {process} starts as {}", scheduler.holder()));
        }
        let (stage, own) = (Arc::clone(&self.stage), scheduler.clone());
        let work: Work = if self.plan.processes[process] {
            Box::pin(run_for_ever(stage, own))
        } else {
            Box::pin(tick(stage, own))
        };
        self.executor.spawn(process, work);
        self.processes[process].scheduler = Some(scheduler);
        self.processes[process].frozen_until = None;
    }

    fn elapsed(&self) -> Duration {
        self.stage.now().0.saturating_sub(self.began.0)
    }

    fn is_violated(&self) -> bool {
        !self.stage.world().checker.violations.is_empty()
    }

    fn go_on(&mut self) {
        let plan = Arc::clone(&self.plan);
        let mut actions = plan.actions.iter().peekable();
        let mut heals_at = None;
        let mut next_look = Duration::ZERO;
        loop {
            let now = self.stage.now();
            let elapsed = self.elapsed();
            while let Some((_, action)) = actions.next_if(|(at, _)| Duration::from_millis(*at) <= elapsed) {
                self.act(action);
            }
            for process in 0..self.processes.len() {
                let p = &mut self.processes[process];
                if p.frozen_until.is_some_and(|until| until <= now) {
                    p.frozen_until = None;
                }
                if p.scheduler.is_none() && p.down_until <= now {
                    self.start(process);
                }
            }
            if let Some(lock) = &self.lock {
                lock.unreachable(now < self.lock_out_until);
            }
            // One instant: everything that is ready goes on.
            loop {
                let processes = &self.processes;
                let may_run = |p: usize| processes.get(p).is_none_or(|p| p.frozen_until.is_none());
                let Some(process) = self.executor.step(&mut self.order, may_run) else { break };
                self.polls += 1;
                self.stage.world().trace.number(process as u64);
                if self.polls > MOST_POLLS {
                    self.stage.world().checker.fail("livelock", || "work goes on without an end".into());
                }
                if self.is_violated() {
                    return;
                }
                self.strike(process);
            }
            if actions.peek().is_none() && heals_at.is_none() {
                heals_at = Some(elapsed);
                self.heal();
                continue;
            }
            if let Some(at) = heals_at
                && elapsed >= next_look
            {
                next_look = elapsed + Duration::from_secs(1);
                let unfinished = self.unfinished();
                match unfinished {
                    None => return,
                    Some(what) if elapsed > at + HEALING => {
                        return self.stage.world().checker.fail("I12", || what);
                    }
                    Some(_) => {}
                }
            }
            let mut wait = self.stage.clock.next_sleeper().unwrap_or(IDLE);
            if let Some((at, _)) = actions.peek() {
                wait = wait.min(Duration::from_millis(*at).saturating_sub(elapsed));
            }
            for p in &self.processes {
                let at = if p.scheduler.is_none() { Some(p.down_until) } else { p.frozen_until };
                if let Some(at) = at {
                    wait = wait.min(at.0.saturating_sub(now.0));
                }
            }
            self.stage.clock.advance(wait.max(Duration::from_micros(1)));
        }
    }

    /// What strikes the process at this await, if anything does.
    fn strike(&mut self, process: usize) {
        let Some(p) = self.processes.get_mut(process) else { return };
        let mut struck = None;
        for (left, strike) in &mut p.armed {
            *left = left.saturating_sub(1);
            if *left == 0 {
                struck = Some(*strike);
            }
        }
        p.armed.retain(|(left, _)| *left > 0);
        let now = self.stage.now();
        let mut world = self.stage.world();
        match struck {
            Some(Strike::Crash { down }) => {
                world.counters.crashes += 1;
                world.trace.line(|| format!("process {process} crashes"));
                drop(world);
                self.executor.kill(process);
                let p = &mut self.processes[process];
                p.scheduler = None;
                p.down_until = now.plus(down);
            }
            Some(Strike::Freeze { lasts }) => {
                world.counters.freezes += 1;
                world.trace.line(|| format!("process {process} stands still for {lasts:?}"));
                drop(world);
                self.processes[process].frozen_until = Some(now.plus(lasts));
            }
            None => {}
        }
    }

    fn act(&mut self, action: &Action) {
        let now = self.stage.now();
        let name = |n: usize| self.plan.dependencies[n % self.plan.dependencies.len()].name.clone();
        let mut world = self.stage.world();
        let elapsed = self.elapsed();
        world.trace.line(|| format!("-- at {elapsed:?}: {action:?}"));
        match action {
            Action::Move { source, to } => {
                world.sources.insert(name(*source), Some(*to));
            }
            Action::Gone { source } => {
                world.sources.insert(name(*source), None);
            }
            Action::StoreOutage { lasts } => world.store_out_until = now.plus(*lasts),
            Action::SystemOutage { lasts } => world.system_out_until = now.plus(*lasts),
            Action::Forget { which } => {
                let count = world.builds.len().max(1) as u64;
                let place = usize::try_from(which % count).unwrap_or_default();
                if let Some(build) = world.builds.get_mut(place) {
                    build.forgotten = true;
                    // What is not known any more is proven absent, falsely: no launcher can help that.
                    let key = build.key;
                    world.checker.excuse(key);
                }
            }
            Action::ClockJump { seconds } => {
                world.checker.clock_jumped();
                drop(world);
                self.stage.clock.skew(TimeDelta::seconds(*seconds));
            }
            Action::LockOutage { lasts } => {
                drop(world);
                self.lock_out_until = now.plus(*lasts);
            }
            Action::LockLoses => {
                drop(world);
                if let Some(lock) = &self.lock {
                    lock.lose_all();
                }
            }
            Action::Crash { process, after, down } => {
                drop(world);
                self.arm(*process, *after, Strike::Crash { down: *down });
            }
            Action::Freeze { process, after, lasts } => {
                drop(world);
                self.arm(*process, *after, Strike::Freeze { lasts: *lasts });
            }
            Action::Ask { process, what } => {
                drop(world);
                self.ask(*process, what.clone());
            }
        }
    }

    fn arm(&mut self, process: usize, after: u64, strike: Strike) {
        let count = self.processes.len();
        self.processes[process % count].armed.push((after + 1, strike));
    }

    fn ask(&mut self, process: usize, what: Ask) {
        let count = self.processes.len();
        let up = (0..count)
            .map(|n| (process + n) % count)
            .find_map(|n| Some((n, self.processes[n].scheduler.clone()?)));
        if let Some((process, scheduler)) = up {
            self.stage.world().counters.asks += 1;
            self.executor
                .spawn(process, Box::pin(people::ask(Arc::clone(&self.stage), scheduler, process, what)));
        }
    }

    /// From now on nothing goes wrong any more.
    fn heal(&mut self) {
        let now = self.stage.now();
        {
            let mut world = self.stage.world();
            world.healing = true;
            world.system_out_until = Monotonic::default();
            world.store_out_until = Monotonic::default();
            world.checker.heals();
            world.trace.line(|| "-- everything heals".into());
        }
        self.lock_out_until = Monotonic::default();
        for process in 0..self.processes.len() {
            let p = &mut self.processes[process];
            p.armed.clear();
            p.frozen_until = None;
            p.down_until = now;
            if p.scheduler.is_none() {
                self.start(process);
            }
        }
        if self.plan.resumes_in_the_end {
            for dependency in 0..self.plan.dependencies.len() {
                self.ask(0, Ask::Resume { dependency });
                self.ask(0, Ask::Push { dependency });
            }
        }
    }

    fn unfinished(&self) -> Option<String> {
        let world = self.stage.world();
        let at = |name: &str| world.sources.get(name).copied().flatten().map(revision);
        world.checker.unfinished(self.stage.clock.now(), at)
    }

    fn end(self) -> Verdict {
        let seconds = self.elapsed().as_secs();
        if !self.is_violated()
            && let Err(error) = at_once(self.watched().read_all())
        {
            self.stage.world().checker.fail("store", || error.report());
        }
        let Self { stage, executor, base, processes, polls, .. } = self;
        drop(executor);
        drop(processes);
        let mut guard = stage.world();
        let world = &mut *guard;
        if world.checker.violations.is_empty() {
            world.checker.check_end();
            let (keys, records): (Vec<Key>, Vec<_>) =
                world.checker.records().map(|(k, r)| (k.clone(), r.clone())).unzip();
            world.trace.value(&keys);
            match at_once(base.get(&keys)) {
                Ok(snapshot) => {
                    let same = snapshot
                        .records
                        .iter()
                        .zip(&records)
                        .all(|(s, r)| s.as_ref().map(|v| &v.record) == Some(r));
                    if !same {
                        world.checker.fail("store", || "the store does not have what was written".into());
                    }
                }
                Err(error) => world.checker.fail("store", || error.report()),
            }
        }
        world.counters.polls += polls;
        world.counters.virtual_seconds += seconds;
        let summary = world.checker.summary();
        world.trace.line(|| summary);
        Verdict {
            violations: std::mem::take(&mut world.checker.violations),
            digest: world.trace.digest(),
            counters: world.counters,
            story: world.trace.take_story(),
        }
    }
}
