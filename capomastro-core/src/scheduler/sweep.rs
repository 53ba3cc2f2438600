//! Deleting what need not be kept any more: in small commits, oldest first, never what a kept record refers to.

use super::{Inner, commit::Attempts};
use crate::{
    Result,
    error::ErrorKind,
    model::{Build, DependencyId, ProjectId},
    store::{Claim, Draft, DueChange, Forget, Key, Lane, ListKey, Query, Record, Task},
    time::Timestamp,
};
use chrono::TimeDelta;
use std::{sync::PoisonError, time::Duration};

/// How many records one pass looks at in each list.
const PAGE: usize = 100;

impl Inner {
    /// One pass; `true` if there may be more to delete.
    pub(super) async fn sweep(&self) -> Result<bool> {
        let now = self.store.check().await?.now;
        let keep = self.config.retention;
        let mut more = self.sweep_receipts(before(now, keep.receipts_for)).await?;
        more |= self.sweep_project_builds(before(now, keep.builds_for)).await?;
        more |= self.sweep_builds(before(now, keep.builds_for)).await?;
        more |= self.sweep_deleted().await?;
        let mut draft = self.draft();
        draft.forget(Forget::new(
            before(now, keep.events_for),
            keep.events,
            before(now, keep.commit_ids_for),
            10_000,
        ));
        self.commit(draft).await?;
        Ok(more)
    }

    async fn page(&self, list: ListKey, after: Option<&str>) -> Result<(Vec<Record>, Option<String>)> {
        let page = self.store.list(&Query::List { list, backwards: false }, after, PAGE).await?;
        Ok((page.items.into_iter().map(|v| v.record).collect(), page.next))
    }

    async fn sweep_receipts(&self, limit: Timestamp) -> Result<bool> {
        let (page, _) = self.page(ListKey::settled_receipts(), None).await?;
        let mut draft = self.draft();
        let mut deleted = 0;
        for record in page {
            let Record::Receipt(receipt) = record else { continue };
            if receipt.settled_at.is_some_and(|at| at < limit) && draft.receipt(receipt.id).await?.is_some() {
                draft.delete(Key::Receipt(receipt.id));
                deleted += 1;
            }
        }
        self.commit_unless_conflict(draft, deleted).await
    }

    /// `true` if so much was deleted that there may be more. A conflict is left to the next pass.
    async fn commit_unless_conflict(&self, draft: Draft<'_>, deleted: usize) -> Result<bool> {
        if deleted == 0 {
            return Ok(false);
        }
        match self.commit(draft).await {
            Ok(_) => {
                metrics::counter!("capomastro_records_deleted_total").increment(deleted as u64);
                Ok(deleted >= PAGE / 2)
            }
            Err(e) if e.kind() == ErrorKind::Conflict => Ok(true),
            Err(e) => Err(e),
        }
    }

    async fn sweep_project_builds(&self, limit: Timestamp) -> Result<bool> {
        let (page, _) = self.page(ListKey::sealed_project_builds(), None).await?;
        let mut draft = self.draft();
        let mut deleted = 0;
        for record in page {
            let Record::ProjectBuild(build) = record else { continue };
            let old = build.seal.as_ref().is_some_and(|s| s.at < limit);
            let project = draft.project(build.project).await?;
            let is_current = project
                .filter(|p| p.deleted_at.is_none())
                .and_then(|p| p.current)
                .is_some_and(|c| c.id == build.id);
            if old && !is_current && draft.project_build(build.id).await?.is_some() {
                draft.delete(Key::ProjectBuild(build.id));
                deleted += 1;
            }
        }
        self.commit_unless_conflict(draft, deleted).await
    }

    /// Goes on from where the last pass stopped, since builds that still stand are many and stay.
    async fn sweep_builds(&self, limit: Timestamp) -> Result<bool> {
        let after = self.swept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (page, next) = self.page(ListKey::ended_builds(), after.as_deref()).await?;
        let mut old = 0;
        for record in &page {
            let Record::Build(build) = record else { continue };
            if build.ended_at.is_none_or(|at| at >= limit) {
                break;
            }
            old += 1;
            self.delete_build(build).await?;
        }
        let more = old == page.len() && next.is_some();
        *self.swept.lock().unwrap_or_else(PoisonError::into_inner) = next.filter(|_| more);
        Ok(more)
    }

    /// Deletes a build unless something kept refers to it. Returns whether it did.
    async fn delete_build(&self, build: &Build) -> Result<bool> {
        let mut attempts = Attempts::default();
        loop {
            let mut draft = self.draft();
            if !self.is_deletable(&mut draft, build).await? {
                return Ok(false);
            }
            let query = Query::List { list: ListKey::orphans_of(build.id), backwards: false };
            for orphan in draft.find(&query, PAGE).await? {
                draft.delete(orphan.key());
            }
            draft.delete(Key::Build(build.id));
            match self.commit(draft).await {
                Ok(_) => {
                    metrics::counter!("capomastro_records_deleted_total").increment(1);
                    return Ok(true);
                }
                Err(e) => attempts.again(e)?,
            }
        }
    }

