//! Three schedulers on one database, and what is done to them.

use crate::{
    chance::{Chance, something_new},
    deadly::{POINTS, Place},
    followed::{FOLLOWER, Follower},
    kept::{self, DRIVE_LEASE, LOOK_LEASE},
    process::Process,
    watched::Watcher,
    world::{Kind, World},
};
use capomastro_core::time::{Clock as _, Monotonic, SystemClock};
use capomastro_tests::postgres::{Cluster, Proxy, Settings, Silent};
use rustix::process::{Pid, Signal, kill_process};
use std::{collections::BTreeMap, time::Duration};

const SCHEDULERS: [&str; 3] = ["one", "two", "three"];
/// Enough that some are always free of the claims of the dead.
const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];

/// How often there is something new, about, in ms.
const NEWS: u64 = 300;

/// What was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) kills: u32,
    pub(crate) crashes: u32,
    pub(crate) cuts: u32,
    pub(crate) freezes: u32,
    /// Of the freezes: at a point between two steps.
    pub(crate) frozen_between: u32,
    /// Of the cuts: after a commit was on its way, before its answer.
    pub(crate) lost_answers: u32,
    /// Commits that turned out to be written already.
    pub(crate) repeated: u32,
    /// Commits that were refused because another had taken the work over.
    pub(crate) claims_lost: u32,
}

/// What ends by itself, and when.
#[derive(Debug)]
struct Line {
    name: &'static str,
    proxy: Proxy,
    bad_until: Option<Monotonic>,
    process: Process,
    frozen_until: Option<Monotonic>,
    /// It was told to freeze at a point.
    is_to_freeze: bool,
    counted_cuts: u64,
}

