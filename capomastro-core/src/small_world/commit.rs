//! What one commit of a scheduler writes: an evaluation, or the end of a build, with all that hangs on it.

use super::{World, is_reusable, laws, table};
use crate::{
    decide::{
        Context, EndOfBuild, Evaluation, LockView, Occasion, Start, end_build, evaluate,
        tests::laws as decision_laws,
    },
    launch::Refusal,
    link::{BuildFacts, ProjectView, SlotEnd, end_note, needed_builds},
    model::{
        Build, BuildId, DependencyState, First, LaunchKey, Note, ProjectBuildId, ProjectId, ReceiptState,
        Revision, Trigger,
    },
    sample,
    time::later,
};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    pub(super) fn place_of(&self, project: ProjectId) -> usize {
        self.projects.iter().position(|p| p.id == project).unwrap()
    }

    fn known_good(&self, d: usize) -> Vec<(Revision, BuildId)> {
        let dependency = &self.dependencies[d];
        let (state, policy) = (&dependency.state, &dependency.policy);
        let asks_at_first = state.accounted.is_none() && policy.first == First::Auto;
        if !policy.reuse_known && !asks_at_first {
            return Vec::new();
        }
        let own = self.builds.values().rev().filter(|b| b.dependency == state.id && is_reusable(b, state));
        own.map(|b| (b.stands_for().clone(), b.id)).collect()
    }

    pub(super) fn evaluate(&mut self, d: usize, occasion: &Occasion) {
        let known_good = self.known_good(d);
        let build = BuildId::from_uuid(self.draw());
        let dependency = &self.dependencies[d];
        let context = Context {
            policy: &dependency.policy,
            now: self.now,
            lock: LockView::AsStored,
            known_good: &known_good,
            build,
        };
        let before = dependency.state.clone();
        let evaluation = evaluate(&before, &context, occasion);
        decision_laws::evaluation(&before, &context, occasion, &evaluation);
        decision_laws::only_grows(&before, &evaluation.state);
        table::says_so(&before, &context, occasion, &evaluation);
        self.apply(d, occasion, evaluation);
    }

    fn apply(&mut self, d: usize, occasion: &Occasion, evaluation: Evaluation) {
        let mut state = evaluation.state;
        let mut start = evaluation.start.map(|start| self.record(&mut state, start));
        let waited = self.dependencies[d].state.waiting.clone();
        self.dependencies[d].state = state;
        laws::each_trigger_is_answered_by_its_own_look(occasion, &waited, &evaluation.receipts);
        for change in &evaluation.receipts {
            let receipt = change.cause.receipt.expect("only receipts change");
            assert!(self.receipts.contains_key(&receipt), "what is settled stays: {change:?}");
            self.receipts.insert(receipt, change.state.clone());
        }
        self.receipts.retain(|_, s| matches!(s, ReceiptState::AwaitsLook | ReceiptState::Waiting { .. }));

        let mut touched: BTreeSet<ProjectId> =
            evaluation.receipts.iter().filter_map(|r| r.cause.project_build).map(|(p, _)| p).collect();
        if start.is_some() || evaluation.reused.is_some() {
            touched.extend(&self.dependencies[d].state.projects);
        }
        for project in touched {
            let mut view = self.view(self.place_of(project));
            for change in &evaluation.receipts {
                let receipt = change.cause.receipt.unwrap();
                if let ReceiptState::Joined { build } = change.state {
                    let joined =
                        start.as_ref().filter(|s| s.id == build).unwrap_or_else(|| &self.builds[&build]);
                    view.slot_ended(receipt, SlotEnd::Joined(joined));
                } else if let Some(reason) = end_note(&change.state) {
                    view.slot_ended(receipt, SlotEnd::Otherwise(&reason));
                }
            }
            if let Some(build) = &start {
                view.request_for_build(build, &mut || self.draw_project_build());
            }
            if let Some(build) = evaluation.reused {
                view.reused(&self.builds[&build]).unwrap();
            }
            if let Some(build) = self.put_view_of(view, start.take()) {
                start = Some(build);
            }
        }
        if let Some(build) = start {
            self.builds.insert(build.id, build);
        }
        let within = evaluation.evaluate_within.map(|w| later(self.now, w));
        let dependency = &mut self.dependencies[d];
        dependency.evaluate_at = within.or(dependency.evaluate_at);
    }

    fn draw_project_build(&mut self) -> ProjectBuildId {
        ProjectBuildId::from_uuid(self.draw())
    }

    fn record(&mut self, state: &mut DependencyState, start: Start) -> Build {
        let previous_start = state.last_start.replace(self.now);
        Build {
            id: start.build,
            number: state.builds,
            epoch: state.epoch,
            key: LaunchKey::of(start.build),
            fence: state.fence,
            revision: start.revision,
            parameters: start.parameters,
            build_key: start.build_key,
            manual: start.causes.iter().any(|c| c.trigger == Trigger::Manual),
            causes: start.causes,
            person_pinned: start.person_pinned,
            retry_of: start.retry_of,
            attempt: start.attempt,
            refusals: start.refusals,
            previous_start,
            requested_at: self.now,
            ..sample::build(0, state.id)
        }
    }

    /// Ends a build, whose record is `build`, in one commit with the evaluation of the release.
    pub(super) fn end(&mut self, d: usize, build: Build, refusal: Option<&Refusal>, broken: bool) {
        let dependency = &mut self.dependencies[d];
        let permanent = refusal.is_some_and(|r| r.permanent);
        let end = EndOfBuild { phase: build.phase, permanent, broken };
        let before = dependency.state.clone();
        let policy = dependency.policy.clone();
        drop(end_build(&mut dependency.state, &build, end, &policy, self.now));
        laws::an_end_frees_its_own_lock_only(&before, &dependency.state, &build, end.is_good(&policy));
        dependency.note = Note::default();
        let mut projects = dependency.state.projects.clone();
        projects.extend(build.project_builds.iter().map(|(p, _)| *p));
        self.builds.insert(build.id, build.clone());
        for project in projects {
            let mut view = self.view(self.place_of(project));
            view.build_ended(&build);
            self.put_view(view);
        }
        self.evaluate(d, &Occasion::Released);
    }

    pub(super) fn view(&self, p: usize) -> ProjectView {
        let project = self.projects[p].clone();
        let open: Vec<_> = project.open.iter().map(|id| self.open[id].clone()).collect();
        let needed = needed_builds(&project, &open);
        let facts: BTreeMap<_, _> =
            needed.into_iter().map(|b| (b, BuildFacts::of(&self.builds[&b]))).collect();
        ProjectView::new(project, open, facts, self.now).unwrap()
    }

    pub(super) fn put_view(&mut self, view: ProjectView) {
        self.put_view_of(view, None);
    }

    /// Seals, relinks and keeps what a view says, of which the build that starts is not recorded yet.
    fn put_view_of(&mut self, view: ProjectView, mut start: Option<Build>) -> Option<Build> {
        let p = self.place_of(view.project().id);
        let before = self.projects[p].clone();
        let change = view.finish(&mut || self.draw_project_build());
        let id = change.project.id;
        for (build, fresh_in) in &change.fresh {
            let build = match start.as_mut().filter(|b| b.id == *build) {
                Some(start) => start,
                None => self.builds.get_mut(build).unwrap(),
            };
            build.project_builds.push((id, *fresh_in));
        }
        laws::a_project_changes_as_it_may(self, p, &before, &change, start.as_ref());
        for record in change.project_builds {
            match &record.seal {
                None => drop(self.open.insert(record.id, record)),
                Some(seal) => {
                    self.open.remove(&record.id);
                    if change.project.current.as_ref().is_some_and(|c| c.id == record.id) {
                        self.current_since[p] = seal.sequence;
                    }
                }
            }
        }
        self.projects[p] = change.project;
        start
    }

    pub(super) fn evaluate_what_is_due(&mut self) {
        for d in 0..self.dependencies.len() {
            if self.dependencies[d].evaluate_at.is_some_and(|at| at <= self.now) {
                self.dependencies[d].evaluate_at = None;
                self.evaluate(d, &Occasion::Released);
            }
        }
    }
}
