//! Probes that do one thing otherwise than they should.

use crate::verdict;
use capomastro_core::{
    Error, ErrorKind, Result, async_trait,
    model::{Observation, ProbeKey, Relation, Source},
    probe::{Ask, Probed, RevisionProbe},
    secret::SecretRef,
};
use capomastro_testkit::{
    conformance::{
        Time,
        probe::{CASES, Guarded, Happens, ProbeHarness},
    },
    fakes::{ManualClock, ScriptedProbe},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

const TOKEN: &str = "correct horse battery";

/// A source of the world, and what is remembered of it for the flaws.
#[derive(Debug, Default)]
struct Notes {
    history: Vec<String>,
    is_cut: bool,
    hangs: bool,
    fresh_looks: usize,
    was_missing: bool,
    had_failed: bool,
    remembered: Option<String>,
    is_stuck: bool,
}

#[derive(Debug, Default)]
struct Shared {
    notes: Mutex<BTreeMap<String, Notes>>,
    opened: AtomicUsize,
    calls: AtomicUsize,
    left: AtomicUsize,
}

#[derive(Clone, Debug)]
struct Twin {
    flaw: &'static str,
    world: ScriptedProbe,
    shared: Arc<Shared>,
    process: usize,
}

fn name_of(source: &Source) -> String {
    source.config["name"].as_str().unwrap_or_default().to_owned()
}

fn put(observation: &mut Observation, revision: String) {
    observation.revision = revision.parse().unwrap();
}

impl Twin {
    fn of(flaw: &'static str) -> Self {
        Self { flaw, world: ScriptedProbe::new(), shared: Arc::default(), process: 0 }
    }

    fn has(&self, flaw: &str) -> bool {
        assert!(CASES.iter().any(|case| case.name == flaw), "{flaw} is no case");
        self.flaw == flaw
    }

    fn note<R>(&self, name: &str, change: impl FnOnce(&mut Notes) -> R) -> R {
        change(self.shared.notes.lock().unwrap().entry(name.to_owned()).or_default())
    }

    fn make(&self, prefix: &str, remote: Option<&str>) -> Source {
        let name = format!("{prefix}{}", self.shared.notes.lock().unwrap().len());
        self.note(&name, |n| n.history.push(format!("{name}-0")));
        self.world.set(&name, &format!("{name}-0"));
        self.world.same_as_seen(&name, true);
        ScriptedProbe::source_at(remote.unwrap_or(&name), &name)
    }

    /// What the world says to one ask, and what it becomes on the way.
    async fn one(&self, ask: &Ask) -> Result<Probed> {
        let name = name_of(&ask.source);
        let current = self.note(&name, |n| n.history.last().cloned()).unwrap_or_default();
        if name.starts_with("guarded") {
            let token = ask.secrets.resolve(&SecretRef::new("forge")).await;
            if !self.has("a_secret_that_is_missing_is_an_error") {
                token?;
            }
        }
        if self.has("what_is_back_is_found") && self.note(&name, |n| n.was_missing) {
            return Ok(Probed::NotFound);
        }
        if self.has("a_fault_passes") && self.note(&name, |n| n.had_failed)
            || self.has("a_look_that_hangs_can_be_dropped") && self.note(&name, |n| n.is_stuck)
        {
            return Err(Error::new(ErrorKind::Unavailable, "another look is not over yet"));
        }
        if self.has("a_probe_remembers_nothing")
            && self.process > 0
            && self.note(&name, |n| n.remembered.replace(current.clone())).is_none()
        {
            return Ok(Probed::Nothing);
        }
        if self.has("what_has_changed_is_not_the_same_as_seen")
            && self.note(&name, |n| n.remembered.replace(current.clone())) == Some(current.clone())
            && ask.seen.is_some()
        {
            return Ok(Probed::SameAsSeen);
        }
        if self.has("nothing_is_the_same_where_nothing_was_seen")
            && ask.accounted.as_ref().is_some_and(|accounted| accounted.as_str() == current)
        {
            return Ok(Probed::SameAsSeen);
        }
        let answer = self.world.probe(std::slice::from_ref(ask)).await.remove(0);
        self.note(&name, |n| n.had_failed |= answer.is_err());
        match answer {
            Ok(Probed::Observed(observation)) => Ok(Probed::Observed(self.bent(ask, &name, observation))),
            Ok(Probed::SameAsSeen) if self.has("looking_changes_nothing") && ask.wanted => {
                Probed::revision(format!("{current}-wanted"))
            }
            Ok(Probed::NotFound) => {
                self.note(&name, |n| n.was_missing = true);
                if self.has("what_is_not_there_is_not_found") {
                    return Err(Error::new(ErrorKind::NotFound, "there is no such source"));
                }
                Ok(Probed::NotFound)
            }
            Err(_) if self.has("what_cannot_be_reached_is_an_error") => Ok(Probed::NotFound),
            Err(_) if self.has("a_bad_source_is_an_error_at_a_look_too") && name.is_empty() => {
                Ok(Probed::NotFound)
            }
            Err(e) if self.has("no_secret_is_told") => Err(e.with_context("token", TOKEN)),
            other => other,
        }
    }

    fn bent(&self, ask: &Ask, name: &str, mut seen: Observation) -> Observation {
        let current = seen.revision.as_str().to_owned();
        match self.flaw {
            "a_source_is_observed" => seen.display = Some("x".repeat(5_000)),
            "an_unchanged_source_has_the_same_revision" if ask.seen.is_none() => {
                let looks = self.note(name, |n| {
                    n.fresh_looks += 1;
                    n.fresh_looks
                });
                if looks >= 4 {
                    put(&mut seen, format!("{current}-{looks}"));
                }
            }
            // A token that is cut off.
            "a_changed_source_has_another_revision" => {
                let parts: Vec<&str> = current.split('.').take(3).collect();
                put(&mut seen, parts.join("."));
            }
            "each_source_has_a_state_of_its_own" => {
                let notes = self.shared.notes.lock().unwrap();
                let of_others = notes.iter().filter(|(other, _)| *other != name);
                let changes: usize = of_others.map(|(_, n)| n.history.len().saturating_sub(1)).sum();
                put(&mut seen, format!("{current}-{changes}"));
            }
            "there_is_no_relation_to_nothing" if ask.accounted.is_none() => {
                seen.relation = Some(Relation::Forward { by: None });
            }
            _ => {}
        }
        let other = Some(Relation::Forward { by: None });
        seen.relation = match (self.flaw, seen.relation) {
            ("a_step_forward_is_no_rewind", Some(Relation::Forward { .. })) => Some(Relation::Rewound),
            ("a_rewind_is_no_step_forward", Some(Relation::Rewound)) => other,
            ("a_divergence_is_neither", Some(Relation::Diverged)) => other,
            (_, relation) => relation,
        };
        seen
    }

    fn bent_together(&self, asks: &[Ask], mut answers: Vec<Result<Probed>>) -> Vec<Result<Probed>> {
        match self.flaw {
            "answers_are_one_per_ask_and_in_order" if answers.len() > 2 => answers.reverse(),
            "no_asks_no_answers" if asks.is_empty() => {
                answers.push(Err(Error::internal("a probe was asked nothing")));
            }
            "one_that_is_missing_spoils_no_other"
                if answers.iter().any(|answer| matches!(answer, Ok(Probed::NotFound))) =>
            {
                answers.iter_mut().for_each(|answer| *answer = Ok(Probed::NotFound));
            }
            "asks_of_one_source_may_know_different_things"
                if asks.iter().all(|ask| ask.source == asks[0].source) =>
            {
                if let Some(Ok(first)) = answers.first() {
                    let first = first.clone();
                    answers.iter_mut().for_each(|answer| *answer = Ok(first.clone()));
                }
            }
            "each_is_told_its_own_relation" => {
                let relations = answers.iter().filter_map(|answer| match answer {
                    Ok(Probed::Observed(seen)) => seen.relation,
                    _ => None,
                });
                let told = relations.collect::<Vec<_>>().first().copied();
                for answer in &mut answers {
                    if let Ok(Probed::Observed(seen)) = answer {
                        seen.relation = told;
                    }
                }
            }
            _ => {}
        }
        answers
    }
}

/// What a look leaves when it is dropped.
struct Look<'a> {
    twin: &'a Twin,
    name: String,
    is_over: bool,
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.twin.shared.calls.fetch_sub(1, Ordering::SeqCst);
        if self.is_over {
            return;
        }
        if self.twin.has("a_dropped_look_spoils_nothing") {
            self.twin.shared.left.fetch_add(1, Ordering::SeqCst);
        }
        self.twin.note(&self.name, |n| n.is_stuck |= n.hangs);
    }
}

