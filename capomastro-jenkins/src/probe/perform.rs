//! One look: finds or starts a run, follows it, reads its log, stops it when its time has passed.

use super::{
    answer::{self, Scan},
    hex,
    runs::{self, At, Next, Run},
    source::{JobSource, Language},
};
use crate::{
    address::{JobName, Place},
    http::{Body, Call, Client, Reply, Verdict, of_trigger},
    template::names,
};
use capomastro_core::{
    Error, ErrorKind, Result,
    model::{ProbeKey, Revision},
    probe::{Ask, Probed},
    time::Monotonic,
};
use futures_util::future::{Either, select};
use reqwest::StatusCode;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What is left of a deadline for stopping a run and for the answer to reach the caller.
const RESERVE: Duration = Duration::from_secs(5);
/// How long a run is waited for whose request got no answer, or that is too young to tell.
const UNCERTAIN: Duration = Duration::from_secs(15);
/// The most bytes of a log that are read.
const MAX_LOG: usize = 64 * 1024 * 1024;
/// How large the list of runs, or of the queue, may be.
const MAX_JSON: usize = 16 * 1024 * 1024;
/// A run ends itself a little later than we stop it, in seconds.
const LATER: u64 = 5;

struct Look<'a> {
    client: &'a Client,
    job: JobName,
    source: &'a JobSource,
    ask: &'a Ask,
    id: String,
    began: Monotonic,
    trigger_age: Option<Duration>,
    /// How long the whole look may take.
    within: Duration,
    /// Where the run is that is followed, for whoever has to stop it.
    followed: Mutex<Option<At>>,
}

pub(super) async fn look(
    client: &Client,
    source: &JobSource,
    key: &ProbeKey,
    ask: &Ask,
    trigger_age: Option<Duration>,
) -> Result<Probed> {
    let job = JobName::parse(&source.job)?;
    let reserve = RESERVE.min(ask.deadline / 5);
    let within = source.timeout.unwrap_or(ask.deadline).min(ask.deadline.saturating_sub(reserve));
    let look = Look {
        client,
        id: id_of(source, key, ask),
        job,
        source,
        ask,
        began: client.clock().monotonic(),
        trigger_age,
        within,
        followed: Mutex::new(None),
    };
    let clock = client.clock();
    match select(pin!(look.run()), pin!(clock.sleep(within))).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => {
            let (stop, limit) = (pin!(look.stop_followed()), pin!(clock.sleep(reserve / 2)));
            let is_stopped = matches!(select(stop, limit).await, Either::Left((Ok(()), _)));
            let message = "the job did not answer within its time: make it faster, give agents to it, or allow it more time";
            Err(look
                .named(Error::new(ErrorKind::TimedOut, message))
                .with_context("time", format!("{within:?}"))
                .with_context("stopped", is_stopped))
        }
    }
}

