//! Reading queue, jobs and builds from a server.

use crate::{
    address::{JobName, Place},
    http::{Call, Client},
    wire::{self, Build, Item, Job},
};
use capomastro_core::{Error, ErrorKind, Result};
use reqwest::StatusCode;
use serde_json::Value;

/// How many builds the first request for a list asks for.
const FIRST_PAGE: u64 = 100;
/// How many builds one request asks for at most.
const MAX_PAGE: u64 = 1_000;
/// How many builds of one job are read at most.
const MAX_BUILDS: u64 = 20_000;

/// The queue at a moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    pub(crate) items: Vec<Item>,
    /// The jobs of items that the user may not see.
    pub(crate) hidden: Vec<String>,
    pub(crate) session: String,
}

/// A job with its builds, newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed {
    pub(crate) job: Job,
    pub(crate) session: String,
    /// Whether all of it was told in one session.
    pub(crate) is_one_session: bool,
    /// All builds from this number on were read.
    pub(crate) down_to: u64,
}

impl Client {
    pub(crate) async fn queue(&self) -> Result<Queue> {
        let tree = format!("items[{}],discoverableItems[task[name]]", wire::ITEM);
        let (value, session) =
            self.json(Place::of(["queue", "api", "json"]).with("tree", &tree), None).await?;
        Ok(Queue { items: Item::list(&value), hidden: Item::hidden(&value), session })
    }

    /// A queue item by its id; `None` if the server does not know it, or not any more.
    pub(crate) async fn item(&self, id: u64) -> Result<Option<(Item, String)>> {
        let place = Place::of(["queue", "item", &id.to_string(), "api", "json"]).with("tree", wire::ITEM);
        let told = self.maybe(place, None).await?;
        Ok(told.and_then(|(value, session)| Some((Item::read(&value)?, session))))
    }

    /// What a job says of itself, without builds.
    pub(crate) async fn job(&self, job: &JobName) -> Result<(Job, String)> {
        let (value, session) = self.json(job.api(wire::JOB), Some(job)).await?;
        Ok((Job::read(&value), session))
    }

    /// One build; `None` if there is no record of it.
    pub(crate) async fn build(
        &self,
        job: &JobName,
        number: u64,
        tree: &str,
    ) -> Result<Option<(Build, String)>> {
        let number = number.to_string();
        let place = job.build(&number, ["api", "json"]).with("tree", tree);
        let told = self.maybe(place, Some(job)).await?;
        Ok(told.and_then(|(value, session)| Some((Build::read(&value)?, session))))
    }

    /// A job's builds down to the number `lowest`. `next` is what its next build was to be called when it told last: the
    /// better it is known, the fewer requests are needed.
    pub(crate) async fn builds(&self, job: &JobName, lowest: u64, next: Option<u64>) -> Result<Listed> {
        let span = |from: u64| from.saturating_sub(lowest).saturating_add(5).clamp(10, MAX_PAGE);
        let mut listed = Listed { is_one_session: true, down_to: u64::MAX, ..Listed::default() };
        let (mut from, mut size) = (0, next.map_or(FIRST_PAGE, span));
        loop {
            let tree = format!(
                "nextBuildNumber,property[parameterDefinitions[name]],allBuilds[{}]{{{from},{}}}",
                wire::BUILD,
                from + size
            );
            let (value, session) = self.json(job.api(&tree), Some(job)).await?;
            let page = Job::read(&value);
            let (count, oldest) = (page.told, page.builds.iter().map(|b| b.number).min());
            if from == 0 {
                (listed.job, listed.session) = (page, session);
            } else {
                listed.is_one_session &= listed.session == session;
                // A build that began meanwhile has pushed others onto this page that were on the last.
                let known: std::collections::HashSet<u64> =
                    listed.job.builds.iter().map(|b| b.number).collect();
                listed.job.builds.extend(page.builds.into_iter().filter(|b| !known.contains(&b.number)));
            }
            from += count;
            match oldest {
                Some(oldest) if count == size && oldest > lowest && from < MAX_BUILDS => {
                    listed.down_to = oldest;
                    size = span(oldest);
                }
                Some(oldest) if count == size && from >= MAX_BUILDS => {
                    listed.down_to = oldest;
                    return Ok(listed);
                }
                _ => {
                    listed.down_to = lowest;
                    return Ok(listed);
                }
            }
        }
    }

    /// The builds that run now, of any job.
    pub(crate) async fn running(&self) -> Result<Vec<(JobName, Build)>> {
        let executable = format!("currentExecutable[url,{}]", wire::BUILD);
        let tree = format!("computer[executors[{executable}],oneOffExecutors[{executable}]]");
        let (value, _) = self.json(Place::of(["computer", "api", "json"]).with("tree", &tree), None).await?;
        Ok(wire::running(&value))
    }

    async fn maybe(&self, place: Place, job: Option<&JobName>) -> Result<Option<(Value, String)>> {
        match self.json(place, job).await {
            Ok(told) => Ok(Some(told)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Asks for a change whose answer leads elsewhere or is empty, and which may be asked for twice. False if there is
    /// nothing of that name.
    pub(crate) async fn change(&self, call: Call, job: Option<&JobName>) -> Result<bool> {
        let reply = self.exchange(call).await.map_err(Error::from)?;
        match reply.status {
            status if status.is_success() || status == StatusCode::FOUND => Ok(true),
            StatusCode::NOT_FOUND if reply.is_of_jenkins() => Ok(false),
            _ => Err(self.name(reply.complaint(), job)),
        }
    }
}
