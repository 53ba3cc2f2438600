//! Builds on their way: sending, searching, looking and stopping, and a build system that does as it likes.

use super::{Contact, External, Fate, Sent, World, laws};
use crate::{
    Error, ErrorKind, Result,
    launch::{Ended, Found, Launched, Outcome, Promise, Refusal, Report, Seen},
    model::{Build, ExternalRef, Phase},
    track::{Situation, Step},
};
use std::time::Duration;

fn trouble<T>(kind: ErrorKind) -> Result<T> {
    Err(Error::new(kind, "trouble"))
}

pub(super) fn copy_of(answer: &Result<Report>) -> Result<Report> {
    match answer {
        Ok(report) => Ok(report.clone()),
        Err(error) => Err(error.copy()),
    }
}

fn name_of(build: &Build, number: u32) -> ExternalRef {
    ExternalRef(format!("{}/{number}", build.id))
}

impl World {
    pub(super) fn situation(&self, d: usize) -> Option<Situation<'_>> {
        let dependency = &self.dependencies[d];
        Some(Situation {
            build: self.under_way(d)?,
            note: &dependency.note,
            policy: &dependency.policy,
            promise: self.promise,
            now: self.now,
        })
    }

    /// Somebody claims the build under way and goes on with it.
    pub(super) fn drive(&mut self, d: usize, contact: Contact, sent: Sent) -> bool {
        let Some(situation) = self.situation(d) else { return false };
        match situation.resume() {
            Step::Find => {
                let answer = self.search(d, contact);
                let step = self.situation(d).unwrap().found(answer);
                self.take(d, step, sent);
            }
            Step::Observe { ask_stop } => {
                if ask_stop && contact != Contact::Silent {
                    self.external_of(d).stopping = true;
                }
                let asked = self.under_way(d).unwrap().external.clone().unwrap();
                let answer = self.report(d, contact);
                self.observe(d, &asked, answer);
            }
            step => return self.take(d, step, sent),
        }
        true
    }

    fn observe(&mut self, d: usize, asked: &ExternalRef, answer: Result<Report>) {
        let before = self.under_way(d).unwrap().clone();
        if let Ok(report) = &answer {
            self.reports.push((before.id, report.clone()));
        }
        let step = self.situation(d).unwrap().observed(asked, copy_of(&answer));
        self.take(d, step, Sent::CrashBefore);
        laws::reports_again_change_nothing(self, d, &before, asked, &copy_of(&answer));
    }

    /// Does what a step says; false if it is nothing.
    fn take(&mut self, d: usize, step: Step, sent: Sent) -> bool {
        let before = self.under_way(d).unwrap().clone();
        match step {
            Step::Done | Step::Find | Step::Observe { .. } => return false,
            Step::Nothing { note, .. } => self.dependencies[d].note = note,
            Step::Advance { build, note, .. } => {
                self.dependencies[d].note = note;
                laws::phases_move_on(&before, &build);
                self.keep(d, *build);
            }
            Step::Send { build } => {
                laws::phases_move_on(&before, &build);
                laws::sent_again_only_where_it_is_safe(self, &before);
                self.keep(d, *build);
                self.send(d, sent);
            }
            Step::End(end) => {
                laws::phases_move_on(&before, &end.build);
                assert!(end.build.phase.is_terminal() && end.build.ended_at == Some(self.now));
                laws::nothing_moves_what_has_ended(self, d, &end.build);
                self.end(d, end.build, end.refusal.as_ref(), false);
            }
        }
        true
    }

    fn keep(&mut self, d: usize, build: Build) {
        if build.stop.is_some() {
            self.dependencies[d].state.held.as_mut().unwrap().stopping = true;
        }
        self.builds.insert(build.id, build);
    }

    /// The intent to send is recorded.
    fn send(&mut self, d: usize, sent: Sent) {
        let arrives = matches!(sent, Sent::Accepted | Sent::AnswerLost | Sent::CrashAfter);
        let name = arrives.then(|| self.receive(d));
        let answer = match sent {
            Sent::CrashBefore | Sent::CrashAfter => return,
            Sent::Accepted => Ok(Launched::Accepted(name.unwrap())),
            Sent::AnswerLost | Sent::SendLost => trouble(ErrorKind::OutcomeUnknown),
            Sent::Unsent => trouble(ErrorKind::Unavailable),
            Sent::Refused { permanent } => {
                Ok(Launched::Refused(Refusal { reason: "no such job".into(), permanent }))
            }
        };
        let step = self.situation(d).unwrap().launched(answer);
        assert!(!matches!(step, Step::Send { .. }), "not without another claim");
        self.take(d, step, sent);
    }

    /// The build system gets the build under way.
    fn receive(&mut self, d: usize) -> ExternalRef {
        let build = self.under_way(d).unwrap();
        let there: Vec<&External> = self.externals.iter().filter(|e| e.build == build.id).collect();
        let living = there.iter().find(|e| e.fate != Fate::Forgotten);
        if let Some(external) = living.filter(|_| self.promise == Promise::IdempotentByKey) {
            return name_of(build, external.number);
        }
        assert!(living.is_none(), "one external build for a launch key");
        let number = u32::try_from(there.len()).unwrap();
        let (build, name) = (build.id, name_of(build, number));
        self.externals.push(External { build, number, fate: Fate::Queued, stopping: false });
        name
    }

    /// The answer to an earlier send comes when somebody else may have the build.
    pub(super) fn late(&mut self, d: usize) -> bool {
        let Some(build) = self.under_way(d) else { return false };
        let Some(external) = self.externals.iter().rfind(|e| e.build == build.id) else { return false };
        let name = name_of(build, external.number);
        let before = build.clone();
        let step = self.situation(d).unwrap().launched(Ok(Launched::Accepted(name)));
        if before.phase == Phase::Launching {
            return self.take(d, step, Sent::CrashBefore);
        }
        let is_harmless = matches!(step, Step::Observe { .. } | Step::Done)
            || (before.phase == Phase::Requested && matches!(step, Step::Send { .. } | Step::End(_)));
        assert!(is_harmless, "a late answer changes nothing: {step:?}");
        false
    }

    fn search(&self, d: usize, contact: Contact) -> Result<Found> {
        let build = self.under_way(d).unwrap();
        match contact {
            Contact::Silent => trouble(ErrorKind::Unavailable),
            Contact::Inconclusive => Ok(Found::Inconclusive { look_again: Duration::from_secs(5) }),
            Contact::Honest => {
                let living = |e: &&External| e.build == build.id && e.fate != Fate::Forgotten;
                Ok(match self.externals.iter().find(living) {
                    Some(e) => Found::Build(name_of(build, e.number)),
                    None => Found::Absent,
                })
            }
        }
    }

    fn external_of(&mut self, d: usize) -> &mut External {
        let id = self.under_way(d).unwrap().id;
        self.externals.iter_mut().rfind(|e| e.build == id).unwrap()
    }

    fn report(&mut self, d: usize, contact: Contact) -> Result<Report> {
        if contact != Contact::Honest {
            return trouble(ErrorKind::Unavailable);
        }
        let seen = match self.external_of(d).fate {
            Fate::Queued => Seen::Queued { why: None },
            Fate::Running => Seen::Running,
            Fate::Ended(outcome) => Seen::Ended(Ended::new(outcome)),
            Fate::Forgotten => Seen::Unknown,
        };
        Ok(Report { external: None, seen })
    }

    /// The build system gets on with the build.
    pub(super) fn work(&mut self, d: usize, fate: Fate) -> bool {
        let Some(id) = self.under_way(d).map(|b| b.id) else { return false };
        let Some(external) = self.externals.iter_mut().rfind(|e| e.build == id) else { return false };
        let may = match (external.fate, fate) {
            (Fate::Queued, Fate::Queued) | (Fate::Running, Fate::Queued | Fate::Running) => false,
            (Fate::Ended(_), to) => to == Fate::Forgotten,
            (Fate::Forgotten, _) => false,
            _ => true,
        };
        if may {
            external.fate = fate;
        }
        may
    }

    /// All the way from wherever it is to this end.
    pub(super) fn finish_build(&mut self, d: usize, outcome: Outcome) -> bool {
        let Some(id) = self.under_way(d).map(|b| b.id) else { return false };
        for _ in 0..4 {
            self.work(d, Fate::Ended(outcome));
            self.drive(d, Contact::Honest, Sent::Accepted);
            if self.under_way(d).is_none_or(|b| b.id != id) {
                return true;
            }
        }
        false
    }

    pub(super) fn cancel(&mut self, d: usize) -> bool {
        let Some(situation) = self.situation(d) else { return false };
        let step = situation.cancel("ann");
        if matches!(step, Step::Nothing { .. }) {
            return false;
        }
        let note = self.dependencies[d].note.clone();
        let taken = self.take(d, step, Sent::CrashBefore);
        if self.under_way(d).is_some_and(|b| b.stop.is_some()) {
            // Who cancels holds no claim, so the bookkeeping of who drives stays.
            self.dependencies[d].note = note;
        }
        taken
    }

    pub(super) fn break_lock(&mut self, d: usize) -> bool {
        let Some(situation) = self.situation(d) else { return false };
        let Step::End(end) = situation.broken("ann", "it hangs") else { return false };
        assert_eq!(end.build.phase, Phase::Lost);
        self.end(d, end.build, None, true);
        true
    }
}
