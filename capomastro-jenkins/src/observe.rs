//! Looking at many builds with few requests: the queue once, and each job's builds once.

use crate::{
    address::JobName,
    artifacts::Digest,
    canonical::is_cut_off,
    ended,
    http::Client,
    job::{Artifacts, Built},
    launcher::Inner,
    read::{Listed, Queue},
    records::Records,
    reference::Reference,
    stand::{Facts, Stand, is_or_may_be, reach},
    wire::{self, Build},
};
use capomastro_core::{
    Error, ErrorKind, Result, Retry,
    launch::{Ended, Outcome, Report, Seen},
    model::{Artifact, ExternalRef, LaunchKey},
};
use futures_util::future::{Either, join_all, select};
use std::{collections::BTreeMap, pin::pin, time::Duration};

/// How long an item that left the queue may be without a build before it is not believed to become one.
const WITHOUT_BUILD: Duration = Duration::from_secs(30);
/// The most artifacts that are told of one build.
const MAX_ARTIFACTS: usize = 1_000;

/// One build that is looked at.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) reference: Reference,
    pub(crate) key: String,
}

/// A job's builds, and the asks about them.
#[derive(Debug)]
pub(crate) struct JobFacts {
    /// `None` if the server has no such job, or hides it.
    pub(crate) listed: Option<Listed>,
}

