//! Jobs on a server: made, brought up to date, switched, deleted.

use crate::{
    address::{JobName, Place},
    http::{Body, Call, Client, Fault, Reply},
    template::{Change, JobTemplate},
};
use capomastro_core::{Error, ErrorKind, Result, Retry};
use reqwest::StatusCode;

/// The largest `config.xml` that is read.
const MAX_CONFIG: usize = 8 * 1024 * 1024;
/// How often a job that comes and goes while it is written is tried anew.
const MOST_TRIES: usize = 4;

/// The jobs of one server. The user needs Job/ExtendedRead and Job/Configure to bring one up to date, Job/Create to make
/// one, Job/Delete to delete one.
#[derive(Clone, Debug)]
pub struct Jobs {
    client: Client,
}

/// What became of a job that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pushed {
    /// It was made.
    Created,
    /// It was there, and was changed like this.
    Updated(Vec<Change>),
    /// It was there and had it all.
    Unchanged,
}

impl Jobs {
    pub(crate) const fn over(client: Client) -> Self {
        Self { client }
    }

    /// Makes the job of this full name (`folder/job`; the folder is there), or brings the one that is there up to date:
    /// see [`JobTemplate::merged_into`]. Builds that run are not touched; requests that wait in the queue lose parameters
    /// whose definition goes, and here none goes.
    ///
    /// *Idempotency*: may be repeated at any time, also after an error whose outcome is not known. What somebody changes in
    /// the job between our reading and our writing is lost: Jenkins offers no way to tell. *Cancellation*: a dropped
    /// future has written the whole change or nothing.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the template or the name is not acceptable, the name is taken in
    /// another spelling, or the job is of another kind; [`PermissionDenied`](ErrorKind::PermissionDenied),
    /// [`NotFound`](ErrorKind::NotFound) for a folder that is not there; [`Corrupt`](ErrorKind::Corrupt) if its
    /// configuration cannot be read; [`OutcomeUnknown`](ErrorKind::OutcomeUnknown) if the answer to a change was lost; and
    /// what can be wrong with a server.
    pub async fn push(&self, job: &str, template: &JobTemplate) -> Result<Pushed> {
        let name = JobName::parse(job)?;
        let own = own_name(&name)?;
        self.write(&name, own, template).await.map_err(|e| e.with_operation("push a job"))
    }

    async fn write(&self, job: &JobName, own: &str, template: &JobTemplate) -> Result<Pushed> {
        let fresh = template.config_xml()?;
        let mut refused = None;
        for _ in 0..MOST_TRIES {
            if let Some(current) = self.config(job).await? {
                let merged = template.merged_into(&current).map_err(|e| self.client.name(e, Some(job)))?;
                if merged.changes.is_empty() {
                    return Ok(Pushed::Unchanged);
                }
                let place = job.at(["config.xml"]);
                let reply = self.change(job, Call::post(place, Body::Xml(merged.xml.into_bytes()))).await?;
                match reply.status {
                    StatusCode::OK if !reply.is_html() => return Ok(Pushed::Updated(merged.changes)),
                    // Somebody has deleted it meanwhile.
                    StatusCode::NOT_FOUND if reply.is_of_jenkins() => continue,
                    _ => return Err(self.refusal(&reply, job)),
                }
            }
            if let Some(error) = refused {
                return Err(error);
            }
            let place = folder(job).with("name", own);
            let reply = self.change(job, Call::post(place, Body::Xml(fresh.clone().into_bytes()))).await?;
            match reply.status {
                StatusCode::OK if !reply.is_html() => return Ok(Pushed::Created),
                // The name is taken, perhaps since a moment ago by the same job, or it is none. The words are localised, so
                // another look decides.
                StatusCode::BAD_REQUEST => refused = Some(self.refused_name(&reply, job)),
                _ => return Err(self.refusal(&reply, job)),
            }
        }
        let message = "the job kept being made and deleted by others: see who else manages it, and try again";
        Err(self.client.name(Error::new(ErrorKind::Conflict, message).with_retry(Retry::Backoff), Some(job)))
    }

    /// Whether there is such a job that the user may see.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the name is none, and what can be wrong with a server.
    pub async fn exists(&self, job: &str) -> Result<bool> {
        let job = JobName::parse(job)?;
        Ok(self.is_buildable(&job).await?.is_some())
    }

    /// Deletes a job with all its builds: those that run are stopped, requests in the queue are cancelled. Says whether
    /// there was one.
    ///
    /// *Idempotency*: may be repeated.
    ///
    /// # Errors
    /// As [`push`](Jobs::push); [`Unavailable`](ErrorKind::Unavailable) if it is still there afterwards.
    pub async fn delete(&self, job: &str) -> Result<bool> {
        let job = JobName::parse(job)?;
        let reply = self.change(&job, Call::post(job.at(["doDelete"]), Body::Nothing)).await?;
        match reply.status {
            StatusCode::NOT_FOUND if reply.is_of_jenkins() => return Ok(false),
            StatusCode::FOUND => {}
            _ => return Err(self.refusal(&reply, &job)),
        }
        // A proxy that wants a log-in redirects as well.
        match self.is_buildable(&job).await? {
            None => Ok(true),
            Some(_) => {
                let message = "the job is still there after it was deleted: a build may not stop; try again, and check the proxy";
                Err(self.client.name(Error::new(ErrorKind::Unavailable, message), Some(&job)))
            }
        }
    }

