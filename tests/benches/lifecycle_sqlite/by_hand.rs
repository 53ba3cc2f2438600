//! The limit: the rows of a lifecycle, in columns of their own, by statements that are written for nothing else.
//!
//! It writes what the scheduler writes: state, build, due rows, events and commit ids with their indexes, expecting versions
//! and guarding what it would have read; and it takes what is due from the rows as the scheduler does. It decides nothing,
//! reads no record, encodes nothing, asks nobody, and has all that it writes in memory.

use capomastro_store_sqlite::rusqlite::{
    CachedStatement, Connection, Transaction, TransactionBehavior, params,
};
use std::path::Path;

type Id = [u8; 16];

const LOOK: i64 = 10;
const DRIVE: i64 = 30;
const HOLDER: &str = "capomastro/0123456789abcdef0123456789abcdef";
const SECOND: i64 = 1_000_000;

pub(crate) struct ByHand {
    conn: Connection,
    ids: u64,
    rounds: i64,
    now: i64,
    living: Vec<Living>,
    /// How many dependencies share a durable transaction.
    share: usize,
}

/// A dependency, as the loop knows it.
struct Living {
    id: Id,
    state_version: i64,
    build: Id,
    build_version: i64,
    before: Option<(Id, i64)>,
}

impl ByHand {
    pub(crate) fn new(path: &Path, group: usize) -> Self {
        let conn = Connection::open(path).unwrap();
        conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF")
            .unwrap();
        conn.execute_batch(include_str!("by_hand.sql")).unwrap();
        conn.set_prepared_statement_cache_capacity(64);
        let now = 1_772_366_400 * SECOND;
        let mut hand = Self { conn, ids: 0, rounds: 0, now, living: Vec::new(), share: group };
        for n in 0..group {
            let id = hand.id();
            hand.conn
                .execute("INSERT INTO dependency VALUES (?1, 1, ?2)", params![id, format!("dependency-{n}")])
                .unwrap();
            hand.conn
                .execute(
                    "INSERT INTO state (id, version, epoch, applied_ticket, not_found, health, fence, builds) \
                     VALUES (?1, 0, 1, 0, 0, 0, 0, 0)",
                    [id],
                )
                .unwrap();
            hand.conn
                .execute(
                    "INSERT INTO due VALUES (?1, ?2, 'probe/changing', ?3, NULL, 0, NULL, NULL)",
                    params![LOOK, id, hand.now],
                )
                .unwrap();
            hand.living.push(Living { id, state_version: 0, build: [0; 16], build_version: 0, before: None });
        }
        hand
    }

