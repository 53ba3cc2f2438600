//! Taking due work, and giving it back.

use crate::{
    apply::{delay, form},
    calls::{Call, Failure},
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
};
use tokio_postgres::{Client, types::Type};

/// The most tasks that one call takes from a lane, so that a transaction stays short.
const MAX_CLAIMS: usize = 5_000;

/// An ask for due work.
pub(crate) struct Take {
    pub(crate) schema: String,
    pub(crate) given: Option<i64>,
    pub(crate) ask: ClaimAsk,
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
            "SELECT at, next_due, task, ticket, due_at, note FROM @.claim_1($1, $2, $3, $4, $5, $6)",
        );
        let rows = client
            .query_typed(
                &sql,
                &[
                    (&lanes, Type::TEXT_ARRAY),
                    (&limits, Type::INT8_ARRAY),
                    (&leases, Type::INT8_ARRAY),
                    (&holder, Type::TEXT),
                    (&self.given, Type::INT8),
                    (&form(), Type::INT4),
                ],
            )
            .await?;
        let mut claims = Vec::new();
        for row in &rows {
            let Some(task) = row.try_get::<_, Option<String>>(2)? else {
                // What is due at a time that cannot be is not waited for.
                let next_due = row.try_get::<_, Option<i64>>(1)?.and_then(|at| timestamp(at).ok());
                return Ok(Claimed { now: timestamp(row.try_get(0)?)?, claims, next_due });
            };
            claims.extend(claim_of_row(
                &task,
                row.try_get(3)?,
                row.try_get(4)?,
                &row.try_get::<_, String>(5)?,
            ));
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
