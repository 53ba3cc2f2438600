//! Text that a program wants to read from a file: a private key, say.

use capomastro_core::{Error, ErrorKind, Result};
use std::{fmt, io};

/// Text under a path that a program of the same user on this machine can open, until this is dropped.
///
/// On Linux it never touches a disk, so that nothing is left behind when this process is killed: the path leads to
/// memory of this process. Elsewhere it is a file that only this user can read.
pub(crate) struct Handed {
    path: String,
    _held: Held,
}

#[cfg(target_os = "linux")]
type Held = std::fs::File;
#[cfg(not(target_os = "linux"))]
type Held = tempfile::NamedTempFile;

impl Handed {
    /// Hands over `text`.
    pub(crate) fn over(text: &str) -> Result<Self> {
        Self::hold(text).map_err(|e| {
            Error::new(ErrorKind::Unavailable, "a text cannot be put where a program can read it as a file")
                .with_source(e)
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    #[cfg(target_os = "linux")]
    fn hold(text: &str) -> io::Result<Self> {
        use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
        use std::{io::Write, os::fd::AsRawFd};

        let fd = memfd_create("capomastro", MemfdFlags::CLOEXEC)?;
        // ssh refuses a key that others may read.
        fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
        let mut file = std::fs::File::from(fd);
        file.write_all(text.as_bytes())?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        Ok(Self { path, _held: file })
    }

    #[cfg(not(target_os = "linux"))]
    fn hold(text: &str) -> io::Result<Self> {
        use std::io::Write;

        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(text.as_bytes())?;
        file.flush()?;
        let path = file.path().to_str().map(str::to_owned);
        let path = path.ok_or_else(|| io::Error::other("the directory for temporary files is not UTF-8"))?;
        Ok(Self { path, _held: file })
    }
}

impl fmt::Debug for Handed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handed").field(&self.path).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_read_often_until_it_is_dropped() {
        let handed = Handed::over("hunter2").unwrap();
        for _ in 0..2 {
            assert_eq!(std::fs::read_to_string(handed.path()).unwrap(), "hunter2");
        }
        assert!(!format!("{handed:?}").contains("hunter2"));
        let path = handed.path().to_owned();
        drop(handed);
        // Another thread's file may have got the number since; it does not hold the text.
        assert_ne!(std::fs::read(path).unwrap_or_default(), b"hunter2");
    }
}
