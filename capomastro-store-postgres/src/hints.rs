//! Wake-up hints over `LISTEN` and `NOTIFY`, on a connection of their own and outside of every commit's transaction.
//!
//! A transaction that notifies holds a lock of the whole server while it commits, so commits never do: they leave a mark
//! here, and one small transaction for all marks of a tenth of a second notifies.

use crate::connect::Connect;
use capomastro_core::{
    store::{Batch, DueChange},
    time::{Clock, SystemClock},
};
use futures_util::future::{Either, select};
use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_postgres::{
    AsyncMessage,
    types::{ToSql, Type},
};

/// The shortest time between two hints that are sent.
const APART: Duration = Duration::from_millis(100);

/// After how long without a hint the connection is tried.
const QUIET: Duration = Duration::from_secs(20);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait before connecting again.
const AGAIN: Duration = Duration::from_secs(2);

/// Work that is due this soon is worth a hint: schedulers look each second anyhow.
const SOON: Duration = Duration::from_millis(500);

/// Whether a batch makes work due at once that others may take.
pub(crate) fn is_worth(batch: &Batch) -> bool {
    batch.due.iter().any(|change| match change {
        DueChange::Set { after, .. } | DueChange::Nudge { after, .. } => *after < SOON,
        _ => false,
    })
}

/// Sends and hears hints, until it is dropped.
#[derive(Debug)]
pub(crate) struct Hints {
    heard: watch::Receiver<u64>,
    mark: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Hints {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hints {
    pub(crate) fn start(connect: Connect, schema: &str, runtime: &Handle) -> Self {
        let (tell, heard) = watch::channel(0);
        let mark = Arc::new(Notify::new());
        let line = Line { connect, channel: channel(schema), tell, mark: Arc::clone(&mark) };
        Self { heard, mark, task: runtime.spawn(line.keep()) }
    }

    /// Leaves a mark that others should look.
    pub(crate) fn send(&self) {
        self.mark.notify_one();
    }

    /// The number of hints that were heard, once it is another one.
    pub(crate) async fn after(&self, seen: u64) -> u64 {
        let mut heard = self.heard.clone();
        if let Ok(count) = heard.wait_for(|count| *count != seen).await {
            return *count;
        }
        // The task has ended, so that no hint will come.
        std::future::pending().await
    }
}

/// The channel of a schema.
fn channel(schema: &str) -> String {
    format!("capomastro_{schema}")
}

struct Line {
    connect: Connect,
    channel: String,
    tell: watch::Sender<u64>,
    mark: Arc<Notify>,
}

impl Line {
    /// Keeps a connection. Hints that are missed meanwhile cost no more than the wait until the next look.
    async fn keep(self) {
        loop {
            if let Err(e) = self.once().await {
                tracing::debug!(channel = %self.channel, error = %e, "no hints for now");
            }
            // Something may have been missed.
            self.tell.send_modify(|count| *count = count.wrapping_add(1));
            SystemClock.sleep(AGAIN).await;
        }
    }

    async fn once(&self) -> Result<(), tokio_postgres::Error> {
        let connecting = pin!(self.connect.config.connect(self.connect.tls.clone()));
        // A network that swallows everything is noticed by nobody else.
        let Either::Left((connected, _)) = select(connecting, SystemClock.sleep(PATIENCE)).await else {
            return Ok(());
        };
        let (client, mut connection) = connected?;
        let own = AtomicI32::new(0);
        let heard = std::future::poll_fn(|cx| {
            loop {
                match std::task::ready!(connection.poll_message(cx)) {
                    Some(Ok(AsyncMessage::Notification(hint))) => {
                        // What this process said itself it knows.
                        if hint.process_id() != own.load(Ordering::Relaxed) {
                            self.tell.send_modify(|count| *count = count.wrapping_add(1));
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(e)) => return Poll::Ready(Err(e)),
                    None => return Poll::Ready(Ok(())),
                }
            }
        });
        let talk = async {
            let pid = client.query_typed_one("SELECT pg_backend_pid()", &[]).await?;
            own.store(pid.try_get(0)?, Ordering::Relaxed);
            client.batch_execute(&format!("LISTEN \"{}\"", self.channel)).await?;
            loop {
                let is_marked = matches!(
                    select(pin!(self.mark.notified()), SystemClock.sleep(QUIET)).await,
                    Either::Left(_)
                );
                // Either way it is seen whether the connection still answers.
                let sent = if is_marked { "SELECT pg_notify($1, '')::text" } else { "SELECT $1" };
                let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&self.channel, Type::TEXT)];
                let asked = pin!(client.query_typed(sent, &parameters));
                match select(asked, SystemClock.sleep(PATIENCE)).await {
                    Either::Left((answer, _)) => drop(answer?),
                    Either::Right(_) => return Ok(()),
                }
                SystemClock.sleep(APART).await;
            }
        };
        match select(pin!(heard), pin!(talk)).await {
            Either::Left((ended, _)) => ended,
            Either::Right((failed, _)) => failed,
        }
    }
}