    /// Lets a job be built again.
    ///
    /// *Idempotency*: may be repeated.
    ///
    /// # Errors
    /// As [`push`](Jobs::push); [`NotFound`](ErrorKind::NotFound) if there is no such job;
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it cannot be built all the same.
    pub async fn enable(&self, job: &str) -> Result<()> {
        self.switch(job, "enable", true).await
    }

    /// Lets a job not be built any more: requests are refused. Jenkins cancels one request of it that waits in the queue,
    /// not all.
    ///
    /// *Idempotency*: may be repeated.
    ///
    /// # Errors
    /// As [`enable`](Jobs::enable).
    pub async fn disable(&self, job: &str) -> Result<()> {
        self.switch(job, "disable", false).await
    }

    async fn switch(&self, job: &str, how: &'static str, on: bool) -> Result<()> {
        let job = JobName::parse(job)?;
        let reply = self.change(&job, Call::post(job.at([how]), Body::Nothing)).await?;
        if reply.status != StatusCode::FOUND {
            return Err(self.refusal(&reply, &job));
        }
        match self.is_buildable(&job).await? {
            Some(is_buildable) if is_buildable == on => Ok(()),
            None => {
                let message = "there is no such job, or the user may not see it: check its name";
                Err(self.client.name(Error::new(ErrorKind::NotFound, message), Some(&job)))
            }
            Some(_) => {
                let message = "the job did not change when it was switched: a copy must be saved once first; else check the proxy";
                Err(self.client.name(Error::config(message), Some(&job)))
            }
        }
    }

    /// The job's configuration; `None` if there is no such job.
    async fn config(&self, job: &JobName) -> Result<Option<Vec<u8>>> {
        let call = Call::get(job.at(["config.xml"])).any_type().max(MAX_CONFIG).about(job);
        let reply = self.client.exchange(call).await?;
        match reply.status {
            StatusCode::OK if !reply.is_html() => Ok(Some(reply.body)),
            StatusCode::NOT_FOUND if reply.is_of_jenkins() => Ok(None),
            _ => Err(self.refusal(&reply, job)),
        }
    }

    /// Whether it can be built; `None` if there is no such job.
    async fn is_buildable(&self, job: &JobName) -> Result<Option<bool>> {
        let reply = self.client.exchange(Call::get(job.api("name,buildable")).about(job)).await?;
        if reply.status == StatusCode::NOT_FOUND && reply.is_of_jenkins() {
            return Ok(None);
        }
        let value = reply.json().map_err(|e| self.client.name(e, Some(job)))?;
        Ok(Some(value["buildable"].as_bool().unwrap_or_default()))
    }

    /// Sends a change that may be repeated.
    async fn change(&self, job: &JobName, call: Call) -> Result<Reply> {
        match self.client.exchange(call.any_type().about(job)).await {
            Ok(reply) => Ok(reply),
            Err(Fault::Unsent(error)) => Err(error),
            Err(Fault::Unknown(error)) => {
                let message = "it is not known whether the change of the job arrived: do the same again";
                let unknown = Error::new(ErrorKind::OutcomeUnknown, message).with_source(error);
                Err(self.client.name(unknown, Some(job)))
            }
        }
    }

    fn refusal(&self, reply: &Reply, job: &JobName) -> Error {
        let error = match reply.status {
            StatusCode::OK => Error::config(
                "something that is not Jenkins answers, perhaps a page to log in: check the server's URL and the proxy",
            ),
            StatusCode::INTERNAL_SERVER_ERROR if reply.is_of_jenkins() => Error::new(
                ErrorKind::Unavailable,
                "the server could not take the job's configuration: see its log; a plugin may be missing",
            ),
            _ => reply.complaint(),
        };
        self.client.name(error, Some(job))
    }

    fn refused_name(&self, reply: &Reply, job: &JobName) -> Error {
        let message = "the server refuses the job's name: it may be taken in another spelling or be hidden; choose another";
        let error = Error::config(message).with_context("says", said(reply));
        self.client.name(error, Some(job))
    }
}

/// What an `X-Error` says: bytes of Latin-1, for people.
fn said(reply: &Reply) -> String {
    let bytes = reply.headers.get("x-error").map_or(&b""[..], reqwest::header::HeaderValue::as_bytes);
    bytes.iter().map(|b| char::from(*b)).filter(|c| !c.is_control()).take(300).collect()
}

/// Where jobs beside this one are made.
fn folder(job: &JobName) -> Place {
    let folders = job.as_str().rsplit_once('/').map_or("", |(folders, _)| folders);
    let names = folders.split('/').filter(|name| !name.is_empty());
    Place::of(names.flat_map(|name| ["job", name]).chain(["createItem"]))
}

/// The job's own name, without its folders.
fn own_name(job: &JobName) -> Result<&str> {
    let own = job.as_str().rsplit('/').next().unwrap_or_default();
    if own.contains('%') {
        // Such names are those of branches, and only Jenkins makes them.
        let message = "the job's name has a character that Jenkins allows in no name: choose another";
        return Err(Error::config(message).with_context("job", job));
    }
    Ok(own)
}
