//! Subversion repositories as sources.
//!
//! | remote | how it is asked |
//! |---|---|
//! | `http://`, `https://` | in process, over [`reqwest`]: one request where the path is there |
//! | `svn://` | in process |
//! | `/path`, `file://` | in process whether anything was committed; if so, one run of `svnserve -t` |
//! | `svn+ssh://` | one run of `ssh`, which starts `svnserve -t` there |
//!
//! What these cannot tell (a server that logs people in by other means than a password, a repository that svnserve does
//! not show) is asked of `svn info`, and all is asked of it if the builder [says so](SvnProbeBuilder::always_program).
//! Programs are run by a [`CommandRunner`].
//!
//! A look at a repository on this machine runs nothing as long as nothing was committed to it since its last observation: the
//! cursor tells. All paths below one URL are looked at together: in one run, on one connection, or path by path over HTTP
//! and through `svn info`.
//!
//! A revision is the last one in which the path or something below it changed, with the UUID of its repository: see
//! [`SvnRevision`]. So a path that was deleted and made anew, replaced by a copy of something else, or that went back to an
//! older state is a change like any other, as is another repository at the same URL. No change are commits elsewhere in the
//! repository, and what is not versioned: log messages, hooks, rules of access. What `svn:externals` point at is not
//! followed: give it a dependency of its own.
//!
//! A repository that was restored from an older backup and then grew to the same number is told by the date of the commit.
//! Where that is hidden or, for a [mirror](SvnSource::mirror), not looked at, it cannot be told.
//!
//! Credentials are references to secrets. They are resolved for each look, go to the server of the source only, and
//! appear in no error, no log, no argument and no file on a disk.

mod answer;
mod conversation;
mod daemon;
mod dav;
#[cfg(feature = "job-types")]
mod export;
mod http;
mod key;
mod local;
mod look;
mod program;
mod revision;
mod source;
mod tunnel;
mod wire;
mod xml;

pub use revision::SvnRevision;
pub use source::SvnSource;

use crate::remote::http as web;
use async_trait::async_trait;
use capomastro_core::{
    Error, Result,
    command::CommandRunner,
    model::{ProbeKey, Source},
    probe::{Ask, Probed, RevisionProbe},
};
use program::Program;
use sha2::{Digest, Sha256};
use source::Spec;
use std::{collections::BTreeMap, ffi::OsString, sync::Arc};
use tokio::sync::Semaphore;

/// How we name ourselves to servers.
const AGENT: &str = concat!("capomastro-probes/", env!("CARGO_PKG_VERSION"));

/// Looks at Subversion repositories.
///
/// Needs a tokio runtime with I/O. The caller's deadline is kept by dropping the future: no connection and no process
/// outlives it.
///
/// ```
/// use capomastro_probes::svn::{SvnProbe, SvnSource};
/// use capomastro_core::probe::RevisionProbe;
///
/// let probe = SvnProbe::new();
/// let trunk = SvnSource::new("https://example.org/svn/lib").path("trunk").source("svn")?;
/// let docs = SvnSource::new("https://EXAMPLE.org:443/svn/lib/").path("docs").source("svn")?;
/// assert_eq!(probe.key(&trunk)?, probe.key(&docs)?); // answered together
/// # Ok::<(), capomastro_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SvnProbe {
    runner: Option<Arc<dyn CommandRunner>>,
    http: Result<reqwest::Client, String>,
    program: Program,
    always_program: bool,
    max_answer: u64,
    readers: Arc<Semaphore>,
}

/// Makes an [`SvnProbe`] that differs from [`SvnProbe::new`].
#[derive(Clone, Debug)]
pub struct SvnProbeBuilder {
    runner: Option<Arc<dyn CommandRunner>>,
    http: Option<reqwest::Client>,
    program: Program,
    always_program: bool,
    max_answer: u64,
    readers: usize,
}

impl SvnProbeBuilder {
    /// Who runs the programs of Subversion, which repositories on this machine and behind ssh need. Without one such
    /// sources are [`Unsupported`](capomastro_core::ErrorKind::Unsupported).
    #[must_use]
    pub fn runner(mut self, runner: Arc<dyn CommandRunner>) -> Self {
        self.runner = Some(runner);
        self
    }

    /// Whether everything is asked of the svn program, so that a look is made where the runner is: inside a container,
    /// say. Not so unless given. The packages `subversion` and, for `svn+ssh`, `openssh-client` are needed there.
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

    /// The svn program; `svn`, looked up in `PATH`, unless given. It has to be of version 1.10 or newer.
    #[must_use]
    pub fn svn(mut self, program: impl Into<OsString>) -> Self {
        self.program.svn = program.into();
        self
    }

    /// The svnserve program on this machine; `svnserve`, looked up in `PATH`, unless given.
    #[must_use]
    pub fn svnserve(mut self, program: impl Into<OsString>) -> Self {
        self.program.svnserve = program.into();
        self
    }

