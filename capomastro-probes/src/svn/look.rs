//! One look at one repository for all asks.

use super::{
    SvnProbe,
    answer::{Failed, Found, Node, Nodes},
    daemon,
    http::{self, Looked},
    key::{Remote, encoded, file_url},
    local,
    program::Means,
    revision::SvnRevision,
    source::Spec,
    tunnel::Tunnel,
};
use crate::remote::{http::Credentials, ssh::SshLogin};
use capomastro_core::{
    Error, ErrorKind, Result,
    command::CommandRunner,
    model::{Observation, Revision},
    probe::{Ask, Probed},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};
use url::Url;

impl SvnProbe {
    /// What is at the paths of these asks, whose remotes and credentials are the same.
    pub(super) async fn look(&self, questions: &[(&Ask, &Spec)]) -> Result<Vec<Result<Probed>>> {
        let Some((first, spec)) = questions.first() else { return Ok(Vec::new()) };
        let deadline = questions.iter().map(|(ask, _)| ask.deadline).max().unwrap_or_default();
        let limits = (deadline, self.max_answer);
        let paths: BTreeSet<&str> = questions.iter().map(|(_, spec)| spec.path.as_str()).collect();
        let paths: Vec<String> = paths.into_iter().map(str::to_owned).collect();
        let credentials = match &spec.login {
            Some(login) => Some(login.resolve(&first.secrets).await?),
            None => None,
        };
        let credentials = credentials.as_ref();
        if credentials.is_some_and(|c| c.password.expose().contains(['\n', '\r', '\0'])) {
            return Err(Error::config(
                "the password has several lines, which Subversion does not take: check the secret",
            ));
        }
        let login =
            SshLogin::resolve(spec.ssh_key.as_ref(), spec.known_hosts.as_ref(), &first.secrets).await?;
        let mut means = Means { credentials, ..Means::default() };
        let told = match &spec.remote {
            Remote::File(path) => return self.look_here(path, questions, &paths, limits).await,
            Remote::Ssh { user, host, port, .. } => {
                means.ssh = Some((&login, *port));
                if self.always_program {
                    None
                } else {
                    let tunnel = Tunnel::Ssh { user, host, port: *port, login: &login };
                    let url = spec.remote.canonical();
                    self.program.tunnel(self.runner()?, tunnel, &url, &paths, limits).await?
                }
            }
            _ if self.always_program => None,
            Remote::Http(url) => self.look_http(url, &paths, credentials).await?,
            Remote::Daemon { host, port, .. } => {
                let url = spec.remote.canonical();
                let told = daemon::look((host, *port), &url, &paths, credentials, self.max_answer).await;
                told.map_err(|e| discreet(e, credentials))?
            }
        };
        match told {
            Some(nodes) => Ok(answers(questions, |spec| nodes.get(&spec.path), |_, _| None)),
            None => self.run(questions, means, limits).await,
        }
    }

    fn runner(&self) -> Result<&dyn CommandRunner> {
        self.runner.as_deref().ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "this repository is read by the programs of Subversion: give the svn probe's builder a runner",
            )
        })
    }

    /// A repository on this machine.
    async fn look_here(
        &self,
        path: &Path,
        questions: &[(&Ask, &Spec)],
        paths: &[String],
        limits: (Duration, u64),
    ) -> Result<Vec<Result<Probed>>> {
        let place = local::find(&self.readers, path.to_owned()).await?;
        let means = Means { root: Some(&place.root), ..Means::default() };
        if self.always_program {
            return self.run(questions, means, limits).await;
        }
        let inner = |path: &str| match (place.inner.as_str(), path) {
            ("", path) => path.to_owned(),
            (inner, "") => inner.to_owned(),
            (inner, path) => format!("{inner}/{path}"),
        };
        let cursor = |path: &str| place.state.as_ref().map(|state| format!("fsfs {state} {}", inner(path)));
        let is_same = |(ask, spec): &(&Ask, &Spec)| {
            ask.seen.is_some() && ask.cursor.is_some() && ask.cursor == cursor(&spec.path)
        };
        if questions.iter().all(is_same) {
            return Ok(questions.iter().map(|_| Ok(Probed::SameAsSeen)).collect());
        }
        let inners: Vec<String> = paths.iter().map(|path| inner(path)).collect();
        // What stands before the path is not looked at.
        let root = file_url(&place.root);
        let url = format!("svn://localhost{}", root.trim_start_matches("file://").trim_end_matches('/'));
        let tunnel = Tunnel::Here(&place.root);
        match self.program.tunnel(self.runner()?, tunnel, &url, &inners, limits).await? {
            Some(nodes) => {
                Ok(answers(questions, |spec| nodes.get(&inner(&spec.path)), |spec, _| cursor(&spec.path)))
            }
            None => self.run(questions, means, limits).await,
        }
    }

    /// `None` if only the svn program can log in.
    async fn look_http(
        &self,
        url: &Url,
        paths: &[String],
        credentials: Option<&Credentials>,
    ) -> Result<Option<Nodes>> {
        let client = self.http.as_ref().map_err(|e| {
            Error::new(ErrorKind::Unsupported, "no HTTP client could be made: give one to the builder")
                .with_context("because", e)
        })?;
        let mut nodes = Nodes::new();
        for path in paths {
            match http::look(client, url, &encoded(path), credentials, self.max_answer).await {
                Ok(Looked::Found(found)) => drop(nodes.insert(path.clone(), Ok(found))),
                Ok(Looked::NeedsProgram) => return Ok(None),
                Err(Failed::This(e)) => drop(nodes.insert(path.clone(), Err(e))),
                Err(Failed::All(e)) => return Err(e),
            }
        }
        Ok(Some(nodes))
    }

    /// Through the svn program, path by path.
    async fn run(
        &self,
        questions: &[(&Ask, &Spec)],
        means: Means<'_>,
        limits: (Duration, u64),
    ) -> Result<Vec<Result<Probed>>> {
        let runner = self.runner()?;
        let mut nodes = Nodes::new();
        for (_, spec) in questions {
            if nodes.contains_key(&spec.path) {
                continue;
            }
            // If nothing was committed anywhere since all of them saw it, what they saw is what is there.
            let is_seen = |node: &Node| {
                let mut here = questions.iter().filter(|(_, s)| s.path == spec.path);
                here.all(|(ask, spec)| ask.cursor == cursor_of(node) && is_at(ask, node, spec.with_date))
            };
            let url = spec.remote.for_program();
            match self.program.info(runner, &url, &spec.path, means, limits, is_seen).await {
                Ok(found) => drop(nodes.insert(spec.path.clone(), Ok(found))),
                Err(Failed::This(e)) => {
                    nodes.insert(spec.path.clone(), Err(discreet(e, means.credentials)));
                }
                Err(Failed::All(e)) => return Err(discreet(e, means.credentials)),
            }
        }
        Ok(answers(questions, |spec| nodes.get(&spec.path), |_, node| cursor_of(node)))
    }
}

