use super::*;
use capomastro_core::{
    command::Exit,
    secret::{FixedSecrets, Secret, SecretRef, SecretResolver, Secrets},
    time::Timestamp,
};
use capomastro_testkit::fakes::ManualClock;
use futures_util::poll;
use serde_json::json;
use std::{
    ffi::OsString,
    sync::{Mutex, atomic::AtomicUsize, atomic::Ordering},
};

const MINUTE: Duration = Duration::from_secs(60);

/// Says what it is told to, each run taking a while of the clock.
#[derive(Debug)]
struct Recorder {
    clock: ManualClock,
    takes: Duration,
    answer: fn() -> Result<CommandOutput>,
    ran: Mutex<Vec<Command>>,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Recorder {
    fn new(answer: fn() -> Result<CommandOutput>) -> Self {
        Self {
            clock: ManualClock::new(),
            takes: Duration::ZERO,
            answer,
            ran: Mutex::default(),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }
    }

    fn probe(self) -> (ScriptProbe, Arc<Self>) {
        let (clock, runner) = (self.clock.clone(), Arc::new(self));
        (ScriptProbe::new(Arc::clone(&runner) as _).with_clock(Arc::new(clock)), runner)
    }

    fn only(&self) -> Command {
        let mut ran = self.ran.lock().unwrap();
        assert_eq!(ran.len(), 1);
        ran.remove(0)
    }
}

#[async_trait]
impl CommandRunner for Recorder {
    async fn run(&self, command: &Command) -> Result<CommandOutput> {
        self.ran.lock().unwrap().push(command.clone());
        self.most.fetch_max(self.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        self.clock.sleep(self.takes).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        (self.answer)()
    }
}

fn r1() -> Result<CommandOutput> {
    Ok(CommandOutput::new(Exit::Code(0), b"r1\n".to_vec(), vec![]))
}

fn ask(source: ScriptSource, secrets: Secrets) -> Ask {
    Ask::new("lib".parse().unwrap(), source.into_source("script").unwrap(), MINUTE, secrets)
}

fn look(probe: &ScriptProbe, ask: Ask) -> Result<Probed> {
    probe.probe(&[ask]).now_or_never().expect("it is answered at once").remove(0)
}

fn environment(command: &Command) -> Vec<(String, String)> {
    let text = |t: &OsString| t.to_str().unwrap().to_owned();
    command.env.iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn a_first_look_has_path_and_empty_facts() {
    let (probe, runner) = Recorder::new(r1).probe();
    assert!(look(&probe, ask(ScriptSource::token(["rev"]), Secrets::none())).is_ok());
    let command = runner.only();
    let names: Vec<_> = environment(&command)
        .into_iter()
        .map(|(name, value)| if name == "PATH" { (name, String::new()) } else { (name, value) })
        .collect();
    let expected = [
        ("CAPOMASTRO_ACCOUNTED", ""),
        ("CAPOMASTRO_DEPENDENCY", "lib"),
        ("CAPOMASTRO_LAST_BUILD", ""),
        ("CAPOMASTRO_LAST_BUILD_UNIX", ""),
        ("CAPOMASTRO_OBSERVED", ""),
        ("PATH", ""),
    ];
    assert_eq!(names, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!((command.dir, command.stdin), (None, vec![]));
}

#[test]
fn a_later_look_is_told_what_is_known() {
    let (probe, runner) = Recorder::new(r1).probe();
    let source = ScriptSource::token(["./rev", "-x", "a b"])
        .dir("/srv")
        .env("PATH", "/opt/bin")
        .env("LANG", "C")
        .secret_env("TOKEN", "forge");
    let secrets = Secrets::new(Arc::new(FixedSecrets::default().with("forge", "hunter2")));
    let mut ask = ask(source, secrets);
    ask.seen = Some("r9".parse().unwrap());
    ask.accounted = Some("r8".parse().unwrap());
    ask.last_start = Timestamp::from_timestamp_micros(1_772_366_400_250_000);
    assert!(look(&probe, ask).is_ok());
    let command = runner.only();
    let environment = environment(&command);
    for (name, value) in [
        ("CAPOMASTRO_OBSERVED", "r9"),
        ("CAPOMASTRO_ACCOUNTED", "r8"),
        ("CAPOMASTRO_LAST_BUILD", "2026-03-01T12:00:00.250000Z"),
        ("CAPOMASTRO_LAST_BUILD_UNIX", "1772366400"),
        ("PATH", "/opt/bin"),
        ("LANG", "C"),
    ] {
        assert!(environment.contains(&(name.to_owned(), value.to_owned())), "{name} of {environment:?}");
    }
    assert_eq!(command.secret_env[&OsString::from("TOKEN")].expose(), "hunter2");
    assert_eq!(command.program, "./rev");
    assert_eq!(command.args, ["-x", "a b"]);
    assert_eq!(command.dir.unwrap().to_str(), Some("/srv"));
}

#[test]
fn a_run_ends_at_its_time_out_or_before_the_callers_deadline() {
    let second = Duration::from_secs(1);
    for (timeout, expected) in [(None, 57), (Some(20), 20), (Some(600), 57)] {
        let (probe, runner) = Recorder::new(r1).probe();
        let mut source = ScriptSource::token(["rev"]);
        source.timeout = timeout.map(Duration::from_secs);
        assert!(look(&probe, ask(source, Secrets::none())).is_ok());
        assert_eq!(runner.only().deadline, expected * second, "{timeout:?}");
    }
}

#[tokio::test]
async fn dependencies_with_equal_sources_share_the_deadline() {
    let mut recorder = Recorder::new(r1);
    recorder.takes = Duration::from_secs(20);
    let clock = recorder.clock.clone();
    let (probe, runner) = recorder.probe();
    let asks: Vec<Ask> = (0..15)
        .map(|i| {
            let mut ask = ask(ScriptSource::token(["rev"]), Secrets::none());
            ask.dependency = format!("lib{i}").parse().unwrap();
            ask
        })
        .collect();
    let mut probing = probe.probe(&asks);
    let answers = loop {
        match poll!(&mut probing) {
            std::task::Poll::Ready(answers) => break answers,
            std::task::Poll::Pending => assert!(clock.advance_to_next_sleeper().is_some(), "it hangs"),
        }
    };
    let in_time = answers.iter().filter(|a| a.is_ok()).count();
    // Three rounds of four begin before the 57th second; the deadline of a run is the runner's matter.
    assert_eq!((in_time, runner.most.load(Ordering::SeqCst)), (12, AT_ONCE));
    assert!(answers[12..].iter().all(|a| a.as_ref().is_err_and(|e| e.kind() == ErrorKind::TimedOut)));
    let deadlines: Vec<_> = runner.ran.lock().unwrap().iter().map(|c| c.deadline.as_secs()).collect();
    assert_eq!(deadlines, [57, 57, 57, 57, 37, 37, 37, 37, 17, 17, 17, 17]);
    let names: Vec<_> = runner
        .ran
        .lock()
        .unwrap()
        .iter()
        .map(|c| c.env[&OsString::from("CAPOMASTRO_DEPENDENCY")].clone())
        .collect();
    assert_eq!(names[..3], ["lib0", "lib1", "lib2"]);
}

#[derive(Debug)]
struct Hangs;

#[async_trait]
impl SecretResolver for Hangs {
    async fn resolve(&self, _: &SecretRef) -> Result<Secret> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn secrets_that_do_not_come_do_not_hold_the_probe_up() {
    let recorder = Recorder::new(r1);
    let clock = recorder.clock.clone();
    let (probe, runner) = recorder.probe();
    let source = ScriptSource::token(["rev"]).secret_env("TOKEN", "forge");
    let asks = [ask(source.clone(), Secrets::new(Arc::new(Hangs)))];
    let mut probing = probe.probe(&asks);
    assert!(poll!(&mut probing).is_pending());
    clock.advance(MINUTE);
    let error = probing.await.remove(0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let error = look(&probe, ask(source, Secrets::none())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("secret=forge"), "{error}");
    assert!(runner.ran.lock().unwrap().is_empty());
}

#[test]
fn no_error_repeats_a_secret() {
    let answers: [fn() -> Result<CommandOutput>; 3] = [
        || Ok(CommandOutput::new(Exit::Code(3), b"hunter2\n".to_vec(), b"+ curl -H hunter2\n".to_vec())),
        || Ok(CommandOutput::new(Exit::Code(0), b"hunter2\nhunter2\n".to_vec(), b"x=hunter2".to_vec())),
        || {
            let source = std::io::Error::other("cannot send hunter2");
            Err(Error::new(ErrorKind::Unavailable, "hunter2")
                .with_context("argument", "hunter2")
                .with_source(source))
        },
    ];
    for answer in answers {
        let (probe, _) = Recorder::new(answer).probe();
        let secrets = Secrets::new(Arc::new(FixedSecrets::default().with("forge", "hunter2")));
        let source = ScriptSource::token(["rev"]).secret_env("TOKEN", "forge");
        let error = look(&probe, ask(source, secrets)).unwrap_err();
        let text = format!("{error} {error:?} {}", error.report());
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("(secret)"), "{text}");
    }
}

#[test]
fn a_program_that_is_not_there_is_no_source_that_is_not_there() {
    for kind in [ErrorKind::NotFound, ErrorKind::PermissionDenied, ErrorKind::InvalidInput] {
        assert_eq!(not_run(&Error::new(kind, "x"), &Redactor::default()).kind(), ErrorKind::InvalidConfig);
    }
    let limited = Error::new(ErrorKind::RateLimited, "x");
    assert_eq!(not_run(&limited, &Redactor::default()).kind(), ErrorKind::RateLimited);
}

#[test]
fn equal_sources_have_equal_keys_and_others_do_not() {
    let (probe, _) = Recorder::new(r1).probe();
    let key = |config: serde_json::Value| probe.key(&Source::new("script", config).unwrap()).unwrap();
    let plain = key(json!({"command": ["rev", "a"]}));
    assert_eq!(plain, key(json!({"language": "token", "command": ["rev", "a"], "env": {}})));
    let others = [
        json!({"command": ["rev a"]}),
        json!({"command": ["rev", "a"], "language": "changed"}),
        json!({"command": ["rev", "a"], "dir": "/srv"}),
        json!({"command": ["rev", "a"], "env": {"A": "a"}}),
        json!({"command": ["rev", "a"], "secret_env": {"A": {"secret": "a"}}}),
        json!({"command": ["rev", "a"], "timeout": "1s"}),
    ];
    for other in others {
        assert_ne!(plain, key(other.clone()), "{other}");
    }
    let long = key(json!({"command": ["rev", "a".repeat(50_000)]}));
    assert!(long.as_str().len() <= 2_000);
}
