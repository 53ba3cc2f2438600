//! Mercurial (hg) repositories as sources.
//!
//! | place | how it is asked |
//! |---|---|
//! | `/path`, `file://` | in process, where hg has left what its branches are at; else by hg's library |
//! | `http://`, `https://` | in process, by hg's protocol, in one request; by hg's library where a branch has several heads |
//! | `ssh://`, or all where the builder says so | by hg's library, through a [`CommandRunner`] |
//!
//! A revision is the whole node (40 hex digits) of the head of a branch, or of a bookmark. So a push, one that was forced, a
//! strip and a bookmark that moves, are changes like any other.
//!
//! A branch with several open heads is an error, since none of them is the one to build; heads that are closed do not count
//! beside others. A single head is the branch's, closed or not: closing a branch is a change to it. A branch that is not
//! there, whose several heads are all closed, or a bookmark that is not there, is [`NotFound`](Probed::NotFound). What a
//! repository does not show to those who ask over a network (secret and obsolete changesets), is not seen on this machine
//! either.
//!
//! Credentials are references to secrets. They are resolved for each look, go to the server of the source only, and
//! appear in no error, no log, no argument and no file on a disk.

#[cfg(feature = "job-types")]
mod export;
mod file;
mod heads;
mod http;
mod key;
mod program;
mod source;

pub use source::HgSource;

use crate::remote::{http as web, ssh::SshLogin};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    command::CommandRunner,
    model::{Observation, ProbeKey, Source},
    probe::{Ask, Probed, RevisionProbe},
    secret::Secrets,
};
use heads::{Found, Name};
use key::Remote;
use program::{Introduction, MAX_NAMES, Program};
use source::Spec;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    sync::Arc,
    time::Duration,
};
use tokio::sync::Semaphore;

/// How many characters of a node are shown to people.
const SHORT_NODE: usize = 12;

/// Looks at hg repositories.
///
/// Needs a tokio runtime with I/O. The caller's deadline is kept by dropping the future: no connection or process outlives
/// it.
///
/// ```
/// use capomastro_core::probe::RevisionProbe;
/// use capomastro_probes::hg::{HgProbe, HgSource};
///
/// let probe = HgProbe::new();
/// let stable = HgSource::new("https://example.org/lib").branch("stable").source("hg")?;
/// let next = HgSource::new("https://EXAMPLE.org:443/lib/").bookmark("next").source("hg")?;
/// assert_eq!(probe.key(&stable)?, probe.key(&next)?); // answered together
/// # Ok::<(), capomastro_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct HgProbe {
    runner: Option<Arc<dyn CommandRunner>>,
    always_program: bool,
    http: Result<reqwest::Client, String>,
    program: Program,
    readers: Arc<Semaphore>,
}

/// Makes a [`HgProbe`] that differs from [`HgProbe::new`].
#[derive(Clone, Debug)]
pub struct HgProbeBuilder {
    runner: Option<Arc<dyn CommandRunner>>,
    always_program: bool,
    http: Option<reqwest::Client>,
    program: Program,
    readers: usize,
}

impl HgProbeBuilder {
    /// Who runs programs: ssh, and Python with Mercurial. Without one, sources that need them are
    /// [`Unsupported`](ErrorKind::Unsupported).
    #[must_use]
    pub fn runner(mut self, runner: Arc<dyn CommandRunner>) -> Self {
        self.runner = Some(runner);
        self
    }

    /// Whether everything is asked of hg's library through the [runner](Self::runner), so that the look happens where the
    /// runner runs things: inside a container, say. `false` unless given. The revisions are the same.
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

    /// The Python that has Mercurial's library; `python3`, looked up in `PATH`, unless given.
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

    /// What SSH servers call their hg, as a word for their shell; `hg` unless given.
    #[must_use]
    pub fn remote_hg(mut self, program: impl Into<String>) -> Self {
        self.program.remote = program.into();
        self
    }

    /// A variable for the programs, such as `PATH` or `SSH_AUTH_SOCK`. They inherit none by themselves.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.program.env.insert(name.into(), value.into());
        self
    }

    /// How many threads read repositories on this machine at a time; 16 unless given, at least 1.
    #[must_use]
    pub const fn readers(mut self, threads: usize) -> Self {
        self.readers = threads;
        self
    }

    /// The probe.
    pub fn build(self) -> HgProbe {
        let agent = concat!("capomastro-probes/", env!("CARGO_PKG_VERSION"));
        let http = self.http.map_or_else(|| web::client(agent), Ok);
        HgProbe {
            runner: self.runner,
            always_program: self.always_program,
            // Told when a source needs it: a machine without certificates can still look at files.
            http: http.map_err(|e| Error::internal("no HTTP client").with_source(e).report()),
            program: self.program,
            readers: Arc::new(Semaphore::new(self.readers.clamp(1, Semaphore::MAX_PERMITS))),
        }
    }
}

impl Default for HgProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl HgProbe {
    /// A probe without programs, with an HTTP client of its own.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A probe that differs from [`HgProbe::new`].
    pub fn builder() -> HgProbeBuilder {
        HgProbeBuilder {
            runner: None,
            always_program: false,
            http: None,
            program: Program {
                python: "python3".into(),
                ssh: "ssh".into(),
                remote: "hg".into(),
                env: BTreeMap::new(),
            },
            readers: 16,
        }
    }

