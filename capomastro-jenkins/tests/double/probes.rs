//! Probes as jobs: the suite for all probes, and what the server may do meanwhile.

use crate::{by_token, jenkins, until};
use capomastro_core::{
    ErrorKind, async_trait,
    model::Source,
    probe::{Ask, Probed, RevisionProbe},
    secret::Secrets,
};
use capomastro_jenkins::probe::JobSource;
use capomastro_testkit::{
    conformance::{
        Time,
        probe::{Guarded, Happens, ProbeHarness},
    },
    jenkins::{Fault, Jenkins, JobSpec, Run, Script},
};
use futures_util::future::{Either, select};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

/// What the runs of a job do from now on.
#[derive(Clone, Debug)]
struct Situation {
    says: String,
    fails: bool,
    hangs: bool,
}

type Situations = Arc<Mutex<BTreeMap<String, Situation>>>;

/// A job that does as it is told at the start of each run.
fn define(jenkins: &Jenkins, situations: &Situations, name: &str) {
    let known = Arc::clone(situations);
    let script = move |run: &Run| {
        let now = known.lock().unwrap()[&run.job].clone();
        let mark = run.parameter("CAPOMASTRO_PROBE_MARK").unwrap();
        let log = format!("Started\n\n{mark} begin\n{}\n\n{mark} end\n", now.says);
        let seconds: u64 = run.parameter("CAPOMASTRO_PROBE_SECONDS").unwrap().parse().unwrap();
        match (now.hangs, now.fails) {
            // Until it ends itself.
            (true, _) => Script::ends_after(Duration::from_secs(seconds), "FAILURE"),
            (_, true) => Script::ends_after(Duration::ZERO, "FAILURE").log(log),
            _ => Script::succeeds_after(Duration::from_millis(20)).log(log),
        }
    };
    let mut job = JobSpec::freestyle(name).quiet_period(Duration::ZERO).concurrent(true);
    for parameter in ["PROBE_ID", "PROBE_MARK", "PROBE_LANGUAGE", "PROBE_SECONDS"] {
        job = job.string(format!("CAPOMASTRO_{parameter}"));
    }
    jenkins.define_job(job.runs_with(script));
}

fn situation(says: &str) -> Situation {
    Situation { says: says.into(), fails: false, hangs: false }
}

async fn bench() -> (Jenkins, Situations) {
    let jenkins = jenkins().await;
    let situations = Situations::default();
    situations.lock().unwrap().insert("lib".into(), situation("r1"));
    define(&jenkins, &situations, "lib");
    (jenkins, situations)
}

fn ask(timeout: u64) -> Ask {
    let source =
        JobSource::token("lib").timeout(Duration::from_secs(timeout)).into_source("jenkins").unwrap();
    Ask::new("lib".parse().unwrap(), source, Duration::from_secs(60), Secrets::none())
}

async fn look(jenkins: &Jenkins, ask: &Ask) -> capomastro_core::Result<Probed> {
    by_token(jenkins).probe().probe(std::slice::from_ref(ask)).await.remove(0)
}

#[tokio::test]
async fn a_run_left_behind_is_joined_and_not_repeated() {
    let (jenkins, situations) = bench().await;
    jenkins.hold_queue(true);
    let ask = ask(30);
    for _ in 0..3 {
        let queued = until(|| jenkins.queue().len() == 1);
        if let Either::Left((answer, _)) = select(pin!(look(&jenkins, &ask)), pin!(queued)).await {
            panic!("the queue is held: {answer:?}");
        }
    }
    situations.lock().unwrap().get_mut("lib").unwrap().says = "r2".into();
    let last = look(&jenkins, &ask);
    let released = async {
        until(|| jenkins.served().iter().filter(|s| format!("{s:?}").contains("/queue/item/")).count() > 0)
            .await;
        jenkins.hold_queue(false);
    };
    let (answer, ()) = futures_util::join!(last, released);
    assert_eq!(answer.unwrap(), Probed::revision("r2").unwrap());
    assert_eq!(jenkins.started().len(), 1, "three were dropped, and one run was started");
}

