//! The server in a test's hand.

use super::{
    answer::Answer,
    build::{Given, millis},
    builder::JenkinsBuilder,
    faults::{Chaos, Fault, Faults},
    job::{JobId, JobSpec, Parameter},
    notify::Message,
    queue::{Cause, Scheduled, Stage},
    request::Request,
    script::Stop,
    state::{Started, State},
    traffic::{Counters, Served, Traffic},
};
use capomastro_core::time::{Clock, Monotonic};
use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::TcpListener, task::AbortHandle};

/// A double of a Jenkins server, which speaks real HTTP. Clones are the same server; it stops when the last is dropped.
#[derive(Clone)]
pub struct Jenkins(Arc<Inner>);

pub(super) struct Inner {
    state: Mutex<State>,
    faults: Mutex<Faults>,
    pub(super) clock: Arc<dyn Clock>,
    origin: (u64, Monotonic),
    pub(super) traffic: Counters,
    address: SocketAddr,
    accepting: Mutex<Option<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Ok(mut accepting) = self.accepting.lock()
            && let Some(accepting) = accepting.take()
        {
            accepting.abort();
        }
    }
}

impl Inner {
    /// Milliseconds since 1970 on the server.
    pub(super) fn now(&self) -> u64 {
        self.origin.0.saturating_add(millis(self.clock.monotonic().since(self.origin.1)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(self.now());
        state
    }

    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock())
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.lock())
    }

    pub(super) fn answer(&self, request: &Request) -> Answer {
        self.change(|state| super::routes::answer(state, request))
    }

    pub(super) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A build as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildSeen {
    /// Its number.
    pub number: u32,
    /// The queue item that it was.
    pub queue_id: u64,
    /// Names and values of its parameters, secret ones too.
    pub parameters: Vec<(String, String)>,
    /// Whether it counts as building.
    pub building: bool,
    /// Its result, which may be provisional while it runs.
    pub result: Option<String>,
    /// What people were told about it.
    pub description: Option<String>,
}

/// An item of the queue as a test sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemSeen {
    /// Its id.
    pub id: u64,
    /// Full name of its job.
    pub job: String,
    /// Names and values of its parameters, secret ones too.
    pub parameters: Vec<(String, String)>,
    /// `waiting`, `blocked`, `buildable` or `pending`.
    pub stage: &'static str,
}

fn plain(values: Option<&super::build::Values>) -> Vec<(String, String)> {
    values.into_iter().flat_map(|values| values.iter().map(|(name, value)| (name.clone(), value.plain()))).collect()
}

impl Jenkins {
    /// Name of the administrator that every server has.
    pub const ADMIN: &str = "admin";
    /// The administrator's API token.
    pub const TOKEN: &str = "11aa22bb33cc44dd55ee66ff7788990011";
    /// The administrator's password, with which POST needs a crumb.
    pub const PASSWORD: &str = "the administrator's password";

    /// Starts a server with an administrator and no jobs, on the machine's clock.
    ///
    /// # Errors
    ///
    /// Where no port can be had.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// What a server is to be like.
    pub fn builder() -> JenkinsBuilder {
        JenkinsBuilder::new()
    }

    pub(super) async fn serve(state: State, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let inner = Arc::new(Inner {
            origin: (state.now, clock.monotonic()),
            state: Mutex::new(state),
            faults: Mutex::default(),
            clock,
            traffic: Counters::default(),
            address: listener.local_addr()?,
            accepting: Mutex::default(),
        });
        let accepting = tokio::spawn(super::server::accept(listener, Arc::downgrade(&inner)));
        *inner.accepting.lock().unwrap_or_else(PoisonError::into_inner) = Some(accepting.abort_handle());
        Ok(Self(inner))
    }

    /// Where the server really is, with its context path and a slash at the end.
    pub fn url(&self) -> String {
        let context = self.0.look(|state| state.config.context.clone());
        format!("http://{}{context}/", self.0.address)
    }

    /// Address and port.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The value of `X-Jenkins-Session` now.
    pub fn session(&self) -> String {
        self.0.look(|state| state.session.clone())
    }

    /// When something next happens by itself, from now on: an item is due, a build ends, the queue is saved.
    pub fn next_event(&self) -> Option<Duration> {
        self.0.look(|state| state.next_event().map(|at| Duration::from_millis(at.saturating_sub(state.now))))
    }

    /// Makes a job, or changes the one of that name. Folders on its way are made.
    pub fn define_job(&self, spec: JobSpec) {
        self.0.change(|state| state.add_job(&spec.full_name, spec.kind, spec.settings));
    }

    /// Everything that ever started, in order, whatever became of its record.
    pub fn started(&self) -> Vec<Started> {
        self.0.look(|state| state.started.clone())
    }

    /// Of everything that ever started, what had this value of this parameter.
    pub fn started_with(&self, parameter: &str, value: &str) -> Vec<Started> {
        self.0.look(|state| {
            state.started.iter().filter(|started| started.parameter(parameter) == Some(value)).cloned().collect()
        })
    }

