//! Asking a probe, briefly.

use capomastro_core::{
    Error,
    model::{Observation, Source},
    probe::{Ask, Probed, RevisionProbe},
    secret::{FixedSecrets, Secrets},
};
use capomastro_probes::svn::{SvnProbe, SvnSource};
use std::{future::Future, sync::Arc, time::Duration};

pub(crate) fn ask(source: Source) -> Ask {
    Ask::new("lib".try_into().unwrap(), source, Duration::from_secs(30), Secrets::none())
}

pub(crate) fn ask_for(source: SvnSource) -> Ask {
    ask(source.source("svn").unwrap())
}

pub(crate) fn with_secret(mut ask: Ask, name: &str, value: &str) -> Ask {
    ask.secrets = Secrets::new(Arc::new(FixedSecrets::default().with(name, value)));
    ask
}

/// The answer to one ask.
pub(crate) async fn answer(probe: &SvnProbe, ask: Ask) -> Result<Probed, Error> {
    let mut answers = within(probe.probe(&[ask])).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// What is seen at a source that is there.
pub(crate) async fn seen(probe: &SvnProbe, ask: Ask) -> Observation {
    match answer(probe, ask).await {
        Ok(Probed::Observed(observation)) => observation,
        other => panic!("not observed: {other:?}"),
    }
}

/// The error of a source that cannot be looked at.
pub(crate) async fn failure(probe: &SvnProbe, ask: Ask) -> Error {
    answer(probe, ask).await.expect_err("it cannot be looked at")
}

/// A test that hangs fails.
#[expect(clippy::disallowed_methods, reason = "the one bound on how long tests wait")]
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes less than a minute")
}

/// Waits until something holds.
#[expect(clippy::disallowed_methods, reason = "what other processes do can only be polled")]
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    within(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
