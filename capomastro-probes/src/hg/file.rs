//! Repositories of this machine, read in process where hg has left what they are at, and nothing speaks against it.
//!
//! hg keeps the heads of all branches in a cache, which says for which last changeset it was made. It is used where the
//! changelog ends with that changeset, and where no changeset is hidden from those who ask over a network; else hg is asked.

use super::heads::{Found, Head, Name, node, nonsense, pick};
use capomastro_core::{Error, ErrorKind, Result};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// The longest small file, in bytes.
const MAX_SMALL: u64 = 64 * 1024;
/// The longest list of heads or bookmarks, in bytes.
const MAX_LIST: u64 = 64 * 1024 * 1024;
/// The longest changelog whose index has the content between its entries, in bytes: hg splits it from 128 KiB on.
const MAX_INLINE: u64 = 4 * 1024 * 1024;
/// What an entry of a changelog's index has, in bytes.
const ENTRY: usize = 64;
/// What a repository may require and be read here. All that is unknown is hg's.
const KNOWN: [&str; 11] = [
    "dotencode",
    "fncache",
    "generaldelta",
    "revlogv1",
    "sparserevlog",
    "store",
    "share-safe",
    "persistent-nodemap",
    "revlog-compression-zstd",
    "dirstate-v2",
    "bookmarksinstore",
];

/// What was found.
#[derive(Debug)]
pub(super) enum Looked {
    /// For each name.
    Answers(BTreeMap<Name, Result<Found>>),
    NeedsProgram,
}

/// What these names are at in the repository in the folder `path`.
pub(super) async fn look(readers: &Arc<Semaphore>, path: PathBuf, names: BTreeSet<Name>) -> Result<Looked> {
    on_a_thread(readers, move || answers(&path, names)).await
}

/// At most as many threads as there are permits read at a time, so that a file server that hangs cannot eat them all up.
async fn on_a_thread<T: Send + 'static>(
    readers: &Arc<Semaphore>,
    read: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let permit = Arc::clone(readers)
        .acquire_owned()
        .await
        .map_err(|_| Error::internal("the readers of local repositories are gone"))?;
    let reading = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        read()
    });
    reading.await.map_err(|e| Error::internal("a reader of local repositories broke").with_source(e))?
}

fn answers(path: &Path, names: BTreeSet<Name>) -> Result<Looked> {
    let control = path.join(".hg");
    if !there(&control)? {
        if there(path)? {
            return Err(Error::config("the folder is no hg repository: check the path")
                .with_context("path", path.display()));
        }
        // A whole file system that is away says nothing of a repository.
        return match path.parent() {
            Some(parent) if there(parent)? => {
                Ok(Looked::Answers(names.into_iter().map(|n| (n, Ok(Found::Nothing))).collect()))
            }
            _ => Err(Error::config("there is no such folder, nor one that it could be in: check the path")
                .with_context("path", path.display())),
        };
    }
    let store = control.join("store");
    let Some(requires) = requirements(&control, &store)? else { return Ok(Looked::NeedsProgram) };
    if hides_something(&store)? {
        return Ok(Looked::NeedsProgram);
    }
    let mut branches = None;
    let mut bookmarks = None;
    let mut answers = BTreeMap::new();
    for name in names {
        let found = match &name {
            Name::Branch(branch) => {
                if branches.is_none() {
                    branches = cached_heads(&control, &store)?;
                }
                let Some(branches) = &branches else { return Ok(Looked::NeedsProgram) };
                pick(branches.get(branch.as_bytes()).map_or(&[][..], Vec::as_slice))
            }
            Name::Bookmark(bookmark) => {
                if bookmarks.is_none() {
                    let folder = if requires.contains("bookmarksinstore") { &store } else { &control };
                    bookmarks = Some(marks(&read(&folder.join("bookmarks"), MAX_LIST)?.unwrap_or_default())?);
                }
                // One that stands for what another repository had is nobody's to follow.
                let is_foreign = bookmark.find('@').is_some_and(|at| at + 1 < bookmark.len());
                let found = bookmarks.iter().flatten().find(|(name, _)| name == bookmark.as_bytes());
                Ok(match found {
                    Some((_, node)) if !is_foreign => Found::Node(node.clone()),
                    _ => Found::Nothing,
                })
            }
        };
        answers.insert(name, found);
    }
    Ok(Looked::Answers(answers))
}

/// What the repository requires; `None` if something in it is not known here.
fn requirements(control: &Path, store: &Path) -> Result<Option<BTreeSet<String>>> {
    let mut all = BTreeSet::new();
    for folder in [control, store] {
        let text = read(&folder.join("requires"), MAX_SMALL)?.unwrap_or_default();
        all.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
    }
    let is_known = all.iter().all(|one| KNOWN.contains(&one.as_str()));
    Ok(Some(all).filter(|all| is_known && all.contains("store") && all.contains("revlogv1")))
}

