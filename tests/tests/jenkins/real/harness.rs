//! The launcher's conformance suite on jobs of a server that is there already, on the machine's clock.

use super::{
    jobs::{Does, GIVEN, Jobs, UNSET},
    played::{Doubled, Player, Shell},
    relay::Relay,
    server::Server,
};
use capomastro_core::{
    Result, async_trait,
    launch::{BuildLauncher, Found, Journal, LaunchRequest, Launched, Promise, Report},
    model::{ExternalRef, LaunchKey},
    time::{Clock as _, SystemClock},
};
use capomastro_jenkins::{Artifacts, JenkinsJob, JenkinsLauncher};
use capomastro_testkit::{
    conformance::{
        Time, launcher as suite,
        launcher::{End, LauncherHarness, NextAnswer, Told},
    },
    jenkins::Jenkins,
};
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{OnceCell, OwnedMutexGuard};

const ID: &str = "CAPOMASTRO_BUILD_ID";
const NAME: &str = "suite ö";

/// A job on a server, and what stands before it.
#[derive(Debug)]
pub(super) struct Harness {
    /// Before the player: the server must be there when they are deleted.
    jobs: Jobs,
    player: Box<dyn Player>,
    made: OnceCell<()>,
    client: Client,
    relay: Option<Relay>,
    /// What items were told that were ever seen, also of those that were cancelled since.
    items: Mutex<BTreeMap<u64, Parameters>>,
    /// A real server has few executors, so one case after the other has them.
    _turn: Option<OwnedMutexGuard<()>>,
}

type Parameters = BTreeMap<String, String>;

fn parameters(of: &Value) -> Parameters {
    let actions = of["actions"].as_array().into_iter().flatten();
    let all = actions.flat_map(|action| action["parameters"].as_array().into_iter().flatten());
    let text = |value: &Value| value.as_str().map(str::to_owned);
    all.filter_map(|p| Some((text(&p["name"])?, text(&p["value"])?))).collect()
}

impl Harness {
    pub(super) fn real(server: Server) -> Self {
        static TURN: std::sync::LazyLock<Arc<tokio::sync::Mutex<()>>> =
            std::sync::LazyLock::new(Arc::default);
        let turn = Arc::clone(&TURN).blocking_lock_owned();
        Self::of(server, Box::new(Shell), Some(turn))
    }

    fn doubled(jenkins: Jenkins) -> Self {
        Self::of(Server::double(&jenkins), Box::new(Doubled::new(jenkins)), None)
    }

    fn of(server: Server, player: Box<dyn Player>, turn: Option<OwnedMutexGuard<()>>) -> Self {
        let url: Url = server.url.parse().unwrap();
        let relay = (url.scheme() == "http").then(|| {
            Relay::before(format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap()))
        });
        let client =
            Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        let (made, items, jobs) = (OnceCell::new(), Mutex::default(), Jobs::new(server));
        Self { jobs, player, made, client, relay, items, _turn: turn }
    }

    /// Where launchers reach the server.
    fn url(&self) -> String {
        let mut url: Url = self.jobs.server().url.parse().unwrap();
        if let Some(relay) = &self.relay {
            url.set_ip_host(relay.address.ip()).unwrap();
            url.set_port(Some(relay.address.port())).unwrap();
        }
        url.into()
    }

    /// Asks the server itself, on a way that is never cut.
    async fn ask(&self, method: Method, path: &[&str], query: &str) -> (u16, Value) {
        let server = self.jobs.server();
        let mut url: Url = server.url.parse().unwrap();
        url.path_segments_mut().unwrap().pop_if_empty().extend(path);
        url.set_query(Some(query).filter(|q| !q.is_empty()));
        let request = self.client.request(method, url).basic_auth(&server.user, Some(&server.token));
        let answer = request.timeout(Duration::from_secs(30)).send().await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Each build that has a record: its number, its queue item, what it was told.
    async fn records(&self) -> Vec<(u64, u64, Parameters)> {
        let tree = "tree=allBuilds[number,queueId,actions[parameters[name,value]]]";
        let (status, job) = self.ask(Method::GET, &["job", &self.jobs.name(NAME), "api", "json"], tree).await;
        assert_eq!(status, 200, "the job is there");
        let builds = job["allBuilds"].as_array().into_iter().flatten();
        builds
            .map(|b| {
                (b["number"].as_u64().unwrap(), b["queueId"].as_u64().unwrap_or_default(), parameters(b))
            })
            .collect()
    }
}

fn told(of: &Parameters) -> Told {
    let own = |name: &str| &of[&format!("CAPOMASTRO_{name}")];
    let mut told = Told::revision(own("REVISION").parse().unwrap());
    told.dependency = Some(own("DEPENDENCY").parse().unwrap());
    told.number = Some(own("NUMBER").parse().unwrap());
    let key = own("BUILD_KEY");
    told.build_key = Some((!key.is_empty()).then(|| key.parse().unwrap()));
    let given = of.iter().filter(|(name, value)| GIVEN.contains(&name.as_str()) && *value != UNSET);
    told.parameters = Some(given.map(|(name, value)| (name.clone(), value.clone())).collect());
    told
}

#[async_trait]
impl LauncherHarness for Harness {
    fn time(&self) -> Time {
        Time::Machine
    }

