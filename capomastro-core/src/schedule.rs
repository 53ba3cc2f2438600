//! When something is due: intervals, cron expressions, back-off, and how often to look at a running build.
//!
//! Everything here is a pure function of the times it is given. A due time depends on nothing that was due before: missed
//! ticks are one tick, and a clock that jumps, either way, is followed from where it is.

use crate::{Error, Result, model::DependencyId, time::Timestamp};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use chrono_tz::Tz;
use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The shortest interval.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval.
pub const MAX_INTERVAL: Duration = Duration::from_secs(366 * 86_400);
/// The longest back-off.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3_600);
/// Of how long a source has been still, the part after which it is looked at again.
const STILLNESS: u32 = 8;
/// The longest cron expression, in bytes.
const MAX_EXPRESSION: usize = 200;

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
    /// Looks only: after an eighth of the time for which the source has been still, but within these bounds. One that
    /// moves often is looked at often, one that sleeps seldom, and one that has just moved soon, since changes come in
    /// swarms. As long as it can be looked at, a change is seen within `longest`, whenever it comes, and the time that the
    /// look itself takes. What is learnt is kept nowhere: it follows from when the source last moved.
    Adaptive {
        /// No two looks are closer together, triggers aside. From 1 s.
        #[serde(with = "humantime_serde")]
        shortest: Duration,
        /// The promise. Looks lie up to 10 % closer together, so that they are spread. Up to 366 days.
        #[serde(with = "humantime_serde")]
        longest: Duration,
    },
    /// At the times of a five-field cron expression in a time zone.
    ///
    /// A fixed time of day that the clocks skip is due right after the gap, one that they repeat is due once, the first
    /// time; a recurring one (`*/30 * * * *`) follows real time. Where both days are given, either one matches, as ever in
    /// cron.
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
            Self::Never => Ok(()),
            Self::Every(interval) if (MIN_INTERVAL..=MAX_INTERVAL).contains(interval) => Ok(()),
            Self::Every(interval) => Err(Error::config("an interval is out of range: give 1s to 366d")
                .with_context("interval", humantime_serde::re::humantime::format_duration(*interval))),
            Self::Adaptive { shortest, longest }
                if MIN_INTERVAL <= *shortest && shortest <= longest && *longest <= MAX_INTERVAL =>
            {
                Ok(())
            }
            Self::Adaptive { shortest, longest } => Err(Error::config(
                "the bounds of an adaptive interval are out of range or in the wrong order: give 1s to 366d",
            )
            .with_context("shortest", humantime_serde::re::humantime::format_duration(*shortest))
            .with_context("longest", humantime_serde::re::humantime::format_duration(*longest))),
            Self::Cron { expression, zone } => {
                let cron = parse(expression)?;
                let zone = parse_zone(zone)?;
                // Any start will do: what never comes after the epoch never comes.
                next_cron(&cron, zone, DateTime::UNIX_EPOCH).map(drop).ok_or_else(|| {
                    Error::config("a cron expression never comes, such as 31 February: correct day and month")
                        .with_context("expression", expression.escape_debug())
                })
            }
        }
    }
}

