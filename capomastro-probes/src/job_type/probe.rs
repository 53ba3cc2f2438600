//! Looks at dependencies by a script of their job type.

use super::{
    checkouts::{Checkout, Checkouts},
    pin,
    source::JobTypeSource,
};
use crate::script::{AT_ONCE, Around, ScriptProbe};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    command::CommandRunner,
    model::{Observation, ProbeKey, Revision, Source},
    probe::{Ask, Probed, RevisionProbe},
    time::{Clock, Monotonic, SystemClock},
};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;

/// Asks the scripts of job types, wherever the runner runs them: on this machine, or inside a container.
///
/// A look first finds out which revision the branch is at (looks at one branch serve all who ask within a few seconds), then
/// runs the script of that revision. The script speaks one of the two [languages](crate::script::Language) of scripts, is
/// bounded as they are ([`ScriptProbe`]), and has their environment: the dependency's name, what was observed and
/// accounted, when the last build was started. Besides it has
///
/// | variable | value |
/// |---|---|
/// | `CAPOMASTRO_SOURCE` | what the [source](JobTypeSource::source) says of the dependency's own source; empty if nothing |
/// | `JOB_TYPE_DIR` | the folder with the branch's files, read-only; shown under the same path inside a container |
/// | `JOB_TYPE_REVISION` | the revision of the branch |
///
/// Its working directory is empty and its own; `"${0%/*}"` and `$JOB_TYPE_DIR` lead to what stands beside it in the branch.
///
/// Where [`rebuild_on_type_change`](JobTypeSource::rebuild_on_type_change) is on, a revision is
/// `job-type:<revision of the branch>:<what the script says>`; the script itself is told of its own part only. A build of it
/// by [`JobTypeLauncher`](super::JobTypeLauncher) runs the scripts of that very revision of the branch.
///
/// Errors: as [`ScriptProbe`]; as [`Checkouts::latest`] and [`Checkouts::get`] where the job type cannot be had.
#[derive(Clone, Debug)]
pub struct JobTypeProbe {
    checkouts: Checkouts,
    scripts: ScriptProbe,
    clock: Arc<dyn Clock>,
}

impl JobTypeProbe {
    /// A probe whose scripts this runner runs.
    pub fn new(checkouts: Checkouts, runner: Arc<dyn CommandRunner>) -> Self {
        Self { checkouts, scripts: ScriptProbe::new(runner), clock: Arc::new(SystemClock) }
    }

    /// The same probe that shares out deadlines by this clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { scripts: self.scripts.with_clock(Arc::clone(&clock)), clock, ..self }
    }

    async fn answer(&self, ask: &Ask, end: Monotonic) -> Result<Probed> {
        let source = JobTypeSource::parse(&ask.source)?;
        let left = || end.since(self.clock.monotonic());
        let revision = self.checkouts.latest(&source.job_type, ask.trigger_age, &ask.secrets, left()).await?;
        let checkout = self.checkouts.get(&source.job_type, &revision, &ask.secrets, left()).await?;
        let name = source.probe.first().map_or("", String::as_str);
        let answer = self.run(&source, &checkout, ask, end).await;
        answer.map_err(|e| e.with_context("script", name).with_context("job_type_revision", revision))
    }

    async fn run(
        &self,
        source: &JobTypeSource,
        checkout: &Checkout,
        ask: &Ask,
        end: Monotonic,
    ) -> Result<Probed> {
        let path = source.probe.first().map_or("", String::as_str);
        let script = checkout.script(path)?;
        let text = |path: &std::path::Path| {
            path.to_str()
                .map(str::to_owned)
                .ok_or_else(|| Error::config("the folder of checkouts is not UTF-8: put it at such a path"))
        };
        let dir = text(checkout.dir())?;
        let around = Around {
            reads: Some(checkout.dir().to_owned()),
            env: vec![
                ("CAPOMASTRO_SOURCE", source.source.clone().unwrap_or_default()),
                ("JOB_TYPE_DIR", dir),
                ("JOB_TYPE_REVISION", checkout.revision().to_string()),
            ],
        };
        let script = source.script(text(&script)?);
        if !source.rebuild_on_type_change {
            let probed = self.scripts.look(script, ask, end, &around).await?;
            if let Probed::Observed(observation) = &probed
                && pin::split(observation.revision.as_str()).0.is_some()
            {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    "the script prints a revision that begins with `job-type:`: let it print another one",
                ));
            }
            return Ok(probed);
        }
        let (seen_by, own) = told(ask)?;
        let probed = self.scripts.look(script, &own, end, &around).await?;
        pinned(probed, checkout.revision(), seen_by.as_ref(), own.seen.as_ref())
    }
}

