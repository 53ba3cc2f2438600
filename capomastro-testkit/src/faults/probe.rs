//! Faults before a source.

use super::Faulty;
use capomastro_core::{
    Result, async_trait,
    model::{ProbeKey, Source},
    probe::{Ask, Probed, RevisionProbe},
};

#[async_trait]
impl<P: RevisionProbe + ?Sized> RevisionProbe for Faulty<P> {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        self.part.key(source)
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        self.faults.each(false, asks.len(), || self.part.probe(asks)).await
    }
}
