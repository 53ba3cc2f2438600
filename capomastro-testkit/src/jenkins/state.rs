//! The server's state, and how time passes in it.

use super::{
    build::{Build, Ended, millis},
    job::{Job, JobId, JobKind, Settings},
    notify::Message,
    phases::{Phase, Startup},
    queue::{Fate, Item, Queue},
    request::Request,
    script::{Run, Stop},
    security::Security,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// What does not change while a server runs.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// What the administrator entered as the server's address: JSON is full of it.
    pub(super) root_url: Option<String>,
    /// Path under which everything is, such as `/ci`; empty for none.
    pub(super) context: String,
    pub(super) version: String,
    pub(super) executors: usize,
    pub(super) labels: BTreeSet<String>,
    pub(super) quiet_period: Duration,
    pub(super) tick: Duration,
    pub(super) pending_for: Duration,
    pub(super) queue_save_delay: Duration,
    pub(super) crumbs: bool,
    /// Answers 201 where newer ones answer 303.
    pub(super) old_fold: bool,
    /// Answers every cancellation with a redirect.
    pub(super) old_cancel: bool,
    pub(super) artifact_permission: bool,
    pub(super) keep_alive: Duration,
}

/// A build that a test asks about afterwards, whatever became of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Full name of the job at the start.
    pub job: String,
    /// Its number.
    pub number: u32,
    /// The queue item that it was.
    pub queue_id: u64,
    /// Names and values of its parameters, secret ones too.
    pub parameters: Vec<(String, String)>,
}

impl Started {
    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// A request whose effect comes after its client was told nothing.
#[derive(Clone, Debug)]
pub(super) struct Late {
    pub(super) at: u64,
    pub(super) request: Request,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) config: Config,
    /// In milliseconds since 1970.
    pub(super) now: u64,
    pub(super) booted: u64,
    pub(super) session: String,
    pub(super) boots: u64,
    pub(super) jobs: BTreeMap<JobId, Job>,
    pub(super) paths: BTreeMap<String, JobId>,
    /// What left items and running scripts still name.
    pub(super) deleted: BTreeMap<JobId, Job>,
    pub(super) last_job: u64,
    pub(super) queue: Queue,
    /// Builds that hold an executor of the node.
    pub(super) executing: BTreeSet<(JobId, u32)>,
    /// Ends and other moments of builds.
    pub(super) moments: BTreeSet<(u64, JobId, u32)>,
    pub(super) quieting: Option<Option<String>>,
    /// Nothing starts while a test says so.
    pub(super) hold_queue: bool,
    pub(super) restart_when_idle: bool,
    pub(super) startup: Startup,
    pub(super) safe_startup: Startup,
    pub(super) reload_startup: Startup,
    pub(super) security: Security,
    pub(super) phase: Phase,
    pub(super) late: Vec<Late>,
    pub(super) outbox: Vec<Message>,
    /// Everything that ever started.
    pub(super) started: Vec<Started>,
    /// Every id of an item that was ever given out, with repetitions after a crash.
    pub(super) accepted: Vec<u64>,
    pub(super) seed: u64,
    /// What this server keeps for others, by name.
    pub(super) kept: BTreeMap<String, Vec<u8>>,
}

impl State {
    pub(super) fn new(config: Config, security: Security, now: u64, seed: u64) -> Self {
        let mut state = Self {
            config,
            now,
            booted: now,
            session: String::new(),
            boots: 0,
            jobs: BTreeMap::new(),
            paths: BTreeMap::new(),
            deleted: BTreeMap::new(),
            last_job: 0,
            queue: Queue::default(),
            executing: BTreeSet::new(),
            moments: BTreeSet::new(),
            quieting: None,
            hold_queue: false,
            restart_when_idle: false,
            startup: Startup::instant(),
            safe_startup: Startup::instant(),
            reload_startup: Startup::instant(),
            security,
            phase: Phase::up(),
            late: Vec::new(),
            outbox: Vec::new(),
            started: Vec::new(),
            accepted: Vec::new(),
            seed,
            kept: BTreeMap::new(),
        };
        state.new_session();
        state
    }

    /// Eight hexadecimal digits, new at each boot.
    pub(super) fn new_session(&mut self) {
        self.boots += 1;
        let digest = super::security::digest(&[&self.seed.to_string(), "boot", &self.boots.to_string()]);
        self.session = digest[..8].to_owned();
        self.booted = self.now;
    }

    /// Lets time pass until `to`, step by step.
    pub(super) fn advance(&mut self, to: u64) {
        while let Some(at) = self.next_event().filter(|at| *at <= to) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = self.now.max(to);
        self.queue.forget(self.now);
    }

