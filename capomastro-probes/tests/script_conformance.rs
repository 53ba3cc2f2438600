//! Scripts that print a revision are what a probe must be.

#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_core::{async_trait, model::Source, probe::RevisionProbe};
use capomastro_probes::script::{ScriptProbe, ScriptSource};
use capomastro_process::ProcessRunner;
use capomastro_testkit::conformance::{
    Time,
    probe::{Guarded, Happens, ProbeHarness},
};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use tempfile::TempDir;

const TOKEN: &str = "correct horse battery";

/// Prints what stands in a file of its folder. Says where it runs as long as it does, and hangs together with a child.
const SCRIPT: &str = r#"
: >"runs.$$"
trap 'rm -f "runs.$$"' EXIT
[ ! -e guarded ] || [ -n "$TOKEN" ] || exit 3
echo "the token is $TOKEN" >&2
if [ -e hangs ]; then sleep 600 & : >"runs.$!"; wait; fi
cat state
"#;

/// A folder for each source.
#[derive(Debug)]
struct Scripts {
    folder: TempDir,
    made: AtomicU32,
}

impl Scripts {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), made: AtomicU32::new(0) }
    }

    fn next(&self) -> u32 {
        self.made.fetch_add(1, Ordering::SeqCst)
    }

    fn make(&self) -> (PathBuf, ScriptSource) {
        let folder = self.folder.path().join(self.next().to_string());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("script"), SCRIPT).unwrap();
        fs::write(folder.join("state"), format!("r{}", self.next())).unwrap();
        let source = ScriptSource::token(["/bin/sh", "./script"]).dir(&folder);
        (folder, source)
    }
}

/// Whether a process exists that has not ended.
fn lives(pid: &str) -> bool {
    fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

#[async_trait]
impl ProbeHarness for Scripts {
    fn time(&self) -> Time {
        Time::Machine
    }

    fn open(&self) -> Arc<dyn RevisionProbe> {
        Arc::new(ScriptProbe::new(Arc::new(ProcessRunner::new())))
    }

    fn refused(&self) -> Vec<Source> {
        [
            json!({}),
            json!({"command": []}),
            json!({"command": ["a"], "dir": "here"}),
            json!({"comand": ["a"]}),
        ]
        .map(|config| Source::new("script", config).unwrap())
        .into()
    }

    async fn source(&self) -> Source {
        self.make().1.into_source("script").unwrap()
    }

    /// Each script is run by itself, but those with equal sources.
    async fn beside(&self, _: &Source) -> Option<Source> {
        None
    }

    async fn cause(&self, source: &Source, what: Happens) -> bool {
        let folder = Path::new(source.config["dir"].as_str().unwrap());
        let (state, old, hangs) = (folder.join("state"), folder.join("old"), folder.join("hangs"));
        match what {
            Happens::Change => {
                fs::copy(&state, &old).unwrap();
                fs::write(&state, format!("r{}", self.next())).unwrap();
            }
            Happens::Rewind => fs::rename(old, state).unwrap(),
            // What it looks at is gone, so it fails.
            Happens::Cut => fs::rename(state, folder.join("away")).unwrap(),
            Happens::Hang => fs::write(hangs, "").unwrap(),
            Happens::Mend => {
                if hangs.exists() {
                    fs::remove_file(hangs).unwrap();
                } else {
                    fs::rename(folder.join("away"), state).unwrap();
                }
            }
            // A script that prints a revision has no word for either.
            Happens::Vanish | Happens::Diverge => return false,
        }
        true
    }

    async fn guarded(&self) -> Option<Guarded> {
        let (folder, source) = self.make();
        fs::write(folder.join("guarded"), "").unwrap();
        let source = source.secret_env("TOKEN", "forge").into_source("script").unwrap();
        Some(Guarded { source, secret: "forge".into(), value: TOKEN.into() })
    }

    /// A process that was killed takes nothing back that it said; whether it lives can be told all the same.
    async fn left(&self) -> usize {
        let mut left = 0;
        for folder in fs::read_dir(self.folder.path()).unwrap() {
            for entry in fs::read_dir(folder.unwrap().path()).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                left += usize::from(name.strip_prefix("runs.").is_some_and(lives));
            }
        }
        left
    }
}

capomastro_testkit::revision_probe_conformance!(scripts, Scripts::new());
