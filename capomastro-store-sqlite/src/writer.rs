//! The one thread that writes: it gathers what came meanwhile into one transaction, and answers after its COMMIT.

use crate::{
    apply::{self, Session, Stop},
    claims,
    connect::open_writer,
    error::{Failure, closed},
    log,
    migrate::{SCHEMA, judge},
};
use capomastro_core::{
    Error, ErrorKind, Result, Retry,
    model::HolderId,
    store::{
        ClaimAsk, Claimed, Committed,
        rows::{BatchRows, PutBackRow},
    },
    time::Clock,
};
use rusqlite::{Connection, TransactionBehavior};
use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// The most operations that share a transaction.
const GROUP: usize = 256;

/// The most operations that wait for the writer; further callers wait for a place.
const WAITING: usize = 1_024;

/// What the writer can do.
#[derive(Debug)]
pub(crate) enum Work {
    Commit(Box<BatchRows>),
    Claim(ClaimAsk),
    PutBack(HolderId, Vec<PutBackRow>),
    /// Proves that the file can be written.
    Check,
}

impl Work {
    /// Whether it may be lost in a power cut, as long as later commits are not kept without it.
    ///
    /// A claim and its return are forgotten together with the process that knows of them, and whatever else that process
    /// committed afterwards has carried them to the disk.
    const fn is_lossy(&self) -> bool {
        !matches!(self, Self::Commit(_))
    }
}

/// What it answers.
#[derive(Debug)]
pub(crate) enum Answer {
    Committed(Committed),
    Claimed(Claimed),
    Nothing,
}

struct Job {
    work: Work,
    reply: oneshot::Sender<Result<Answer>>,
    /// Gives the place among the waiting back when the job is answered.
    _place: OwnedSemaphorePermit,
}

enum Message {
    Do(Job),
    Stop,
}

/// The way to the writer's thread. The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    sender: Sender<Message>,
    places: Arc<Semaphore>,
}

/// What the thread needs.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) path: PathBuf,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) busy: Duration,
    pub(crate) idle: Duration,
}

impl Writer {
    /// Starts the thread. It drops `alive` when it has ended.
    pub(crate) fn start(
        conn: Connection,
        settings: Settings,
        alive: mpsc::Sender<Infallible>,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        std::thread::Builder::new().name("capomastro-sqlite-writer".into()).spawn(move || {
            Desk { conn, settings, durable: true, in_doubt: false }.run(&receiver);
            drop(alive);
        })?;
        Ok(Self { sender, places: Arc::new(Semaphore::new(WAITING)) })
    }

    /// Hands in work and waits for the answer. Needs no runtime. A future that is dropped has handed in all or nothing.
    pub(crate) async fn ask(&self, work: Work) -> Result<Answer> {
        let unknown = matches!(work, Work::Commit(_));
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        self.sender.send(Message::Do(Job { work, reply, _place: place })).map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| {
            Err(if unknown {
                Error::new(
                    ErrorKind::OutcomeUnknown,
                    "the store's writer ended before it answered: open the store again and repeat the same commit",
                )
            } else {
                closed()
            })
        })
    }

    /// Takes no more work; what was handed in is still done.
    pub(crate) fn close(&self) {
        self.places.close();
        // If the thread has ended already, there is nobody to tell.
        self.sender.send(Message::Stop).ok();
    }
}

/// Why a group did not happen. Nothing of it was written, unless `Commit` says otherwise.
enum Trouble {
    /// No transaction could be started.
    Begin(Failure),
    /// Another process has changed the schema, to this version.
    Schema(i64),
    /// An operation failed in the middle.
    Apply(Failure),
    /// COMMIT failed.
    Commit(Failure),
}

impl Trouble {
    fn error(&self, path: &std::path::Path) -> Error {
        match self {
            Self::Begin(f) | Self::Apply(f) => f.error(path),
            Self::Commit(f) => f.commit_error(path),
            Self::Schema(version) => match judge(crate::migrate::APPLICATION_ID, *version, 1) {
                Err(e) => e.with_context("file", path.display()),
                Ok(_) => Error::new(
                    ErrorKind::Unavailable,
                    "an older state of the store was put in its place while it was open: restart this process",
                )
                .with_retry(Retry::Never)
                .with_context("file", path.display()),
            },
        }
    }

    fn is_of_disk(&self) -> bool {
        match self {
            Self::Begin(f) | Self::Apply(f) | Self::Commit(f) => f.is_of_disk(),
            Self::Schema(_) => false,
        }
    }

    /// Whether the operations of the group may succeed one by one.
    fn is_of_one(&self) -> bool {
        match self {
            Self::Apply(_) => true,
            Self::Commit(f) => f.nothing_committed(),
            Self::Begin(_) | Self::Schema(_) => false,
        }
    }
}

