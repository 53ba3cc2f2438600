//! What SQLite says, in the words of the library.

use capomastro_core::{Error, ErrorKind, Retry};
use std::path::Path;

/// A failure of SQLite, kept as a value: one failed group is answered to each of its callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// SQLite's extended result code; `None` if a row was not of the expected form.
    pub(crate) code: Option<i32>,
    text: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.code {
            Some(code) => write!(f, "SQLite result {code}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for Failure {}

impl From<rusqlite::Error> for Failure {
    fn from(e: rusqlite::Error) -> Self {
        Self { code: e.sqlite_error().map(|e| e.extended_code), text: e.to_string() }
    }
}

/// What a result code means: kind, advice, and what to do.
struct Meaning {
    kind: ErrorKind,
    retry: Retry,
    what_to_do: &'static str,
}

/// The meaning of an extended result code (<https://sqlite.org/rescode.html>).
///
/// An unknown extended code means what its primary code means, so that a newer SQLite is understood too.
const fn meaning(extended: i32) -> Meaning {
    let (kind, retry, what_to_do) = match (extended & 0xff, extended) {
        (5 | 6, _) => (
            ErrorKind::Unavailable,
            Retry::Backoff,
            "another process is writing to the store: try again, and if it lasts, look for one that keeps a transaction open",
        ),
        (8, 1032) => (
            ErrorKind::Unavailable,
            Retry::Never,
            "the store's file was moved or deleted while it was open: put it back and restart",
        ),
        (8, _) => (
            ErrorKind::ReadOnly,
            Retry::Never,
            "the store cannot be written: give this process write permission for the file, its -wal and -shm files and their folder, and check that the file system is not mounted read-only",
        ),
        (13 | 22, _) => (
            ErrorKind::StorageFull,
            Retry::Backoff,
            "no room is left where the store is kept: free some on that file system; nothing was written",
        ),
        (11 | 26, _) => (
            ErrorKind::Corrupt,
            Retry::Never,
            "the file is damaged or no SQLite database: stop every process that uses it, keep a copy, and restore a backup or give another path",
        ),
        (10, _) => (
            ErrorKind::Unavailable,
            Retry::Backoff,
            "reading or writing the store's file failed: look in the system's log for the disk or file system",
        ),
        (14, _) => (
            ErrorKind::Unavailable,
            Retry::Backoff,
            "the store's file or its -wal or -shm file cannot be opened: check that the folder exists, that this process may write there, and the limit on open files (ulimit -n)",
        ),
        (3 | 23, _) => (
            ErrorKind::PermissionDenied,
            Retry::Never,
            "access to the store's file is denied: give this process read and write permission for the file and its folder",
        ),
        (7, _) => (
            ErrorKind::Unavailable,
            Retry::Backoff,
            "memory is short: give the process more, or run fewer of them",
        ),
        (4 | 9 | 15 | 17, _) => (
            ErrorKind::Unavailable,
            Retry::Backoff,
            "the store was interrupted by another connection: try again",
        ),
        (18, _) => (
            ErrorKind::InvalidInput,
            Retry::Never,
            "a record is larger than SQLite can keep: split what it describes into smaller parts",
        ),
        _ => (
            ErrorKind::Internal,
            Retry::Never,
            "SQLite refused a statement of the store: report this with the whole message, and check that no other program changes the tables",
        ),
    };
    Meaning { kind, retry, what_to_do }
}

/// Whether a failed COMMIT certainly wrote nothing.
///
/// A failure of the disk can come after the log's last frame was written: a crash right then would bring the transaction
/// back. Where a lock, room or permission was missing, that frame was not written.
const fn commit_wrote_nothing(extended: i32) -> bool {
    matches!(extended & 0xff, 5 | 6 | 8 | 13 | 19 | 22)
}

impl Failure {
    /// A row that is not of the expected form, or an answer that cannot be made of it.
    pub(crate) const fn of_row(text: String) -> Self {
        Self { code: None, text }
    }

    /// A failure of a file that SQLite knows nothing of.
    pub(crate) fn of_file(e: &std::io::Error) -> Self {
        let full = matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        Self { code: Some(if full { 13 } else { 10 }), text: e.to_string() }
    }

    /// The library's error for a failure after which nothing was written.
    pub(crate) fn error(&self, path: &Path) -> Error {
        let error = match self.code.map(meaning) {
            Some(m) => Error::new(m.kind, m.what_to_do).with_retry(m.retry),
            None => Error::new(
                ErrorKind::Corrupt,
                "a row of the store is not of the form in which it was written: restore a backup, and check that no other program changes the tables",
            ),
        };
        error.with_context("file", path.display()).with_source(self.clone())
    }

    /// The library's error for a failure of COMMIT itself.
    pub(crate) fn commit_error(&self, path: &Path) -> Error {
        if self.nothing_committed() {
            return self.error(path);
        }
        Error::new(
            ErrorKind::OutcomeUnknown,
            "it is not known whether the commit was written, because the disk failed in the middle of it: repeat the same commit, and look in the system's log for the disk",
        )
        .with_context("file", path.display())
        .with_source(self.clone())
    }

    /// Whether this failure of COMMIT certainly wrote nothing.
    pub(crate) fn nothing_committed(&self) -> bool {
        self.code.is_some_and(commit_wrote_nothing)
    }

    /// Whether reading, writing or syncing a file failed.
    pub(crate) fn is_of_disk(&self) -> bool {
        self.code.is_some_and(|c| c & 0xff == 10)
    }

    /// Whether this is about a lock that another connection holds.
    pub(crate) fn is_busy(&self) -> bool {
        self.code.is_some_and(|c| matches!(c & 0xff, 5 | 6 | 15))
    }

    /// Whether a file could not be opened.
    pub(crate) fn is_cannot_open(&self) -> bool {
        self.code.is_some_and(|c| c & 0xff == 14)
    }
}

/// The error of every call after the store was closed.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store was closed, or a thread of it ended: open it again")
        .with_retry(Retry::Never)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32) -> Failure {
        Failure { code: Some(code), text: "as SQLite says".into() }
    }

    #[test]
    fn every_code_has_its_kind_and_advice() {
        use ErrorKind as K;
        use Retry::{Backoff, Never};
        for (code, kind, retry) in [
            (5, K::Unavailable, Backoff),
            (5 | (1 << 8), K::Unavailable, Backoff),
            (5 | (2 << 8), K::Unavailable, Backoff),
            (6, K::Unavailable, Backoff),
            (6 | (1 << 8), K::Unavailable, Backoff),
            (8, K::ReadOnly, Never),
            (8 | (1 << 8), K::ReadOnly, Never),
            (8 | (4 << 8), K::Unavailable, Never),
            (8 | (6 << 8), K::ReadOnly, Never),
            (13, K::StorageFull, Backoff),
            (22, K::StorageFull, Backoff),
            (11, K::Corrupt, Never),
            (11 | (2 << 8), K::Corrupt, Never),
            (26, K::Corrupt, Never),
            (10, K::Unavailable, Backoff),
            (10 | (4 << 8), K::Unavailable, Backoff),
            (10 | (99 << 8), K::Unavailable, Backoff),
            (14, K::Unavailable, Backoff),
            (14 | (2 << 8), K::Unavailable, Backoff),
            (3, K::PermissionDenied, Never),
            (23, K::PermissionDenied, Never),
            (7, K::Unavailable, Backoff),
            (4, K::Unavailable, Backoff),
            (9, K::Unavailable, Backoff),
            (15, K::Unavailable, Backoff),
            (17, K::Unavailable, Backoff),
            (18, K::InvalidInput, Never),
            (1, K::Internal, Never),
            (19 | (8 << 8), K::Internal, Never),
            (21, K::Internal, Never),
            (250, K::Internal, Never),
        ] {
            let e = failure(code).error(Path::new("a.db"));
            assert_eq!((e.kind(), e.retry()), (kind, retry), "{code}");
            assert!(e.message().contains(": "), "says what to do: {e}");
            assert!(e.to_string().contains("file=a.db"), "{e}");
            assert!(e.report().contains("as SQLite says"), "{}", e.report());
        }
    }

    #[test]
    fn only_a_commit_that_may_have_reached_the_disk_is_of_unknown_outcome() {
        use ErrorKind as K;
        for (code, kind) in [
            (5, K::Unavailable),
            (8, K::ReadOnly),
            (13, K::StorageFull),
            (19, K::Internal),
            (10, K::OutcomeUnknown),
            (10 | (4 << 8), K::OutcomeUnknown),
            (11, K::OutcomeUnknown),
            (7, K::OutcomeUnknown),
            (1, K::OutcomeUnknown),
        ] {
            assert_eq!(failure(code).commit_error(Path::new("a.db")).kind(), kind, "{code}");
        }
    }

    #[test]
    fn a_row_of_another_form_is_damage() {
        let e = Failure::from(rusqlite::Error::InvalidColumnType(0, "x".into(), rusqlite::types::Type::Text));
        assert_eq!(e.error(Path::new("a.db")).kind(), ErrorKind::Corrupt);
    }
}
