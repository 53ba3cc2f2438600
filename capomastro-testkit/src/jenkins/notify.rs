//! Messages of the Notification plugin. Not seen live: made from its source.

use super::{
    build::{Build, Given, View},
    export::{encoded, job_path},
    job::{Job, JobId, JobKind},
    state::State,
};
use http_body_util::{BodyExt, Full};
use hyper::{Request, body::Bytes};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use std::{fmt, io};
use tokio::net::TcpStream;

/// Where messages about a job's builds go.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    old: bool,
}

impl Endpoint {
    /// Messages of all phases, sent to an address that begins with `http://`.
    pub fn all(url: impl Into<String>) -> Self {
        Self { url: url.into(), old: false }
    }

    /// As plugins up to 1.5 did, which said FINISHED for FINALIZED.
    #[must_use]
    pub fn old_plugin(mut self) -> Self {
        self.old = true;
        self
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its path is what keeps strangers out.
        f.debug_struct("Endpoint").field("old", &self.old).finish_non_exhaustive()
    }
}

/// A message that a server has to send.
///
/// A test takes them with `Jenkins::messages` and sends each as often and in whichever order it likes, or not at all.
#[derive(Clone, PartialEq)]
pub struct Message {
    url: String,
    /// Full name of the job.
    pub job: String,
    /// Number of the build.
    pub number: u32,
    /// QUEUED, STARTED, COMPLETED or FINALIZED, and FINISHED from an old plugin.
    pub phase: String,
    /// What is sent.
    pub body: Value,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("job", &self.job)
            .field("number", &self.number)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Message {
    /// Sends it, and returns the status of the answer, which the plugin would not look at.
    ///
    /// # Errors
    ///
    /// Where nobody listens, or nothing comes back.
    pub async fn send(&self) -> io::Result<u16> {
        let no_address = || io::Error::from(io::ErrorKind::InvalidInput);
        let rest = self.url.strip_prefix("http://").ok_or_else(no_address)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        // User information before the host is for authorization, which receivers here do without.
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        drop(tokio::spawn(connection));
        let request = Request::post(format!("/{path}"))
            .header("Host", host)
            .header("Content-Type", "application/json;charset=UTF-8")
            .body(Full::new(Bytes::from(self.body.to_string())))
            .map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        // Read to its end, so that the receiver is not cut off.
        drop(answer.into_body().collect().await);
        Ok(status)
    }
}

/// Messages that wait; older ones go where nobody takes them.
const MOST_MESSAGES: usize = 100_000;

impl State {
    fn message(&mut self, id: JobId, number: u32, phase: &str) {
        let Some(job) = self.jobs.get(&id).filter(|job| !job.settings.notify.is_empty()) else { return };
        let Some(build) = job.builds.get(&number) else { return };
        let view = build.view(self.now, job.kind == JobKind::Pipeline);
        let mut fresh = Vec::new();
        for endpoint in &job.settings.notify {
            let phase = if endpoint.old && phase == "FINALIZED" { "FINISHED" } else { phase };
            fresh.push(Message {
                url: endpoint.url.clone(),
                job: job.full_name.clone(),
                number,
                phase: phase.to_owned(),
                body: self.body(job, build, &view, phase),
            });
        }
        self.outbox.append(&mut fresh);
        let surplus = self.outbox.len().saturating_sub(MOST_MESSAGES);
        self.outbox.drain(..surplus);
    }

    fn body(&self, job: &Job, build: &Build, view: &View<'_>, phase: &str) -> Value {
        let number = build.number;
        let url = format!("{}{number}/", job_path(&job.full_name));
        let ended = phase != "QUEUED" && phase != "STARTED";
        let mut out = Map::new();
        if let Some(root) = &self.config.root_url {
            out.insert("full_url".to_owned(), json!(format!("{}/{url}", root.trim_end_matches('/'))));
        }
        out.insert("number".to_owned(), json!(number));
        out.insert("queue_id".to_owned(), json!(build.queue_id));
        out.insert("timestamp".to_owned(), json!(build.created));
        out.insert("duration".to_owned(), json!(view.duration));
        out.insert("phase".to_owned(), json!(phase));
        if let Some(result) = view.result.filter(|_| ended) {
            out.insert("status".to_owned(), json!(result));
        }
        out.insert("url".to_owned(), json!(url));
        if let Some(revision) = build.script.revisions.first() {
            let scm = json!({
                "url": revision.remote, "branch": revision.branch, "commit": revision.sha1,
                "changes": [], "culprits": build.script.culprits,
            });
            out.insert("scm".to_owned(), scm);
        } else {
            out.insert("scm".to_owned(), json!({"changes": [], "culprits": build.script.culprits}));
        }
        if let Some(values) = &build.values {
            let shown = values.iter().filter(|(_, value)| !matches!(value, Given::Secret(_)));
            let shown: Map<String, Value> =
                shown.map(|(name, value)| (name.clone(), Value::from(value.plain()))).collect();
            out.insert("parameters".to_owned(), Value::Object(shown));
        }
        out.insert("log".to_owned(), json!(""));
        out.insert("notes".to_owned(), json!(""));
        let artifacts: Map<String, Value> = build
            .script
            .artifacts
            .iter()
            .filter(|_| ended)
            .map(|artifact| {
                let path: Vec<String> = artifact.path.split('/').map(encoded).collect();
                (artifact.path.clone(), json!({"archive": format!("{url}artifact/{}", path.join("/"))}))
            })
            .collect();
        out.insert("artifacts".to_owned(), Value::Object(artifacts));
        json!({
            "name": job.name(),
            "display_name": job.name(),
            "url": job_path(&job.full_name),
            "build": out,
        })
    }

    /// Both at once, when the build starts; nothing is sent while an item really waits.
    pub(super) fn notify_start(&mut self, id: JobId, number: u32) {
        self.message(id, number, "QUEUED");
        self.message(id, number, "STARTED");
    }

    pub(super) fn notify_end(&mut self, id: JobId, number: u32) {
        self.message(id, number, "COMPLETED");
        self.message(id, number, "FINALIZED");
    }
}