/// What tells that nothing was committed anywhere in the repository.
fn cursor_of(node: &Node) -> Option<String> {
    node.head.map(|head| format!("head {}@{head}", node.uuid))
}

/// Whether somebody has seen this, wherever its content comes from.
fn is_at(ask: &Ask, node: &Node, with_date: bool) -> bool {
    let now = node.revision(with_date);
    let seen = ask.seen.as_ref().and_then(|seen| SvnRevision::try_from(seen).ok());
    seen.is_some_and(|seen| (seen.uuid, seen.number, seen.date) == (now.uuid, now.number, now.date))
}

/// The answer to each ask, of what was found at its path.
fn answers<'a>(
    questions: &[(&Ask, &Spec)],
    found: impl Fn(&Spec) -> Option<&'a Result<Found>>,
    cursor: impl Fn(&Spec, &Node) -> Option<String>,
) -> Vec<Result<Probed>> {
    let answer = |(ask, spec): &(&Ask, &Spec)| match found(spec) {
        Some(Ok(Found::Node(node))) => {
            let accounted = ask.accounted.as_ref();
            observation(node, spec.with_date, accounted, cursor(spec, node)).map(Probed::Observed)
        }
        Some(Ok(Found::Same)) => Ok(Probed::SameAsSeen),
        Some(Ok(Found::Nothing)) => Ok(Probed::NotFound),
        Some(Err(e)) => Err(Error::new(e.kind(), e.report()).with_retry(e.retry())),
        None => Err(Error::internal("a path was not looked at")),
    };
    questions.iter().map(answer).collect()
}

fn observation(
    node: &Node,
    with_date: bool,
    accounted: Option<&Revision>,
    cursor: Option<String>,
) -> Result<Observation> {
    let revision = node.revision(with_date);
    let mut display = format!("r{}", revision.number);
    let mut metadata = BTreeMap::from([
        ("uuid".to_owned(), revision.uuid.clone()),
        ("revision".to_owned(), revision.number.to_string()),
    ]);
    if let Some(path) = &revision.path {
        display += &format!(" ({path})");
        metadata.insert("path".into(), path.clone());
    }
    if let Some(date) = &node.date {
        metadata.insert("date".into(), date.clone());
    }
    if let Some(author) = &node.author {
        metadata.insert("author".into(), author.clone());
    }
    let accounted = accounted.and_then(|a| SvnRevision::try_from(a).ok());
    let relation = accounted.and_then(|accounted| node.relation(&accounted));
    let mut observation = Observation::of(revision.try_into()?);
    observation.cursor = cursor;
    observation.display = Some(display);
    observation.relation = relation;
    observation.metadata = metadata;
    Ok(observation)
}

/// Hides an error that repeats our password: a server may repeat what it was sent.
pub(super) fn discreet(e: Error, credentials: Option<&Credentials>) -> Error {
    match credentials {
        Some(c) if !c.password.expose().is_empty() && e.report().contains(c.password.expose()) => {
            Error::new(e.kind(), "the server's complaint repeats our credentials and is not shown")
                .with_retry(e.retry())
        }
        _ => e,
    }
}
