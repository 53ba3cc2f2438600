//! Sources that are at the revision a test says.

use super::world::World;
use async_trait::async_trait;
use capomastro_core::{
    Error, ErrorKind, Result, Retry,
    model::{Observation, ProbeKey, Relation, Revision, Source},
    probe::{Ask, Probed, RevisionProbe},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

/// A probe over a made-up world of sources, each known by a name. Clones share one world.
///
/// A source that was never [`set`](Self::set) is not there: its probe answers [`Probed::NotFound`].
///
/// ```
/// use capomastro_core::{ErrorKind, probe::{Ask, Probed, RevisionProbe}, secret::Secrets};
/// use capomastro_testkit::fakes::ScriptedProbe;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> capomastro_core::Result<()> {
/// let probe = ScriptedProbe::new();
/// probe.set("lib", "r1");
/// let ask = Ask::new("lib".parse()?, ScriptedProbe::source("lib"), Duration::from_secs(60), Secrets::none());
/// assert_eq!(probe.probe(&[ask.clone()]).await.remove(0)?, Probed::revision("r1")?);
///
/// probe.fail_next("lib", ErrorKind::Unavailable);
/// assert!(probe.probe(&[ask]).await.remove(0).is_err());
/// assert_eq!(probe.asked("lib"), 2);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ScriptedProbe(Arc<World<Sources>>);

#[derive(Debug, Default)]
struct Sources {
    by_name: BTreeMap<String, Scripted>,
    calls: Vec<Vec<Ask>>,
    under_way: BTreeMap<String, usize>,
    most_at_once: usize,
}

#[derive(Debug, Default)]
struct Scripted {
    at: Option<Observation>,
    relations: Vec<(Revision, Revision, Relation)>,
    failures: VecDeque<ErrorKind>,
    broken: Option<ErrorKind>,
    left_alone: Option<Duration>,
    says_nothing: bool,
    hanging: bool,
    says_same: bool,
    asked: usize,
}

/// The configuration of a source of this probe.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    name: String,
    /// Sources with the same remote are answered by one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
}

impl Config {
    fn remote(&self) -> &str {
        self.remote.as_ref().unwrap_or(&self.name)
    }
}

impl ScriptedProbe {
    /// The name under which the sources of [`source`](Self::source) expect this probe to be registered.
    pub const NAME: &'static str = "scripted";

    /// A probe in an empty world.
    pub fn new() -> Self {
        Self::default()
    }

    /// The source of this name, for a probe registered as [`NAME`](Self::NAME). Nothing else is answered by the same
    /// run.
    pub fn source(name: &str) -> Source {
        Self::make_source(Config { name: name.into(), remote: None })
    }

    /// The source of this name at a remote: all sources at one remote are answered by one run.
    pub fn source_at(remote: &str, name: &str) -> Source {
        Self::make_source(Config { name: name.into(), remote: Some(remote.into()) })
    }

    fn make_source(config: Config) -> Source {
        Source::new(Self::NAME, config).expect("two texts can be written as JSON")
    }

    fn script<R>(&self, name: &str, change: impl FnOnce(&mut Scripted) -> R) -> R {
        self.0.change(|sources| change(sources.by_name.entry(name.into()).or_default()))
    }

    /// From now on the source is at this revision.
    ///
    /// # Panics
    /// If it is not one line of 1 to 1,024 bytes.
    #[track_caller]
    pub fn set(&self, name: &str, revision: &str) {
        self.set_observation(name, Observation::of(parse(revision)));
    }

    /// From now on the source is at this revision, with its cursor, display and metadata. A relation in it is given as it
    /// is unless [`relate`](Self::relate) knows better.
    pub fn set_observation(&self, name: &str, observation: Observation) {
        self.script(name, |s| s.at = Some(observation));
    }

    /// From now on the source is not there: [`Probed::NotFound`].
    pub fn gone(&self, name: &str) {
        self.script(name, |s| s.at = None);
    }

    /// Whenever `accounted` is accounted and `seen` is seen, they relate so.
    ///
    /// # Panics
    /// If one of them is not one line of 1 to 1,024 bytes.
    #[track_caller]
    pub fn relate(&self, name: &str, accounted: &str, seen: &str, relation: Relation) {
        let (accounted, seen) = (parse(accounted), parse(seen));
        self.script(name, |s| {
            s.relations.retain(|(a, b, _)| (a, b) != (&accounted, &seen));
            s.relations.push((accounted, seen, relation));
        });
    }

