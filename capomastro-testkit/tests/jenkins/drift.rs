//! The double's answers against what a live Jenkins 2.568.2 answered: each recorded request is sent to a double in the
//! same situation. Status, watched headers (present and absent), and JSON names, types and values have to agree; times
//! and random values have to agree in type.

use crate::{
    ID,
    client::{Reply, basic, send, token},
    manual,
};
use capomastro_testkit::{
    ManualClock,
    jenkins::{Artifact, Jenkins, JobSpec, Parameter, Script},
};
use serde_json::Value;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Headers of which each has to be there exactly when it was recorded.
const WATCHED: [&str; 17] = [
    "Location",
    "X-Jenkins",
    "X-Jenkins-Session",
    "Content-Type",
    "Allow",
    "X-Error",
    "X-Required-Permission",
    "X-You-Are-Authenticated-As",
    "X-Permission-Implied-By",
    "WWW-Authenticate",
    "Set-Cookie",
    "X-Text-Size",
    "X-More-Data",
    "Content-Range",
    "Accept-Ranges",
    "Last-Modified",
    "Content-Encoding",
];

/// Values that only have to be of the recorded type.
const VARYING: [&str; 8] = [
    "timestamp",
    "inQueueSince",
    "buildableStartMilliseconds",
    "duration",
    "estimatedDuration",
    "crumb",
    "hash",
    "addr",
];

fn exchanges(fixture: &str) -> Vec<Value> {
    let fixture: Value = serde_json::from_str(fixture).unwrap();
    fixture["exchanges"].as_array().unwrap().clone()
}

/// Without what changes from second to second.
fn timeless(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit() && *c != '.').collect()
}

fn same_json(at: &str, recorded: &Value, got: &Value, differences: &mut Vec<String>) {
    let key = at.rsplit('.').next().unwrap_or_default();
    match (recorded, got) {
        (Value::Object(recorded), Value::Object(got)) => {
            for (name, value) in recorded {
                match got.get(name) {
                    Some(got) => same_json(&format!("{at}.{name}"), value, got, differences),
                    None => differences.push(format!("{at}.{name} is missing")),
                }
            }
            for name in got.keys().filter(|name| !recorded.contains_key(*name)) {
                differences.push(format!("{at}.{name} was not recorded"));
            }
        }
        (Value::Array(recorded), Value::Array(got)) => {
            if recorded.len() != got.len() {
                differences.push(format!("{at} has {} elements, recorded were {}", got.len(), recorded.len()));
            }
            for (index, (recorded, got)) in recorded.iter().zip(got).enumerate() {
                same_json(&format!("{at}[{index}]"), recorded, got, differences);
            }
        }
        (Value::Number(_), Value::Number(_)) if VARYING.contains(&key) => {}
        (Value::String(_), Value::String(_)) if VARYING.contains(&key) => {}
        (Value::String(recorded), Value::String(got)) if key == "why" && timeless(recorded) == timeless(got) => {}
        (recorded, got) if recorded == got => {}
        (recorded, got) => differences.push(format!("{at} is {got}, recorded was {recorded}")),
    }
}

fn values_of(headers: &Value, name: &str) -> Vec<String> {
    let all = headers.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut values: Vec<String> = all
        .iter()
        .filter(|header| header[0].as_str().unwrap().eq_ignore_ascii_case(name))
        .map(|header| header[1].as_str().unwrap().to_owned())
        .collect();
    values.sort();
    values
}

/// How an answer differs from the recorded one.
fn differences(recorded: &Value, got: &Reply) -> Vec<String> {
    let mut differences = Vec::new();
    if recorded["status"] != got.status {
        differences.push(format!("status is {}, recorded was {}", got.status, recorded["status"]));
        return differences;
    }
    for name in WATCHED {
        let expected = values_of(&recorded["headers"], name);
        let mut values: Vec<String> = got
            .headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.iter().map(|byte| char::from(*byte)).collect())
            .collect();
        values.sort();
        let any = expected.iter().any(|value| value == "*");
        if if any { values.len() != expected.len() } else { values != expected } {
            differences.push(format!("{name} is {values:?}, recorded was {expected:?}"));
        }
    }
    if let Some(json) = recorded.get("json") {
        match serde_json::from_slice(&got.body) {
            Ok(body) => same_json("", json, &body, &mut differences),
            Err(_) => differences.push(format!("the body is not JSON: {}", got.text())),
        }
    }
    if let Some(text) = recorded.get("text")
        && *text != *got.text()
    {
        differences.push(format!("the body is {:?}, recorded was {text}", got.text()));
    }
    differences
}

