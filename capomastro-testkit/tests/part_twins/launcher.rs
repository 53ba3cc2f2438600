//! Launchers that do one thing otherwise than they should.

use crate::verdict;
use capomastro_core::{
    Error, ErrorKind, Result, async_trait,
    launch::{
        BuildLauncher, Ended, Found, Journal, LaunchRequest, Launched, Outcome, Promise, Refusal, Report,
        Seen,
    },
    model::{ExternalRef, LaunchKey},
    time::Clock,
};
use capomastro_testkit::{
    conformance::{
        Time,
        launcher::{CASES, End, LauncherHarness, NextAnswer, Told},
    },
    fakes::{ControllableLauncher, FakeBuild, LaunchAnswer, ManualClock},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// No case's own flaw: no search finds anything, and each says that this is proven.
const FORGETFUL: &str = "forgetful";

/// What is remembered for the flaws, of a key.
#[derive(Debug, Default)]
struct Notes {
    launched_by: Option<usize>,
    /// Builds that should not be.
    extra: Vec<Told>,
    looks: usize,
    stops: usize,
    is_forgotten: bool,
    has_dropped_stop: bool,
    /// What is told instead of the end.
    instead: Option<Ended>,
    in_flight: usize,
}

#[derive(Debug, Default)]
struct Shared {
    notes: Mutex<BTreeMap<LaunchKey, Notes>>,
    opened: AtomicUsize,
    is_cut: AtomicBool,
    has_ended: AtomicBool,
}

#[derive(Clone, Debug)]
struct Twin {
    flaw: &'static str,
    clock: ManualClock,
    system: ControllableLauncher,
    shared: Arc<Shared>,
    process: usize,
}

/// A journal that is asked and not listened to, or not asked.
#[derive(Debug)]
struct Deaf<'a>(Option<&'a dyn Journal>);

#[async_trait]
impl Journal for Deaf<'_> {
    async fn keep(&self, memo: Value) -> Result<()> {
        if let Some(journal) = self.0 {
            drop(journal.keep(memo).await);
        }
        Ok(())
    }
}

/// What is done if a call is dropped before it has done anything.
struct Dropped<'a, F: Fn(&Twin)>(&'a Twin, Option<F>);

impl<F: Fn(&Twin)> Drop for Dropped<'_, F> {
    fn drop(&mut self) {
        if let Some(then) = self.1.take() {
            then(self.0);
        }
    }
}

fn unreachable() -> Error {
    Error::new(ErrorKind::Unavailable, "the build system cannot be reached")
}

impl Twin {
    fn of(flaw: &'static str) -> Self {
        Self::promising(Promise::IdempotentByKey, flaw)
    }

    fn promising(promise: Promise, flaw: &'static str) -> Self {
        let clock = ManualClock::new();
        let system = ControllableLauncher::accepting().with_promise(promise);
        Self { flaw, clock, system, shared: Arc::default(), process: 0 }
    }

    fn has(&self, flaw: &str) -> bool {
        assert!(CASES.iter().any(|case| case.name == flaw), "{flaw} is no case");
        self.flaw == flaw
    }

    fn note<R>(&self, key: LaunchKey, change: impl FnOnce(&mut Notes) -> R) -> R {
        change(self.shared.notes.lock().unwrap().entry(key).or_default())
    }

    fn is_cut(&self) -> bool {
        self.shared.is_cut.load(Ordering::SeqCst)
    }

    fn is_foreign(&self, key: LaunchKey) -> bool {
        self.note(key, |n| n.launched_by).is_some_and(|by| by != self.process)
    }

    fn is_running(&self, key: LaunchKey) -> bool {
        self.system.build(key).is_some_and(|build| !build.is_ended())
    }

    fn one_more(&self, request: &LaunchRequest) {
        self.note(request.key, |n| n.extra.push(Told::all_of(request)));
    }

    async fn yielding<F: Fn(&Self) + Send>(&self, then: F) {
        let mut dropped = Dropped(self, Some(then));
        tokio::task::yield_now().await;
        dropped.1 = None;
    }

