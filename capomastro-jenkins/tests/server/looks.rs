//! Probes as jobs, on a server that queues, runs and ends what it is asked for.

use crate::mini::{Answer, Got, Mini, answer, json, page};
use capomastro_core::{
    ErrorKind, Result,
    model::Source,
    probe::{Ask, Probed, RevisionProbe},
    secret::Secrets,
    time::{Clock, SystemClock},
};
use capomastro_jenkins::probe::{JenkinsProbe, JobSource};
use futures_util::future::{Either, select};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

/// What a job's runs do.
#[derive(Clone, Debug)]
struct Job {
    /// What is printed between the marks by a run that starts now.
    says: String,
    result: &'static str,
    /// Runs neither end by themselves nor by their own time limit.
    is_held: bool,
    /// Runs stay in the queue.
    is_stuck: bool,
    /// What the request for a run is answered with instead.
    refuses: Option<u16>,
    /// The request for a run is not answered, though it has taken effect.
    loses_answer: bool,
}

#[derive(Clone, Debug)]
struct Run {
    job: String,
    item: u64,
    number: Option<u64>,
    parameters: BTreeMap<String, String>,
    /// By the wall clock.
    started: i64,
    ends: Option<i64>,
    log: String,
    result: Option<&'static str>,
    is_cancelled: bool,
}

#[derive(Debug, Default)]
struct World {
    jobs: BTreeMap<String, Job>,
    runs: Vec<Run>,
}

fn now() -> i64 {
    SystemClock.now().timestamp_millis()
}

impl World {
    fn pass(&mut self) {
        let now = now();
        for i in 0..self.runs.len() {
            let count = self.runs.iter().filter(|r| r.job == self.runs[i].job && r.number.is_some()).count();
            let run = &mut self.runs[i];
            let Some(job) = self.jobs.get(&run.job) else { continue };
            if run.number.is_none() && !run.is_cancelled && !job.is_stuck {
                run.number = Some(count as u64 + 1);
                run.started = now;
                let seconds: i64 = run.parameters["CAPOMASTRO_PROBE_SECONDS"].parse().unwrap();
                run.ends = Some(if job.is_held { now + seconds * 1_000 } else { now });
                let mark = &run.parameters["CAPOMASTRO_PROBE_MARK"];
                run.log = format!("Started by user\n\n{mark} begin\n{}\n\n{mark} end\nFinished\n", job.says);
            }
            if run.number.is_some() && run.result.is_none() && run.ends.is_some_and(|ends| ends <= now) {
                run.result = Some(if job.is_held { "FAILURE" } else { job.result });
            }
        }
    }

    fn decide(&mut self, got: &Got) -> Option<Answer> {
        self.pass();
        let path = got.target.split('?').next().unwrap().trim_start_matches('/').to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        match (got.method.as_str(), parts.as_slice()) {
            ("GET", ["queue", "api", "json"]) => {
                let items = self.runs.iter().filter(|r| r.number.is_none() && !r.is_cancelled).map(|r| {
                    json!({"id": r.item, "task": {"url": format!("http://wrong.host/job/{}/", r.job)}, "actions": actions(r)})
                });
                Some(json(&json!({"items": items.collect::<Vec<_>>()})))
            }
            ("GET", ["queue", "item", item, "api", "json"]) => {
                let run = self.runs.iter().find(|r| r.item.to_string() == *item)?;
                let executable = run.number.map(|n| json!({"number": n, "url": "http://wrong.host/"}));
                Some(json(
                    &json!({"executable": executable, "cancelled": run.is_cancelled, "actions": actions(run)}),
                ))
            }
            ("POST", ["queue", "cancelItem"]) => {
                let id = got.target.split_once("?id=").unwrap().1.to_owned();
                let run = self.runs.iter_mut().find(|r| r.item.to_string() == id && r.number.is_none())?;
                run.is_cancelled = true;
                Some(answer(204, &[("X-Jenkins", b"2")], ""))
            }
            ("GET", ["job", job, "api", "json"]) => {
                self.jobs.get(*job)?;
                let of_job = self.runs.iter().rev().filter(|r| r.job == *job && r.number.is_some());
                Some(json(&json!({"builds": of_job.map(build).collect::<Vec<_>>()})))
            }
            ("POST", ["job", job, "buildWithParameters"]) => self.take(job, got),
            ("GET", ["job", job, number, "api", "json"]) => Some(json(&build(&*self.run(job, number)?))),
            ("GET", ["job", job, number, "consoleText"]) => Some(answer(
                200,
                &[("Content-Type", b"text/plain;charset=utf-8")],
                self.run(job, number)?.log.clone(),
            )),
            ("POST", ["job", job, number, "stop"]) => {
                let run = self.run(job, number)?;
                run.result.get_or_insert("ABORTED");
                Some(answer(302, &[("Location", b"/ctx/")], ""))
            }
            _ => None,
        }
    }

