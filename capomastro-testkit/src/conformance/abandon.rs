//! Callers that lose interest.

use std::{
    future::{Future, poll_fn},
    task::Poll,
};

/// Polls a future so often, each time when it asked for it, and drops it; its answer, if it came before.
pub(super) async fn abandoned<F: Future + Send>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut polled = 0;
    poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        match future.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if polled == polls => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
