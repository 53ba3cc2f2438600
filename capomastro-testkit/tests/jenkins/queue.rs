//! Requests to build, items and their stages.

use crate::{
    ID,
    client::{get, json, post},
    started,
};
use capomastro_testkit::jenkins::{JobSpec, Script};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn row_01_a_request_makes_an_item_and_says_nothing_else() {
    let (jenkins, clock) = started().await;
    jenkins.define_job(JobSpec::freestyle("a").string(ID).runs(Script::succeeds_after(10 * SECOND)));
    let reply = post(&jenkins, "/job/a/buildWithParameters", "CAPOMASTRO_BUILD_ID=1");
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
