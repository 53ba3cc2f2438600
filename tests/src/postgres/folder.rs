//! The one folder of this process, which does not outlive it.

use std::{
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

const PREFIX: &str = "capomastro-pg-";
const LOCK: &str = "lock";

/// How often a new folder may be swept away by somebody before it is locked.
const TRIES: usize = 20;

/// A fresh folder, that whoever runs the servers owns.
pub(super) fn fresh(kind: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let folder = of_process().join(format!("{kind}{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&folder).unwrap_or_else(|e| panic!("{folder:?} cannot be made: {e}"));
    give(&folder);
    folder
}

/// Gives a file or folder to whoever runs the servers.
pub(super) fn give(path: &Path) {
    if let Some(to) = super::installed::unprivileged() {
        std::os::unix::fs::chown(path, Some(to.user), Some(to.group)).expect("root may give files away");
    }
}

/// The folder of this process. It is locked as long as the process lives, and removed when the lock is free: by a process that
/// waits for that, or else by the next one that makes such a folder.
pub(super) fn of_process() -> &'static Path {
    static FOLDER: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (folder, _) = FOLDER.get_or_init(|| {
        let within = std::env::temp_dir();
        sweep(&within);
        let made = (0..TRIES).find_map(|_| make(&within).expect("the temporary folder can be written"));
        let (folder, lock) = made.expect("a folder of our own is not swept by others again and again");
        // A process of its own group, so that what ends the tests (Ctrl-C) does not end it before it is done.
        let mut janitor = Command::new("flock");
        janitor
            .arg("--exclusive")
            .arg(folder.join(LOCK))
            .args(["rm", "-rf", "--one-file-system", "--"])
            .arg(&folder);
        janitor
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0);
        drop(janitor.spawn().expect("flock, of util-linux, is there"));
        (folder, lock)
    });
    folder
}

/// Nothing, if another process took the new folder for a leftover.
fn make(within: &Path) -> io::Result<Option<(PathBuf, File)>> {
    let folder = tempfile::Builder::new()
        .prefix(PREFIX)
        .permissions(Permissions::from_mode(0o711))
        .tempdir_in(within)?
        .keep();
    let path = folder.join(LOCK);
    let lock = match File::create(&path) {
        Ok(lock) => lock,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let is_locked = lock.try_lock().is_ok();
    let is_same = match (lock.metadata(), fs::metadata(&path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    };
    Ok((is_locked && is_same).then_some((folder, lock)))
}

/// Removes the folders of processes that are gone.
fn sweep(within: &Path) {
    let me = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(within).into_iter().flatten().filter_map(Result::ok) {
        let is_ours = entry.file_name().to_str().is_some_and(|n| n.starts_with(PREFIX))
            && entry.metadata().is_ok_and(|m| m.is_dir() && m.uid() == me);
        if !is_ours {
            continue;
        }
        let folder = entry.path();
        match File::open(folder.join(LOCK)) {
            Ok(lock) => match lock.try_lock() {
                // With the lock held until it is gone.
                Ok(()) => drop(fs::remove_dir_all(&folder)),
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
            },
            // Only an empty one: the lock is what is made first, and removed with everything else.
            Err(_) => drop(fs::remove_dir(&folder)),
        }
    }
}
