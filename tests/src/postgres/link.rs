//! One connection through the proxy, and the rules that it keeps.

use rustix::net::Shutdown;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    rc::Rc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until},
};

/// So much is read ahead while it may not be passed on yet.
const MOST_QUEUED: usize = 1 << 20;
const MOST_READ: usize = 16 * 1_024;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toward {
    /// Of requests.
    Server,
    /// Of answers.
    Client,
}

/// What is lost with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    Request,
    Answer,
}

/// How bad the network is; by default it is good.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) holds_requests: bool,
    pub(super) holds_answers: bool,
    pub(super) delay: Duration,
    pub(super) cut_after: Option<(Toward, u64)>,
    pub(super) cut_at: Option<(Vec<u8>, Lost)>,
}

impl Rules {
    fn holds(&self, toward: Toward) -> bool {
        match toward {
            Toward::Server => self.holds_requests,
            Toward::Client => self.holds_answers,
        }
    }
}

/// What all connections of a proxy share. One thread runs all of them, so that between two waits nothing changes.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) rules: RefCell<Rules>,
    pub(super) changed: watch::Sender<()>,
    /// How many connections the rules have cut.
    pub(super) cuts: watch::Sender<u64>,
}

/// Why a direction of a connection ends.
#[derive(Debug)]
pub(super) enum Ended {
    /// As a rule wants it.
    Cut,
    /// A side is gone.
    Broken,
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Broken
    }
}

/// Two ends.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) client: Rc<TcpStream>,
    pub(super) server: Rc<TcpStream>,
}

#[derive(Debug)]
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
    passed: usize,
    is_searched: bool,
}

impl Link {
    /// The peers see a reset when the ends are dropped.
    pub(super) fn will_be_reset(&self) {
        for end in [&self.client, &self.server] {
            // One that is gone already cannot be reset.
            end.set_zero_linger().ok();
        }
    }

    /// Passes bytes on until both sides are done, or it is cut. Then it is to be forgotten, by whoever else holds it.
    pub(super) async fn run(self, shared: Rc<Shared>, forget: impl FnOnce()) {
        let loses_answers = Cell::new(false);
        let requests = self.pass(&shared, Toward::Server, &loses_answers);
        let answers = self.pass(&shared, Toward::Client, &loses_answers);
        let ended = tokio::try_join!(requests, answers);
        if ended.is_err() {
            self.will_be_reset();
        }
        forget();
        drop(self);
        if let Err(Ended::Cut) = ended {
            shared.cuts.send_modify(|n| *n += 1);
        }
    }

    async fn pass(&self, shared: &Shared, toward: Toward, loses_answers: &Cell<bool>) -> Result<(), Ended> {
        let (from, to) = match toward {
            Toward::Server => (&self.client, &self.server),
            Toward::Client => (&self.server, &self.client),
        };
        let mut changed = shared.changed.subscribe();
        let mut queue = VecDeque::<Chunk>::new();
        let mut search = Search::default();
        let mut is_at_end = false;
        loop {
            changed.borrow_and_update();
            let is_held = shared.rules.borrow().holds(toward);
            let mut is_blocked = false;
            while !is_held && let Some(chunk) = queue.front_mut().filter(|c| c.due <= Instant::now()) {
                if toward == Toward::Server && !chunk.is_searched {
                    chunk.is_searched = true;
                    search.look(&chunk.bytes, shared, loses_answers)?;
                }
                if toward == Toward::Client && loses_answers.get() {
                    return Err(Ended::Cut);
                }
                match forward(to, &chunk.bytes[chunk.passed..], shared, toward)? {
                    Some(passed) => chunk.passed += passed,
                    None => {
                        is_blocked = true;
                        break;
                    }
                }
                if chunk.passed == chunk.bytes.len() {
                    queue.pop_front();
                }
            }
            if is_at_end && queue.is_empty() && !is_held {
                // The other side may be gone already.
                rustix::net::shutdown(to, Shutdown::Write).ok();
                return Ok(());
            }
            let queued: usize = queue.iter().map(|c| c.bytes.len()).sum();
            let due = queue.front().filter(|_| !is_held && !is_blocked).map(|c| c.due);
            tokio::select! {
                ready = from.readable(), if !is_held && !is_at_end && queued < MOST_QUEUED => {
                    ready?;
                    let mut bytes = vec![0; MOST_READ];
                    match from.try_read(&mut bytes) {
                        Ok(0) => is_at_end = true,
                        Ok(n) => {
                            bytes.truncate(n);
                            let due = Instant::now() + shared.rules.borrow().delay;
                            queue.push_back(Chunk { due, bytes, passed: 0, is_searched: false });
                        }
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                        Err(e) => return Err(e.into()),
                    }
                }
                ready = to.writable(), if is_blocked => ready?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                more = changed.changed() => if more.is_err() { return Err(Ended::Broken) },
            }
        }
    }
}

/// How many bytes passed; nothing if there is no room now.
fn forward(to: &TcpStream, bytes: &[u8], shared: &Shared, toward: Toward) -> Result<Option<usize>, Ended> {
    let mut rules = shared.rules.borrow_mut();
    let budget = rules.cut_after.as_mut().filter(|(t, _)| *t == toward).map(|(_, n)| n);
    let most =
        budget.as_deref().map_or(bytes.len(), |n| bytes.len().min(usize::try_from(*n).unwrap_or(usize::MAX)));
    if most == 0 {
        rules.cut_after = None;
        return Err(Ended::Cut);
    }
    match to.try_write(&bytes[..most]) {
        Ok(passed) => {
            if let Some(left) = budget {
                *left -= passed as u64;
            }
            Ok(Some(passed))
        }
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Looks for words in a stream that comes in pieces.
#[derive(Debug, Default)]
struct Search {
    tail: Vec<u8>,
}

impl Search {
    fn look(&mut self, bytes: &[u8], shared: &Shared, loses_answers: &Cell<bool>) -> Result<(), Ended> {
        let mut rules = shared.rules.borrow_mut();
        let Some((words, lost)) = rules.cut_at.as_ref() else {
            self.tail.clear();
            return Ok(());
        };
        self.tail.extend_from_slice(bytes);
        if self.tail.windows(words.len()).any(|w| w == words) {
            let lost = *lost;
            rules.cut_at = None;
            match lost {
                Lost::Request => return Err(Ended::Cut),
                Lost::Answer => loses_answers.set(true),
            }
        } else {
            let keep = self.tail.len().min(words.len() - 1);
            self.tail.drain(..self.tail.len() - keep);
        }
        Ok(())
    }
}
