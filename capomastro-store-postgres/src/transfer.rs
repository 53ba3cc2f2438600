//! Moving everything out of a store or into one.

use crate::{
    calls::{Call, Calls, Failure},
    fill::{ReadPart, WritePart},
    read::statement,
};
use async_trait::async_trait;
use capomastro_core::{
    Error, Result,
    store::{
        refusals::{damaged, moved_away, target_in_use},
        rows::unsigned,
        transfer::{
            Begun, Item, ItemKind, ItemRow, Part, PartLimit, Place, Survey, TransferReader, TransferSource,
            TransferTarget,
        },
    },
};
use tokio_postgres::{Client, types::Type};

/// A store that is open to be moved from or into. Opened by
/// [`PostgresStoreBuilder::open_source`](crate::PostgresStoreBuilder::open_source) or
/// [`open_target`](crate::PostgresStoreBuilder::open_target); no scheduler can run on it.
///
/// Others are not kept from opening a source: a write meanwhile is found by [`transfer`](capomastro_core::store::transfer::transfer),
/// which then fails. A target refuses every other use until the move has ended. Of two movers into one target the later one
/// goes on, and the earlier one is refused.
#[derive(Debug)]
pub struct PostgresTransfer {
    pub(crate) calls: Calls,
    pub(crate) schema: String,
    pub(crate) installation: String,
    /// Tells this mover from every other.
    pub(crate) mover: String,
}

impl PostgresTransfer {
    /// Takes no more calls.
    pub fn close(&self) {
        self.calls.close();
    }

    fn description(&self) -> String {
        format!("PostgreSQL, {}, schema {}", self.calls.server(), self.schema)
    }

    fn place(&self) -> Place {
        Place::new(&self.installation, self.description())
    }
}

/// How far a store has counted, and where everything went.
struct Counted(String);

#[async_trait]
impl Call for Counted {
    /// The last number, the last event, and the place.
    type Answer = (i64, i64, Option<Place>);

    async fn perform(&self, client: &Client) -> Result<Self::Answer, Failure> {
        let sql = statement(
            &self.0,
            "SELECT (SELECT CASE WHEN c.is_called THEN c.last_value ELSE 0 END FROM @.counter c), \
               (SELECT greatest((SELECT max(e.seq) FROM @.events e), m.value::bigint - 1) FROM @.meta m WHERE m.name = 'event_base'), \
               t.id, t.what \
             FROM (SELECT 1) one LEFT JOIN @.moves t ON t.way = 'to'",
        );
        let row = client.query_typed_one(&sql, &[]).await?;
        let moved_to = match (row.try_get::<_, Option<String>>(2)?, row.try_get::<_, Option<String>>(3)?) {
            (Some(id), Some(what)) => Some(Place::new(id, what)),
            _ => None,
        };
        let last_event: Option<i64> = row.try_get(1)?;
        Ok((row.try_get(0)?, last_event.ok_or_else(|| damaged("the meta table", "no event_base"))?, moved_to))
    }
}

#[async_trait]
impl TransferReader for PostgresTransfer {
    async fn survey(&self) -> Result<Survey> {
        let (number, event, moved_to) =
            self.calls.make("survey the store", Counted(self.schema.clone())).await?;
        let mut survey = Survey::new(self.place(), unsigned(number)?, unsigned(event.max(0))?);
        survey.moved_to = moved_to;
        Ok(survey)
    }

    async fn read(&self, kind: ItemKind, after: Option<&str>, limit: PartLimit) -> Result<Part> {
        let part = ReadPart { schema: self.schema.clone(), kind, after: after.map(ToOwned::to_owned), limit };
        self.calls.make("read a part of the store", part).await
    }
}

/// A function of the schema with texts and numbers, whose answer is text.
struct Ask {
    sql: String,
    texts: Vec<String>,
    numbers: Vec<i64>,
}

#[async_trait]
impl Call for Ask {
    type Answer = Option<String>;

    async fn perform(&self, client: &Client) -> Result<Option<String>, Failure> {
        let texts = self.texts.iter().map(|t| (t as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT));
        let numbers =
            self.numbers.iter().map(|n| (n as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT8));
        let parameters: Vec<_> = texts.chain(numbers).collect();
        Ok(client.query_typed_one(&self.sql, &parameters).await?.try_get(0)?)
    }
}

impl PostgresTransfer {
    async fn ask(
        &self,
        operation: &'static str,
        sql: &str,
        texts: Vec<String>,
        numbers: Vec<i64>,
    ) -> Result<Option<String>> {
        self.calls.make(operation, Ask { sql: statement(&self.schema, sql), texts, numbers }).await
    }
}

#[async_trait]
impl TransferSource for PostgresTransfer {
    async fn retire(&self, to: &Place) -> Result<()> {
        let texts = vec![to.id.clone(), to.description.clone()];
        match self.ask("close the source", "SELECT @.retire_1($1, $2)", texts, vec![]).await? {
            None => Ok(()),
            Some(elsewhere) => Err(moved_away(elsewhere)),
        }
    }

    async fn reinstate(&self) -> Result<()> {
        self.ask("reinstate the source", "SELECT @.reinstate_1()", vec![], vec![]).await.map(drop)
    }
}

#[async_trait]
impl TransferTarget for PostgresTransfer {
    async fn begin(&self, from: &Survey) -> Result<Begun> {
        let signed = |n: u64| {
            i64::try_from(n).map_err(|_| {
                Error::invalid("the source has counted further than PostgreSQL can: report this")
                    .with_context("last", n)
            })
        };
        let texts = vec![from.place.id.clone(), from.place.description.clone(), self.mover.clone()];
        let numbers = vec![signed(from.last_number)?, signed(from.last_event)?];
        let sql = "SELECT @.begin_move_1($1, $2, $3, $4, $5)";
        match self.ask("begin to fill the store", sql, texts, numbers).await?.as_deref() {
            Some("empty") => Ok(Begun::Empty),
            Some("finished") => Ok(Begun::Finished),
            _ => Err(target_in_use(self.description())),
        }
    }

    async fn write(&self, items: &[Item]) -> Result<()> {
        let part = WritePart {
            schema: self.schema.clone(),
            mover: self.mover.clone(),
            server: self.description(),
            rows: items.iter().map(ItemRow::of).collect::<Result<_>>()?,
        };
        self.calls.make("fill the store", part).await
    }

    async fn finish(&self) -> Result<()> {
        let sql = "SELECT @.finish_move_1($1)::text";
        match self.ask("end the filling", sql, vec![self.mover.clone()], vec![]).await?.as_deref() {
            Some("true") => Ok(()),
            _ => Err(target_in_use(self.description())),
        }
    }
}
