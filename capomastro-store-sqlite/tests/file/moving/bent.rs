//! Something between a move and its stores: calls that fail, and items that change on their way.

use capomastro_core::{
    Error, ErrorKind, Result, async_trait,
    store::transfer::{
        Begun, Item, ItemKind, Part, PartLimit, Place, Survey, TransferReader, TransferSource, TransferTarget,
    },
};
use capomastro_store_sqlite::SqliteTransfer;
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Calls that go well until the process dies, before or after what it last asked for was done.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    left: Arc<AtomicUsize>,
    after: bool,
}

impl Fate {
    pub(crate) fn new(calls: usize, after: bool) -> Self {
        Self { left: Arc::new(AtomicUsize::new(calls)), after }
    }

    async fn meets<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        let dies = || Error::new(ErrorKind::Cancelled, "the process dies here");
        match left {
            Ok(0) | Err(_) => Err(dies()),
            Ok(1) if self.after => {
                call.await?;
                Err(dies())
            }
            Ok(1) => Err(dies()),
            Ok(_) => call.await,
        }
    }
}

type Bend = Box<dyn Fn(&mut Vec<Item>) + Send + Sync>;

/// One end of a move.
pub(crate) struct Bent {
    pub(crate) end: SqliteTransfer,
    pub(crate) fate: Fate,
    /// What becomes of items that are read.
    pub(crate) reads: Bend,
}

impl Bent {
    pub(crate) fn new(end: SqliteTransfer, fate: Fate) -> Self {
        Self { end, fate, reads: Box::new(|_| {}) }
    }
}

impl fmt::Debug for Bent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.fmt(f)
    }
}

#[async_trait]
impl TransferReader for Bent {
    async fn survey(&self) -> Result<Survey> {
        self.fate.meets(self.end.survey()).await
    }

    async fn read(&self, kind: ItemKind, after: Option<&str>, limit: PartLimit) -> Result<Part> {
        let mut part = self.fate.meets(self.end.read(kind, after, limit)).await?;
        (self.reads)(&mut part.items);
        Ok(part)
    }
}

#[async_trait]
impl TransferSource for Bent {
    async fn retire(&self, to: &Place) -> Result<()> {
        self.fate.meets(self.end.retire(to)).await
    }

    async fn reinstate(&self) -> Result<()> {
        self.fate.meets(self.end.reinstate()).await
    }
}

#[async_trait]
impl TransferTarget for Bent {
    async fn begin(&self, from: &Survey) -> Result<Begun> {
        self.fate.meets(self.end.begin(from)).await
    }

    async fn write(&self, items: &[Item]) -> Result<()> {
        self.fate.meets(self.end.write(items)).await
    }

    async fn finish(&self) -> Result<()> {
        self.fate.meets(self.end.finish()).await
    }
}
