//! Sources that a script looks at.

mod language;
mod redact;
mod source;
#[cfg(test)]
mod tests;

pub use source::{Language, ScriptSource};

use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    command::{Command, CommandOutput, CommandRunner},
    model::{ProbeKey, Revision, Source},
    probe::{Ask, Probed, RevisionProbe},
    time::{Clock, Monotonic, SystemClock},
};
use futures_util::{
    FutureExt, StreamExt,
    future::{Either, select},
    stream,
};
use language::Standing;
use redact::Redactor;
use sha2::{Digest, Sha256};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// How many of the asks of one call run at the same time.
pub(crate) const AT_ONCE: usize = 4;

/// How much a script may print, on each of its outputs.
const MAX_OUTPUT: usize = 64 * 1024;

/// Asks scripts, wherever the runner runs them.
///
/// A script speaks one of two [languages](Language): it prints a revision, or it says by its exit status whether there is
/// a change. It runs without input, in a working directory of its own or the one that its [source](ScriptSource) names,
/// and its environment is `PATH`, what the source says, and
///
/// | variable | value |
/// |---|---|
/// | `CAPOMASTRO_DEPENDENCY` | the dependency's name |
/// | `CAPOMASTRO_OBSERVED` | the revision that was last seen; empty if none |
/// | `CAPOMASTRO_ACCOUNTED` | the revision that was last settled; empty if none |
/// | `CAPOMASTRO_LAST_BUILD` | when the last build that was not refused was started, such as `2026-03-01T12:00:00.250000Z` (RFC 3339); empty if none |
/// | `CAPOMASTRO_LAST_BUILD_UNIX` | the same in whole seconds since 1970, rounded down: compare with "at or after", so that rather one build too many starts than that a change is lost |
///
/// A token is the better language. "Changed" becomes a new value of a counter, once for each change: while a change
/// waits to be built, or a build runs, it means the change that is known already, and it has to be said again after the
/// build's start by a source that changed meanwhile. "Not changed", before anything was ever seen, is
/// [`Probed::Nothing`].
///
/// Each dependency is answered by a run of its own, since the environment differs; those with equal sources run four at
/// a time and share the deadline of the call. A run is ended, with all that it started, at the earlier of its `timeout`
/// and shortly before that deadline.
///
/// Errors: what a person has to change is [`InvalidConfig`](ErrorKind::InvalidConfig) (no such program, not executable,
/// exit statuses 126 and 127) or [`Corrupt`](ErrorKind::Corrupt) (not one line of 1 to 1,024 bytes of UTF-8, more than
/// 64 KiB printed); [`TimedOut`](ErrorKind::TimedOut) and [`Unavailable`](ErrorKind::Unavailable) (another exit status,
/// a signal) may pass. They repeat the end of standard error, without the values of secrets.
///
/// ```
/// use capomastro_core::probe::RevisionProbe;
/// use capomastro_probes::script::{ScriptProbe, ScriptSource};
/// use std::sync::Arc;
///
/// # fn main() -> capomastro_core::Result<()> {
/// let probe = ScriptProbe::new(Arc::new(capomastro_process::ProcessRunner::new()));
/// let source = ScriptSource::token(["svnversion", "/srv/trunk"]).into_source("script")?;
/// assert!(probe.key(&source).is_ok());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct ScriptProbe {
    runner: Arc<dyn CommandRunner>,
    clock: Arc<dyn Clock>,
}

impl ScriptProbe {
    /// A probe whose scripts this runner runs.
    pub fn new(runner: Arc<dyn CommandRunner>) -> Self {
        Self { runner, clock: Arc::new(SystemClock) }
    }

