//! Commands run to their end inside containers.

use crate::{
    builder::LxcRunnerBuilder,
    config::{Container, Machine, Mount},
    network::Link,
    root::{Assembled, Names, Root, is_plain},
    state::{Owner, Run, on_disk},
    wrapper::{self, End},
};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    command::{Command, CommandOutput, CommandRunner},
    time::Clock,
};
use capomastro_process::ProcessRunner;
use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::OnceCell;

/// How long a container that was killed may take to go before it is left to the next sweep.
const GONE: Duration = Duration::from_secs(5);
/// Room for the wrapper's last word behind what a command may write to standard error.
const LAST_WORD: usize = 4 * 1024;
/// How many characters of LXC's own complaint are shown.
const COMPLAINT: usize = 600;

/// Runs commands inside LXC containers, each in a fresh one.
///
/// A command sees the [`Root`] that the runner was given, an empty `/tmp`, `/run` and `/dev/shm` of its own, what its
/// [`reads`](Command::reads) name, and nothing else of this machine; its working directory is inside, an empty one if it
/// names none. Secrets reach it through the wrapper's standard input and stay in memory. At the deadline, at too much
/// output, or when the future is dropped, the whole container is killed; so is whatever a command leaves running.
///
/// A status above 128 is told as the signal that a shell means by it. Names of variables must be identifiers. Beside the
/// errors of [`CommandRunner::run`] there are [`Unavailable`](ErrorKind::Unavailable) where the container could not be
/// set up or broke, with what LXC says, [`Unsupported`](ErrorKind::Unsupported) without LXC,
/// [`PermissionDenied`](ErrorKind::PermissionDenied) for a file that may not be run, and
/// [`InvalidInput`](ErrorKind::InvalidInput) for what cannot be brought inside.
///
/// Containers whose runner was killed are killed and removed by the next runner with the same state folder, before its
/// first command and on [`sweep`](Self::sweep).
#[derive(Clone, Debug)]
pub struct LxcRunner {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    setup: LxcRunnerBuilder,
    process: ProcessRunner,
    owner: OnceCell<Arc<Owner>>,
}

impl LxcRunner {
    /// A runner that keeps what containers need while they run in the folder `state`, an absolute path: of this machine
    /// only, not shared with others. Several processes may use one.
    pub fn builder(state: impl Into<PathBuf>, root: Root) -> LxcRunnerBuilder {
        LxcRunnerBuilder::new(state.into(), root)
    }

    pub(crate) fn of(setup: LxcRunnerBuilder) -> Self {
        let process = ProcessRunner::new().with_clock(Arc::clone(&setup.clock));
        Self { inner: Arc::new(Inner { setup, process, owner: OnceCell::new() }) }
    }

    pub(crate) fn setup(&self) -> &LxcRunnerBuilder {
        &self.inner.setup
    }

    pub(crate) fn process(&self) -> &ProcessRunner {
        &self.inner.process
    }

    /// Kills and removes containers whose runner has died; how many. Done by itself before the first command.
    ///
    /// # Errors
    /// When the state folder cannot be used; [`Unavailable`](ErrorKind::Unavailable) when some do not go away.
    pub async fn sweep(&self) -> Result<usize> {
        let owner = self.owner().await?;
        self.swept(&owner).await.map_err(|e| e.with_operation("sweep containers"))
    }

