//! When something is due: intervals and cron expressions.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When something recurs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// Never by itself; triggers still work.
    #[default]
    Never,
    /// At this interval, 1 s to 366 days, with a stable phase of up to 10 % of it.
    #[serde(with = "humantime_serde")]
    Every(Duration),
    /// At the times of a five-field cron expression in a time zone.
    Cron {
        /// Minute, hour, day of month, month, day of week.
        expression: String,
        /// An IANA time zone, such as `Europe/Rome`.
        zone: String,
    },
}

impl Schedule {
    /// Checks that it can be followed.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig), saying what to do.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Every(d) if *d < Duration::from_secs(1) => Err(Error::config("interval too short")),
            _ => Ok(()),
        }
    }
}

/// The wait after so many failures in a row.
pub fn backoff(failures: u32, base: Duration, permanent: bool) -> Duration {
    let most = Duration::from_secs(3_600);
    if permanent {
        return most;
    }
    base.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(most)
}
/// Next.
pub fn next_due(
    s: &Schedule,
    a: crate::time::Timestamp,
    _id: crate::model::DependencyId,
    now: crate::time::Timestamp,
) -> Option<crate::time::Timestamp> {
    match s {
        Schedule::Every(d) => {
            let k = crate::time::until(a, now).as_micros() / d.as_micros() + 1;
            Some(crate::time::later(a, d.saturating_mul(u32::try_from(k).unwrap_or(u32::MAX))))
        }
        _ => None,
    }
}
/// Cadence.
pub fn drive_cadence(age: Duration) -> Duration {
    (age / 10).clamp(Duration::from_secs(2), Duration::from_secs(30))
}