struct Desk {
    conn: Connection,
    settings: Settings,
    /// Whether COMMIT waits for the disk now.
    durable: bool,
    /// Whether the disk may have lost a part of the log that is not written back yet.
    in_doubt: bool,
}

impl Desk {
    fn run(mut self, receiver: &Receiver<Message>) {
        // What an earlier process left in the log is written back too.
        let mut dirty = true;
        let mut stop = false;
        while !stop {
            let first = if dirty {
                receiver.recv_timeout(self.settings.idle)
            } else {
                receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let mut jobs = Vec::new();
            match first {
                Ok(Message::Do(job)) => jobs.push(job),
                Ok(Message::Stop) => stop = true,
                Err(RecvTimeoutError::Timeout) => {
                    dirty = !self.checkpoint();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            loop {
                while jobs.len() < GROUP
                    && let Ok(message) = receiver.try_recv()
                {
                    match message {
                        Message::Do(job) => jobs.push(job),
                        Message::Stop => stop = true,
                    }
                }
                if jobs.is_empty() {
                    break;
                }
                dirty = true;
                self.group(std::mem::take(&mut jobs));
                if !stop {
                    break;
                }
            }
        }
        if dirty {
            self.checkpoint();
        }
    }

    /// Writes the log back and empties it. Returns whether that was possible now.
    fn checkpoint(&mut self) -> bool {
        let done = self.conn.busy_timeout(Duration::ZERO).map_err(Failure::from).and_then(|()| {
            self.clear_doubt()?;
            Ok(self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get::<_, i64>(0))?)
        });
        // A busy timeout that cannot be set again shows itself at the next lock.
        self.conn.busy_timeout(self.settings.busy).ok();
        match done {
            Ok(busy) => busy == 0,
            Err(e) => {
                self.in_doubt |= e.is_of_disk();
                tracing::debug!(error = %e, "the store's log could not be written back now");
                false
            }
        }
    }

    /// Nothing is built on a log of which the disk may have lost a part.
    fn clear_doubt(&mut self) -> Result<(), Failure> {
        if self.in_doubt {
            log::write_again(&self.conn, &self.settings.path)?;
            self.in_doubt = false;
        }
        Ok(())
    }

    fn group(&mut self, mut jobs: Vec<Job>) {
        // Nobody waits for these any more, so nothing of them is written.
        jobs.retain(|job| !job.reply.is_closed());
        if jobs.is_empty() {
            return;
        }
        match self.attempt(&jobs) {
            Ok(answers) => answer(jobs, answers),
            Err(trouble) if jobs.len() > 1 && trouble.is_of_one() => self.one_by_one(jobs),
            Err(trouble) => self.refuse(jobs, &trouble),
        }
    }

    fn one_by_one(&mut self, jobs: Vec<Job>) {
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            let one = vec![job];
            match self.attempt(&one) {
                Ok(answers) => answer(one, answers),
                Err(trouble) => {
                    let goes_on = trouble.is_of_one();
                    self.refuse(one, &trouble);
                    if !goes_on {
                        return self.refuse(jobs.collect(), &trouble);
                    }
                }
            }
        }
    }

    fn refuse(&self, jobs: Vec<Job>, trouble: &Trouble) {
        let answers = jobs.iter().map(|_| Err(trouble.error(&self.settings.path))).collect();
        if let Some(job) = jobs.first() {
            let error = trouble.error(&self.settings.path);
            tracing::warn!(error = %error.report(), operations = jobs.len(), lossy = job.work.is_lossy(), "the store could not write");
        }
        answer(jobs, answers);
    }

    fn attempt(&mut self, jobs: &[Job]) -> Result<Vec<Result<Answer>>, Trouble> {
        let done = self.transaction(jobs);
        if let Err(trouble) = &done {
            self.in_doubt |= trouble.is_of_disk();
            self.mend();
        }
        done
    }

    /// All jobs in one transaction; what is refused leaves no trace in it.
    fn transaction(&mut self, jobs: &[Job]) -> Result<Vec<Result<Answer>>, Trouble> {
        self.clear_doubt().map_err(Trouble::Begin)?;
        self.sync(jobs.iter().any(|job| !job.work.is_lossy())).map_err(Trouble::Begin)?;
        let tx = self
            .conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|e| Trouble::Begin(e.into()))?;
        let begin = |e: rusqlite::Error| Trouble::Begin(e.into());
        let schema: i64 = tx
            .prepare_cached("PRAGMA user_version")
            .map_err(begin)?
            .query_row([], |r| r.get(0))
            .map_err(begin)?;
        if schema != SCHEMA {
            return Err(Trouble::Schema(schema));
        }
        let mut session = Session::new(&tx).map_err(Trouble::Begin)?;
        let mut answers = Vec::with_capacity(jobs.len());
        for job in jobs {
            answers.push(match perform(&mut session, &*self.settings.clock, &job.work) {
                Ok(answer) => Ok(answer),
                Err(Stop::Refused(e)) => Err(e),
                Err(Stop::Broken(f)) => return Err(Trouble::Apply(f)),
            });
        }
        session.finish().map_err(Trouble::Apply)?;
        tx.commit().map_err(|e| Trouble::Commit(e.into()))?;
        Ok(answers)
    }