/// Schedulers under fire.
pub(crate) struct Fire {
    pub(crate) done: Done,
    pub(crate) chance: Chance,
    cluster: Cluster,
    world: World,
    lines: Vec<Line>,
    follower: Option<(Follower, Proxy)>,
    watcher: Option<Watcher>,
    began: Monotonic,
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Fire {
    /// Three schedulers that run; nothing without PostgreSQL.
    pub(crate) async fn start(lane: u32) -> Option<Self> {
        let cluster = Cluster::with(Settings::default().durable())?;
        let chance = Chance::of(lane);
        let database = cluster.new_database();
        let proxy = || Proxy::before(cluster.endpoint());
        let proxies: Vec<_> = SCHEDULERS.iter().map(|name| (*name, proxy())).collect();
        let followed = proxy();
        let world = World::within(Kind::default(), &NAMES, |root| {
            kept::lead(root, None, &cluster.url(&database));
            kept::lead(root, Some(FOLLOWER), &followed.url(&database));
            for (name, proxy) in &proxies {
                kept::lead(root, Some(name), &proxy.url(&database));
            }
        })
        .await;
        let line = |(name, proxy)| Line {
            name,
            proxy,
            bad_until: None,
            process: Process::start(&world, name),
            frozen_until: None,
            is_to_freeze: false,
            counted_cuts: 0,
        };
        let lines = proxies.into_iter().map(line).collect();
        let follower = Some((Follower::start(world.root()).await, followed));
        let watcher = Some(Watcher::start(&world).await);
        let (done, began) = (Done::default(), SystemClock.monotonic());
        Some(Self { done, chance, cluster, world, lines, follower, watcher, began })
    }

    /// A while, in which work comes and what was broken for a time is mended.
    pub(crate) async fn pass(&mut self, least: u64, most: u64) {
        let mut now = SystemClock.monotonic();
        let until = now.plus(millis(least + self.chance.below(most - least)));
        let mut next = now.plus(millis(self.chance.below(NEWS)));
        while now < until {
            self.mend(now);
            if now >= next {
                something_new(&self.world, &self.chance).await;
                next = now.plus(millis(self.chance.below(2 * NEWS)));
            }
            SystemClock.sleep(millis(10)).await;
            now = SystemClock.monotonic();
        }
    }

    /// Ends what has lasted long enough by then.
    fn mend(&mut self, now: Monotonic) {
        for line in &mut self.lines {
            let cuts = line.proxy.cuts();
            self.done.lost_answers += u32::try_from(cuts - line.counted_cuts).unwrap();
            line.counted_cuts = cuts;
            if line.bad_until.is_some_and(|u| u <= now) {
                // What was held may arrive late, or never.
                if self.chance.below(2) == 0 {
                    line.proxy.cut();
                }
                line.proxy.pass();
                line.bad_until = None;
            }
            if is_frozen(&line.process) {
                let until = *line.frozen_until.get_or_insert_with(|| now.plus(freeze(&self.chance)));
                if until <= now {
                    send(&line.process, Signal::CONT);
                    line.frozen_until = None;
                    self.done.freezes += 1;
                    self.done.frozen_between += u32::from(std::mem::take(&mut line.is_to_freeze));
                }
            }
        }
    }

    fn any(&self) -> usize {
        self.chance.below_len(self.lines.len())
    }

    /// A scheduler is killed, wherever it is, and started again.
    pub(crate) fn kill(&mut self) {
        let any = self.any();
        self.replace(any, Process::start);
        self.done.kills += 1;
    }

    fn replace(&mut self, at: usize, start: impl FnOnce(&World, &str) -> Process) {
        let line = &mut self.lines[at];
        let next = start(&self.world, line.name);
        std::mem::replace(&mut line.process, next).kill();
        line.frozen_until = None;
        line.is_to_freeze = false;
    }

    /// The server goes as by a power cut, and starts again.
    pub(crate) async fn crash_server(&mut self) {
        self.cluster.stop_immediate();
        SystemClock.sleep(millis(self.chance.below(600))).await;
        self.cluster.start_again();
        self.done.crashes += 1;
    }

    /// The network before a scheduler, and sometimes before the reader of events, is bad for a while.
    pub(crate) fn spoil(&mut self) {
        let now = SystemClock.monotonic();
        let any = self.any();
        let line = &mut self.lines[any];
        let mut lasts = Some(millis(100 + self.chance.below(2_500)));
        match self.chance.below(9) {
            0 => {
                line.proxy.cut();
                lasts = None;
            }
            1 => line.proxy.refuse(),
            2 => line.proxy.silence(Silent::Both),
            3 => line.proxy.silence(Silent::Requests),
            4 => line.proxy.silence(Silent::Answers),
            5 => line.proxy.delay(millis(50 + self.chance.below(400))),
            // As long as the next commit takes to come.
            _ => {
                line.proxy.lose_answer("commit_1");
                lasts = Some(millis(3_000));
            }
        }
        line.bad_until = lasts.map(|l| now.plus(l)).or(line.bad_until);
        if let Some((_, proxy)) = self.follower.as_ref().filter(|_| self.chance.below(3) == 0) {
            proxy.cut();
        }
        self.done.cuts += 1;
    }

    /// A scheduler is frozen for longer than what it holds: now, or the next time it comes to some point.
    pub(crate) fn freeze(&mut self) {
        let any = self.any();
        if self.lines[any].frozen_until.is_some() || self.lines[any].is_to_freeze {
            return;
        }
        if self.chance.below(3) == 0 {
            send(&self.lines[any].process, Signal::STOP);
            return;
        }
        let point = POINTS[self.chance.below_len(POINTS.len())].to_owned();
        let place = Place { point, time: 1 + self.chance.below(4), freezes: true };
        self.replace(any, |world, name| Process::start_deadly(world, name, &place));
        self.lines[any].is_to_freeze = true;
    }

    /// Whatever was done, all ends well.
    pub(crate) async fn end(mut self) -> Done {
        let under_fire = self.world.starts().len();
        for line in &self.lines {
            line.proxy.pass();
            send(&line.process, Signal::CONT);
        }
        // Those who have not come to the point at which they freeze go, so that the others need not wait.
        for at in 0..self.lines.len() {
            if self.lines[at].is_to_freeze {
                self.replace(at, Process::start);
            }
        }
        let fire = SystemClock.monotonic();
        self.world.until_settled("what was left under fire").await;
        let healed = SystemClock.monotonic();
        for line in self.lines {
            line.process.stop().await;
        }
        self.world.check().await;
        self.watcher.take().unwrap().check().await;
        let (follower, proxy) = self.follower.take().unwrap();
        let (events, failures) = follower.check(&self.world).await;
        drop(proxy);
        let mut told = BTreeMap::<String, u32>::new();
        for line in self.world.lines("told") {
            *told.entry(line.split(' ').next().unwrap().to_owned()).or_default() += 1;
        }
        self.done.repeated = told.get("repeated").copied().unwrap_or_default();
        self.done.claims_lost = told.get("claim_lost").copied().unwrap_or_default();
        let (done, builds, runs) = (self.done, self.world.starts().len(), self.world.lines("runs").len());
        println!(
            "{done:?} in {:?}, healed in {:?}: {builds} builds, {under_fire} of them under fire; {runs} runs; \
             {events} events, followed over {failures} failures; commits {told:?}",
            fire.since(self.began),
            healed.since(fire),
        );
        self.world.close().await;
        assert!(under_fire > NAMES.len(), "{under_fire} builds under fire");
        done
    }
}

/// How long, beyond the claims; now and then those of looks too.
fn freeze(chance: &Chance) -> Duration {
    let lease = if chance.below(8) == 0 { LOOK_LEASE } else { DRIVE_LEASE };
    millis(lease + 100 + chance.below(800))
}

fn send(process: &Process, signal: Signal) {
    kill_process(Pid::from_raw(process.id().cast_signed()).unwrap(), signal).unwrap();
}

fn is_frozen(process: &Process) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}
