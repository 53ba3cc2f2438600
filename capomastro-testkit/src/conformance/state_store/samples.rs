//! Records of each kind: with as little in them as may be, and with everything.

use super::desk::Desk;
use capomastro_core::{
    events::{Event, EventKind},
    model::{
        Build, BuildId, Dependency, DependencyId, DependencyState, ExternalRef, Note, Orphan, OrphanVerdict,
        Phase, Policy, Project, ProjectBuild, ProjectBuildId, ProjectId, ProjectOutcome, Receipt, Relation,
        Source, StopReason,
    },
    store::{LimitScope, LimitState, LimitWaiter, Record},
    time::Timestamp,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A time with every digit of its microseconds in use.
pub(super) fn time(rfc3339: &str) -> Timestamp {
    rfc3339.parse().expect("a time")
}

const EARLY: &str = "2026-01-02T03:04:05.000001Z";
const LATE: &str = "2026-11-12T13:14:15.999999Z";

/// A dependency with nothing but what it needs.
pub(super) fn dependency(id: DependencyId, name: &str) -> Dependency {
    Dependency::new(
        id,
        name.parse().expect("a name"),
        Source::new("git", json!({ "url": "https://example.org/a.git" })).expect("a source"),
        "jenkins".parse().expect("a name"),
        json!({ "job": "a" }),
        Policy::default(),
        time(EARLY),
    )
}

pub(super) fn project(id: ProjectId, name: &str) -> Project {
    Project::new(id, name.parse().expect("a name"), time(EARLY))
}

/// A build that has not ended and has nothing but what it needs.
pub(super) fn build(id: BuildId, dependency: DependencyId, number: u64) -> Build {
    whole(&build_json(id, dependency, number))
}

fn build_json(id: BuildId, dependency: DependencyId, number: u64) -> Value {
    json!({
        "id": id, "dependency": dependency, "number": number, "epoch": 1, "key": id, "fence": 1,
        "revision": "r1", "causes": [], "manual": false, "person_pinned": false, "attempt": 0, "refusals": 0,
        "launcher": "jenkins", "job": null, "phase": "requested", "sends": 0,
        "requested_at": time(EARLY), "good": false,
    })
}

/// The same build after it ended.
pub(super) fn ended(mut build: Build, phase: Phase, at: Timestamp) -> Build {
    build.phase = phase;
    build.good = phase == Phase::Succeeded;
    build.ended_at = Some(at);
    build
}

/// What this JSON says, and that it says nothing which is not understood: a misspelt field would test nothing.
fn whole<T: serde::de::DeserializeOwned + serde::Serialize>(said: &Value) -> T {
    let value: T = serde_json::from_value(said.clone()).expect("a sample is well formed");
    assert_eq!(&serde_json::to_value(&value).expect("a sample can be written"), said);
    value
}

fn full_build(desk: &Desk, dependency: DependencyId) -> Build {
    let (id, other) = (desk.build_id(), desk.build_id());
    let mut said = build_json(id, dependency, 2);
    let more = json!({
        "epoch": 7, "fence": u64::MAX >> 1, "sends": 3, "attempt": 2, "refusals": 4, "manual": true, "person_pinned": true,
        "lease": {
            "dependency": dependency, "owner": id, "fence": 9,
            "expires_in": { "secs": 30, "nanos": 1_000 }, "token": "rev \"7\"",
        },
        "display": "revno 12 – «ä»",
        "parameters": { "A": "", "Ключ": "🦀" },
        "build_key": "key 1",
        "causes": [{
            "trigger": "manual", "requester": "Ann O'Hara", "receipt": desk.any_uuid(),
            "project_build": [desk.project_id(), desk.any_uuid()],
        }],
        "retry_of": other,
        "job": { "a": [1, -1, 1.5, u64::MAX, i64::MIN, true, null, { "": "" }] },
        "phase": "failed",
        "memo": { "next": 17 },
        "external": "http://example.org/job/a/17/",
        "built": "r2",
        "artifacts": [
            { "name": "a.deb", "digest": "sha256:00", "size": 5_000_000_000_u64, "location": "x:/y" },
            { "name": "dir/b c" },
        ],
        "message": "line 1\nline 2\t\u{7f}\u{0}end",
        "stop": { "reason": { "cancel": { "by": "Ann" } }, "asked_at": time(EARLY) },
        "project_builds": [[desk.project_id(), desk.any_uuid()]],
        "previous_start": time(EARLY), "launching_at": time(EARLY), "submitted_at": time(EARLY),
        "running_at": time(EARLY), "ended_at": time(LATE), "stood_until": time(LATE),
    });
    merge(&mut said, more);
    whole(&said)
}

fn merge(base: &mut Value, more: Value) {
    let (Value::Object(base), Value::Object(more)) = (base, more) else { panic!("objects are merged") };
    base.extend(more);
}

fn full_state(desk: &Desk, id: DependencyId) -> DependencyState {
    let (owner, receipt, project) = (desk.build_id(), desk.any_uuid(), desk.project_id());
    let cause = json!({ "trigger": "push", "receipt": receipt });
    whole(&json!({
        "id": id, "epoch": 3, "applied_ticket": 99,
        "observed": {
            "revision": "r2", "cursor": "etag", "display": "2",
            "relation": { "accounted": "r1", "relation": { "forward": { "by": 3 } } },
            "metadata": { "author": "Bö" }, "moved_at": time(LATE),
        },
        "accounted": { "revision": "r1", "by": { "built": owner } },
        "debt_since": time(EARLY), "not_found": 1,
        "health": { "failing": {
            "failures": 2, "kind": "timed_out", "message": "no answer", "since": time(EARLY),
        } },
        "vetoed": "r3", "discarded": [owner, "r4"],
        "held": {
            "owner": owner, "fence": 12, "revision": "r1", "epoch": 3, "parameters": { "A": "1" },
            "stopping": true, "since": time(EARLY),
        },
        "fence": 12, "builds": 5,
        "waiting": [{
            "causes": [cause], "forced": true, "revision": "r5",
            "relation": { "accounted": null, "relation": "diverged" },
            "parameters": { "B": "2" }, "build_key": "k", "since": time(EARLY),
        }],
        "stored": [{
            "cause": cause, "receipt": receipt, "parameters": { "C": "3" }, "build_key": "k",
            "on_held": { "queue": { "max": 4 } }, "since": time(LATE),
        }],
        "retry": {
            "revision": "r1", "of": owner, "reason": "build_failed", "not_before": time(LATE), "attempt": 1,
            "refusals": 2, "parameters": { "D": "4" }, "build_key": "k",
        },
        "held_at": { "revision": "r0", "by": owner },
        "linked": { "build": owner, "revision": "r1" },
        "last_ended": [owner, "timed_out"], "last_start": time(EARLY),
        "paused": { "by": "Ann", "reason": "holiday", "at": time(EARLY) },
        "regardless_due": time(LATE), "projects": [project], "past_projects": [desk.project_id()],
        "last_decision": { "decision": "unchanged", "revision": "r1" }, "deleted": false,
    }))
}

fn full_dependency(desk: &Desk) -> Dependency {
    let mut dependency = dependency(desk.dependency_id(), "liblzma/5 «ü» 🦀");
    dependency.job = json!({ "deep": [[[{ "x": [1, 2.25, "three", null] }]]] });
    dependency.deleted_at = Some(time(LATE));
    dependency
}

fn full_project(desk: &Desk) -> Project {
    let (member, linked) = (desk.dependency_id(), desk.build_id());
    let mut project: Project = whole(&json!({
        "id": desk.project_id(), "name": "Project – 1",
        "members": { member.to_string(): { "linked": linked, "pin": desk.build_id() } },
        "open": [desk.any_uuid()],
        "current": { "id": desk.any_uuid(), "builds": { member.to_string(): linked } },
        "seals": 8, "last_number": ["2026-02-28", 3], "created_at": time(EARLY), "deleted_at": time(LATE),
    }));
    project.members.insert(desk.dependency_id(), capomastro_core::model::Member::default());
    project
}

fn project_build(id: ProjectBuildId, project: ProjectId) -> ProjectBuild {
    whole(&json!({
        "id": id, "project": project, "name": "20260102.1", "slots": {}, "requested_at": time(EARLY),
    }))
}

fn full_project_build(desk: &Desk, project: ProjectId) -> ProjectBuild {
    let slots: BTreeMap<String, Value> = [
        json!({ "fresh": { "build": desk.build_id() } }),
        json!({ "carried": { "build": desk.build_id() } }),
        json!({ "pinned": { "build": desk.build_id() } }),
        json!({ "awaiting": { "receipt": desk.any_uuid() } }),
        json!({ "missing": { "reason": "never_built" } }),
    ]
    .into_iter()
    .map(|kind| {
        let slot = json!({
            "kind": kind, "note": "ended", "revision": "r1", "artifacts": [{ "name": "a", "size": 0 }],
        });
        (desk.dependency_id().to_string(), slot)
    })
    .collect();
    whole(&json!({
        "id": desk.any_uuid(), "project": project, "name": "20260102.2", "slots": slots,
        "bound_at_request": { desk.dependency_id().to_string(): desk.build_id() },
        "moves_pins": [desk.dependency_id()], "build_key": "k", "requester": "Ann",
        "requested_at": time(EARLY),
        "seal": { "sequence": 8, "at": time(LATE), "outcome": "incomplete" },
    }))
}

fn receipts(desk: &Desk, dependency: DependencyId) -> [Receipt; 2] {
    let receipt = |more: Value| {
        let mut said = json!({
            "id": desk.any_uuid(), "dependency": dependency, "trigger": "push", "state": "awaits_look",
            "given_at": time(EARLY),
        });
        merge(&mut said, more);
        whole(&said)
    };
    [
        receipt(json!({})),
        receipt(json!({
            "requester": "Ann", "revision": "r1", "settled_at": time(LATE),
            "state": { "ended": { "reason": { "quiet": { "until": time(LATE) } } } },
        })),
    ]
}

/// At least two records of each kind that can be put, all different.
pub(super) fn records(desk: &Desk) -> Vec<Record> {
    let (small, big) = (dependency(desk.dependency_id(), "a"), full_dependency(desk));
    let (small_project, big_project) = (project(desk.project_id(), "a"), full_project(desk));
    let small_build = build(desk.build_id(), small.id, 1);
    let big_build = full_build(desk, small.id);
    let mut good = ended(build(desk.build_id(), small.id, 3), Phase::Succeeded, time(LATE));
    good.built = Some("r/9 with blanks".parse().expect("a revision"));
    let [open_receipt, settled_receipt] = receipts(desk, small.id);
    let orphan = |external: &str, verdict| Orphan {
        build: small_build.id,
        external: ExternalRef(external.into()),
        seen_by: "contract-1".into(),
        seen_at: time(LATE),
        verdict,
    };
    let limit = LimitState {
        scope: LimitScope::Launcher("jenkins".parse().expect("a name")),
        active: vec![small_build.id],
        waiting: vec![LimitWaiter { build: big_build.id, manual: true, place: 4, asked_at: time(EARLY) }],
        next_place: 5,
    };
    vec![
        Record::State(DependencyState::new(small.id)),
        Record::State(full_state(desk, big.id)),
        Record::Orphan(orphan("queue/7", None)),
        Record::Orphan(orphan("queue/8", Some(OrphanVerdict::Adopted))),
        Record::Limit(LimitState::new(LimitScope::Overall)),
        Record::Limit(limit),
        Record::Receipt(open_receipt),
        Record::Receipt(settled_receipt),
        Record::ProjectBuild(project_build(ProjectBuildId::from_uuid(desk.any_uuid()), small_project.id)),
        Record::ProjectBuild(full_project_build(desk, small_project.id)),
        Record::Project(small_project),
        Record::Project(big_project),
        Record::Build(small_build),
        Record::Build(big_build),
        Record::Build(good),
        Record::Dependency(small),
        Record::Dependency(big),
    ]
}

/// A note with everything in it.
pub(super) fn note() -> Note {
    let mut note = Note::default();
    note.last_run = Some(time(LATE));
    note.counts = [("unchanged".to_owned(), 12), ("«quiet»".to_owned(), u64::from(u32::MAX) + 1)].into();
    note.running_at = Some(time(EARLY));
    note.unknown_since = Some(time(EARLY));
    note.stalls = 3;
    note.waits_for = Some("a free host".into());
    note
}

/// Events of many kinds.
pub(super) fn events(desk: &Desk) -> Vec<Event> {
    let (dependency, project, build) = (desk.dependency_id(), desk.project_id(), desk.build_id());
    let revision: capomastro_core::model::Revision = "r «1» 🦀".parse().expect("a revision");
    let of_dependency = [
        EventKind::Defined { name: "ä".into() },
        EventKind::Changed { what: "line 1\nline 2".into() },
        EventKind::Deleted,
        EventKind::Paused { by: "Ann".into(), reason: String::new() },
        EventKind::Resumed,
        EventKind::Decided {
            decision: "build".into(),
            revision: Some(revision.clone()),
            build: Some(build),
            detail: None,
        },
        EventKind::Observed { revision: revision.clone(), relation: Some(Relation::Forward { by: Some(7) }) },
        EventKind::HealthChanged { health: "failing".into(), message: Some("no".into()) },
        EventKind::Vetoed { revision: revision.clone(), relation: None },
        EventKind::Discarded { revision: None, held_by: Some(build) },
        EventKind::BuildStarted { build, revision: revision.clone() },
        EventKind::BuildStopping { build, reason: StopReason::RunDeadline },
        EventKind::BuildEnded { build, phase: Phase::TimedOut, good: false },
        EventKind::RevisionDrift { build, pinned: revision.clone(), built: revision },
    ];
    let of_project = [
        EventKind::Pinned { dependency, build: None },
        EventKind::Sealed {
            project_build: ProjectBuildId::from_uuid(desk.any_uuid()),
            outcome: ProjectOutcome::Incomplete,
            current: true,
        },
    ];
    let mut both = Event::of_dependency(dependency, EventKind::Linked { build });
    both.project = Some(project);
    let dependencies = of_dependency.into_iter().map(|kind| Event::of_dependency(dependency, kind));
    let projects = of_project.into_iter().map(|kind| Event::of_project(project, kind));
    dependencies.chain(projects).chain([both]).collect()
}