fn replay(jenkins: &Jenkins, exchange: &Value) -> Vec<String> {
    let request = &exchange["request"];
    let mut headers: Vec<(&str, &str)> = Vec::new();
    let credentials = match request["as"].as_str().unwrap() {
        "admin" => Some(token()),
        "anonymous" => None,
        "stranger" => Some(basic("admin", "wrong")),
        user => Some(basic(user, "t")),
    };
    if let Some(credentials) = &credentials {
        headers.push(("Authorization", credentials));
    }
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        headers.push((name, value.as_str().unwrap()));
    }
    let body = request["body"].as_str().unwrap_or_default();
    let path = request["path"].as_str().unwrap();
    let got = send(jenkins, request["method"].as_str().unwrap(), path, &headers, body.as_bytes());
    differences(&exchange["answer"], &got)
}

/// Replays all, with something done before each.
#[track_caller]
fn replay_all(jenkins: &Jenkins, fixture: &str, before: impl Fn(&str)) {
    let mut found = Vec::new();
    for exchange in exchanges(fixture) {
        let title = exchange["title"].as_str().unwrap();
        before(title);
        for difference in replay(jenkins, &exchange) {
            found.push(format!("{title}: {difference}"));
        }
    }
    assert!(found.is_empty(), "{} differences:\n{}", found.len(), found.join("\n"));
}

fn probe(name: &str) -> JobSpec {
    JobSpec::freestyle(name).string(ID).concurrent(false)
}

