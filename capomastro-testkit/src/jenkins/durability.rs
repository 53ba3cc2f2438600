//! What outlives the server's process, and what does not.

use super::{
    build::Ended,
    job::{JobId, JobKind},
    phases::{Phase, Startup},
    queue::{Queue, Stage},
    state::State,
};

impl State {
    pub(super) fn quiet_down(&mut self, reason: Option<String>) {
        self.quieting = Some(reason);
    }

    pub(super) fn cancel_quiet_down(&mut self) {
        self.quieting = None;
        self.restart_when_idle = false;
        self.maintain();
    }

    /// Quiets down, and restarts once nothing runs.
    pub(super) fn safe_restart(&mut self) {
        self.quieting = Some(None);
        self.restart_when_idle = true;
        self.restart_if_idle();
    }

    /// Restarts where that was asked for and no freestyle build runs.
    pub(super) fn restart_if_idle(&mut self) {
        if self.restart_when_idle && self.executing.is_empty() {
            self.restart_when_idle = false;
            self.save_queue();
            let startup = self.safe_startup.clone();
            self.boot(&startup);
        }
    }

    /// SIGTERM and a new process: the queue is saved, records of running freestyle builds are not.
    pub(super) fn terminate_and_start(&mut self) {
        self.save_queue();
        self.lose_running();
        let startup = self.startup.clone();
        self.boot(&startup);
    }

    /// `kill -9` and a new process: the queue is what was last saved.
    pub(super) fn crash_and_start(&mut self) {
        self.lose_running();
        let startup = self.startup.clone();
        self.boot(&startup);
    }

    /// What the death of the process does to freestyle builds that run: a record saved early is found ABORTED, any
    /// other leaves a hole.
    fn lose_running(&mut self) {
        let now = self.now;
        let running: Vec<(JobId, u32)> = self.executing.iter().copied().collect();
        for (id, number) in running {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.running.remove(&number);
            if let Some(over) = job.builds.get(&number).and_then(super::build::Build::over) {
                self.moments.remove(&(over, id, number));
            }
            match job.builds.get_mut(&number) {
                Some(build) if build.saved => {
                    build.ended = Some(Ended {
                        at: now,
                        result: "ABORTED".to_owned(),
                        interrupted_by: None,
                        cut: true,
                    });
                }
                _ => drop(job.builds.remove(&number)),
            }
        }
        self.executing.clear();
    }

    /// A new process reads what is on disk.
    fn boot(&mut self, startup: &Startup) {
        let saved = std::mem::take(&mut self.queue.saved);
        let drop_next = self.queue.drop_next;
        self.queue = Queue { last_id: saved.last_id, drop_next, ..Queue::default() };
        for job in self.jobs.values_mut() {
            job.queued.clear();
            job.settings.held = false;
        }
        for mut item in saved.items {
            // Items of jobs that are gone are dropped without a word.
            let Some(job) = self.jobs.get_mut(&item.job) else { continue };
            job.queued.insert(item.id);
            if let Stage::Pending { since, .. } = item.stage {
                item.stage = Stage::Buildable { since };
            }
            self.queue.items.insert(item.id, item);
        }
        self.deleted.clear();
        self.security.sessions.clear();
        self.quieting = None;
        self.restart_when_idle = false;
        let old = self.session.clone();
        self.phase = Phase::starting(self.now, startup, &old);
        self.new_session();
        if self.phase.works(self.now) {
            self.maintain();
        }
    }

    /// Reads the configuration from disk again: a moment of 503, and nothing else changes.
    pub(super) fn reload(&mut self) {
        let startup = self.reload_startup.clone();
        let session = self.session.clone();
        self.phase = Phase::starting(self.now, &startup, &session);
    }

    /// Disabling cancels the first item that it finds: one that waits, else one blocked and one buildable.
    pub(super) fn set_disabled(&mut self, id: JobId, disabled: bool) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let was = std::mem::replace(&mut job.settings.disabled, disabled);
        if disabled && !was {
            let items: Vec<_> = job.queued.iter().filter_map(|id| self.queue.items.get(id)).collect();
            let first = |wanted: fn(&Stage) -> bool| {
                items.iter().find(|item| wanted(&item.stage)).map(|item| item.id)
            };
            let gone: Vec<u64> = match first(|stage| matches!(stage, Stage::Waiting { .. })) {
                Some(id) => vec![id],
                None => [
                    first(|stage| matches!(stage, Stage::Blocked { .. })),
                    first(|stage| matches!(stage, Stage::Buildable { .. })),
                ]
                .into_iter()
                .flatten()
                .collect(),
            };
            for id in gone {
                self.leave(id, super::queue::Fate::Cancelled);
            }
        }
        self.maintain();
    }

    /// Whether a job has a build that has not ended, of any kind.
    pub(super) fn is_building(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| !job.running.is_empty() && job.kind != JobKind::Folder)
    }
}
