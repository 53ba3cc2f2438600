//! Setting a launcher up.

use crate::{
    address::Base,
    credentials::Credentials,
    http::{Client, Settings},
    launcher::{Inner, JenkinsLauncher, Options},
    memory::Memory,
};
use capomastro_core::{
    Error, Result,
    secret::Secrets,
    time::{Clock, Random, SystemClock, SystemRandom},
};
use std::{sync::Arc, time::Duration};

/// Sets a [`JenkinsLauncher`] up. Made by [`JenkinsLauncher::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is set up until build is called"]
pub struct JenkinsLauncherBuilder {
    url: String,
    credentials: Credentials,
    secrets: Secrets,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    concurrency: usize,
    connect_timeout: Duration,
    read_timeout: Duration,
    download_timeout: Duration,
    launch_timeout: Duration,
    proxy_timeout: Duration,
    sweep_gap: Duration,
    max_json: usize,
    max_artifact_bytes: u64,
    digest_timeout: Duration,
    resend: bool,
    save_records: bool,
    stop_extras: bool,
    proxy: Option<String>,
    roots: Vec<Vec<u8>>,
}

impl JenkinsLauncherBuilder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            credentials: Credentials::Anonymous,
            secrets: Secrets::none(),
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            concurrency: 6,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            download_timeout: Duration::from_secs(1_800),
            launch_timeout: Duration::from_secs(60),
            proxy_timeout: Duration::from_secs(120),
            sweep_gap: Duration::from_secs(10),
            max_json: 16 * 1024 * 1024,
            max_artifact_bytes: 1024 * 1024 * 1024,
            digest_timeout: Duration::from_secs(3),
            resend: false,
            save_records: true,
            stop_extras: true,
            proxy: None,
            roots: Vec::new(),
        }
    }

    /// Who asks, and where the value of the secret comes from, which is asked for with each request. Nobody by default.
    pub fn credentials(mut self, credentials: Credentials, secrets: Secrets) -> Self {
        self.credentials = credentials;
        self.secrets = secrets;
        self
    }

    /// How many requests may be under way at once; 1 to 64, 6 by default. Half as many downloads of logs and artifacts may be
    /// beside them, so that these hold up no launch. Jenkins has no limit of its own and becomes slow
    /// instead.
    pub const fn concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests;
        self
    }

    /// How long a connection may take to be made; 5 s by default.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long reading an answer may take; 30 s by default. Of logs and artifacts, how long nothing may come.
    pub const fn read_timeout(mut self, timeout: Duration) -> Self {
        self.read_timeout = timeout;
        self
    }

    /// How long reading an artifact or a log may take in all; 30 min by default. What was read by then can be gone on from.
    pub const fn download_timeout(mut self, timeout: Duration) -> Self {
        self.download_timeout = timeout;
        self
    }

    /// How long asking for a build may take; 60 s by default. The scheduler's own limit counts too.
    pub const fn launch_timeout(mut self, timeout: Duration) -> Self {
        self.launch_timeout = timeout;
        self
    }

    /// How long something between this machine and the server may hold a request back and still deliver it; 120 s by
    /// default. A build whose launch was not answered is believed absent no sooner than this and
    /// [`launch_timeout`](Self::launch_timeout) after it was asked for. The scheduler wants that to be longer than its
    /// claims and its request time-out together.
    pub const fn proxy_timeout(mut self, timeout: Duration) -> Self {
        self.proxy_timeout = timeout;
        self
    }

    /// How far apart the two sweeps are at least that prove that a build is not there; 10 s by default. It must be longer
    /// than Jenkins takes from numbering a build to showing its parameters.
    pub const fn sweep_gap(mut self, gap: Duration) -> Self {
        self.sweep_gap = gap;
        self
    }

    /// How many bytes one answer may have, logs and artifacts aside; 16 MiB by default.
    pub const fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.max_json = bytes;
        self
    }

    /// How large an artifact may be whose digest is wanted; larger ones are told without. 1 GiB by default.
    pub const fn max_artifact_bytes(mut self, bytes: u64) -> Self {
        self.max_artifact_bytes = bytes;
        self
    }

    /// How long the digests of one build's artifacts may take at its end; 3 s by default. Those that are not read by then
    /// are told without: the look that sees the end is that of other builds too, and has to end within the scheduler's
    /// request time-out.
    pub const fn digest_timeout(mut self, timeout: Duration) -> Self {
        self.digest_timeout = timeout;
        self
    }

    /// Whether a launch whose connection broke, and of which the server shows nothing, is sent once more while the quiet
    /// period of what may have been sent lasts; off by default. It saves the wait for the search. If the first request did
    /// not reach the server and does so later still, held back by something in between until the second has started, there
    /// are two builds.
    pub const fn resend(mut self, resent: bool) -> Self {
        self.resend = resent;
        self
    }

    /// Whether the records of running builds are saved by setting their descriptions; on by default. It needs the
    /// permission Run/Update, and does nothing without.
    pub const fn save_records(mut self, saved: bool) -> Self {
        self.save_records = saved;
        self
    }

    /// Whether a build that runs beside the one that stands for its launch, for the same causes and nobody else's, is stopped;
    /// on by default. It needs the permission Job/Cancel, and warns without. What people have rebuilt or replayed is theirs.
    pub const fn stop_extras(mut self, stopped: bool) -> Self {
        self.stop_extras = stopped;
        self
    }

    /// The URL of a proxy through which the server is reached. None by default, whatever the environment says.
    pub fn proxy(mut self, url: impl Into<String>) -> Self {
        self.proxy = Some(url.into());
        self
    }

    /// One more certificate authority, in PEM, that may vouch for the server.
    pub fn root_certificate(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// The clock by which deadlines and ages are told; the system's by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The randomness that spreads waits; the system's by default.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// The launcher. Asks the server nothing yet.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) if the URL, a certificate, the proxy or a limit is not
    /// acceptable.
    pub fn build(self) -> Result<JenkinsLauncher> {
        let base = Base::parse(&self.url)?;
        let limits = [
            (!(1..=64).contains(&self.concurrency), "concurrency is out of range: give 1 to 64"),
            (self.max_json < 64 * 1024, "max_answer_bytes is out of range: give at least 64 KiB"),
            (
                [
                    self.connect_timeout,
                    self.read_timeout,
                    self.download_timeout,
                    self.launch_timeout,
                    self.proxy_timeout,
                ]
                .iter()
                .any(Duration::is_zero),
                "a time-out is zero: give at least a second",
            ),
        ];
        if let Some((_, problem)) = limits.iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(Error::config(*problem));
        }
        let proxy = self.proxy.map(|url| {
            // Not its cause, which may repeat a password.
            reqwest::Proxy::all(url).map_err(|_| Error::config("the proxy's URL cannot be read: check it"))
        });
        let roots = self.roots.iter().map(|pem| {
            reqwest::Certificate::from_pem(pem).map_err(|e| {
                Error::config("a root certificate cannot be read: give it in PEM").with_source(e)
            })
        });
        let client = Client::new(Settings {
            base,
            credentials: self.credentials,
            secrets: self.secrets,
            clock: self.clock,
            random: self.random,
            concurrency: self.concurrency,
            connect_timeout: self.connect_timeout,
            read_timeout: self.read_timeout,
            download_timeout: self.download_timeout,
            change_timeout: self.launch_timeout,
            max_json: self.max_json,
            proxy: proxy.transpose()?,
            roots: roots.collect::<Result<_>>()?,
        })?;
        let options = Options {
            settle: self.launch_timeout + self.proxy_timeout,
            sweep_gap: self.sweep_gap,
            resend: self.resend,
            save_records: self.save_records,
            stop_extras: self.stop_extras,
            max_artifact_bytes: self.max_artifact_bytes,
            digest_timeout: self.digest_timeout,
        };
        Ok(JenkinsLauncher(Arc::new(Inner { client, options, memory: Memory::default() })))
    }
}
