//! What a launcher, a probe and a lock promise, asked of the part itself.

use crate::play::{LASTS, Play};
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result,
    launch::{BuildLauncher, Ended, Found, Journal, LaunchRequest, Launched, Outcome, Seen, SendBefore},
    lock::{Acquired, DependencyLock, LockAsk},
    model::{BuildId, DependencyId, LaunchKey},
    probe::{Ask, Probed, RevisionProbe},
    secret::Secrets,
    time::Clock,
};
use capomastro_testkit::{
    ControllableLauncher, ExpiringLock, ManualClock, ScriptedProbe, fakes::LaunchAnswer,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// Keeps nothing and says so, or keeps everything.
#[derive(Debug)]
struct Keeps(bool);

#[async_trait]
impl Journal for Keeps {
    async fn keep(&self, _memo: Value) -> Result<()> {
        if self.0 { Ok(()) } else { Err(Error::new(ErrorKind::Unavailable, "nothing is kept")) }
    }
}

fn request(number: u128, clock: &ManualClock) -> LaunchRequest {
    let build = BuildId::from_uuid(Uuid::from_u128(number));
    LaunchRequest::new(
        build,
        LaunchKey::of(build),
        format!("d{number}").parse().unwrap(),
        1,
        "r1".parse().unwrap(),
        1,
        json!({}),
        Duration::from_secs(30),
        SendBefore(clock.monotonic().plus(Duration::from_secs(60))),
        Secrets::none(),
    )
}

pub(crate) async fn a_launcher_keeps_its_word(play: Play) {
    let clock = ManualClock::new();
    let system = ControllableLauncher::accepting().with_clock(Arc::new(clock.clone()));
    let launcher: Arc<dyn BuildLauncher> = play.launcher(Arc::new(system.clone()));

    let first = request(1, &clock);
    launcher.launch(&first, &Keeps(false)).await.unwrap_err();
    assert_eq!(system.builds().len(), 0, "nothing is sent before its memo is kept");
    clock.advance(Duration::from_secs(60));
    let late = launcher.launch(&first, &Keeps(true)).await;
    assert_eq!((late.map_err(|e| e.kind()), system.builds().len()), (Err(ErrorKind::ClaimLost), 0));

    let first = request(1, &clock);
    let Launched::Accepted(reference) = launcher.launch(&first, &Keeps(true)).await.unwrap() else {
        panic!("it is accepted")
    };
    assert_eq!(system.external_builds(first.key), 1, "one build under its key");
    assert_eq!(system.builds().len(), 1);
    assert_eq!(system.builds()[0].request().revision, first.revision);
    assert_eq!(launcher.find(&first).await.unwrap(), Found::Build(reference.clone()));
    system.outage(true);
    assert!(launcher.find(&first).await.is_err(), "silence is no absence");
    let looked = launcher.observe(&[(first.key, reference.clone())]).await;
    assert!(looked[0].is_err(), "silence is no loss");
    system.outage(false);

    system.answer_next(LaunchAnswer::LoseAnswer);
    let second = request(2, &clock);
    let unknown = launcher.launch(&second, &Keeps(true)).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::OutcomeUnknown);
    let Found::Build(other) = launcher.find(&second).await.unwrap() else { panic!("it was sent") };
    system.builds()[0].start();
    let builds = [(first.key, reference.clone()), (second.key, other)];
    let seen: Vec<Seen> = launcher.observe(&builds).await.into_iter().map(|r| r.unwrap().seen).collect();
    assert!(matches!(seen[..], [Seen::Running, Seen::Queued { .. }]), "in the order of the builds: {seen:?}");
    system.builds()[1].finish(Outcome::Failed);
    let seen = launcher.observe(&builds[1..]).await.remove(0).unwrap().seen;
    assert!(matches!(&seen, Seen::Ended(Ended { outcome: Outcome::Failed, .. })), "{seen:?}");
    launcher.cancel(&first.key, &reference).await.unwrap();
    assert_eq!(system.builds()[0].cancels(), 1);
}

pub(crate) async fn a_probe_keeps_its_word(play: Play) {
    let world = ScriptedProbe::new();
    let probe: Arc<dyn RevisionProbe> = play.probe(Arc::new(world.clone()));
    let names = ["a", "b", "c"];
    let sources = names.map(|name| ScriptedProbe::source_at("remote", name));
    let ask = |name: &str, source: &capomastro_core::model::Source| {
        let mut ask =
            Ask::new(name.parse().unwrap(), source.clone(), Duration::from_secs(60), Secrets::none());
        ask.seen = Some("a1".parse().unwrap());
        ask
    };
    let asks: Vec<Ask> = names.iter().zip(&sources).map(|(name, source)| ask(name, source)).collect();
    let seen = async || -> Vec<String> {
        let answers = probe.probe(&asks).await;
        let show = |answer: Result<Probed>| match answer {
            Ok(Probed::Observed(observed)) => observed.revision.to_string(),
            Ok(other) => format!("{other:?}"),
            Err(e) => e.kind().to_string(),
        };
        answers.into_iter().map(show).collect()
    };
    world.set("a", "a1");
    world.gone("b");
    world.fail("c", ErrorKind::Unavailable);
    assert_eq!(seen().await, ["a1", "NotFound", "unavailable"]);
    world.set("a", "a2");
    assert_eq!(seen().await, ["a2", "NotFound", "unavailable"], "what it is at now");
    let other = ScriptedProbe::source("elsewhere");
    assert_eq!(probe.key(&sources[0]).unwrap(), probe.key(&sources[1]).unwrap(), "one remote, one run");
    assert_ne!(probe.key(&sources[0]).unwrap(), probe.key(&other).unwrap());
}

pub(crate) async fn a_lock_keeps_its_word(play: Play) {
    let clock = ManualClock::new();
    let lasts = Duration::from_secs(LASTS);
    let server = ExpiringLock::new(Arc::new(clock.clone()), lasts);
    let lock: Arc<dyn DependencyLock> = play.lock(Arc::new(server.clone()));
    let dependency = DependencyId::from_uuid(Uuid::from_u128(1));
    let ask = |owner: u128, highest: u64| {
        let owner = BuildId::from_uuid(Uuid::from_u128(owner));
        LockAsk::new(dependency, "a".parse().unwrap(), owner, None, highest)
    };
    let granted = async |owner, highest| match lock.acquire(&ask(owner, highest)).await.unwrap() {
        Acquired::Granted(lease) => lease,
        Acquired::Held { by } => panic!("held by {by}"),
    };
    let first = granted(1, 7).await;
    assert!(first.fence > 7, "above what the store has seen");
    assert_eq!(first.expires_in, Some(lasts), "a lease says how long it lasts");
    let Acquired::Held { .. } = lock.acquire(&ask(2, 7)).await.unwrap() else { panic!("given to two") };
    assert!(lock.renew(std::slice::from_ref(&first)).await.remove(0).is_ok());
    lock.release(&first).await.unwrap();
    let second = granted(2, 7).await;
    assert!(second.fence > first.fence, "fences grow");
    lock.release(&first).await.unwrap();
    assert_eq!(server.holder(dependency), Some(second.owner), "what is another's is not released");
    clock.advance(lasts);
    let lost = lock.renew(std::slice::from_ref(&second)).await.remove(0);
    assert_eq!(lost.map_err(|e| e.kind()), Err(ErrorKind::LeaseLost));
    granted(3, 7).await;
    let taken = lock.take_over(&ask(4, 7), "its owner has ended").await.unwrap();
    assert_eq!(server.holder(dependency), Some(taken.owner));
}
