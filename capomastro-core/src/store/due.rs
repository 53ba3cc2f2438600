//! What a change makes of a due row, for those who keep a store in a database. Pure: the row, the time and the counter
//! come in, the new row goes out.

use crate::{
    store::{
        Claim, DueChange, RECORD_FORMAT,
        refusals::damaged,
        rows::{note_from_json, timestamp, unsigned},
    },
    time::{Timestamp, later},
};
use std::time::Duration;

/// A stored due row. Times in microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The lane as text.
    pub lane: String,
    /// When it is due; while held, when the lease ends.
    pub due_at: i64,
    /// Who holds it.
    pub holder: Option<String>,
    /// The ticket of the last claim; 0 before the first.
    pub ticket: i64,
    /// The earliest time for which the task was nudged during the claim.
    pub nudge_at: Option<i64>,
    /// JSON.
    pub note: String,
    /// The format in which it was written.
    pub format: i64,
}

/// What becomes of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Nothing is written.
    Same,
    /// This row is written.
    Write(Row),
    /// The row goes.
    Gone,
}

/// A claim that a change gave or made longer, as far as the row knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The ticket of the claim.
    pub ticket: i64,
    /// When the task was due; `None` for a claim that only became longer.
    pub due_at: Option<i64>,
}

/// `after` from now, in microseconds.
pub fn from_now(now: Timestamp, after: Duration) -> i64 {
    later(now, after).timestamp_micros()
}

/// Whether nobody else has taken the task and the claim was not given back. A lapsed lease alone ends no claim.
pub fn holds(row: Option<&Row>, holder: &str, ticket: u64) -> bool {
    row.is_some_and(|r| u64::try_from(r.ticket) == Ok(ticket) && r.holder.as_deref() == Some(holder))
}

/// Whether a change wants to hold a row whose lease another claim still has. `held` if the batch has the row's claim.
pub fn is_taken(row: Option<&Row>, change: &DueChange, held: bool, now: Timestamp) -> bool {
    matches!(change, DueChange::Hold { .. })
        && !held
        && row.is_some_and(|r| r.holder.is_some() && r.due_at > now.timestamp_micros())
}

/// The row after a change that was checked, and the claim that it gave. `held` if the batch has the row's claim; `note` is the new note, if one is given.
/// `next` draws a ticket.
pub fn change(
    row: Option<Row>,
    change: &DueChange,
    note: Option<&str>,
    held: bool,
    holder: &str,
    now: Timestamp,
    next: impl FnOnce() -> i64,
) -> (After, Option<Taken>) {
    let fresh = |lane: String, due_at| Row {
        lane,
        due_at,
        holder: None,
        ticket: 0,
        nudge_at: None,
        note: "{}".into(),
        format: i64::from(RECORD_FORMAT),
    };
    match change {
        DueChange::Set { lane, after, .. } => {
            let at = from_now(now, *after);
            let mut row = row.unwrap_or_else(|| fresh(lane.to_string(), at));
            if held {
                row.release(now.timestamp_micros(), at);
            } else if row.holder.is_some() {
                row.nudge(at);
            } else {
                row.due_at = at;
            }
            row.lane = lane.to_string();
            if let Some(note) = note {
                note.clone_into(&mut row.note);
            }
            (After::Write(row), None)
        }
        DueChange::Hold { lane, lease, .. } => {
            let mut row = row.unwrap_or_else(|| fresh(lane.to_string(), now.timestamp_micros()));
            row.lane = lane.to_string();
            let until = from_now(now, *lease);
            let due_at = if held {
                row.due_at = until;
                None
            } else {
                let due_at = row.due_at;
                row.take(holder, next(), until);
                Some(due_at)
            };
            let taken = Taken { ticket: row.ticket, due_at };
            (After::Write(row), Some(taken))
        }
        DueChange::Nudge { after, .. } => match row {
            Some(mut row) => {
                let before = row.clone();
                row.nudge(from_now(now, *after));
                (if row == before { After::Same } else { After::Write(row) }, None)
            }
            None => (After::Same, None),
        },
        DueChange::Done { .. } => match row {
            Some(mut row) if held => match row.nudge_at {
                Some(_) => {
                    row.release(now.timestamp_micros(), i64::MAX);
                    (After::Write(row), None)
                }
                None => (After::Gone, None),
            },
            Some(_) => (After::Gone, None),
            None => (After::Same, None),
        },
        DueChange::Drop { .. } => (if row.is_some() { After::Gone } else { After::Same }, None),
    }
}

