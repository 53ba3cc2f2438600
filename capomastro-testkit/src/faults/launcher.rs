//! Faults before a build system.

use super::Faulty;
use capomastro_core::{
    Result, async_trait,
    launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Promise, Report},
    model::{ExternalRef, LaunchKey},
};
use serde_json::Value;

/// A launch that is made [twice](super::Fault::Duplicate) starts two builds at a launcher that does not promise
/// [`IdempotentByKey`](Promise::IdempotentByKey): no caller can help that.
#[async_trait]
impl<L: BuildLauncher + ?Sized> BuildLauncher for Faulty<L> {
    fn promise(&self) -> Promise {
        self.part.promise()
    }

    fn check_job(&self, job: &Value) -> Result<()> {
        self.part.check_job(job)
    }

    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        self.faults.one(true, || self.part.launch(request, journal)).await
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        self.faults.one(false, || self.part.find(request)).await
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        self.faults.each(false, builds.len(), || self.part.observe(builds)).await
    }

    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        self.faults.one(true, || self.part.cancel(key, build)).await
    }
}
