//! Due rows that cannot be read.

use crate::samples::{batch, holder, open, wait};
use capomastro_core::{
    store::{ClaimAsk, DueChange, Lane, LaneAsk, StateStore, Task},
    time::Timestamp,
};
use capomastro_store_sqlite::{SqliteStore, rusqlite::Connection};
use std::time::Duration;

fn claim(store: &SqliteStore, limit: usize) -> (Vec<Task>, Timestamp, Option<Timestamp>) {
    let ask = ClaimAsk {
        lanes: vec![LaneAsk { lane: Lane::House, limit, lease: Duration::from_secs(60) }],
        holder: holder("a"),
    };
    let claimed = wait(store.claim_due(&ask)).unwrap();
    (claimed.claims.into_iter().map(|c| c.task).collect(), claimed.now, claimed.next_due)
}

const ROW: &str = "INSERT INTO capomastro_due (task, rank, lane, due_at, ticket, note, format) VALUES (?, 10, 'house', ?, 3, ?, 1)";

/// What stands in a due row, as SQL: task, due time, note. Whether its task is done all the same.
const DAMAGED: [(&str, &str, &str, bool); 6] = [
    ("'swoop/1'", "1", "'{}'", false),
    ("CAST(x'6c6f6f6bff' AS TEXT)", "1", "'{}'", false),
    ("'trim/00000000-0000-0000-0000-000000000000'", "-9223372036854775807", "'{}'", false),
    ("'trim/00000000-0000-0000-0000-000000000000'", "9223372036854775807", "'{}'", false),
    ("'trim/00000000-0000-0000-0000-000000000000'", "1", "'{'", true),
    ("'trim/00000000-0000-0000-0000-000000000000'", "1", "CAST(x'ff' AS TEXT)", true),
];

#[test]
fn a_damaged_due_row_holds_up_no_other_and_makes_no_hot_loop() {
    for (task, due_at, note, is_done) in DAMAGED {
        let what = format!("{task} {due_at} {note}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let store = open(&path);
        let mut sound = batch();
        let after = Duration::ZERO;
        sound.due.push(DueChange::Set { task: Task::Sweep, lane: Lane::House, after, note: None });
        wait(store.commit(&sound)).unwrap();
        let conn = Connection::open(&path).unwrap();
        let sql = ROW.replacen('?', task, 1).replacen('?', due_at, 1).replacen('?', note, 1);
        assert_eq!(conn.execute(&sql, []).unwrap(), 1, "{what}");

        let (mut taken, mut rounds) = (Vec::new(), 0);
        while !taken.contains(&Task::Sweep) {
            taken.extend(claim(&store, 1).0);
            rounds += 1;
            assert!(rounds <= 2, "{what}");
        }
        taken.extend(claim(&store, 10).0);
        assert_eq!(taken.len(), 1 + usize::from(is_done), "{what}: {taken:?}");
        let (none, now, next_due) = claim(&store, 10);
        assert_eq!(none, [], "{what}");
        assert!(next_due.is_some_and(|at| at > now + Duration::from_secs(30)), "{what}: {next_due:?}");
    }
}