    /// Ids of all items that were ever made, in order; after a crash one may occur again.
    pub fn accepted(&self) -> Vec<u64> {
        self.0.look(|state| state.accepted.clone())
    }

    /// A job's builds that have a record, oldest first.
    pub fn builds(&self, job: &str) -> Vec<BuildSeen> {
        self.0.look(|state| {
            let Some((_, job)) = state.job_at(job) else { return Vec::new() };
            let pipeline = job.kind == super::job::JobKind::Pipeline;
            let seen = job.builds.values().filter(|build| !build.hole).map(|build| {
                let view = build.view(state.now, pipeline);
                BuildSeen {
                    number: build.number,
                    queue_id: build.queue_id,
                    parameters: plain(build.values.as_ref()),
                    building: view.building,
                    result: view.result.map(str::to_owned),
                    description: build.description.clone(),
                }
            });
            seen.collect()
        })
    }

    /// Full names of all jobs and folders.
    pub fn jobs(&self) -> Vec<String> {
        self.0.look(|state| state.paths.keys().cloned().collect())
    }

    /// Items that have not left the queue.
    pub fn queue(&self) -> Vec<ItemSeen> {
        self.0.look(|state| {
            let seen = state.queue.items.values().map(|item| ItemSeen {
                id: item.id,
                job: state.jobs.get(&item.job).map(|job| job.full_name.clone()).unwrap_or_default(),
                parameters: plain(item.values.as_ref()),
                stage: match item.stage {
                    Stage::Waiting { .. } => "waiting",
                    Stage::Blocked { .. } => "blocked",
                    Stage::Buildable { .. } => "buildable",
                    Stage::Pending { .. } => "pending",
                },
            });
            seen.collect()
        })
    }

    /// Ends a build that runs with this result. False where none of that number runs.
    pub fn finish(&self, job: &str, number: u32, result: &str) -> bool {
        self.0.change(|state| {
            let Some(id) = state.paths.get(job).copied() else { return false };
            state.end(id, number, result, None, Duration::ZERO)
        })
    }

    /// Somebody stops a build.
    pub fn stop(&self, job: &str, number: u32, by: &str) {
        self.with_job(job, |state, id| state.stop(id, number, Stop::Stop, by));
    }

    fn with_job<T>(&self, job: &str, change: impl FnOnce(&mut State, JobId) -> T) -> Option<T> {
        self.0.change(|state| {
            let id = state.paths.get(job).copied()?;
            Some(change(state, id))
        })
    }

    /// Nothing leaves the queue from now on, or everything that can.
    pub fn hold_queue(&self, hold: bool) {
        self.0.change(|state| {
            state.hold_queue = hold;
            state.maintain();
        });
    }

    /// The next `count` items that should start leave the queue without ever becoming builds.
    pub fn lose_starts(&self, count: u32) {
        self.0.change(|state| state.queue.drop_next = count);
    }

    /// Somebody asks for a build, with these values and without any quiet period. The id of its item, of an older one
    /// into which it was folded, or `None` where it was refused.
    pub fn trigger(&self, job: &str, parameters: &[(&str, &str)], by: &str) -> Option<u64> {
        self.with_job(job, |state, id| {
            let declared = state.jobs.get(&id).map(|job| job.settings.parameters.clone()).unwrap_or_default();
            let values = declared.iter().map(|parameter| {
                let sent = parameters.iter().find(|(name, _)| *name == parameter.name);
                let value = sent.map_or_else(
                    || super::trigger::default_of(parameter),
                    |(_, value)| match super::trigger::default_of(parameter) {
                        Given::Text(_) => Given::Text((*value).to_owned()),
                        Given::LongText(_) => Given::LongText((*value).to_owned()),
                        Given::Secret(_) => Given::Secret((*value).to_owned()),
                        Given::Boolean(_) => Given::Boolean(*value == "true"),
                    },
                );
                (parameter.name.clone(), value)
            });
            let values = (!declared.is_empty()).then(|| Arc::new(values.collect()));
            match state.schedule(id, values, Cause::User(by.to_owned()), Duration::ZERO) {
                Scheduled::Created(item) | Scheduled::Existing(item) => Some(item),
                Scheduled::Refused => None,
            }
        })
        .flatten()
    }

    /// Somebody repeats a build with the Rebuild plugin: all its parameters are copied. The id of the item. Not seen live.
    pub fn rebuild(&self, job: &str, number: u32, by: &str) -> Option<u64> {
        self.with_job(job, |state, id| {
            let known = state.jobs.get(&id)?;
            let values = known.builds.get(&number)?.values.clone();
            let cause = Cause::Rebuild { upstream: known.full_name.clone(), number };
            let (Scheduled::Created(item) | Scheduled::Existing(item)) =
                state.schedule(id, values, Cause::User(by.to_owned()), Duration::ZERO)
            else {
                return None;
            };
            if let Some(item) = state.queue.items.get_mut(&item) {
                item.causes.push(cause);
            } else if let Some(build) =
                state.jobs.get_mut(&id).and_then(|job| job.builds.values_mut().find(|build| build.queue_id == item))
            {
                build.causes.push(cause);
            }
            Some(item)
        })
        .flatten()
    }

