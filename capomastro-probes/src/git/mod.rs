//! Git repositories as sources.
//!
//! | remote | how it is asked |
//! |---|---|
//! | `/path`, `file://` | in process; the git program where refs are kept in tables (reftable) |
//! | `http://`, `https://` | in process, over [`reqwest`] |
//! | `git://` | in process |
//! | `ssh://`, `user@host:path`, or all where the builder says so | `git ls-remote` through a [`CommandRunner`] |
//!
//! All refs of one remote that are asked for together are answered by one listing. Only refs are read, never content; for
//! repositories on this machine also as much history as tells the relation to the accounted revision.
//!
//! A revision is the full object id of the ref, of what it stands for where it is an annotated tag. So a force push, a
//! rewind, or a branch that was deleted and made anew elsewhere is a change like any other, and a repack, a new
//! default branch at the same commit or a tag that was signed again is none.
//!
//! Credentials are references to secrets. They are resolved for each look, go to the server of the source only, and
//! appear in no error, no log, no argument and no file on a disk.

mod daemon;
#[cfg(feature = "job-types")]
mod export;
mod file;
mod http;
mod key;
mod listing;
mod program;
mod protocol;
mod relation;
mod source;

pub use source::GitSource;

use crate::remote::{
    http as web,
    ssh::{self, SshLogin},
};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    command::CommandRunner,
    model::{Observation, ProbeKey, Relation, Source},
    probe::{Ask, Probed, RevisionProbe},
    secret::Secrets,
};
use file::{Looked, Question, Seen};
use key::Remote;
use listing::{Found, Listing, Wants};
use program::{Introduction, Program};
use source::Spec;
use std::{collections::BTreeMap, ffi::OsString, sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// How many characters of an object id are shown to people.
const SHORT_ID: usize = 12;

/// Looks at git repositories.
///
/// Needs a tokio runtime with I/O. The caller's deadline is kept by dropping the future: no connection, process or walk
/// through history outlives it.
///
/// ```
/// use capomastro_probes::git::{GitProbe, GitSource};
/// use capomastro_core::probe::RevisionProbe;
///
/// let probe = GitProbe::new();
/// let main = GitSource::new("https://example.org/lib.git").branch("main").source("git")?;
/// let v1 = GitSource::new("https://EXAMPLE.org:443/lib.git/").tag("v1").source("git")?;
/// assert_eq!(probe.key(&main)?, probe.key(&v1)?); // answered together
/// # Ok::<(), capomastro_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct GitProbe {
    runner: Option<Arc<dyn CommandRunner>>,
    always_program: bool,
    http: Result<reqwest::Client, String>,
    program: Program,
    relation_limit: usize,
    max_listing: u64,
    readers: Arc<Semaphore>,
}

/// Makes a [`GitProbe`] that differs from [`GitProbe::new`].
#[derive(Clone, Debug)]
pub struct GitProbeBuilder {
    runner: Option<Arc<dyn CommandRunner>>,
    always_program: bool,
    http: Option<reqwest::Client>,
    program: Program,
    relation_limit: usize,
    max_listing: u64,
    readers: usize,
}

impl GitProbeBuilder {
    /// Who runs the git program, which ssh needs. Without one, sources behind ssh are
    /// [`Unsupported`](ErrorKind::Unsupported).
    #[must_use]
    pub fn runner(mut self, runner: Arc<dyn CommandRunner>) -> Self {
        self.runner = Some(runner);
        self
    }

    /// Whether every remote is asked by the git program through the [runner](Self::runner), so that the look happens where
    /// the runner runs things: inside a container, say. `false` unless given. The revisions are the same; relations are
    /// told in process only.
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

    /// The git program; `git`, looked up in `PATH`, unless given.
    #[must_use]
    pub fn git(mut self, program: impl Into<OsString>) -> Self {
        self.program.git = program.into();
        self
    }

    /// The ssh program; `ssh`, looked up in `PATH`, unless given. It has to understand the options of OpenSSH.
    #[must_use]
    pub fn ssh(mut self, program: impl Into<String>) -> Self {
        self.program.ssh = program.into();
        self
    }

