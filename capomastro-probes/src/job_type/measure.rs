//! What is below a folder: how much, and of what kind.

use capomastro_core::{Error, ErrorKind, Result};
use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// How much one checkout may have.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Most {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// What every file and folder takes, besides its bytes, as a round number.
const OVERHEAD: u64 = 4_096;

/// How many bytes are below `folder` while somebody writes there: what disappears meanwhile is not counted. Stops at the
/// most.
pub(super) fn grown(folder: &Path, most: Most) -> io::Result<bool> {
    let (mut bytes, mut entries) = (0_u64, 0_u64);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let inside = match fs::read_dir(&folder) {
            Ok(inside) => inside,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in inside {
            let Ok(entry) = entry else { continue };
            let Ok(about) = entry.metadata() else { continue };
            entries += 1;
            bytes = bytes.saturating_add(about.len());
            if about.is_dir() {
                folders.push(entry.path());
            }
            if bytes > most.bytes || entries > most.entries {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Makes what is below `tree` durable and read-only, and tells how many bytes it has.
///
/// Errors: [`Corrupt`](ErrorKind::Corrupt) for what is neither file nor folder nor symbolic link,
/// [`StorageFull`](ErrorKind::StorageFull) and what else the file system says.
pub(super) fn settle(tree: &Path) -> Result<u64> {
    let mut bytes = 0_u64;
    let mut found = vec![tree.to_owned()];
    let mut folders = Vec::new();
    while let Some(folder) = found.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| fault(e, &folder))? {
            let path = entry.map_err(|e| fault(e, &folder))?.path();
            let about = fs::symlink_metadata(&path).map_err(|e| fault(e, &path))?;
            bytes = bytes.saturating_add(about.len()).saturating_add(OVERHEAD);
            if about.is_dir() {
                found.push(path);
            } else if about.is_file() {
                let executable = about.permissions().mode() & 0o111;
                let file = fs::File::open(&path).map_err(|e| fault(e, &path))?;
                // Who may run the library's checkouts may read them; nobody may write, nor become somebody else.
                let mode = if executable == 0 { 0o444 } else { 0o555 };
                file.set_permissions(fs::Permissions::from_mode(mode)).map_err(|e| fault(e, &path))?;
                file.sync_all().map_err(|e| fault(e, &path))?;
            } else if !about.is_symlink() {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    "the branch of the job type holds something that is neither file nor folder nor link: remove it there",
                )
                .with_context("path", path.display()));
            }
        }
        folders.push(folder);
    }
    for folder in folders.iter().rev() {
        let open = fs::File::open(folder).map_err(|e| fault(e, folder))?;
        open.set_permissions(fs::Permissions::from_mode(0o555)).map_err(|e| fault(e, folder))?;
        open.sync_all().map_err(|e| fault(e, folder))?;
    }
    Ok(bytes)
}

/// Removes a folder with all that is in it, read-only or not.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        match fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            changed => changed?,
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// What the file system says, as an error of ours.
pub(super) fn fault(e: io::Error, path: &Path) -> Error {
    let (kind, advice) = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => (
            ErrorKind::StorageFull,
            "no room is left for checkouts of job types: make some, or allow them less",
        ),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
            ErrorKind::PermissionDenied,
            "the folder of checkouts cannot be written: let it belong to the user that runs this, and to no other",
        ),
        _ => (ErrorKind::Unavailable, "the folder of checkouts does not work: see what the file system says"),
    };
    Error::new(kind, advice).with_context("path", path.display()).with_source(e)
}

/// The path without what could lead elsewhere: at least one part, all of them plain.
pub(super) fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && path.len() <= 1_000
        && !path.contains('\0')
        && PathBuf::from(path).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for path in ["probe", "bin/probe", "a b", "-x", "..a"] {
            assert!(is_inside(path), "{path}");
        }
        for path in ["", "/probe", "../probe", "a/../b", ".", "./probe", "a\0b"] {
            assert!(!is_inside(path), "{path:?}");
        }
        assert!(!is_inside(&"x".repeat(1_001)));
    }
}