    async fn look(
        &self,
        spec: &Spec,
        names: &BTreeSet<Name>,
        secrets: &Secrets,
        deadline: Duration,
    ) -> Result<BTreeMap<Name, Result<Found>>> {
        let introduction = introduction(spec, secrets).await?;
        let mut answers = match &spec.remote {
            Remote::Ssh { .. } => BTreeMap::new(),
            _ if self.always_program => BTreeMap::new(),
            Remote::File(path) => match file::look(&self.readers, path.clone(), names.clone()).await? {
                file::Looked::Answers(answers) => answers,
                file::Looked::NeedsProgram => BTreeMap::new(),
            },
            Remote::Http(url) => {
                let client = self.http.as_ref().map_err(|e| {
                    Error::new(
                        ErrorKind::Unsupported,
                        "no HTTP client could be made: give one to the builder",
                    )
                    .with_context("because", e)
                })?;
                http::look(client, url, introduction.http.as_ref(), names).await?
            }
        };
        // What was not told, or not told clearly.
        let left: Vec<Name> = names
            .iter()
            .filter(|name| matches!(answers.get(name), None | Some(Ok(Found::Unclear))))
            .cloned()
            .collect();
        for some in left.chunks(MAX_NAMES) {
            let some: BTreeSet<Name> = some.iter().cloned().collect();
            let runner = self.runner()?;
            answers.extend(self.program.look(runner, &spec.remote, &introduction, &some, deadline).await?);
        }
        Ok(answers)
    }

    fn runner(&self) -> Result<&dyn CommandRunner> {
        self.runner.as_deref().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "this repository is read by hg's library: give the hg probe's builder a runner",
            )
        })
    }
}

async fn introduction(spec: &Spec, secrets: &Secrets) -> Result<Introduction> {
    Ok(Introduction {
        ssh: SshLogin::resolve(spec.ssh_key.as_ref(), spec.known_hosts.as_ref(), secrets).await?,
        http: match &spec.login {
            Some(login) => Some(login.resolve(secrets).await?),
            None => None,
        },
    })
}

fn observation(name: &Name, node: String) -> Result<Observation> {
    let display = format!("{} {}", node.get(..SHORT_NODE).unwrap_or(&node), name.text());
    let mut observation = Observation::of(node.try_into()?);
    observation.display = Some(display);
    observation.metadata.insert(name.kind().to_owned(), name.text().to_owned());
    Ok(observation)
}

/// What answers together: the repository and who looks at it. Not the branch.
fn key_of(source: &Source, spec: &Spec) -> ProbeKey {
    let (user, password) =
        spec.login.as_ref().map_or(("", ""), |l| (l.username.as_str(), l.password.secret.as_str()));
    let ssh_key = spec.ssh_key.as_ref().map_or("", |k| k.secret.as_str());
    let hosts = spec.known_hosts.as_ref().map_or_else(String::new, |h| crate::remote::ssh::digest(h));
    let remote = spec.remote.canonical();
    let key = ProbeKey::of(&[source.probe.as_str(), &remote, user, password, ssh_key, &hosts]);
    match spec.remote.host() {
        Some(host) => key.at(host),
        None => key,
    }
}

#[async_trait]
impl RevisionProbe for HgProbe {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        Ok(key_of(source, &source.parse::<HgSource>()?.check()?))
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let mut answers: Vec<Option<Result<Probed>>> = asks.iter().map(|_| None).collect();
        // One repository, since all asks share one key; a caller that mixes them gets right answers too.
        let mut remotes: BTreeMap<ProbeKey, Vec<(usize, Spec)>> = BTreeMap::new();
        for (index, ask) in asks.iter().enumerate() {
            match ask.source.parse::<HgSource>().and_then(|s| s.check()) {
                Ok(spec) => remotes.entry(key_of(&ask.source, &spec)).or_default().push((index, spec)),
                Err(e) => answers[index] = Some(Err(e)),
            }
        }
        for members in remotes.into_values() {
            let Some((first, spec)) = members.first() else { continue };
            let remote = spec.remote.canonical();
            let deadline = members.iter().map(|(i, _)| asks[*i].deadline).max().unwrap_or_default();
            let names: BTreeSet<Name> = members.iter().map(|(_, spec)| spec.name.clone()).collect();
            let looked = self.look(spec, &names, &asks[*first].secrets, deadline).await;
            tracing::debug!(%remote, asks = members.len(), ok = looked.is_ok(), "looked at an hg repository");
            for (index, spec) in &members {
                let found = match &looked {
                    Ok(found) => match found.get(&spec.name) {
                        Some(Ok(found)) => Ok(found.clone()),
                        Some(Err(e)) => Err(e.copy()),
                        None => Err(Error::internal("a name that was asked for was not answered")),
                    },
                    Err(e) => Err(e.copy()),
                };
                let probed = found.and_then(|found| match found {
                    Found::Node(node) => observation(&spec.name, node).map(Probed::Observed),
                    Found::Nothing => Ok(Probed::NotFound),
                    Found::Unclear => Err(Error::internal("whether heads are closed was not told")),
                });
                answers[*index] = Some(probed.map_err(|e| {
                    e.with_operation("look at an hg repository")
                        .with_context("remote", &remote)
                        .with_context(spec.name.kind(), spec.name.text().escape_debug())
                }));
            }
        }
        let unanswered = || Err(Error::internal("a question to the hg probe was not answered"));
        answers.into_iter().map(|a| a.unwrap_or_else(unanswered)).collect()
    }
}
