//! What the suite of launchers needs to know of builds as processes.

use capomastro_core::{
    async_trait,
    launch::{BuildLauncher, Outcome},
    model::LaunchKey,
};
use capomastro_process::{CommandJob, CommandLauncher};
use capomastro_testkit::conformance::{
    Time,
    launcher::{End, LauncherHarness, NextAnswer, Told},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;

/// A folder of builds, and beside it one in which each build says that it began and finds how it is to end.
#[derive(Debug)]
pub(crate) struct Processes {
    folder: TempDir,
}

/// Its own environment is what a build was told. One file for each process that began, so that a second one shows. It ends
/// with the case at the latest, when the folder goes.
pub(crate) const BUILD: &str = r#"
cat /proc/$$/environ >"$1/$CAPOMASTRO_BUILD_ID.$$.new" && mv "$1/$CAPOMASTRO_BUILD_ID.$$.new" "$1/$CAPOMASTRO_BUILD_ID.$$.told"
until [ -e "$1/$CAPOMASTRO_BUILD_ID.end" ]; do [ -d "$1" ] || exit; sleep 0.01; done
cp -R "$1/$CAPOMASTRO_BUILD_ID.leaves/." "$CAPOMASTRO_ARTIFACTS"
[ ! -e "$1/$CAPOMASTRO_BUILD_ID.built" ] || cp "$1/$CAPOMASTRO_BUILD_ID.built" "$CAPOMASTRO_BUILT_REVISION_FILE"
exit "$(cat "$1/$CAPOMASTRO_BUILD_ID.end")"
"#;

const UNSTABLE: u8 = 7;

/// Starts what it is given, and where it finds the file beside it, it lets nobody hear of that: the launcher's end of the
/// pipe is closed before the build has begun.
const SETSID: &str = r#"#!/bin/sh
if rm "${0%/*}/silent" 2>/dev/null; then exec >/dev/null; sleep 0.2; fi
PATH=${PATH#*:}
exec setsid "$@"
"#;

impl Processes {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("told")).unwrap();
        let harness = Self { folder };
        fs::create_dir(harness.tools()).unwrap();
        let setsid = harness.tools().join("setsid");
        fs::write(&setsid, SETSID).unwrap();
        fs::set_permissions(&setsid, fs::Permissions::from_mode(0o755)).unwrap();
        harness
    }

    fn tools(&self) -> PathBuf {
        self.folder.path().join("tools")
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("builds")
    }

    pub(crate) fn told(&self) -> PathBuf {
        self.folder.path().join("told")
    }

    fn of(&self, key: LaunchKey, what: &str) -> PathBuf {
        self.told().join(format!("{key}.{what}"))
    }
}

/// What stands in a process's environment.
fn told(environ: &Path) -> Told {
    let text = String::from_utf8(fs::read(environ).unwrap()).unwrap();
    let env: BTreeMap<&str, &str> =
        text.split_terminator('\0').map(|variable| variable.split_once('=').unwrap()).collect();
    let of = |name: &str| env.get(format!("CAPOMASTRO_{name}").as_str()).copied();
    let parameters = env.iter().filter_map(|(name, value)| {
        Some((name.strip_prefix("CAPOMASTRO_PARAM_")?.to_owned(), (*value).to_owned()))
    });
    let mut told = Told::revision(of("REVISION").unwrap().parse().unwrap());
    told.dependency = Some(of("DEPENDENCY").unwrap().parse().unwrap());
    told.number = Some(of("BUILD_NUMBER").unwrap().parse().unwrap());
    told.parameters = Some(parameters.collect());
    told.build_key = Some(of("BUILD_KEY").map(|key| key.parse().unwrap()));
    told
}

#[async_trait]
impl LauncherHarness for Processes {
    fn time(&self) -> Time {
        Time::Machine
    }

    async fn open(&self) -> Arc<dyn BuildLauncher> {
        let tools = format!(
            "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            self.tools().display()
        );
        Arc::new(CommandLauncher::builder(self.root()).tools_path(tools).build().unwrap())
    }

    fn job(&self) -> Value {
        let mut job = CommandJob::script(BUILD).unstable(UNSTABLE);
        job.command.push(self.told().to_str().unwrap().into());
        job.into()
    }

    fn bad_jobs(&self) -> Vec<Value> {
        vec![json!({}), json!({"command": []}), json!({"command": ["make"], "comand": 1}), json!(null)]
    }

    fn refused_job(&self) -> Option<Value> {
        Some(CommandJob::new(["no-such-program"]).into())
    }

    async fn builds(&self, key: LaunchKey) -> Vec<Told> {
        let entries = fs::read_dir(self.told()).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        let of_key = entries.filter(|path| {
            let name = name(path);
            name.starts_with(&key.to_string()) && name.ends_with(".told")
        });
        of_key.map(|path| told(&path)).collect()
    }

    async fn end(&self, key: LaunchKey, end: &End) -> bool {
        let leaves = self.of(key, "leaves");
        fs::create_dir(&leaves).unwrap();
        for (name, bytes) in &end.artifacts {
            let file = leaves.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
        if let Some(built) = &end.built {
            fs::write(self.of(key, "built"), built.as_str()).unwrap();
        }
        let status = match end.outcome {
            Outcome::Succeeded => 0,
            Outcome::Unstable => UNSTABLE,
            Outcome::Failed | Outcome::Cancelled | Outcome::Lost => 1,
        };
        fs::write(self.of(key, "status"), status.to_string()).unwrap();
        fs::rename(self.of(key, "status"), self.of(key, "end")).unwrap();
        true
    }

    async fn forget(&self, key: LaunchKey) -> bool {
        fs::remove_dir_all(self.root().join(key.to_string())).unwrap();
        true
    }

    /// Nobody can read which folder of builds this is.
    async fn cut(&self, cut: bool) -> bool {
        let (identity, away) = (self.root().join("root.json"), self.root().join("away"));
        if cut {
            fs::create_dir_all(self.root()).unwrap();
            if identity.exists() {
                fs::rename(&identity, &away).unwrap();
            }
            fs::create_dir(&identity).unwrap();
        } else {
            fs::remove_dir(&identity).unwrap();
            if away.exists() {
                fs::rename(&away, &identity).unwrap();
            }
        }
        true
    }

    /// What a supervisor says first is the answer.
    async fn lose_answer(&self) -> NextAnswer {
        fs::write(self.tools().join("silent"), "").unwrap();
        NextAnswer::IsLost
    }
}