    /// The same probe that shares out deadlines by this clock.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    async fn answer(&self, ask: &Ask, end: Monotonic) -> Result<Probed> {
        let source = ScriptSource::parse(&ask.source)?;
        let program = source.command.first().cloned().unwrap_or_default();
        self.look(source, ask, end, &Around::default())
            .await
            .map_err(|e| e.with_context("dependency", &ask.dependency).with_context("script", program))
    }

    /// One run of a script, which ends by `end`.
    pub(crate) async fn look(
        &self,
        source: ScriptSource,
        ask: &Ask,
        end: Monotonic,
        around: &Around,
    ) -> Result<Probed> {
        let mut command = command(&source, ask, around);
        let resolving = async {
            for (name, secret) in &source.secret_env {
                let value = ask.secrets.resolve(secret).await?;
                command.secret_env.insert(name.into(), value);
            }
            Ok::<_, Error>(command)
        };
        let left = self.left(end)?;
        let mut command = match select(resolving.boxed(), self.clock.sleep(left)).await {
            Either::Left((command, _)) => command?,
            Either::Right(_) => {
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    "the script's secrets were not there by the deadline: see why their resolver hangs",
                ));
            }
        };
        let left = self.left(end)?;
        command.deadline = source.timeout.unwrap_or(left).min(left);
        let redactor = Redactor::new(command.secret_env.values());
        match self.runner.run(&command).await {
            Ok(output) => {
                let is_cut = output.stderr.len() >= command.max_output;
                let stderr = redactor.bytes(output.stderr, is_cut);
                let output = CommandOutput::new(output.exit, output.stdout, stderr);
                let standing = Standing {
                    seen: ask.seen.as_ref(),
                    in_debt: ask.in_debt(),
                    building: ask.building,
                    wanted: ask.wanted,
                };
                language::read(source.language, &output, standing)
            }
            Err(e) => Err(not_run(&e, &redactor)),
        }
    }

    /// How much time there is until `end`.
    fn left(&self, end: Monotonic) -> Result<Duration> {
        match end.0.saturating_sub(self.clock.monotonic().0) {
            Duration::ZERO => Err(Error::new(
                ErrorKind::TimedOut,
                "the script did not get its turn before the deadline: other dependencies with the same source took all \
                 the time; make it faster, or allow probes more time",
            )),
            left => Ok(left),
        }
    }
}

/// What a script that is not a source of its own is given besides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Around {
    /// A folder that it is shown.
    pub(crate) reads: Option<PathBuf>,
    /// Variables that a source may not set.
    pub(crate) env: Vec<(&'static str, String)>,
}

/// The script as a command, all but its secrets and its deadline.
fn command(source: &ScriptSource, ask: &Ask, around: &Around) -> Command {
    let text = |revision: &Option<Revision>| revision.as_ref().map_or("", Revision::as_str).to_owned();
    let (last, last_unix) = ask.last_start.map_or_else(Default::default, |at| {
        (at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(), at.timestamp().to_string())
    });
    let mut command = Command::new(source.command.first().map_or("", String::as_str))
        .args(source.command.iter().skip(1))
        .max_output(MAX_OUTPUT)
        .env("CAPOMASTRO_DEPENDENCY", ask.dependency.as_str())
        .env("CAPOMASTRO_OBSERVED", text(&ask.seen))
        .env("CAPOMASTRO_ACCOUNTED", text(&ask.accounted))
        .env("CAPOMASTRO_LAST_BUILD", last)
        .env("CAPOMASTRO_LAST_BUILD_UNIX", last_unix);
    command.env.extend(source.env.iter().map(|(name, value)| (name.into(), value.into())));
    command.env.extend(around.env.iter().map(|(name, value)| (name.into(), value.into())));
    command.reads.extend(around.reads.clone());
    command.dir.clone_from(&source.dir);
    command
}

/// That there is no such program is a fault of the source here, and no answer about it.
fn not_run(error: &Error, redactor: &Redactor) -> Error {
    let text = redactor.text(&error.report());
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::InvalidInput => Error::config(text),
        kind => Error::new(kind, text).with_retry(error.retry()),
    }
}

#[async_trait]
impl RevisionProbe for ScriptProbe {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        let parsed = ScriptSource::parse(source)?;
        // What is left out and what is written as the default are the same source.
        let config = serde_json::to_vec(&parsed).map_err(|e| {
            Error::config("a script source cannot be written as JSON: give a `dir` that is UTF-8")
                .with_source(e)
        })?;
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
                self.answer(ask, end).map(|r| r.map_err(|e| e.with_operation("probe script"))).boxed()
            })
            .collect();
        stream::iter(runs).buffered(AT_ONCE).collect().await
    }
}
