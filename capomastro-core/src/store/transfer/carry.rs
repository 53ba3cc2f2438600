//! The move itself.

use super::{Begun, Contents, ItemKind, PART, Survey, TransferReader, TransferSource, TransferTarget};
use crate::{
    Error, ErrorKind, Result, Retry,
    model::EventSeq,
    store::refusals::{damaged, moved_away, target_in_use},
};
use std::fmt;

/// What becomes of the store from which everything was moved.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// It is closed for good, before the new one can be used: nobody goes on with it by mistake.
    RetireSource,
    /// It stays as it was: for a rehearsal. Whoever works on both builds everything twice.
    KeepSource,
}

/// What was moved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferReport {
    /// From where, for people.
    pub source: String,
    /// To where, for people.
    pub target: String,
    /// What both hold.
    pub contents: Contents,
    /// The last version or ticket that the source had given; the target's next ones are higher.
    pub last_number: u64,
    /// The last number of an event that the source had given; the target's next ones are higher.
    pub last_event: EventSeq,
    /// Whether the move had been finished before, and only the comparison was made again.
    pub repeated: bool,
    /// Whether the source is closed.
    pub source_retired: bool,
}

/// For people: what was moved, with counts and digests, a line each.
impl fmt::Display for TransferReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.repeated { "had been moved" } else { "was moved" };
        writeln!(f, "{} {what} to {}", self.source, self.target)?;
        writeln!(f, "records: {}", self.contents.records)?;
        writeln!(f, "due rows: {}", self.contents.due)?;
        writeln!(f, "events: {}, up to number {}", self.contents.events, self.last_event)?;
        writeln!(f, "ids of commits: {}", self.contents.commits)?;
        writeln!(f, "last version or ticket: {}", self.last_number)?;
        f.write_str(if self.source_retired { "the source is closed" } else { "the source can still be used" })
    }
}

/// Moves everything from one store to another, empty one, and compares both by counts and digests before the new one can
/// be used.
///
/// Stop every scheduler of both first. Memory is bounded by [`PART`] and the largest record. Reads the source twice and the
/// target once; about as long as it takes to write everything once.
///
/// *Cancellation, crashes and errors*: nothing is lost, the target cannot be used yet, the source still can be, unless it
/// was closed in the last step but one. Mend what the error says and repeat the call with the same stores.
///
/// # Errors
/// [`AlreadyExists`](ErrorKind::AlreadyExists) for a target in use. [`Conflict`](ErrorKind::Conflict) if the source was
/// written meanwhile; it is usable again then. [`Corrupt`](ErrorKind::Corrupt) or [`NewerFormat`](ErrorKind::NewerFormat),
/// naming the key, if something in the source cannot be read, and `Corrupt` if the target does not hold what was copied.
/// [`ReadOnly`](ErrorKind::ReadOnly) if the source was moved to another place before.
/// [`InvalidInput`](ErrorKind::InvalidInput) for a source with nothing in it. Besides, what either storage says.
pub async fn transfer(
    source: &dyn TransferSource,
    target: &dyn TransferTarget,
    afterwards: Afterwards,
) -> Result<TransferReport> {
    carry(source, target, afterwards).await.map_err(|e| e.with_operation("move an installation"))
}

async fn carry(
    source: &dyn TransferSource,
    target: &dyn TransferTarget,
    afterwards: Afterwards,
) -> Result<TransferReport> {
    let (from, to) = (source.survey().await?, target.survey().await?);
    check_way(&from, &to)?;
    if holds_nothing(source).await? {
        return Err(Error::invalid("nothing is in the source: check that it is the store that you mean")
            .with_context("source", &from.place.description));
    }
    let begun = target.begin(&from).await?;
    tracing::info!(
        from = from.place.description,
        to = to.place.description,
        ?begun,
        "an installation is moved"
    );
    let copied = match begun {
        Begun::Empty => read_all(source, Some(target)).await?,
        Begun::Finished => read_all(source, None).await?,
    };
    let kept = read_all(target, None).await?;
    check_copy(begun, &copied, &kept, &to)?;
    check_counters(&from, &copied, &target.survey().await?)?;

    let was_retired = from.moved_to.is_some();
    let retires = afterwards == Afterwards::RetireSource && !was_retired;
    if retires {
        source.retire(&to.place).await?;
    }
    if let Err(changed) = check_quiet(source, &from, &copied).await {
        if retires {
            source.reinstate().await?;
        }
        return Err(changed);
    }
    if begun == Begun::Empty {
        target.finish().await?;
    }
    Ok(TransferReport {
        source: from.place.description,
        target: to.place.description,
        contents: copied,
        last_number: from.last_number,
        last_event: from.last_event,
        repeated: begun == Begun::Finished,
        source_retired: retires || was_retired,
    })
}

