//! One batch in one statement; its rules are the function `commit_1` in the database.

use crate::{
    calls::{Call, Failure},
    read::statement,
    text::stored,
};
use async_trait::async_trait;
use capomastro_core::{
    Error, Result,
    store::{
        Committed, DueChange, RECORD_FORMAT,
        due::{Taken, claim_of},
        refusals::{claim_lost, conflict, name_taken, newer_format},
        rows::{BatchRows, PutRow, micros, timestamp, unsigned},
    },
    time::Timestamp,
};
use std::time::Duration;
use tokio_postgres::{
    Client, GenericClient,
    types::{ToSql, Type},
};

/// A batch on its way.
pub(crate) struct Commit {
    pub(crate) schema: String,
    pub(crate) given: Option<i64>,
    pub(crate) batch: BatchRows,
}

#[async_trait]
impl Call for Commit {
    type Answer = Committed;
    const COMMITS: bool = true;

    async fn perform(&self, client: &Client) -> Result<Committed, Failure> {
        self.write(client).await
    }
}

/// A duration in microseconds; none is longer than time itself.
pub(crate) fn delay(after: Duration) -> i64 {
    i64::try_from(after.as_micros()).unwrap_or(i64::MAX).min(micros(Timestamp::MAX_UTC))
}

/// The lists of a record as the database reads them.
pub(crate) fn places(put: &PutRow) -> Result<String> {
    let plain = |text: &str| matches!(stored(text), std::borrow::Cow::Borrowed(_));
    if put.lists.iter().all(|(list, sort)| plain(list) && plain(sort)) {
        return Ok(put.places.clone());
    }
    let lists: Vec<_> = put.lists.iter().map(|(list, sort)| (stored(list), stored(sort))).collect();
    serde_json::to_string(&lists).map_err(|e| {
        Error::internal("the lists of a record cannot be written as JSON: report this").with_source(e)
    })
}

impl Commit {
    pub(crate) async fn write(&self, client: &(impl GenericClient + Sync)) -> Result<Committed, Failure> {
        let b = &self.batch;
        let put_keys: Vec<_> = b.puts.iter().map(|p| stored(&p.key)).collect();
        let put_kinds: Vec<_> = b.puts.iter().map(|p| &p.kind).collect();
        let put_expects: Vec<_> = b.puts.iter().map(|p| p.expect).collect();
        let put_names: Vec<_> = b.puts.iter().map(|p| p.name.as_deref().map(stored)).collect();
        let put_places = b.puts.iter().map(places).collect::<Result<Vec<_>>>()?;
        let put_data: Vec<_> = b.puts.iter().map(|p| &p.data).collect();
        let delete_keys: Vec<_> = b.deletes.iter().map(|(k, _)| stored(k)).collect();
        let delete_versions: Vec<_> = b.deletes.iter().map(|(_, v)| *v).collect();
        let guard_keys: Vec<_> = b.guards.iter().map(|(k, _)| stored(k)).collect();
        let guard_versions: Vec<_> = b.guards.iter().map(|(_, v)| *v).collect();
        let claim_tasks: Vec<_> = b.claims.iter().map(|(t, _)| t).collect();
        let claim_tickets: Vec<_> =
            b.claims.iter().map(|(_, c)| i64::try_from(c.ticket).unwrap_or(-1)).collect();
        let due_ops: Vec<_> = b.due.iter().map(|d| op(&d.change)).collect::<Result<_>>()?;
        let due_tasks: Vec<_> = b.due.iter().map(|d| &d.task).collect();
        let due_ranks: Vec<_> = b.due.iter().map(|d| d.rank).collect();
        let due_lanes: Vec<_> = b.due.iter().map(|d| lane(&d.change)).collect();
        let due_afters: Vec<_> = b.due.iter().map(|d| after(&d.change)).collect();
        let due_notes: Vec<_> = b.due.iter().map(|d| d.note.as_deref()).collect();
        let event_dependencies: Vec<_> = b.events.iter().map(|e| e.dependency.as_deref()).collect();
        let event_projects: Vec<_> = b.events.iter().map(|e| e.project.as_deref()).collect();
        let event_data: Vec<_> = b.events.iter().map(|e| &e.data).collect();
        let forget_events = b.forget.map(|f| micros(f.events_before));
        let forget_keep = b.forget.map(|f| i64::try_from(f.keep_events).unwrap_or(i64::MAX));
        let forget_commits = b.forget.map(|f| micros(f.commits_before));
        let forget_most = b.forget.map(|f| i64::from(f.at_most));
        let (format, holder) = (form(), stored(&b.holder));
        let texts = Type::TEXT_ARRAY;
        let numbers = Type::INT8_ARRAY;
        let parameters: [(&(dyn ToSql + Sync), Type); 29] = [
            (&self.given, Type::INT8),
            (&format, Type::INT4),
            (&b.id, Type::TEXT),
            (&holder, Type::TEXT),
            (&put_keys, texts.clone()),
            (&put_kinds, texts.clone()),
            (&put_expects, numbers.clone()),
            (&put_names, texts.clone()),
            (&put_places, texts.clone()),
            (&put_data, texts.clone()),
            (&delete_keys, texts.clone()),
            (&delete_versions, numbers.clone()),
            (&guard_keys, texts.clone()),
            (&guard_versions, numbers.clone()),
            (&claim_tasks, texts.clone()),
            (&claim_tickets, numbers.clone()),
            (&due_ops, texts.clone()),
            (&due_tasks, texts.clone()),
            (&due_ranks, numbers.clone()),
            (&due_lanes, texts.clone()),
            (&due_afters, numbers),
            (&due_notes, texts.clone()),
            (&event_dependencies, texts.clone()),
            (&event_projects, texts.clone()),
            (&event_data, texts),
            (&forget_events, Type::INT8),
            (&forget_keep, Type::INT8),
            (&forget_commits, Type::INT8),
            (&forget_most, Type::INT8),
        ];
        let places: Vec<_> = (1..=parameters.len()).map(|n| format!("${n}")).collect();
        let sql = statement(
            &self.schema,
            &format!(
                "SELECT outcome, at, about, wanted, stored, claimed_tasks, claimed_tickets, claimed_due, claimed_notes, \
                   coalesce(forgotten, 0) \
                 FROM @.commit_1({})",
                places.join(", ")
            ),
        );
        let row = client.query_typed_one(&sql, &parameters).await?;
        let at: Option<i64> = row.try_get(1)?;
        let about = || row.try_get::<_, Option<String>>(2).map(Option::unwrap_or_default);
        let outcome: String = row.try_get(0)?;
        let refusal = match outcome.as_str() {
            "done" | "repeated" => {
                let at = timestamp(at.unwrap_or(i64::MAX))?;
                let claims = self.claims(&row)?;
                let forgotten = unsigned(row.try_get(9)?)?;
                return Ok(Committed { at, repeated: outcome == "repeated", claims, forgotten });
            }
            "claim_lost" => claim_lost(about()?),
            "conflict" => conflict(
                about()?.escape_debug(),
                row.try_get::<_, Option<String>>(3)?,
                row.try_get::<_, Option<String>>(4)?,
            ),
            "newer" => {
                let format: Option<String> = row.try_get(4)?;
                newer_format(about()?.escape_debug(), format.and_then(|f| f.parse().ok()).unwrap_or(i64::MAX))
            }
            "name_taken" => name_taken(about()?, row.try_get::<_, Option<String>>(4)?.as_deref()),
            _ => Error::internal("the database answered a commit in a way that is not known: report this")
                .with_context("outcome", outcome),
        };
        Err(refusal.into())
    }

