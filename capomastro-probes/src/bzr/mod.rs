//! Bazaar (Breezy) branches as sources.
//!
//! | place | how it is asked |
//! |---|---|
//! | `/path`, `file://` | in process |
//! | `http://`, `https://` | in process, as files of a web server, in one request; by Breezy where it has no such files |
//! | `bzr://` | in process, in one round trip |
//! | `bzr+ssh://` | through ssh and the bzr there, by a [`CommandRunner`] |
//! | `lp:`, or all where the builder says so | by Breezy's library, through a [`CommandRunner`] |
//!
//! A revision is the **revision-id** of the branch's tip. The revno is shown and never compared: a branch that was
//! overwritten by another of the same length, or by a shorter one, has changed. A branch without any revision, and one that
//! was removed, is [`NotFound`](Probed::NotFound); so is a place that never was one, where the other side cannot tell.
//!
//! Credentials are references to secrets. They are resolved for each look, go to the server of the source only, and
//! appear in no error, no log, no argument and no file on a disk.

#[cfg(feature = "job-types")]
mod export;
mod file;
mod http;
mod key;
mod program;
mod smart;
mod source;
mod tip;

pub use source::BzrSource;

use crate::remote::{http as web, ssh::SshLogin};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    command::CommandRunner,
    model::{Observation, ProbeKey, Source},
    probe::{Ask, Probed, RevisionProbe},
    secret::Secrets,
};
use key::Remote;
use program::Program;
use source::Spec;
use std::{collections::BTreeMap, ffi::OsString, sync::Arc, time::Duration};
use tip::Tip;
use tokio::sync::Semaphore;

/// Looks at bzr branches.
///
/// Needs a tokio runtime with I/O. The caller's deadline is kept by dropping the future: no connection or process outlives
/// it.
///
/// ```
/// use capomastro_core::probe::RevisionProbe;
/// use capomastro_probes::bzr::{BzrProbe, BzrSource};
///
/// let probe = BzrProbe::new();
/// let one = BzrSource::new("bzr://example.org/lib/trunk").source("bzr")?;
/// let same = BzrSource::new("bzr://EXAMPLE.org:4155/lib/trunk/").source("bzr")?;
/// assert_eq!(probe.key(&one)?, probe.key(&same)?); // answered together
/// # Ok::<(), capomastro_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct BzrProbe {
    runner: Option<Arc<dyn CommandRunner>>,
    always_program: bool,
    http: Result<reqwest::Client, String>,
    program: Program,
    readers: Arc<Semaphore>,
}

/// Makes a [`BzrProbe`] that differs from [`BzrProbe::new`].
#[derive(Clone, Debug)]
pub struct BzrProbeBuilder {
    runner: Option<Arc<dyn CommandRunner>>,
    always_program: bool,
    http: Option<reqwest::Client>,
    program: Program,
    readers: usize,
}

impl BzrProbeBuilder {
    /// Who runs programs: ssh, and Python with Breezy. Without one, sources that need them are
    /// [`Unsupported`](ErrorKind::Unsupported).
    #[must_use]
    pub fn runner(mut self, runner: Arc<dyn CommandRunner>) -> Self {
        self.runner = Some(runner);
        self
    }

    /// Whether every branch is asked by Breezy through the [runner](Self::runner) (ssh alone for `bzr+ssh`), so that the
    /// look happens where the runner runs things: inside a container, say. `false` unless given. The revisions are the same.
    #[must_use]
    pub const fn always_program(mut self, always: bool) -> Self {
        self.always_program = always;
        self
    }

    /// The client for HTTP, for instance with a proxy or a certificate authority of one's own. Give it
    /// `redirect(Policy::none())`: the probe follows those that are safe.
    #[must_use]
    pub fn http(mut self, client: reqwest::Client) -> Self {
        self.http = Some(client);
        self
    }

    /// The Python that has Breezy; `python3`, looked up in `PATH`, unless given.
    #[must_use]
    pub fn python(mut self, program: impl Into<OsString>) -> Self {
        self.program.python = program.into();
        self
    }

    /// The ssh program; `ssh`, looked up in `PATH`, unless given. It has to understand the options of OpenSSH.
    #[must_use]
    pub fn ssh(mut self, program: impl Into<String>) -> Self {
        self.program.ssh = program.into();
        self
    }

    /// What SSH servers call their bzr, as a word for their shell; `bzr` unless given.
    #[must_use]
    pub fn remote_bzr(mut self, program: impl Into<String>) -> Self {
        self.program.remote = program.into();
        self
    }

    /// A variable for the programs, such as `PATH` or `SSH_AUTH_SOCK`. They inherit none by themselves.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.program.env.insert(name.into(), value.into());
        self
    }

    /// How many threads read branches on this machine at a time; 16 unless given, at least 1.
    #[must_use]
    pub const fn readers(mut self, threads: usize) -> Self {
        self.readers = threads;
        self
    }

    /// The probe.
    pub fn build(self) -> BzrProbe {
        let agent = concat!("capomastro-probes/", env!("CARGO_PKG_VERSION"));
        let http = self.http.map_or_else(|| web::client(agent), Ok);
        BzrProbe {
            runner: self.runner,
            always_program: self.always_program,
            // Told when a source needs it: a machine without certificates can still look at files.
            http: http.map_err(|e| Error::internal("no HTTP client").with_source(e).report()),
            program: self.program,
            readers: Arc::new(Semaphore::new(self.readers.clamp(1, Semaphore::MAX_PERMITS))),
        }
    }
}