fn check_way(from: &Survey, to: &Survey) -> Result<()> {
    if from.place.id == to.place.id {
        return Err(Error::invalid("the source and the target are the same store: give another target")
            .with_context("store", &to.place.description));
    }
    match &from.moved_to {
        Some(elsewhere) if elsewhere.id != to.place.id => Err(moved_away(&elsewhere.description)),
        _ => Ok(()),
    }
}

async fn holds_nothing(source: &dyn TransferSource) -> Result<bool> {
    for kind in ItemKind::ALL {
        let limit = super::PartLimit { items: 1, ..PART };
        if !source.read(kind, None, limit).await?.items.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All that a store keeps, as numbers; written to the target on the way, if one is given.
async fn read_all(
    reader: &(impl TransferReader + ?Sized),
    target: Option<&dyn TransferTarget>,
) -> Result<Contents> {
    let mut contents = Contents::default();
    for kind in ItemKind::ALL {
        let mut after: Option<String> = None;
        loop {
            let part = reader.read(kind, after.as_deref(), PART).await?;
            if part.items.len() > PART.items || part.items.iter().any(|item| item.kind() != kind) {
                return Err(Error::internal("a store showed other items than it was asked for: report this"));
            }
            for item in &part.items {
                contents.add(item)?;
            }
            if let Some(target) = target
                && !part.items.is_empty()
            {
                target.write(&part.items).await?;
            }
            match part.next {
                None => break,
                next if next == after => {
                    return Err(Error::internal("a store shows the same part again and again: report this"));
                }
                next => after = next,
            }
        }
        tracing::info!(?kind, count = contents.of(kind).count, written = target.is_some(), "moving: read");
    }
    Ok(contents)
}

fn check_copy(begun: Begun, copied: &Contents, kept: &Contents, to: &Survey) -> Result<()> {
    let Some(kind) = ItemKind::ALL.into_iter().find(|kind| copied.of(*kind) != kept.of(*kind)) else {
        return Ok(());
    };
    Err(match begun {
        Begun::Finished => target_in_use(&to.place.description),
        Begun::Empty => Error::new(
            ErrorKind::Corrupt,
            "the target does not hold what was copied into it: check that nobody else writes there, look in the system's log for the disk, and repeat the move",
        )
        .with_context("kind", format_args!("{kind:?}"))
        .with_context("copied", copied.of(kind))
        .with_context("found", kept.of(kind)),
    })
}

fn check_counters(from: &Survey, copied: &Contents, to: &Survey) -> Result<()> {
    if copied.highest_number > from.last_number {
        return Err(damaged("the counter of versions and tickets", from.last_number));
    }
    if copied.highest_event > from.last_event {
        return Err(damaged("the counter of events", from.last_event));
    }
    if to.last_number < from.last_number || to.last_event < from.last_event {
        return Err(Error::internal(
            "the target would give numbers again that the source has given: report this",
        ));
    }
    Ok(())
}

/// Nothing was written to the source since the move began.
async fn check_quiet(source: &dyn TransferSource, from: &Survey, copied: &Contents) -> Result<()> {
    let now = source.survey().await?;
    let same = now.place.id == from.place.id
        && (now.last_number, now.last_event) == (from.last_number, from.last_event)
        && read_all(source, None).await? == *copied;
    if same {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "the source was written while it was copied: stop every scheduler that uses it, and repeat the move",
    )
    .with_retry(Retry::Never)
    .with_context("source", &from.place.description))
}
