//! The folder of a build that has ended, in which the build itself could write what it liked.

use super::{SECRET, is_decent, parts};
use capomastro_core::{
    launch::{BuildLauncher as _, BuildOutput as _, Seen},
    model::{ExternalRef, LaunchKey},
    time::{Clock as _, SystemClock},
};
use capomastro_process::CommandLauncher;
use futures_util::future::{Either, select};
use rustix::fs::{CWD, Mode, mkfifoat};
use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};
use tokio::runtime::Runtime;

/// Far longer than any look takes: a launcher that needs it hangs.
const DEADLINE: Duration = Duration::from_secs(20);
const KEY: &str = "0198b5c6-7d00-7000-8000-000000000001";
/// What a launcher and a build that ended well leave.
const LOCK: &str = "lock\n";
const REQUEST: &str = concat!("request.json\n", include_str!("request.json"));
const STATUS: &str = "status.json\n{\"format\":1,\"code\":0,\"stopped\":false}";
const LOG: &str = "log\nall went well\n";
const ARTIFACT: &str = "workspace/a\nwhat was built";
/// Stands for the folder in which the build ran.
const DIR: &str = "@DIR@";
const NAMES: &[&str] = &[
    "lock",
    "request.json",
    "started",
    "status.json",
    "result.json",
    "says/built-revision",
    "log",
    "log.cut",
    "cancel",
    "stopping",
    "drop",
    "drop/a",
    "workspace",
    "workspace/a",
    "artifacts",
    "artifacts/a",
];

struct Place {
    runtime: Runtime,
    launcher: CommandLauncher,
    root: tempfile::TempDir,
}

thread_local! {
    static PLACE: Place = {
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        fs::create_dir(root.path().join("builds")).unwrap();
        fs::write(root.path().join("builds/root.json"), r#"{"format":1,"id":"here"}"#).unwrap();
        // What lies outside the build's folder and is none of its business.
        fs::create_dir(root.path().join("outside")).unwrap();
        fs::write(root.path().join("outside/secret"), SECRET).unwrap();
        let launcher = CommandLauncher::builder(root.path().join("builds")).build().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(8)
            .build()
            .unwrap();
        Place { runtime, launcher, root }
    };
}

/// Each part is one file: a line `<name> [file|link|pipe|folder]`, then its content, or where the link leads (`@` stands for
/// a folder outside, which holds the file `secret`). Files of a build that ended well are there unless something else is.
pub fn build_folder(data: &[u8]) -> bool {
    PLACE.with(|place| {
        let folder = place.root.path().join("builds").join(KEY);
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir(&folder).unwrap();
        let outside = place.root.path().join("outside");
        for part in [LOCK, REQUEST, STATUS, LOG, ARTIFACT] {
            put(&folder, &outside, part.as_bytes());
        }
        for part in parts(data).into_iter().take(20) {
            put(&folder, &outside, part);
        }
        place.look()
    })
}

/// The files are few and small: who does not answer waits for something that never comes.
async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match select(pin!(future), SystemClock.sleep(DEADLINE)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => panic!("{what} hangs"),
    }
}

fn put(folder: &Path, outside: &Path, part: &[u8]) {
    let (head, content) = match part.iter().position(|b| *b == b'\n') {
        Some(end) => (&part[..end], &part[end + 1..]),
        None => (part, &[][..]),
    };
    let head = String::from_utf8_lossy(head).into_owned();
    let mut words = head.split_whitespace();
    let Some(name) = words.next().filter(|n| NAMES.contains(n)) else { return };
    let path = folder.join(name);
    // What cannot be put there, since a part of its path is something else already, is left out.
    let made = (|| {
        if let Some(parent) = path.parent().filter(|p| !p.exists()) {
            fs::create_dir(parent)?;
        }
        if path.parent().is_some_and(Path::is_symlink) {
            return Ok(());
        }
        match fs::symlink_metadata(&path) {
            Ok(m) if m.is_dir() => fs::remove_dir_all(&path)?,
            Ok(_) => fs::remove_file(&path)?,
            Err(_) => {}
        }
        match words.next() {
            Some("link") => {
                let to = PathBuf::from(std::ffi::OsStr::from_bytes(content.trim_ascii()));
                symlink(to.strip_prefix("@").map_or_else(|_| to.clone(), |rest| outside.join(rest)), &path)
            }
            Some("pipe") => Ok(mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR)?),
            Some("folder") => fs::create_dir(&path),
            // The folder in which the build ran has another name each time.
            _ => match str::from_utf8(content) {
                Ok(text) => fs::write(&path, text.replace(DIR, &folder.join("workspace").to_string_lossy())),
                Err(_) => fs::write(&path, content),
            },
        }
    })();
    drop(made);
}

impl Place {
    fn look(&self) -> bool {
        let (key, build): (LaunchKey, _) = (KEY.parse().unwrap(), ExternalRef(format!("here/{KEY}")));
        let asked = [(key, build.clone())];
        let (seen, log, artifacts) = self.runtime.block_on(async {
            let mut reports = in_time("observe", self.launcher.observe(&asked)).await;
            assert_eq!(reports.len(), 1);
            let log = in_time("log", self.launcher.log(&build, 0, 1 << 20)).await;
            let seen = reports.remove(0).map(|r| r.seen);
            let mut names = vec!["a".to_owned(), "../log".to_owned(), "/etc/passwd".to_owned()];
            if let Ok(Seen::Ended(ended)) = &seen {
                names.extend(ended.artifacts.iter().take(20).map(|a| a.name.clone()));
            }
            let mut artifacts = Vec::new();
            for name in names {
                let read = in_time("artifact", self.launcher.artifact(&build, &name, 0, 1 << 20)).await;
                artifacts.push((name, read));
            }
            (seen, log, artifacts)
        });
        for (what, read) in std::iter::once(("the log".to_owned(), log)).chain(artifacts) {
            match read {
                Ok(chunk) => {
                    let text = String::from_utf8_lossy(&chunk.bytes);
                    assert!(!text.contains(SECRET), "{what} leads outside");
                }
                Err(error) => is_decent(&error),
            }
        }
        match seen {
            Ok(Seen::Ended(ended)) => {
                assert!(ended.message.is_none_or(|m| m.len() <= 8_000), "a message is bounded");
                let (kept, _) = capomastro_core::track::safe_artifacts(ended.artifacts);
                for artifact in kept {
                    let is_inside = |p: &str| !matches!(p, "" | "." | "..");
                    assert!(artifact.name.split('/').all(is_inside), "{:?}", artifact.name);
                }
                true
            }
            Ok(_) => false,
            Err(error) => {
                is_decent(&error);
                false
            }
        }
    }
}