impl Inner {
    pub(crate) async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        let mut reports: Vec<Option<Result<Report>>> = Vec::with_capacity(builds.len());
        let mut by_job: BTreeMap<JobName, Vec<(usize, Ask)>> = BTreeMap::new();
        for (at, (key, external)) in builds.iter().enumerate() {
            let parsed = Reference::parse(external).and_then(|reference| Ok((reference.job()?, reference)));
            reports.push(match parsed {
                Ok((job, reference)) => {
                    let ask = Ask { reference, key: key.to_string() };
                    by_job.entry(job).or_default().push((at, ask));
                    None
                }
                Err(e) => Some(Err(e)),
            });
        }
        let records = Records::default();
        if !by_job.is_empty() {
            match self.client.queue().await {
                Ok(queue) => {
                    let jobs =
                        by_job.into_iter().map(|(job, asks)| self.observe_job(job, asks, &queue, &records));
                    for (at, report) in join_all(jobs).await.into_iter().flatten() {
                        reports[at] = Some(report);
                    }
                }
                Err(e) => {
                    for (at, _) in by_job.into_values().flatten() {
                        reports[at] = Some(Err(e.copy()));
                    }
                }
            }
        }
        self.save_records(records).await;
        let none = || Err(Error::internal("a build was not looked at"));
        reports.into_iter().map(|report| report.unwrap_or_else(none)).collect()
    }

    async fn observe_job(
        &self,
        name: JobName,
        asks: Vec<(usize, Ask)>,
        queue: &Queue,
        records: &Records,
    ) -> Vec<(usize, Result<Report>)> {
        let only: Vec<&Ask> = asks.iter().map(|(_, ask)| ask).collect();
        let facts = match self.facts_of(&name, &only, queue).await {
            Ok(facts) => facts,
            Err(e) => return asks.into_iter().map(|(at, _)| (at, Err(e.copy()))).collect(),
        };
        let reports = match &facts.listed {
            None => {
                let running = self.client.running().await;
                asks.iter().map(|(_, ask)| elsewhere(ask, queue, running.as_deref())).collect()
            }
            Some(listed) => {
                let all = self.index(listed, queue, &only);
                let mut reports =
                    join_all(only.iter().map(|ask| self.report(&name, ask, &all, records))).await;
                self.stop_extras(&name, &only, &all).await;
                self.look_deeper(&name, &only, listed, (queue, records), &mut reports).await;
                reports
            }
        };
        asks.into_iter().map(|(at, _)| at).zip(reports).collect()
    }

    /// A build of which no number is known yet, and that nobody seems to know, may have started long ago, with many others
    /// since: the job's builds are read down to where it can be.
    async fn look_deeper(
        &self,
        name: &JobName,
        asks: &[&Ask],
        listed: &Listed,
        (queue, records): (&Queue, &Records),
        reports: &mut [Result<Report>],
    ) {
        let is_missing = |ask: &Ask, report: &Result<Report>| {
            ask.reference.number.is_none()
                && ask.reference.floor < listed.down_to
                && matches!(report, Ok(Report { seen: Seen::Unknown, .. }))
        };
        let missing = asks.iter().zip(reports.iter()).filter(|(ask, report)| is_missing(ask, report));
        let Some(floor) = missing.map(|(ask, _)| ask.reference.floor).min() else { return };
        let deeper = match self.client.builds(name, floor, listed.job.next).await {
            Ok(deeper) if deeper.is_one_session && deeper.session == queue.session => Ok(deeper),
            Ok(_) => Err(restarted(&self.client, name)),
            Err(e) => Err(e),
        };
        for (ask, report) in asks.iter().zip(reports) {
            if is_missing(ask, report) {
                *report = match &deeper {
                    Ok(deeper) => self.report(name, ask, &self.index(deeper, queue, asks), records).await,
                    Err(e) => Err(e.copy()),
                };
            }
        }
    }

    /// Reads what is needed of a job for these builds.
    pub(crate) async fn facts_of(&self, name: &JobName, asks: &[&Ask], queue: &Queue) -> Result<JobFacts> {
        let job = name.to_string();
        let known = self.memory.next.get(&job);
        let wanted: Vec<u64> = asks.iter().map(|a| a.reference.number.unwrap_or(a.reference.floor)).collect();
        // Without knowing how far the job has come, the first page tells it.
        let highest = known.or_else(|| wanted.iter().copied().max()).unwrap_or_default();
        let listed = match self.client.builds(name, reach(highest, &wanted), known).await {
            Ok(listed) => listed,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Ok(JobFacts { listed: None });
            }
            Err(e) => return Err(e),
        };
        if let Some(next) = listed.job.next {
            self.memory.next.set(job, next, self.client.clock().monotonic());
        }
        if listed.session != queue.session || !listed.is_one_session {
            return Err(restarted(&self.client, name));
        }
        Ok(JobFacts { listed: Some(listed) })
    }

    pub(crate) fn index<'a>(&self, listed: &'a Listed, queue: &'a Queue, asks: &[&'a Ask]) -> Facts<'a> {
        let mut parameters: Vec<&str> = asks.iter().map(|a| a.reference.parameter.as_str()).collect();
        parameters.sort_unstable();
        parameters.dedup();
        Facts::new(&queue.items, &listed.job.builds, listed.down_to, &queue.session, &parameters)
    }

    async fn report(&self, name: &JobName, ask: &Ask, all: &Facts<'_>, records: &Records) -> Result<Report> {
        let reference = &ask.reference;
        match all.stand(reference, &ask.key) {
            Stand::Queued(item) => Ok(queued(reference, item, all.session)),
            Stand::Build(build) => self.of_build(name, ask, build, all.session, records).await,
            Stand::AskBuild(number) => match self.client.build(name, number, wire::BUILD).await? {
                Some((build, session)) if is_or_may_be(&build, reference, &ask.key) => {
                    match all.waiting(reference, &ask.key).filter(|_| is_cut_off(&build)) {
                        Some(item) => Ok(queued(reference, item, all.session)),
                        None => self.of_build(name, ask, &build, &session, records).await,
                    }
                }
                _ => match all.twin(reference, &ask.key) {
                    Some(Stand::Build(build)) => self.of_build(name, ask, build, all.session, records).await,
                    _ => Ok(unknown()),
                },
            },
            Stand::AskItem(id) => self.of_item(ask, id, all, records).await,
            Stand::Unknown => Ok(unknown()),
        }
    }

    /// A queue item that is neither in the queue nor, as far as can be seen, a build.
    async fn of_item(&self, ask: &Ask, id: u64, all: &Facts<'_>, records: &Records) -> Result<Report> {
        let reference = &ask.reference;
        let Some((item, session)) = self.client.item(id).await? else { return Ok(unknown()) };
        let is_ours = session == reference.session
            && (item.parameters.is_none() || item.carries(&reference.parameter, &ask.key));
        if !is_ours {
            return Ok(unknown());
        }
        if let Some(number) = item.executable {
            let name = match item.job {
                Some(job) => job,
                None => reference.job()?,
            };
            // It has begun since the list was read, or its record is gone.
            let moved = Ask {
                reference: Reference { job: name.to_string(), ..reference.clone() },
                key: ask.key.clone(),
            };
            return match self.client.build(&name, number, wire::BUILD).await? {
                Some((build, session)) if is_or_may_be(&build, reference, &ask.key) => {
                    self.of_build(&name, &moved, &build, &session, records).await
                }
                _ => Ok(unknown()),
            };
        }
        if item.is_cancelled {
            let mut ended = Ended::new(Outcome::Cancelled);
            ended.message = Some("it was taken out of Jenkins' queue".into());
            return Ok(Report { external: None, seen: Seen::Ended(ended) });
        }
        if item.has_left {
            let now = self.client.clock().monotonic();
            let since = self.memory.left.first((id, session), now, now);
            if now.since(since) >= WITHOUT_BUILD {
                return Ok(unknown());
            }
        }
        Ok(queued(reference, &item, all.session))
    }

    async fn of_build(
        &self,
        name: &JobName,
        ask: &Ask,
        build: &Build,
        session: &str,
        records: &Records,
    ) -> Result<Report> {
        let mut now = ask.reference.clone().started(build.number);
        if !build.has_ended() {
            self.note_record(records, name, ask, build);
            session.clone_into(&mut now.session);
            return Ok(Report { external: renamed(&ask.reference, now), seen: Seen::Running });
        }
        let is_restarted = session != ask.reference.session;
        let (outcome, message) = ended::outcome(build, is_restarted);
        let mut end = Ended::new(outcome);
        end.message = message;
        if ask.reference.artifacts != Artifacts::None || !ask.reference.built.is_default() {
            let whole = match self.client.build(name, build.number, wire::BUILD_END).await {
                Ok(Some((whole, _))) => whole,
                Ok(None) => return Ok(unknown()),
                // It will be no other: the end is worth more than what it left.
                Err(e) if e.retry() == Retry::Never => {
                    tracing::warn!(error = %e.report(), "what a build left cannot be read");
                    return Ok(Report { external: renamed(&ask.reference, now), seen: Seen::Ended(end) });
                }
                Err(e) => return Err(e),
            };
            end.built = match &ask.reference.built {
                Built::Unknown => None,
                Built::Git { .. } => ended::git_revision(&whole, &ask.reference.built),
                Built::Artifact { path } => {
                    match self.built_revision(name, build.number, path, &whole).await {
                        Ok(revision) => revision,
                        Err(e) if e.retry() == Retry::Never => {
                            tracing::warn!(error = %e.report(), "the built revision cannot be read");
                            None
                        }
                        Err(e) => return Err(e),
                    }
                }
            };
            end.artifacts = self.artifacts(name, &whole, ask.reference.artifacts).await;
        }
        Ok(Report { external: renamed(&ask.reference, now), seen: Seen::Ended(end) })
    }

    /// What a build left. Digests are read for so long, since other builds wait for this look; the rest is told without.
    async fn artifacts(&self, name: &JobName, build: &Build, which: Artifacts) -> Vec<Artifact> {
        let mut all = Vec::new();
        if which == Artifacts::None {
            return all;
        }
        let mut late = self.client.clock().sleep(self.options.digest_timeout);
        let mut is_late = false;
        let (good, bad): (Vec<&String>, Vec<&String>) =
            build.artifacts.iter().partition(|path| crate::job::is_artifact_path(path));
        if !bad.is_empty() || good.len() > MAX_ARTIFACTS {
            tracing::warn!(job = %name, number = build.number, bad = bad.len(), all = good.len(),
                "artifacts whose paths lead outside, or that are too many, are left out");
        }
        for path in good.into_iter().take(MAX_ARTIFACTS) {
            let mut artifact = Artifact { name: path.clone(), digest: None, size: None, location: None };
            artifact.location = Some(format!("{}artifact/{path}", name.page(build.number)));
            if which == Artifacts::Digest && !is_late {
                match select(pin!(self.digest(name, build.number, path)), &mut late).await {
                    Either::Left((Ok(Digest::Of { digest, size }), _)) => {
                        (artifact.digest, artifact.size) = (Some(digest), Some(size));
                    }
                    Either::Left((Ok(Digest::TooLarge), _)) => {}
                    // A symbolic link: it is listed, and nothing is there.
                    Either::Left((Ok(Digest::Gone), _)) => continue,
                    Either::Left((Err(e), _)) => {
                        tracing::warn!(error = %e.report(), "an artifact cannot be digested");
                    }
                    Either::Right(_) => is_late = true,
                }
            }
            all.push(artifact);
        }
        if is_late {
            tracing::warn!(job = %name, number = build.number, "not all artifacts could be digested in time");
        }
        all
    }
}