#[async_trait]
impl RevisionProbe for Twin {
    fn key(&self, source: &Source) -> Result<ProbeKey> {
        if self.has("what_cannot_be_looked_at_is_refused") {
            return Ok(self.world.key(source).unwrap_or_else(|_| ProbeKey::of(&["bad"])));
        }
        let key = self.world.key(source)?;
        let key = key.as_str();
        let name = name_of(source);
        match self.flaw {
            "a_source_has_one_key" => Ok(ProbeKey::of(&[key, &self.process.to_string()])),
            "a_key_is_short" => Ok(ProbeKey::of(&[key, &"x".repeat(3_000)])),
            "what_has_one_key_is_answered_together" => Ok(ProbeKey::of(&["any"])),
            "what_answers_together_has_one_key" => Ok(ProbeKey::of(&[key, &name])),
            "a_key_needs_no_look" if self.note(&name, |n| n.is_cut) => {
                Err(Error::new(ErrorKind::Unavailable, "the source cannot be reached"))
            }
            _ => Ok(ProbeKey::of(&[key])),
        }
    }

    async fn probe(&self, asks: &[Ask]) -> Vec<Result<Probed>> {
        let name = asks.first().map(|ask| name_of(&ask.source)).unwrap_or_default();
        let others = self.shared.calls.fetch_add(1, Ordering::SeqCst);
        let mut look = Look { twin: self, name, is_over: false };
        tokio::task::yield_now().await;
        if self.has("looks_at_once_do_not_disturb_each_other") && others > 0 {
            look.is_over = true;
            let busy = || Err(Error::new(ErrorKind::RateLimited, "another look is under way"));
            return asks.iter().map(|_| busy()).collect();
        }
        let mut answers = Vec::new();
        for ask in asks {
            // One run is at one remote.
            let is_elsewhere = ask.source.config["remote"] != asks[0].source.config["remote"];
            answers.push(if is_elsewhere {
                Err(Error::internal("a probe was given asks of different remotes in one call"))
            } else {
                self.one(ask).await
            });
        }
        look.is_over = true;
        self.bent_together(asks, answers)
    }
}

