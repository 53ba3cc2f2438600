//! Jobs that are made for a test and are gone after it, however it ends.

use super::server::Server;
use capomastro_core::time::{Clock as _, Random as _, SystemClock, SystemRandom};
use capomastro_jenkins::{
    jobs::Pushed,
    template::{JobTemplate, Parameter},
};
use std::{
    fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path, process::Command, sync::Mutex, thread,
    time::Duration,
};
use tempfile::TempDir;

/// The default of parameters that nobody gives.
pub(super) const UNSET: &str = "-unset-";
/// Parameters that a job declares beside those of the template.
pub(super) const GIVEN: [&str; 4] = ["FAST", "EMPTY", "TARGET", "P"];
/// The name of the job type's branch.
const BRANCH: &str = "main";

/// A build that leaves a file and ends.
const BUILD: &str = r#"#!/bin/sh
set -eu
find . -mindepth 1 -delete
echo "building $CAPOMASTRO_REVISION"
mkdir out
printf %s "$CAPOMASTRO_REVISION" >out/it.txt
"#;

/// A build that goes on until a file says how it ends, or the folder of that file goes.
const HELD: &str = r#"#!/bin/sh
set -eu
find . -mindepth 1 -delete
told='@FOLDER@'
until [ -e "$told/$CAPOMASTRO_BUILD_ID.end" ]; do [ -d "$told" ] || exit 1; sleep 0.2; done
if [ -d "$told/$CAPOMASTRO_BUILD_ID.leaves" ]; then cp -R "$told/$CAPOMASTRO_BUILD_ID.leaves/." .; fi
exit "$(cat "$told/$CAPOMASTRO_BUILD_ID.end")"
"#;

/// What a job's builds do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Does {
    /// They leave `out/it.txt` with the revision in it, and log `building …`.
    Build,
    /// They go on until they are told how to end.
    Hold,
}

/// The jobs of one test. Nothing else on the server is ever touched.
#[derive(Debug)]
pub(super) struct Jobs {
    server: Server,
    prefix: String,
    /// Also those of which it is not known whether they came about.
    made: Mutex<Vec<String>>,
    folder: TempDir,
}

impl Jobs {
    pub(super) fn new(server: Server) -> Self {
        let all = fs::Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new()
            .prefix("capomastro-")
            .permissions(all.clone())
            .tempdir_in(&server.folder)
            .unwrap();
        for name in ["told", "type"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let told = folder.path().join("told");
        let held = HELD.replace("@FOLDER@", told.to_str().unwrap());
        let repository = folder.path().join("type");
        for (name, script) in [("build", BUILD), ("hold", &held)] {
            fs::write(repository.join(name), script).unwrap();
            fs::set_permissions(repository.join(name), all.clone()).unwrap();
        }
        git(&repository, &["init", "--quiet", "--initial-branch", BRANCH]);
        git(&repository, &["add", "."]);
        git(&repository, &["commit", "--quiet", "--message", "scripts"]);
        let prefix = format!("capomastro-try-{:032x}", SystemRandom.bits());
        Self { server, prefix, made: Mutex::default(), folder }
    }

    pub(super) const fn server(&self) -> &Server {
        &self.server
    }

    /// The folder in which builds that are held look for how to end.
    pub(super) fn told(&self) -> std::path::PathBuf {
        self.folder.path().join("told")
    }

    /// What a job of this name will be called on the server.
    pub(super) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn template(&self, does: Does) -> JobTemplate {
        let script = if does == Does::Build { "build" } else { "hold" };
        let repository = self.folder.path().join("type");
        let mut template = JobTemplate::new(repository.to_str().unwrap(), BRANCH, script)
            .described("Made by a test of Capomastro, which deletes it at its end.")
            .parameter(Parameter::string("CAPOMASTRO_NUMBER"))
            .parameter(Parameter::string("CAPOMASTRO_BUILD_KEY"))
            .concurrent(true)
            .keeping("**");
        for name in GIVEN {
            template = template.parameter(Parameter::string(name).default_value(UNSET));
        }
        template
    }

    /// Makes a job, or brings it up to date.
    pub(super) async fn push(&self, name: &str, does: Does) -> Pushed {
        let full = self.name(name);
        self.made.lock().unwrap().push(full.clone());
        let launcher = self.server.launcher(&self.server.url).build().unwrap();
        launcher.jobs().push(&full, &self.template(does)).await.unwrap()
    }
}

fn git(folder: &Path, arguments: &[&str]) {
    let done = Command::new("git")
        .current_dir(folder)
        .args(["-c", "user.name=it", "-c", "user.email=it@example.org", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Deletes them, or names those that stayed.
async fn delete(server: &Server, made: Vec<String>) -> Vec<String> {
    let jobs = server.launcher(&server.url).build().unwrap().jobs();
    let mut stayed = Vec::new();
    for job in made {
        let mut last = None;
        for _ in 0..10 {
            match jobs.delete(&job).await {
                Ok(_) => {
                    last = None;
                    break;
                }
                Err(e) => last = Some(e),
            }
            SystemClock.sleep(Duration::from_millis(500)).await;
        }
        stayed.extend(last.map(|e| format!("{job}: {e}")));
    }
    stayed
}

impl Drop for Jobs {
    /// Also when the test has failed. On a thread of its own, as the test's runtime may be at its end.
    fn drop(&mut self) {
        // Whoever panicked meanwhile has made jobs all the same.
        let mut made = std::mem::take(&mut *self.made.lock().unwrap_or_else(|e| e.into_inner()));
        made.dedup();
        if made.is_empty() {
            return;
        }
        let server = self.server.clone();
        let cleaner = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(delete(&server, made))
        });
        let stayed = cleaner.join().unwrap_or_else(|_| vec!["nobody knows which".into()]);
        if !stayed.is_empty() {
            let line = format!("NOT DELETED from {}: {stayed:?}: delete them by hand\n", self.server.url);
            std::io::stderr().write_all(line.as_bytes()).ok();
            assert!(thread::panicking(), "{line}");
        }
    }
}
