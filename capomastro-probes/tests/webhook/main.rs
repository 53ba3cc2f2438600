//! Webhooks, from a request of HTTP to a look.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests too")]

mod intake;
#[path = "../git/repo.rs"]
mod repo;

use axum::Router;
use capomastro_core::{
    InMemoryStore, Scheduler,
    model::{Policy, Source},
    probe::RevisionProbe,
    scheduler::DependencySpec,
    secret::Secret,
    time::{Clock, SystemClock},
};
use capomastro_probes::webhook::{Forge, Place, Watched, Webhooks};
use capomastro_testkit::{ControllableLauncher, ScriptedProbe};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::net::TcpListener;

pub(crate) const SECRET: &str = "correct horse battery staple";

/// A scheduler that looks once a day by itself, and the hooks before it.
pub(crate) struct House {
    pub(crate) scheduler: Scheduler,
    pub(crate) launcher: ControllableLauncher,
    url: String,
    client: reqwest::Client,
}

impl House {
    pub(crate) async fn with(name: &str, probe: Arc<dyn RevisionProbe>) -> Self {
        let launcher = ControllableLauncher::auto_succeed();
        let scheduler = Scheduler::builder(InMemoryStore::new(Arc::new(SystemClock)))
            .probe(name, probe)
            .launcher("fake", Arc::new(launcher.clone()))
            .build()
            .unwrap();
        let secret = || [Secret::new(SECRET)];
        let hooks = Webhooks::builder()
            .endpoint(Forge::GitHub, secret())
            .endpoint(Forge::Generic, secret())
            .max_body(10_000)
            .follows(|source| {
                let name = source.config["name"].as_str().map(|n| Place::of(&format!("https://h/{n}")));
                name.flatten().map(Watched::all_of).or_else(|| Watched::of(source))
            })
            .build()
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap());
        let app = Router::new().nest("/hooks", hooks.routes());
        tokio::spawn(async move { axum::serve(listener, app).await });
        let (runs, forwards) = (scheduler.clone(), scheduler.clone());
        tokio::spawn(async move { runs.run(std::future::pending()).await });
        tokio::spawn(async move { hooks.forward(&forwards, std::future::pending()).await });
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { scheduler, launcher, url, client }
    }

    pub(crate) async fn dependency(&self, name: &str, source: Source) {
        let policy = Policy::default().with_look_every(Duration::from_secs(86_400));
        let spec = DependencySpec::new(name, source, "fake").unwrap().with_policy(policy);
        self.scheduler.ensure(&spec).await.unwrap();
    }

    /// A scripted dependency that was built once.
    pub(crate) async fn built(&self, probe: &ScriptedProbe, name: &str) {
        probe.set(name, "r1");
        self.dependency(name, ScriptedProbe::source(name)).await;
        self.until(|| self.launcher.launched().len() == 1).await;
    }

    /// Sends a body with these headers; the status and the text that come back.
    pub(crate) async fn post(&self, to: &str, headers: &[(&str, &str)], body: Vec<u8>) -> (u16, String) {
        let mut request = self.client.post(format!("{}/{to}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Sends a hook of our own form.
    pub(crate) async fn hook(&self, message: &Value) -> u16 {
        let body = message.to_string().into_bytes();
        let time = SystemClock.now().timestamp().to_string();
        let signature = sign(&[time.as_bytes(), b".", &body]);
        let headers = [
            ("content-type", "application/json"),
            ("x-capomastro-timestamp", &time),
            ("x-capomastro-signature", &signature),
        ];
        self.post("generic", &headers, body).await.0
    }

    /// Waits until so many triggers of the dependency await a look.
    #[expect(clippy::disallowed_methods, reason = "what other tasks do can only be polled")]
    pub(crate) async fn until_triggers(&self, name: &str, count: usize) {
        while self.scheduler.status(name).await.unwrap().state.stored.len() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[expect(clippy::disallowed_methods, reason = "what other tasks do can only be polled")]
    pub(crate) async fn until(&self, mut holds: impl FnMut() -> bool) {
        within(async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

pub(crate) fn sign(parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={hex}")
}

/// A test that hangs fails.
#[expect(clippy::disallowed_methods, reason = "the one bound on how long tests wait")]
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it takes less than a minute")
}