async fn double() -> (Jenkins, ManualClock) {
    let (builder, clock) = manual();
    (builder.start().await.unwrap(), clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs() {
    let (jenkins, _) = double().await;
    replay_all(&jenkins, include_str!("recorded/jobs.json"), |_| {});
}

fn full(name: &str) -> JobSpec {
    JobSpec::freestyle(name)
        .string(ID)
        .parameter(Parameter::trimmed("BRANCH", "main"))
        .parameter(Parameter::choice("FLAVOUR", ["red", "green"]))
        .parameter(Parameter::boolean("DEBUG", true))
        .parameter(Parameter::password("SECRET"))
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers() {
    let (jenkins, _) = double().await;
    jenkins.define_job(full("t1"));
    jenkins.define_job(full("dis").disabled());
    jenkins.define_job(JobSpec::freestyle("t0"));
    jenkins.define_job(JobSpec::freestyle("refused0").refusing());
    jenkins.define_job(probe("refused1").refusing());
    replay_all(&jenkins, include_str!("recorded/trigger.json"), |_| {});
}

#[tokio::test(flavor = "multi_thread")]
async fn queue_items() {
    let (jenkins, clock) = double().await;
    jenkins.define_job(probe("q1").runs(Script::held()));
    jenkins.define_job(probe("qlabel").label("nosuchlabel"));
    jenkins.set_last_queue_id(23);
    assert_eq!(jenkins.trigger("q1", &[(ID, "S0")], "admin"), Some(24));
    let submit = |job: &str, id: &str, delay: u64| {
        let body = format!("{ID}={id}&delay={delay}sec");
        let headers = [("Authorization", &*token()), ("Content-Type", "application/x-www-form-urlencoded")];
        let reply = send(&jenkins, "POST", &format!("/job/{job}/buildWithParameters"), &headers, body.as_bytes());
        assert_eq!(reply.status, 201);
    };
    submit("q1", "S1", 4);
    replay_all(&jenkins, include_str!("recorded/queue.json"), |title| match title {
        "item stage BlockedItem" => clock.advance(5 * SECOND),
        "item stage LeftItem" => {
            // The moment at which nothing of it runs yet, or any more.
            assert!(jenkins.finish("q1", 1, "SUCCESS"));
            assert!(jenkins.finish("q1", 2, "SUCCESS"));
        }
        "left item" => {
            // Its colour moves again, and the next items wait.
            jenkins.set_last_queue_id(900);
            assert!(jenkins.trigger("q1", &[(ID, "other")], "admin").is_some());
        }
        "why in German" => {
            jenkins.set_last_queue_id(25);
            submit("q1", "S2", 30);
            clock.advance(SECOND / 2);
        }
        "cancel by item URL" => submit("q1", "S3", 30),
        "label without node: buildable and stuck" => {
            jenkins.set_last_queue_id(27);
            submit("qlabel", "L1", 0);
        }
        "queue after disabling the job" => {
            submit("qlabel", "L2", 0);
            submit("qlabel", "L3", 0);
            submit("qlabel", "L4", 30);
            submit("qlabel", "L5", 60);
            clock.advance(SECOND / 2);
            jenkins.disable("qlabel", true);
        }
        _ => {}
    });
}

fn artifacts() -> Script {
    let files = [
        (".hidden", "h\n"),
        ("a.txt", "hello\n"),
        ("back\\slash", "k\n"),
        ("dir with space/f #1?.txt", "c\n"),
        ("empty", ""),
        ("plus+amp&.txt", "g\n"),
        ("semi;colon.txt", "s\n"),
        ("star*.txt", "e\n"),
        ("sub/a.txt", "b\n"),
        ("x.html", "<b>x</b>"),
        ("žluť/日本 %41.txt", "d\n"),
    ];
    let mut all: Vec<Artifact> =
        files.into_iter().map(|(path, text)| Artifact::file(format!("out/{path}"), text)).collect();
    all.insert(3, Artifact::file("out/bin.dat", [0; 5_000]));
    all.insert(6, Artifact::symlink("out/link.txt"));
    all.into_iter().fold(Script::held(), Script::artifact)
}

#[tokio::test(flavor = "multi_thread")]
async fn builds() {
    let (jenkins, clock) = double().await;
    jenkins.define_job(probe("b1").runs(artifacts()));
    jenkins.set_last_queue_id(32);
    assert_eq!(jenkins.trigger("b1", &[(ID, "Y1")], "admin"), Some(33));
    replay_all(&jenkins, include_str!("recorded/builds.json"), |title| {
        if title.starts_with("finished") {
            clock.advance(6 * SECOND);
            assert!(jenkins.finish("b1", 1, "SUCCESS"));
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_of_a_build() {
    let (jenkins, _) = double().await;
    jenkins.define_job(probe("b1").runs(artifacts()));
    jenkins.set_last_queue_id(32);
    assert_eq!(jenkins.trigger("b1", &[(ID, "Y1")], "admin"), Some(33));
    assert!(jenkins.finish("b1", 1, "SUCCESS"));
    replay_all(&jenkins, include_str!("recorded/artifacts.json"), |_| {});
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_and_renaming() {
    let (jenkins, _) = double().await;
    jenkins.define_job(probe("s1").runs(Script::held()));
    jenkins.define_job(probe("ren").runs(Script::held()));
    jenkins.set_last_queue_id(252);
    assert_eq!(jenkins.trigger("s1", &[(ID, "ST1")], "admin"), Some(253));
    replay_all(&jenkins, include_str!("recorded/stop.json"), |title| match title {
        "cancelItem of a started item" => assert_eq!(jenkins.trigger("s1", &[(ID, "ST2")], "admin"), Some(254)),
        "rename while a build runs and one is queued" => {
            assert_eq!(jenkins.trigger("ren", &[(ID, "RN1")], "admin"), Some(255));
        }
        _ => {}
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn quieting_down() {
    let (jenkins, _) = double().await;
    jenkins.define_job(probe("z2"));
    jenkins.set_last_queue_id(2);
    replay_all(&jenkins, include_str!("recorded/quiet.json"), |_| {});
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_of_builds() {
    let (jenkins, _) = double().await;
    jenkins.define_job(JobSpec::freestyle("fast"));
    for _ in 0..217 {
        assert!(jenkins.trigger("fast", &[], "admin").is_some());
    }
    replay_all(&jenkins, include_str!("recorded/ranges.json"), |_| {});
}

#[tokio::test(flavor = "multi_thread")]
async fn a_context_path() {
    let (builder, _) = manual();
    let jenkins = builder.context_path("/ci").start().await.unwrap();
    jenkins.define_job(probe("z2"));
    jenkins.define_job(JobSpec::freestyle("refused0").refusing());
    jenkins.define_job(JobSpec::freestyle("s1").runs(Script::held()));
    jenkins.set_last_queue_id(30);
    assert!(jenkins.trigger("s1", &[], "admin").is_some());
    jenkins.set_last_queue_id(40);
    replay_all(&jenkins, include_str!("recorded/context.json"), |_| {});
}

#[tokio::test(flavor = "multi_thread")]
async fn formats_of_errors() {
    let (jenkins, _) = double().await;
    jenkins.define_job(full("dis").disabled());
    replay_all(&jenkins, include_str!("recorded/errors.json"), |_| {});
}

#[tokio::test(flavor = "multi_thread")]
async fn consoles() {
    let (jenkins, _) = double().await;
    let size = || -> usize {
        let path = "/job/log1/lastBuild/logText/progressiveText";
        let reply = send(&jenkins, "GET", path, &[("Authorization", &token())], b"");
        reply.header("X-Text-Size").unwrap().parse().unwrap()
    };
    jenkins.define_job(probe("log1"));
    assert!(jenkins.trigger("log1", &[(ID, "size")], "admin").is_some());
    let padding = "x".repeat(709_416 - size() - 1);
    jenkins.delete_job("log1");
    jenkins.define_job(probe("log1").runs(Script::default().log(format!("{padding}\n"))));
    assert!(jenkins.trigger("log1", &[(ID, "log")], "admin").is_some());
    replay_all(&jenkins, include_str!("recorded/console.json"), |_| {});
}

/// Each kind of drift is found.
#[test]
fn the_comparison_can_fail() {
    let recorded = serde_json::json!({
        "status": 200,
        "headers": [["X-Jenkins", "2.568.2"], ["X-Jenkins-Session", "*"]],
        "json": {"a": 1, "list": [{"b": "x"}], "timestamp": 5, "why": "Expires in 5.0 sec"},
    });
    let reply = |status: u16, headers: &[(&str, &str)], body: &str| Reply {
        status,
        headers: headers.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect(),
        body: body.as_bytes().to_vec(),
    };
    let both = [("X-Jenkins", "2.568.2"), ("X-Jenkins-Session", "0000")];
    let good = r#"{"a":1,"list":[{"b":"x"}],"timestamp":9,"why":"Expires in 3.1 sec"}"#;
    assert_eq!(differences(&recorded, &reply(200, &both, good)), Vec::<String>::new());
    let more = [both[0], both[1], ("Location", "/")];
    let bad = [
        reply(201, &both, good),
        reply(200, &both[..1], good),
        reply(200, &more, good),
        reply(200, &[("X-Jenkins", "1"), both[1]], good),
        reply(200, &both, "{"),
        reply(200, &both, &good.replace("\"a\":1,", "")),
        reply(200, &both, &good.replace("\"a\":1", "\"a\":\"1\"")),
        reply(200, &both, &good.replace("\"a\":1", "\"a\":1,\"new\":2")),
        reply(200, &both, &good.replace("\"x\"", "\"y\"")),
        reply(200, &both, &good.replace("[{\"b\":\"x\"}]", "[]")),
        reply(200, &both, &good.replace('9', "\"9\"")),
        reply(200, &both, &good.replace("Expires", "Ends")),
    ];
    for (index, reply) in bad.iter().enumerate() {
        assert!(!differences(&recorded, reply).is_empty(), "case {index} was not found");
    }
}
