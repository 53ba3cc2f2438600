//! The same questions, asked by a plain client that knows what it will find and reads nothing of it.

use crate::farm::{JOBS, build_id, job_name};
use capomastro_core::model::{ExternalRef, LaunchKey};
use capomastro_testkit::jenkins::Jenkins;
use futures_util::{StreamExt, stream};
use reqwest::{Client, RequestBuilder, Url, header::CONTENT_TYPE, redirect::Policy};

/// What the launcher asks of the queue, of each item, and of each build.
const QUEUE: &str = "items[id,blocked,buildable,stuck,why,inQueueSince,cancelled,executable[number,url],task[name,url],actions[parameters[name,value],causes[shortDescription]]],discoverableItems[task[name]]";
const BUILD: &str = "number,queueId,building,inProgress,result,duration,description,actions[parameters[name,value],causes[shortDescription]]";
/// How many requests are under way at once, as of the launcher.
const TOGETHER: usize = 6;

/// A plain client.
#[derive(Debug)]
pub(crate) struct Bare {
    client: Client,
    base: String,
}

impl Bare {
    pub(crate) fn new(jenkins: &Jenkins) -> Self {
        let client = Client::builder().redirect(Policy::none()).no_proxy().build().unwrap();
        Self { client, base: jenkins.url() }
    }

    /// The queue, then so many builds of each of so many jobs.
    pub(crate) async fn look(&self, jobs: usize, builds: usize) {
        self.send(self.get("queue/api/json", QUEUE)).await;
        let tree =
            format!("nextBuildNumber,property[parameterDefinitions[name]],allBuilds[{BUILD}]{{0,{builds}}}");
        let asked =
            (0..jobs).map(|job| self.send(self.get(&format!("job/{}/api/json", job_name(job)), &tree)));
        stream::iter(asked).buffer_unordered(TOGETHER).collect::<()>().await;
    }

    /// Describes each of these builds, which were launched in this order, round the jobs.
    pub(crate) async fn save(&self, builds: &[(LaunchKey, ExternalRef)]) {
        let saves = builds.iter().enumerate().map(|(n, (key, _))| {
            let url = format!("{}job/{}/{}/submitDescription", self.base, job_name(n), n / JOBS + 1);
            let text = format!("Capomastro {key}");
            async move { self.send(self.form(&url, &[("description", &text)])).await }
        });
        stream::iter(saves).buffer_unordered(TOGETHER).collect::<()>().await;
    }

    /// Asks for a build.
    pub(crate) async fn launch(&self, n: usize) {
        let url = format!("{}job/{}/buildWithParameters", self.base, job_name(n));
        let key = LaunchKey::of(build_id(n)).to_string();
        let fields =
            [("CAPOMASTRO_BUILD_ID", key.as_str()), ("CAPOMASTRO_REVISION", "r1"), ("delay", "10sec")];
        self.send(self.form(&url, &fields)).await;
    }

    fn get(&self, path: &str, tree: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        self.client.get(Url::parse_with_params(&url, [("tree", tree)]).unwrap())
    }

    fn form(&self, url: &str, fields: &[(&str, &str)]) -> RequestBuilder {
        let encoded = Url::parse_with_params(&self.base, fields).unwrap();
        self.client
            .post(url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(encoded.query().unwrap().to_owned())
    }

    async fn send(&self, request: RequestBuilder) {
        let answer = request.basic_auth(Jenkins::ADMIN, Some(Jenkins::TOKEN)).send().await.unwrap();
        assert!(answer.status().is_success() || answer.status().is_redirection(), "{}", answer.status());
        answer.bytes().await.unwrap();
    }
}
