//! Somebody who reads the events through all of it, on a line as bad as that of the schedulers.

use crate::{kept, world::World};
use capomastro_core::{
    Scheduler,
    events::StoredEvent,
    store::{EventFilter, FIRST_EVENT},
    time::{Clock as _, SystemClock},
};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::task::JoinHandle;

/// The name of the reader's line.
pub(crate) const FOLLOWER: &str = "follower";

/// How long the newest events may take to arrive when nothing fails any more.
const LONG: Duration = Duration::from_secs(30);

/// Reads all events from the first one on, as they come.
#[derive(Debug)]
pub(crate) struct Follower {
    task: JoinHandle<()>,
    read: Arc<Mutex<(Vec<StoredEvent>, u64)>>,
}

impl Follower {
    pub(crate) async fn start(root: &Path) -> Self {
        let store = kept::open(root, FOLLOWER).await;
        let read = Arc::new(Mutex::new((Vec::new(), 0)));
        let into = Arc::clone(&read);
        let task = tokio::spawn(async move {
            let scheduler = Scheduler::builder(store).build().unwrap();
            let mut stream = scheduler.follow(EventFilter::All, FIRST_EVENT);
            loop {
                match stream.next().await {
                    Ok(event) => {
                        assert!(event.seq <= stream.position(), "an event behind the place that is told");
                        into.lock().unwrap().0.push(event);
                    }
                    Err(_) => {
                        into.lock().unwrap().1 += 1;
                        // As after a restart of the reader.
                        stream = scheduler.follow(EventFilter::All, stream.position());
                        SystemClock.sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        });
        Self { task, read }
    }

    /// Nothing but all events were read, each once and in order. Returns how many they were, and how often reading failed.
    pub(crate) async fn check(self, world: &World) -> (usize, u64) {
        let all = world.events().await;
        let until = SystemClock.monotonic().plus(LONG);
        while self.read.lock().unwrap().0.len() < all.len() {
            assert!(!self.task.is_finished(), "the follower has ended");
            if SystemClock.monotonic() >= until {
                break;
            }
            SystemClock.sleep(Duration::from_millis(10)).await;
        }
        self.task.abort();
        let (read, failures) = &*self.read.lock().unwrap();
        let missed: Vec<_> = all.iter().filter(|e| !read.contains(e)).collect();
        assert!(missed.is_empty(), "events appeared behind a place that was returned: {missed:#?}");
        assert!(*read == all, "{} events were read, of {}", read.len(), all.len());
        (all.len(), *failures)
    }
}
