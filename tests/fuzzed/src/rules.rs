//! The rules over whatever a store gives: a record that could be read must not bring a scheduler down.

use capomastro_core::{
    decide::{Context, EndOfBuild, LockView, Occasion, end_build, evaluate},
    detect::{Answer, Look, detect},
    launch::{Ended, Found, Launched, Outcome, Promise, Refusal, Report, Seen},
    link::{BuildFacts, ProjectView, needed_builds},
    model::{
        Build, BuildId, DependencyState, ExternalRef, Note, Observation, Phase, Policy, Project,
        ProjectBuildId,
    },
    probe::Probed,
    schedule::next_due,
    store::Record,
    time::Timestamp,
    track::{Situation, safe_artifacts},
    why::why_not_building,
};

pub(super) fn over(record: Record) {
    // 2026-01-01.
    let now = Timestamp::from_timestamp(1_767_225_600, 0).unwrap();
    match record {
        Record::State(state) => over_state(&state, &Policy::default(), now),
        Record::Dependency(dependency) => {
            if dependency.policy.validate().is_ok() {
                let policy = &dependency.policy;
                let _ = next_due(&policy.look, dependency.created_at, dependency.id, now);
                let _ = next_due(&policy.build_regardless, dependency.created_at, dependency.id, now);
                over_state(&DependencyState::new(dependency.id), policy, now);
            }
        }
        Record::Build(build) => over_build(&build, now),
        Record::Project(project) => over_project(project, now),
        Record::ProjectBuild(_)
        | Record::Receipt(_)
        | Record::Orphan(_)
        | Record::Limit(_)
        | Record::Due(_) => {}
    }
}

fn over_state(state: &DependencyState, policy: &Policy, now: Timestamp) {
    let build = "0198b5c6-7d00-7000-8000-000000000009".parse::<BuildId>().unwrap();
    drop(why_not_building(state, policy, None, None, None, now));
    let satisfies: Vec<_> = state.stored.iter().map(|s| s.receipt).collect();
    let look = Look {
        ticket: state.applied_ticket.saturating_add(1),
        epoch: state.epoch,
        accounted: state.accounted_revision().cloned(),
        satisfies: satisfies.clone(),
    };
    let seen = Observation::of("B".parse().unwrap());
    for probed in [Probed::Observed(seen), Probed::SameAsSeen, Probed::Nothing, Probed::NotFound] {
        let detected = detect(state, &look, &Answer::Probed(probed), now);
        for occasion in [
            Occasion::Seen { satisfies: satisfies.clone() },
            Occasion::NotFound { satisfies: satisfies.clone(), twice: true },
            Occasion::Released,
        ] {
            let context = Context { policy, now, lock: LockView::AsStored, known_good: &[], build };
            let said = evaluate(&detected.state, &context, &occasion);
            assert!(said.start.is_none() || detected.state.held.is_none(), "one build holds the lock");
        }
    }
}

fn over_build(build: &Build, now: Timestamp) {
    let (policy, note) = (Policy::default(), Note::default());
    let (kept, _) = safe_artifacts(build.artifacts.clone());
    assert!(kept.len() <= 1_000);
    for promise in [Promise::IdempotentByKey, Promise::Blind] {
        let s = Situation { build, note: &note, policy: &policy, promise, now };
        let name = ExternalRef("x".into());
        let report = |seen| Ok(Report { external: None, seen });
        for step in [
            s.resume(),
            s.cancel("ann"),
            s.broken("ann", "it hangs"),
            s.launched(Ok(Launched::Accepted(name.clone()))),
            s.launched(Ok(Launched::Refused(Refusal { reason: "no".into(), permanent: false }))),
            s.found(Ok(Found::Absent)),
            s.observed(&name, report(Seen::Running)),
            s.observed(build.external.as_ref().unwrap_or(&name), report(Seen::Unknown)),
            s.observed(
                build.external.as_ref().unwrap_or(&name),
                report(Seen::Ended(Ended::new(Outcome::Succeeded))),
            ),
        ] {
            assert!(!format!("{step:?}").is_empty());
        }
    }
    for phase in [Phase::Succeeded, Phase::Failed, Phase::Refused] {
        let mut state = DependencyState::new(build.dependency);
        state.epoch = build.epoch;
        drop(end_build(&mut state, build, EndOfBuild::of(phase), &policy, now));
    }
}

fn over_project(mut project: Project, now: Timestamp) {
    let build = "0198b5c6-7d00-7000-8000-000000000009".parse::<ProjectBuildId>().unwrap();
    // Open project builds are records of their own, and none is there.
    project.open.clear();
    let facts = needed_builds(&project, &[]).into_iter().map(|id| {
        let revision = "r1".parse().unwrap();
        (id, BuildFacts { revision, artifacts: Vec::new(), good: true, phase: Phase::Succeeded })
    });
    let facts = facts.collect();
    if let Ok(view) = ProjectView::new(project, [], facts, now) {
        let change = view.finish(&mut || build);
        assert!(change.project_builds.len() <= 1);
    }
}
