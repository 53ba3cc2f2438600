//! What an error of the operating system means for a caller.

use capomastro_core::{Error, ErrorKind};
use std::{io, path::Path};

/// An error while doing `action` (a fragment that fits behind "failed to …") to a file or folder of ours.
#[cfg(target_os = "linux")]
pub(crate) fn on_disk(action: &str, path: &Path, error: io::Error) -> Error {
    use io::ErrorKind as K;
    let (kind, advice) = match error.kind() {
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => {
            (ErrorKind::StorageFull, "make room on the disk")
        }
        K::PermissionDenied | K::ReadOnlyFilesystem => {
            (ErrorKind::Unavailable, "make the folder writable for this user")
        }
        K::NotADirectory | K::NotFound => {
            (ErrorKind::Unavailable, "see that the folder is there and mounted")
        }
        _ => (ErrorKind::Unavailable, "see what the cause says"),
    };
    Error::new(kind, format!("cannot {action}: {advice}"))
        .with_context("path", path.display())
        .with_source(error)
}

/// An error while starting a process.
pub(crate) fn on_start(program: &Path, error: io::Error) -> Error {
    use io::ErrorKind as K;
    let (kind, advice) = match error.kind() {
        K::NotFound => (
            ErrorKind::NotFound,
            "the program, or the interpreter that its first line names, does not exist: install it",
        ),
        K::PermissionDenied => (ErrorKind::PermissionDenied, "the program may not be run by this user"),
        K::ArgumentListTooLong => {
            (ErrorKind::InvalidInput, "arguments and environment are too large: pass them in files")
        }
        K::InvalidInput => {
            (ErrorKind::InvalidInput, "an argument or the environment contains a NUL: remove it")
        }
        // ENOEXEC has no stable kind of its own.
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            (ErrorKind::InvalidInput, "the file is no program for this machine")
        }
        _ => (ErrorKind::Unavailable, "the program cannot be started now"),
    };
    Error::new(kind, advice).with_context("program", program.display()).with_source(error)
}