    /// Ids that grow with time, as ours do.
    fn id(&mut self) -> Id {
        self.ids += 1;
        let mixed = self.ids.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.ids.to_be_bytes());
        id[8..].copy_from_slice(&mixed.to_be_bytes());
        id
    }

    /// From now on as many durable transactions for each round as this: three steps, each in parts of one size.
    pub(crate) fn share(&mut self, transactions: usize, rounds: usize) {
        let parts = ((transactions + rounds) / (3 * rounds)).clamp(1, self.living.len());
        self.share = self.living.len().div_ceil(parts);
    }

    /// One lifecycle of each dependency, in three steps, and two claims.
    pub(crate) fn round(&mut self) -> usize {
        self.rounds += 1;
        self.now += 60 * SECOND;
        self.claim("probe/changing", 90);
        self.begin();
        self.accept();
        self.now += 5 * SECOND;
        self.claim("launcher/instant", 15);
        self.end();
        self.living.len()
    }

    fn transaction<T>(
        &mut self,
        write: impl FnOnce(&Writes<'_>, &mut Living, [Id; 2], &mut i64) -> T + Copy,
    ) {
        let ids: Vec<[Id; 2]> = (0..self.living.len()).map(|_| [self.id(), self.id()]).collect();
        for (living, ids) in self.living.chunks_mut(self.share).zip(ids.chunks(self.share)) {
            let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
            let mut counter = counter(&tx);
            let writes = Writes { tx: &tx, now: self.now, round: self.rounds };
            for (living, ids) in living.iter_mut().zip(ids) {
                write(&writes, living, *ids, &mut counter);
            }
            keep_counter(&tx, counter);
            tx.commit().unwrap();
        }
    }

    /// Takes what is due. This need not wait for the disk.
    fn claim(&mut self, lane: &str, lease: i64) {
        self.conn.pragma_update(None, "synchronous", "NORMAL").unwrap();
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        let mut ticket = counter(&tx);
        let due: Vec<(i64, Id)> = tx
            .prepare_cached(
                "SELECT kind, id FROM due WHERE lane = ?1 AND due_at <= ?2 ORDER BY due_at, kind LIMIT 256",
            )
            .unwrap()
            .query_map(params![lane, self.now], |r| Ok((r.get(0)?, r.get(1)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(due.len(), self.living.len());
        for (kind, id) in due {
            ticket += 1;
            one(
                tx.prepare_cached(
                    "UPDATE due SET holder = ?3, ticket = ?4, due_at = ?5, nudge_at = NULL WHERE kind = ?1 AND id = ?2",
                ),
                params![kind, id, HOLDER, ticket, self.now + lease * SECOND],
            );
        }
        keep_counter(&tx, ticket);
        tx.commit().unwrap();
        self.conn.pragma_update(None, "synchronous", "FULL").unwrap();
    }

    /// A change is seen, and a build recorded that is about to be sent.
    fn begin(&mut self) {
        self.transaction(|w, d, [build, commit], version| {
            let revision = format!("{:040x}", w.round);
            w.commit_id(commit);
            w.guard(&d.id);
            *version += 2;
            one(
                w.tx.prepare_cached(
                    "UPDATE state SET version = ?3, applied_ticket = ?4, observed = ?5, observed_at = ?6, accounted = ?5, \
                     accounted_how = 0, accounted_by = ?7, held_by = ?7, held_fence = ?8, held_revision = ?5, \
                     held_epoch = 1, held_stopping = 0, held_since = ?6, fence = ?8, builds = ?8, last_start = ?6, \
                     last_decision = 1, last_revision = ?5 WHERE id = ?1 AND version = ?2",
                ),
                params![d.id, d.state_version, *version - 1, *version, revision, w.now, build, w.round],
            );
            one(
                w.tx.prepare_cached(
                    "INSERT INTO build (id, version, dependency, number, epoch, launch_key, fence, revision, causes, manual, \
                     person_pinned, attempt, refusals, launcher, job, phase, sends, previous_start, requested_at, \
                     launching_at, good) VALUES (?1, ?2, ?3, ?4, 1, ?5, ?4, ?6, ?7, 0, 0, 0, 0, 'instant', 'null', 1, 1, \
                     ?8, ?9, ?9, 0)",
                ),
                params![build, *version, d.id, w.round, commit, revision, "[{\"trigger\":\"look\"}]", w.now - 60 * SECOND, w.now],
            );
            d.state_version = *version - 1;
            d.before = (w.round > 1).then_some((d.build, d.build_version));
            (d.build, d.build_version) = (build, *version);
            one(
                w.tx.prepare_cached(
                    "UPDATE due SET holder = NULL, due_at = ?3, last_run = ?4 WHERE kind = ?1 AND id = ?2 AND holder = ?5",
                ),
                params![LOOK, d.id, w.now + 60 * SECOND, w.now, HOLDER],
            );
            *version += 1;
            one(
                w.tx.prepare_cached("INSERT INTO due VALUES (?1, ?2, 'launcher/instant', ?3, ?4, ?5, NULL, NULL)"),
                params![DRIVE, build, w.now + 15 * SECOND, HOLDER, *version],
            );
            w.event(&d.id, 4, None, Some(&revision), None, None);
            w.event(&d.id, 3, Some(&build), Some(&revision), Some(1), None);
            w.event(&d.id, 8, Some(&build), Some(&revision), None, None);
        });
    }

    /// The build system has accepted it.
    fn accept(&mut self) {
        self.transaction(|w, d, [external, commit], version| {
            w.commit_id(commit);
            w.guard(&d.id);
            *version += 1;
            let external: String = external.iter().map(|b| format!("{b:02x}")).collect();
            one(
                w.tx.prepare_cached(
                    "UPDATE build SET version = ?3, phase = 2, external = ?4, submitted_at = ?5 WHERE id = ?1 AND version = ?2",
                ),
                params![d.build, d.build_version, *version, external, w.now],
            );
            d.build_version = *version;
            one(
                w.tx.prepare_cached(
                    "UPDATE due SET holder = NULL, due_at = ?3, last_run = ?4 WHERE kind = ?1 AND id = ?2 AND holder = ?5",
                ),
                params![DRIVE, d.build, w.now + SECOND, w.now, HOLDER],
            );
            w.event(&d.id, 9, Some(&d.build), None, None, None);
        });
    }

    /// It has ended well: the lock is free and the link moves.
    fn end(&mut self) {
        self.transaction(|w, d, [_, commit], version| {
            let revision = format!("{:040x}", w.round);
            w.commit_id(commit);
            w.guard(&d.id);
            *version += 2;
            one(
                w.tx.prepare_cached(
                    "UPDATE build SET version = ?3, phase = 4, ended_at = ?4, good = 1 WHERE id = ?1 AND version = ?2",
                ),
                params![d.build, d.build_version, *version, w.now],
            );
            one(
                w.tx.prepare_cached(
                    "UPDATE state SET version = ?3, held_by = NULL, held_fence = NULL, held_revision = NULL, \
                     held_epoch = NULL, held_stopping = NULL, held_since = NULL, linked_build = ?4, linked_revision = ?5, \
                     ended_build = ?4, ended_phase = 4 WHERE id = ?1 AND version = ?2",
                ),
                params![d.id, d.state_version, *version - 1, d.build, revision],
            );
            (d.build_version, d.state_version) = (*version, *version - 1);
            if let Some((before, before_version)) = d.before.take() {
                *version += 1;
                one(
                    w.tx.prepare_cached("UPDATE build SET version = ?3, stood_until = ?4 WHERE id = ?1 AND version = ?2"),
                    params![before, before_version, *version, w.now],
                );
            }
            one(
                w.tx.prepare_cached("DELETE FROM due WHERE kind = ?1 AND id = ?2 AND holder = ?3"),
                params![DRIVE, d.build, HOLDER],
            );
            w.event(&d.id, 11, Some(&d.build), None, None, Some(4));
            w.event(&d.id, 17, Some(&d.build), None, None, None);
        });
    }
}

fn counter(tx: &Transaction<'_>) -> i64 {
    tx.prepare_cached("SELECT value FROM meta WHERE name = 'counter'")
        .unwrap()
        .query_row([], |r| r.get(0))
        .unwrap()
}

fn keep_counter(tx: &Transaction<'_>, value: i64) {
    one(tx.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'counter'"), [value]);
}

/// Writes one row.
fn one(
    statement: capomastro_store_sqlite::rusqlite::Result<CachedStatement<'_>>,
    params: impl capomastro_store_sqlite::rusqlite::Params,
) {
    assert_eq!(statement.unwrap().execute(params).unwrap(), 1);
}

/// What is written for each dependency in one transaction.
struct Writes<'a> {
    tx: &'a Transaction<'a>,
    now: i64,
    round: i64,
}

impl Writes<'_> {
    /// The commit was not made before.
    fn commit_id(&self, id: Id) {
        one(self.tx.prepare_cached("INSERT INTO committed (id, at) VALUES (?1, ?2)"), params![id, self.now]);
    }

    /// The dependency is as it was read.
    fn guard(&self, id: &Id) {
        let version: i64 = self
            .tx
            .prepare_cached("SELECT version FROM dependency WHERE id = ?1")
            .unwrap()
            .query_row([id], |r| r.get(0))
            .unwrap();
        assert_eq!(version, 1);
    }

    fn event(
        &self,
        dependency: &Id,
        kind: i64,
        build: Option<&Id>,
        revision: Option<&str>,
        decision: Option<i64>,
        phase: Option<i64>,
    ) {
        one(
            self.tx.prepare_cached(
                "INSERT INTO event (at, dependency, kind, build, revision, decision, phase, good) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            ),
            params![self.now, dependency, kind, build, revision, decision, phase, phase.map(|_| 1)],
        );
    }
}