fn restarted(client: &Client, name: &JobName) -> Error {
    let message = "the server was restarted while it was asked: it is asked again";
    client.name(Error::new(ErrorKind::Unavailable, message), Some(name))
}

const fn unknown() -> Report {
    Report { external: None, seen: Seen::Unknown }
}

fn queued(reference: &Reference, item: &wire::Item, session: &str) -> Report {
    let mut now = reference.clone().queued(item.id);
    session.clone_into(&mut now.session);
    if let Some(job) = &item.job {
        now.job = job.to_string();
    }
    let why = item.why.clone().map(|why| if item.is_stuck { format!("{why} (stuck)") } else { why });
    Report { external: renamed(reference, now), seen: Seen::Queued { why } }
}

fn renamed(before: &Reference, now: Reference) -> Option<ExternalRef> {
    (*before != now).then(|| now.external())
}

/// The job is not where it was: it was moved with its builds, or is gone, or hidden.
fn elsewhere(ask: &Ask, queue: &Queue, running: Result<&[(JobName, Build)], &Error>) -> Result<Report> {
    let reference = &ask.reference;
    if let Some(item) = queue.items.iter().find(|i| i.carries(&reference.parameter, &ask.key)) {
        return Ok(queued(reference, item, &queue.session));
    }
    let running = running.map_err(Error::copy)?;
    let moved = running.iter().find(|(_, b)| b.carries(&reference.parameter, &ask.key));
    Ok(moved.map_or_else(unknown, |(job, build)| {
        let mut now = reference.clone().started(build.number);
        now.job = job.to_string();
        queue.session.clone_into(&mut now.session);
        Report { external: renamed(reference, now), seen: Seen::Running }
    }))
}