impl Default for BzrProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl BzrProbe {
    /// A probe without programs, with an HTTP client of its own.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A probe that differs from [`BzrProbe::new`].
    pub fn builder() -> BzrProbeBuilder {
        BzrProbeBuilder {
            runner: None,
            always_program: false,
            http: None,
            program: Program {
                python: "python3".into(),
                ssh: "ssh".into(),
                remote: "bzr".into(),
                env: BTreeMap::new(),
            },
            readers: 16,
        }
    }

    async fn look(&self, spec: &Spec, secrets: &Secrets, deadline: Duration) -> Result<Option<Tip>> {
        let credentials = match &spec.login {
            Some(login) => Some(login.resolve(secrets).await?),
            None => None,
        };
        let by_program = || self.by_program(spec, credentials.as_ref(), deadline);
        match &spec.remote {
            Remote::Ssh { user, host, port, path } => {
                let login =
                    SshLogin::resolve(spec.ssh_key.as_ref(), spec.known_hosts.as_ref(), secrets).await?;
                let place = (user.as_str(), host.as_str(), *port, path.as_str());
                self.program.over_ssh(self.runner()?, place, &login, deadline).await
            }
            Remote::Launchpad(_) => by_program().await,
            _ if self.always_program => by_program().await,
            Remote::File(path) => match file::look(&self.readers, path.clone(), spec.branch.clone()).await? {
                file::Looked::At(tip) => Ok(tip),
                file::Looked::NeedsProgram => by_program().await,
            },
            Remote::Http(url) => {
                let client = self.http.as_ref().map_err(|e| {
                    Error::new(
                        ErrorKind::Unsupported,
                        "no HTTP client could be made: give one to the builder",
                    )
                    .with_context("because", e)
                })?;
                match http::look(client, url, credentials.as_ref(), spec.branch.as_deref()).await? {
                    http::Looked::At(tip) => Ok(tip),
                    // Only Breezy can tell whether there is one behind its own protocol.
                    http::Looked::Nothing if self.runner.is_none() => Ok(None),
                    http::Looked::Nothing | http::Looked::NeedsProgram => by_program().await,
                }
            }
            Remote::Bzr { host, port, path } => smart::ask(host, *port, path).await,
        }
    }

    fn runner(&self) -> Result<&dyn CommandRunner> {
        self.runner.as_deref().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "this branch is read through a program: give the bzr probe's builder a runner",
            )
        })
    }

    async fn by_program(
        &self,
        spec: &Spec,
        credentials: Option<&web::Credentials>,
        deadline: Duration,
    ) -> Result<Option<Tip>> {
        let (runner, name) = (self.runner()?, spec.branch.as_deref());
        self.program.look(runner, &self.readers, &spec.remote, name, credentials, deadline).await
    }
}

fn observation(tip: Tip) -> Result<Observation> {
    let mut observation = Observation::of(tip.id.try_into()?);
    observation.display = Some(format!("revno {}", tip.revno));
    observation.metadata.insert("revno".into(), tip.revno.to_string());
    Ok(observation)
}

/// What answers together: the branch and who looks at it.
fn key_of(source: &Source, spec: &Spec) -> ProbeKey {
    let (user, password) =
        spec.login.as_ref().map_or(("", ""), |l| (l.username.as_str(), l.password.secret.as_str()));
    let ssh_key = spec.ssh_key.as_ref().map_or("", |k| k.secret.as_str());
    let hosts = spec.known_hosts.as_ref().map_or_else(String::new, |h| crate::remote::ssh::digest(h));
    let branch = spec.branch.as_deref().unwrap_or_default();
    let remote = spec.remote.canonical();
    let key = ProbeKey::of(&[source.probe.as_str(), &remote, branch, user, password, ssh_key, &hosts]);
    match spec.remote.host() {
        Some(host) => key.at(host),
        None => key,
    }
}

#[async_trait]
impl RevisionProbe for BzrProbe {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        Ok(key_of(source, &source.parse::<BzrSource>()?.check()?))
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let mut answers: Vec<Option<Result<Probed>>> = asks.iter().map(|_| None).collect();
        let mut branches: BTreeMap<ProbeKey, (Spec, Vec<usize>)> = BTreeMap::new();
        for (index, ask) in asks.iter().enumerate() {
            match ask.source.parse::<BzrSource>().and_then(|s| s.check()) {
                Ok(spec) => {
                    let key = key_of(&ask.source, &spec);
                    branches.entry(key).or_insert_with(|| (spec, Vec::new())).1.push(index);
                }
                Err(e) => answers[index] = Some(Err(e)),
            }
        }
        for (spec, members) in branches.into_values() {
            let remote = spec.remote.canonical();
            let Some(first) = members.first().map(|i| &asks[*i]) else { continue };
            let deadline = members.iter().map(|i| asks[*i].deadline).max().unwrap_or_default();
            let looked = self.look(&spec, &first.secrets, deadline).await.and_then(|tip| match tip {
                Some(tip) => observation(tip).map(Probed::Observed),
                None => Ok(Probed::NotFound),
            });
            let looked =
                looked.map_err(|e| e.with_operation("look at a bzr branch").with_context("branch", &remote));
            tracing::debug!(%remote, asks = members.len(), ok = looked.is_ok(), "looked at a bzr branch");
            for index in members {
                answers[index] = Some(match &looked {
                    Ok(probed) => Ok(probed.clone()),
                    Err(e) => Err(e.copy()),
                });
            }
        }
        let unanswered = || Err(Error::internal("a question to the bzr probe was not answered"));
        answers.into_iter().map(|a| a.unwrap_or_else(unanswered)).collect()
    }
}