#[tokio::test]
async fn a_look_that_takes_too_long_stops_its_run() {
    let (jenkins, situations) = bench().await;
    situations.lock().unwrap().get_mut("lib").unwrap().hangs = true;
    let error = look(&jenkins, &ask(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
    until(|| jenkins.builds("lib").iter().all(|b| !b.building)).await;
    assert_eq!(jenkins.builds("lib")[0].result.as_deref(), Some("ABORTED"));
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_no_second_run() {
    for fault in [Fault::reset(), Fault::proxy(502), Fault::no_location()] {
        let (jenkins, situations) = bench().await;
        // It is still there when it is looked for.
        situations.lock().unwrap().get_mut("lib").unwrap().hangs = true;
        jenkins.hold_queue(true);
        jenkins.fault(fault.after_effect().on("POST", "/ctx/job/lib/buildWithParameters").times(1));
        let ask = ask(30);
        let released = async {
            until(|| jenkins.queue().len() == 1).await;
            until(|| {
                jenkins.served().iter().filter(|s| format!("{s:?}").contains("/queue/item/")).count() > 0
            })
            .await;
            situations.lock().unwrap().get_mut("lib").unwrap().hangs = false;
            jenkins.hold_queue(false);
        };
        let (answer, ()) = futures_util::join!(look(&jenkins, &ask), released);
        assert_eq!(answer.unwrap(), Probed::revision("r1").unwrap());
        assert_eq!(jenkins.started().len(), 1);
    }
}

#[tokio::test]
async fn a_fault_while_a_run_goes_on_says_nothing_about_it() {
    let (jenkins, _) = bench().await;
    jenkins.hold_queue(true);
    let ask = ask(30);
    let troubled = async {
        until(|| jenkins.queue().len() == 1).await;
        for fault in [Fault::reset(), Fault::proxy(502), Fault::proxy(504), Fault::broken_json(20)] {
            jenkins.fault(fault.on("GET", "/ctx/queue/item/1/api/json").times(1));
        }
        until(|| jenkins.faults_met() >= 1).await;
        jenkins.hold_queue(false);
    };
    let (answer, ()) = futures_util::join!(look(&jenkins, &ask), troubled);
    assert_eq!(answer.unwrap(), Probed::revision("r1").unwrap());
    assert_eq!(jenkins.started().len(), 1);
}

/// The suite for all probes.
struct Suite {
    jenkins: Jenkins,
    situations: Situations,
    made: Mutex<u32>,
    /// How each job was before it could not be looked at, and what it said before.
    before: Mutex<BTreeMap<String, (Option<Situation>, String)>>,
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Suite")
    }
}

/// The server goes on while a case, which has a runtime of its own, is not polled.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
    })
}

impl Suite {
    fn new() -> Self {
        Self {
            jenkins: runtime().block_on(jenkins()),
            situations: Situations::default(),
            made: Mutex::default(),
            before: Mutex::default(),
        }
    }

    fn next(&self) -> u32 {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        *made
    }
}

#[async_trait]
impl ProbeHarness for Suite {
    fn time(&self) -> Time {
        Time::Machine
    }

    fn open(&self) -> Arc<dyn RevisionProbe> {
        Arc::new(by_token(&self.jenkins).probe())
    }

    fn refused(&self) -> Vec<Source> {
        [json!({}), json!({"job": ""}), json!({"job": "a", "shell": 1}), json!({"job": "a?b"})]
            .map(|config| Source::new("jenkins", config).unwrap())
            .into()
    }

    async fn source(&self) -> Source {
        let name = format!("job-{}", self.next());
        self.situations.lock().unwrap().insert(name.clone(), situation(&format!("r{}", self.next())));
        define(&self.jenkins, &self.situations, &name);
        JobSource::token(name).timeout(Duration::from_secs(2)).into_source("jenkins").unwrap()
    }

    async fn beside(&self, _: &Source) -> Option<Source> {
        None
    }

    async fn cause(&self, source: &Source, what: Happens) -> bool {
        let name = source.config["job"].as_str().unwrap().to_owned();
        let fresh = format!("r{}", self.next());
        let mut before = self.before.lock().unwrap();
        let before = before.entry(name.clone()).or_default();
        let mut situations = self.situations.lock().unwrap();
        let now = situations.get_mut(&name).unwrap();
        match what {
            Happens::Change => before.1 = std::mem::replace(&mut now.says, fresh),
            Happens::Rewind => now.says.clone_from(&before.1),
            Happens::Cut => {
                before.0 = Some(now.clone());
                now.fails = true;
            }
            Happens::Hang => {
                before.0 = Some(now.clone());
                now.hangs = true;
            }
            Happens::Mend => *now = before.0.take().unwrap(),
            Happens::Diverge | Happens::Vanish => return false,
        }
        true
    }

    async fn guarded(&self) -> Option<Guarded> {
        None
    }

    async fn left(&self) -> usize {
        let running =
            self.jenkins.jobs().iter().flat_map(|j| self.jenkins.builds(j)).filter(|b| b.building).count();
        running + self.jenkins.queue().len()
    }
}

capomastro_testkit::revision_probe_conformance!(conforms, Suite::new());
