//! One Jenkins server, as jobs and probes on it share it.

use crate::{
    Credentials,
    address::Base,
    http::{Client, Settings},
    jobs::Jobs,
    probe::JenkinsProbe,
};
use capomastro_core::{
    Result,
    secret::Secrets,
    time::{Clock, Random, SystemClock, SystemRandom},
};
use std::{sync::Arc, time::Duration};

/// How one Jenkins server is reached, for [`Jobs`] and [`JenkinsProbe`]s. Clones share connections and limits.
#[derive(Clone, Debug)]
pub struct JenkinsServer {
    pub(crate) client: Client,
}

/// Settings of a [`JenkinsServer`].
#[derive(Clone, Debug)]
pub struct JenkinsServerBuilder {
    url: String,
    credentials: Credentials,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    concurrency: usize,
    read_timeout: Duration,
    change_timeout: Duration,
}

impl JenkinsServer {
    /// A server at this root URL, such as `https://ci.example.org/jenkins/`.
    pub fn builder(
        url: impl Into<String>,
        credentials: Credentials,
        secrets: Secrets,
    ) -> JenkinsServerBuilder {
        JenkinsServerBuilder {
            url: url.into(),
            credentials,
            secrets,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            concurrency: 4,
            read_timeout: Duration::from_secs(30),
            change_timeout: Duration::from_secs(60),
        }
    }

    /// Its jobs.
    pub fn jobs(&self) -> Jobs {
        Jobs::over(self.client.clone())
    }

    /// A probe that runs jobs on it.
    pub fn probe(&self) -> JenkinsProbe {
        JenkinsProbe::over(self.client.clone())
    }
}

impl JenkinsServerBuilder {
    /// Whose time is meant; the machine's unless set.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Whose randomness is meant; the machine's unless set.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// How many requests may be under way at once, at least 1; 4 unless set.
    #[must_use]
    pub fn concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests.max(1);
        self
    }

    /// How long a read may take; 30 s unless set.
    #[must_use]
    pub const fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// How long a change may take; 60 s unless set.
    #[must_use]
    pub const fn change_timeout(mut self, timeout: Duration) -> Self {
        self.change_timeout = timeout;
        self
    }

    /// The server. Nothing is sent yet.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) if the URL is none of a server, or has a user or
    /// password in it.
    pub fn build(self) -> Result<JenkinsServer> {
        let settings = Settings {
            base: Base::parse(&self.url)?,
            credentials: self.credentials,
            secrets: self.secrets,
            clock: self.clock,
            random: self.random,
            concurrency: self.concurrency,
            connect_timeout: Duration::from_secs(5),
            read_timeout: self.read_timeout,
            change_timeout: self.change_timeout,
            max_json: 16 * 1024 * 1024,
            proxy: None,
            roots: Vec::new(),
        };
        Ok(JenkinsServer { client: Client::new(settings)? })
    }
}