    /// A variable for the git program, such as `PATH`, `HOME` or `SSH_AUTH_SOCK`. It inherits none by itself.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.program.env.insert(name.into(), value.into());
        self
    }

    /// How many commits of a repository on this machine are looked at for a relation; 10,000 unless given, 0 for never.
    #[must_use]
    pub const fn relation_limit(mut self, commits: usize) -> Self {
        self.relation_limit = commits;
        self
    }

    /// How many bytes a server's list of refs may have, unpacked; 64 MiB unless given.
    #[must_use]
    pub const fn max_listing_bytes(mut self, bytes: u32) -> Self {
        self.max_listing = bytes as u64;
        self
    }

    /// How many threads read repositories on this machine at a time; 16 unless given, at least 1.
    #[must_use]
    pub const fn readers(mut self, threads: usize) -> Self {
        self.readers = threads;
        self
    }

    /// The probe.
    pub fn build(self) -> GitProbe {
        let http = self.http.map_or_else(|| web::client(protocol::AGENT), Ok);
        GitProbe {
            runner: self.runner,
            always_program: self.always_program,
            // Told when a source needs it: a machine without certificates can still look at files.
            http: http.map_err(|e| Error::internal("no HTTP client").with_source(e).report()),
            program: self.program,
            relation_limit: self.relation_limit,
            max_listing: self.max_listing,
            readers: Arc::new(Semaphore::new(self.readers.clamp(1, Semaphore::MAX_PERMITS))),
        }
    }
}

impl Default for GitProbe {
    fn default() -> Self {
        Self::new()
    }
}

impl GitProbe {
    /// A probe without ssh, with an HTTP client of its own.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A probe that differs from [`GitProbe::new`].
    pub fn builder() -> GitProbeBuilder {
        GitProbeBuilder {
            runner: None,
            always_program: false,
            http: None,
            program: Program { git: "git".into(), ssh: "ssh".into(), env: BTreeMap::new() },
            relation_limit: 10_000,
            max_listing: 64 * 1024 * 1024,
            readers: 16,
        }
    }

    /// One look at one remote for all asks.
    async fn look(&self, spec: &Spec, asks: &[(&Ask, &str)]) -> Result<Vec<Result<Option<Seen>>>> {
        let wants: Wants = asks.iter().map(|(_, name)| (*name).to_owned()).collect();
        let Some((first, _)) = asks.first() else { return Ok(Vec::new()) };
        let deadline = asks.iter().map(|(ask, _)| ask.deadline).max().unwrap_or_default();
        let listing = match &spec.remote {
            _ if self.always_program => self.run(spec, &first.secrets, &wants, deadline).await?,
            Remote::File(path) => {
                let questions = asks.iter().map(|(ask, name)| Question {
                    name: (*name).to_owned(),
                    accounted: ask.accounted.clone().filter(|_| self.relation_limit > 0),
                });
                match file::look(&self.readers, path.clone(), questions.collect(), self.relation_limit)
                    .await?
                {
                    Looked::Answers(answers) => return Ok(answers),
                    Looked::NeedsProgram => self.run(spec, &first.secrets, &wants, deadline).await?,
                }
            }
            Remote::Http(url) => {
                let client = self.http.as_ref().map_err(|e| {
                    Error::new(
                        ErrorKind::Unsupported,
                        "no HTTP client could be made: give one to the builder",
                    )
                    .with_context("because", e)
                })?;
                let credentials = credentials(spec, &first.secrets).await?;
                http::list(client, url, credentials.as_ref(), &wants, self.max_listing).await?
            }
            Remote::Daemon { host, port, path } => {
                daemon::list(host, *port, path, &wants, self.max_listing).await?
            }
            Remote::Ssh { .. } => self.run(spec, &first.secrets, &wants, deadline).await?,
        };
        Ok(asks.iter().map(|(_, name)| Ok(seen(&listing, name))).collect())
    }

    async fn run(
        &self,
        spec: &Spec,
        secrets: &Secrets,
        wants: &Wants,
        deadline: Duration,
    ) -> Result<Listing> {
        let runner = self.runner.as_deref().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "this repository is read by the git program: give the git probe's builder a runner",
            )
        })?;
        let introduction = Introduction {
            ssh: SshLogin::resolve(spec.ssh_key.as_ref(), spec.known_hosts.as_ref(), secrets).await?,
            http: credentials(spec, secrets).await?,
        };
        let max = usize::try_from(self.max_listing).unwrap_or(usize::MAX);
        self.program.list(runner, &spec.remote, &introduction, wants, (deadline, max)).await
    }
}