    async fn open(&self) -> Arc<dyn BuildLauncher> {
        self.made.get_or_init(|| self.player.make(&self.jobs, NAME, Does::Hold)).await;
        let launcher = self.jobs.server().launcher(&self.url());
        let second = Duration::from_secs(1);
        // Nothing between here and there holds a request back, and a case has two minutes.
        let launcher = launcher.launch_timeout(5 * second).proxy_timeout(second).sweep_gap(2 * second);
        Arc::new(Patient(launcher.build().unwrap()))
    }

    fn job(&self) -> Value {
        let mut job = JenkinsJob::new(self.jobs.name(NAME)).artifacts(Artifacts::Digest);
        job.dependency_parameter = Some("CAPOMASTRO_DEPENDENCY".into());
        job.number_parameter = Some("CAPOMASTRO_NUMBER".into());
        job.build_key_parameter = Some("CAPOMASTRO_BUILD_KEY".into());
        job.into()
    }

    fn bad_jobs(&self) -> Vec<Value> {
        vec![json!({}), json!({"job": ""}), json!({"job": "a", "jbo": 1}), json!(null)]
    }

    fn refused_job(&self) -> Option<Value> {
        Some(JenkinsJob::new(self.jobs.name("that nobody has made")).into())
    }

    async fn builds(&self, key: LaunchKey) -> Vec<Told> {
        let tree = "tree=items[id,task[name],actions[parameters[name,value]]]";
        let (_, queue) = self.ask(Method::GET, &["queue", "api", "json"], tree).await;
        // After the queue: what has left it is here.
        let records = self.records().await;
        let job = self.jobs.name(NAME);
        // Of other jobs there may be builds with the same key: every case begins with the same ones.
        let waiting =
            queue["items"].as_array().into_iter().flatten().filter(|item| item["task"]["name"] == job);
        let waiting = waiting.map(|item| (item["id"].as_u64().unwrap(), parameters(item)));
        let mut items = self.items.lock().unwrap();
        items.extend(waiting);
        let started: BTreeSet<u64> = records.iter().map(|(_, item, _)| *item).collect();
        items.retain(|id, _| !started.contains(id));
        let key = key.to_string();
        let all = items.values().chain(records.iter().map(|(_, _, parameters)| parameters));
        all.filter(|p| p.get(ID) == Some(&key)).map(told).collect()
    }

    async fn end(&self, key: LaunchKey, end: &End) -> bool {
        self.player.end(&self.jobs, NAME, key, end).await
    }

    async fn forget(&self, key: LaunchKey) -> bool {
        let key = key.to_string();
        let records = self.records().await;
        let (number, ..) = records.iter().find(|(.., p)| p.get(ID) == Some(&key)).unwrap();
        if self.player.forgets(&self.jobs, NAME, *number) {
            return true;
        }
        let path = ["job", &self.jobs.name(NAME), &number.to_string(), "doDelete"];
        let (status, _) = self.ask(Method::POST, &path, "").await;
        assert_eq!(status, 302, "a build can be deleted");
        true
    }

    async fn cut(&self, cut: bool) -> bool {
        self.relay.as_ref().is_some_and(|relay| {
            relay.cut(cut);
            true
        })
    }

    async fn lose_answer(&self) -> NextAnswer {
        let Some(relay) = &self.relay else {
            return NextAnswer::CannotBeLost { because: "nothing between can look into TLS" };
        };
        relay.lose_answer();
        NextAnswer::IsLost
    }
}

/// A launcher that waits after its searches as long as it asks for, as a scheduler would.
#[derive(Debug)]
struct Patient(JenkinsLauncher);

#[async_trait]
impl BuildLauncher for Patient {
    fn promise(&self) -> Promise {
        self.0.promise()
    }

    fn check_job(&self, job: &Value) -> Result<()> {
        self.0.check_job(job)
    }

    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        self.0.launch(request, journal).await
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        let found = self.0.find(request).await;
        if let Ok(Found::Inconclusive { look_again }) = found {
            SystemClock.sleep(look_again).await;
        }
        found
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        // A case looks again at once.
        SystemClock.sleep(Duration::from_millis(100)).await;
        self.0.observe(builds).await
    }

    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        self.0.cancel(key, build).await
    }
}

/// A case for each thing that this harness does, on the double: the arm itself works.
#[test]
fn the_suite_can_be_played_on_the_double() {
    let cases = [
        "hostile_texts_arrive_as_they_are",
        "what_was_launched_is_found",
        "what_was_not_launched_is_not_found",
        "what_was_forgotten_is_unknown",
        "a_look_out_of_reach_is_an_error",
        "each_outcome_is_told",
        "the_revision_that_was_built_is_told",
        "artifacts_are_told",
        "a_build_that_is_stopped_ends",
        "a_refusal_starts_nothing",
        "what_may_have_been_sent_is_not_called_unsent",
    ];
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || {
                capomastro_testkit::conformance::run(suite::CASES, case, || {
                    let server = Jenkins::builder().executors(20).context_path("/ci").start();
                    let jenkins = futures_util::FutureExt::now_or_never(server).unwrap().unwrap();
                    Box::new(Harness::doubled(jenkins)) as Box<dyn LauncherHarness>
                });
            });
        }
    });
}