fn parse(expression: &str) -> Result<Cron> {
    let bad = |problem: &str| {
        Error::config(format!(
            "{problem}: give five fields (minute, hour, day of month, month, day of week), such as \"30 2 * * 1-5\""
        ))
        .with_context("expression", expression.chars().take(MAX_EXPRESSION).collect::<String>().escape_debug())
    };
    if expression.len() > MAX_EXPRESSION {
        return Err(bad("a cron expression is longer than 200 bytes"));
    }
    if !expression.is_ascii() {
        return Err(bad("a cron expression has characters other than ASCII"));
    }
    if expression.contains('@') {
        return Err(bad("a cron expression is a nickname"));
    }
    let fields = expression.split_whitespace().count();
    if fields != 5 {
        return Err(bad(&format!("a cron expression has {fields} fields")));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(expression).map_err(|e| bad("a cron expression cannot be understood").with_source(e))
}

fn parse_zone(zone: &str) -> Result<Tz> {
    zone.parse().map_err(|_| {
        Error::config("an unknown time zone: give an IANA name, such as \"Europe/Rome\" or \"UTC\"")
            .with_context("zone", zone.chars().take(MAX_EXPRESSION).collect::<String>().escape_debug())
    })
}

/// When `schedule` is due next, strictly after `now`; `None` if never by itself, or if the schedule cannot be followed
/// ([`Schedule::validate`] tells why).
///
/// An interval's ticks lie at `anchor` (when the dependency was defined) plus the [`phase`] of `id`, and every interval
/// before and after, so that the answer is never further away than one interval, wherever the clock has jumped. A cron
/// expression has no phase: people mean the minute they write.
pub fn next_due(
    schedule: &Schedule,
    anchor: Timestamp,
    id: DependencyId,
    now: Timestamp,
) -> Option<Timestamp> {
    match schedule {
        Schedule::Never => None,
        Schedule::Every(interval) => {
            let interval = (*interval).clamp(MIN_INTERVAL, MAX_INTERVAL);
            let micros = i64::try_from(interval.as_micros()).ok()?;
            let first = anchor.checked_add_signed(TimeDelta::from_std(phase(id, interval)).ok()?)?;
            let since_tick = now.signed_duration_since(first).num_microseconds()?.rem_euclid(micros);
            Some(now.trunc_subsecs(6).checked_add_signed(TimeDelta::microseconds(micros - since_tick))?)
        }
        // Without knowing the source, the promise.
        Schedule::Adaptive { longest, .. } => next_due(&Schedule::Every(*longest), anchor, id, now),
        Schedule::Cron { expression, zone } => {
            next_cron(&parse(expression).ok()?, parse_zone(zone).ok()?, now)
        }
    }
}

fn next_cron(cron: &Cron, zone: Tz, now: Timestamp) -> Option<Timestamp> {
    let start = now.with_timezone(&zone);
    // croner gives up in a gap of more than two hours, such as a day that a zone skipped: go on behind it.
    let starts = [Some(start), start.checked_add_signed(TimeDelta::hours(26))];
    let mut found = starts.into_iter().flatten().filter_map(|s| cron.find_next_occurrence(&s, false).ok());
    found.next().map(|t| t.with_timezone(&Utc)).filter(|t| *t > now)
}

/// Where in the first 10 % of `interval` a dependency's ticks lie: stable over restarts, versions and machines, and spread
/// evenly over dependencies. The id's 16 bytes are hashed with 64-bit FNV-1a, finished with the mixer of `splitmix64`
/// since FNV alone leaves the ids of one millisecond close together.
pub fn phase(id: DependencyId, interval: Duration) -> Duration {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let fnv = id.as_uuid().as_bytes().iter().fold(OFFSET, |h, b| (h ^ u64::from(*b)).wrapping_mul(PRIME));
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let hash = mixed ^ (mixed >> 31);
    let span = u64::try_from(interval.as_micros() / 10).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(hash % span)
}

/// How long to wait for the next look at a source that has been `still` for so long, in an adaptive interval with these
/// bounds. Up to 10 % less than the rule says, the same for one `id`, so that sources which moved together are not looked
/// at together for ever.
pub fn adaptive(shortest: Duration, longest: Duration, still: Duration, id: DependencyId) -> Duration {
    let shortest = shortest.clamp(MIN_INTERVAL, MAX_INTERVAL);
    let longest = longest.clamp(shortest, MAX_INTERVAL);
    let interval = (still / STILLNESS).clamp(shortest, longest);
    interval.saturating_sub(phase(id, interval)).max(shortest)
}

/// How long to wait after this many failures in a row: `base` after the first, doubled each time, up to an hour; an hour
/// at once where trying again soon is useless. Nothing after no failure.
pub fn backoff(failures: u32, base: Duration, permanent: bool) -> Duration {
    match failures {
        0 => Duration::ZERO,
        _ if permanent => MAX_BACKOFF,
        n => base.saturating_mul(1_u32.checked_shl(n - 1).unwrap_or(u32::MAX)).min(MAX_BACKOFF),
    }
}

/// How long until the next look at a build that the build system has had for `age`: 2 s at first, then a tenth of its age,
/// up to 30 s.
pub fn look_cadence(age: Duration) -> Duration {
    (age / 10).clamp(Duration::from_secs(2), Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const DAY: u64 = 86_400;

    fn every(seconds: u64) -> Schedule {
        Schedule::Every(Duration::from_secs(seconds))
    }

    fn cron(expression: &str, zone: &str) -> Schedule {
        Schedule::Cron { expression: expression.into(), zone: zone.into() }
    }

    fn time(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap().to_utc()
    }

    fn due(schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
        next_due(schedule, sample::at(0), sample::dependency(1), now)
    }

    fn between(shortest: u64, longest: u64) -> Schedule {
        let (shortest, longest) = (Duration::from_secs(shortest), Duration::from_secs(longest));
        Schedule::Adaptive { shortest, longest }
    }

    #[test]
    fn an_adaptive_interval_follows_how_long_the_source_is_still() {
        let interval = |still: u64| {
            let (shortest, longest) = (Duration::from_secs(30), Duration::from_secs(900));
            adaptive(shortest, longest, Duration::from_secs(still), sample::dependency(1)).as_secs_f64()
        };
        for (still, least, most) in [
            (0, 30.0, 30.0),
            (60, 30.0, 30.0),
            (240, 30.0, 30.0),
            (800, 90.0, 100.0),
            (7_200, 810.0, 900.0),
            (7_199, 809.0, 900.0),
            (DAY * 365, 810.0, 900.0),
            (u64::MAX, 810.0, 900.0),
        ] {
            assert!((least..=most).contains(&interval(still)), "{still}: {}", interval(still));
        }
        // It is the same each time, and differs between sources.
        let of = |n| {
            adaptive(
                Duration::from_secs(1),
                Duration::from_secs(900),
                Duration::from_secs(DAY),
                sample::dependency(n),
            )
        };
        assert_eq!(of(1), of(1));
        assert!((1..=20).map(of).collect::<BTreeSet<_>>().len() > 15);
    }

    proptest! {
        #[test]
        fn an_adaptive_interval_keeps_its_bounds_and_grows_with_stillness(
            shortest in 1_u64..10_000, more in 0_u64..1_000_000, still in 0_u64..100_000_000, later in 0_u64..1_000_000, id in 0_u128..50,
        ) {
            let (low, high) = (Duration::from_secs(shortest), Duration::from_secs(shortest + more));
            let at = |still| adaptive(low, high, Duration::from_secs(still), sample::dependency(id));
            prop_assert!(at(still) >= low && at(still) <= high);
            // Within the spread.
            prop_assert!(at(still + later) >= at(still).mul_f64(0.89));
            // What moved is looked at as soon as it may be.
            prop_assert_eq!(at(0), low);
        }
    }

    #[test]
    fn what_can_be_followed_is_valid() {
        for good in [
            between(1, 1),
            between(30, 900),
            between(1, 366 * DAY),
            Schedule::Never,
            every(1),
            every(366 * DAY),
            cron("0 3 * * *", "Europe/Rome"),
            cron("*/5 * * * *", "UTC"),
            cron("30 2 1,15 JAN-JUN mon", "America/New_York"),
            cron("0 0 29 2 *", "Etc/UTC"),
            cron("0 0 L * *", "Asia/Kolkata"),
        ] {
            good.validate().unwrap();
            assert_eq!(due(&good, sample::at(0)).is_some(), good != Schedule::Never, "{good:?}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_what_to_do() {
        for (bad, advice) in [
            (Schedule::Every(Duration::ZERO), "give 1s to 366d"),
            (between(0, 10), "give 1s to 366d"),
            (between(11, 10), "wrong order"),
            (between(10, 367 * DAY), "give 1s to 366d"),
            (Schedule::Every(Duration::from_millis(999)), "give 1s to 366d"),
            (every(366 * DAY + 1), "give 1s to 366d"),
            (cron("", "UTC"), "give five fields"),
            (cron("* * * *", "UTC"), "has 4 fields: give five fields"),
            (cron("0 * * * * *", "UTC"), "has 6 fields: give five fields"),
            (cron("0 0 * * * * 2030", "UTC"), "has 7 fields: give five fields"),
            (cron("@daily", "UTC"), "is a nickname: give five fields"),
            (cron("60 * * * *", "UTC"), "give five fields"),
            (cron("a b c d e", "UTC"), "give five fields"),
            (cron("0 0 * * 🦀", "UTC"), "give five fields"),
            (cron(&"*".repeat(500), "UTC"), "longer than 200 bytes"),
            (cron("0 0 31 2 *", "UTC"), "correct day and month"),
            (cron("0 0 * * *", "Mars/Olympus"), "give an IANA name"),
            (cron("0 0 * * *", ""), "give an IANA name"),
        ] {
            let e = bad.validate().unwrap_err();
            assert_eq!(e.kind(), crate::ErrorKind::InvalidConfig, "{bad:?}");
            assert!(e.to_string().contains(advice), "{bad:?}: {e}");
            if !matches!(bad, Schedule::Every(_) | Schedule::Adaptive { .. }) {
                assert_eq!(due(&bad, sample::at(0)), None, "{bad:?}");
            }
        }
    }

    #[test]
    fn a_schedule_reads_as_people_write_it() {
        let json = serde_json::json!([
            "never",
            {"every": "5m"},
            {"cron": {"expression": "0 3 * * *", "zone": "Europe/Rome"}}
        ]);
        let read: Vec<Schedule> = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(read, [Schedule::Never, every(300), cron("0 3 * * *", "Europe/Rome")]);
        assert_eq!(serde_json::to_value(read).unwrap(), json);
    }

    #[test]
    fn the_phase_is_stable_and_within_a_tenth() {
        let hour = Duration::from_secs(3_600);
        let of = |n| phase(sample::dependency(n), hour);
        // These must never change: a new version would move every look.
        assert_eq!(of(1), Duration::from_micros(72_969_956));
        assert_eq!(of(0x0190_0000_0000_7000_8000_0000_0000_0000), Duration::from_micros(280_102_685));
        assert_eq!(phase(sample::dependency(7), Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn phases_spread_evenly_over_neighbouring_ids() {
        let mut tenths = [0_u32; 10];
        for n in 0..10_000 {
            let p = phase(sample::dependency(n), Duration::from_secs(1_000)).as_secs();
            assert!(p < 100);
            tenths[usize::try_from(p / 10).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|n| (900..1_100).contains(n)), "{tenths:?}");
    }

    #[test]
    fn missed_ticks_collapse_into_one_and_ticks_stay_where_they_are() {
        let schedule = every(300);
        let first = due(&schedule, sample::at(0)).unwrap();
        let second = due(&schedule, first).unwrap();
        assert_eq!(second - first, TimeDelta::seconds(300));
        let late = due(&schedule, first + TimeDelta::days(3) + TimeDelta::seconds(7)).unwrap();
        assert_eq!(late - first, TimeDelta::days(3) + TimeDelta::seconds(300));
    }

    #[test]
    fn a_cron_expression_means_the_wall_clock_of_its_zone() {
        for (name, schedule, now, next) in [
            ("summer", cron("0 3 * * *", "Europe/Rome"), "2024-07-01T00:00:00Z", "2024-07-01T01:00:00Z"),
            ("winter", cron("0 3 * * *", "Europe/Rome"), "2024-01-10T00:00:00Z", "2024-01-10T02:00:00Z"),
            ("now is not due", cron("0 3 * * *", "UTC"), "2024-01-10T03:00:00Z", "2024-01-11T03:00:00Z"),
            ("a moment before", cron("0 3 * * *", "UTC"), "2024-01-10T02:59:59.9Z", "2024-01-10T03:00:00Z"),
            ("a moment after", cron("0 3 * * *", "UTC"), "2024-01-10T03:00:00.1Z", "2024-01-11T03:00:00Z"),
            (
                "half-hour zone",
                cron("0 0 * * *", "Asia/Kolkata"),
                "2024-01-10T00:00:00Z",
                "2024-01-10T18:30:00Z",
            ),
            ("weekday", cron("0 0 * * 7", "UTC"), "2024-05-17T12:00:00Z", "2024-05-19T00:00:00Z"),
            ("either day", cron("0 0 20 * 0", "UTC"), "2024-05-19T12:00:00Z", "2024-05-20T00:00:00Z"),
            ("leap day", cron("0 0 29 2 *", "UTC"), "2024-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("gap: fixed", cron("30 2 * * *", "Europe/Rome"), "2024-03-30T12:00:00Z", "2024-03-31T01:00:00Z"),
            (
                "after the gap",
                cron("30 2 * * *", "Europe/Rome"),
                "2024-03-31T01:00:00Z",
                "2024-04-01T00:30:00Z",
            ),
            (
                "gap: hour before",
                cron("30 1 * * *", "Europe/Rome"),
                "2024-03-30T12:00:00Z",
                "2024-03-31T00:30:00Z",
            ),
            (
                "gap: recurring",
                cron("*/30 * * * *", "Europe/Rome"),
                "2024-03-31T00:30:00Z",
                "2024-03-31T01:00:00Z",
            ),
            (
                "gap at midnight",
                cron("0 0 * * *", "Africa/Cairo"),
                "2024-04-25T12:00:00Z",
                "2024-04-25T22:00:00Z",
            ),
            (
                "a day skipped",
                cron("0 12 30 * *", "Pacific/Apia"),
                "2011-12-30T00:00:00Z",
                "2012-01-29T22:00:00Z",
            ),
            (
                "overlap: fixed, first",
                cron("30 2 * * *", "Europe/Rome"),
                "2024-10-26T12:00:00Z",
                "2024-10-27T00:30:00Z",
            ),
            (
                "overlap: fixed, once",
                cron("30 2 * * *", "Europe/Rome"),
                "2024-10-27T00:30:00Z",
                "2024-10-28T01:30:00Z",
            ),
            (
                "overlap: fixed, between",
                cron("30 2 * * *", "Europe/Rome"),
                "2024-10-27T01:15:00Z",
                "2024-10-28T01:30:00Z",
            ),
            (
                "overlap: recurring",
                cron("*/30 * * * *", "Europe/Rome"),
                "2024-10-27T00:30:00Z",
                "2024-10-27T01:00:00Z",
            ),
            (
                "overlap: again",
                cron("*/30 * * * *", "Europe/Rome"),
                "2024-10-27T01:00:00Z",
                "2024-10-27T01:30:00Z",
            ),
        ] {
            assert_eq!(due(&schedule, time(now)), Some(time(next)), "{name}");
        }
    }

    #[test]
    fn a_cron_expression_has_no_phase() {
        let schedule = cron("0 3 * * *", "UTC");
        let all: BTreeSet<_> = (0..100)
            .map(|n| next_due(&schedule, sample::at(0), sample::dependency(n), sample::at(0)))
            .collect();
        assert_eq!(all.len(), 1);
    }

    #[test]
    fn failures_back_off_up_to_an_hour() {
        let base = Duration::from_secs(5);
        for (failures, permanent, wait) in [
            (0, false, 0),
            (0, true, 0),
            (1, false, 5),
            (2, false, 10),
            (3, false, 20),
            (10, false, 2_560),
            (11, false, 3_600),
            (u32::MAX, false, 3_600),
            (1, true, 3_600),
            (7, true, 3_600),
        ] {
            assert_eq!(
                backoff(failures, base, permanent),
                Duration::from_secs(wait),
                "{failures} {permanent}"
            );
        }
        assert_eq!(backoff(1, Duration::from_secs(DAY), false), MAX_BACKOFF);
    }

    #[test]
    fn looks_at_a_build_come_in_seconds_at_first_and_then_slower() {
        for (age, wait) in [(0, 2_000), (20, 2_000), (60, 6_000), (300, 30_000), (DAY, 30_000)] {
            assert_eq!(look_cadence(Duration::from_secs(age)), Duration::from_millis(wait), "{age}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_next_tick_is_later_and_never_further_than_one_interval_wherever_the_clock_jumps(
            id in any::<u128>(), seconds in 1_u64..=366 * DAY, jump in -4_000_000_000_i64..4_000_000_000, micros in 0_i64..1_000_000,
        ) {
            let now = sample::at(jump) + TimeDelta::microseconds(micros);
            let id = sample::dependency(id);
            let next = next_due(&every(seconds), sample::at(0), id, now).unwrap();
            prop_assert!(next > now && next - now <= TimeDelta::seconds(i64::try_from(seconds).unwrap()));
            let first = sample::at(0) + TimeDelta::from_std(phase(id, Duration::from_secs(seconds))).unwrap();
            let off = (next - first).num_microseconds().unwrap();
            prop_assert_eq!(off % i64::try_from(seconds * 1_000_000).unwrap(), 0, "a tick is a tick");
        }

        #[test]
        fn no_text_makes_a_schedule_panic(expression in "[0-9*/,#LW?+a-zA-Z@ -]{0,30}|\\PC{0,20}", zone in "UTC|\\PC{0,10}") {
            let schedule = cron(&expression, &zone);
            if schedule.validate().is_ok() {
                prop_assert!(due(&schedule, sample::at(0)).is_some());
            }
        }

        #[test]
        fn a_valid_cron_expression_always_comes_later(minute in 0..60, hour in 0..24, jump in -1_000_000_000_i64..2_000_000_000) {
            for zone in ["Europe/Rome", "America/St_Johns", "Australia/Lord_Howe", "Africa/Cairo"] {
                let now = sample::at(jump);
                let next = due(&cron(&format!("{minute} {hour} * * *"), zone), now).unwrap();
                prop_assert!(next > now && next - now <= TimeDelta::hours(50), "{zone} {now} {next}");
            }
        }
    }
}
