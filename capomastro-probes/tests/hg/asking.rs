//! Asking a probe, briefly.

use capomastro_core::{
    Error, Result,
    command::{Command, CommandOutput, CommandRunner},
    probe::{Ask, Probed, RevisionProbe},
    secret::{FixedSecrets, Secrets},
};
use capomastro_probes::hg::{HgProbe, HgSource};
use capomastro_process::ProcessRunner;
use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

pub(crate) fn ask_for(source: HgSource) -> Ask {
    let secrets = Secrets::new(Arc::new(
        FixedSecrets::default().with("forge", "planted hunter2: ü@/").with("wrong", "wrong-hunter2"),
    ));
    Ask::new("lib".try_into().unwrap(), source.source("hg").unwrap(), Duration::from_secs(30), secrets)
}

/// The answer to one ask that may use a secret of this text.
pub(crate) async fn answer_with(
    probe: &HgProbe,
    source: HgSource,
    secret: (&str, &str),
) -> Result<Probed, Error> {
    let mut ask = ask_for(source);
    ask.secrets = Secrets::new(Arc::new(FixedSecrets::default().with(secret.0, secret.1)));
    within(probe.probe(&[ask])).await.remove(0)
}

/// The answer to one ask.
pub(crate) async fn answer(probe: &HgProbe, source: HgSource) -> Result<Probed, Error> {
    let mut answers = within(probe.probe(&[ask_for(source)])).await;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// The revision that is seen, and what is shown for it.
pub(crate) async fn seen(probe: &HgProbe, source: HgSource) -> (String, String) {
    let shown = format!("{source:?}");
    match answer(probe, source).await {
        Ok(Probed::Observed(o)) => (o.revision.as_str().to_owned(), o.display.unwrap()),
        other => panic!("{shown}: not observed: {other:?}"),
    }
}

/// The error of a repository that cannot be looked at. It holds no password.
pub(crate) async fn failure(probe: &HgProbe, source: HgSource) -> Error {
    let shown = format!("{source:?}");
    let e = match answer(probe, source).await {
        Err(e) => e,
        Ok(probed) => panic!("{shown}: {probed:?}"),
    };
    assert!(!format!("{e:?} {}", e.report()).contains("hunter2"), "{e:?}");
    e
}

/// A test that hangs fails.
#[expect(clippy::disallowed_methods, reason = "the one bound on how long tests wait")]
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes less than a minute")
}

/// Runs the probe's commands on this machine, and remembers them.
#[derive(Debug, Default)]
pub(crate) struct Remembering(Mutex<Vec<Command>>);

impl Remembering {
    pub(crate) fn commands(&self) -> Vec<Command> {
        self.0.lock().unwrap().clone()
    }
}

#[capomastro_core::async_trait]
impl CommandRunner for Remembering {
    async fn run(&self, command: &Command) -> Result<CommandOutput> {
        self.0.lock().unwrap().push(command.clone());
        ProcessRunner::new().run(command).await
    }
}

/// A probe that asks everything through programs.
pub(crate) fn by_program(runner: &Arc<Remembering>) -> HgProbe {
    HgProbe::builder().always_program(true).runner(Arc::<Remembering>::clone(runner)).build()
}

/// A probe that asks in process where it can, and has programs for the rest.
pub(crate) fn with_programs() -> HgProbe {
    HgProbe::builder().runner(Arc::new(ProcessRunner::new())).build()
}
