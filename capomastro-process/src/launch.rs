//! The way from a request to a running build.

use crate::{
    enclosure::Site,
    environment::{self, DEFAULT_PATH, SAYS},
    fault::{on_disk, on_start},
    folder::{Folder, Lock, Standing},
    job::CommandJob,
    launcher::{CommandLauncher, Inner},
    process::BUILD_ID,
    program::{self, Found},
    result::Record,
    runner::blocking,
    supervise::{self, Start, Word},
};
use capomastro_core::{
    Error, ErrorKind, Result,
    launch::{Journal, LaunchRequest, Launched, Refusal},
    model::LaunchKey,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs, io,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::process::Child;

/// How often somebody who waits for another's launch looks again.
const POLL: Duration = Duration::from_millis(20);

/// What is kept with a build before it is started.
#[derive(Serialize, Deserialize)]
struct Memo {
    root: String,
}

/// What became of the wish to start a build.
enum Claim {
    /// It has been started before.
    Adopted,
    /// Somebody else is at it.
    Busy,
    /// It is ours to start.
    Ours(Folder, Lock),
}

/// Why a launch does not lead to a build.
enum Stop {
    /// It can never work.
    Refused(String),
    /// It does not work now.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

impl CommandLauncher {
    pub(crate) async fn launch_once(
        &self,
        request: &LaunchRequest,
        journal: &dyn Journal,
    ) -> Result<Launched> {
        let id = {
            let (this, memo) = (Arc::clone(&self.0), request.memo.clone());
            blocking(move || match this.kept_root(memo.as_ref())? {
                Some(id) => Ok(id),
                None => this.root.ensure(this.random.as_ref()),
            })
            .await?
        };
        let accepted = || Ok(Launched::Accepted(Inner::reference(&id, request.key)));
        let Some((folder, lock)) = self.claim(request).await? else { return accepted() };
        let prepared = {
            // The lock goes along: this work goes on when the caller loses interest.
            let (this, request, folder) = (Arc::clone(&self.0), request.clone(), folder.clone());
            blocking(move || match this.prepare(&folder, &request) {
                Ok((start, job)) => Ok(Ok((start, job, lock))),
                Err(Stop::Refused(why)) => folder.remove().map(|()| Err(why)),
                Err(Stop::Failed(e)) => Err(e),
            })
            .await?
        };
        let (mut start, job, lock) = match prepared {
            Ok(prepared) => prepared,
            Err(why) => return Ok(refused(why)),
        };
        start.env.extend(environment::secret(request, &job).await?);
        self.0.carry(&mut start.env);
        if request.memo.is_none() {
            let memo = serde_json::to_value(Memo { root: id.clone() })
                .map_err(|e| Error::internal("the memo is not JSON").with_source(e))?;
            journal.keep(memo).await?;
        }
        request.send_before.check(self.0.clock.as_ref())?;
        match supervise::start(start, lock) {
            Ok(child) => {
                self.has_begun(child, request, folder).await?;
                accepted()
            }
            Err(e) if e.kind() == io::ErrorKind::ArgumentListTooLong => Ok(refused(
                "the job's arguments and environment are too large for a process: pass them in files",
            )),
            Err(e) => Err(Error::new(ErrorKind::Unavailable, "the build's supervisor cannot be started now")
                .with_source(on_start(&self.0.setsid, e))),
        }
    }

    async fn claim(&self, request: &LaunchRequest) -> Result<Option<(Folder, Lock)>> {
        let until = self.0.clock.monotonic().plus(request.timeout);
        loop {
            let (this, key) = (Arc::clone(&self.0), request.key);
            match blocking(move || this.claim(key)).await? {
                Claim::Adopted => return Ok(None),
                Claim::Ours(folder, lock) => return Ok(Some((folder, lock))),
                Claim::Busy if self.0.clock.monotonic() >= until => {
                    return Err(Error::new(
                        ErrorKind::OutcomeUnknown,
                        "another launch of the same build is under way and does not end: look for a process that \
                         hangs, such as on a dead disk",
                    ));
                }
                Claim::Busy => self.0.clock.sleep(POLL).await,
            }
        }
    }

    /// Waits until the build has begun.
    async fn has_begun(&self, mut child: Child, request: &LaunchRequest, folder: Folder) -> Result<()> {
        let said = tokio::select! {
            biased;
            word = supervise::listen(&mut child) => match word {
                Word::Started => return Ok(()),
                Word::Other(said) => said,
            },
            () = self.0.clock.sleep(request.timeout) => {
                return Err(Error::new(
                    ErrorKind::OutcomeUnknown,
                    "the build's supervisor was started and does not say that the build has begun",
                ));
            }
        };
        match blocking(move || folder.standing()).await? {
            Standing::NotStarted => {
                let full = said.contains("No space left") || said.contains("quota");
                let kind = if full { ErrorKind::StorageFull } else { ErrorKind::Unavailable };
                Err(Error::new(kind, "the build's supervisor ended before the build began: see what it said")
                    .with_context("said", said))
            }
            Standing::Starting => Err(Error::new(
                ErrorKind::OutcomeUnknown,
                "the build's supervisor has fallen silent before the build began",
            )),
            _ => Ok(()),
        }
    }
}

impl Inner {
    /// The folder of builds in which an earlier launch may have started a build. An error if it is not ours.
    pub(crate) fn kept_root(&self, memo: Option<&Value>) -> Result<Option<String>> {
        let Some(memo) = memo else { return Ok(None) };
        let memo = Memo::deserialize(memo).map_err(|e| {
            Error::new(
                ErrorKind::Corrupt,
                "what was kept with the build is not from the command launcher: \
                 see whether its launcher's name means another launcher now",
            )
            .with_source(e)
        })?;
        self.must_be(&memo.root)?;
        Ok(Some(memo.root))
    }

    fn claim(&self, key: LaunchKey) -> Result<Claim> {
        let folder = self.root.folder(key);
        folder.make()?;
        if folder.started()?.is_some() {
            return Ok(Claim::Adopted);
        }
        let Some(lock) = folder.lock()? else { return Ok(Claim::Busy) };
        if folder.started()?.is_some() {
            return Ok(Claim::Adopted);
        }
        Ok(Claim::Ours(folder, lock))
    }

    /// Makes a clean folder with the request in it, and finds the program. Only with the lock.
    fn prepare(&self, folder: &Folder, request: &LaunchRequest) -> Result<(Start, CommandJob), Stop> {
        let job = self.job(&request.job).map_err(|e| Stop::Refused(e.report()))?;
        let env = environment::plain(request, &job, folder).map_err(Stop::Refused)?;
        folder.clear()?;
        let dir = job.dir.clone().unwrap_or_else(|| folder.at("workspace"));
        for made in ["workspace", "drop", SAYS] {
            let made = folder.at(made);
            fs::create_dir(&made).map_err(|e| on_disk("make a build's workspace", &made, e))?;
        }
        if !dir.is_dir() {
            return Err(Stop::Refused(format!("the job's dir {dir:?} does not exist: create it")));
        }
        let argv = self.argv(&job, &env, &dir)?;
        folder.write_json("request.json", &Record::new(request, &job, dir.clone(), self.clock.now()))?;
        let (dir, argv) = match &self.enclosure {
            None => (dir, argv),
            Some(_) => ("/".into(), self.enclose(folder, request, &job, &env, &dir, &argv)?),
        };
        let start = Start {
            folder: folder.path().clone(),
            dir,
            argv,
            env,
            max_log_bytes: job.max_log_bytes,
            grace_seconds: job.grace_seconds(),
            setsid: self.setsid.clone(),
            tools: self.tools.clone(),
        };
        Ok((start, job))
    }
}

impl Inner {
    /// The argument vector of the job. Where it is not enclosed, with its program found.
    fn argv(
        &self,
        job: &CommandJob,
        env: &BTreeMap<String, String>,
        dir: &Path,
    ) -> Result<Vec<OsString>, Stop> {
        let mut argv: Vec<OsString> = job.command.iter().map(Into::into).collect();
        if job.shell {
            argv.splice(0..0, ["/bin/sh".into(), "-c".into()]);
            // What a script calls $0.
            argv.insert(3, "sh".into());
            return Ok(argv);
        }
        if self.enclosure.is_some() {
            return Ok(argv);
        }
        let path = env.get("PATH").map_or("", String::as_str);
        match program::find(&argv[0], OsStr::new(path), dir) {
            Found::Program(file) => argv[0] = file.into(),
            Found::NotExecutable(file) => {
                return Err(Stop::Refused(format!(
                    "the job's program {file:?} may not be run by this user: make it executable"
                )));
            }
            Found::Nothing => {
                return Err(Stop::Refused(format!(
                    "the job's program {:?} does not exist: install it, or add its folder to the job's PATH",
                    job.command[0]
                )));
            }
        }
        Ok(argv)
    }

    /// The argument vector of the process that brings the build into its enclosure.
    fn enclose(
        &self,
        folder: &Folder,
        request: &LaunchRequest,
        job: &CommandJob,
        env: &BTreeMap<String, String>,
        dir: &Path,
        argv: &[OsString],
    ) -> Result<Vec<OsString>, Stop> {
        let Some(enclosure) = &self.enclosure else { return Ok(argv.to_vec()) };
        let variables: BTreeSet<String> = env.keys().chain(job.env.keys()).cloned().collect();
        let variables: Vec<String> = variables.into_iter().collect();
        let (drop, says) = (folder.at("drop"), folder.at(SAYS));
        let site = Site {
            key: request.key,
            folder: folder.path(),
            shared: [dir, &drop, &says],
            job: &request.job,
            argv,
            variables: &variables,
            path: env.get("PATH").map_or("", String::as_str),
        };
        enclosure.enclose(&site).map_err(|e| match e.kind() {
            ErrorKind::InvalidConfig
            | ErrorKind::InvalidInput
            | ErrorKind::NotFound
            | ErrorKind::PermissionDenied => Stop::Refused(e.report()),
            _ => Stop::Failed(e),
        })
    }

    /// Where builds are enclosed, puts their variables under the names that bring them in: no program on the way there is
    /// to be told anything by a job. The build's own process is still known by its key.
    fn carry(&self, env: &mut BTreeMap<String, String>) {
        let Some(enclosure) = &self.enclosure else { return };
        let own = [
            ("PATH".to_owned(), Some(DEFAULT_PATH.to_owned())),
            (BUILD_ID.to_owned(), env.get(BUILD_ID).cloned()),
        ];
        *env =
            std::mem::take(env).into_iter().map(|(name, value)| (enclosure.carrier(&name), value)).collect();
        env.extend(own.into_iter().filter_map(|(name, value)| Some((name, value?))));
    }
}

fn refused(reason: impl Into<String>) -> Launched {
    Launched::Refused(Refusal { reason: reason.into(), permanent: true })
}