    async fn swept(&self, owner: &Arc<Owner>) -> Result<usize> {
        let until = self.inner.setup.clock.monotonic().plus(GONE);
        let mut total = 0;
        loop {
            let sweeping = Arc::clone(owner);
            let (gone, left) = blocking(move || sweeping.sweep()).await?;
            total += gone;
            if left == 0 {
                return Ok(total);
            }
            if self.inner.setup.clock.monotonic() >= until {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "containers of a runner that died do not go away: see what their processes wait for",
                )
                .with_context("left", left));
            }
            self.inner.setup.clock.sleep(Duration::from_millis(20)).await;
        }
    }

    async fn owner(&self) -> Result<Arc<Owner>> {
        let made = self
            .inner
            .owner
            .get_or_try_init(|| async {
                let (state, random) = (self.inner.setup.state.clone(), Arc::clone(&self.inner.setup.random));
                let owner = Arc::new(blocking(move || Owner::open(&state, &*random)).await?);
                if let Err(error) = self.swept(&owner).await {
                    tracing::warn!(%error, "containers of a runner that died could not be removed");
                }
                Ok::<_, Error>(owner)
            })
            .await?;
        Ok(Arc::clone(made))
    }

    async fn enter(&self, command: &Command) -> Result<CommandOutput> {
        let token = format!("{:032x}", self.inner.setup.random.bits());
        let input = wrapper::input(command, &token)?;
        let arguments = wrapper::arguments(command)?;
        let owner = self.owner().await?;
        let (setup, reads) = (self.inner.setup.clone(), command.reads.clone());
        let preparing = Arc::clone(&owner);
        let container = blocking(move || Prepared::make(&setup, &preparing, &reads)).await?;
        let outer = Command::new(&self.inner.setup.program)
            .args(["-n".into(), container.run.name.clone().into(), "-P".into(), owner.lxc().into_os_string()])
            .args(["-f".into(), container.config.clone().into_os_string(), "--".into()])
            .args(arguments)
            .dir("/")
            .stdin(input)
            .deadline(command.deadline)
            .max_output(command.max_output.saturating_add(LAST_WORD));
        let ran = self.inner.process.run(&outer).await;
        let name = container.run.name.clone();
        let told = match ran {
            Ok(output) => said(command, output, &token),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(Error::new(
                ErrorKind::Unsupported,
                "LXC is not installed: install the package lxc, or name lxc-execute to the runner's builder",
            )
            .with_source(e)),
            Err(e) => Err(e),
        };
        container.clear(&*self.inner.setup.clock).await;
        told.map_err(|e| e.with_context("container", name))
    }
}

/// What a container left, as what its command left.
fn said(command: &Command, output: CommandOutput, token: &str) -> Result<CommandOutput> {
    let program = || command.program.to_string_lossy().escape_debug().to_string();
    let (end, mut stderr) = wrapper::read(output.stderr, token);
    let exit = match end {
        Some(End::Exit(exit)) => exit,
        Some(End::Missing) => {
            return Err(Error::new(
                ErrorKind::NotFound,
                "there is no such program in the container: install it in its root, or correct PATH",
            )
            .with_context("program", program()));
        }
        Some(End::Denied) => {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                "the program may not be run in the container: make it executable",
            )
            .with_context("program", program()));
        }
        Some(End::NoFolder) => {
            let dir = command.dir.as_deref().unwrap_or(Path::new("/tmp"));
            return Err(Error::invalid(
                "the working directory does not exist in the container: have it shown there",
            )
            .with_context("dir", dir.display()));
        }
        Some(End::NotSetUp) => {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the container's environment could not be set up: allow it more memory",
            ));
        }
        None => {
            let ended = CommandOutput::new(output.exit, Vec::new(), stderr);
            let text = String::from_utf8_lossy(&ended.stderr);
            let complaint: String =
                text.trim().chars().flat_map(char::escape_debug).take(COMPLAINT).collect();
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the container could not be set up, or was ended from outside: see what LXC says, and what the \
                 runner's health check finds",
            )
            .with_context("lxc", complaint)
            .with_context("ended", format!("{:?}", ended.exit)));
        }
    };
    if output.stdout.len() > command.max_output {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "the command said more than is allowed: make it say less, or allow more",
        )
        .with_context("max_output", command.max_output));
    }
    stderr.drain(..stderr.len().saturating_sub(command.max_output));
    Ok(CommandOutput::new(exit, output.stdout, stderr))
}

