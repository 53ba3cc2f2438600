//! Who plays the builds: a real server runs them and is told by files how they end, the double is told directly.

use super::jobs::{Does, Jobs};
use capomastro_core::{
    async_trait,
    launch::Outcome,
    model::LaunchKey,
    time::{Clock as _, SystemClock},
};
use capomastro_jenkins::jobs::Pushed;
use capomastro_testkit::{
    conformance::launcher::End,
    jenkins::{Artifact, Jenkins, JobSpec, Script},
};
use capomastro_tests::within;
use std::{
    collections::BTreeMap,
    fmt, fs,
    sync::{Arc, Mutex},
    time::Duration,
};

const ID: &str = "CAPOMASTRO_BUILD_ID";

/// What a build leaves, by name.
type Files = BTreeMap<String, Vec<u8>>;

#[async_trait]
pub(super) trait Player: fmt::Debug + Send + Sync {
    /// Makes a job whose builds do this.
    async fn make(&self, jobs: &Jobs, name: &str, does: Does);

    /// Lets a build that is held end so; `false` if it cannot.
    async fn end(&self, jobs: &Jobs, name: &str, key: LaunchKey, end: &End) -> bool;

    /// Loses the record of a build; `false` if the server has to be asked to delete it.
    fn forgets(&self, jobs: &Jobs, name: &str, number: u64) -> bool;
}

/// Builds really run.
#[derive(Debug)]
pub(super) struct Shell;

#[async_trait]
impl Player for Shell {
    async fn make(&self, jobs: &Jobs, name: &str, does: Does) {
        assert_eq!(jobs.push(name, does).await, Pushed::Created);
        assert_eq!(jobs.push(name, does).await, Pushed::Unchanged, "as the server gives it back");
    }

    /// A shell step of the template is good or bad, and the scripts check nothing out that Jenkins would know of.
    async fn end(&self, jobs: &Jobs, _name: &str, key: LaunchKey, end: &End) -> bool {
        let status = match end.outcome {
            Outcome::Succeeded => "0",
            Outcome::Failed => "1",
            _ => return false,
        };
        if end.built.is_some() {
            return false;
        }
        let told = jobs.told();
        for (name, bytes) in &end.artifacts {
            let file = told.join(format!("{key}.leaves")).join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
        fs::write(told.join(format!("{key}.new")), status).unwrap();
        fs::rename(told.join(format!("{key}.new")), told.join(format!("{key}.end"))).unwrap();
        true
    }

    fn forgets(&self, _: &Jobs, _: &str, _: u64) -> bool {
        false
    }
}

/// The double runs no shell: its builds do what the scripts of the job type would.
#[derive(Debug)]
pub(super) struct Doubled {
    pub(super) jenkins: Jenkins,
    leaves: Arc<Mutex<BTreeMap<String, Files>>>,
}

impl Doubled {
    pub(super) fn new(jenkins: Jenkins) -> Self {
        Self { jenkins, leaves: Arc::default() }
    }

    /// The number of the build of this key, once it runs.
    fn started(&self, key: LaunchKey) -> Option<u32> {
        self.jenkins.started_with(ID, &key.to_string()).first().map(|started| started.number)
    }
}

#[async_trait]
impl Player for Doubled {
    async fn make(&self, jobs: &Jobs, name: &str, does: Does) {
        Shell.make(jobs, name, does).await;
        let leaves = Arc::clone(&self.leaves);
        let spec = JobSpec::freestyle(jobs.name(name)).runs_with(move |run| match does {
            Does::Build => {
                let revision = run.parameter("CAPOMASTRO_REVISION").unwrap();
                Script::succeeds_after(Duration::from_secs(1))
                    .log(format!("building {revision}\n"))
                    .artifact(Artifact::file("out/it.txt", revision))
            }
            Does::Hold => {
                let left = leaves.lock().unwrap().get(run.parameter(ID).unwrap()).cloned();
                let files = left.unwrap_or_default().into_iter();
                files.fold(Script::held(), |script, (path, bytes)| {
                    script.artifact(Artifact::file(path, bytes))
                })
            }
        });
        self.jenkins.define_job(spec);
        assert!(matches!(jobs.push(name, does).await, Pushed::Updated(_)), "its parameters come back");
    }

    async fn end(&self, jobs: &Jobs, name: &str, key: LaunchKey, end: &End) -> bool {
        let result = match end.outcome {
            Outcome::Succeeded => "SUCCESS",
            Outcome::Failed => "FAILURE",
            _ => return false,
        };
        if end.built.is_some() || (!end.artifacts.is_empty() && self.started(key).is_some()) {
            return false;
        }
        self.leaves.lock().unwrap().insert(key.to_string(), end.artifacts.clone());
        let number = within(Duration::from_secs(60), async {
            loop {
                if let Some(number) = self.started(key) {
                    return number;
                }
                SystemClock.sleep(Duration::from_millis(20)).await;
            }
        });
        self.jenkins.finish(&jobs.name(name), number.await, result)
    }

    /// Its builds cannot be deleted one by one.
    fn forgets(&self, jobs: &Jobs, name: &str, number: u64) -> bool {
        self.jenkins.lose_record(&jobs.name(name), u32::try_from(number).unwrap());
        true
    }
}