impl Row {
    fn nudge(&mut self, at: i64) {
        if self.holder.is_some() {
            self.nudge_at = Some(self.nudge_at.map_or(at, |earlier| earlier.min(at)));
        } else {
            self.due_at = self.due_at.min(at);
        }
    }

    /// Ends the claim: due at `at`, or earlier if a nudge said so, but not in the past.
    fn release(&mut self, now: i64, at: i64) {
        self.holder = None;
        self.due_at = self.nudge_at.take().map_or(at, |nudged| nudged.max(now).min(at));
    }

    /// Starts a claim. What was nudged before is answered by it, since its work begins later.
    fn take(&mut self, holder: &str, ticket: i64, until: i64) {
        self.holder = Some(holder.to_owned());
        self.ticket = ticket;
        self.due_at = until;
        self.nudge_at = None;
    }
}

/// The claim as its holder gets it: `before` if the batch held it, with the note of its row.
///
/// # Errors
/// [`Corrupt`](crate::ErrorKind::Corrupt).
pub fn claim_of(taken: &Taken, before: Option<&Claim>, note: &str, task: &str) -> crate::Result<Claim> {
    let note = note_from_json(task, note);
    match (taken.due_at, before) {
        (None, Some(before)) => Ok(Claim { note, ..before.clone() }),
        (due_at, _) => Ok(Claim {
            task: task.parse()?,
            ticket: unsigned(taken.ticket)?,
            due_at: timestamp(due_at.ok_or_else(|| damaged("a claim", task))?)?,
            note,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Lane, Task};
    use chrono::DateTime;

    const SECOND: i64 = 1_000_000;

    fn now() -> Timestamp {
        DateTime::from_timestamp_micros(1_000 * SECOND).unwrap()
    }

    fn row(holder: Option<&str>, due_at: i64, nudge_at: Option<i64>) -> Row {
        Row {
            lane: "house".into(),
            due_at: due_at * SECOND,
            holder: holder.map(Into::into),
            ticket: 7,
            nudge_at: nudge_at.map(|n| n * SECOND),
            note: r#"{"stalls":1}"#.into(),
            format: 1,
        }
    }

    fn set(after: u64) -> DueChange {
        DueChange::Set { task: Task::Sweep, lane: Lane::House, after: Duration::from_secs(after), note: None }
    }

    fn hold(lease: u64) -> DueChange {
        DueChange::Hold { task: Task::Sweep, lane: Lane::House, lease: Duration::from_secs(lease) }
    }

    fn nudge(after: u64) -> DueChange {
        DueChange::Nudge { task: Task::Sweep, after: Duration::from_secs(after) }
    }

    /// (row before, change, whether the batch holds it, row after or `None` for gone)
    type Case = (&'static str, Option<Row>, DueChange, bool, Option<Row>);

    #[test]
    fn every_change_of_every_row() {
        let done = DueChange::Done { task: Task::Sweep };
        let gone = DueChange::Drop { task: Task::Sweep };
        let mine = |due, nudge| row(Some("me"), due, nudge);
        let other = |due, nudge| row(Some("other"), due, nudge);
        let free = |due| row(None, due, None);
        let cases: Vec<Case> = vec![
            ("set moves a free row both ways", Some(free(900)), set(60), false, Some(free(1_060))),
            ("set ends the batch's claim", Some(mine(1_030, None)), set(60), true, Some(free(1_060))),
            (
                "an earlier nudge survives set",
                Some(mine(1_030, Some(1_010))),
                set(60),
                true,
                Some(free(1_010)),
            ),
            (
                "a later nudge is covered by set",
                Some(mine(1_030, Some(1_090))),
                set(60),
                true,
                Some(free(1_060)),
            ),
            (
                "set nudges what another holds",
                Some(other(1_030, None)),
                set(60),
                false,
                Some(other(1_030, Some(1_060))),
            ),
            (
                "set never delays a nudge",
                Some(other(1_030, Some(1_001))),
                set(60),
                false,
                Some(other(1_030, Some(1_001))),
            ),
            (
                "hold takes a free row",
                Some(free(900)),
                hold(30),
                false,
                Some(Row { ticket: 8, ..mine(1_030, None) }),
            ),
            (
                "hold takes a lapsed one",
                Some(other(999, Some(950))),
                hold(30),
                false,
                Some(Row { ticket: 8, ..mine(1_030, None) }),
            ),
            (
                "hold renews and keeps the nudge",
                Some(mine(1_005, Some(1_001))),
                hold(30),
                true,
                Some(mine(1_030, Some(1_001))),
            ),
            ("nudge moves a free row earlier", Some(free(1_100)), nudge(5), false, Some(free(1_005))),
            ("nudge never moves it later", Some(free(900)), nudge(5), false, Some(free(900))),
            (
                "nudge waits while held",
                Some(other(1_030, None)),
                nudge(5),
                false,
                Some(other(1_030, Some(1_005))),
            ),
            ("nudge does nothing without a row", None, nudge(5), false, None),
            ("done removes", Some(mine(1_030, None)), done.clone(), true, None),
            ("a nudge survives done", Some(mine(1_030, Some(1_001))), done.clone(), true, Some(free(1_001))),
            (
                "a nudge whose time has come makes it due at once",
                Some(mine(1_030, Some(990))),
                set(60),
                true,
                Some(free(1_000)),
            ),
            (
                "so it does when it is done",
                Some(mine(1_030, Some(990))),
                done.clone(),
                true,
                Some(free(1_000)),
            ),
            ("done without a claim removes", Some(other(1_030, Some(1_001))), done.clone(), false, None),
            ("done does nothing without a row", None, done, false, None),
            ("drop removes whoever holds", Some(other(1_030, Some(1_001))), gone.clone(), false, None),
            ("drop does nothing without a row", None, gone, false, None),
        ];
        for (what, before, asked, held, expected) in cases {
            let (after, _) = change(before.clone(), &asked, None, held, "me", now(), || 8);
            let left = match after {
                After::Same => before,
                After::Write(row) => Some(row),
                After::Gone => None,
            };
            assert_eq!(left, expected, "{what}");
        }
    }

    #[test]
    fn a_claim_is_held_until_it_is_taken_or_given_back_and_not_only_until_its_lease_ends() {
        assert!(holds(Some(&row(Some("me"), 1, None)), "me", 7));
        assert!(!holds(Some(&row(Some("me"), 2_000, None)), "me", 6));
        assert!(!holds(Some(&row(Some("other"), 2_000, None)), "me", 7));
        assert!(!holds(Some(&row(None, 2_000, None)), "me", 7));
        assert!(!holds(None, "me", 7));
    }

    #[test]
    fn only_a_living_lease_of_another_claim_keeps_from_holding() {
        assert!(is_taken(Some(&row(Some("other"), 1_001, None)), &hold(1), false, now()));
        assert!(!is_taken(Some(&row(Some("other"), 1_000, None)), &hold(1), false, now()));
        assert!(!is_taken(Some(&row(Some("me"), 1_001, None)), &hold(1), true, now()));
        assert!(!is_taken(Some(&row(None, 1_001, None)), &hold(1), false, now()));
        assert!(!is_taken(Some(&row(Some("other"), 1_001, None)), &set(1), false, now()));
    }
}
