//! A probe that runs a small job on Jenkins and reads what it printed.

mod answer;
mod perform;
mod runs;
mod source;

pub use source::{JobSource, Language};

use crate::http::Client;
use async_trait::async_trait;
use capomastro_core::{
    Error, Result,
    model::{ProbeKey, Source},
    probe::{Ask, Probed, RevisionProbe},
};
use futures_util::{FutureExt, StreamExt, stream};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How many runs of one call go on at the same time.
const AT_ONCE: usize = 4;

/// Looks by running a job on a Jenkins server: where a source can only be looked at from there, or with what is installed
/// there. It costs a build each time, so look rarely, or when something nudges it.
///
/// A run is given the parameters of its [source](JobSource) and
///
/// | parameter | value |
/// |---|---|
/// | `CAPOMASTRO_PROBE_ID` | names the question: the same source with the same revision seen has the same id |
/// | `CAPOMASTRO_PROBE_MARK` | drawn at random for each run: stands around the answer |
/// | `CAPOMASTRO_PROBE_LANGUAGE` | `token` or `changed` |
/// | `CAPOMASTRO_PROBE_SECONDS` | after how many seconds the run is to end itself |
///
/// and, in the language `changed`, `CAPOMASTRO_DEPENDENCY`, `CAPOMASTRO_OBSERVED`, `CAPOMASTRO_ACCOUNTED`,
/// `CAPOMASTRO_LAST_BUILD` and `CAPOMASTRO_LAST_BUILD_UNIX`, as scripts are. It prints the line `<mark> begin`, the answer on a
/// line of its own, and the line `<mark> end`, and ends well. A job made from a template
/// [for probes](crate::template::JobTemplate::for_probes) does so.
///
/// A look that is dropped leaves its run behind. The next look finds it by its id and joins it instead of starting another,
/// unless it was started before a trigger that awaits the answer was given: then it is stopped. A run that has ended is
/// never read again: it says nothing about now. At the deadline of a look its run is stopped. A run that nobody comes
/// back for ends itself.
///
/// Errors: [`TimedOut`](capomastro_core::ErrorKind::TimedOut) at the deadline,
/// [`Unavailable`](capomastro_core::ErrorKind::Unavailable) if the run failed or was stopped and where the server does not
/// work, [`Corrupt`](capomastro_core::ErrorKind::Corrupt) if it printed no answer,
/// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) if the job takes no such parameters,
/// [`NotFound`](capomastro_core::ErrorKind::NotFound) if there is no such job,
/// [`PermissionDenied`](capomastro_core::ErrorKind::PermissionDenied). That the source is not there is no answer that a job can
/// give.
#[derive(Clone, Debug)]
pub struct JenkinsProbe {
    client: Client,
}

impl JenkinsProbe {
    pub(crate) const fn over(client: Client) -> Self {
        Self { client }
    }

    async fn answer(&self, ask: &Ask, trigger_age: Option<Duration>) -> Result<Probed> {
        let source = JobSource::parse(&ask.source)?;
        let key = self.key(&ask.source)?;
        let looked = perform::look(&self.client, &source, &key, ask, trigger_age).await;
        looked.map_err(|e| e.with_operation("probe jenkins").with_context("dependency", &ask.dependency))
    }
}

#[async_trait]
impl RevisionProbe for JenkinsProbe {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        let parsed = JobSource::parse(source)?;
        let config = serde_json::to_vec(&parsed)
            .map_err(|e| Error::config("a job source cannot be written as JSON").with_source(e))?;
        Ok(ProbeKey::of(&[source.probe.as_str(), &hex(&Sha256::digest(config))]))
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let Some(first) = asks.first() else { return Vec::new() };
        match JobSource::parse(&first.source).map(|s| s.language) {
            // It says the same to everybody.
            Ok(Language::Token) => {
                let newest = asks.iter().filter_map(|a| a.trigger_age).min();
                capomastro_core::probe::spread(self.answer(first, newest).await, asks.len())
            }
            _ => {
                let looks: Vec<_> =
                    asks.iter().map(|ask| self.answer(ask, ask.trigger_age).boxed()).collect();
                stream::iter(looks).buffered(AT_ONCE).collect().await
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
