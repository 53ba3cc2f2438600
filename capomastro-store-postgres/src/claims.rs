//! Taking due work, and giving it back.

use crate::{
    apply::{delay, form},
    calls::{Call, Failure},
    floors::{Floor, Floors},
    read::statement,
    text::stored,
};
use async_trait::async_trait;
use capomastro_core::{
    Result,
    model::HolderId,
    store::{
        ClaimAsk, Claimed,
        refusals::damaged,
        rows::{PutBackRow, claim_of_row, timestamp},
    },
    time::Monotonic,
};
use std::sync::Arc;
use tokio_postgres::{Client, types::Type};

/// The most tasks that one call takes from a lane, so that a transaction stays short.
const MAX_CLAIMS: usize = 5_000;

/// An ask for due work.
pub(crate) struct Take {
    pub(crate) schema: String,
    pub(crate) given: Option<i64>,
    pub(crate) ask: ClaimAsk,
    pub(crate) floors: Arc<Floors>,
    /// The local time.
    pub(crate) now: Monotonic,
}

impl Take {
    /// Keeps where the first rows of each lane were found.
    fn learn(&self, began: &[Floor], firsts: &[Option<i64>], at: i64) {
        for ((lane, began), first) in self.ask.lanes.iter().zip(began).zip(firsts) {
            // A lane of which nothing was wanted was not looked at.
            if lane.limit > 0 {
                self.floors.learn(&lane.lane, *began, *first, at, self.now);
            }
        }
    }
}

#[async_trait]
impl Call for Take {
    type Answer = Claimed;

    async fn perform(&self, client: &Client) -> Result<Claimed, Failure> {
        let ask = &self.ask;
        let lanes: Vec<_> = ask.lanes.iter().map(|l| l.lane.to_string()).collect();
        let limits: Vec<_> =
            ask.lanes.iter().map(|l| i64::try_from(l.limit.min(MAX_CLAIMS)).unwrap_or(0)).collect();
        let leases: Vec<_> = ask.lanes.iter().map(|l| delay(l.lease)).collect();
        let holder = stored(ask.holder.as_str());
        let sql = statement(
            &self.schema,
            "SELECT at, next_due, task, ticket, due_at, note, lane FROM @.claim_1($1, $2, $3, $4, $5, $6, $7, $8)",
        );
        let began: Vec<_> = ask.lanes.iter().map(|l| self.floors.of(&l.lane, self.now)).collect();
        let floors: Vec<_> = began.iter().map(|f| f.from).collect();
        let floors_of = began.iter().map(|f| f.seen_at).max();
        let rows = client
            .query_typed(
                &sql,
                &[
                    (&lanes, Type::TEXT_ARRAY),
                    (&limits, Type::INT8_ARRAY),
                    (&leases, Type::INT8_ARRAY),
                    (&floors, Type::INT8_ARRAY),
                    (&floors_of, Type::INT8),
                    (&holder, Type::TEXT),
                    (&self.given, Type::INT8),
                    (&form(), Type::INT4),
                ],
            )
            .await?;
        let mut claims = Vec::new();
        let mut firsts = vec![None; began.len()];
        for row in &rows {
            let Some(task) = row.try_get::<_, Option<String>>(2)? else {
                // What is due at a time that cannot be is not waited for.
                let next_due = row.try_get::<_, Option<i64>>(1)?.and_then(|at| timestamp(at).ok());
                let at = row.try_get(0)?;
                self.learn(&began, &firsts, at);
                return Ok(Claimed { now: timestamp(at)?, claims, next_due });
            };
            let due_at = row.try_get(4)?;
            let lane = usize::try_from(row.try_get::<_, i32>(6)?)
                .ok()
                .and_then(|n| firsts.get_mut(n.checked_sub(1)?));
            if let Some(first) = lane {
                first.get_or_insert(due_at);
            }
            claims.extend(claim_of_row(&task, row.try_get(3)?, due_at, &row.try_get::<_, String>(5)?));
        }
        Err(damaged("the end of an answer", "none").into())
    }
}

/// Claims on their way back.
pub(crate) struct GiveBack {
    pub(crate) schema: String,
    pub(crate) given: Option<i64>,
    pub(crate) holder: HolderId,
    pub(crate) items: Vec<PutBackRow>,
}

#[async_trait]
impl Call for GiveBack {
    type Answer = ();

    async fn perform(&self, client: &Client) -> Result<(), Failure> {
        let tasks: Vec<_> = self.items.iter().map(|i| &i.task).collect();
        let tickets: Vec<_> = self.items.iter().map(|i| i.ticket).collect();
        let afters: Vec<_> = self.items.iter().map(|i| delay(i.after)).collect();
        let notes: Vec<_> = self.items.iter().map(|i| &i.note).collect();
        let holder = stored(self.holder.as_str());
        let sql = statement(&self.schema, "SELECT @.put_back_1($1, $2, $3, $4, $5, $6, $7)::text");
        client
            .query_typed(
                &sql,
                &[
                    (&holder, Type::TEXT),
                    (&tasks, Type::TEXT_ARRAY),
                    (&tickets, Type::INT8_ARRAY),
                    (&afters, Type::INT8_ARRAY),
                    (&notes, Type::TEXT_ARRAY),
                    (&self.given, Type::INT8),
                    (&form(), Type::INT4),
                ],
            )
            .await?;
        Ok(())
    }
}