    /// The ssh program; `ssh`, looked up in `PATH`, unless given. It has to understand the options of OpenSSH.
    #[must_use]
    pub fn ssh(mut self, program: impl Into<String>) -> Self {
        self.program.ssh = program.into();
        self
    }

    /// A variable for the programs, such as `PATH` or `SSH_AUTH_SOCK`. They inherit none by themselves.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.program.env.insert(name.into(), value.into());
        self
    }

    /// How many bytes an answer may have, unpacked; 1 MiB unless given.
    #[must_use]
    pub const fn max_answer_bytes(mut self, bytes: u32) -> Self {
        self.max_answer = bytes as u64;
        self
    }

    /// How many threads look at directories of this machine at a time; 16 unless given, at least 1.
    #[must_use]
    pub const fn readers(mut self, threads: usize) -> Self {
        self.readers = threads;
        self
    }

    /// The probe.
    pub fn build(self) -> SvnProbe {
        let http = self.http.map_or_else(|| web::client(AGENT), Ok);
        SvnProbe {
            runner: self.runner,
            // Told when a source needs it: a machine without certificates can still look at files.
            http: http.map_err(|e| Error::internal("no HTTP client").with_source(e).report()),
            program: self.program,
            always_program: self.always_program,
            max_answer: self.max_answer,
            readers: Arc::new(Semaphore::new(self.readers.clamp(1, Semaphore::MAX_PERMITS))),
        }
    }
}

impl Default for SvnProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl SvnProbe {
    /// A probe for HTTP and svnserve, with an HTTP client of its own.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A probe that differs from [`SvnProbe::new`].
    pub fn builder() -> SvnProbeBuilder {
        SvnProbeBuilder {
            runner: None,
            http: None,
            program: Program {
                svn: "svn".into(),
                svnserve: "svnserve".into(),
                ssh: "ssh".into(),
                env: BTreeMap::new(),
            },
            always_program: false,
            max_answer: 1024 * 1024,
            readers: 16,
        }
    }
}

/// What answers together: the remote and who looks at it. Not the path below it.
fn key_of(source: &Source, spec: &Spec) -> ProbeKey {
    let (user, password) =
        spec.login.as_ref().map_or(("", ""), |l| (l.username.as_str(), l.password.secret.as_str()));
    let ssh_key = spec.ssh_key.as_ref().map_or("", |k| k.secret.as_str());
    let hosts: String = spec.known_hosts.as_ref().map_or_else(String::new, |hosts| {
        Sha256::digest(hosts.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
    });
    let key =
        ProbeKey::of(&[source.probe.as_str(), &spec.remote.canonical(), user, password, ssh_key, &hosts]);
    match spec.remote.host() {
        Some(host) => key.at(host),
        None => key,
    }
}

#[async_trait]
impl RevisionProbe for SvnProbe {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        Ok(key_of(source, &source.parse::<SvnSource>()?.check()?))
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let mut answers: Vec<Option<Result<Probed>>> = asks.iter().map(|_| None).collect();
        // One remote, since all asks share one key; a caller that mixes them gets right answers too.
        let mut remotes: BTreeMap<ProbeKey, Vec<(usize, Spec)>> = BTreeMap::new();
        for (index, ask) in asks.iter().enumerate() {
            match ask.source.parse::<SvnSource>().and_then(|s| s.check()) {
                Ok(spec) => remotes.entry(key_of(&ask.source, &spec)).or_default().push((index, spec)),
                Err(e) => answers[index] = Some(Err(e)),
            }
        }
        for members in remotes.into_values() {
            let Some(remote) = members.first().map(|(_, spec)| spec.remote.canonical()) else { continue };
            let questions: Vec<(&Ask, &Spec)> = members.iter().map(|(i, spec)| (&asks[*i], spec)).collect();
            match self.look(&questions).await {
                Ok(seen) => {
                    tracing::debug!(%remote, paths = members.len(), "looked at a Subversion repository");
                    for ((index, spec), seen) in members.iter().zip(seen) {
                        answers[*index] =
                            Some(seen.map_err(|e| placed(e, &remote).with_context("path", &spec.path)));
                    }
                }
                Err(e) => {
                    let (kind, retry) = (e.kind(), e.retry());
                    let report = placed(e, &remote).report();
                    tracing::debug!(%remote, error = %report, "could not look at a Subversion repository");
                    for (index, _) in members {
                        answers[index] = Some(Err(Error::new(kind, report.clone()).with_retry(retry)));
                    }
                }
            }
        }
        let unanswered = || Err(Error::internal("a question to the svn probe was not answered"));
        answers.into_iter().map(|a| a.unwrap_or_else(unanswered)).collect()
    }
}

fn placed(e: Error, remote: &str) -> Error {
    e.with_operation("look at a Subversion repository").with_context("remote", remote)
}
