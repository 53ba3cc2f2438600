//! Waiting for what real servers and processes do, and not for ever.

use capomastro_core::time::{Clock, SystemClock};
use std::time::Duration;

/// How often something is looked at that reports nothing.
const LOOK: Duration = Duration::from_millis(5);

/// What a future gives, if it does so within this time.
///
/// # Panics
/// If it does not.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        value = future => value,
        () = SystemClock.sleep(limit) => panic!("not within {limit:?}"),
    }
}

/// Waits until something is true, at most this long.
///
/// # Panics
/// If it does not come true.
pub async fn eventually(limit: Duration, mut holds: impl AsyncFnMut() -> bool) {
    within(limit, async {
        while !holds().await {
            SystemClock.sleep(LOOK).await;
        }
    })
    .await;
}

/// What a future gives, and how long it took.
pub async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let from = SystemClock.monotonic();
    let value = future.await;
    (value, SystemClock.monotonic().since(from))
}
