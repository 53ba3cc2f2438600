//! Ticking until told to stop, without letting one slow task hold up the rest.

use super::{Inner, Scheduler};
use crate::{Result, Retry, error::ErrorKind, schedule::backoff, store::Lane, time::until};
use futures_util::{
    StreamExt,
    future::{Either, FusedFuture, select},
    stream::FuturesUnordered,
};
use std::{collections::BTreeMap, future::Future, pin::pin, time::Duration};

impl Scheduler {
    /// Looks, decides, builds and links until `shutdown` is ready; then finishes what it has begun, for at most the
    /// [grace](super::SchedulerBuilder::shutdown_grace), and returns.
    ///
    /// *Cancellation*: dropping the future is a crash, as with [`tick`](Scheduler::tick).
    ///
    /// # Errors
    /// When the store cannot be used at all: it is corrupt, of a newer format, or may not be written. A store that does not
    /// answer for a while is asked again.
    pub async fn run(&self, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        let inner = self.inner.as_ref();
        let mut shutdown = pin!(futures_util::FutureExt::fuse(shutdown));
        match select(shutdown.as_mut(), pin!(inner.begin())).await {
            Either::Left(((), _)) => return Ok(()),
            Either::Right((begun, _)) => begun?,
        }
        let mut running = FuturesUnordered::new();
        let mut busy: BTreeMap<Lane, usize> = BTreeMap::new();
        let mut failures = 0_u32;
        let mut hints_seen = 0;
        while !shutdown.is_terminated() {
            let asked = inner.clock.monotonic();
            let wait = match inner.take(&busy, asked).await {
                Ok((jobs, wait)) => {
                    failures = 0;
                    for job in jobs {
                        let (lane, weight) = (job.lane(), job.weight());
                        *busy.entry(lane.clone()).or_default() += weight;
                        running.push(async move {
                            inner.perform(job).await;
                            (lane, weight)
                        });
                    }
                    wait
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::Corrupt | ErrorKind::NewerFormat | ErrorKind::ReadOnly
                    ) =>
                {
                    return Err(e.with_operation("run"));
                }
                Err(e) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(error = %e.report(), "the store cannot be asked for due work");
                    pause(failures)
                }
            };
            let idle = async {
                let sleep = pin!(inner.clock.sleep(wait));
                let woken = pin!(inner.wake.notified());
                let hinted = pin!(inner.hinted(&mut hints_seen));
                select(select(woken, hinted), sleep).await;
            };
            let next = async {
                if running.is_empty() {
                    std::future::pending::<()>().await;
                }
                if let Some((lane, weight)) = running.next().await
                    && let Some(count) = busy.get_mut(&lane)
                {
                    *count = count.saturating_sub(weight);
                }
            };
            let (idle, next) = (pin!(idle), pin!(next));
            // Biased: a stop is seen first, then what has ended.
            select(shutdown.as_mut(), select(next, idle)).await;
            inner.flush().await;
        }
        let rest = pin!(async { while running.next().await.is_some() {} });
        if let Either::Right(_) = select(rest, pin!(inner.clock.sleep(inner.config.grace))).await {
            tracing::warn!(
                "some work was left unfinished at the stop; it is gone on with when its claims end"
            );
        }
        inner.flush().await;
        tracing::info!(holder = %inner.holder, "scheduler stopped");
        Ok(())
    }
}

/// How long to wait after the store could not be asked, so many times in a row.
fn pause(failures: u32) -> Duration {
    backoff(failures, Duration::from_millis(100), false).min(Duration::from_secs(10))
}

impl Inner {
    /// Finds out that the store can be used; waits for one that does not answer.
    async fn begin(&self) -> Result<()> {
        let mut failures = 0_u32;
        loop {
            let begun = async {
                let info = self.store.check().await?;
                self.start_house().await.map(|()| info)
            };
            match begun.await {
                Ok(info) => {
                    tracing::info!(store = %info.description, holder = %self.holder, "scheduler started");
                    return Ok(());
                }
                Err(e) if e.retry() == Retry::Never => return Err(e),
                Err(e) => {
                    failures = failures.saturating_add(1);
                    tracing::warn!(error = %e.report(), "the store does not answer yet");
                    self.clock.sleep(pause(failures)).await;
                }
            }
        }
    }

    /// Waits for a hint that was not seen yet.
    async fn hinted(&self, seen: &mut u64) {
        match &self.hints {
            Some(hints) => *seen = hints.after(*seen).await,
            None => std::future::pending().await,
        }
    }

    /// Due work, and how long to wait before asking again.
    async fn take(
        &self,
        busy: &BTreeMap<Lane, usize>,
        asked: crate::time::Monotonic,
    ) -> Result<(Vec<super::tick::Job>, Duration)> {
        let claimed = self.store.claim_due(&self.ask(busy)).await?;
        let wait = match claimed.next_due {
            Some(at) => until(claimed.now, at).min(self.config.idle),
            None => self.config.idle,
        };
        Ok((self.sort(claimed, asked).await?, wait))
    }
}
