//! One call: a connection, a statement, a deadline, and what is tried again.

use crate::{
    connect::pool_error,
    error::{self, Effect},
};
use async_trait::async_trait;
use capomastro_core::{
    Error, Result,
    time::{Clock, Random, SystemClock, SystemRandom},
};
use deadpool_postgres::{Object, Pool};
use futures_util::future::{Either, select};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::runtime::Handle;
use tokio_postgres::{Client, error::SqlState};

/// How often a call that lost a race tries again.
const RACES: u32 = 5;

/// How often a call whose connection ended tries again.
const LOSSES: u32 = 3;

/// What a call asks of a connection.
#[async_trait]
pub(crate) trait Call: Send + Sync + 'static {
    type Answer: Send + 'static;

    /// Whether not knowing what was written is worth telling.
    const COMMITS: bool = false;

    /// One statement. Repeating it must be harmless.
    async fn perform(&self, client: &Client) -> Result<Self::Answer, Failure>;
}

/// Why a call has no answer.
pub(crate) enum Failure {
    /// The statement was answered with a refusal.
    Refused(Error),
    /// The statement failed.
    Failed(tokio_postgres::Error),
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self::Refused(e)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(e: tokio_postgres::Error) -> Self {
        Self::Failed(e)
    }
}

/// Ends the transaction in which somebody else may have left the connection. A BEGIN before keeps the server's log free of
/// warnings that there was none; in one that has failed it fails too.
pub(crate) async fn leave_transaction(client: &Client) -> Result<(), tokio_postgres::Error> {
    let (begun, rolled_back) =
        futures_util::join!(client.batch_execute("BEGIN"), client.batch_execute("ROLLBACK"));
    match begun {
        Err(e) if e.code() != Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => Err(e),
        _ => rolled_back,
    }
}

/// The way to the database.
#[derive(Clone)]
pub(crate) struct Calls {
    line: Arc<Line>,
    runtime: Handle,
}

struct Line {
    pool: Pool,
    /// Whether others use the pool too.
    shared: bool,
    server: String,
    deadline: Duration,
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("server", &self.line.server).finish_non_exhaustive()
    }
}

impl Calls {
    pub(crate) fn new(pool: Pool, shared: bool, server: String, deadline: Duration, runtime: Handle) -> Self {
        Self { line: Arc::new(Line { pool, shared, server, deadline }), runtime }
    }

    /// Where the database is.
    pub(crate) fn server(&self) -> &str {
        &self.line.server
    }

    pub(crate) const fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Takes no more calls; those under way are answered.
    pub(crate) fn close(&self) {
        if !self.line.shared {
            self.line.pool.close();
        }
    }

    /// Makes a call as a task of its own. A dropped future leaves it to its end.
    pub(crate) async fn make<C: Call>(&self, operation: &'static str, call: C) -> Result<C::Answer> {
        let line = Arc::clone(&self.line);
        let made = self.runtime.spawn(async move { line.make(call).await }).await;
        made.unwrap_or_else(|_| {
            Err(if C::COMMITS { error::unknown(error::closed()) } else { error::closed() })
        })
        .map_err(|e| e.with_operation(operation).with_context("server", &self.line.server))
    }
}

/// The wait until the deadline of a call.
type Alarm<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Line {
    async fn make<C: Call>(&self, call: C) -> Result<C::Answer> {
        let mut alarm = SystemClock.sleep(self.deadline);
        let (mut races, mut losses) = (0, 0);
        loop {
            let in_doubt = C::COMMITS && losses > 0;
            let doubtful = |e: Error| if in_doubt { error::unknown(e) } else { e };
            let client = match select(pin!(self.pool.get()), &mut alarm).await {
                Either::Left((Ok(client), _)) => client,
                Either::Left((Err(e), _)) => {
                    let e = pool_error(e);
                    // Whether it was written is worth the rest of the time.
                    if in_doubt && self.pause(50 << losses.min(5), &mut alarm).await {
                        losses += 1;
                        continue;
                    }
                    return Err(doubtful(e));
                }
                Either::Right(((), _)) => return Err(doubtful(error::too_late(self.deadline))),
            };
            let answered = match select(pin!(self.perform(&call, &client)), &mut alarm).await {
                Either::Left((answered, _)) => Some(answered),
                Either::Right(((), _)) => None,
            };
            let failure = match answered {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(failure)) => failure,
                None => {
                    // What it would still answer is heard by nobody.
                    drop(Object::take(client));
                    let e = error::too_late(self.deadline);
                    return Err(if C::COMMITS { error::unknown(e) } else { e });
                }
            };
            let e = match failure {
                Failure::Refused(e) => return Err(e),
                Failure::Failed(e) => e,
            };
            match error::effect(&e) {
                Effect::Race if races < RACES => {
                    races += 1;
                    if !self.pause(4 << races, &mut alarm).await {
                        return Err(doubtful(error::of_call(e)));
                    }
                }
                Effect::Unknown => {
                    drop(Object::take(client));
                    losses += 1;
                    if losses > LOSSES {
                        let e = error::of_call(e);
                        return Err(if C::COMMITS { error::unknown(e) } else { e });
                    }
                    // Who comes back at once may be sent away at once.
                    if !self.pause(50 << losses, &mut alarm).await {
                        return Err(doubtful(error::of_call(e)));
                    }
                }
                Effect::Race | Effect::Nothing => return Err(doubtful(error::of_call(e))),
            }
        }
    }

    async fn perform<C: Call>(&self, call: &C, client: &Client) -> Result<C::Answer, Failure> {
        if self.shared {
            // All goes out together.
            let (left, answer) = futures_util::join!(leave_transaction(client), call.perform(client));
            left?;
            return answer;
        }
        call.perform(client).await
    }

    /// Waits up to so many milliseconds, at random so that those who met part. Returns whether there is time left.
    async fn pause(&self, most: u64, alarm: &mut Alarm<'_>) -> bool {
        let bits = u64::try_from(SystemRandom.bits() & u128::from(u32::MAX)).unwrap_or_default();
        let wait = SystemClock.sleep(Duration::from_millis(1 + bits % most));
        matches!(select(wait, alarm).await, Either::Left(_))
    }
}