    /// When something happens by itself.
    pub(super) fn next_event(&self) -> Option<u64> {
        let build = self.moments.first().map(|(at, ..)| *at);
        let late = self.late.iter().map(|late| late.at).min();
        let pass = if self.phase.works(self.now) { self.next_pass() } else { self.phase.works_from() };
        [build, late, pass, self.queue.save_due].into_iter().flatten().min()
    }

    fn step(&mut self) {
        let now = self.now;
        // A process that is away or starts has an answer of its own for requests that arrive late.
        while let Some(late) = self.late.iter().position(|late| late.at <= now) {
            let late = self.late.remove(late);
            drop(super::routes::answer(self, &late.request));
        }
        while let Some(moment) = self.moments.first().copied().filter(|(at, ..)| *at <= now) {
            self.moments.remove(&moment);
            self.look_at(moment.1, moment.2);
        }
        if self.queue.save_due.is_some_and(|due| due <= now) {
            self.save_queue();
        }
        if self.phase.works(now) {
            self.phase.settle(now);
            self.maintain();
        }
    }

    /// Takes note of what a build did by itself.
    fn look_at(&mut self, id: JobId, number: u32) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(build) = job.builds.get(&number) else { return };
        if build.over().is_some_and(|over| over <= now) && job.running.remove(&number) {
            let view = build.view(now, job.kind == JobKind::Pipeline);
            if view.result == Some("SUCCESS") {
                job.took.push(view.duration);
                if job.took.len() > 3 {
                    job.took.remove(0);
                }
            }
            self.executing.remove(&(id, number));
            self.notify_end(id, number);
            self.discard_old(id, number);
            self.restart_if_idle();
        }
    }

    /// Retention: at the end of a build, finished ones beyond the limit go.
    fn discard_old(&mut self, id: JobId, ended: u32) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let Some(keep) = job.settings.keep_builds else { return };
        let surplus = job.builds.len().saturating_sub(keep);
        let gone: Vec<u32> = job
            .builds
            .keys()
            .copied()
            .filter(|n| *n != ended && !job.running.contains(n))
            .take(surplus)
            .collect();
        for number in gone {
            job.builds.remove(&number);
        }
    }

    /// An item leaves the queue and becomes a build.
    pub(super) fn start(&mut self, item: u64) {
        let now = self.now;
        let Some(job) = self.queue.items.get(&item).map(|item| item.job) else { return };
        let failed = self.jobs.get(&job).is_none_or(|job| !job.buildable()) || self.queue.drop_next > 0;
        if failed {
            self.queue.drop_next = self.queue.drop_next.saturating_sub(1);
            self.leave(item, Fate::Nothing);
            return;
        }
        let Some(known) = self.jobs.get_mut(&job) else { return };
        let number = known.next_number;
        known.next_number += 1;
        let youth = known.settings.youth;
        let shown_from = now.saturating_add(millis(youth.no_executable));
        // Parameters that the job no longer declares are taken from the item as well as from the build.
        if let Some(item) = self.queue.items.get_mut(&item)
            && let Some(values) = &item.values
        {
            let declared = |name: &str| known.settings.parameters.iter().any(|p| p.name == name);
            if values.iter().any(|(name, _)| !declared(name)) {
                item.values = Some(Arc::new(values.iter().filter(|(n, _)| declared(n)).cloned().collect()));
            }
        }
        let Some(item) = self.leave(item, Fate::Started { number, shown_from }) else { return };
        self.create(job, number, item);
    }

    fn create(&mut self, id: JobId, number: u32, item: Item) {
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let run = Run {
            job: job.full_name.clone(),
            number,
            queue_id: item.id,
            parameters: item
                .values
                .iter()
                .flat_map(|values| values.iter().map(|(name, value)| (name.clone(), value.plain())))
                .collect(),
        };
        let script = job.settings.scripted.of(&run);
        let mut build = Build {
            number,
            queue_id: item.id,
            values: item.values,
            causes: item.causes,
            created: now,
            script: Arc::clone(&script),
            youth: job.settings.youth,
            ended: None,
            description: None,
            saved: false,
            hole: false,
            stop_asked: None,
        };
        build.ended = script.takes.map(|takes| Ended {
            at: build.began().saturating_add(millis(takes)),
            result: script.result.clone(),
            interrupted_by: None,
            cut: false,
        });
        if let Some(over) = build.over() {
            self.moments.insert((over, id, number));
        }
        let pipeline = job.kind == JobKind::Pipeline;
        job.running.insert(number);
        job.builds.insert(number, build);
        if !pipeline {
            self.executing.insert((id, number));
        }
        self.started.push(Started {
            job: run.job,
            number,
            queue_id: run.queue_id,
            parameters: run.parameters,
        });
        self.notify_start(id, number);
        if let Some(over) = self.jobs.get(&id).and_then(|job| job.builds.get(&number)).and_then(Build::over)
            && over <= now
        {
            self.moments.remove(&(over, id, number));
            self.look_at(id, number);
        }
    }

    /// Ends a build now, unless it has ended.
    pub(super) fn end(
        &mut self,
        id: JobId,
        number: u32,
        result: &str,
        by: Option<&str>,
        after: Duration,
    ) -> bool {
        let now = self.now;
        let Some(build) = self.jobs.get_mut(&id).and_then(|job| job.builds.get_mut(&number)) else {
            return false;
        };
        if build.ended.as_ref().is_some_and(|ended| ended.at <= now) {
            return false;
        }
        if let Some(over) = build.over() {
            self.moments.remove(&(over, id, number));
        }
        build.ended = Some(Ended {
            at: now.saturating_add(millis(after)),
            result: result.to_owned(),
            interrupted_by: by.map(str::to_owned),
            cut: false,
        });
        if let Some(over) = build.over() {
            self.moments.insert((over, id, number));
        }
        let to = self.now;
        self.advance(to);
        true
    }

    /// Asks a build to stop. Pipelines may need to be asked harder.
    pub(super) fn stop(&mut self, id: JobId, number: u32, how: Stop, by: &str) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let pipeline = job.kind == JobKind::Pipeline;
        let Some(build) = job.builds.get_mut(&number) else { return };
        // Each way is open only after the one before it.
        let allowed = match how {
            Stop::Stop => true,
            Stop::Term => build.stop_asked >= Some(Stop::Stop),
            Stop::Kill => build.stop_asked >= Some(Stop::Term),
        };
        if !allowed {
            return;
        }
        build.stop_asked = build.stop_asked.max(Some(how));
        if !pipeline || how >= build.script.yields_to {
            let takes = build.script.stops_in;
            self.end(id, number, "ABORTED", Some(by), takes);
        }
    }

    pub(super) fn job_at(&self, full_name: &str) -> Option<(JobId, &Job)> {
        let id = *self.paths.get(full_name)?;
        self.jobs.get(&id).map(|job| (id, job))
    }

    /// Makes a job, and the folders on its way.
    pub(super) fn add_job(&mut self, full_name: &str, kind: JobKind, settings: Settings) -> JobId {
        if let Some((parent, _)) = full_name.rsplit_once('/')
            && !self.paths.contains_key(parent)
        {
            let folder = super::job::JobSpec::folder(parent);
            self.add_job(parent, JobKind::Folder, folder.settings);
        }
        if let Some(id) = self.paths.get(full_name).copied() {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.settings = settings;
                job.kind = kind;
            }
            return id;
        }
        self.last_job += 1;
        let id = JobId(self.last_job);
        self.jobs.insert(id, Job::new(full_name.to_owned(), kind, settings));
        self.paths.insert(full_name.to_owned(), id);
        id
    }

    /// Deletes a job with everything below it: items are cancelled, builds interrupted.
    pub(super) fn delete_job(&mut self, full_name: &str) {
        let below = format!("{full_name}/");
        let gone: Vec<(String, JobId)> = self
            .paths
            .iter()
            .filter(|(path, _)| *path == full_name || path.starts_with(&below))
            .map(|(path, id)| (path.clone(), *id))
            .collect();
        for (path, id) in gone {
            let items: Vec<u64> = self.jobs.get(&id).into_iter().flat_map(|job| job.queued.clone()).collect();
            for item in items {
                self.leave(item, Fate::Cancelled);
            }
            self.paths.remove(&path);
            if let Some(job) = self.jobs.remove(&id) {
                self.deleted.insert(id, job);
            }
            self.executing.retain(|(job, _)| *job != id);
            self.moments.retain(|(_, job, _)| *job != id);
        }
        self.maintain();
    }

    /// Gives a job and what is below it another full name.
    pub(super) fn move_job(&mut self, from: &str, to: &str) {
        let below = format!("{from}/");
        let moved: Vec<(String, JobId)> = self
            .paths
            .iter()
            .filter(|(path, _)| *path == from || path.starts_with(&below))
            .map(|(path, id)| (path.clone(), *id))
            .collect();
        for (path, id) in moved {
            let new = format!("{to}{}", &path[from.len()..]);
            self.paths.remove(&path);
            self.paths.insert(new.clone(), id);
            if let Some(job) = self.jobs.get_mut(&id) {
                job.full_name = new;
            }
        }
    }
}