/// What names the question. In the language `changed` it is about one dependency and its last build.
fn id_of(source: &JobSource, key: &ProbeKey, ask: &Ask) -> String {
    let text = |revision: &Option<Revision>| revision.as_ref().map_or("", Revision::as_str).to_owned();
    let mut parts = vec![key.as_str().to_owned(), text(&ask.seen)];
    if source.language == Language::Changed {
        parts.extend([ask.dependency.to_string(), text(&ask.accounted)]);
        parts.push(ask.last_start.map(|at| at.to_rfc3339()).unwrap_or_default());
    }
    let mut digest = Sha256::new();
    for part in &parts {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    hex(&digest.finalize()).chars().take(32).collect()
}

impl Look<'_> {
    async fn run(&self) -> Result<Probed> {
        let run = self.find_or_start().await?;
        self.follows(run.at);
        let number = match run.at {
            At::Build(number) => number,
            At::Item(item) => self.until_started(item).await?,
        };
        self.follows(At::Build(number));
        self.until_ended(number).await?;
        let lines = self.printed(number, &run.mark).await?;
        answer::read(self.source.language, &lines, self.ask)
            .map_err(|e| self.named(e).with_context("number", number))
    }

    async fn find_or_start(&self) -> Result<Run> {
        loop {
            match runs::choose(&self.known().await?, self.age_of_trigger()) {
                Next::Join(run) => return Ok(run),
                Next::LookAgain if self.passed() < UNCERTAIN => self.pause().await,
                Next::LookAgain => return self.start().await,
                Next::Start { stop } => {
                    for at in stop {
                        // One that goes on all the same only costs its time.
                        if let Err(error) = self.stop(at).await {
                            tracing::warn!(error = %error.report(), "a run of a probe that is of no use could not be stopped");
                        }
                    }
                    return self.start().await;
                }
            }
        }
    }

    /// The unfinished runs with our id. The queue is read first: what leaves it meanwhile is a build by then.
    async fn known(&self) -> Result<runs::Known> {
        let (queue, _) = self
            .client
            .json(Place::of(["queue", "api", "json"]).with("tree", runs::QUEUE), Some(&self.job))
            .await?;
        let call = Call::get(self.job.api(runs::RUNS)).max(MAX_JSON).about(&self.job);
        let reply = self.client.exchange(call).await?;
        if reply.status == StatusCode::NOT_FOUND && reply.is_of_jenkins() {
            let message = "there is no such job, or the user may not see it: make it from a template for probes, or mend its name";
            return Err(self.named(Error::new(ErrorKind::NotFound, message)));
        }
        let job = reply.json().map_err(|e| self.named(e))?;
        let date = reply.headers.get(reqwest::header::DATE).and_then(|d| d.to_str().ok());
        let now = date.and_then(|d| chrono::DateTime::parse_from_rfc2822(d).ok());
        let now = now.and_then(|now| u64::try_from(now.timestamp_millis()).ok());
        Ok(runs::known(&queue, &job, self.job.as_str(), &self.id, now))
    }

    async fn start(&self) -> Result<Run> {
        let mark = format!("{:032x}", self.client.settings().random.bits());
        let mut call = Call::post(self.job.at(["buildWithParameters"]), Body::Form(self.parameters(&mark)));
        call = call.about(&self.job);
        match of_trigger(self.client.exchange(call).await, &self.job) {
            Verdict::Accepted(Some(item)) => Ok(Run { at: At::Item(item), mark, age: None }),
            Verdict::Accepted(None) => self.until_found(None).await,
            Verdict::Unknown(error) => self.until_found(Some(error)).await,
            Verdict::NotQueued => {
                let message = "the server's queue does not take the job now";
                Err(self.named(Error::new(ErrorKind::Unavailable, message)))
            }
            Verdict::Rejected(reason) => Err(self.named(Error::config(reason))),
            Verdict::NoEffect(error) => Err(error),
        }
    }

    fn parameters(&self, mark: &str) -> Vec<(String, String)> {
        let text = |revision: &Option<Revision>| revision.as_ref().map_or("", Revision::as_str).to_owned();
        let (ask, source) = (self.ask, self.source);
        let language = match source.language {
            Language::Token => "token",
            Language::Changed => "changed",
        };
        let mut all: Vec<(String, String)> =
            source.parameters.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
        add(names::PROBE_ID, self.id.clone());
        add(names::PROBE_MARK, mark.to_owned());
        add(names::PROBE_LANGUAGE, language.to_owned());
        add(names::PROBE_SECONDS, (self.within.as_secs() + LATER).to_string());
        if source.language == Language::Changed {
            let (last, last_unix) = ask.last_start.map_or_else(Default::default, |at| {
                (at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(), at.timestamp().to_string())
            });
            for (name, value) in [
                (names::DEPENDENCY, ask.dependency.to_string()),
                (names::OBSERVED, text(&ask.seen)),
                (names::ACCOUNTED, text(&ask.accounted)),
                (names::LAST_BUILD, last),
                (names::LAST_BUILD_UNIX, last_unix),
            ] {
                if !source.parameters.contains_key(name) {
                    add(name, value);
                }
            }
        }
        add("delay", "0sec".to_owned());
        all
    }

    /// The run of a request whose answer did not name it.
    async fn until_found(&self, error: Option<Error>) -> Result<Run> {
        let began = self.passed();
        while self.passed().saturating_sub(began) < UNCERTAIN {
            if let Next::Join(run) = runs::choose(&self.known().await?, None) {
                return Ok(run);
            }
            self.pause().await;
        }
        let message = "the request for a run got no answer, and no run is there: look again";
        let unknown = Error::new(ErrorKind::Unavailable, message);
        Err(self.named(match error {
            Some(error) => unknown.with_source(error),
            None => unknown,
        }))
    }

    /// The number of the build that a queue item becomes.
    async fn until_started(&self, item: u64) -> Result<u64> {
        let id = item.to_string();
        let place = Place::of(["queue", "item", &id, "api", "json"]).with("tree", runs::ITEM);
        let mut is_gone_since = None;
        loop {
            let is_gone = match self.client.exchange(Call::get(place.clone()).about(&self.job)).await {
                Ok(reply) if reply.status == StatusCode::OK => {
                    let item = self.value_of(&reply)?;
                    let carries = |p: BTreeMap<&str, &str>| p.get(names::PROBE_ID) == Some(&self.id.as_str());
                    // After a crash of Jenkins the same number may stand for something else.
                    let is_other = runs::parameters(&item).is_some_and(|p| !carries(p));
                    if !is_other && item["cancelled"].as_bool().unwrap_or_default() {
                        let message = "the run was cancelled in Jenkins' queue";
                        return Err(self.named(Error::new(ErrorKind::Unavailable, message)));
                    }
                    if let (false, Some(number)) = (is_other, item["executable"]["number"].as_u64()) {
                        return Ok(number);
                    }
                    is_other
                }
                // It left the queue long ago, or the server was restarted.
                Ok(reply) if reply.status == StatusCode::NOT_FOUND => true,
                Ok(reply) => self.passing(reply.complaint()).map(|()| false)?,
                Err(fault) => self.passing(fault.into()).map(|()| false)?,
            };
            if is_gone {
                let since = *is_gone_since.get_or_insert_with(|| self.passed());
                if let Next::Join(Run { at: At::Build(number), .. }) =
                    runs::choose(&self.known().await?, None)
                {
                    return Ok(number);
                }
                if self.passed().saturating_sub(since) > UNCERTAIN {
                    return Err(self.lost());
                }
            }
            self.pause().await;
        }
    }

    /// What an answer says; nothing if it is damaged, which passes.
    fn value_of(&self, reply: &Reply) -> Result<Value> {
        match reply.json() {
            Ok(value) => Ok(value),
            Err(error) => self.passing(error).map(|()| Value::Null),
        }
    }

    /// Waits for a good end.
    async fn until_ended(&self, number: u64) -> Result<()> {
        let text = number.to_string();
        let place = self.job.build(&text, ["api", "json"]).with("tree", runs::RUN);
        let mut is_gone_since = None;
        loop {
            match self.client.exchange(Call::get(place.clone()).about(&self.job)).await {
                Ok(reply) if reply.status == StatusCode::OK => {
                    if let Some(result) = self.result_of(&self.value_of(&reply)?)? {
                        return match result.as_str() {
                            "SUCCESS" => Ok(()),
                            "ABORTED" => Err(self.ended_badly("was stopped", number, &result)),
                            _ => Err(self.ended_badly("failed: see its log", number, &result)),
                        };
                    }
                }
                Ok(reply) if reply.status == StatusCode::NOT_FOUND => {
                    let since = *is_gone_since.get_or_insert_with(|| self.passed());
                    if self.passed().saturating_sub(since) > UNCERTAIN {
                        return Err(self.lost());
                    }
                }
                Ok(reply) => self.passing(reply.complaint())?,
                Err(fault) => self.passing(fault.into())?,
            }
            self.pause().await;
        }
    }

    /// The result of a run that has ended, log and all.
    fn result_of(&self, value: &Value) -> Result<Option<String>> {
        let carries = runs::parameters(value).map(|p| p.get(names::PROBE_ID) == Some(&self.id.as_str()));
        if carries == Some(false) {
            return Err(self.lost());
        }
        let is_over = value["building"] == false && value["inProgress"].as_bool() != Some(true);
        Ok(value["result"].as_str().filter(|_| is_over).map(ToOwned::to_owned))
    }

    async fn printed(&self, number: u64, mark: &str) -> Result<Vec<Vec<u8>>> {
        let text = number.to_string();
        let call = Call::get(self.job.build(&text, ["consoleText"])).any_type().about(&self.job);
        let mut opened = self.client.open(call).await?;
        if opened.status() != StatusCode::OK {
            return Err(self.named(opened.complaint()));
        }
        let mut scan = Scan::new(mark);
        let mut read = 0;
        while let Some(piece) = opened.chunk().await.map_err(|e| self.named(e))? {
            let piece = piece.as_ref();
            read += piece.len();
            if read > MAX_LOG {
                let message = "the run's log is longer than 64 MiB: let it print less";
                return Err(self.named(Error::new(ErrorKind::Corrupt, message)));
            }
            scan.feed(piece);
        }
        scan.finish().map_err(|e| self.named(e).with_context("number", number))
    }

    async fn stop_followed(&self) -> Result<()> {
        let followed = *self.followed.lock().unwrap_or_else(PoisonError::into_inner);
        match followed {
            Some(at) => self.stop(at).await,
            // The request may have arrived all the same.
            None => {
                for run in self.known().await?.runs {
                    self.stop(run.at).await?;
                }
                Ok(())
            }
        }
    }

    async fn stop(&self, at: At) -> Result<()> {
        if let At::Item(item) = at {
            let place = Place::of(["queue", "cancelItem"]).with("id", &item.to_string());
            let reply = self.client.exchange(Call::post(place, Body::Nothing).about(&self.job)).await?;
            if reply.status.is_success() {
                return Ok(());
            }
            // It has become a build meanwhile.
            for run in self.known().await?.runs {
                if let At::Build(number) = run.at {
                    self.stop_build(number).await?;
                }
            }
            return Ok(());
        }
        match at {
            At::Build(number) => self.stop_build(number).await,
            At::Item(_) => Ok(()),
        }
    }

    async fn stop_build(&self, number: u64) -> Result<()> {
        let text = number.to_string();
        let call = Call::post(self.job.build(&text, ["stop"]), Body::Nothing).about(&self.job);
        let reply = self.client.exchange(call).await?;
        match reply.status {
            StatusCode::FOUND | StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(self.named(reply.complaint())),
        }
    }

    fn follows(&self, at: At) {
        *self.followed.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
    }

    fn passed(&self) -> Duration {
        self.client.clock().monotonic().since(self.began)
    }

    fn age_of_trigger(&self) -> Option<Duration> {
        self.trigger_age.map(|age| age.saturating_add(self.passed()))
    }

    /// Until the next look at the run: soon at first, then slower.
    async fn pause(&self) {
        let wait = (self.passed() / 10).clamp(Duration::from_millis(250), Duration::from_secs(5));
        self.client.clock().sleep(wait).await;
    }

    /// A fault that passes says nothing about the run; the deadline ends the wait.
    fn passing(&self, error: Error) -> Result<()> {
        match error.retry() {
            capomastro_core::Retry::Never => Err(self.named(error)),
            _ => {
                tracing::debug!(error = %error.report(), "a run of a probe cannot be looked at now");
                Ok(())
            }
        }
    }

    fn ended_badly(&self, how: &str, number: u64, result: &str) -> Error {
        let result: String =
            result.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
        self.named(Error::new(ErrorKind::Unavailable, format!("the run of the job {how}")))
            .with_context("number", number)
            .with_context("result", result)
    }

    fn lost(&self) -> Error {
        self.named(Error::new(ErrorKind::Unavailable, "the run is gone from the server: look again"))
    }

    /// An error of this job, unless it says so already.
    fn named(&self, error: Error) -> Error {
        if error.context().any(|(key, _)| key == "server") {
            return error;
        }
        self.client.name(error, Some(&self.job))
    }
}
