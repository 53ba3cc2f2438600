//! A server that does not work is left alone for a while.

use capomastro_core::time::Monotonic;
use std::time::Duration;

/// So many failures in a row open the circuit.
const FAILURES: u32 = 5;
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// How long one request, sent to see whether the server works again, keeps others waiting.
const TRIAL: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Circuit {
    failures: u32,
    open_until: Option<Monotonic>,
}

impl Circuit {
    /// Whether a request may be sent now; if not, how long to wait. One that may, after the circuit was open, is a trial
    /// for which others wait.
    pub(super) fn admit(&mut self, now: Monotonic) -> Result<(), Duration> {
        match self.open_until {
            Some(until) if now < until => Err(until.since(now)),
            Some(_) => {
                self.open_until = Some(now.plus(TRIAL));
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn worked(&mut self) {
        *self = Self::default();
    }

    /// `bits` are fresh random ones, so that several schedulers do not come back at one moment.
    pub(super) fn failed(&mut self, now: Monotonic, bits: u128) {
        self.failures = self.failures.saturating_add(1);
        if let Some(beyond) = self.failures.checked_sub(FAILURES) {
            let longest = FIRST.saturating_mul(1 << beyond.min(10)).min(LONGEST);
            let per_mille = u32::try_from(bits % 501).unwrap_or_default() + 500;
            self.open_until = Some(now.plus(longest * per_mille / 1_000));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn it_opens_after_some_failures_and_longer_each_time() {
        let mut circuit = Circuit::default();
        for _ in 1..FAILURES {
            circuit.failed(at(0), 500);
            assert_eq!(circuit.admit(at(0)), Ok(()));
        }
        let mut now = 0;
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            circuit.failed(at(now), 500);
            assert_eq!(circuit.admit(at(now)), Err(Duration::from_secs(wait)));
            now += wait;
            assert_eq!(circuit.admit(at(now)), Ok(()), "one is let through");
            assert_eq!(circuit.admit(at(now)), Err(TRIAL), "and no other");
        }
        circuit.worked();
        assert_eq!((circuit.admit(at(now)), circuit.admit(at(now))), (Ok(()), Ok(())));
    }

    #[test]
    fn waits_are_spread() {
        for (bits, millis) in [(0, 500), (250, 750), (500, 1_000), (501, 500)] {
            let mut circuit = Circuit::default();
            for _ in 0..FAILURES {
                circuit.failed(at(0), bits);
            }
            assert_eq!(circuit.admit(at(0)), Err(Duration::from_millis(millis)), "{bits}");
        }
    }
}