/// A container that is ready to start. Dropped before it is cleared, it is cleared on a thread of its own.
#[derive(Debug)]
struct Prepared {
    run: Arc<Run>,
    config: PathBuf,
    link: Option<Arc<Link>>,
    /// Kept while the container may use it.
    root: Option<Arc<Assembled>>,
    cleared: bool,
}

impl Prepared {
    fn make(setup: &LxcRunnerBuilder, owner: &Owner, reads: &[PathBuf]) -> Result<Self> {
        let link = Link::take(&setup.network, &setup.state)?.map(Arc::new);
        let run = Arc::new(owner.run()?);
        let config = run.folder.join("config");
        let mut prepared = Self { run, config, link, root: None, cleared: false };
        let mut mounts = setup.mounts.clone();
        for path in reads {
            if !is_plain(path) {
                return Err(Error::invalid(
                    "a folder that a command reads is not an absolute path without dots: give it as it is",
                )
                .with_context("path", path.display()));
            }
            // What is not there, the command itself will miss.
            if let Ok(found) = fs::metadata(path) {
                mounts.push(Mount::read_only(path, path, found.is_dir()));
            }
        }
        let points: Vec<(PathBuf, bool)> =
            mounts.iter().map(|m| (m.inside().to_owned(), m.is_folder())).collect();
        let names = Names { resolv: setup.network.resolv(), hosts: setup.network.hosts() };
        // What is written to is a container's own.
        let root = match setup.root {
            Root::Ephemeral(_) => Arc::new(setup.root.assemble(&prepared.run.folder, &points, &names)?),
            _ => owner.skeletons.root(&setup.root, &points, &names)?,
        };
        prepared.root = Some(Arc::clone(&root));
        let text = Container {
            root: &root,
            mounts: &mounts,
            link: prepared.link.as_deref(),
            limits: &setup.limits,
            user: setup.user,
            ids: setup.ids,
            machine: Machine::look(),
        }
        .text()?;
        let write = || {
            let mut file =
                fs::File::options().write(true).create_new(true).mode(0o600).open(&prepared.config)?;
            file.write_all(text.as_bytes())
        };
        write().map_err(|e| on_disk(&prepared.config, e))?;
        Ok(prepared)
    }

    /// Removes all that is left of the container, which has ended or was killed.
    async fn clear(mut self, clock: &dyn Clock) {
        let until = clock.monotonic().plus(GONE);
        loop {
            let run = Arc::clone(&self.run);
            if blocking(move || Ok(run.clear())).await.unwrap_or_default() {
                break;
            }
            if clock.monotonic() >= until {
                tracing::warn!(container = %self.run.name, "a killed container does not go away");
                break;
            }
            clock.sleep(Duration::from_millis(10)).await;
        }
        self.cleared = true;
    }
}

/// The caller lost interest: the process was killed with the future, the rest is tidied up behind it.
impl Drop for Prepared {
    fn drop(&mut self) {
        if self.cleared {
            return;
        }
        let (run, link, root) = (Arc::clone(&self.run), self.link.take(), self.root.take());
        let tidy = move || {
            let gone = (0..500).any(|_| {
                let gone = run.clear();
                if !gone {
                    rest();
                }
                gone
            });
            if !gone {
                tracing::warn!(container = %run.name, "a container that nobody waits for does not go away");
            }
            drop((link, root));
        };
        if let Err(error) = std::thread::Builder::new().name("capomastro-lxc".into()).spawn(tidy) {
            tracing::warn!(%error, "a container is left to the next sweep");
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "where it may block, processes that were killed are waited for"
)]
pub(crate) fn rest() {
    std::thread::sleep(Duration::from_millis(10));
}

#[async_trait]
impl CommandRunner for LxcRunner {
    async fn run(&self, command: &Command) -> Result<CommandOutput> {
        self.enter(command).await.map_err(|e| e.with_operation("run command in a container"))
    }
}

/// Runs blocking work where it may block.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(e) => Err(Error::new(ErrorKind::Unavailable, "the runtime is shutting down").with_source(e)),
    }
}