async fn credentials(spec: &Spec, secrets: &Secrets) -> Result<Option<web::Credentials>> {
    match &spec.login {
        Some(login) => Ok(Some(login.resolve(secrets).await?)),
        None => Ok(None),
    }
}

fn seen(listing: &Listing, name: &str) -> Option<Seen> {
    listing.get(name).map(|found| Seen { found: found.clone(), relation: None })
}

/// What is told about a ref that is there.
fn observation(name: &str, found: Found, relation: Option<Relation>) -> Result<Observation> {
    let mut metadata = BTreeMap::from([("ref".to_owned(), name.to_owned())]);
    let revision = match found.peeled {
        Some(peeled) => {
            metadata.insert("tag_object".into(), found.id);
            peeled
        }
        None => found.id,
    };
    let mut display = format!("{} {}", revision.get(..SHORT_ID).unwrap_or(&revision), short_name(name));
    if let Some(target) = found.target {
        display.push_str(&format!(" ({})", short_name(&target)));
        metadata.insert("points_to".into(), target);
    }
    let mut observation = Observation::of(revision.try_into()?);
    observation.display = Some(display);
    observation.relation = relation;
    observation.metadata = metadata;
    Ok(observation)
}

fn short_name(name: &str) -> &str {
    name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/")).unwrap_or(name)
}

/// What answers together: the remote and who looks at it. Not the ref.
fn key_of(source: &Source, spec: &Spec) -> ProbeKey {
    let (user, password) =
        spec.login.as_ref().map_or(("", ""), |l| (l.username.as_str(), l.password.secret.as_str()));
    let ssh_key = spec.ssh_key.as_ref().map_or("", |k| k.secret.as_str());
    let hosts = spec.known_hosts.as_ref().map_or_else(String::new, |hosts| ssh::digest(hosts));
    let key =
        ProbeKey::of(&[source.probe.as_str(), &spec.remote.canonical(), user, password, ssh_key, &hosts]);
    match spec.remote.host() {
        Some(host) => key.at(host),
        None => key,
    }
}

#[async_trait]
impl RevisionProbe for GitProbe {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        Ok(key_of(source, &source.parse::<GitSource>()?.check()?))
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let mut answers: Vec<Option<Result<Probed>>> = asks.iter().map(|_| None).collect();
        // One remote, since all asks share one key; a caller that mixes them gets right answers too.
        let mut remotes: BTreeMap<ProbeKey, (Spec, Vec<(usize, String)>)> = BTreeMap::new();
        for (index, ask) in asks.iter().enumerate() {
            match ask.source.parse::<GitSource>().and_then(|s| s.check()) {
                Ok(spec) => {
                    let name = spec.name.clone();
                    let key = key_of(&ask.source, &spec);
                    remotes.entry(key).or_insert_with(|| (spec, Vec::new())).1.push((index, name));
                }
                Err(e) => answers[index] = Some(Err(e)),
            }
        }
        for (spec, members) in remotes.into_values() {
            let remote = spec.remote.canonical();
            let named: Vec<(&Ask, &str)> =
                members.iter().map(|(i, name)| (&asks[*i], name.as_str())).collect();
            match self.look(&spec, &named).await {
                Ok(seen) => {
                    tracing::debug!(%remote, refs = named.len(), "listed the refs of a git remote");
                    for ((index, name), seen) in members.into_iter().zip(seen) {
                        answers[index] = Some(match seen {
                            Ok(Some(s)) => observation(&name, s.found, s.relation).map(Probed::Observed),
                            Ok(None) => Ok(Probed::NotFound),
                            Err(e) => Err(placed(e, &remote).with_context("ref", name)),
                        });
                    }
                }
                Err(e) => {
                    let (kind, retry) = (e.kind(), e.retry());
                    let report = placed(e, &remote).report();
                    tracing::debug!(%remote, refs = named.len(), error = %report, "could not list a git remote");
                    for (index, _) in members {
                        answers[index] = Some(Err(Error::new(kind, report.clone()).with_retry(retry)));
                    }
                }
            }
        }
        let unanswered = || Err(Error::internal("a question to the git probe was not answered"));
        answers.into_iter().map(|a| a.unwrap_or_else(unanswered)).collect()
    }
}

fn placed(e: Error, remote: &str) -> Error {
    e.with_operation("look at a git remote").with_context("remote", remote)
}
