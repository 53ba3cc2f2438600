//! What goes wrong on the way.

use crate::{
    ID,
    client::{connect, get, head, json, post, read_reply, send, token, try_post, try_send},
    manual, started,
};
use capomastro_testkit::jenkins::{Chaos, Fault, Jenkins, JobSpec, Script};
use std::{
    io::{Read, Write},
    time::Duration,
};

const SECOND: Duration = Duration::from_secs(1);
const BUILD: &str = "/job/a/buildWithParameters";

fn job() -> JobSpec {
    JobSpec::freestyle("a").string(ID).runs(Script::held())
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_a_post_is_lost_before_or_after_its_effect_or_has_it_late() {
    let (jenkins, clock) = started().await;
    jenkins.define_job(job());
    let send =
        |id: &str| try_post(&jenkins, BUILD, &format!("{ID}={id}&delay=900sec")).map(|reply| reply.status);
    let has = |id: &str| jenkins.queue().iter().any(|item| item.parameters[0].1 == id);
    for (id, fault, status) in [
        ("reset", Fault::reset(), None),
        ("502", Fault::proxy(502), Some(502)),
        ("504", Fault::proxy(504), Some(504)),
    ] {
        jenkins.fault(fault.clone());
        assert_eq!((send(id), has(id)), (status, false), "{id} before");
        jenkins.fault(fault.clone().after_effect());
        assert_eq!((send(id), has(id)), (status, true), "{id} after");
        let late = format!("late {id}");
        jenkins.fault(fault.late_effect(30 * SECOND));
        assert_eq!((send(&late), has(&late)), (status, false), "{id} late");
        clock.advance(30 * SECOND);
        assert!(has(&late), "{id} came late");
    }
    jenkins.fault(Fault::silence().after_effect());
    let mut stream = connect(&jenkins);
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let body = format!("{ID}=silence&delay=900sec");
    let headers = [("Authorization", &*token()), ("Content-Type", "application/x-www-form-urlencoded")];
    stream.write_all(head("POST", BUILD, &headers, body.len()).as_bytes()).unwrap();
    stream.write_all(body.as_bytes()).unwrap();
    assert!(read_reply(&mut stream, false).is_none());
    assert!(has("silence"));
    assert_eq!(jenkins.faults_met(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_a_request_cut_within_its_body_has_no_effect() {
    let (jenkins, _) = started().await;
    jenkins.define_job(job());
    let mut stream = connect(&jenkins);
    let headers = [("Authorization", &*token()), ("Content-Type", "application/x-www-form-urlencoded")];
    stream.write_all(head("POST", BUILD, &headers, 40).as_bytes()).unwrap();
    stream.write_all(b"CAPOMASTRO_BUILD_ID=1").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(read_reply(&mut stream, false).is_none_or(|reply| reply.status >= 400));
    assert!(jenkins.accepted().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_23_faults_drawn_from_a_seed_are_the_same_each_time() {
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let (jenkins, _) = started().await;
        jenkins.define_job(job());
        jenkins.chaos(Some(Chaos::of_triggers(seed, 500)));
        let statuses: Vec<_> = (0..40)
            .map(|id| try_post(&jenkins, BUILD, &format!("{ID}={id}&delay=900sec")).map(|reply| reply.status))
            .collect();
        assert!(jenkins.faults_met() > 5);
        jenkins.heal();
        assert_eq!(post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=end").status, 201);
        runs.push((statuses, jenkins.accepted()));
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0].0, runs[2].0);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_28_proxies() {
    let (builder, _) = manual();
    let jenkins = builder.context_path("ci").start().await.unwrap();
    jenkins.define_job(job());
    jenkins.fault(Fault::login_page());
    let login = get(&jenkins, "/ci/api/json");
    assert_eq!((login.status, login.header("X-Jenkins")), (200, None));
    assert!(login.header("Content-Type").unwrap().starts_with("text/html"));
    let build = "/ci/job/a/buildWithParameters";
    jenkins.fault(Fault::moved(301, "https://ci.example/ci/job/a/buildWithParameters"));
    assert_eq!(post(&jenkins, build, "").status, 301);
    assert!(jenkins.accepted().is_empty());
    let through = |id: &str, headers: &[(&str, &str)]| {
        let token = token();
        let mut all = vec![("Authorization", &*token), ("Content-Type", "application/x-www-form-urlencoded")];
        all.extend(headers);
        send(&jenkins, "POST", build, &all, format!("{ID}={id}").as_bytes()).header("Location")
    };
    let outer = [("Host", "ci.example.org:8443"), ("X-Forwarded-Proto", "https")];
    assert_eq!(through("1", &outer).as_deref(), Some("https://ci.example.org:8443/ci/queue/item/1/"));
    let default = [("Host", "ci.example.org:443"), ("X-Forwarded-Proto", "https")];
    assert_eq!(through("2", &default).as_deref(), Some("https://ci.example.org/ci/queue/item/2/"));
    jenkins.fault(Fault::location("/ci/queue/item/3"));
    assert_eq!(through("3", &[]).as_deref(), Some("/ci/queue/item/3"));
    jenkins.fault(Fault::no_location());
    assert_eq!(through("4", &[]), None);
    assert_eq!(jenkins.accepted(), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_29_broken_json() {
    let (jenkins, _) = started().await;
    jenkins.define_job(job());
    jenkins.set_last_queue_id(1 << 40);
    assert_eq!(post(&jenkins, BUILD, "CAPOMASTRO_BUILD_ID=1").item(), (1 << 40) + 1);
    jenkins.fault(Fault::broken_json(20));
    let broken = get(&jenkins, "/api/json");
    assert_eq!(
        (broken.status, broken.body.len(), broken.header("Content-Length").unwrap()),
        (200, 20, "20".to_owned())
    );
    jenkins.fault(Fault::cut_after(20));
    let cut = get(&jenkins, "/api/json");
    assert_eq!(cut.body.len(), 20);
    assert_ne!(cut.header("Content-Length").unwrap(), "20");
    jenkins.fault(Fault::huge(50_000_000));
    let huge = get(&jenkins, "/api/json");
    assert_eq!((huge.body.len(), huge.json().is_object()), (50_000_000, true));
    jenkins.fault(Fault::json(r#"{"a":1,"a":2}"#));
    assert_eq!(get(&jenkins, "/api/json").text(), r#"{"a":1,"a":2}"#);
    let headers = [("Authorization", &*token()), ("Accept-Encoding", "gzip")];
    let zipped = send(&jenkins, "GET", "/api/json", &headers, b"");
    assert_eq!(zipped.header("Content-Encoding").as_deref(), Some("gzip"));
    assert!(zipped.body.starts_with(&[0x1F, 0x8B]));
}

/// Whether a second request on one connection is answered.
fn second_is_answered(jenkins: &Jenkins, between: impl FnOnce()) -> bool {
    let mut stream = connect(jenkins);
    let request = head("GET", "/api/json", &[("Authorization", &token())], 0);
    stream.write_all(request.as_bytes()).unwrap();
    assert!(read_reply(&mut stream, false).is_some());
    between();
    stream.write_all(request.as_bytes()).is_ok() && read_reply(&mut stream, false).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_32_idle_connections_are_closed() {
    let (jenkins, clock) = started().await;
    assert!(second_is_answered(&jenkins, || clock.advance(29 * SECOND)));
    assert!(!second_is_answered(&jenkins, || clock.advance(30 * SECOND)), "closed as the request is written");
    let short = Jenkins::builder().keep_alive(Duration::from_millis(100)).start().await.unwrap();
    let mut stream = connect(&short);
    let request = head("GET", "/health/", &[], 0);
    stream.write_all(request.as_bytes()).unwrap();
    assert!(read_reply(&mut stream, false).is_some());
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0, "closed while nobody asks");
    jenkins.go_away();
    assert!(try_send(&jenkins, "GET", "/health/", &[], b"").is_none());
    jenkins.come_back();
    assert_eq!(json(&jenkins, "/health/")["status"], true);
}
