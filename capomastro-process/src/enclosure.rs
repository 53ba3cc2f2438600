//! What builds run inside of, where that is not this machine as it is.

use crate::job::CommandJob;
use capomastro_core::{Result, model::LaunchKey};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{ffi::OsString, fmt, path::Path};

/// What the builds of a [`CommandLauncher`](crate::CommandLauncher) run inside of: containers, say. The launcher's
/// folders, supervisor, log and artifacts are the same; the supervised process is one that brings the build's own into
/// the enclosure, stays in the foreground as long as that runs, and takes everything inside down when it is killed.
///
/// Methods are called where they may block.
pub trait Enclosure: fmt::Debug + Send + Sync + 'static {
    /// What a dependency's job says about the command. Checks all that the job says.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig), saying what to do.
    fn job(&self, job: &Value) -> Result<CommandJob>;

    /// The variable of the supervised process that brings the build's variable `name` in. It must not mean anything to a
    /// program of this machine, whatever `name` is: a job may name `LD_PRELOAD`.
    fn carrier(&self, name: &str) -> String;

    /// Makes the enclosure of one build and gives back the argument vector of the process that brings the build in. The
    /// first is an absolute path. Called before anything runs, by one process at a time, perhaps again after an attempt
    /// that came to nothing, with the build's folder made anew.
    ///
    /// The enclosure shows [`Site::shared`] under their own paths, writable. Where there is a pipe [`STOP_PIPE`] in the
    /// build's folder, a build that is to stop is told so by the line `stop` in it, and nothing is sent to its group
    /// before its grace is over. What is written inside to the file `end` in the last of the shared folders is on disk
    /// before the launcher's own record of the end is.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig),
    /// [`InvalidInput`](capomastro_core::ErrorKind::InvalidInput), [`NotFound`](capomastro_core::ErrorKind::NotFound) and
    /// [`PermissionDenied`](capomastro_core::ErrorKind::PermissionDenied) refuse the build for good; after others its
    /// launch is tried again.
    fn enclose(&self, site: &Site<'_>) -> Result<Vec<OsString>>;

    /// Removes what is left outside the build's folder once its supervised process is gone, and tells how the build
    /// really ended. Called after the end, by one process at a time, perhaps several times.
    ///
    /// # Errors
    /// When something inside still lives: it is asked again.
    fn leave(&self, key: LaunchKey, folder: &Path) -> Result<Left>;
}

/// The name of the pipe, in a build's folder, by which a build is told to stop.
pub const STOP_PIPE: &str = "stop.pipe";

/// One build that is to be enclosed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Site<'a> {
    /// Its launch key.
    pub key: LaunchKey,
    /// Its folder, in UTF-8. Names that begin with `enclosure` are the enclosure's, as is [`STOP_PIPE`].
    pub folder: &'a Path,
    /// The folders that the build needs under their own paths: its working directory first, the one for its artifacts,
    /// and the one for what it says.
    pub shared: [&'a Path; 3],
    /// What the dependency's job says.
    pub job: &'a Value,
    /// Its argument vector.
    pub argv: &'a [OsString],
    /// The names of its variables.
    pub variables: &'a [String],
    /// The value of its `PATH`.
    pub path: &'a str,
}

/// How an enclosed build really ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// With this status, as a shell tells it.
    Ended(i32),
    /// It began, and did not live to tell its status: for people, why that may be.
    Cut(String),
    /// It never began: for people, why.
    NeverBegan(String),
}
