//! Bringing what happened to a dependency into its projects, in the same commit.

use super::Inner;
use crate::{
    Error, ErrorKind, Result,
    decide::ReceiptChange,
    link::{Asked, BuildFacts, ProjectView, SlotEnd, WholeRequest, end_note, needed_builds},
    model::{
        Build, BuildId, BuildKey, Cause, DependencyId, DependencyState, EndReason, Phase, Project,
        ProjectBuild, ProjectBuildId, ProjectId, ReceiptId, ReceiptState, Requester,
    },
    store::{Draft, Key, Record},
    time::Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

impl Inner {
    /// A project with its open project builds and what is known of the builds in them; `None` if it is gone.
    async fn view(
        &self,
        draft: &mut Draft<'_>,
        id: ProjectId,
        now: Timestamp,
    ) -> Result<Option<ProjectView>> {
        let Some(mut project) = draft.project(id).await? else { return Ok(None) };
        let open = open_builds(draft, &project).await?;
        // One that was sealed between the two reads: the project is guarded, so the commit conflicts and is decided anew.
        let is_sealed = |id: &ProjectBuildId| open.iter().any(|b| b.id == *id && b.seal.is_some());
        project.open.retain(|id| !is_sealed(id));
        let facts = facts(draft, &project, &open).await?;
        ProjectView::new(project, open, facts, now).map(Some)
    }

    /// Seals, relinks and writes what a view says. `start` is the build that this commit records anew.
    async fn put_view(
        &self,
        draft: &mut Draft<'_>,
        view: ProjectView,
        start: Option<&mut Build>,
        now: Timestamp,
    ) -> Result<()> {
        let change = view.finish(&mut || self.draw_project_build(now));
        for event in change.events {
            draft.event(event);
        }
        let is_sealed = change.project_builds.iter().any(|b| b.seal.is_some());
        for build in change.project_builds {
            draft.put(Record::ProjectBuild(build));
        }
        let project = change.project.id;
        if let Some(member) = change.project.members.keys().next().filter(|_| is_sealed) {
            // Trimming goes by dependency, and takes the dependency's projects along.
            self.trim_if_many(draft, *member, change.project.seals);
        }
        draft.put(Record::Project(change.project));
        let mut start = start;
        for (id, fresh_in) in change.fresh {
            match start.as_deref_mut().filter(|b| b.id == id) {
                Some(build) => build.project_builds.push((project, fresh_in)),
                None => {
                    if let Some(mut build) = draft.build(id).await? {
                        build.project_builds.push((project, fresh_in));
                        draft.put(Record::Build(build));
                    }
                }
            }
        }
        for id in change.began_standing {
            self.stands_again(draft, id, start.as_deref()).await?;
        }
        for id in change.stopped_standing {
            self.stands_no_more(draft, id, now).await?;
        }
        Ok(())
    }

    fn draw_project_build(&self, now: Timestamp) -> ProjectBuildId {
        ProjectBuildId::draw(now, self.random.as_ref())
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
        // What the commit itself settles of the state is read back by the views.
        draft.put(Record::State(state.clone()));
        let reused = match reused {
            Some(id) => draft.build(id).await?,
            None => None,
        };
        for id in touched {
            let Some(mut view) = self.view(draft, id, now).await? else { continue };
            for change in receipts {
                let Some(receipt) = change.cause.receipt else { continue };
                if let ReceiptState::Joined { build } = change.state {
                    match (&start, draft.build(build).await?) {
                        (Some(s), _) if s.id == build => view.slot_ended(receipt, SlotEnd::Joined(s)),
                        (_, Some(joined)) => view.slot_ended(receipt, SlotEnd::Joined(&joined)),
                        (_, None) => {}
                    }
                } else if let Some(reason) = end_note(&change.state) {
                    view.slot_ended(receipt, SlotEnd::Otherwise(&reason));
                }
            }
            if let Some(build) = start.as_deref() {
                view.request_for_build(build, &mut || self.draw_project_build(now));
            }
            if let Some(build) = &reused {
                view.reused(build)?;
            }
            self.put_view(draft, view, start.as_deref_mut(), now).await?;
        }
        if let Some(build) = reused {
            self.stands_again(draft, build.id, None).await?;
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
        draft.put(Record::State(state.clone()));
        let mut projects: BTreeSet<ProjectId> = state.projects.clone();
        projects.extend(build.project_builds.iter().map(|(p, _)| *p));
        for id in projects {
            let Some(mut view) = self.view(draft, id, now).await? else { continue };
            view.build_ended(build);
            self.put_view(draft, view, None, now).await?;
        }
        let old = before.linked.as_ref().map(|l| l.build);
        if let Some(old) = old.filter(|o| state.linked.as_ref().is_none_or(|l| l.build != *o)) {
            self.stands_no_more(draft, old, now).await?;
        }
        Ok(())
    }

    /// If a build stands nowhere any more, keeps since when: project builds requested later do not refer to it.
    pub(super) async fn stands_no_more(
        &self,
        draft: &mut Draft<'_>,
        id: BuildId,
        now: Timestamp,
    ) -> Result<()> {
        let Some(mut build) = draft.build(id).await? else { return Ok(()) };
        if build.stood_until.is_some() || !build.good {
            return Ok(());
        }
        let Some(state) = draft.state(build.dependency).await? else { return Ok(()) };
        if state.linked.is_some_and(|l| l.build == id) {
            return Ok(());
        }
        for project in state.projects.union(&state.past_projects) {
            let Some(project) = draft.project(*project).await? else { continue };
            let open = open_builds(draft, &project).await?;
            let current = project.current.iter().flat_map(|c| c.builds.values());
            if current.copied().chain(needed_builds(&project, &open)).any(|b| b == id) {
                return Ok(());
            }
        }
        build.stood_until = Some(now);
        draft.put(Record::Build(build));
        Ok(())
    }

    async fn stands_again(&self, draft: &mut Draft<'_>, id: BuildId, start: Option<&Build>) -> Result<()> {
        if start.is_some_and(|b| b.id == id) {
            return Ok(());
        }
        if let Some(mut build) = draft.build(id).await?
            && build.stood_until.take().is_some()
        {
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
        let Some(mut view) = self.view(draft, project, now).await? else { return Ok(()) };
        let linked = match &state.linked {
            Some(linked) => draft.build(linked.build).await?,
            None => None,
        };
        view.add_member(dependency, linked.as_ref())?;
        self.put_view(draft, view, None, now).await
    }

    /// A dependency leaves a project.
    pub(super) async fn link_leave(
        &self,
        draft: &mut Draft<'_>,
        project: ProjectId,
        dependency: DependencyId,
        now: Timestamp,
    ) -> Result<()> {
        let Some(mut view) = self.view(draft, project, now).await? else { return Ok(()) };
        view.remove_member(dependency);
        self.put_view(draft, view, None, now).await
    }

    /// Somebody holds a project at a build of a dependency, or lets it follow again.
    pub(super) async fn link_pin(
        &self,
        draft: &mut Draft<'_>,
        project: ProjectId,
        dependency: DependencyId,
        build: Option<&Build>,
        now: Timestamp,
    ) -> Result<()> {
        let Some(mut view) = self.view(draft, project, now).await? else { return Ok(()) };
        view.set_pin(dependency, build)?;
        self.put_view(draft, view, None, now).await
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
            let Some(mut view) = self.view(draft, project, now).await? else { continue };
            if let Some(note) = end_note(&ReceiptState::Ended { reason: reason.clone() }) {
                view.slot_ended(receipt, SlotEnd::Otherwise(&note));
            }
            self.put_view(draft, view, None, now).await?;
        }
        Ok(())
    }

    /// A project build of a whole project, or of some of its dependencies, under an id that their requests carry. Returns
    /// its name.
    pub(super) async fn link_whole(
        &self,
        draft: &mut Draft<'_>,
        project: ProjectId,
        id: ProjectBuildId,
        request: WholeRequest,
        now: Timestamp,
    ) -> Result<String> {
        let Some(mut view) = self.view(draft, project, now).await? else {
            return Err(Error::new(ErrorKind::NotFound, "the project is gone"));
        };
        view.request_whole(request, &mut || id)?;
        let name = view.open().find(|b| b.id == id).map(|b| b.name.clone()).unwrap_or_default();
        self.put_view(draft, view, None, now).await?;
        Ok(name)
    }
}

/// What a whole build asks of a project.
pub(super) fn whole_request(
    receipts: &BTreeMap<DependencyId, (ReceiptId, bool)>,
    move_pins: &[DependencyId],
    build_key: BuildKey,
    requester: Option<Requester>,
) -> WholeRequest {
    let asked = |(receipt, paused): (ReceiptId, bool)| match paused {
        false => Asked::Receipt(receipt),
        true => Asked::Not(
            end_note(&ReceiptState::Ended { reason: EndReason::Paused }).unwrap_or_else(|| "paused".into()),
        ),
    };
    WholeRequest {
        chosen: receipts.iter().map(|(d, r)| (*d, asked(*r))).collect(),
        move_pins: move_pins.iter().copied().collect(),
        build_key: Some(build_key),
        requester,
    }
}

async fn open_builds(draft: &mut Draft<'_>, project: &Project) -> Result<Vec<ProjectBuild>> {
    draft.load(project.open.iter().map(|b| Key::ProjectBuild(*b))).await?;
    let mut open = Vec::with_capacity(project.open.len());
    for id in &project.open {
        open.extend(draft.project_build(*id).await?);
    }
    Ok(open)
}

/// What the slots show of builds: from the current project build where it has them, which is one record, and else from
/// the builds themselves. A build that has not ended needs no guard either: its end writes the project.
async fn facts(
    draft: &mut Draft<'_>,
    project: &Project,
    open: &[ProjectBuild],
) -> Result<BTreeMap<BuildId, BuildFacts>> {
    let mut facts = BTreeMap::new();
    let mut needed = needed_builds(project, open);
    if let Some(current) = &project.current
        && current.builds.values().any(|b| needed.contains(b))
        && let Some(record) = draft.project_build(current.id).await?
    {
        for slot in record.slots.into_values() {
            let (Some(build), Some(revision)) = (slot.build(), slot.revision.clone()) else { continue };
            if needed.remove(&build) {
                let artifacts = slot.artifacts;
                facts.insert(build, BuildFacts { revision, artifacts, good: true, phase: Phase::Succeeded });
            }
        }
    }
    draft.load_unguarded(needed.iter().map(|b| Key::Build(*b))).await?;
    for id in needed {
        if let Some(build) = draft.ended_build(id).await? {
            facts.insert(id, BuildFacts::of(&build));
        }
    }
    Ok(facts)
}