    /// The next probe of the source fails. Several are failed in the order of the calls.
    pub fn fail_next(&self, name: &str, kind: ErrorKind) {
        self.script(name, |s| s.failures.push_back(kind));
    }

    /// Every probe of the source fails until [`heal`](Self::heal).
    pub fn fail(&self, name: &str, kind: ErrorKind) {
        self.script(name, |s| s.broken = Some(kind));
    }

    /// Every probe of the source fails, because it is asked too often, and is to be asked again after this time, until
    /// [`heal`](Self::heal).
    pub fn leave_alone(&self, name: &str, wait: Duration) {
        self.script(name, |s| s.left_alone = Some(wait));
    }

    /// Probes of the source fail no longer.
    pub fn heal(&self, name: &str) {
        self.script(name, |s| (s.broken, s.left_alone, s.failures) = (None, None, VecDeque::new()));
    }

    /// Probes of the source do not return until [`release`](Self::release). They answer with what is there then.
    pub fn hang(&self, name: &str) {
        self.script(name, |s| s.hanging = true);
    }

    /// Probes of the source return.
    pub fn release(&self, name: &str) {
        self.script(name, |s| s.hanging = false);
    }

    /// While `true`, and as long as nothing was ever seen, there is nothing to observe yet ([`Probed::Nothing`]).
    pub fn nothing_yet(&self, name: &str, nothing: bool) {
        self.script(name, |s| s.says_nothing = nothing);
    }

    /// Whether a probe that finds the source at the revision that was last seen says just that
    /// ([`Probed::SameAsSeen`], like an HTTP 304) or observes it again, which is the default.
    pub fn same_as_seen(&self, name: &str, says_same: bool) {
        self.script(name, |s| s.says_same = says_same);
    }

    /// How often the source was asked about, answered or not.
    pub fn asked(&self, name: &str) -> usize {
        self.0.look(|sources| sources.by_name.get(name).map_or(0, |s| s.asked))
    }

    /// Waits until the source was asked about at least `times` times.
    pub async fn until_asked(&self, name: &str, times: usize) {
        self.0
            .until(|sources| sources.by_name.get(name).is_some_and(|s| s.asked >= times).then_some(()))
            .await;
    }

    /// Every call, oldest first, with the asks that it was given.
    pub fn calls(&self) -> Vec<Vec<Ask>> {
        self.0.look(|sources| sources.calls.clone())
    }

    /// Forgets the calls recorded so far; counts stay. For runs that are so long that the record would fill the memory.
    pub fn forget_calls(&self) {
        self.0.change(|sources| sources.calls.clear());
    }

    /// How many calls with the same key were ever under way at the same time.
    pub fn most_at_once(&self) -> usize {
        self.0.look(|sources| sources.most_at_once)
    }
}

#[track_caller]
fn parse(revision: &str) -> Revision {
    match revision.parse() {
        Ok(revision) => revision,
        Err(e) => panic!("{e}"),
    }
}

impl Scripted {
    fn answer(&mut self, ask: &Ask) -> Result<Probed> {
        if let Some(kind) = self.failures.pop_front().or(self.broken) {
            return Err(Error::new(kind, "the test says that this probe fails"));
        }
        if let Some(wait) = self.left_alone {
            return Err(Error::new(ErrorKind::RateLimited, "the test says that this probe comes too often")
                .with_retry(Retry::After(wait)));
        }
        if self.says_nothing && ask.seen.is_none() {
            return Ok(Probed::Nothing);
        }
        let Some(mut observation) = self.at.clone() else { return Ok(Probed::NotFound) };
        if self.says_same && ask.seen.as_ref() == Some(&observation.revision) {
            return Ok(Probed::SameAsSeen);
        }
        if let Some(accounted) = &ask.accounted
            && let Some((_, _, relation)) =
                self.relations.iter().find(|(a, seen, _)| (a, seen) == (accounted, &observation.revision))
        {
            observation.relation = Some(*relation);
        }
        Ok(Probed::Observed(observation))
    }
}

/// Counts a call as under way until it returns or is dropped.
struct UnderWay<'a> {
    world: &'a World<Sources>,
    key: String,
}

