//! Scripts of a job type that print a revision are what a probe must be.

use crate::{branches::Branch, support::Place};
use capomastro_core::{async_trait, model::Source, probe::RevisionProbe};
use capomastro_probes::job_type::{JobTypeProbe, JobTypeSource};
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

const TOKEN: &str = "correct horse battery";

/// Prints what stands in a file of the folder that is the source. Says where it runs as long as it does, and hangs together
/// with a child.
const SCRIPT: &str = r#"#!/bin/sh
cd "$CAPOMASTRO_SOURCE" || exit 3
: >"runs.$$"
trap 'rm -f "runs.$$"' EXIT
[ ! -e guarded ] || [ -n "$TOKEN" ] || exit 3
echo "the token is $TOKEN" >&2
if [ -e hangs ]; then sleep 600 & : >"runs.$!"; wait; fi
cat state
"#;

/// A folder for each source, and one branch for all.
#[derive(Debug)]
struct Sources {
    branch: Branch,
    place: Place,
    rebuild: bool,
    made: AtomicU32,
}

impl Sources {
    fn new(rebuild: bool) -> Self {
        let branch = Branch::git();
        branch.commit(&[("probe", SCRIPT)]);
        Self { branch, place: Place::new(), rebuild, made: AtomicU32::new(0) }
    }

    fn next(&self) -> u32 {
        self.made.fetch_add(1, Ordering::SeqCst)
    }

    fn make(&self) -> (PathBuf, JobTypeSource) {
        let folder = self.place.root.path().join(format!("s{}", self.next()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("state"), format!("r{}", self.next())).unwrap();
        let source = JobTypeSource::token(self.branch.job_type()).source(folder.to_str().unwrap());
        (folder, source.rebuild_on_type_change(self.rebuild))
    }
}

/// Whether a process exists that has not ended.
fn lives(pid: &str) -> bool {
    fs::read_to_string(Path::new("/proc").join(pid).join("stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X'])))
}

#[async_trait]
impl ProbeHarness for Sources {
    fn time(&self) -> Time {
        Time::Machine
    }

    fn open(&self) -> Arc<dyn RevisionProbe> {
        Arc::new(JobTypeProbe::new(self.place.checkouts(), Arc::new(ProcessRunner::new())))
    }

    fn refused(&self) -> Vec<Source> {
        let git = json!({"git": {"url": "/srv/x.git"}});
        [
            json!({}),
            json!({"job_type": {"git": {}}}),
            json!({"job_type": {"cvs": {"url": "/x"}}}),
            json!({"job_type": git, "probe": []}),
            json!({"job_type": git, "probe": ["/bin/sh"]}),
            json!({"job_type": git, "env": {"JOB_TYPE_DIR": "x"}}),
            json!({"job_type": git, "probee": ["x"]}),
        ]
        .map(|config| Source::new("job-type", config).unwrap())
        .into()
    }

    async fn source(&self) -> Source {
        self.make().1.into_source("job-type").unwrap()
    }

    /// Each script is run by itself, but those with equal sources.
    async fn beside(&self, _: &Source) -> Option<Source> {
        None
    }

    async fn cause(&self, source: &Source, what: Happens) -> bool {
        let folder = Path::new(source.config["source"].as_str().unwrap());
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
        let source = source.secret_env("TOKEN", "forge").into_source("job-type").unwrap();
        Some(Guarded { source, secret: "forge".into(), value: TOKEN.into() })
    }

    /// A process that was killed takes nothing back that it said; whether it lives can be told all the same.
    async fn left(&self) -> usize {
        let mut left = 0;
        for folder in fs::read_dir(self.place.root.path()).unwrap() {
            for entry in fs::read_dir(folder.unwrap().path()).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                left += usize::from(name.strip_prefix("runs.").is_some_and(lives));
            }
        }
        left
    }
}

capomastro_testkit::revision_probe_conformance!(by_script, Sources::new(false));
capomastro_testkit::revision_probe_conformance!(by_script_and_branch, Sources::new(true));
