//! Setting a launcher up.

use crate::{
    enclosure::Enclosure,
    environment::DEFAULT_PATH,
    launcher::{CommandLauncher, Inner},
    program::{self, Found},
    root::Root,
    supervise::TOOLS,
};
use capomastro_core::{
    Error, ErrorKind, Result,
    time::{Clock, Random, SystemClock, SystemRandom},
};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Sets a [`CommandLauncher`] up. Made by [`CommandLauncher::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is set up until build is called"]
pub struct CommandLauncherBuilder {
    root: PathBuf,
    tools: String,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    enclosure: Option<Arc<dyn Enclosure>>,
}

impl CommandLauncherBuilder {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            // Where NixOS keeps what others keep in /usr/bin.
            tools: format!("{DEFAULT_PATH}:/run/current-system/sw/bin"),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            enclosure: None,
        }
    }

    /// Where the supervisor finds its tools (`setsid`, `mkfifo`, `cat`, `mv`, `sync`, `sleep`), as a value of `PATH`.
    /// Builds do not see it.
    pub fn tools_path(mut self, path: impl Into<String>) -> Self {
        self.tools = path.into();
        self
    }

    /// The clock by which the launcher waits and tells ages; the system's by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where the identity of a new folder of builds comes from; the system's randomness by default.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Runs the builds inside of something. They are on this machine as it is by default.
    pub fn enclosed(mut self, enclosure: Arc<dyn Enclosure>) -> Self {
        self.enclosure = Some(enclosure);
        self
    }

    /// The launcher. Looks for the tools; makes nothing on disk yet.
    ///
    /// # Errors
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the folder is not an absolute path in UTF-8,
    /// [`Unsupported`](ErrorKind::Unsupported) if this machine lacks a tool or `/proc`.
    pub fn build(self) -> Result<CommandLauncher> {
        if !self.root.is_absolute() || self.root.to_str().is_none() {
            return Err(Error::config("the folder of builds must be an absolute path in UTF-8")
                .with_context("path", self.root.display()));
        }
        if !Path::new("/proc/self/stat").exists() {
            return Err(Error::new(ErrorKind::Unsupported, "builds as processes need /proc: mount it"));
        }
        let tool = |name: &str| {
            match program::find(OsStr::new(name), OsStr::new(&self.tools), Path::new("/")) {
            Found::Program(file) => Ok(file),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                "builds as processes need a tool that is not there: install it, or give its folder with tools_path",
            )
            .with_context("tool", name)),
        }
        };
        tool("/bin/sh")?;
        for name in TOOLS {
            tool(name)?;
        }
        let setsid = tool("setsid")?;
        Ok(CommandLauncher(Arc::new(Inner {
            root: Root::new(self.root),
            tools: self.tools,
            setsid,
            clock: self.clock,
            random: self.random,
            enclosure: self.enclosure,
        })))
    }
}