    fn claims(&self, row: &tokio_postgres::Row) -> Result<Vec<capomastro_core::store::Claim>, Failure> {
        let tasks: Vec<String> = row.try_get::<_, Option<_>>(5)?.unwrap_or_default();
        let tickets: Vec<i64> = row.try_get::<_, Option<_>>(6)?.unwrap_or_default();
        let due: Vec<Option<i64>> = row.try_get::<_, Option<_>>(7)?.unwrap_or_default();
        let notes: Vec<String> = row.try_get::<_, Option<_>>(8)?.unwrap_or_default();
        let mut claims = Vec::with_capacity(tasks.len());
        for (((task, ticket), due_at), note) in tasks.into_iter().zip(tickets).zip(due).zip(notes) {
            let held = self.batch.claims.iter().find(|(t, _)| *t == task).map(|(_, claim)| claim);
            claims.push(claim_of(&Taken { ticket, due_at }, held, &note, &task)?);
        }
        Ok(claims)
    }
}

/// The format in which records, due rows and events are written.
pub(crate) fn form() -> i32 {
    i32::try_from(RECORD_FORMAT).unwrap_or(i32::MAX)
}

fn op(change: &DueChange) -> Result<&'static str> {
    Ok(match change {
        DueChange::Set { .. } => "set",
        DueChange::Hold { .. } => "hold",
        DueChange::Nudge { .. } => "nudge",
        DueChange::Done { .. } => "done",
        DueChange::Drop { .. } => "drop",
        _ => return Err(Error::internal("this store does not know this change of a due row: upgrade it")),
    })
}

fn lane(change: &DueChange) -> Option<String> {
    match change {
        DueChange::Set { lane, .. } | DueChange::Hold { lane, .. } => Some(lane.to_string()),
        _ => None,
    }
}

fn after(change: &DueChange) -> Option<i64> {
    match change {
        DueChange::Set { after, .. } | DueChange::Nudge { after, .. } => Some(delay(*after)),
        DueChange::Hold { lease, .. } => Some(delay(*lease)),
        _ => None,
    }
}