/// Whether there are changesets that are not shown to everybody: secret or obsolete ones.
fn hides_something(store: &Path) -> Result<bool> {
    if read(&store.join("obsstore"), MAX_LIST)?.is_some_and(|markers| markers.len() > 1) {
        return Ok(true);
    }
    let roots = read(&store.join("phaseroots"), MAX_LIST)?.unwrap_or_default();
    // 0 is public, 1 draft.
    Ok(roots.split(|b| *b == b'\n').any(|line| !line.is_empty() && !matches!(line, [b'0' | b'1', b' ', ..])))
}

/// The heads of all branches, if what hg has kept of them is of now.
fn cached_heads(control: &Path, store: &Path) -> Result<Option<BTreeMap<Vec<u8>, Vec<Head>>>> {
    let Some(text) = read(&control.join("cache/branch2-served"), MAX_LIST)? else { return Ok(None) };
    let mut lines = text.split(|b| *b == b'\n');
    // The last changeset and its number; a third word would be of what was hidden.
    let first: Vec<&[u8]> = lines.next().unwrap_or_default().split(|b| *b == b' ').collect();
    let [tip, number] = first[..] else { return Ok(None) };
    let (Ok(tip), Some(number)) = (node(tip), number_of(number)) else { return Ok(None) };
    if last(&store.join("00changelog.i"))? != Some((number, tip)) {
        return Ok(None);
    }
    let mut branches: BTreeMap<Vec<u8>, Vec<Head>> = BTreeMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, |b| *b == b' ');
        let (Some(head), Some(state), Some(name)) = (words.next(), words.next(), words.next()) else {
            return Ok(None);
        };
        let is_closed = match state {
            b"o" => Some(false),
            b"c" => Some(true),
            _ => return Ok(None),
        };
        let Ok(head) = node(head) else { return Ok(None) };
        branches.entry(name.to_vec()).or_default().push(Head { node: head, is_closed });
    }
    Ok(Some(branches))
}

fn number_of(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}

/// Number and node of the last changeset; `None` if the changelog is of a kind that is not read here, or empty.
fn last(index: &Path) -> Result<Option<(u64, String)>> {
    let mut file = match File::open(index) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(index, e)),
    };
    let look = || -> io::Result<Option<(u64, String)>> {
        let size = file.metadata()?.len();
        let mut entry = [0; ENTRY];
        if size < ENTRY as u64 {
            return Ok(None);
        }
        file.read_exact(&mut entry)?;
        // The version stands where the first entry has nothing to say: 1, and whether content stands in between.
        let (flags, version) =
            (u16::from_be_bytes([entry[0], entry[1]]), u16::from_be_bytes([entry[2], entry[3]]));
        if version != 1 {
            return Ok(None);
        }
        if flags & 1 == 0 {
            if size % ENTRY as u64 != 0 {
                return Ok(None);
            }
            file.seek(SeekFrom::Start(size - ENTRY as u64))?;
            file.read_exact(&mut entry)?;
            return Ok(Some((size / ENTRY as u64 - 1, hex(&entry[32..52]))));
        }
        if size > MAX_INLINE {
            return Ok(None);
        }
        let mut bytes = entry.to_vec();
        file.take(MAX_INLINE).read_to_end(&mut bytes)?;
        Ok(last_inline(&bytes))
    };
    look().map_err(|e| unreadable(index, e))
}

/// The last entry of an index with the content between its entries.
fn last_inline(bytes: &[u8]) -> Option<(u64, String)> {
    let (mut at, mut number, mut last) = (0_usize, 0_u64, None);
    while at < bytes.len() {
        let entry = bytes.get(at..at.checked_add(ENTRY)?)?;
        let length = u32::from_be_bytes(entry[8..12].try_into().ok()?);
        last = Some((number, hex(&entry[32..52])));
        number += 1;
        at = at.checked_add(ENTRY)?.checked_add(usize::try_from(length).ok()?)?;
    }
    last.filter(|_| at == bytes.len())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A line for each bookmark: node, blank, name.
fn marks(text: &[u8]) -> Result<Vec<(Vec<u8>, String)>> {
    let lines = text.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| match line.split_at_checked(41) {
            Some((head, name)) if head.ends_with(b" ") => Ok((name.to_vec(), node(&head[..40])?)),
            _ => Err(nonsense("bookmarks that are none")),
        })
        .collect()
}

fn there(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(e) => Err(unreadable(path, e)),
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
            (ErrorKind::PermissionDenied, "the repository may not be read by this user: give it the right to")
        }
        _ => (ErrorKind::Unavailable, "the repository cannot be read now: see the cause"),
    };
    Error::new(kind, message).with_context("path", path.display()).with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_ends_in_the_middle_is_not_believed() {
        let mut bytes = vec![0_u8; ENTRY + 3];
        bytes[..4].copy_from_slice(&[0, 1, 0, 1]);
        bytes[11] = 3;
        bytes[32..52].fill(0xab);
        assert_eq!(last_inline(&bytes), Some((0, "ab".repeat(20))));
        assert_eq!(last_inline(&bytes[..ENTRY + 2]), None);
        assert_eq!(last_inline(&bytes[..ENTRY - 1]), None);
        bytes.extend_from_slice(&[1; 10]);
        assert_eq!(last_inline(&bytes), None);
        assert_eq!(last_inline(&[]), None);
    }
}
