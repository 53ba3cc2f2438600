//! A clock that can be set forward for all processes of a world, so that nobody has to wait for a lease to end.

use async_trait::async_trait;
use capomastro_core::time::{Clock, Monotonic, SystemClock, Timestamp, later};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The machine's time, and as many seconds more as a file says.
#[derive(Clone, Debug)]
pub(crate) struct Ahead(PathBuf);

impl Ahead {
    /// The clock of a world.
    pub(crate) fn of(root: &Path) -> Self {
        Self(root.join("ahead"))
    }

    /// Whether the world has such a clock.
    pub(crate) fn is_there(&self) -> bool {
        self.0.exists()
    }

    fn seconds(&self) -> u64 {
        std::fs::read_to_string(&self.0).map_or(0, |s| s.parse().unwrap())
    }

    /// Sets it forward. Only one process does.
    pub(crate) fn advance(&self, seconds: u64) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, (self.seconds() + seconds).to_string()).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }
}

#[async_trait]
impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        later(SystemClock.now(), Duration::from_secs(self.seconds()))
    }
    fn monotonic(&self) -> Monotonic {
        SystemClock.monotonic()
    }
    async fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration).await;
    }
}
