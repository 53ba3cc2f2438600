//! The launcher: a build is a file in a folder, and what becomes of it are files beside it.

use crate::slip::{Job, Slip, SlipEnd};
use capomastro_core::{
    Error, ErrorKind, Result, async_trait,
    launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Promise, Report, Seen},
    model::{ExternalRef, LaunchKey},
    time::Clock,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

/// More than this is no answer of a worker.
const LARGEST: u64 = 1024 * 1024;

/// A folder in which builds are ordered; workers with access to it, on whatever machine, carry them out.
///
/// `<key>.order` is written by the launcher, `<key>.taken` and `<key>.end` by the worker, `<key>.stop` by who wants it
/// stopped. Each appears whole and once: whoever comes second leaves what is there.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Spool {
    pub(crate) fn new(folder: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { folder: folder.into(), clock }
    }

    fn at(&self, key: LaunchKey, what: &str) -> PathBuf {
        self.folder.join(format!("{key}.{what}"))
    }

    fn failed(&self) -> impl Fn(io::Error) -> Error + '_ {
        |e| {
            let text = "the spool cannot be used: see that its folder is there and can be written";
            Error::new(ErrorKind::Unavailable, text)
                .with_context("folder", self.folder.display())
                .with_source(e)
        }
    }

    /// What a file says; `None` if there is none.
    fn read<T: DeserializeOwned>(&self, file: &Path) -> Result<Option<T>> {
        let mut bytes = Vec::new();
        match File::open(file).and_then(|f| f.take(LARGEST).read_to_end(&mut bytes)) {
            Ok(_) => {}
            // A folder that is away says nothing about what is in it.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return self.folder.read_dir().map(|_| None).map_err(self.failed());
            }
            Err(e) => return Err(self.failed()(e)),
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|e| {
            let text = "a file of the spool is not what it should be: see who wrote it";
            Error::new(ErrorKind::Unavailable, text).with_context("file", file.display()).with_source(e)
        })
    }

    /// Makes a file appear whole, and durably so. One that is there already stays.
    fn put<T: Serialize>(&self, key: LaunchKey, what: &str, content: &T) -> Result<()> {
        let text =
            serde_json::to_vec_pretty(content).map_err(|e| Error::internal("no JSON").with_source(e))?;
        let draft = || {
            // One of its own: several may be at it.
            let mut draft = tempfile::NamedTempFile::new_in(&self.folder)?;
            draft.write_all(&text)?;
            draft.as_file().sync_all()?;
            Ok(draft)
        };
        let draft = draft().map_err(self.failed())?;
        match std::fs::hard_link(draft.path(), self.at(key, what)) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(self.failed()(e)),
            _ => {}
        }
        File::open(&self.folder).and_then(|folder| folder.sync_all()).map_err(|e| {
            Error::new(ErrorKind::OutcomeUnknown, "it is there, and may be gone after a power cut")
                .with_source(e)
        })
    }

    /// What was ordered.
    pub(crate) fn order(&self, key: LaunchKey) -> Result<Option<Slip>> {
        self.read(&self.at(key, "order"))
    }

    /// The worker's: everything that was ordered and has not ended.
    pub(crate) fn open_orders(&self) -> Result<Vec<(LaunchKey, Slip)>> {
        let mut open = Vec::new();
        for entry in self.folder.read_dir().map_err(self.failed())? {
            let name = entry.map_err(self.failed())?.file_name();
            let key = name.to_str().and_then(|name| name.strip_suffix(".order")?.parse().ok());
            if let Some(key) = key
                && !self.at(key, "end").exists()
                && let Some(slip) = self.order(key)?
            {
                open.push((key, slip));
            }
        }
        Ok(open)
    }

    /// The worker's: begins with it.
    pub(crate) fn take(&self, key: LaunchKey) -> Result<()> {
        self.put(key, "taken", &())
    }

    /// The worker's: whether it is to stop.
    pub(crate) fn is_stopped(&self, key: LaunchKey) -> bool {
        self.at(key, "stop").exists()
    }

    /// The worker's: is done with it.
    pub(crate) fn finish(&self, key: LaunchKey, end: &SlipEnd) -> Result<()> {
        self.put(key, "end", end)
    }

    fn look(&self, key: LaunchKey) -> Result<Seen> {
        if let Some(end) = self.read::<SlipEnd>(&self.at(key, "end"))? {
            return Ok(Seen::Ended(end.into()));
        }
        if self.read::<()>(&self.at(key, "taken"))?.is_some() {
            return Ok(Seen::Running);
        }
        Ok(match self.order(key)? {
            Some(_) => Seen::Queued { why: Some("no worker has taken it yet".into()) },
            None => Seen::Unknown,
        })
    }

    /// Files are written and read aside, so that a slow disk holds nobody up. What was begun ends, also when nobody waits
    /// for it any more.
    async fn aside<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T> + Send + 'static,
    {
        let this = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&this)).await;
        done.map_err(|e| Error::internal("work at the spool was given up").with_source(e))?
    }
}

fn reference(key: LaunchKey) -> ExternalRef {
    ExternalRef(format!("spool/{key}"))
}

#[async_trait]
impl BuildLauncher for Spool {
    /// The key is the name of the order, and an order appears once.
    fn promise(&self) -> Promise {
        Promise::IdempotentByKey
    }

    fn check_job(&self, job: &Value) -> Result<()> {
        Job::parse(job).map(drop)
    }

    async fn launch(&self, request: &LaunchRequest, _journal: &dyn Journal) -> Result<Launched> {
        let slip = Slip::new(request)?;
        let (key, send_before) = (request.key, request.send_before);
        self.aside(move |this| {
            send_before.check(&*this.clock)?;
            this.put(key, "order", &slip)?;
            Ok(Launched::Accepted(reference(key)))
        })
        .await
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        let key = request.key;
        let order = self.aside(move |this| this.order(key)).await?;
        Ok(order.map_or(Found::Absent, |_| Found::Build(reference(key))))
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        let mut reports = Vec::new();
        for (key, build) in builds.iter().cloned() {
            let seen = if build == reference(key) {
                self.aside(move |this| this.look(key)).await
            } else {
                Ok(Seen::Unknown)
            };
            reports.push(seen.map(|seen| Report { external: None, seen }));
        }
        reports
    }

    async fn cancel(&self, key: &LaunchKey, _build: &ExternalRef) -> Result<()> {
        let key = *key;
        self.aside(move |this| match this.look(key)? {
            Seen::Ended(_) | Seen::Unknown => Ok(()),
            Seen::Queued { .. } | Seen::Running => this.put(key, "stop", &()),
        })
        .await
    }
}
