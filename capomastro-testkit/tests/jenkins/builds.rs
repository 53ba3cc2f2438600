//! Builds as lists and answers show them.

use crate::{
    ID,
    client::{get, json, post},
    manual, started,
};
use capomastro_testkit::jenkins::{JobSpec, Parameter, Revision, Script, Youth};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn row_14_a_young_build_lacks_its_queue_id_and_its_parameters() {
    let (jenkins, clock) = started().await;
    let youth =
        Youth { no_queue_id: SECOND, no_parameters: 2 * SECOND, not_started: 3 * SECOND, ..Youth::default() };
    jenkins.define_job(JobSpec::freestyle("a").string(ID).youth(youth).runs(Script::held()));
    assert_eq!(jenkins.trigger("a", &[(ID, "1")], "x"), Some(1));
    let look = || {
        let path =
            "/job/a/api/json?tree=builds[queueId,building,inProgress,result,actions[parameters[value]]]";
        let build = json(&jenkins, path)["builds"][0].clone();
        assert!(build["building"] == true && build["result"].is_null());
        let known = build["actions"][0]["parameters"][0]["value"] == "1";
        (build["queueId"].as_i64().unwrap(), known, build["inProgress"].as_bool().unwrap())
    };
    let mut seen = vec![look()];
    for _ in 0..3 {
        clock.advance(SECOND);
        seen.push(look());
    }
    assert_eq!(seen, [(-1, false, false), (1, false, false), (1, true, false), (1, true, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_15_actions_are_noisy() {
    let (jenkins, _) = started().await;
    let revision = Revision {
        sha1: "ab12".into(),
        branch: "origin/main".into(),
        remote: "https://git.example/a".into(),
    };
    let script = Script::default().noise().two_parameter_actions().revision(revision);
    jenkins.define_job(JobSpec::freestyle("a").string(ID).parameter(Parameter::password("KEY")).runs(script));
    assert!(jenkins.trigger("a", &[(ID, "1"), ("KEY", "hidden")], "x").is_some());
    let reply = get(&jenkins, "/job/a/1/api/json");
    assert!(!reply.text().contains("hidden"));
    let actions = reply.json()["actions"].as_array().unwrap().clone();
    let with = |class: &str| actions.iter().filter(|action| action["_class"] == class).count();
    assert_eq!(with("hudson.model.ParametersAction"), 2);
    assert_eq!(with("com.example.jenkins.UnknownAction"), 1);
    assert!(actions.iter().any(|action| action.as_object().unwrap().is_empty()));
    assert!(actions[0]["parameters"][1].get("value").is_none());
    assert!(actions.iter().any(|action| action["lastBuiltRevision"]["SHA1"] == "ab12"));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_16_ranges() {
    let (jenkins, _) = started().await;
    jenkins.define_job(JobSpec::freestyle("a"));
    for _ in 0..120 {
        assert!(jenkins.trigger("a", &[], "x").is_some());
    }
    let count = |tree: &str| {
        json(&jenkins, &format!("/job/a/api/json?tree={tree}"))
            .as_object()
            .unwrap()
            .values()
            .nth(1)
            .unwrap()
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("builds[number]"), 100);
    assert_eq!(count("allBuilds[number]"), 120);
    assert_eq!(count("builds%5Bnumber%5D%7B0%2C50%7D"), 50);
    assert_eq!(count("allBuilds[number]{100,200}"), 20);
    for malformed in ["", "builds[", "builds[number]{-1,2}"] {
        assert_eq!(get(&jenkins, &format!("/job/a/api/json?tree={malformed}")).status, 500, "{malformed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_17_all_rows_of_the_state_table() {
    let (jenkins, clock) = started().await;
    let script = Script::ends_after(10 * SECOND, "ODD")
        .worsens(2 * SECOND, "UNSTABLE")
        .worsens(4 * SECOND, "FAILURE")
        .result_before_end(SECOND)
        .post_production(SECOND);
    let spec =
        JobSpec::freestyle("a").youth(Youth { not_started: SECOND, ..Youth::default() }).runs(script.clone());
    jenkins.define_job(spec);
    jenkins.define_job(JobSpec::pipeline("p").runs(script));
    assert!(jenkins.trigger("a", &[], "x").is_some() && jenkins.trigger("p", &[], "x").is_some());
    let look = |job: &str| {
        let build = json(&jenkins, &format!("/job/{job}/1/api/json?tree=building,inProgress,result"));
        (
            build["building"] == true,
            build["inProgress"] == true,
            build["result"].as_str().unwrap_or("-").to_owned(),
        )
    };
    let mut seen = vec![look("a")];
    for seconds in [1, 2, 2, 6, 1, 1] {
        clock.advance(seconds * SECOND);
        seen.push(look("a"));
    }
    let expected = [
        (true, false, "-"),
        (true, true, "-"),
        (true, true, "UNSTABLE"),
        (true, true, "FAILURE"),
        (true, true, "ODD"),
        (false, true, "ODD"),
        (false, false, "ODD"),
    ]
    .map(|(building, running, result)| (building, running, result.to_owned()));
    assert_eq!(seen, expected);
    assert_eq!(look("p"), (false, false, "ODD".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_stops_and_cancellations() {
    let (jenkins, clock) = started().await;
    let late = Script::held().stops_in(16 * SECOND);
    jenkins.define_job(JobSpec::freestyle("a").string(ID).runs(late));
    assert!(jenkins.trigger("a", &[(ID, "1")], "x").is_some());
    let stop = post(&jenkins, "/job/a/1/stop", "");
    assert_eq!((stop.status, stop.header("Location").as_deref()), (302, Some("/job/a/1/")));
    assert_eq!(jenkins.builds("a")[0].result, None);
    clock.advance(16 * SECOND);
    let path = "/job/a/1/api/json?tree=result,actions[causes[shortDescription]]";
    let build = json(&jenkins, path);
    assert_eq!(build["result"], "ABORTED");
    assert!(build.to_string().contains("Aborted by admin"));
    assert_eq!(post(&jenkins, "/job/a/1/stop", "").status, 302, "whether or not anything runs");
    for hard in ["term", "kill"] {
        let reply = post(&jenkins, &format!("/job/a/1/{hard}"), "");
        let there = reply.header("Location").unwrap();
        assert_eq!((reply.status, get(&jenkins, &there).status), (302, 404));
    }
    for (id, status) in [("1", 500), ("99", 404), ("x", 404)] {
        assert_eq!(post(&jenkins, &format!("/queue/cancelItem?id={id}"), "").status, status, "{id}");
    }
    let (builder, _) = manual();
    let old = builder.old_cancel().start().await.unwrap();
    assert_eq!(post(&old, "/queue/cancelItem?id=1", "").status, 302);
    jenkins.define_job(
        JobSpec::pipeline("p").runs(Script::held().yields_to(capomastro_testkit::jenkins::Stop::Kill)),
    );
    assert!(jenkins.trigger("p", &[], "x").is_some());
    let result = || jenkins.builds("p")[0].result.clone();
    assert_eq!(post(&jenkins, "/job/p/1/kill", "").status, 302);
    assert_eq!(result(), None, "kill is open only after term");
    for how in ["stop", "term", "kill"] {
        assert_eq!((result(), post(&jenkins, &format!("/job/p/1/{how}"), "").status), (None, 302));
    }
    assert_eq!(result().as_deref(), Some("ABORTED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_37_the_next_number_runs_ahead_of_the_list() {
    let (jenkins, clock) = started().await;
    let youth = Youth { unlisted: SECOND, ..Youth::default() };
    jenkins.define_job(JobSpec::freestyle("a").string(ID).youth(youth).runs(Script::held()));
    let look = || {
        let job = json(&jenkins, "/job/a/api/json?tree=nextBuildNumber,builds[number]");
        (job["nextBuildNumber"].as_u64().unwrap(), job["builds"].as_array().unwrap().len())
    };
    assert!(jenkins.trigger("a", &[(ID, "1")], "x").is_some());
    assert_eq!(look(), (2, 0));
    clock.advance(SECOND);
    assert_eq!(look(), (2, 1));
    jenkins.lose_record("a", 1);
    assert_eq!(look(), (2, 0));
    assert_eq!(get(&jenkins, "/job/a/1/api/json").status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_running_builds_are_cheap() {
    let (builder, _) = manual();
    let jenkins = builder.executors(10_000).start().await.unwrap();
    for job in 0..20 {
        jenkins.define_job(JobSpec::freestyle(format!("job{job}")).string(ID).runs(Script::held()));
        for id in 0..500 {
            assert!(jenkins.trigger(&format!("job{job}"), &[(ID, &id.to_string())], "x").is_some());
        }
    }
    assert_eq!(jenkins.started().len(), 10_000);
    let tree = "computer[executors[currentExecutable[number,queueId,actions[parameters[name,value]]]]]";
    let all = json(&jenkins, &format!("/computer/api/json?tree={tree}"));
    assert_eq!(all["computer"][0]["executors"].as_array().unwrap().len(), 10_000);
    let traffic = jenkins.traffic();
    assert_eq!(traffic.requests, 1);
    assert!(traffic.bytes_sent > 1_000_000, "{traffic:?}");
}
