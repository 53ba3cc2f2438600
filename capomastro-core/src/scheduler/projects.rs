//! Bringing what happened to a dependency into its projects, in the same commit.

use super::Inner;
use crate::{
    Result,
    decide::ReceiptChange,
    link::{BuildFacts, Facts, SlotEnd, View, WholeRequest},
    model::{
        Build, BuildId, BuildKey, Cause, DependencyId, DependencyState, EndReason, ProjectBuildId, ProjectId,
        ReceiptId, ReceiptState, Requester,
    },
    store::{Draft, Key, Record},
    time::Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

impl Inner {
    /// A project and its open project builds; `None` if there is no such project any more.
    async fn view(&self, draft: &mut Draft<'_>, id: ProjectId) -> Result<Option<View>> {
        let Some(project) = draft.project(id).await? else { return Ok(None) };
        draft.load(project.open.iter().map(|b| Key::ProjectBuild(*b))).await?;
        let mut open = Vec::new();
        for build in project.open.clone() {
            open.extend(draft.project_build(build).await?);
        }
        Ok(Some(View::new(project, open)))
    }

    /// Seals, relinks and writes a view.
    async fn put_view(&self, draft: &mut Draft<'_>, mut view: View, now: Timestamp) -> Result<()> {
        let facts = self.facts(draft, &view).await?;
        view.settle(&facts, now, || ProjectBuildId::draw(now, self.random.as_ref()));
        for event in view.events {
            draft.event(event);
        }
        for build in view.builds.into_values() {
            draft.put(Record::ProjectBuild(build));
        }
        draft.put(Record::Project(view.project));
        Ok(())
    }

    /// What the slots show of builds: from the current project build where it has them, which is one record, and else from
    /// the builds.
    async fn facts(&self, draft: &mut Draft<'_>, view: &View) -> Result<Facts> {
        let mut facts = Facts::new();
        let mut needed = view.needed_builds();
        if let Some(current) = &view.project.current
            && current.builds.values().any(|b| needed.contains(b))
            && let Some(record) = draft.project_build(current.id).await?
        {
            for slot in record.slots.into_values() {
                let (Some(build), Some(revision)) = (slot.build(), slot.revision.clone()) else { continue };
                if needed.remove(&build) {
                    let artifacts = slot.artifacts;
                    let phase = crate::model::Phase::Succeeded;
                    facts.insert(build, BuildFacts { phase, good: true, revision, artifacts });
                }
            }
        }
        draft.load(needed.iter().map(|b| Key::Build(*b))).await?;
        for id in needed {
            if let Some(build) = draft.ended_build(id).await? {
                facts.insert(id, BuildFacts::from(&build));
            }
        }
        Ok(facts)
    }

    /// What an evaluation means for projects: slots that awaited its triggers, the build that starts, the build that is
    /// linked again.
    pub(super) async fn link_evaluation(
        &self,
        draft: &mut Draft<'_>,
        state: &DependencyState,
        receipts: &[ReceiptChange],
        mut start: Option<&mut Build>,
        reused: Option<BuildId>,
        now: Timestamp,
    ) -> Result<()> {
        let mut touched: BTreeSet<ProjectId> =
            receipts.iter().filter_map(|r| r.cause.project_build).map(|(p, _)| p).collect();
        if start.is_some() || reused.is_some() {
            touched.extend(&state.projects);
        }
        for id in touched {
            let Some(mut view) = self.view(draft, id).await? else { continue };
            for change in receipts {
                if let (Some(receipt), Some(end)) = (change.cause.receipt, slot_end(&change.state)) {
                    view.request_ended(receipt, &end);
                }
            }
            if let Some(build) = start.as_deref_mut() {
                let draw = || ProjectBuildId::draw(now, self.random.as_ref());
                let fresh_in = view.build_started(state.id, build, draw, now);
                build.project_builds.extend(fresh_in.into_iter().map(|b| (id, b)));
                // The view's facts must know the build that is being recorded.
                draft.put(Record::Build(build.clone()));
            }
            if let Some(build) = reused {
                view.linked(state.id, Some(build));
            }
            self.put_view(draft, view, now).await?;
        }
        if let Some(build) = reused {
            self.stands_again(draft, build).await?;
        }
        Ok(())
    }

    /// What the end of a build means for projects.
    pub(super) async fn link_end(
        &self,
        draft: &mut Draft<'_>,
        before: &DependencyState,
        state: &DependencyState,
        build: &Build,
        now: Timestamp,
    ) -> Result<()> {
        let mut projects: BTreeSet<ProjectId> = state.projects.clone();
        projects.extend(build.project_builds.iter().map(|(p, _)| *p));
        let mut pinned = BTreeSet::new();
        for id in projects {
            let Some(mut view) = self.view(draft, id).await? else { continue };
            view.linked(build.dependency, state.linked.as_ref().map(|l| l.build));
            if build.good {
                view.move_pins(build.dependency, build.id);
            }
            pinned.extend(view.project.members.get(&build.dependency).and_then(|m| m.pin));
            self.put_view(draft, view, now).await?;
        }
        let (old, new) = (before.linked.as_ref().map(|l| l.build), state.linked.as_ref().map(|l| l.build));
        if let Some(old) = old.filter(|o| new != Some(*o) && !pinned.contains(o)) {
            self.stands_no_more(draft, old, now).await?;
        }
        Ok(())
    }

    /// A build stands nowhere any more; project builds requested later do not refer to it.
    pub(super) async fn stands_no_more(
        &self,
        draft: &mut Draft<'_>,
        id: BuildId,
        now: Timestamp,
    ) -> Result<()> {
        if let Some(mut build) = draft.build(id).await? {
            build.stood_until = Some(now);
            draft.put(Record::Build(build));
        }
        Ok(())
    }

    pub(super) async fn stands_again(&self, draft: &mut Draft<'_>, id: BuildId) -> Result<()> {
        if let Some(mut build) = draft.build(id).await? {
            build.stood_until = None;
            draft.put(Record::Build(build));
        }
        Ok(())
    }

    /// A dependency joins a project.
    pub(super) async fn link_join(
        &self,
        draft: &mut Draft<'_>,
        project: ProjectId,
        dependency: DependencyId,
        state: &DependencyState,
        now: Timestamp,
    ) -> Result<()> {
        let Some(mut view) = self.view(draft, project).await? else { return Ok(()) };
        view.join(dependency, state.linked.as_ref().map(|l| l.build));
        self.put_view(draft, view, now).await
    }

    /// A dependency leaves a project.
    pub(super) async fn link_leave(
        &self,
        draft: &mut Draft<'_>,
        project: ProjectId,
        dependency: DependencyId,
        now: Timestamp,
    ) -> Result<()> {
        let Some(mut view) = self.view(draft, project).await? else { return Ok(()) };
        view.leave(dependency);
        self.put_view(draft, view, now).await
    }

    /// Somebody holds a project at a build of a dependency, or lets it follow again.
    pub(super) async fn link_pin(
        &self,
        draft: &mut Draft<'_>,
        project: ProjectId,
        dependency: DependencyId,
        build: Option<BuildId>,
        now: Timestamp,
    ) -> Result<()> {
        let Some(mut view) = self.view(draft, project).await? else { return Ok(()) };
        let old = view.project.members.get(&dependency).and_then(|m| m.pin);
        view.pin(dependency, build);
        self.put_view(draft, view, now).await?;
        if let Some(build) = build {
            self.stands_again(draft, build).await?;
        }
        let Some(old) = old.filter(|o| build != Some(*o)) else { return Ok(()) };
        let Some(state) = draft.state(dependency).await? else { return Ok(()) };
        let mut stands = state.linked.is_some_and(|l| l.build == old);
        for other in state.projects {
            let Some(other) = draft.project(other).await? else { continue };
            stands |= other.members.get(&dependency).is_some_and(|m| m.pin == Some(old));
        }
        if stands { Ok(()) } else { self.stands_no_more(draft, old, now).await }
    }

    /// Requests that ended because of what a person did.
    pub(super) async fn link_ended_causes(
        &self,
        draft: &mut Draft<'_>,
        ended: &[(Cause, EndReason)],
        now: Timestamp,
    ) -> Result<()> {
        for (cause, reason) in ended {
            let (Some((project, _)), Some(receipt)) = (cause.project_build, cause.receipt) else { continue };
            let Some(mut view) = self.view(draft, project).await? else { continue };
            view.request_ended(receipt, &SlotEnd::NoBuild(said(reason).into()));
            self.put_view(draft, view, now).await?;
        }
        Ok(())
    }

    /// A project build of a whole project, or of some of its dependencies. Returns its name.
    #[expect(clippy::too_many_arguments, reason = "the facts of one request, each from another place")]
    pub(super) async fn link_whole(
        &self,
        draft: &mut Draft<'_>,
        project: ProjectId,
        id: ProjectBuildId,
        awaited: &BTreeMap<DependencyId, ReceiptId>,
        paused: &[DependencyId],
        moves_pins: &[DependencyId],
        requester: Option<Requester>,
        build_key: BuildKey,
        now: Timestamp,
    ) -> Result<String> {
        let Some(mut view) = self.view(draft, project).await? else {
            return Err(crate::Error::new(crate::ErrorKind::NotFound, "the project is gone"));
        };
        let request = WholeRequest {
            id,
            awaited: awaited.clone(),
            refused: paused.iter().map(|d| (*d, said(&EndReason::Paused).to_owned())).collect(),
            moves_pins: moves_pins.to_vec(),
            requester,
            build_key: Some(build_key),
        };
        let name = view.request_whole(request, now);
        self.put_view(draft, view, now).await?;
        Ok(name)
    }
}

/// What a receipt's state means for a slot that awaits it; `None` while it is awaited, or when its build starts.
fn slot_end(state: &ReceiptState) -> Option<SlotEnd> {
    match state {
        ReceiptState::AwaitsLook | ReceiptState::Waiting { .. } | ReceiptState::Started { .. } => None,
        ReceiptState::Joined { build } => Some(SlotEnd::Joined(*build)),
        ReceiptState::Reused { .. } => Some(SlotEnd::NoBuild("an earlier build was linked again".into())),
        ReceiptState::LostTo { .. } => Some(SlotEnd::NoBuild("discarded: the dependency was held".into())),
        ReceiptState::Ended { reason } => Some(SlotEnd::NoBuild(said(reason).into())),
    }
}

/// An end in words, for people.
const fn said(reason: &EndReason) -> &'static str {
    match reason {
        EndReason::Unchanged => "unchanged",
        EndReason::Baselined => "taken as it is",
        EndReason::Reverted => "the source is back",
        EndReason::Vetoed => "vetoed",
        EndReason::Quiet { .. } => "the source must be quiet first",
        EndReason::RelationStale => "to be looked at again",
        EndReason::Paused => "paused",
        EndReason::SourceMissing => "the source is missing",
        EndReason::Superseded => "the source was edited",
        EndReason::Deleted => "deleted",
        EndReason::Refused => "refused by the build system",
        EndReason::Coalesced => "covered by the next build",
        EndReason::Withdrawn => "withdrawn",
    }
}
