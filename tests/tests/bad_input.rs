//! What people and other programs give that cannot be.

use capomastro_core::{
    ErrorKind, Scheduler,
    launch::Outcome,
    model::{Health, OnHeld, Policy, Quiet, Source},
    schedule::Schedule,
    scheduler::{DependencySpec, TriggerRequest, WholeBuildRequest},
    store::EventFilter,
};
use capomastro_testkit::{ControllableLauncher, ScriptedProbe};
use capomastro_tests::{Stage, each_minute, plain_spec, shows, somebody};
use std::{sync::Arc, time::Duration};

fn stage() -> Stage {
    Stage::new(ControllableLauncher::accepting())
}

#[tokio::test]
async fn odd_names_are_names_from_definition_to_deletion() {
    for name in
        ["lib foo", "lib/foo", "../../etc/passwd", "🦀", "a'; DROP TABLE x; --", "ö\u{301}", "%s{}$(x)"]
    {
        let s = stage();
        s.probe.set(name, "r1");
        s.define(name, &[name], each_minute()).await;
        s.settle().await;
        let build = s.end(name, Outcome::Succeeded).await;
        assert_eq!(s.current(name).await, shows([(name, "r1")]));
        s.scheduler.pin(name, name, build.id).await.unwrap();
        s.manual(name).await;
        let (found, _) = s.scheduler.dependencies(None, 10).await.unwrap();
        assert_eq!(found[0].name.as_str(), name);
        s.scheduler.rename(name, &format!("{name}2")).await.unwrap();
        s.scheduler.delete(&format!("{name}2")).await.unwrap();
        s.scheduler.delete_project(name).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_name_is_refused_everywhere() {
    let s = stage();
    s.define("lib", &["site"], each_minute()).await;
    let before = s.happened().await.len();
    for bad in ["", " ", "a\nb", "a\0", "\u{1b}[31m", " lib", "lib ", &"x".repeat(201)] {
        let kinds = [
            DependencySpec::new(bad, ScriptedProbe::source("a"), "fake").map(drop),
            DependencySpec::new("a", ScriptedProbe::source("a"), bad).map(drop),
            plain_spec("a", each_minute()).in_project(bad).map(drop),
            Source::new(bad, ()).map(drop),
            s.scheduler.ensure_project(bad).await.map(drop),
            s.scheduler.rename("lib", bad).await,
            s.scheduler.rename_project("site", bad).await,
            s.scheduler.status(bad).await.map(drop),
            s.scheduler.trigger(bad, TriggerRequest::push()).await.map(drop),
            s.scheduler.delete(bad).await,
        ];
        for (n, result) in kinds.into_iter().enumerate() {
            let e = result.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput, "{bad:?} {n}");
            assert!(!e.to_string().contains(['\n', '\0', '\u{1b}']), "{e}");
            assert!(!e.report().contains(['\0', '\u{1b}']), "{}", e.report());
        }
    }
    assert_eq!(s.happened().await.len(), before);
}

#[tokio::test]
async fn what_this_scheduler_does_not_know_is_refused_and_nothing_is_stored() {
    let s = stage();
    let unknown_probe = DependencySpec::new("lib", Source::new("svn", ()).unwrap(), "fake").unwrap();
    let unknown_launcher = DependencySpec::new("lib", ScriptedProbe::source("lib"), "jenkins").unwrap();
    let bad_source = Source::new(ScriptedProbe::NAME, serde_json::json!({"nam": "lib"})).unwrap();
    let bad_source = DependencySpec::new("lib", bad_source, "fake").unwrap();
    for (spec, word) in [(unknown_probe, "svn"), (unknown_launcher, "jenkins"), (bad_source, "lib")] {
        let spec = spec.in_project("site").unwrap();
        for refused in [s.scheduler.ensure(&spec).await.map(drop), s.scheduler.apply(&spec).await.map(drop)] {
            let e = refused.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig);
            assert!(e.report().contains(word), "{}", e.report());
        }
    }
    assert_eq!(s.scheduler.projects(None, 10).await.unwrap().0.len(), 0);
    assert!(s.scheduler.events(EventFilter::All, 0, 10).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_policy_out_of_its_ranges_is_refused_with_the_field() {
    let s = stage();
    let mut retry = each_minute();
    retry.retry.max = 101;
    let mut probe = each_minute();
    probe.timeouts.probe = Duration::ZERO;
    let mut forever = each_minute();
    forever.timeouts.run = Duration::MAX;
    let quiet = Quiet { period: Duration::from_secs(10), at_most: Duration::from_secs(1) };
    let cron = |e: &str, z: &str| Schedule::Cron { expression: e.into(), zone: z.into() };
    for (policy, field) in [
        (each_minute().with_look_every(Duration::ZERO), "policy.look"),
        (each_minute().with_look_every(Duration::MAX), "policy.look"),
        (each_minute().with_look(cron("* * * *", "UTC")), "policy.look"),
        (each_minute().with_look(cron("61 * * * *", "UTC")), "policy.look"),
        (each_minute().with_build_regardless(cron("0 0 31 2 *", "UTC")), "policy.build_regardless"),
        (each_minute().with_build_regardless(cron("0 0 * * *", "Mars/Olympus")), "policy.build_regardless"),
        (each_minute().with_on_held(OnHeld::Queue { max: 0 }), "on_held"),
        (each_minute().with_on_held(OnHeld::Queue { max: 1_001 }), "on_held"),
        (each_minute().with_quiet(Some(quiet)), "quiet.at_most"),
        (retry, "retry.max"),
        (probe, "timeouts.probe"),
        (forever, "timeouts.run"),
    ] {
        let e = s.scheduler.apply(&plain_spec("lib", policy)).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{field}");
        assert!(e.report().contains(field), "{field}: {}", e.report());
    }
}

#[test]
fn unknown_policy_fields_are_refused_and_absent_ones_have_defaults() {
    let read = |text: &str| serde_json::from_str::<Policy>(text);
    assert_eq!(read("{}").unwrap(), Policy::default());
    for bad in [
        r#"{"lok": "never"}"#,
        r#"{"retry": {"maximum": 1}}"#,
        r#"{"timeouts": {"prob": "1s"}}"#,
        r#"{"quiet": {"period": "1m"}}"#,
        r#"{"veto": {"rewind": true}}"#,
        r#"{"on_held": "dicard"}"#,
        r#"{"look": {"every": "soon"}}"#,
        r#"{"look": {"cron": {"expression": "* * * * *", "zone": "UTC", "tz": 1}}}"#,
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
    let good = r#"{"look": {"every": "5m"}, "on_held": {"queue": {"max": 3}}, "timeouts": {"probe": "30s"}}"#;
    let policy = read(good).unwrap();
    assert_eq!(policy.on_held, OnHeld::Queue { max: 3 });
    assert_eq!(serde_json::from_str::<Policy>(&serde_json::to_string(&policy).unwrap()).unwrap(), policy);
}

#[tokio::test]
async fn a_scheduler_that_cannot_work_is_not_built() {
    let s = stage();
    let builder = || Scheduler::builder(Arc::clone(&s.store));
    let probe = || Arc::new(s.probe.clone());
    let launcher = || Arc::new(s.launcher.clone());
    for (what, built) in [
        ("probe a", builder().probe("a", probe()).probe("a", probe()).build()),
        ("launcher a", builder().launcher("a", launcher()).launcher("a", launcher()).build()),
        (
            "output of a",
            builder().launcher("a", launcher()).output("a", launcher()).output("a", launcher()).build(),
        ),
        ("", builder().output("a", launcher()).build()),
        ("", builder().probe("a\nb", probe()).build()),
        ("", builder().instance("a\nb").build()),
        ("", builder().launcher_limit("none", 1).build()),
        ("limit", builder().overall_limit(0).build()),
        ("at_once", builder().at_once(0).build()),
        ("idle", builder().idle(Duration::ZERO).build()),
        ("request_timeout", builder().request_timeout(Duration::from_secs(20)).build()),
        ("drive_lease", builder().drive_lease(Duration::from_secs(0)).build()),
    ] {
        let e = built.unwrap_err();
        assert!(matches!(e.kind(), ErrorKind::InvalidConfig | ErrorKind::InvalidInput), "{what}");
        assert!(e.report().contains(what), "{what}: {}", e.report());
    }
}

#[tokio::test]
async fn what_a_later_release_cannot_read_is_a_failing_look_and_not_a_crash() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.define("lib", &["site"], each_minute()).await;
    s.define("app", &["site"], each_minute()).await;
    s.probe.set("app", "r1");
    s.settle().await;
    // The same name, and another kind of probe behind it that cannot read the stored source.
    #[derive(serde::Deserialize)]
    struct Other {
        #[expect(dead_code, reason = "only its being there counts")]
        url: String,
    }
    let other = capomastro_core::probe::probe_fn(async |_: Other, _ask| {
        capomastro_core::probe::Probed::revision("x")
    });
    let next = Scheduler::builder(Arc::clone(&s.store))
        .clock(Arc::new(s.clock.clone()))
        .probe(ScriptedProbe::NAME, other)
        .build()
        .unwrap();
    s.clock.advance(Duration::from_secs(120));
    next.tick().await.unwrap();
    for name in ["lib", "app"] {
        let state = s.state(name).await;
        assert!(matches!(&state.health, Health::Failing { kind, .. } if kind == "invalid_config"), "{name}");
        assert!(state.accounted.is_some(), "what was known stays");
    }
    s.pass(3_700).await;
    assert_eq!(s.state("lib").await.health, Health::Healthy, "the old release still can");
}

#[tokio::test]
async fn what_a_scheduler_does_not_know_is_left_to_one_that_does() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.define("lib", &[], each_minute()).await;
    let looks_only = Scheduler::builder(Arc::clone(&s.store))
        .clock(Arc::new(s.clock.clone()))
        .probe(ScriptedProbe::NAME, Arc::new(s.probe.clone()))
        .build()
        .unwrap();
    looks_only.tick().await.unwrap();
    looks_only.tick().await.unwrap();
    assert!(s.state("lib").await.held.is_some());
    assert!(s.built("lib").is_empty());
    let knows_nothing =
        Scheduler::builder(Arc::clone(&s.store)).clock(Arc::new(s.clock.clone())).build().unwrap();
    assert_eq!(knows_nothing.tick().await.unwrap().taken, 0);
    s.settle().await;
    assert_eq!(s.built("lib"), ["r1"]);
}

#[tokio::test]
async fn bad_parameters_of_a_whole_build_are_refused_before_anything_is_written() {
    let s = stage();
    s.probe.set("lib", "r1");
    s.define("lib", &["site"], each_minute()).await;
    let before = s.happened().await.len();
    for (name, value) in [("", "x"), ("a\nb", "x"), ("a", "\0")] {
        let request = WholeBuildRequest::all().by(somebody()).with_parameter(name, value);
        let refused = s.scheduler.build_project("site", &request).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
    let unknown_pin = WholeBuildRequest::all().moving_pin("none");
    assert_eq!(
        s.scheduler.build_project("site", &unknown_pin).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    s.scheduler.ensure_project("empty").await.unwrap();
    let nothing = s.scheduler.build_project("empty", &WholeBuildRequest::all()).await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::InvalidInput);
    assert_eq!(s.happened().await.len(), before + 1);
    assert!(s.state("lib").await.stored.is_empty());
}