    /// Whether COMMIT waits for the disk. A commit that does carries every earlier one with it.
    fn sync(&mut self, durable: bool) -> Result<(), Failure> {
        if self.durable != durable {
            self.conn.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
            self.durable = durable;
        }
        Ok(())
    }

    /// A connection that is still inside a failed transaction is replaced.
    fn mend(&mut self) {
        if self.conn.is_autocommit() || self.conn.execute_batch("ROLLBACK").is_ok() {
            return;
        }
        match open_writer(&self.settings.path, self.settings.busy) {
            Ok(conn) => {
                self.conn = conn;
                self.durable = true;
            }
            Err(e) => tracing::error!(error = %e.report(), "the store's connection could not be replaced"),
        }
    }
}

fn answer(jobs: Vec<Job>, answers: Vec<Result<Answer>>) {
    for (job, answer) in jobs.into_iter().zip(answers) {
        // Whoever asked may have gone; the work is done all the same.
        job.reply.send(answer).ok();
    }
}

fn perform(session: &mut Session<'_>, clock: &dyn Clock, work: &Work) -> Result<Answer, Stop> {
    let now = apply::time(clock)?;
    Ok(match work {
        Work::Commit(batch) => Answer::Committed(apply::commit(session, now, batch)?),
        Work::Claim(ask) => Answer::Claimed(claims::claim_due(session, now, ask)?),
        Work::PutBack(holder, items) => {
            claims::put_back(session, now, holder, items)?;
            Answer::Nothing
        }
        Work::Check => {
            session.write_counter().map_err(Stop::Broken)?;
            Answer::Nothing
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::{
        model::CommitId,
        store::{Batch, Lane, LaneAsk},
        time::SystemClock,
    };

    fn job(work: Work) -> (Job, oneshot::Receiver<Result<Answer>>) {
        let (reply, answer) = oneshot::channel();
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (Job { work, reply, _place: place }, answer)
    }

    fn desk(folder: &tempfile::TempDir) -> Desk {
        let path = folder.path().join("a.db");
        let busy = Duration::from_millis(10);
        let conn = open_writer(&path, busy).unwrap();
        let settings = Settings { path, clock: Arc::new(SystemClock), busy, idle: Duration::from_secs(1) };
        Desk { conn, settings, durable: true, in_doubt: false }
    }

    fn claim() -> Work {
        let lanes = vec![LaneAsk { lane: Lane::House, limit: 1, lease: Duration::from_secs(1) }];
        Work::Claim(ClaimAsk { lanes, holder: "a".parse().unwrap() })
    }

    fn commit() -> Work {
        let batch = Batch::new(CommitId::from_uuid(uuid::Uuid::nil()), "a".parse().unwrap());
        Work::Commit(Box::new(capomastro_core::store::rows::encode(&batch).unwrap()))
    }

    /// 2 is FULL, 1 is NORMAL.
    #[test]
    fn a_commit_waits_for_the_disk_and_a_claim_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = desk(&folder);
        for (group, synchronous) in
            [(vec![claim()], 1), (vec![claim(), commit()], 2), (vec![Work::Check], 1), (vec![commit()], 2)]
        {
            let (jobs, mut answers): (Vec<_>, Vec<_>) = group.into_iter().map(job).unzip();
            desk.group(jobs);
            for answer in &mut answers {
                answer.try_recv().unwrap().unwrap();
            }
            let now: i64 = desk.conn.query_row("PRAGMA synchronous", [], |r| r.get(0)).unwrap();
            assert_eq!(now, synchronous);
        }
    }

    #[test]
    fn what_nobody_waits_for_is_not_done() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = desk(&folder);
        let (forgotten, answer) = job(commit());
        drop(answer);
        desk.group(vec![forgotten]);
        let (asked, mut answer) = job(commit());
        desk.group(vec![asked]);
        match answer.try_recv().unwrap().unwrap() {
            Answer::Committed(committed) => assert!(!committed.repeated),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_connection_that_is_left_in_a_transaction_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = desk(&folder);
        desk.conn.execute_batch("BEGIN").unwrap();
        let (failing, mut answer) = job(commit());
        desk.group(vec![failing]);
        answer.try_recv().unwrap().unwrap_err();
        let (good, mut answer) = job(commit());
        desk.group(vec![good]);
        answer.try_recv().unwrap().unwrap();
    }
}