    /// The record of a build is lost: its number stays a hole.
    pub fn lose_record(&self, job: &str, number: u32) {
        self.with_job(job, |state, id| {
            if let Some(build) = state.jobs.get_mut(&id).and_then(|job| job.builds.get_mut(&number)) {
                build.hole = true;
            }
        });
    }

    /// Sets the number of a job's next build, as an administrator can.
    pub fn set_next_build_number(&self, job: &str, number: u32) {
        self.with_job(job, |state, id| {
            if let Some(job) = state.jobs.get_mut(&id) {
                job.next_number = number;
            }
        });
    }

    /// The id that the last item is to have had: the next gets the one after it. Any number of 63 bits will do.
    pub fn set_last_queue_id(&self, id: u64) {
        self.0.change(|state| state.queue.last_id = id);
    }

    /// Declares other parameters, from now on.
    pub fn set_parameters(&self, job: &str, parameters: impl IntoIterator<Item = Parameter>) {
        self.with_job(job, |state, id| {
            if let Some(job) = state.jobs.get_mut(&id) {
                job.settings.parameters = parameters.into_iter().collect();
            }
        });
    }

    /// Disables a job, or enables it.
    pub fn disable(&self, job: &str, disabled: bool) {
        self.with_job(job, |state, id| state.set_disabled(id, disabled));
    }

    /// Deletes a job or folder with everything in it.
    pub fn delete_job(&self, job: &str) {
        self.0.change(|state| state.delete_job(job));
    }

    /// Gives a job another full name, in this folder or another one, also while it is built: what the folder plugin can
    /// do and core refuses. Not seen live.
    pub fn move_job(&self, from: &str, to: &str) {
        self.0.change(|state| {
            if let Some((folder, _)) = to.rsplit_once('/')
                && !state.paths.contains_key(folder)
            {
                let folder = JobSpec::folder(folder);
                state.add_job(&folder.full_name, folder.kind, folder.settings);
            }
            state.move_job(from, to);
        });
    }

    /// SIGTERM and a new process.
    pub fn restart(&self) {
        self.0.change(State::terminate_and_start);
    }

    /// `kill -9` and a new process: the queue is what was last saved.
    pub fn crash(&self) {
        self.0.change(State::crash_and_start);
    }

    /// The queue goes to disk now.
    pub fn save_queue(&self) {
        self.0.change(State::save_queue);
    }

    /// Takes the process away, without any other effect, until [`come_back`](Self::come_back).
    pub fn go_away(&self) {
        self.0.change(|state| state.phase.down = true);
    }

    /// Ends [`go_away`](Self::go_away).
    pub fn come_back(&self) {
        self.0.change(|state| {
            state.phase.down = false;
            state.maintain();
        });
    }

    /// Reads the configuration from disk again.
    pub fn reload(&self) {
        self.0.change(State::reload);
    }

    /// Nothing starts any more; requests are still accepted.
    pub fn quiet_down(&self, reason: Option<&str>) {
        self.0.change(|state| state.quiet_down(reason.map(str::to_owned)));
    }

    /// Ends [`quiet_down`](Self::quiet_down).
    pub fn cancel_quiet_down(&self) {
        self.0.change(State::cancel_quiet_down);
    }

    /// Quiets down, and restarts once no freestyle build runs.
    pub fn safe_restart(&self) {
        self.0.change(State::safe_restart);
    }

    /// Messages of the Notification plugin that have become due since they were last taken, in order. They are sent by
    /// whoever takes them: see [`Message::send`].
    pub fn messages(&self) -> Vec<Message> {
        self.0.change(|state| std::mem::take(&mut state.outbox))
    }

    /// Something will go wrong.
    pub fn fault(&self, fault: Fault) {
        self.0.faults().scripted.push(fault);
    }

    /// Things go wrong at random, or no more.
    pub fn chaos(&self, chaos: Option<Chaos>) {
        self.0.faults().chaos = chaos;
    }

    /// No more faults.
    pub fn heal(&self) {
        let mut faults = self.0.faults();
        faults.scripted.clear();
        faults.chaos = None;
    }

    /// How many requests met a fault.
    pub fn faults_met(&self) -> u64 {
        self.0.faults().hit
    }

    /// What went over the wire.
    pub fn traffic(&self) -> Traffic {
        self.0.traffic.look()
    }

    /// Requests that were answered, in order, the first 100,000 of them.
    pub fn served(&self) -> Vec<Served> {
        self.0.traffic.served()
    }

    /// Counts from zero again.
    pub fn forget_traffic(&self) {
        self.0.traffic.forget();
    }
}

impl fmt::Debug for Jenkins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jenkins").field("url", &self.url()).finish_non_exhaustive()
    }
}
