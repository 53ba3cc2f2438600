//! Builds by scripts of a job type are what a launcher's builds must be.

use crate::{
    processes::{BUILD, Processes},
    repository::{Branch, folder},
};
use capomastro_core::{async_trait, launch::BuildLauncher, model::LaunchKey};
use capomastro_probes::job_type::{Checkouts, JobTypeJob, JobTypeLauncher, command_job};
use capomastro_process::ProcessRunner;
use capomastro_testkit::conformance::{
    Time,
    launcher::{End, LauncherHarness, NextAnswer, Told},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tempfile::TempDir;

/// The builds of the launcher of processes, whose script is in a branch.
#[derive(Debug)]
struct ByJobType {
    processes: Processes,
    branch: Branch,
    checkouts: TempDir,
}

impl ByJobType {
    fn new() -> Self {
        let branch = Branch::new();
        branch.commit(&[("build", &format!("#!/bin/sh\n{BUILD}"))]);
        Self { processes: Processes::new(), branch, checkouts: folder() }
    }
}

#[async_trait]
impl LauncherHarness for ByJobType {
    fn time(&self) -> Time {
        self.processes.time()
    }

    async fn open(&self) -> Arc<dyn BuildLauncher> {
        let runner = Arc::new(ProcessRunner::new());
        let checkouts =
            Checkouts::builder(self.checkouts.path(), runner).fresh(Duration::ZERO).build().unwrap();
        Arc::new(JobTypeLauncher::new(checkouts, self.processes.open().await, command_job))
    }

    fn job(&self) -> Value {
        let mut job =
            JobTypeJob::new(self.branch.job_type()).build(["build", self.processes.told().to_str().unwrap()]);
        let Value::Object(whole) = self.processes.job() else { panic!("a job is an object") };
        job.job = whole.into_iter().filter(|(name, _)| name != "command" && name != "shell").collect();
        job.into()
    }

    fn bad_jobs(&self) -> Vec<Value> {
        let git = json!({"git": {"url": "/srv/x.git"}});
        let mut bad = vec![
            json!({"job_type": {"git": {}}}),
            json!({"job_type": git, "build": []}),
            json!({"job_type": git, "job": {"command": ["make"]}}),
            json!({"job_type": git, "job": {"comand": 1}}),
        ];
        bad.extend(self.processes.bad_jobs());
        bad
    }

    fn refused_job(&self) -> Option<Value> {
        Some(JobTypeJob::new(self.branch.job_type()).build(["no-such-script"]).into())
    }

    async fn builds(&self, key: LaunchKey) -> Vec<Told> {
        self.processes.builds(key).await
    }

    async fn end(&self, key: LaunchKey, end: &End) -> bool {
        self.processes.end(key, end).await
    }

    async fn forget(&self, key: LaunchKey) -> bool {
        self.processes.forget(key).await
    }

    async fn cut(&self, cut: bool) -> bool {
        self.processes.cut(cut).await
    }

    async fn lose_answer(&self) -> NextAnswer {
        self.processes.lose_answer().await
    }
}

capomastro_testkit::build_launcher_conformance!(by_job_type, ByJobType::new());
