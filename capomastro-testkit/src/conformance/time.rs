//! Whose time passes while a case runs.

use crate::fakes::ManualClock;
use capomastro_core::time::{Clock, SystemClock};
use std::{future::Future, sync::Arc, time::Duration};

/// How often something is looked at that happens elsewhere.
const POLL: Duration = Duration::from_millis(2);

/// The time by which what is tested lives.
#[derive(Clone, Debug)]
pub enum Time {
    /// It was given this clock, and passes when a case says so: nobody waits.
    Manual(ManualClock),
    /// The machine's own: a case that lets time pass really waits.
    Machine,
}

impl Time {
    /// The clock to compare with.
    pub fn clock(&self) -> Arc<dyn Clock> {
        match self {
            Self::Manual(clock) => Arc::new(clock.clone()),
            Self::Machine => Arc::new(SystemClock),
        }
    }

    /// Lets this much time pass.
    pub(super) async fn pass(&self, by: Duration) {
        match self {
            Self::Manual(clock) => clock.advance(by),
            Self::Machine => SystemClock.sleep(by).await,
        }
    }

    /// How long something is given to end that is expected not to.
    pub(super) const fn a_while(&self) -> Duration {
        Duration::from_millis(if matches!(self, Self::Manual(_)) { 10 } else { 300 })
    }

    /// Waits until `look` gives something. What lives in made-up time answers at once, so it is not waited for long.
    pub(super) async fn until<T, F>(&self, what: &str, mut look: impl FnMut() -> F + Send) -> T
    where
        F: Future<Output = Option<T>> + Send,
        T: Send,
    {
        let patience = Duration::from_secs(if matches!(self, Self::Manual(_)) { 1 } else { 60 });
        let until = SystemClock.monotonic().plus(patience);
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(SystemClock.monotonic() < until, "waited in vain for {what}");
            SystemClock.sleep(POLL).await;
        }
    }
}