impl<'a> UnderWay<'a> {
    fn begin(world: &'a World<Sources>, key: &str, asks: &[Ask], names: &[String]) -> Self {
        world.change(|sources| {
            let count = sources.under_way.entry(key.into()).or_default();
            *count += 1;
            sources.most_at_once = sources.most_at_once.max(*count);
            sources.calls.push(asks.to_vec());
            for name in names {
                sources.by_name.entry(name.clone()).or_default().asked += 1;
            }
        });
        Self { world, key: key.into() }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.world.change(|sources| {
            if let Some(count) = sources.under_way.get_mut(&self.key) {
                *count -= 1;
            }
        });
    }
}

#[async_trait]
impl RevisionProbe for ScriptedProbe {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        Ok(ProbeKey::of(&[source.probe.as_str(), source.parse::<Config>()?.remote()]))
    }

    /// All asks hang where one of them does, as they would in one run. Asks of different keys in one call are the
    /// caller's defect and answered by [`ErrorKind::Internal`].
    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let mut configs = Vec::with_capacity(asks.len());
        for ask in asks {
            match ask.source.parse::<Config>() {
                Ok(config) => configs.push(config),
                Err(e) => return capomastro_core::probe::spread(Err(e), asks.len()),
            }
        }
        let Some(key) = configs.first().map(|c| c.remote().to_owned()) else { return Vec::new() };
        if configs.iter().any(|c| c.remote() != key) {
            let defect = Error::internal("a probe was given asks of different keys in one call");
            return capomastro_core::probe::spread(Err(defect), asks.len());
        }
        let names: Vec<String> = configs.into_iter().map(|c| c.name).collect();
        let _under_way = UnderWay::begin(&self.0, &key, asks, &names);
        self.0
            .until(|sources| {
                let hangs = |name: &String| sources.by_name.get(name).is_some_and(|s| s.hanging);
                if names.iter().any(hangs) {
                    return None;
                }
                let answers = names
                    .iter()
                    .zip(asks)
                    .map(|(name, ask)| sources.by_name.entry(name.clone()).or_default().answer(ask));
                Some(answers.collect())
            })
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::secret::Secrets;
    use futures_util::{FutureExt, future::join, poll};
    use std::time::Duration;

    fn ask(source: Source) -> Ask {
        Ask::new("d".parse().unwrap(), source, Duration::from_secs(60), Secrets::none())
    }

    fn look(probe: &ScriptedProbe, ask: &Ask) -> Result<Probed> {
        probe.probe(std::slice::from_ref(ask)).now_or_never().expect("it does not hang").remove(0)
    }

    #[test]
    fn a_source_is_where_the_test_says() {
        let (probe, ask) = (ScriptedProbe::new(), ask(ScriptedProbe::source("a")));
        assert_eq!(look(&probe, &ask).unwrap(), Probed::NotFound);
        probe.clone().set("a", "r1");
        assert_eq!(look(&probe, &ask).unwrap(), Probed::revision("r1").unwrap());
        probe.gone("a");
        assert_eq!(look(&probe, &ask).unwrap(), Probed::NotFound);
        assert_eq!((probe.asked("a"), probe.asked("b"), probe.calls().len()), (3, 0, 3));
    }

    #[test]
    fn failures_come_in_order_and_pass() {
        let (probe, ask) = (ScriptedProbe::new(), ask(ScriptedProbe::source("a")));
        probe.set("a", "r1");
        probe.fail_next("a", ErrorKind::TimedOut);
        probe.fail_next("a", ErrorKind::PermissionDenied);
        assert_eq!(look(&probe, &ask).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(look(&probe, &ask).unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(look(&probe, &ask).is_ok());
        probe.fail("a", ErrorKind::Unavailable);
        assert!((0..3).all(|_| look(&probe, &ask).is_err()));
        probe.heal("a");
        assert!(look(&probe, &ask).is_ok());
    }

    #[tokio::test]
    async fn a_hanging_probe_answers_with_what_is_there_when_released() {
        let (probe, ask) = (ScriptedProbe::new(), ask(ScriptedProbe::source("a")));
        probe.set("a", "r1");
        probe.hang("a");
        let asks = [ask];
        let mut hanging = probe.probe(&asks);
        assert!(poll!(&mut hanging).is_pending());
        probe.until_asked("a", 1).await;
        probe.set("a", "r2");
        assert!(poll!(&mut hanging).is_pending());
        probe.release("a");
        assert_eq!(hanging.await.remove(0).unwrap(), Probed::revision("r2").unwrap());
    }

    #[test]
    fn a_dropped_probe_is_not_under_way() {
        let (probe, ask) = (ScriptedProbe::new(), ask(ScriptedProbe::source("a")));
        probe.hang("a");
        let asks = [ask];
        for _ in 0..3 {
            assert!(probe.probe(&asks).now_or_never().is_none());
        }
        assert_eq!((probe.asked("a"), probe.most_at_once()), (3, 1));
        assert!(join(probe.probe(&asks), probe.probe(&asks)).now_or_never().is_none());
        assert_eq!(probe.most_at_once(), 2);
    }

    #[test]
    fn relations_are_those_of_the_accounted_revision_and_the_one_seen() {
        let (probe, mut ask) = (ScriptedProbe::new(), ask(ScriptedProbe::source("a")));
        probe.set("a", "r1");
        probe.relate("a", "r2", "r1", Relation::Rewound);
        let relation = |ask: &Ask| match look(&probe, ask).unwrap() {
            Probed::Observed(o) => o.relation,
            other => panic!("{other:?}"),
        };
        assert_eq!(relation(&ask), None);
        ask.accounted = Some("r2".parse().unwrap());
        assert_eq!(relation(&ask), Some(Relation::Rewound));
        ask.accounted = Some("r1".parse().unwrap());
        assert_eq!(relation(&ask), None);
    }

    #[test]
    fn same_as_seen_is_said_of_the_seen_revision_alone() {
        let (probe, mut ask) = (ScriptedProbe::new(), ask(ScriptedProbe::source("a")));
        probe.set("a", "r1");
        probe.same_as_seen("a", true);
        assert_eq!(look(&probe, &ask).unwrap(), Probed::revision("r1").unwrap());
        ask.seen = Some("r1".parse().unwrap());
        assert_eq!(look(&probe, &ask).unwrap(), Probed::SameAsSeen);
        probe.set("a", "r2");
        assert_eq!(look(&probe, &ask).unwrap(), Probed::revision("r2").unwrap());
    }

    #[test]
    fn there_may_be_nothing_to_observe_yet() {
        let (probe, mut ask) = (ScriptedProbe::new(), ask(ScriptedProbe::source("a")));
        probe.set("a", "r1");
        probe.nothing_yet("a", true);
        assert_eq!(look(&probe, &ask).unwrap(), Probed::Nothing);
        ask.seen = Some("r0".parse().unwrap());
        assert_eq!(look(&probe, &ask).unwrap(), Probed::revision("r1").unwrap());
    }

    #[test]
    fn one_remote_is_one_run_and_mixed_remotes_are_a_defect() {
        let probe = ScriptedProbe::new();
        let (a, b) = (ScriptedProbe::source_at("host", "a"), ScriptedProbe::source_at("host", "b"));
        let c = ScriptedProbe::source("c");
        assert_eq!(probe.key(&a).unwrap(), probe.key(&b).unwrap());
        assert_ne!(probe.key(&a).unwrap(), probe.key(&c).unwrap());
        probe.set("a", "ra");
        probe.set("b", "rb");
        probe.fail_next("b", ErrorKind::Corrupt);
        let answers = probe.probe(&[ask(a.clone()), ask(b)]).now_or_never().unwrap();
        assert_eq!(answers[0].as_ref().unwrap(), &Probed::revision("ra").unwrap());
        assert_eq!(answers[1].as_ref().unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(probe.calls().iter().map(Vec::len).collect::<Vec<_>>(), [2]);
        let mixed = probe.probe(&[ask(a), ask(c)]).now_or_never().unwrap();
        assert!(mixed.iter().all(|r| r.as_ref().is_err_and(|e| e.kind() == ErrorKind::Internal)));
    }

    #[test]
    fn a_foreign_configuration_is_refused() {
        let source = Source::new("scripted", serde_json::json!({"name": "a", "extra": 1})).unwrap();
        assert_eq!(ScriptedProbe::new().key(&source).unwrap_err().kind(), ErrorKind::InvalidConfig);
    }
}
