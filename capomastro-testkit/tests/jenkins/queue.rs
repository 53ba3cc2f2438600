//! Requests to build, items and their stages.

use crate::{
    ID,
    client::{get, json, post, send, token},
    manual, started,
};
use capomastro_testkit::jenkins::{Jenkins, JobSpec, Parameter, Script, Youth};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const BUILD: &str = "/job/a/buildWithParameters";

fn job() -> JobSpec {
    JobSpec::freestyle("a").string(ID).runs(Script::held())
}

fn stage(jenkins: &Jenkins, id: u64) -> String {
    let item = json(jenkins, &format!("/queue/item/{id}/api/json"));
    item["_class"].as_str().unwrap().rsplit('$').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_01_a_request_makes_an_item_and_says_nothing_else() {
    let (jenkins, clock) = started().await;
    jenkins.define_job(JobSpec::freestyle("a").string(ID).runs(Script::succeeds_after(10 * SECOND)));
    let reply = post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=1");
    assert_eq!((reply.status, reply.body.len()), (201, 0));
    assert_eq!(reply.header("Location").as_deref(), Some("http://localhost:8080/queue/item/1/"));
    assert!(reply.header("X-Jenkins").is_none() && reply.header("X-Jenkins-Session").is_none());
    let item = json(&jenkins, "/queue/item/1/api/json");
    assert_eq!(item["why"], "In the quiet period. Expires in 5.0 sec");
    clock.advance(5 * SECOND);
    let item = json(&jenkins, "/queue/item/1/api/json");
    assert_eq!(item["executable"]["number"], 1);
    let build = json(&jenkins, "/job/a/1/api/json");
    assert_eq!((&build["building"], &build["queueId"]), (&true.into(), &1.into()));
    clock.advance(10 * SECOND);
    let build = json(&jenkins, "/job/a/lastBuild/api/json?tree=building,result,duration");
    assert_eq!(build["result"], "SUCCESS");
    assert_eq!(build["duration"], 10_000);
    assert_eq!(jenkins.started_with(ID, "1").len(), 1);
    assert!(get(&jenkins, "/job/a/1/consoleText").text().ends_with("Finished: SUCCESS\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_02_an_identical_set_folds_while_it_waits_is_blocked_buildable_or_quieting_down() {
    let (jenkins, clock) = started().await;
    jenkins.define_job(job().concurrent(false));
    jenkins.define_job(JobSpec::freestyle("l").string(ID).label("nowhere"));
    let send = |job: &str, id: &str| {
        let reply = post(&jenkins, &format!("/job/{job}/buildWithParameters"), &format!("{ID}={id}"));
        (reply.status, reply.item())
    };
    assert_eq!((send("a", "1"), send("a", "1")), ((201, 1), (303, 1)));
    clock.advance(5 * SECOND);
    assert_eq!(send("a", "2"), (201, 2));
    clock.advance(5 * SECOND);
    assert_eq!((stage(&jenkins, 2).as_str(), send("a", "2")), ("BlockedItem", (303, 2)));
    assert_eq!(send("l", "3"), (201, 3));
    clock.advance(5 * SECOND);
    assert_eq!((stage(&jenkins, 3).as_str(), send("l", "3")), ("BuildableItem", (303, 3)));
    jenkins.quiet_down(None);
    assert_eq!((send("a", "4"), send("a", "4")), ((201, 4), (303, 4)));
    let (builder, _) = manual();
    let old = builder.old_fold().start().await.unwrap();
    old.define_job(job());
    let two = [post(&old, BUILD, "CAPOMASTRO_BUILD_ID=1"), post(&old, BUILD, "CAPOMASTRO_BUILD_ID=1")];
    assert_eq!(two.map(|reply| (reply.status, reply.item())), [(201, 1), (201, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_03_nothing_folds_into_a_pending_item() {
    let (builder, clock) = manual();
    let jenkins = builder.pending_for(2 * SECOND).start().await.unwrap();
    jenkins.define_job(job());
    let body = "CAPOMASTRO_BUILD_ID=1&delay=0sec";
    assert_eq!(post(&jenkins, BUILD, body).item(), 1);
    let item = json(&jenkins, "/queue/item/1/api/json");
    assert_eq!((&item["pending"], &item["buildable"]), (&true.into(), &true.into()));
    let second = post(&jenkins, BUILD, body);
    assert_eq!((second.status, second.item()), (201, 2));
    assert_eq!(post(&jenkins, "/queue/cancelItem?id=1", "").status, 500);
    clock.advance(2 * SECOND);
    assert_eq!(jenkins.started_with(ID, "1").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_04_an_undeclared_parameter_is_dropped() {
    let (jenkins, _) = started().await;
    jenkins.define_job(JobSpec::freestyle("a").string("OTHER").runs(Script::held()));
    let replies =
        [post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=1"), post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=2")];
    assert_eq!(replies.map(|reply| (reply.status, reply.item())), [(201, 1), (303, 1)]);
    let item = json(&jenkins, "/queue/item/1/api/json?tree=params,actions[parameters[name]]");
    assert_eq!(item["params"], "\nOTHER=");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_05_a_decision_handler_refuses() {
    let (jenkins, _) = started().await;
    jenkins.define_job(job().refusing());
    let reply = post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=1");
    assert_eq!((reply.status, reply.header("Location").as_deref()), (302, Some("/job/a/")));
    assert!(jenkins.queue().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_09_an_item_goes_through_its_stages() {
    let (builder, clock) = manual();
    let jenkins = builder.pending_for(SECOND).executors(1).start().await.unwrap();
    jenkins.define_job(job().concurrent(false));
    jenkins.define_job(JobSpec::freestyle("other").runs(Script::held()));
    assert_eq!(jenkins.trigger("a", &[(ID, "0")], "x"), Some(1));
    clock.advance(5 * SECOND);
    assert_eq!(post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=1").item(), 2);
    assert_eq!(stage(&jenkins, 2), "WaitingItem");
    clock.advance(5 * SECOND);
    assert_eq!(stage(&jenkins, 2), "BlockedItem");
    assert!(jenkins.trigger("other", &[], "x").is_some());
    assert!(jenkins.finish("a", 1, "SUCCESS"));
    let item = json(&jenkins, "/queue/item/2/api/json");
    assert!(item["pending"] == true || item["why"] == "Waiting for next available executor", "{item}");
    clock.advance(SECOND);
    let stages: Vec<String> = [2, 3].map(|id| stage(&jenkins, id)).into();
    assert!(
        stages.contains(&"LeftItem".to_owned()) && stages.contains(&"BuildableItem".to_owned()),
        "{stages:?}"
    );
    jenkins.define_job(job().label("nowhere"));
    assert_eq!(post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=9&delay=0sec").item(), 4);
    assert_eq!(json(&jenkins, "/queue/item/4/api/json")["stuck"], true);
    let german = send(
        &jenkins,
        "GET",
        "/queue/item/4/api/json?tree=id",
        &[("Authorization", &token()), ("Accept-Language", "de")],
        b"",
    );
    assert_eq!(german.json()["id"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_10_a_left_item_names_its_build_on_a_wrong_host() {
    let (jenkins, _) = started().await;
    jenkins.define_job(JobSpec::freestyle("team/nightly job").string(ID));
    let reply =
        post(&jenkins, "/job/team/job/nightly%20job/buildWithParameters", "CAPOMASTRO_BUILD_ID=1&delay=0sec");
    let item = json(&jenkins, &format!("/queue/item/{}/api/json", reply.item()));
    assert_eq!(item["executable"]["url"], "http://jenkins.example/job/team/job/nightly%20job/1/");
    assert_eq!(item["task"]["name"], "nightly job");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_11_a_left_item_may_have_no_build_for_a_moment_or_for_ever() {
    let (jenkins, clock) = started().await;
    jenkins.define_job(job().youth(Youth { no_executable: SECOND, ..Youth::default() }));
    let item =
        |id: u64| json(&jenkins, &format!("/queue/item/{id}/api/json?tree=cancelled,executable[number]"));
    let first = post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=1&delay=0sec").item();
    assert!(item(first)["executable"].is_null());
    clock.advance(SECOND);
    assert_eq!(item(first)["executable"]["number"], 1);
    jenkins.lose_starts(1);
    let second = post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=2&delay=0sec").item();
    clock.advance(100 * SECOND);
    let left = item(second);
    assert!(left["executable"].is_null() && left["cancelled"] == false);
    assert_eq!(jenkins.started_with(ID, "2").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_12_a_cancelled_item_says_so() {
    let (jenkins, _) = started().await;
    jenkins.define_job(job());
    let id = post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=1").item();
    assert_eq!(post(&jenkins, &format!("/queue/cancelItem?id={id}"), "").status, 204);
    let item = json(&jenkins, &format!("/queue/item/{id}/api/json"));
    assert!(item["cancelled"] == true && item["executable"].is_null() && item["why"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_13_a_left_item_is_forgotten_after_five_minutes_or_a_restart() {
    let (jenkins, clock) = started().await;
    jenkins.define_job(job());
    let start = |id: &str| post(&jenkins, BUILD, &format!("{ID}={id}&delay=0sec")).item();
    let status = |id: u64| get(&jenkins, &format!("/queue/item/{id}/api/json")).status;
    let first = start("1");
    clock.advance(299 * SECOND);
    assert_eq!(status(first), 200);
    clock.advance(SECOND);
    assert_eq!(status(first), 404);
    let second = start("2");
    jenkins.restart();
    assert_eq!(status(second), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_quieting_down_accepts_and_starts_nothing() {
    let (jenkins, clock) = started().await;
    jenkins.define_job(job());
    assert_eq!(post(&jenkins, "/quietDown?message=soon", "").status, 302);
    let id = post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=1&delay=0sec");
    assert_eq!(id.status, 201);
    clock.advance(600 * SECOND);
    assert_eq!(json(&jenkins, "/queue/item/1/api/json")["why"], "Jenkins is about to shut down");
    let root = json(&jenkins, "/api/json?tree=quietingDown,quietDownReason");
    assert!(root["quietingDown"] == true && root["quietDownReason"] == "soon");
    assert!(jenkins.started().is_empty());
    assert_eq!(post(&jenkins, "/cancelQuietDown", "").status, 302);
    assert_eq!(jenkins.started().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_38_build_with_json_names_no_item() {
    let (jenkins, _) = started().await;
    jenkins.define_job(job());
    let form = "json=%7B%22parameter%22%3A%5B%7B%22name%22%3A%22CAPOMASTRO_BUILD_ID%22%2C%22value%22%3A%22J%22%7D%5D%7D";
    let replies = [post(&jenkins, "/job/a/build", form), post(&jenkins, "/job/a/build", form)];
    let seen = replies.map(|reply| (reply.status, reply.header("Location").unwrap()));
    assert_eq!(seen, [(201, "http://localhost:8080/job/a/".to_owned()), (302, "/job/a/".to_owned())]);
    assert_eq!(jenkins.queue()[0].parameters, [(ID.to_owned(), "J".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_39_delays_are_read_and_kept_as_seen() {
    let (jenkins, clock) = started().await;
    jenkins.define_job(job());
    for bad in ["abc", "1min", "5.5sec", ""] {
        assert_eq!(post(&jenkins, BUILD, &format!("{ID}=x&delay={bad}")).status, 500, "{bad}");
    }
    assert!(jenkins.accepted().is_empty());
    let id = post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=long&delay=9999999999sec").item();
    let item = json(&jenkins, &format!("/queue/item/{id}/api/json"));
    let years =
        (item["timestamp"].as_u64().unwrap() - item["inQueueSince"].as_u64().unwrap()) / 31_557_600_000;
    assert_eq!(years, 44);
    for delay in [1, 5, 6, 10] {
        let id = format!("d{delay}");
        let body = format!("{ID}={id}&delay={delay}sec");
        // A moment after a tick, as every request comes.
        clock.advance(SECOND / 10);
        assert_eq!(post(&jenkins, BUILD, &body).status, 201);
        let mut waited = Duration::ZERO;
        while jenkins.started_with(ID, &id).is_empty() {
            clock.advance(SECOND / 10);
            waited += SECOND / 10;
            jenkins.finish("a", u32::try_from(jenkins.started().len()).unwrap_or(1), "SUCCESS");
        }
        let tick = Duration::from_millis(match delay {
            1 => 4_900,
            5 | 6 => 9_900,
            _ => 14_900,
        });
        assert_eq!(waited, tick, "{delay}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_40_another_body_means_all_defaults() {
    let (jenkins, _) = started().await;
    jenkins.define_job(job().parameter(Parameter::string_or("BRANCH", "main")));
    let headers = [("Authorization", &*token()), ("Content-Type", "application/json")];
    let reply = send(&jenkins, "POST", BUILD, &headers, br#"{"CAPOMASTRO_BUILD_ID":"x"}"#);
    assert_eq!(reply.status, 201);
    let expected = [(ID.to_owned(), String::new()), ("BRANCH".to_owned(), "main".to_owned())];
    assert_eq!(jenkins.queue()[0].parameters, expected);
    let empty = send(&jenkins, "POST", BUILD, &headers[..1], b"");
    assert_eq!((empty.status, empty.item()), (303, reply.item()));
}
