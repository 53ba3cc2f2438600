//! Records for the tests of the rules.

use crate::{
    model::{
        Build, BuildId, Cause, DependencyId, LaunchKey, Phase, ProjectBuildId, ProjectId, ReceiptId,
        Revision, Trigger,
    },
    time::Timestamp,
};
use chrono::{TimeZone, Utc};
use serde_json::Value;
use uuid::Uuid;

pub(crate) fn at(seconds: i64) -> Timestamp {
    // 2024-05-17 12:00:00 UTC.
    Utc.timestamp_opt(1_715_947_200 + seconds, 0).unwrap()
}

macro_rules! ids {
    ($($name:ident -> $ty:ident;)*) => {$(
        pub(crate) const fn $name(n: u128) -> $ty { $ty::from_uuid(Uuid::from_u128(n)) }
    )*};
}

ids! {
    dependency -> DependencyId;
    project -> ProjectId;
    build_id -> BuildId;
    project_build -> ProjectBuildId;
    receipt -> ReceiptId;
}

pub(crate) fn revision(text: &str) -> Revision {
    text.parse().unwrap()
}

/// A build of the dependency that was just decided.
pub(crate) fn build(n: u128, of: DependencyId) -> Build {
    let id = build_id(n);
    Build {
        id,
        dependency: of,
        number: u64::try_from(n).unwrap(),
        epoch: 1,
        key: LaunchKey::of(id),
        fence: 1,
        lease: None,
        revision: revision(&format!("r{n}")),
        display: None,
        parameters: std::collections::BTreeMap::new(),
        build_key: None,
        causes: vec![Cause::look()],
        manual: false,
        person_pinned: false,
        retry_of: None,
        attempt: 0,
        refusals: 0,
        launcher: "l".parse().unwrap(),
        job: Value::Null,
        phase: Phase::Requested,
        memo: None,
        sends: 0,
        external: None,
        built: None,
        artifacts: Vec::new(),
        message: None,
        stop: None,
        project_builds: Vec::new(),
        previous_start: None,
        requested_at: at(0),
        launching_at: None,
        submitted_at: None,
        running_at: None,
        ended_at: None,
        good: false,
        stood_until: None,
    }
}

/// The same build, started for this receipt too.
pub(crate) fn started_for(mut build: Build, of: ReceiptId) -> Build {
    build.causes.push(Cause {
        trigger: Trigger::Manual,
        requester: None,
        receipt: Some(of),
        project_build: None,
    });
    build
}

/// The same build, ended.
pub(crate) fn ended(mut build: Build, phase: Phase) -> Build {
    build.phase = phase;
    build.good = phase == Phase::Succeeded;
    build.ended_at = Some(at(1));
    build
}
