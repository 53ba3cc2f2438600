//! The fake build system is what a launcher must be, whatever it promises.

use capomastro_core::{
    async_trait,
    launch::{BuildLauncher, Ended, Promise},
    model::LaunchKey,
};
use capomastro_testkit::{
    conformance::{
        Time,
        launcher::{End, LauncherHarness, NextAnswer, Told},
    },
    fakes::{ControllableLauncher, LaunchAnswer, ManualClock},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

#[derive(Debug)]
struct Fake {
    clock: ManualClock,
    system: ControllableLauncher,
}

impl Fake {
    fn promising(promise: Promise) -> Self {
        let clock = ManualClock::new();
        let system = ControllableLauncher::accepting().with_promise(promise);
        Self { system: system.with_clock(Arc::new(clock.clone())), clock }
    }
}

#[async_trait]
impl LauncherHarness for Fake {
    fn time(&self) -> Time {
        Time::Manual(self.clock.clone())
    }

    async fn open(&self) -> Arc<dyn BuildLauncher> {
        Arc::new(self.system.clone())
    }

    fn job(&self) -> Value {
        json!({})
    }

    fn bad_jobs(&self) -> Vec<Value> {
        vec![json!({"invalid": "no"})]
    }

    fn refused_job(&self) -> Option<Value> {
        None
    }

    async fn builds(&self, key: LaunchKey) -> Vec<Told> {
        self.system.launched().iter().filter(|request| request.key == key).map(Told::all_of).collect()
    }

    async fn end(&self, key: LaunchKey, end: &End) -> bool {
        let build = self.system.build(key).expect("a build of this key");
        for (name, bytes) in &end.artifacts {
            build.artifact(name, bytes.clone());
        }
        let mut ended = Ended::new(end.outcome);
        ended.built = end.built.clone().or_else(|| Some(build.request().revision));
        build.finish_with(ended);
        true
    }

    async fn forget(&self, key: LaunchKey) -> bool {
        self.system.build(key).expect("a build of this key").vanish();
        true
    }

    async fn cut(&self, cut: bool) -> bool {
        self.system.outage(cut);
        true
    }

    async fn lose_answer(&self) -> NextAnswer {
        self.system.answer_next(LaunchAnswer::LoseAnswer);
        NextAnswer::IsLost
    }
}

capomastro_testkit::build_launcher_conformance!(idempotent, Fake::promising(Promise::IdempotentByKey));
capomastro_testkit::build_launcher_conformance!(
    findable,
    Fake::promising(Promise::FindableByKey { settle: Duration::from_secs(120) })
);
capomastro_testkit::build_launcher_conformance!(blind, Fake::promising(Promise::Blind));
