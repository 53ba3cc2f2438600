//! Branches of this machine, read in process.

use super::tip::{Format, Tip, nonsense};
use capomastro_core::{Error, ErrorKind, Result};
use percent_encoding::percent_decode_str;
use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// How often a branch may be somewhere else.
const MAX_REFERENCES: usize = 5;
/// The longest file that says where a branch is or stands, in bytes.
const MAX_LINE: u64 = 8 * 1024;
/// The longest history of a branch of old, in bytes.
const MAX_HISTORY: u64 = 64 * 1024 * 1024;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    At(Option<Tip>),
    NeedsProgram,
}

/// The tip of the branch in the folder `path`, or of the one colocated there under `name`.
pub(super) async fn look(readers: &Arc<Semaphore>, path: PathBuf, name: Option<String>) -> Result<Looked> {
    let permit = Arc::clone(readers)
        .acquire_owned()
        .await
        .map_err(|_| Error::internal("the readers of local branches are gone"))?;
    let reading = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        tip(path, name)
    });
    reading.await.map_err(|e| Error::internal("a reader of local branches broke").with_source(e))?
}

fn tip(mut path: PathBuf, mut name: Option<String>) -> Result<Looked> {
    for _ in 0..=MAX_REFERENCES {
        let control = path.join(".bzr");
        let branch = match &name {
            Some(name) => control.join("branches").join(name),
            None => control.join("branch"),
        };
        if let Some(text) = read(&branch.join("last-revision"), MAX_LINE)? {
            return Tip::of_last_revision(&text).map(Looked::At);
        }
        let Some(format) = read(&branch.join("format"), MAX_LINE)? else {
            return absent(&path, &control).map(Looked::At);
        };
        match Format::of(&format) {
            Format::History => {
                let history = read(&branch.join("revision-history"), MAX_HISTORY)?.unwrap_or_default();
                return Tip::of_history(&history).map(Looked::At);
            }
            Format::Reference => {
                let text = read(&branch.join("location"), MAX_LINE)?.unwrap_or_default();
                (path, name) = location(&text)?;
            }
            Format::Other => return Ok(Looked::NeedsProgram),
        }
    }
    Err(Error::config("the branch refers to others without end: give the place of the branch itself"))
}

/// Where a reference leads on this machine.
fn location(text: &[u8]) -> Result<(PathBuf, Option<String>)> {
    let text = str::from_utf8(text).map_err(|_| nonsense("a reference that is not UTF-8"))?.trim();
    let elsewhere = || {
        Error::config(
            "the place is a checkout of a branch that is not on this machine: give the URL of that branch",
        )
    };
    let quoted = text.strip_prefix("file://").filter(|p| p.starts_with('/')).ok_or_else(elsewhere)?;
    let (quoted, name) = match quoted.split_once(",branch=") {
        Some((path, name)) => (path, Some(unquoted(name)?)),
        None => (quoted, None),
    };
    Ok((PathBuf::from(unquoted(quoted)?), name))
}

fn unquoted(text: &str) -> Result<String> {
    let text =
        percent_decode_str(text).decode_utf8().map_err(|_| nonsense("a reference that is not UTF-8"))?;
    if text.contains('\0') || text.split('/').any(|part| part == "..") {
        return Err(nonsense("a reference to nowhere"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A branch that is not there: gone, if the place is one where branches are.
fn absent(path: &Path, control: &Path) -> Result<Option<Tip>> {
    let there = |path: &Path| match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(unreadable(path, e)),
    };
    if there(control)? {
        return Ok(None);
    }
    if there(path)? {
        return Err(
            Error::config("the folder is no bzr branch: check the path").with_context("path", path.display())
        );
    }
    // A whole file system that is away says nothing of a branch.
    match path.parent() {
        Some(parent) if there(parent)? => Ok(None),
        _ => Err(Error::config("there is no such folder, nor one that it could be in: check the path")
            .with_context("path", path.display())),
    }
}

/// The content of a file; `None` if there is none.
fn read(path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(unreadable(path, e)),
    };
    if !found.is_file() {
        return Err(nonsense("something other than a file"));
    }
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(max + 1).read_to_end(&mut text));
    match read {
        Ok(_) if text.len() as u64 > max => Err(nonsense("a file that is too long")),
        Ok(_) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(unreadable(path, e)),
    }
}

fn unreadable(path: &Path, e: io::Error) -> Error {
    let (kind, message) = match e.kind() {
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::PermissionDenied, "the branch may not be read by this user: give it the right to")
        }
        _ => (ErrorKind::Unavailable, "the branch cannot be read now: see the cause"),
    };
    Error::new(kind, message).with_context("path", path.display()).with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_stay_on_this_machine() {
        let at = |text: &str| location(text.as_bytes());
        assert_eq!(at("file:///srv/lib/").unwrap(), ("/srv/lib".into(), None));
        assert_eq!(at("file:///srv/a%20b/,branch=side\n").unwrap(), ("/srv/a b".into(), Some("side".into())));
        for text in [
            "",
            "http://h/a",
            "file://host/a",
            "bzr://h/a",
            "/srv/lib",
            "file:///a/../b",
            "file:///a%00",
            "file:///a%ff",
            "file:///a,branch=../../x",
        ] {
            assert!(at(text).is_err(), "{text}");
        }
    }
}
