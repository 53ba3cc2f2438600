//! What was said before, within bounds.

use super::payload::{Notification, Phase};
use capomastro_core::model::LaunchKey;
use std::collections::{BTreeSet, VecDeque};

/// What makes two messages the same. The key is in it since a job that was deleted and made again counts from 1 again.
type Said = (String, u64, Phase, Option<LaunchKey>);

/// The last messages, up to a number.
#[derive(Debug)]
pub(super) struct Seen {
    most: usize,
    said: BTreeSet<Said>,
    order: VecDeque<Said>,
}

impl Seen {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, said: BTreeSet::new(), order: VecDeque::new() }
    }

    pub(super) fn has(&self, message: &Notification) -> bool {
        self.said.contains(&said(message))
    }

    /// Remembers a message, and forgets the oldest one where there are too many.
    pub(super) fn remember(&mut self, message: Notification) {
        let said = (message.job, message.number, message.phase, message.key);
        if !self.said.insert(said.clone()) {
            return;
        }
        self.order.push_back(said);
        while self.order.len() > self.most {
            if let Some(oldest) = self.order.pop_front() {
                self.said.remove(&oldest);
            }
        }
    }
}

fn said(message: &Notification) -> Said {
    (message.job.clone(), message.number, message.phase.clone(), message.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(job: &str, number: u64, phase: Phase) -> Notification {
        Notification { job: job.into(), number, queue_id: None, phase, status: None, key: None }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut seen = Seen::new(3);
        for number in 1..=5 {
            seen.remember(message("a", number, Phase::Started));
            seen.remember(message("a", number, Phase::Started));
        }
        let known: Vec<u64> = (1..=5).filter(|n| seen.has(&message("a", *n, Phase::Started))).collect();
        assert_eq!(known, [3, 4, 5]);
        assert_eq!((seen.said.len(), seen.order.len()), (3, 3));
    }

    #[test]
    fn job_number_and_phase_make_a_message() {
        let mut seen = Seen::new(10);
        seen.remember(message("a", 1, Phase::Started));
        assert!(seen.has(&message("a", 1, Phase::Started)));
        for other in
            [message("b", 1, Phase::Started), message("a", 2, Phase::Started), message("a", 1, Phase::Queued)]
        {
            assert!(!seen.has(&other), "{other:?}");
        }
    }
}
