//! The server: the double, or a real one.

use crate::repository::Repository;
use capomastro_core::{
    Error, Result,
    secret::{FixedSecrets, Secrets},
};
use capomastro_jenkins::{Credentials, JenkinsLauncher, template::JobTemplate};
use capomastro_testkit::jenkins::{Artifact, Jenkins, JobSpec, Run, Script};
use std::{env, sync::Arc, time::Duration};

const SCRIPT: &str = r#"#!/bin/sh
set -eu
echo "building $CAPOMASTRO_REVISION"
git --git-dir="$CAPOMASTRO_JOB_TYPE/.git" show "$CAPOMASTRO_REVISION:version.txt" >version.txt
"#;

/// The name of a dependency's job.
pub(crate) fn job(dependency: &str) -> String {
    format!("capomastro-example-{dependency}")
}

pub(crate) struct Server {
    pub(crate) launcher: JenkinsLauncher,
    pub(crate) description: String,
    /// Stands for a real one.
    double: Option<Jenkins>,
}

impl Server {
    /// The one that the command line names, or the double.
    pub(crate) async fn of_arguments() -> Result<Self> {
        let (url, user) = (env::args().nth(1), env::args().nth(2));
        let (url, user, token, double) = match (url, user) {
            (None, _) => {
                let double = Jenkins::start().await.map_err(Error::transient)?;
                (double.url(), Jenkins::ADMIN.to_owned(), Jenkins::TOKEN.to_owned(), Some(double))
            }
            (Some(url), Some(user)) => {
                let token = env::var("CAPOMASTRO_JENKINS_TOKEN").map_err(|_| {
                    Error::config("the user's API token is missing: put it into CAPOMASTRO_JENKINS_TOKEN")
                })?;
                (url, user, token, None)
            }
            (Some(_), None) => {
                return Err(Error::config("give the server's URL and a user: jenkins -- URL USER"));
            }
        };
        // A service would read the secret from where it keeps them each time it is asked for.
        let secrets = Secrets::new(Arc::new(FixedSecrets::default().with("jenkins", token)));
        let launcher =
            JenkinsLauncher::builder(url.as_str()).credentials(Credentials::token(user, "jenkins"), secrets);
        let description =
            if double.is_some() { "a double, for want of a real server".into() } else { format!("at {url}") };
        Ok(Self { launcher: launcher.build()?, description, double })
    }

    /// Makes the job of a dependency, or brings it up to date.
    pub(crate) async fn make_job(&self, dependency: &str, repository: &Repository) -> Result<()> {
        match &self.double {
            // The double runs no shell: what its builds do is said in Rust.
            Some(double) => {
                let job = JobSpec::freestyle(job(dependency));
                let job = job.string("CAPOMASTRO_BUILD_ID").string("CAPOMASTRO_REVISION");
                double.define_job(job.runs_with(pretend));
                Ok(())
            }
            None => {
                // A job type: a branch with the script that all of the jobs run.
                repository.ensure_script("job-type", "build", SCRIPT)?;
                let address = repository.path().display().to_string();
                let mut template = JobTemplate::new(address, "job-type", "build").keeping("version.txt");
                template.quiet_period = Some(Duration::from_secs(10));
                self.launcher.jobs().push(&job(dependency), &template).await.map(drop)
            }
        }
    }

    pub(crate) async fn delete_job(&self, dependency: &str) -> Result<()> {
        self.launcher.jobs().delete(&job(dependency)).await.map(drop)
    }
}

fn pretend(run: &Run) -> Script {
    let revision = run.parameter("CAPOMASTRO_REVISION").unwrap_or_default();
    Script::succeeds_after(Duration::from_secs(1))
        .log(format!("building {revision}\n"))
        .artifact(Artifact::file("version.txt", revision))
}
