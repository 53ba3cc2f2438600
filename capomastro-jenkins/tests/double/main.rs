//! Templates, probes and notifications with a double of a Jenkins server.
#![allow(clippy::unwrap_used, reason = "tests")]

mod jobs;
mod probes;

use capomastro_core::{
    secret::{FixedSecrets, Secrets},
    time::{Clock, SystemClock},
};
use capomastro_jenkins::{Credentials, JenkinsLauncher};
use capomastro_testkit::jenkins::Jenkins;
use std::{sync::Arc, time::Duration};

/// A server that does not let wait: its queue is looked at all the time.
async fn jenkins() -> Jenkins {
    Jenkins::builder()
        .context_path("/ctx")
        .executors(50)
        .tick(Duration::from_millis(10))
        .start()
        .await
        .unwrap()
}

fn by_token(jenkins: &Jenkins) -> JenkinsLauncher {
    let secrets = FixedSecrets::default().with("token", Jenkins::TOKEN);
    let credentials = Credentials::token(Jenkins::ADMIN, "token");
    JenkinsLauncher::builder(jenkins.url())
        .credentials(credentials, Secrets::new(Arc::new(secrets)))
        .build()
        .unwrap()
}

fn by_password(jenkins: &Jenkins) -> JenkinsLauncher {
    let secrets = FixedSecrets::default().with("password", Jenkins::PASSWORD);
    let credentials = Credentials::password(Jenkins::ADMIN, "password");
    JenkinsLauncher::builder(jenkins.url())
        .credentials(credentials, Secrets::new(Arc::new(secrets)))
        .build()
        .unwrap()
}

async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen within 30 s");
}