    /// Whether this launch starts a build although there is one, or although it should start none.
    fn starts_another(&self, request: &LaunchRequest) -> bool {
        let key = request.key;
        let build = self.system.build(key);
        let is_again = build.is_some();
        let has_ended = build.as_ref().is_some_and(FakeBuild::is_ended);
        match self.flaw {
            "a_key_that_is_launched_again_starts_as_promised" => {
                is_again && !has_ended && !self.is_foreign(key) && request.memo.is_none()
            }
            "a_key_that_is_launched_by_another_process_starts_as_promised" => {
                is_again && self.is_foreign(key)
            }
            "a_key_that_has_ended_is_not_started_again" => has_ended,
            "a_refusal_starts_nothing" => request.job.get("refused").is_some(),
            "what_cannot_be_sent_is_an_error" => self.is_cut(),
            _ => false,
        }
    }

    async fn launched(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        if self.starts_another(request) {
            self.one_more(request);
        }
        if request.job.get("refused").is_some() && !self.is_cut() {
            let reason = "the test says that the build system refuses".into();
            return Ok(Launched::Refused(Refusal { reason, permanent: true }));
        }
        let is_unchecked = match self.flaw {
            "nothing_is_sent_too_late" => request.send_before.0 == self.clock.monotonic(),
            "nothing_is_sent_too_late_after_the_memo" => request.send_before.0 > self.clock.monotonic(),
            _ => false,
        };
        let system = self.system.clone();
        let system = if is_unchecked { system } else { system.with_clock(Arc::new(self.clock.clone())) };
        if self.has("nothing_is_sent_that_is_not_kept") {
            return system.launch(request, &Deaf(Some(journal))).await;
        }
        if self.has("nothing_is_sent_before_it_is_kept") {
            let answer = system.launch(request, &Deaf(None)).await?;
            journal.keep(json!({})).await?;
            return Ok(answer);
        }
        let answer = match system.launch(request, journal).await {
            Err(e)
                if self.has("what_may_have_been_sent_is_not_called_unsent")
                    && e.kind() == ErrorKind::OutcomeUnknown =>
            {
                return Err(unreachable());
            }
            other => other?,
        };
        if self.has("a_launch_starts_a_build") && self.system.builds().len() == 1 {
            self.one_more(request);
        }
        Ok(answer)
    }

    fn reported(&self, key: LaunchKey, report: Result<Report>) -> Result<Report> {
        let mut report = match report {
            Err(_) if self.has("a_look_out_of_reach_is_an_error") => {
                return Ok(Report { external: None, seen: Seen::Unknown });
            }
            other => other?,
        };
        let looks = self.note(key, |n| {
            n.looks += 1;
            n.looks
        });
        if self.has("another_process_sees_it_too") && self.is_foreign(key) {
            report.seen = Seen::Unknown;
        }
        if self.has("a_build_is_seen_until_it_ends") && looks >= 5 {
            report.seen = Seen::Ended(Ended::new(Outcome::Succeeded));
        }
        if self.has("what_was_forgotten_is_unknown") && report.seen == Seen::Unknown {
            report.seen = Seen::Ended(Ended::new(Outcome::Failed));
        }
        if let Seen::Ended(ended) = &mut report.seen {
            match self.flaw {
                "each_outcome_is_told" if ended.outcome == Outcome::Unstable => {
                    ended.outcome = Outcome::Failed
                }
                "the_revision_that_was_built_is_told" => {
                    ended.built = self.system.build(key).map(|build| build.request().revision);
                }
                "artifacts_are_told" => ended.artifacts.retain(|artifact| artifact.size != Some(0)),
                _ => {}
            }
            if let Some(instead) = self.note(key, |n| n.instead.clone()) {
                *ended = instead;
            }
            if self.has("an_end_stays") && looks > 4 {
                report.seen = Seen::Unknown;
            }
        }
        Ok(report)
    }

    /// What becomes of a wish to stop that is not the build system's; `None` if it is.
    fn stopped(&self, key: LaunchKey) -> Option<Result<()>> {
        let not_found = || Some(Err(Error::new(ErrorKind::NotFound, "there is no such build")));
        let stops = self.note(key, |n| {
            n.stops += 1;
            n.stops
        });
        let is_running = self.is_running(key);
        match self.flaw {
            "a_build_that_is_stopped_ends" if stops == 1 => Some(Ok(())),
            "a_stop_may_be_asked_for_again" if !is_running => not_found(),
            "a_stop_by_another_process_counts" if self.is_foreign(key) => Some(Ok(())),
            "a_stop_of_what_has_ended_changes_nothing" if !is_running => {
                self.note(key, |n| n.instead = Some(Ended::new(Outcome::Cancelled)));
                Some(Ok(()))
            }
            "a_stop_of_what_was_forgotten_is_harmless" if self.note(key, |n| n.is_forgotten) => not_found(),
            "a_stop_that_cannot_be_asked_for_is_an_error" if self.is_cut() => Some(Ok(())),
            "a_dropped_stop_can_be_repeated" if self.note(key, |n| n.has_dropped_stop) => {
                Some(Err(Error::new(ErrorKind::RateLimited, "it is being stopped")))
            }
            "a_stop_touches_no_other_build" if is_running => {
                for build in self.system.builds() {
                    build.finish(Outcome::Cancelled);
                }
                Some(Ok(()))
            }
            _ => None,
        }
    }
}

