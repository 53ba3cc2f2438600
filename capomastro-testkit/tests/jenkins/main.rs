//! The double of a Jenkins server answers as a server did.
#![allow(clippy::unwrap_used, reason = "tests")]

mod client;
mod drift;
mod queue;

use capomastro_testkit::{
    ManualClock,
    jenkins::{Jenkins, JenkinsBuilder, Permission, User},
};
use std::sync::Arc;

/// A server on a clock that the test moves.
pub(crate) fn manual() -> (JenkinsBuilder, ManualClock) {
    let clock = ManualClock::new();
    let reader = [Permission::OverallRead, Permission::JobDiscover, Permission::JobRead];
    let builder = Jenkins::builder()
        .clock(Arc::new(clock.clone()))
        .user(User::with_permissions("reader", reader).token("t"))
        .user(User::with_permissions("trigger", reader.into_iter().chain([Permission::JobBuild])).token("t"))
        .user(
            User::with_permissions("builder", reader.into_iter().chain([Permission::JobBuild, Permission::JobCancel]))
                .token("t"),
        )
        .user(User::with_permissions("discover", [Permission::OverallRead, Permission::JobDiscover]).token("t"))
        .user(User::with_permissions("nothing", [Permission::OverallRead]).token("t"));
    (builder, clock)
}

async fn started() -> (Jenkins, ManualClock) {
    let (builder, clock) = manual();
    (builder.start().await.unwrap(), clock)
}

/// The parameter that names a launch.
const ID: &str = "CAPOMASTRO_BUILD_ID";
