//! Having Jenkins write the records of running builds to its disk: what it has not written is lost when it crashes. It does
//! so when a build's description is set.

use crate::{
    address::JobName,
    http::{Body, Call},
    launcher::Inner,
    observe::Ask,
    wire::Build,
};
use capomastro_core::model::LaunchKey;
use futures_util::{StreamExt as _, future::select, stream::FuturesUnordered};
use std::{
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How many records are saved in one look.
const SAVES: usize = 400;
/// How long a look waits for them. Those that are left are saved in later ones.
const TIME: Duration = Duration::from_secs(2);

/// Running builds that were met in one look and whose records are not known to be saved.
#[derive(Debug, Default)]
pub(crate) struct Records(Mutex<Vec<Record>>);

#[derive(Debug)]
struct Record {
    job: JobName,
    number: u64,
    key: LaunchKey,
    /// The description that the build is to have.
    text: String,
}

impl Inner {
    /// Notes a running build, if its record is to be saved.
    pub(crate) fn note_record(&self, records: &Records, job: &JobName, ask: &Ask, build: &Build) {
        let own = build.description.as_deref().unwrap_or_default();
        if !self.options.save_records
            || !build.carries(&ask.reference.parameter, &ask.key)
            || own.contains(&ask.key)
            || self.memory.saved.get(&ask.reference.key).is_some()
        {
            return;
        }
        let text = if own.is_empty() { format!("Capomastro {}", ask.key) } else { own.to_owned() };
        let record = Record { job: job.clone(), number: build.number, key: ask.reference.key, text };
        records.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    }

    /// Saves records. That is optional, so no failure of it is more than a warning.
    pub(crate) async fn save_records(&self, records: Records) {
        let mut records = records.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        if records.is_empty() {
            return;
        }
        records.truncate(SAVES);
        // The client sends as many at a time as the server is to get.
        let mut saving: FuturesUnordered<_> =
            records.into_iter().map(|record| self.save_record(record)).collect();
        let all = pin!(async { while saving.next().await.is_some() {} });
        drop(select(all, self.client.clock().sleep(TIME)).await);
    }

    async fn save_record(&self, Record { job, number, key, text }: Record) {
        let number = number.to_string();
        let body = Body::Form(vec![("description".into(), text)]);
        let call = Call::post(job.build(&number, ["submitDescription"]), body).about(&job);
        let saved = self.client.change(call, Some(&job)).await;
        // Once, whatever came of it: who may not do it now may not do it at each look.
        self.memory.saved.set(key, (), self.client.clock().monotonic());
        if let Err(e) = saved {
            tracing::warn!(error = %e.report(), "a build's record could not be saved: a crash of Jenkins loses it");
        }
    }
}