#[async_trait]
impl BuildLauncher for Twin {
    fn promise(&self) -> Promise {
        if self.has("a_promise_is_kept_for_life") && self.shared.has_ended.load(Ordering::SeqCst) {
            return Promise::FindableByKey { settle: Duration::from_secs(1) };
        }
        self.system.promise()
    }

    fn check_job(&self, job: &Value) -> Result<()> {
        if self.has("a_good_job_is_taken") && self.is_cut() {
            return Err(unreachable());
        }
        if self.has("bad_jobs_are_refused_with_what_to_do") {
            return Ok(());
        }
        self.system.check_job(job)
    }

    async fn launch(&self, request: &LaunchRequest, journal: &dyn Journal) -> Result<Launched> {
        if self.has("a_dropped_launch_starts_as_promised") {
            self.yielding(|twin| twin.one_more(request)).await;
        }
        if self.has("racing_launches_of_one_key_start_as_promised") {
            self.note(request.key, |n| n.in_flight += 1);
            for _ in 0..200 {
                if self.note(request.key, |n| n.in_flight) > 1 {
                    self.one_more(request);
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let answer = self.launched(request, journal).await;
        self.note(request.key, |n| {
            n.launched_by.get_or_insert(self.process);
            n.in_flight = n.in_flight.saturating_sub(1);
        });
        answer
    }

    async fn find(&self, request: &LaunchRequest) -> Result<Found> {
        if self.has("dropped_looks_and_searches_leave_nothing") {
            self.yielding(|twin| twin.one_more(request)).await;
        }
        if self.has("a_search_out_of_reach_is_an_error") && self.is_cut() {
            return Ok(Found::Absent);
        }
        let found = self.system.find(request).await?;
        if found == Found::Absent {
            if self.has("a_search_starts_nothing") {
                self.one_more(request);
            }
            let first = self.system.builds().first().map(FakeBuild::reference);
            match first {
                None if self.has("what_was_not_launched_is_not_found") => {
                    return Ok(Found::Build(ExternalRef("queue/1".into())));
                }
                Some(first) if self.has("a_search_finds_no_other_build") => return Ok(Found::Build(first)),
                _ => {}
            }
        }
        let is_missed = self.has("what_was_launched_is_found") && request.memo.is_none()
            || self.has("what_has_ended_is_found") && !self.is_running(request.key);
        let is_missed = is_missed || self.flaw == FORGETFUL;
        Ok(if is_missed { Found::Absent } else { found })
    }

    async fn observe(&self, builds: &[(LaunchKey, ExternalRef)]) -> Vec<Result<Report>> {
        let mut reports = self.system.observe(builds).await;
        reports = builds.iter().zip(reports).map(|((key, _), report)| self.reported(*key, report)).collect();
        let is_strange = |name: &ExternalRef| !name.0.starts_with("queue/") && !name.0.starts_with("build/");
        match self.flaw {
            "reports_are_one_per_build_and_in_order" if reports.len() == 5 => reports.reverse(),
            "no_builds_no_reports" if builds.is_empty() => reports.push(Err(Error::invalid("no builds"))),
            "one_strange_reference_spoils_no_other" if builds.iter().any(|(_, name)| is_strange(name)) => {
                reports = builds.iter().map(|_| Err(Error::invalid("no such reference"))).collect();
            }
            _ => {}
        }
        reports
    }

    async fn cancel(&self, key: &LaunchKey, build: &ExternalRef) -> Result<()> {
        if self.has("a_dropped_stop_can_be_repeated") {
            self.yielding(|twin| twin.note(*key, |n| n.has_dropped_stop = true)).await;
        }
        match self.stopped(*key) {
            Some(answer) => answer,
            None => self.system.cancel(key, build).await,
        }
    }
}

#[async_trait]
impl LauncherHarness for Twin {
    fn time(&self) -> Time {
        Time::Manual(self.clock.clone())
    }

    async fn open(&self) -> Arc<dyn BuildLauncher> {
        Arc::new(Self { process: self.shared.opened.fetch_add(1, Ordering::SeqCst), ..self.clone() })
    }

    fn job(&self) -> Value {
        json!({})
    }

    fn bad_jobs(&self) -> Vec<Value> {
        vec![json!({"invalid": "no"})]
    }

    fn refused_job(&self) -> Option<Value> {
        Some(json!({"refused": true}))
    }

    async fn builds(&self, key: LaunchKey) -> Vec<Told> {
        let mut builds = self.note(key, |n| n.extra.clone());
        for request in self.system.launched().iter().filter(|request| request.key == key) {
            let mut told = Told::all_of(request);
            match self.flaw {
                "a_build_is_told_the_pinned_revision" => {
                    let short: String = told.revision.as_str().chars().take(12).collect();
                    told.revision = short.parse().unwrap();
                }
                "a_build_is_told_its_parameters" => {
                    told.parameters.as_mut().unwrap().retain(|_, value| !value.is_empty());
                }
                "a_build_is_told_what_it_is" => told.build_key = Some(None),
                "hostile_texts_arrive_as_they_are" => {
                    for value in told.parameters.as_mut().unwrap().values_mut() {
                        *value = value.replace('&', "&amp;");
                    }
                }
                _ => {}
            }
            builds.push(told);
        }
        builds
    }

    async fn end(&self, key: LaunchKey, end: &End) -> bool {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        if self.has("what_happened_meanwhile_is_seen_afterwards") && self.is_cut() {
            return true;
        }
        if self.has("each_key_has_a_build_of_its_own") {
            for build in self.system.builds() {
                build.finish(end.outcome);
            }
        }
        let build = self.system.build(key).unwrap();
        for (name, bytes) in &end.artifacts {
            build.artifact(name, bytes.clone());
        }
        let mut ended = Ended::new(end.outcome);
        ended.built = end.built.clone().or_else(|| Some(build.request().revision));
        build.finish_with(ended);
        true
    }

    async fn forget(&self, key: LaunchKey) -> bool {
        self.note(key, |n| n.is_forgotten = true);
        self.system.build(key).unwrap().vanish();
        true
    }

    async fn cut(&self, cut: bool) -> bool {
        self.shared.is_cut.store(cut, Ordering::SeqCst);
        self.system.outage(cut);
        true
    }

    async fn lose_answer(&self) -> NextAnswer {
        self.system.answer_next(LaunchAnswer::LoseAnswer);
        NextAnswer::IsLost
    }
}

fn twin(flaw: &'static str) -> Box<dyn LauncherHarness> {
    Box::new(Twin::of(flaw))
}

#[test]
fn every_case_sees_its_twin() {
    verdict::every_case_sees_its_twin(CASES, "conformance/launcher/", twin);
}

#[test]
fn without_a_flaw_all_is_green() {
    verdict::without_a_flaw_all_is_green(CASES, || twin("none"));
}

#[test]
fn flaws_are_small() {
    verdict::flaws_are_small(CASES, twin);
}

/// A launcher that does not start a key once must at least find it, or say that it cannot.
#[test]
fn who_promises_less_is_held_to_it() {
    for promise in [Promise::FindableByKey { settle: Duration::from_secs(120) }, Promise::Blind] {
        for name in [
            "a_key_that_is_launched_again_starts_as_promised",
            "a_key_that_is_launched_by_another_process_starts_as_promised",
            "a_key_that_has_ended_is_not_started_again",
            "what_was_launched_is_found",
            "what_has_ended_is_found",
            "a_dropped_launch_starts_as_promised",
        ] {
            let case = CASES.iter().find(|case| case.name == name).unwrap();
            let sound = Box::new(Twin::promising(promise, "none"));
            assert_eq!(verdict::tried(case, sound), verdict::Verdict::Green, "{name}: {promise:?}");
            let twin = Box::new(Twin::promising(promise, FORGETFUL));
            let verdict = verdict::tried(case, twin);
            assert!(matches!(verdict, verdict::Verdict::Red(_)), "{name}: {promise:?}: {verdict:?}");
        }
    }
}