/// By which revision of the job type the last look was made, and the question as the script gets it.
fn told(ask: &Ask) -> Result<(Option<Revision>, Ask)> {
    let mut own = ask.clone();
    let mut seen_by = None;
    if let Some(seen) = &ask.seen {
        let (by, said) = pin::split(seen.as_str());
        seen_by = by;
        own.seen = Some(said.parse()?);
    }
    if let Some(accounted) = &ask.accounted {
        own.accounted = Some(pin::split(accounted.as_str()).1.parse()?);
    }
    Ok((seen_by, own))
}

/// What a script's answer says where the revision of its branch counts too.
fn pinned(
    probed: Probed,
    job_type: &Revision,
    seen_by: Option<&Revision>,
    said_before: Option<&Revision>,
) -> Result<Probed> {
    Ok(match (probed, said_before) {
        (Probed::Observed(observation), _) => {
            let revision = pin::joined(job_type, observation.revision.as_str())?;
            let display = observation.display.clone().unwrap_or_else(|| observation.revision.to_string());
            Probed::Observed(Observation { revision, display: Some(display), ..observation })
        }
        (Probed::SameAsSeen, Some(said)) if seen_by != Some(job_type) => {
            let mut observation = Observation::of(pin::joined(job_type, said.as_str())?);
            observation.display = Some(said.to_string());
            Probed::Observed(observation)
        }
        (other, _) => other,
    })
}

#[async_trait]
impl RevisionProbe for JobTypeProbe {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        let parsed = JobTypeSource::parse(source)?;
        // What is left out and what is written as the default are the same source.
        let config = serde_json::to_vec(&parsed)
            .map_err(|e| Error::config("a job type's source cannot be written as JSON").with_source(e))?;
        let digest: String = Sha256::digest(config).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(ProbeKey::of(&[source.probe.as_str(), &digest]))
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let now = self.clock.monotonic();
        let runs: Vec<_> = asks
            .iter()
            .map(|ask| {
                // A little is left for the answers to reach the caller before it drops them all.
                let end = now.plus(ask.deadline.saturating_sub(ask.deadline / 20));
                self.answer(ask, end)
                    .map(|answer| {
                        answer.map_err(|e| {
                            e.with_operation("probe by job type").with_context("dependency", &ask.dependency)
                        })
                    })
                    .boxed()
            })
            .collect();
        stream::iter(runs).buffered(AT_ONCE).collect().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_new_revision_of_the_branch_is_a_change_where_it_counts() {
        let revision = |text: &str| text.parse::<Revision>().unwrap();
        let of = |by: &str, said: &str| pin::joined(&revision(by), said).unwrap();
        let observed = |text: &str| Probed::revision(text).unwrap();
        // What the script says, the branch's revision, what was seen; what is seen now (none: the same).
        let cases = [
            (observed("r1"), "A", None, Some(of("A", "r1"))),
            (observed("r2"), "A", Some(of("A", "r1")), Some(of("A", "r2"))),
            (observed("r1"), "B", Some(of("A", "r1")), Some(of("B", "r1"))),
            (Probed::SameAsSeen, "A", Some(of("A", "3")), None),
            (Probed::SameAsSeen, "B", Some(of("A", "3")), Some(of("B", "3"))),
        ];
        for (probed, now, seen, expected) in cases {
            let mut ask = ask();
            (ask.seen, ask.accounted) = (seen.clone(), seen.clone());
            let (by, own) = told(&ask).unwrap();
            assert_eq!(own.seen, own.accounted);
            assert!(own.seen.as_ref().is_none_or(|s| !s.as_str().contains(':')));
            let got = pinned(probed.clone(), &revision(now), by.as_ref(), own.seen.as_ref()).unwrap();
            match expected {
                Some(expected) => {
                    let Probed::Observed(observation) = got else { panic!("{got:?} of {probed:?}") };
                    assert_eq!(observation.revision, expected);
                    assert!(!observation.display.unwrap().contains(':'));
                }
                None => assert_eq!(got, Probed::SameAsSeen),
            }
        }
        let first = pinned(Probed::Nothing, &revision("A"), None, None).unwrap();
        assert_eq!(first, Probed::Nothing);
    }

    fn ask() -> Ask {
        let secrets = capomastro_core::secret::Secrets::none();
        let source = Source::new("job-type", serde_json::json!({})).unwrap();
        Ask::new("lib".parse().unwrap(), source, Duration::from_secs(1), secrets)
    }
}
