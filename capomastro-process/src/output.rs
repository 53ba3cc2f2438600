//! Logs and artifacts, in pieces.

use crate::{
    artifacts::{self, is_safe},
    fault::on_disk,
    folder::{Folder, Standing, open_plain},
    launcher::CommandLauncher,
    runner::blocking,
};
use async_trait::async_trait;
use cap_std::{ambient_authority, fs::Dir};
use capomastro_core::{
    Error, ErrorKind, Result,
    launch::{BuildOutput, Chunk},
    model::ExternalRef,
};
use rustix::fs::OFlags;
use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// The most bytes that are given at once.
const MAX_CHUNK: usize = 8 * 1024 * 1024;

/// Pieces of at most 8 MiB.
#[async_trait]
impl BuildOutput for CommandLauncher {
    async fn log(&self, build: &ExternalRef, offset: u64, max: usize) -> Result<Chunk> {
        let (this, build) = (self.clone(), build.clone());
        blocking(move || {
            let folder = existing(&this, &build)?;
            // First where it stands, then the log: the log is complete once a status is there.
            let over = matches!(folder.standing()?, Standing::Ended(_) | Standing::Died { .. });
            let file = folder.at("log");
            match open_plain(&file, OFlags::RDONLY)? {
                Some(opened) => {
                    piece(opened, offset, max, over).map_err(|e| on_disk("read a build's log", &file, e))
                }
                None => Ok(Chunk { bytes: Vec::new(), is_last: over }),
            }
        })
        .await
        .map_err(|e| e.with_operation("read log"))
    }

    async fn artifact(&self, build: &ExternalRef, name: &str, offset: u64, max: usize) -> Result<Chunk> {
        let (this, build, name) = (self.clone(), build.clone(), name.to_owned());
        blocking(move || {
            if !is_safe(&name) {
                return Err(Error::invalid(
                    "an artifact's name leads outside: give it as the build reports it",
                )
                .with_context("artifact", name.escape_debug()));
            }
            let folder = existing(&this, &build)?;
            let missing = || {
                Error::new(ErrorKind::NotFound, "the build has no such artifact")
                    .with_context("artifact", name.escape_debug())
            };
            // Before the result is there, copies may be half made.
            if !folder.has("result.json") {
                return Err(missing());
            }
            let path = folder.at("artifacts");
            let failed = |e| on_disk("read an artifact", &path, e);
            // Never by a link that the build has put in its place.
            let dir = match Dir::open_ambient_dir(folder.path(), ambient_authority())
                .and_then(|folder| folder.open_dir("artifacts"))
            {
                Ok(dir) => dir,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing()),
                Err(e) => return Err(failed(e)),
            };
            match artifacts::open(&dir, Path::new(&name)) {
                Ok(file) => piece(file, offset, max, true).map_err(failed),
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(failed(e)),
                Err(_) => Err(missing()),
            }
        })
        .await
        .map_err(|e| e.with_operation("read artifact"))
    }
}

fn existing(launcher: &CommandLauncher, build: &ExternalRef) -> Result<Folder> {
    let folder = launcher.0.folder_of(build)?;
    if folder.exists() {
        return Ok(folder);
    }
    Err(Error::new(ErrorKind::NotFound, "there is no such build any more").with_context("build", build))
}

fn piece(mut file: File, offset: u64, max: usize, complete: bool) -> io::Result<Chunk> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(max.min(MAX_CHUNK) as u64).read_to_end(&mut bytes)?;
    let is_last = complete && offset.saturating_add(bytes.len() as u64) >= length;
    Ok(Chunk { bytes, is_last })
}