    fn run(&mut self, job: &str, number: &str) -> Option<&mut Run> {
        self.runs.iter_mut().find(|r| r.job == job && r.number.is_some_and(|n| n.to_string() == number))
    }

    fn take(&mut self, job: &str, got: &Got) -> Option<Answer> {
        let known = self.jobs.get(job)?.clone();
        if let Some(status) = known.refuses {
            return Some(page(status));
        }
        let item = self.runs.len() as u64 + 1;
        self.runs.push(Run {
            job: job.to_owned(),
            item,
            number: None,
            parameters: got.form().into_iter().collect(),
            started: 0,
            ends: None,
            log: String::new(),
            result: None,
            is_cancelled: false,
        });
        let location = format!("http://wrong.host/queue/item/{item}/");
        Some(if known.loses_answer {
            page(502)
        } else {
            answer(201, &[("Location", location.as_bytes())], "")
        })
    }

    fn unfinished(&self) -> usize {
        self.runs.iter().filter(|r| r.result.is_none() && !r.is_cancelled).count()
    }
}

fn actions(run: &Run) -> Value {
    let parameters: Vec<Value> =
        run.parameters.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    json!([{}, {"parameters": parameters}, {"causes": [{}]}])
}

fn build(run: &Run) -> Value {
    json!({
        "number": run.number, "building": run.result.is_none(), "inProgress": run.result.is_none(), "result": run.result,
        "timestamp": run.started, "actions": actions(run),
    })
}

/// A server on which any number of jobs answer.
struct Bench {
    mini: Mini,
    world: Arc<Mutex<World>>,
}

impl Bench {
    async fn new() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let of_server = Arc::clone(&world);
        let mini = Mini::serve(move |got| {
            let answer = of_server.lock().unwrap().decide(&got).unwrap_or_else(|| page(404));
            async move { answer }
        })
        .await;
        Self { mini, world }
    }

    fn probe(&self) -> JenkinsProbe {
        self.mini.server().probe()
    }

    fn job(&self, name: &str, change: impl FnOnce(&mut Job)) {
        let mut world = self.world.lock().unwrap();
        let fresh = Job {
            says: "r1".into(),
            result: "SUCCESS",
            is_held: false,
            is_stuck: false,
            refuses: None,
            loses_answer: false,
        };
        change(world.jobs.entry(name.to_owned()).or_insert(fresh));
    }

    fn runs(&self) -> Vec<Run> {
        let mut world = self.world.lock().unwrap();
        world.pass();
        world.runs.clone()
    }

    /// Lets go what is held or stuck.
    fn release(&self, name: &str) {
        self.job(name, |job| (job.is_held, job.is_stuck) = (false, false));
        for run in &mut self.world.lock().unwrap().runs {
            run.ends = run.ends.map(|_| 0);
            if run.number.is_some() && run.result.is_none() {
                run.result = Some("SUCCESS");
            }
        }
    }

    /// A look that is dropped once this holds of the runs.
    async fn dropped_when(&self, ask: &Ask, holds: impl Fn(&[Run]) -> bool + Send + Sync) {
        let probe = self.probe();
        let asks = [ask.clone()];
        let look = probe.probe(&asks);
        let there = until(|| holds(&self.runs()));
        if let Either::Left((answer, _)) = select(look, pin!(there)).await {
            panic!("it is held: {answer:?}");
        }
    }
}

