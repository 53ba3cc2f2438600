//! What a look costs that runs a script inside a container, beside `lxc-execute` of the same script by hand in a container
//! of the same configuration, and beside the same look on this machine as it is.
//!
//! Times are those on the wall, in the middle of many that alternate; and of the processor, of this process and all its
//! children, as the kernel counts it in ticks of 10 ms. Needs root and LXC.

#![allow(clippy::unwrap_used, reason = "a benchmark")]

use capomastro_core::{
    command::{Command, CommandRunner},
    probe::{Ask, Probed, RevisionProbe},
    secret::Secrets,
    time::{Clock, SystemClock},
};
use capomastro_lxc::{LxcRunner, Root};
use capomastro_probes::script::{ScriptProbe, ScriptSource};
use capomastro_process::ProcessRunner;
use capomastro_tests::figure;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

/// How often each is done.
const ROUNDS: usize = 200;
/// How many are done at once, where many are.
const AT_ONCE: usize = 8;
/// What is run: a script that tells a token.
const SCRIPT: &str = "echo r1";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let lxc = LxcRunner::builder(folder.path().join("state"), Root::Host).build().unwrap();
        let health = lxc.health().await.unwrap();
        assert!(health.is_well(), "{health}");
        let bare = Bare::like(&lxc, folder.path()).await;
        let inside = ScriptProbe::new(Arc::new(lxc));
        let host = ScriptProbe::new(Arc::new(ProcessRunner::new()));

        let (mut by_hand, mut ours, mut outside) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            by_hand.push(timed(bare.run()).await);
            ours.push(timed(look(&inside)).await);
            outside.push(timed(look(&host)).await);
        }
        figure("over_lxc_execute", at(&mut ours, 50), at(&mut by_hand, 50), "ms a look, p50");
        figure("over_lxc_execute_p95", at(&mut ours, 95), at(&mut by_hand, 95), "ms a look, p95");
        figure("lxc_over_host", at(&mut ours, 50), at(&mut outside, 50), "ms a look, p50");

        let by_hand = cpu(async || bare.run().await).await;
        let ours = cpu(async || look(&inside).await).await;
        figure("over_lxc_execute_cpu", ours, by_hand, "ms of processor time a look");

        let many_by_hand = timed(at_once(|| bare.run())).await;
        let many = timed(at_once(|| look(&inside))).await;
        let a_second = |took: f64| f64::from(u32::try_from(ROUNDS).unwrap()) * 1_000.0 / took;
        figure("lxc_at_once", a_second(many), a_second(many_by_hand), "looks/s, 8 at once");
        bare.end().await;
    });
}

/// Milliseconds on the wall.
async fn timed(what: impl Future<Output = ()>) -> f64 {
    let begun = SystemClock.monotonic();
    what.await;
    (SystemClock.monotonic().0 - begun.0).as_secs_f64() * 1_000.0
}

/// Milliseconds of processor time that one takes on the average.
async fn cpu(mut one: impl AsyncFnMut()) -> f64 {
    let before = ticks();
    for _ in 0..ROUNDS {
        one().await;
    }
    f64::from(ticks() - before) * 10.0 / f64::from(u32::try_from(ROUNDS).unwrap())
}

/// Processor time of this process and of all children that have ended, in user and in system mode.
fn ticks() -> u32 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The name in parentheses may hold anything; behind it come the state and, as 11th to 14th, the times.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_ascii_whitespace().skip(11).take(4).map(|t| t.parse::<u32>().unwrap()).sum()
}

fn at(times: &mut [f64], percent: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times[(times.len() - 1) * percent / 100]
}

/// As many rounds, some at a time.
async fn at_once<F: Future<Output = ()> + Send>(one: impl Fn() -> F + Sync) {
    let one = &one;
    let lanes = (0..AT_ONCE).map(|_| async move {
        for _ in 0..ROUNDS / AT_ONCE {
            one().await;
        }
    });
    futures_util::future::join_all(lanes).await;
}

async fn look(probe: &ScriptProbe) {
    let source = ScriptSource::token(["/bin/sh", "-c", SCRIPT]).into_source("script").unwrap();
    let ask = Ask::new("a".parse().unwrap(), source, Duration::from_secs(60), Secrets::none());
    match probe.probe(&[ask]).await.remove(0).unwrap() {
        Probed::Observed(seen) => assert_eq!(seen.revision.as_str(), "r1"),
        other => panic!("{other:?}"),
    }
}

/// `lxc-execute` by hand, with the configuration of a container of ours that is kept meanwhile.
struct Bare {
    config: PathBuf,
    lxc: PathBuf,
    held: tokio::task::JoinHandle<()>,
    next: std::sync::atomic::AtomicU32,
}

impl Bare {
    async fn like(lxc: &LxcRunner, folder: &Path) -> Self {
        let holds = Command::new("sleep").arg("100000").deadline(Duration::from_secs(100_000));
        let held = tokio::spawn({
            let lxc = lxc.clone();
            async move { drop(lxc.run(&holds).await) }
        });
        let runs = folder.join("state/runs");
        let config = loop {
            let entry = fs::read_dir(&runs).ok().and_then(|mut runs| runs.next());
            if let Some(config) = entry.map(|e| e.unwrap().path().join("config")).filter(|c| c.is_file()) {
                break config;
            }
            SystemClock.sleep(Duration::from_millis(10)).await;
        };
        let path = folder.join("by-hand");
        fs::create_dir(&path).unwrap();
        Self { config, lxc: path, held, next: 0.into() }
    }

    async fn run(&self) {
        let n = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let output = tokio::process::Command::new("lxc-execute")
            .args(["-n", &format!("by-hand-{n}"), "-P"])
            .arg(&self.lxc)
            .arg("-f")
            .arg(&self.config)
            .args(["--", "/bin/sh", "-c", SCRIPT])
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        assert_eq!(output.stdout, b"r1\n", "{output:?}");
    }

    async fn end(self) {
        self.held.abort();
        assert!(self.held.await.unwrap_err().is_cancelled());
    }
}
