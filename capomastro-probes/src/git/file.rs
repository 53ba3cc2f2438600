//! Repositories on this machine, read in process.

use super::{
    listing::Found,
    relation::{Commit, relation},
};
use crate::remote::text::shown;
use capomastro_core::{
    Error, ErrorKind, Result,
    model::{Relation, Revision},
};
use gix::{ObjectId, Repository, bstr::ByteSlice, refs::TargetRef};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Semaphore;

/// How deep symbolic refs may point to each other, as in git.
const MAX_DEPTH: usize = 5;

/// A ref that is looked for, and the revision to which what is found is to be related.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) name: String,
    pub(super) accounted: Option<Revision>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) found: Found,
    pub(super) relation: Option<Relation>,
}

/// What reading a directory came to.
#[derive(Debug)]
pub(super) enum Looked {
    /// An answer for each question, in order.
    Answers(Vec<Result<Option<Seen>>>),
    /// The repository keeps its refs in a form that only the git program reads.
    NeedsProgram,
}

/// Reads the repository at `path` on a thread of its own.
///
/// At most as many threads as `room` has permits read at a time, so that a file server that hangs cannot eat up the
/// runtime's threads: a permit comes back when its thread does. A dropped future ends the walk through history; what the
/// operating system blocks ends when it lets go.
pub(super) async fn look(
    room: &Arc<Semaphore>,
    path: PathBuf,
    questions: Vec<Question>,
    limit: usize,
) -> Result<Looked> {
    struct Leave(Arc<AtomicBool>);
    impl Drop for Leave {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let closed = |_| Error::internal("the git probe's room for readers is closed");
    let permit = Arc::clone(room).acquire_owned().await.map_err(closed)?;
    let left = Arc::new(AtomicBool::new(false));
    let guard = Leave(Arc::clone(&left));
    let reading = tokio::task::spawn_blocking(move || {
        let looked = look_now(&path, &questions, limit, &left);
        drop(permit);
        looked
    });
    let looked =
        reading.await.map_err(|e| Error::internal("reading a git repository failed").with_source(e))?;
    drop(guard);
    looked
}

fn look_now(path: &Path, questions: &[Question], limit: usize, left: &AtomicBool) -> Result<Looked> {
    let repository = match open(path)? {
        Some(repository) => repository,
        None => return Ok(Looked::NeedsProgram),
    };
    let names: Vec<&str> = questions.iter().map(|q| q.name.as_str()).collect();
    let places = find(&repository, &names)?;
    let answers = questions.iter().zip(places).map(|(question, place)| {
        let Some((id, target)) = place? else { return Ok(None) };
        let peeled = peel(&repository, id)?;
        let accounted = question.accounted.as_ref();
        let relation = accounted.and_then(|old| relate(&repository, peeled, old, limit, left));
        let peeled = (peeled != id).then(|| peeled.to_string());
        Ok(Some(Seen { found: Found { id: id.to_string(), peeled, target }, relation }))
    });
    Ok(Looked::Answers(answers.collect()))
}

/// The repository at `path`, as git finds it there: the directory itself, its `.git`, or the same with `.git` appended.
/// `None` if only the git program can read it.
fn open(path: &Path) -> Result<Option<Repository>> {
    let with_suffix = {
        let mut name = path.as_os_str().to_owned();
        name.push(".git");
        PathBuf::from(name)
    };
    let candidates = [path.join(".git"), path.to_owned(), with_suffix.join(".git"), with_suffix];
    let mut missing = true;
    for candidate in candidates {
        match std::fs::metadata(&candidate) {
            Ok(_) => missing = false,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(unreadable(e)),
        }
        if let Some(answer) = open_exactly(&candidate)? {
            return Ok(answer);
        }
    }
    Err(Error::config(if missing {
        "there is no such directory: check the path, and that what it lies on is mounted"
    } else {
        "the directory is no git repository: give the path of a repository or of its working tree"
    }))
}

/// Neither answer if there is no repository right here.
fn open_exactly(path: &Path) -> Result<Option<Option<Repository>>> {
    // Nothing of this machine's or user's configuration has a say, and no variable of our environment: what is seen
    // depends on the repository alone. Nothing that a repository configures is run, so its owner does not matter.
    let options = gix::open::Options::isolated().with(gix::sec::Trust::Full).open_path_as_is(true);
    match gix::open_opts(path, options) {
        // Refs in tables are not read by the library.
        Ok(repository) if repository.common_dir().join("reftable").is_dir() => Ok(Some(None)),
        Err(_) if path.join("reftable").is_dir() => Ok(Some(None)),
        Ok(repository) => Ok(Some(Some(repository))),
        Err(e) if e.is_permission_denied() => Err(refused(&e)),
        // Something that is there for another purpose.
        Err(_) if !looks_like_git(path) => Ok(None),
        Err(e) => Err(corrupt(&e)),
    }
}

/// Whether a directory, or the file that stands for one, was made by git, even if it is damaged now.
fn looks_like_git(path: &Path) -> bool {
    path.is_file() || path.join("HEAD").exists() && path.join("objects").exists()
}

/// Where a ref points: an object, and the last ref on the way where it is symbolic.
type Place = (ObjectId, Option<String>);

/// Where the refs point, following symbolic ones; an answer for each name, in order.
///
/// A push may pack refs meanwhile: git writes `packed-refs` first and deletes the loose files then. So loose files are
/// looked at first, and `packed-refs` is opened after that, anew: looked at the other way round, or kept from before, a
/// ref that is there all the time could be seen nowhere.
fn find(repository: &Repository, names: &[&str]) -> Result<Vec<Result<Option<Place>>>> {
    let mut places: Vec<Result<Option<Place>>> = names.iter().map(|_| Ok(None)).collect();
    let mut open: Vec<(usize, String)> = names.iter().map(|n| (*n).to_owned()).enumerate().collect();
    for _ in 0..=MAX_DEPTH {
        let (mut not_loose, mut next) = (Vec::new(), Vec::new());
        for (index, at) in open {
            let found = match repository.refs.try_find_loose(at.as_str()) {
                // The library looks in other folders too.
                Ok(found) => found.filter(|r| r.name.as_bstr() == at.as_str()),
                Err(e) => {
                    places[index] = Err(broken(&e));
                    continue;
                }
            };
            match found.as_ref().map(|r| r.target.to_ref()) {
                None => not_loose.push((index, at)),
                Some(TargetRef::Object(id)) => {
                    places[index] = Ok(Some((id.to_owned(), (names[index] != at).then_some(at))));
                }
                Some(TargetRef::Symbolic(to)) => next.push((index, to.as_bstr().to_str_lossy().into_owned())),
            }
        }
        let packed = if not_loose.is_empty() {
            None
        } else {
            repository.refs.open_packed_buffer().map_err(|e| broken(&e))?
        };
        if let Some(packed) = packed {
            for (index, at) in not_loose.into_iter().filter(|(_, at)| at != "HEAD") {
                places[index] = match packed.try_find(at.as_str()) {
                    Ok(None) => Ok(None),
                    Ok(Some(r)) => Ok(Some((r.target(), (names[index] != at).then_some(at)))),
                    Err(e) => Err(broken(&e)),
                };
            }
        }
        open = next;
    }
    for (index, _) in open {
        places[index] =
            Err(Error::new(ErrorKind::Corrupt, "symbolic refs point in a circle: repair the repository"));
    }
    Ok(places)
}

fn peel(repository: &Repository, id: ObjectId) -> Result<ObjectId> {
    let missing = |e: &gix::Error| {
        if e.is_permission_denied() {
            return refused(e);
        }
        Error::new(
            ErrorKind::Corrupt,
            "a ref points at an object that cannot be read: run git fsck in the repository",
        )
        .with_source(described(e))
    };
    let header = repository.find_header(id).map_err(|e| missing(&e))?;
    if header.kind() != gix::object::Kind::Tag {
        return Ok(id);
    }
    let object = repository.find_object(id).map_err(|e| missing(&e))?;
    Ok(object.peel_tags_to_end().map_err(|e| missing(&e))?.id)
}

/// How what is seen relates to what is accounted. Never an error: it is for people, not for detection.
fn relate(
    repository: &Repository,
    new: ObjectId,
    accounted: &Revision,
    limit: usize,
    left: &AtomicBool,
) -> Option<Relation> {
    let old = ObjectId::from_hex(accounted.as_str().as_bytes()).ok().filter(|old| *old != new)?;
    // A shallow repository lacks history, so that what is not found proves nothing.
    if repository.is_shallow().ok()? {
        return None;
    }
    if old.kind() != new.kind() || !repository.has_object(old) {
        return Some(Relation::Recreated);
    }
    relation(new, old, limit, |id: ObjectId| {
        if left.load(Ordering::Relaxed) {
            return None;
        }
        let commit = repository.find_commit(id).ok()?;
        let parents = commit.parent_ids().map(gix::Id::detach).collect();
        Some(Commit { time: commit.time().ok()?.seconds, parents })
    })
}

fn unreadable(e: io::Error) -> Error {
    match e.kind() {
        io::ErrorKind::PermissionDenied => {
            Error::new(ErrorKind::PermissionDenied, "the repository cannot be read: let this user read it")
                .with_source(e)
        }
        _ => Error::new(ErrorKind::Unavailable, "the repository cannot be read now").with_source(e),
    }
}

fn refused(e: &gix::Error) -> Error {
    Error::new(ErrorKind::PermissionDenied, "the repository cannot be read: let this user read it")
        .with_source(described(e))
}

fn corrupt(e: &gix::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "the repository cannot be opened: run git fsck in it")
        .with_source(described(e))
}

fn broken(e: &gix::Error) -> Error {
    if e.is_permission_denied() {
        return refused(e);
    }
    Error::new(ErrorKind::Corrupt, "a ref cannot be read: run git fsck in the repository")
        .with_source(described(e))
}

/// The library's error on one bounded line.
fn described(e: &gix::Error) -> String {
    shown(&e.iter_errors().map(ToString::to_string).collect::<Vec<_>>().join(": "), 500)
}
