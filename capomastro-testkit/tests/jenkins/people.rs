//! What other people and plugins do.

use crate::{
    ID,
    client::{get, json, post, send, token},
    started,
};
use capomastro_testkit::jenkins::{Endpoint, Jenkins, JobSpec, Parameter, Script};
use std::{io::Read, io::Write, net::TcpListener, time::Duration};

const SECOND: Duration = Duration::from_secs(1);

fn job(name: &str) -> JobSpec {
    JobSpec::freestyle(name).string(ID).runs(Script::held())
}

fn put(jenkins: &Jenkins, path: &str, kind: &str, xml: &str) -> crate::client::Reply {
    send(jenkins, "POST", path, &[("Authorization", &token()), ("Content-Type", kind)], xml.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn row_24_people_make_duplicates() {
    let (jenkins, _) = started().await;
    jenkins.define_job(job("a"));
    assert_eq!(jenkins.trigger("a", &[(ID, "1")], "capomastro"), Some(1));
    assert_eq!(jenkins.rebuild("a", 1, "somebody"), Some(2));
    assert!(jenkins.finish("a", 1, "SUCCESS"));
    assert_eq!(jenkins.trigger("a", &[(ID, "1")], "another"), Some(3));
    let found = jenkins.started_with(ID, "1");
    assert_eq!(found.iter().map(|build| build.queue_id).collect::<Vec<_>>(), [1, 2, 3]);
    let causes = json(&jenkins, "/job/a/2/api/json?tree=actions[causes[*]]").to_string();
    assert!(causes.contains("RebuildCause") && causes.contains("Started by user somebody"));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_25_jobs_are_deleted_recreated_disabled_and_changed() {
    let (jenkins, clock) = started().await;
    jenkins.define_job(job("a").concurrent(false));
    assert_eq!(jenkins.trigger("a", &[(ID, "1")], "x"), Some(1));
    assert_eq!(jenkins.trigger("a", &[(ID, "2")], "x"), Some(2));
    assert_eq!(post(&jenkins, "/job/a/doDelete", "").header("Location").as_deref(), Some("/"));
    assert_eq!(json(&jenkins, "/queue/item/2/api/json?tree=cancelled")["cancelled"], true);
    let left = json(&jenkins, "/queue/item/1/api/json?tree=executable[number,url],task[name]");
    assert_eq!((&left["executable"]["number"], &left["task"]["name"]), (&1.into(), &"a".into()));
    assert_eq!(get(&jenkins, "/job/a/1/api/json").status, 404);
    jenkins.define_job(job("a"));
    assert!(jenkins.trigger("a", &[(ID, "3")], "x").is_some());
    assert_eq!(jenkins.started_with(ID, "3")[0].number, 1);
    // Disabled while two wait: one is cancelled, the other leaves without a build.
    let build = |id: &str| post(&jenkins, "/job/a/buildWithParameters", &format!("{ID}={id}")).item();
    let (first, second) = (build("4"), build("5"));
    assert_eq!(post(&jenkins, "/job/a/disable", "").status, 302);
    clock.advance(5 * SECOND);
    let left =
        |id: u64| json(&jenkins, &format!("/queue/item/{id}/api/json?tree=cancelled,executable[number]"));
    assert_eq!(left(first)["cancelled"], true);
    assert!(left(second)["cancelled"] == false && left(second)["executable"].is_null());
    // Its parameter is removed before it starts.
    jenkins.disable("a", false);
    let third = build("6");
    jenkins.set_parameters("a", [Parameter::string("OTHER")]);
    clock.advance(5 * SECOND);
    assert_eq!(jenkins.started().last().unwrap().parameters, []);
    assert_eq!(json(&jenkins, &format!("/queue/item/{third}/api/json"))["params"], "");
    // Moved while it is built.
    jenkins.move_job("a", "team/a");
    assert_eq!(
        (get(&jenkins, "/job/a/2/api/json").status, get(&jenkins, "/job/team/job/a/2/api/json").status),
        (404, 200)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn row_26_finished_builds_are_discarded() {
    let (jenkins, _) = started().await;
    jenkins.define_job(JobSpec::freestyle("a").keep_builds(1));
    assert!(jenkins.trigger("a", &[], "x").is_some());
    assert_eq!(get(&jenkins, "/job/a/1/api/json").status, 200);
    assert!(jenkins.trigger("a", &[], "x").is_some());
    assert_eq!(get(&jenkins, "/job/a/1/api/json").status, 404);
    let first = json(&jenkins, "/job/a/api/json?tree=firstBuild[number]");
    assert_eq!(first["firstBuild"]["number"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_30_jobs_are_made_and_changed_as_xml() {
    let (jenkins, _) = started().await;
    let xml = "<?xml version='1.1' encoding='UTF-8'?>\n<project><description>\u{e9}\u{10c}</description><properties><hudson.model.ParametersDefinitionProperty><parameterDefinitions><hudson.model.StringParameterDefinition><name>A&amp;B</name></hudson.model.StringParameterDefinition></parameterDefinitions></hudson.model.ParametersDefinitionProperty></properties></project>";
    assert_eq!(put(&jenkins, "/createItem?name=n", "application/xml", xml).status, 200);
    let read = get(&jenkins, "/job/n/config.xml");
    assert!(
        read.text().starts_with("<?xml version=\"1.1\" encoding=\"UTF-8\"?>")
            && read.text().contains("\u{10c}")
    );
    let tree = "/job/n/api/json?tree=description,property[parameterDefinitions[name]]";
    assert_eq!(json(&jenkins, tree)["property"][0]["parameterDefinitions"][0]["name"], "A&B");
    let latin = xml.replace('\u{10c}', "");
    assert_eq!(put(&jenkins, "/job/n/config.xml", "application/xml", &latin).status, 200);
    assert_eq!(json(&jenkins, tree)["description"], "\u{c3}\u{a9}", "garbled without a charset");
    assert_eq!(put(&jenkins, "/job/n/config.xml", "application/xml", xml).status, 500, "a control character");
    assert_eq!(put(&jenkins, "/job/n/config.xml", "application/xml; charset=utf-8", xml).status, 200);
    assert_eq!(json(&jenkins, tree)["description"], "\u{e9}\u{10c}");
    let clash = put(&jenkins, "/createItem?name=N", "application/xml", xml);
    assert_eq!((clash.status, clash.header("X-Error").is_some()), (400, true));
    for broken in ["<project>", "", "<no.such/>"] {
        assert_eq!(put(&jenkins, "/createItem?name=m", "application/xml", broken).status, 500, "{broken}");
    }
    assert_eq!(jenkins.jobs(), ["n"]);
    // What a test declared reads back as XML that makes the same job.
    jenkins.define_job(job("d").parameter(Parameter::choice("C", ["x<y", "z"])).disabled());
    let written = get(&jenkins, "/job/d/config.xml").text();
    assert_eq!(put(&jenkins, "/createItem?name=d2", "application/xml", &written).status, 200);
    let both = ["d", "d2"].map(|name| {
        json(
            &jenkins,
            &format!("/job/{name}/api/json?tree=disabled,concurrentBuild,property[parameterDefinitions[*]]"),
        )
    });
    assert_eq!(both[0], both[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_messages_of_the_notification_plugin() {
    let (jenkins, _) = started().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let script = Script::default();
    let secret = Parameter::password("KEY");
    jenkins.define_job(
        JobSpec::freestyle("x/a")
            .string(ID)
            .parameter(secret)
            .runs(script.clone())
            .notifies(Endpoint::all(&url)),
    );
    jenkins.define_job(JobSpec::freestyle("y/a").runs(script).notifies(Endpoint::all(&url).old_plugin()));
    assert!(jenkins.trigger("x/a", &[(ID, "1"), ("KEY", "hidden")], "me").is_some());
    assert!(jenkins.trigger("y/a", &[], "me").is_some());
    let messages = jenkins.messages();
    let phases: Vec<&str> = messages.iter().map(|message| message.phase.as_str()).collect();
    assert_eq!(
        phases,
        ["QUEUED", "STARTED", "COMPLETED", "FINALIZED", "QUEUED", "STARTED", "COMPLETED", "FINISHED"]
    );
    let body = &messages[3].body;
    assert_eq!((&body["name"], &body["url"]), (&"a".into(), &"job/x/job/a/".into()));
    assert_eq!(body["build"]["parameters"], serde_json::json!({ID: "1"}));
    assert_eq!((&body["build"]["queue_id"], &body["build"]["status"]), (&1.into(), &"SUCCESS".into()));
    assert!(
        messages[1].body["build"].get("status").is_none()
            && messages[5].body["build"].get("parameters").is_none()
    );
    assert_eq!(messages[5].body["name"], "a", "the short name does not tell folders apart");
    assert!(jenkins.messages().is_empty());
    // Lost, twice, or out of order: that is for the test to choose.
    let receiver = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = vec![0; 4_096];
        let count = stream.read(&mut received).unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        String::from_utf8_lossy(&received[..count]).into_owned()
    });
    assert_eq!(messages[3].send().await.unwrap(), 204);
    assert!(receiver.join().unwrap().to_lowercase().starts_with("post /hook http/1.1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_41_a_job_is_renamed_unless_it_is_built() {
    let (jenkins, _) = started().await;
    jenkins.define_job(job("a"));
    assert!(jenkins.trigger("a", &[(ID, "1")], "x").is_some());
    let id = post(&jenkins, "/job/a/buildWithParameters", "CAPOMASTRO_BUILD_ID=2&delay=900sec").item();
    let refused = post(&jenkins, "/job/a/confirmRename?newName=b", "");
    assert_eq!(refused.header("X-Error").as_deref(), Some("Unable to rename a job while it is building."));
    assert_eq!(refused.status, 400);
    assert!(jenkins.finish("a", 1, "SUCCESS"));
    let renamed = post(&jenkins, "/job/a/confirmRename?newName=b", "");
    assert_eq!((renamed.status, renamed.header("Location").as_deref()), (302, Some("/job/b")));
    assert_eq!(get(&jenkins, "/job/a/api/json").status, 404);
    assert_eq!(json(&jenkins, &format!("/queue/item/{id}/api/json"))["task"]["name"], "b");
    assert_eq!(json(&jenkins, "/job/b/1/api/json?tree=number")["number"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_44_a_build_may_end_without_our_parameter() {
    let (jenkins, _) = started().await;
    jenkins.define_job(job("a"));
    jenkins.set_parameters("a", []);
    assert!(jenkins.trigger("a", &[], "x").is_some());
    assert!(jenkins.finish("a", 1, "SUCCESS"));
    let build = json(&jenkins, "/job/a/1/api/json?tree=building,actions[parameters[name]]");
    assert!(build["building"] == false && !build.to_string().contains("\"parameters\""));
}