#[async_trait]
impl ProbeHarness for Twin {
    fn time(&self) -> Time {
        Time::Manual(ManualClock::new())
    }

    fn open(&self) -> Arc<dyn RevisionProbe> {
        Arc::new(Self { process: self.shared.opened.fetch_add(1, Ordering::SeqCst), ..self.clone() })
    }

    fn refused(&self) -> Vec<Source> {
        vec![Source::new(ScriptedProbe::NAME, serde_json::json!({"nam": "a"})).unwrap()]
    }

    async fn source(&self) -> Source {
        self.make("s", None)
    }

    async fn beside(&self, source: &Source) -> Option<Source> {
        Some(self.make("s", source.config["remote"].as_str()))
    }

    async fn cause(&self, source: &Source, what: Happens) -> bool {
        let name = name_of(source);
        let history = self.note(&name, |n| n.history.clone());
        let now = history.last().unwrap().clone();
        match what {
            Happens::Change | Happens::Diverge => {
                let new = format!("{now}.{}", history.len());
                let relation = match what {
                    Happens::Diverge => Relation::Diverged,
                    _ => Relation::Forward { by: None },
                };
                for old in &history {
                    self.world.relate(&name, old, &new, relation);
                    self.world.relate(&name, &new, old, Relation::Rewound);
                }
                self.world.set(&name, &new);
                self.note(&name, |n| n.history.push(new));
            }
            Happens::Rewind => {
                let old = &history[history.len() - 2];
                // A source that counts what happens to it, and not where it is.
                let counts = self.has("a_rewound_source_has_its_old_revision");
                self.world.set(&name, &if counts { format!("{now}.again") } else { old.clone() });
                self.note(&name, |n| drop(n.history.pop()));
            }
            Happens::Vanish => self.world.gone(&name),
            Happens::Cut => {
                self.note(&name, |n| n.is_cut = true);
                self.world.fail(&name, ErrorKind::Unavailable);
            }
            Happens::Hang => {
                self.note(&name, |n| n.hangs = true);
                self.world.hang(&name);
            }
            Happens::Mend => {
                self.note(&name, |n| (n.is_cut, n.hangs) = (false, false));
                self.world.heal(&name);
                self.world.release(&name);
                self.world.set(&name, &now);
            }
        }
        true
    }

    async fn guarded(&self) -> Option<Guarded> {
        let source = self.make("guarded", None);
        Some(Guarded { source, secret: "forge".into(), value: TOKEN.into() })
    }

    async fn left(&self) -> usize {
        self.shared.left.load(Ordering::SeqCst)
    }
}

fn twin(flaw: &'static str) -> Box<dyn ProbeHarness> {
    Box::new(Twin::of(flaw))
}

#[test]
fn every_case_sees_its_twin() {
    verdict::every_case_sees_its_twin(CASES, "conformance/probe/", twin);
}

#[test]
fn without_a_flaw_all_is_green() {
    verdict::without_a_flaw_all_is_green(CASES, || twin("none"));
}

#[test]
fn flaws_are_small() {
    verdict::flaws_are_small(CASES, twin);
}