    /// A build that stands nowhere, and did not stand when any kept project build was requested or sealed.
    async fn is_deletable(&self, draft: &mut Draft<'_>, build: &Build) -> Result<bool> {
        let Some(build) = draft.build(build.id).await?.filter(|b| b.phase.is_terminal()) else {
            return Ok(false);
        };
        let (dependency, state) =
            (draft.dependency(build.dependency).await?, draft.state(build.dependency).await?);
        let deleted_at = dependency.and_then(|d| d.deleted_at);
        let linked = state.as_ref().and_then(|s| s.linked.as_ref()).is_some_and(|l| l.build == build.id);
        let stood_until = match (build.good, build.stood_until, deleted_at) {
            (_, Some(at), _) => Some(at),
            (true, None, at) => at,
            (false, None, _) => build.ended_at,
        };
        let Some(stood_until) = stood_until else { return Ok(false) };
        if linked && deleted_at.is_none() {
            return Ok(false);
        }
        let mut projects: Vec<ProjectId> = build.project_builds.iter().map(|(p, _)| *p).collect();
        projects.extend(state.iter().flat_map(|s| s.projects.iter().chain(&s.past_projects)));
        projects.sort_unstable();
        projects.dedup();
        for id in projects {
            let Some(project) = draft.project(id).await? else { continue };
            let pinned = project.members.values().any(|m| m.pin == Some(build.id));
            let query = Query::List { list: ListKey::project_builds_of(id), backwards: false };
            let oldest = self.store.list(&query, None, 1).await?.items.into_iter().next();
            let refers = matches!(
                oldest.map(|v| v.record),
                Some(Record::ProjectBuild(oldest)) if oldest.requested_at <= stood_until
            );
            if pinned || refers {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Deleted dependencies and projects go when nothing of them is left.
    async fn sweep_deleted(&self) -> Result<bool> {
        let mut deleted = 0;
        let mut draft = self.draft();
        let (page, _) = self.page(ListKey::deleted_dependencies(), None).await?;
        for record in page {
            let Record::Dependency(gone) = record else { continue };
            let (builds, _) = self.page(ListKey::builds_of(gone.id), None).await?;
            if builds.is_empty() && draft.dependency(gone.id).await?.is_some() {
                if draft.state(gone.id).await?.is_some() {
                    draft.delete(Key::State(gone.id));
                }
                draft.delete(Key::Dependency(gone.id));
                deleted += 1;
            }
        }
        let (page, _) = self.page(ListKey::deleted_projects(), None).await?;
        for record in page {
            let Record::Project(gone) = record else { continue };
            let (builds, _) = self.page(ListKey::project_builds_of(gone.id), None).await?;
            if builds.is_empty() && draft.project(gone.id).await?.is_some() {
                draft.delete(Key::Project(gone.id));
                deleted += 1;
            }
        }
        self.commit_unless_conflict(draft, deleted).await
    }

    /// Makes trimming due if a dependency has more builds than it may keep.
    pub(super) fn trim_if_many(&self, draft: &mut Draft<'_>, id: DependencyId, builds: u64) {
        if builds > u64::from(self.config.retention.builds) {
            draft.due(DueChange::Set {
                task: Task::Trim(id),
                lane: Lane::House,
                after: Duration::ZERO,
                note: None,
            });
        }
    }

    /// Keeps the number of builds of a dependency, and of project builds of its projects, within the retention.
    pub(super) async fn trim_due(&self, claim: &Claim, id: DependencyId) -> Result<()> {
        let keep = u64::from(self.config.retention.builds);
        let mut draft = self.draft();
        if let Some(state) = draft.state(id).await? {
            for project in &state.projects {
                self.trim_project(*project, keep).await?;
            }
            let (oldest, _) = self.page(ListKey::builds_of(id), None).await?;
            for record in oldest {
                let Record::Build(build) = record else { continue };
                if build.number > state.builds.saturating_sub(keep) {
                    break;
                }
                self.delete_build(&build).await?;
            }
        }
        let mut done = self.draft();
        done.claim(claim.clone());
        done.due(DueChange::Done { task: claim.task });
        self.commit(done).await.map(drop)
    }

    async fn trim_project(&self, id: ProjectId, keep: u64) -> Result<()> {
        let mut draft = self.draft();
        let Some(project) = draft.project(id).await? else { return Ok(()) };
        let (oldest, _) = self.page(ListKey::project_builds_of(id), None).await?;
        let mut deleted = 0;
        for record in oldest {
            let Record::ProjectBuild(build) = record else { continue };
            let old = build.seal.as_ref().is_some_and(|s| s.sequence + keep <= project.seals);
            let is_current = project.current.as_ref().is_some_and(|c| c.id == build.id);
            if old && !is_current && draft.project_build(build.id).await?.is_some() {
                draft.delete(Key::ProjectBuild(build.id));
                deleted += 1;
            }
        }
        self.commit_unless_conflict(draft, deleted).await.map(drop)
    }
}

fn before(now: Timestamp, by: Duration) -> Timestamp {
    TimeDelta::from_std(by).ok().and_then(|d| now.checked_sub_signed(d)).unwrap_or(Timestamp::MIN_UTC)
}
