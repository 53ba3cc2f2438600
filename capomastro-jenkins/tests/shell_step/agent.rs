//! What Jenkins' agent does with a step.

use capomastro_core::time::{Clock, SystemClock};
use capomastro_jenkins::template::JobTemplate;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// An agent's folders, with a repository of a job type.
pub(crate) struct Agent {
    pub(crate) home: TempDir,
}

/// How a step ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) type Parameters = BTreeMap<String, String>;

pub(crate) fn parameters<const N: usize>(given: [(&str, &str); N]) -> Parameters {
    given.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

impl Agent {
    /// With one commit on branch `lib` whose script `build` says this.
    pub(crate) fn new(script: &str) -> Self {
        let home = tempfile::Builder::new().prefix("an agent's ").tempdir().unwrap();
        // Containers whose root is nobody here must get through.
        fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let agent = Self { home };
        for folder in ["workspace", "workspace@tmp", "types"] {
            fs::create_dir(agent.path(folder)).unwrap();
        }
        agent.git(&["init", "--quiet", "--initial-branch=lib"]);
        agent.commit(script);
        agent
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.home.path().join(below)
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.path("types"))
            .args(["-c", "user.name=a", "-c", "user.email=a@example.org"])
            .args(args)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// One more commit, in which `build` says this. Gives back its id.
    pub(crate) fn commit(&self, script: &str) -> String {
        let build = self.path("types/build");
        fs::write(&build, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&build, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message=x", "--allow-empty"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// A template for the job type of this agent.
    pub(crate) fn template(&self) -> JobTemplate {
        JobTemplate::new(self.path("types").to_str().unwrap(), "lib", "build")
    }

    /// Starts a step as Jenkins does: what is not given has the job's default.
    pub(crate) fn start(&self, template: &JobTemplate, given: &Parameters) -> Child {
        let step = self.path("step.sh");
        fs::write(&step, template.shell_step().unwrap()).unwrap();
        let mut all = parameters([
            ("CAPOMASTRO_JOB_TYPE", template.repository.as_str()),
            ("CAPOMASTRO_BRANCH", &template.branch),
            ("CAPOMASTRO_JOB_TYPE_REVISION", ""),
            ("CAPOMASTRO_SCRIPT", &template.script),
            ("CAPOMASTRO_PROBE_LANGUAGE", "token"),
            ("CAPOMASTRO_PROBE_SECONDS", ""),
            ("BUILD_NUMBER", "7"),
        ]);
        all.extend(given.clone());
        Command::new("/bin/sh")
            .arg(step)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("WORKSPACE", self.path("workspace"))
            .env("WORKSPACE_TMP", self.path("workspace@tmp"))
            .env("JOB_NAME", "lib")
            .envs(all)
            .current_dir(self.path("workspace"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs a step to its end. What it leaves running with its outputs open keeps this waiting.
    pub(crate) fn run(&self, template: &JobTemplate, given: &Parameters) -> Ended {
        ended(self.start(template, given))
    }

    /// That nothing of the step is left beside the workspace.
    pub(crate) fn assert_clean(&self) {
        let left: Vec<_> =
            fs::read_dir(self.path("workspace@tmp")).unwrap().map(|e| e.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

pub(crate) fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    Ended {
        status: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

pub(crate) fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
}

pub(crate) fn text(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

/// Waits until there is what is looked for.
pub(crate) fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for _ in 0..3_000 {
        if let Some(it) = there() {
            return it;
        }
        runtime.block_on(SystemClock.sleep(Duration::from_millis(10)));
    }
    panic!("not within 30 s: {what}");
}

/// Whether a process runs.
pub(crate) fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    // A zombie has ended.
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