async fn until(mut holds: impl FnMut() -> bool + Send) {
    for _ in 0..3_000 {
        if holds() {
            return;
        }
        SystemClock.sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen within 30 s");
}

fn source(job: &str) -> Source {
    JobSource::token(job).timeout(Duration::from_secs(20)).into_source("jenkins").unwrap()
}

fn ask(source: Source) -> Ask {
    Ask::new("lib foo".parse().unwrap(), source, Duration::from_secs(60), Secrets::none())
}

async fn look(probe: &JenkinsProbe, ask: &Ask) -> Result<Probed> {
    probe.probe(std::slice::from_ref(ask)).await.remove(0)
}

fn observed(revision: &str) -> Probed {
    Probed::revision(revision).unwrap()
}

#[tokio::test]
async fn a_run_answers_with_what_it_printed() {
    let bench = Bench::new().await;
    bench.job("lib", |_| ());
    let source =
        JobSource::token("lib").parameter("CAPOMASTRO_BRANCH", "main").into_source("jenkins").unwrap();
    assert_eq!(look(&bench.probe(), &ask(source)).await.unwrap(), observed("r1"));
    let sent = &bench.runs()[0].parameters;
    for (name, value) in [
        ("CAPOMASTRO_PROBE_LANGUAGE", "token"),
        ("CAPOMASTRO_PROBE_SECONDS", "60"),
        ("CAPOMASTRO_BRANCH", "main"),
        ("delay", "0sec"),
    ] {
        assert_eq!(sent[name], value, "{sent:?}");
    }
    assert_eq!((sent["CAPOMASTRO_PROBE_ID"].len(), sent["CAPOMASTRO_PROBE_MARK"].len()), (32, 32));
}

#[tokio::test]
async fn the_run_of_a_dropped_look_is_joined_and_not_repeated() {
    for stuck in [true, false] {
        let bench = Bench::new().await;
        bench.job("lib", |job| (job.is_held, job.is_stuck) = (!stuck, stuck));
        let ask = ask(source("lib"));
        for _ in 0..3 {
            bench.dropped_when(&ask, |runs| runs.len() == 1 && runs[0].number.is_some() != stuck).await;
        }
        let (probe, asks) = (bench.probe(), [ask]);
        let mut last = probe.probe(&asks);
        let asked = bench.mini.got().len();
        let followed = if stuck { "GET /queue/item/1/api/json" } else { "GET /job/lib/1/api/json" };
        let polled = until(|| bench.mini.got()[asked..].iter().any(|g| g.what() == followed));
        match select(&mut last, pin!(polled)).await {
            Either::Left((answer, _)) => panic!("it is held: {answer:?}"),
            Either::Right(_) => bench.release("lib"),
        }
        assert_eq!(last.await.remove(0).unwrap(), observed("r1"));
        assert_eq!(bench.runs().len(), 1, "stuck: {stuck}");
    }
}

#[tokio::test]
async fn a_run_that_has_ended_says_nothing_about_now() {
    let bench = Bench::new().await;
    bench.job("lib", |job| job.is_held = true);
    let ask = ask(source("lib"));
    bench.dropped_when(&ask, |runs| runs.len() == 1 && runs[0].number.is_some()).await;
    bench.release("lib");
    bench.job("lib", |job| job.says = "r2".into());
    assert_eq!(look(&bench.probe(), &ask).await.unwrap(), observed("r2"));
    assert_eq!(bench.runs().len(), 2);
}

#[tokio::test]
async fn a_trigger_is_not_answered_by_what_was_looked_at_before_it() {
    let bench = Bench::new().await;
    bench.job("lib", |job| job.is_held = true);
    let mut ask = ask(source("lib"));
    bench.dropped_when(&ask, |runs| runs.len() == 1 && runs[0].number.is_some()).await;
    bench.job("lib", |job| (job.is_held, job.says) = (false, "r2".into()));
    ask.trigger_age = Some(Duration::ZERO);
    assert_eq!(look(&bench.probe(), &ask).await.unwrap(), observed("r2"));
    let results: Vec<_> = bench.runs().iter().map(|r| r.result).collect();
    assert_eq!(results, [Some("ABORTED"), Some("SUCCESS")]);
}

#[tokio::test]
async fn a_look_that_takes_too_long_ends_and_stops_its_run() {
    for stuck in [true, false] {
        let bench = Bench::new().await;
        bench.job("lib", |job| (job.is_held, job.is_stuck) = (!stuck, stuck));
        let short = JobSource::token("lib").timeout(Duration::from_secs(1)).into_source("jenkins").unwrap();
        let error = look(&bench.probe(), &ask(short)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.report().contains("stopped=true") && error.report().contains("job=lib"), "{error:?}");
        assert_eq!(bench.world.lock().unwrap().unfinished(), 0, "stuck: {stuck}");
    }
}

#[tokio::test]
async fn each_bad_end_is_an_error_of_its_kind() {
    let change = |change: fn(&mut Job)| change;
    let cases = [
        ("failed", change(|j| j.result = "FAILURE"), ErrorKind::Unavailable),
        ("stopped", change(|j| j.result = "ABORTED"), ErrorKind::Unavailable),
        ("half good", change(|j| j.result = "UNSTABLE"), ErrorKind::Unavailable),
        ("nothing", change(|j| j.says = String::new()), ErrorKind::Corrupt),
        ("two lines", change(|j| j.says = "a\nb".into()), ErrorKind::Corrupt),
        ("no parameters", change(|j| j.refuses = Some(400)), ErrorKind::InvalidConfig),
        ("disabled", change(|j| j.refuses = Some(409)), ErrorKind::InvalidConfig),
        ("no permission", change(|j| j.refuses = Some(403)), ErrorKind::InvalidConfig),
    ];
    for (case, change, kind) in cases {
        let bench = Bench::new().await;
        bench.job("lib", change);
        let error = look(&bench.probe(), &ask(source("lib"))).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{case}: {error:?}");
        assert!(
            error.report().contains("job=lib") && error.report().contains("127.0.0.1"),
            "{case}: {error:?}"
        );
    }
    let bench = Bench::new().await;
    let error = look(&bench.probe(), &ask(source("absent"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
}

#[tokio::test]
async fn a_run_that_is_cancelled_in_the_queue_is_an_error() {
    let bench = Bench::new().await;
    bench.job("lib", |job| job.is_stuck = true);
    let (probe, ask) = (bench.probe(), ask(source("lib")));
    let cancelled = async {
        until(|| bench.runs().len() == 1).await;
        bench.world.lock().unwrap().runs[0].is_cancelled = true;
    };
    let (error, ()) = futures_util::join!(look(&probe, &ask), cancelled);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_request_whose_answer_was_lost_is_found_and_not_repeated() {
    let bench = Bench::new().await;
    bench.job("lib", |job| (job.loses_answer, job.is_stuck) = (true, true));
    let (probe, ask) = (bench.probe(), ask(source("lib")));
    let released = async {
        until(|| bench.runs().len() == 1).await;
        let asked = bench.mini.got().len();
        until(|| bench.mini.got()[asked..].iter().any(|g| g.what() == "GET /queue/item/1/api/json")).await;
        bench.release("lib");
    };
    let (answer, ()) = futures_util::join!(look(&probe, &ask), released);
    assert_eq!(answer.unwrap(), observed("r1"));
    assert_eq!(bench.runs().len(), 1);
}

#[tokio::test]
async fn true_and_false_are_asked_for_each_dependency() {
    let bench = Bench::new().await;
    bench.job("lib", |job| job.says = "true".into());
    let source = JobSource::changed("lib").into_source("jenkins").unwrap();
    let mut second = ask(source.clone());
    second.dependency = "other".parse().unwrap();
    second.seen = Some("3".parse().unwrap());
    second.accounted = second.seen.clone();
    second.last_start = Some("2026-03-01T12:00:00.25Z".parse().unwrap());
    let answers = bench.probe().probe(&[ask(source), second]).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [observed("1"), observed("4")]);
    let mut runs = bench.runs();
    runs.sort_by_key(|r| r.parameters["CAPOMASTRO_DEPENDENCY"].clone());
    let sent = |name: &str| runs.iter().map(|r| r.parameters[name].clone()).collect::<Vec<_>>();
    assert_eq!(sent("CAPOMASTRO_DEPENDENCY"), ["lib foo", "other"]);
    assert_eq!(sent("CAPOMASTRO_OBSERVED"), ["", "3"]);
    assert_eq!(sent("CAPOMASTRO_LAST_BUILD"), ["", "2026-03-01T12:00:00.250000Z"]);
    assert_eq!(sent("CAPOMASTRO_LAST_BUILD_UNIX"), ["", "1772366400"]);
    assert_ne!(runs[0].parameters["CAPOMASTRO_PROBE_ID"], runs[1].parameters["CAPOMASTRO_PROBE_ID"]);
}

#[test]
fn what_is_built_is_what_is_written() {
    let built = JobSource::changed("a/b")
        .parameter("X", "y")
        .timeout(Duration::from_secs(300))
        .into_source("jenkins")
        .unwrap();
    let written = json!({"job": "a/b", "language": "changed", "parameters": {"X": "y"}, "timeout": "5m"});
    assert_eq!(built.config, written);
    for bad in [
        JobSource::token("a//b"),
        JobSource::token("a").timeout(Duration::ZERO),
        JobSource::token("a").timeout(Duration::from_secs(90_000)),
        JobSource::token("a").parameter("CAPOMASTRO_PROBE_ID", "x"),
        JobSource::token("a").parameter("delay", "9999999999sec"),
        JobSource::token("a").parameter("", "x"),
        JobSource::token("a").parameter("X", "x".repeat(100_001)),
    ] {
        assert_eq!(bad.into_source("jenkins").unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
}
