//! What is remembered of a server between requests: its session, and whether it has taken our credentials.

use capomastro_core::time::Monotonic;
use std::time::Duration;

/// A server that is being started refuses good credentials for seconds. What is refused for longer is wrong.
const STARTING: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Of the running process; another one has forgotten queue items, and may use their numbers again.
    pub(super) session: Option<String>,
    has_worked: bool,
    denied_since: Option<Monotonic>,
}

impl Trust {
    /// Our credentials were taken.
    pub(super) const fn worked(&mut self) {
        self.has_worked = true;
        self.denied_since = None;
    }

    /// Our credentials were refused; whether the server may just be starting.
    pub(super) fn denied(&mut self, now: Monotonic) -> bool {
        let since = *self.denied_since.get_or_insert(now);
        self.has_worked && now.since(since) < STARTING
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_have_worked_are_believed_for_a_while() {
        let at = |seconds| Monotonic(Duration::from_secs(seconds));
        let mut trust = Trust::default();
        assert!(!trust.denied(at(0)), "they never worked");
        trust.worked();
        assert!(trust.denied(at(10)) && trust.denied(at(129)));
        assert!(!trust.denied(at(130)), "for too long");
        trust.worked();
        assert!(trust.denied(at(500)));
    }
}
