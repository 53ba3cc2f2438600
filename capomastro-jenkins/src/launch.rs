//! The way from a request to a build that the server has taken.

use crate::{
    address::JobName,
    http::{Body, Call, Verdict, of_trigger},
    job::JenkinsJob,
    launcher::Inner,
    memo::{self, Memo, refusal},
    reference::Reference,
};
use capomastro_core::{
    Error, ErrorKind, Result, Retry,
    launch::{Journal, LaunchRequest, Launched, Refusal, SendBefore},
    time::Monotonic,
};
use std::{collections::BTreeMap, time::Duration};

/// When a server that is about to be shut down is asked again.
const QUIETING: Duration = Duration::from_secs(30);
/// So long before the end of its quiet period an item is not relied upon to wait any more.
const MARGIN: Duration = Duration::from_secs(5);
/// How many of a job's newest builds a short look takes in.
const SHORT_LOOK: u64 = 20;

/// What is sent, and may be sent once more.
struct Wanted<'a> {
    request: &'a LaunchRequest,
    job: &'a JenkinsJob,
    name: JobName,
    fields: Vec<(String, String)>,
    reference: Reference,
}

impl Inner {
    pub(crate) async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        request.send_before.check(self.client.clock())?;
        let job = match JenkinsJob::parse(&request.job) {
            Ok(job) => job,
            Err(e) => return Ok(Launched::Refused(refusal(e.to_string()))),
        };
        let name = job.name()?;
        let before = Memo::read(request.memo.as_ref())?;
        let plain = match (&before, memo::plain(&job, request)) {
            (_, Err(refusal)) => return Ok(Launched::Refused(refusal)),
            (Some(before), Ok(_)) => before.parameters.clone(),
            (None, Ok(plain)) => plain,
        };
        let secret = memo::secret(&job, request, &plain).await?;
        let names = secret.iter().map(|(name, _)| name.as_str());
        let (next, session) = match self.prepare(&name, &plain, names).await? {
            Ok(prepared) => prepared,
            Err(refusal) => return Ok(Launched::Refused(refusal)),
        };
        let memo = Memo {
            job: job.job.clone(),
            floor: before.map_or(next, |b| b.floor.min(next)),
            session: session.clone(),
            posted_at: self.client.clock().now(),
            parameters: plain,
        };
        let kept =
            serde_json::to_value(&memo).map_err(|e| Error::internal("a memo is no JSON").with_source(e))?;
        journal.keep(kept).await.map_err(|e| match e.kind() {
            // Of the request, that nothing was sent is certain.
            ErrorKind::OutcomeUnknown => {
                Error::new(ErrorKind::Unavailable, "what must be kept before the launch may not be kept")
                    .with_source(e)
            }
            _ => e,
        })?;
        let mut fields: Vec<(String, String)> = memo.parameters.into_iter().collect();
        fields.extend(secret.into_iter().map(|(name, value)| (name, value.expose().to_owned())));
        fields.push(("delay".into(), format!("{}sec", job.quiet_period.as_secs())));
        let reference = Reference::of(&job, request.key, &session, memo.floor);
        self.submit(Wanted { request, job: &job, name, fields, reference }).await
    }

    /// Looks at server and job: whether the build would be taken, and the number of the job's next build.
    async fn prepare<'a>(
        &self,
        name: &JobName,
        plain: &'a BTreeMap<String, String>,
        secret: impl IntoIterator<Item = &'a str>,
    ) -> Result<Result<(u64, String), Refusal>> {
        let server = self.client.json(crate::address::Place::root_api("quietingDown"), None);
        let (server, job) = futures_util::join!(server, self.client.job(name));
        let (job, session) = match (server?, job) {
            ((server, _), _) if server["quietingDown"].as_bool() == Some(true) => {
                let message = "the server is about to be shut down and starts nothing before it is back";
                let error = Error::new(ErrorKind::Unavailable, message).with_retry(Retry::After(QUIETING));
                return Err(self.client.name(error, Some(name)));
            }
            (_, Err(e)) if e.kind() == ErrorKind::NotFound => {
                return Ok(Err(refusal(format!(
                    "{} has no job {name}, or does not show it to this user: check the name and Job/Read",
                    self.client.settings().base.url()
                ))));
            }
            (_, job) => job?,
        };
        if !job.is_buildable {
            return Ok(Err(refusal(format!(
                "the job {name} is disabled, or a copy that was never saved: enable it"
            ))));
        }
        if let Err(refusal) = memo::check(&job.declared, plain, secret) {
            return Ok(Err(refusal));
        }
        let Some(next) = job.next else {
            return Ok(Err(refusal(format!(
                "{name} does not number its builds, so it is no job that can be built: name a job, not a folder"
            ))));
        };
        self.memory.next.set(name.to_string(), next, self.client.clock().monotonic());
        Ok(Ok((next, session)))
    }

    async fn submit(&self, wanted: Wanted<'_>) -> Result<Launched> {
        let began = self.client.clock().monotonic();
        let mut verdict = self.post(&wanted, wanted.request.send_before).await;
        if let Verdict::Unknown(error) = verdict {
            if let Some(found) = self.short_look(&wanted).await {
                return Ok(found);
            }
            if !self.is_harmless_again(&wanted, &error, began) {
                return Err(self.unknown(&wanted, error));
            }
            // The item of the first request, if that arrived, still waits: this one becomes one with it. If it did not
            // arrive, it becomes one with this one's should it do so yet.
            let while_it_waits = began.plus(wanted.job.quiet_period).minus(MARGIN);
            let before = SendBefore(while_it_waits.min(wanted.request.send_before.0));
            verdict = match self.post(&wanted, before).await {
                // Of the second: the first may have arrived all the same.
                Verdict::NoEffect(second) | Verdict::Unknown(second) => {
                    return Err(self.unknown(&wanted, second));
                }
                Verdict::Rejected(_) | Verdict::NotQueued => return Err(self.unknown(&wanted, error)),
                accepted @ Verdict::Accepted(_) => accepted,
            };
        }
        match verdict {
            Verdict::Accepted(Some(item)) => {
                Ok(Launched::Accepted(wanted.reference.queued(item).external()))
            }
            Verdict::Accepted(None) => match self.short_look(&wanted).await {
                Some(found) => Ok(found),
                None => Err(self.unknown(&wanted, Error::new(ErrorKind::OutcomeUnknown, "the answer names no queue item"))),
            },
            Verdict::NotQueued => Ok(Launched::Refused(Refusal {
                reason: "the server's queue did not take the build: a plugin refused it, or it was just being removed".into(),
                permanent: false,
            })),
            Verdict::Rejected(reason) => Ok(Launched::Refused(refusal(format!("{}: {reason}", wanted.name)))),
            Verdict::NoEffect(error) => Err(self.client.name(error, Some(&wanted.name))),
            Verdict::Unknown(error) => Err(self.unknown(&wanted, error)),
        }
    }

    async fn post(&self, wanted: &Wanted<'_>, before: SendBefore) -> Verdict {
        let place = wanted.name.at(["buildWithParameters"]);
        let call =
            Call::post(place, Body::Form(wanted.fields.clone())).send_before(before, wanted.request.timeout);
        of_trigger(self.client.exchange(call).await, &wanted.name)
    }

    /// Whether the same request may be sent once more: its connection broke, rather than that something between us and
    /// the server might still hold it, and the item that it may have made cannot have started.
    fn is_harmless_again(&self, wanted: &Wanted<'_>, error: &Error, began: Monotonic) -> bool {
        let elapsed = self.client.clock().monotonic().since(began);
        self.options.resend
            && error.kind() == ErrorKind::Unavailable
            && elapsed + MARGIN <= wanted.job.quiet_period
            && self.client.session().is_some_and(|now| now == wanted.reference.session)
    }

    /// Whether the queue, or the newest builds, show what was just asked for. Proves nothing if they do not.
    async fn short_look(&self, wanted: &Wanted<'_>) -> Option<Launched> {
        let (parameter, key) = (&wanted.reference.parameter, wanted.request.key.to_string());
        let queue = self.client.queue().await.ok()?;
        let mut reference = wanted.reference.clone();
        reference.session.clone_from(&queue.session);
        if let Some(item) = queue.items.iter().find(|i| i.carries(parameter, &key)) {
            return Some(Launched::Accepted(reference.queued(item.id).external()));
        }
        let lowest = wanted.reference.floor;
        let listed = self.client.builds(&wanted.name, lowest, Some(lowest + SHORT_LOOK)).await.ok()?;
        let twins = listed.job.builds.iter().filter(|b| b.carries(parameter, &key));
        let build = crate::canonical::canonical(twins)?;
        Some(Launched::Accepted(reference.started(build.number).external()))
    }

    fn unknown(&self, wanted: &Wanted<'_>, cause: Error) -> Error {
        let error = Error::new(
            ErrorKind::OutcomeUnknown,
            "it is not known whether the server has taken the build: it is searched for",
        );
        self.client.name(error, Some(&wanted.name)).with_source(cause)
    }
}
