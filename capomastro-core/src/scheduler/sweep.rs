//! Deleting what need not be kept any more: in small commits, oldest first, never what a kept record refers to.

use super::{
    Inner,
    around::{is_of_one_record, pass_over},
    commit::Attempts,
};
use crate::{
    Result,
    error::ErrorKind,
    model::{Build, Dependency, DependencyId, Note, ProjectBuild, ProjectId, Slot},
    store::{Claim, Draft, DueChange, Forget, Key, Lane, ListKey, Query, Record, Task},
    time::Timestamp,
};
use chrono::TimeDelta;
use std::{collections::BTreeMap, sync::PoisonError, time::Duration};

/// How many records one pass looks at in each list.
const PAGE: usize = 100;
/// How many events, and how many ids of commits, one pass forgets at the most.
const FORGOTTEN_AT_ONCE: u32 = 10_000;

/// Up to where each list was read by the last pass, where there was more: what still stands stays in its list and must not
/// hide what is behind it.
#[derive(Debug, Default)]
pub(super) struct Swept {
    receipts: Option<String>,
    builds: Option<String>,
    project_builds: Option<String>,
    dependencies: Option<String>,
    projects: Option<String>,
    trimmed: BTreeMap<DependencyId, String>,
}

/// How many project builds are read at first to see what they refer to, since mostly the oldest is too young; then more at
/// a time.
const FIRST_SHOWN: usize = 2;

impl Inner {
    /// One pass; `true` if there may be more to delete. What goes wrong with one kind of records keeps no other from being
    /// deleted.
    pub(super) async fn sweep(&self) -> Result<bool> {
        let now = self.store.check().await?.now;
        let keep = self.config.retention;
        let passes = [
            self.sweep_receipts(before(now, keep.receipts_for)).await,
            self.sweep_project_builds(before(now, keep.builds_for)).await,
            self.sweep_builds(before(now, keep.builds_for)).await,
            self.sweep_deleted().await,
            self.forget(now).await,
        ];
        let (mut more, mut failed) = (false, None);
        for pass in passes {
            match unless_damaged(pass) {
                Ok(is_more) => more |= is_more.unwrap_or(false),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(more), Err)
    }

    async fn forget(&self, now: Timestamp) -> Result<bool> {
        let keep = self.config.retention;
        let mut draft = self.draft();
        draft.forget(Forget::new(
            before(now, keep.events_for),
            keep.events,
            before(now, keep.commit_ids_for),
            FORGOTTEN_AT_ONCE,
        ));
        // A full pass means that there may be more.
        Ok(self.commit(draft).await?.forgotten >= u64::from(FORGOTTEN_AT_ONCE))
    }

    async fn sweep_receipts(&self, limit: Timestamp) -> Result<bool> {
        let (page, next) = self.part(ListKey::settled_receipts(), |s| &mut s.receipts).await?;
        let mut draft = self.draft();
        let (mut deleted, mut old) = (0, 0);
        for record in &page {
            let Record::Receipt(receipt) = record else { continue };
            if receipt.settled_at.is_none_or(|at| at >= limit) {
                break;
            }
            old += 1;
            if unless_damaged(draft.receipt(receipt.id).await)?.flatten().is_some() {
                draft.delete(Key::Receipt(receipt.id));
                deleted += 1;
            }
        }
        let more = self.commit_unless_conflict(draft, deleted).await?;
        Ok(self.go_on(|s| &mut s.receipts, next.filter(|_| old == page.len())) || more)
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

    /// The next part of a list, from where the last pass stopped.
    async fn part(
        &self,
        list: ListKey,
        place: impl Fn(&mut Swept) -> &mut Option<String>,
    ) -> Result<(Vec<Record>, Option<String>)> {
        let after = place(&mut self.swept.lock().unwrap_or_else(PoisonError::into_inner)).take();
        self.part_of(&list, after.as_deref(), PAGE).await
    }

    /// Keeps where the next pass goes on, if it is to. Returns whether it is.
    fn go_on(&self, place: impl Fn(&mut Swept) -> &mut Option<String>, next: Option<String>) -> bool {
        let more = next.is_some();
        *place(&mut self.swept.lock().unwrap_or_else(PoisonError::into_inner)) = next;
        more
    }

    async fn sweep_project_builds(&self, limit: Timestamp) -> Result<bool> {
        let (page, next) = self.part(ListKey::sealed_project_builds(), |s| &mut s.project_builds).await?;
        let mut draft = self.draft();
        let (mut deleted, mut old) = (0, 0);
        for record in &page {
            let Record::ProjectBuild(build) = record else { continue };
            if build.seal.as_ref().is_none_or(|s| s.at >= limit) {
                break;
            }
            old += 1;
            let Some(project) = unless_damaged(draft.project(build.project).await)? else { continue };
            let is_current = project
                .filter(|p| p.deleted_at.is_none())
                .and_then(|p| p.current)
                .is_some_and(|c| c.id == build.id);
            let stored = unless_damaged(draft.project_build(build.id).await)?.flatten();
            if !is_current && stored.is_some() {
                draft.delete(Key::ProjectBuild(build.id));
                deleted += 1;
            }
        }
        let more = self.commit_unless_conflict(draft, deleted).await?;
        Ok(self.go_on(|s| &mut s.project_builds, next.filter(|_| old == page.len())) || more)
    }

    async fn sweep_builds(&self, limit: Timestamp) -> Result<bool> {
        let (page, next) = self.part(ListKey::ended_builds(), |s| &mut s.builds).await?;
        let mut old = 0;
        for record in &page {
            let Record::Build(build) = record else { continue };
            if build.ended_at.is_none_or(|at| at >= limit) {
                break;
            }
            old += 1;
            unless_damaged(self.delete_build(build).await)?;
        }
        Ok(self.go_on(|s| &mut s.builds, next.filter(|_| old == page.len())))
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
                Err(e) => attempts.again(self, e).await?,
            }
        }
    }

    /// A build that stands nowhere and to which no kept project build refers. Those that were requested when it stood
    /// nowhere any more do not.
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
            let shown = |kept: &ProjectBuild| {
                let slot = kept.slots.get(&build.dependency).and_then(Slot::build);
                slot == Some(build.id) || kept.bound_at_request.get(&build.dependency) == Some(&build.id)
            };
            if pinned || self.is_any_kept(id, stood_until, shown).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a kept project build that was requested no later than then is like this.
    async fn is_any_kept(
        &self,
        project: ProjectId,
        until: Timestamp,
        is_like_this: impl Fn(&ProjectBuild) -> bool + Send,
    ) -> Result<bool> {
        let query = Query::List { list: ListKey::project_builds_of(project), backwards: false };
        let (mut after, mut limit) = (None, FIRST_SHOWN);
        loop {
            let page = self.store.list(&query, after.as_deref(), limit).await?;
            for item in page.items {
                let Record::ProjectBuild(kept) = item.record else { continue };
                if kept.requested_at > until {
                    return Ok(false);
                }
                if is_like_this(&kept) {
                    return Ok(true);
                }
            }
            (after, limit) = (page.next, (limit * 4).min(PAGE));
            if after.is_none() {
                return Ok(false);
            }
        }
    }

    /// Deleted dependencies and projects go when nothing of them is left, and no record has a slot for them.
    async fn sweep_deleted(&self) -> Result<bool> {
        let mut deleted = 0;
        let mut draft = self.draft();
        let (page, next) = self.part(ListKey::deleted_dependencies(), |s| &mut s.dependencies).await?;
        let mut more = self.go_on(|s| &mut s.dependencies, next);
        for record in page {
            let Record::Dependency(gone) = record else { continue };
            if unless_damaged(self.is_forgotten(&mut draft, &gone).await)? == Some(true) {
                if draft.state(gone.id).await?.is_some() {
                    draft.delete(Key::State(gone.id));
                }
                draft.delete(Key::Dependency(gone.id));
                deleted += 1;
            }
        }
        let (page, next) = self.part(ListKey::deleted_projects(), |s| &mut s.projects).await?;
        more |= self.go_on(|s| &mut s.projects, next);
        for record in page {
            let Record::Project(gone) = record else { continue };
            let is_empty = unless_damaged(self.is_empty(ListKey::project_builds_of(gone.id)).await)?;
            if is_empty == Some(true) && draft.project(gone.id).await?.is_some() {
                draft.delete(Key::Project(gone.id));
                deleted += 1;
            }
        }
        Ok(self.commit_unless_conflict(draft, deleted).await? || more)
    }

    /// Whether nothing is left of a deleted dependency, and no record has a slot for it.
    async fn is_forgotten(&self, draft: &mut Draft<'_>, gone: &Dependency) -> Result<bool> {
        let state = draft.state(gone.id).await?;
        let until = gone.deleted_at.unwrap_or(Timestamp::MAX_UTC);
        for project in state.iter().flat_map(|s| &s.past_projects) {
            if self.is_any_kept(*project, until, |kept| kept.slots.contains_key(&gone.id)).await? {
                return Ok(false);
            }
        }
        Ok(self.is_empty(ListKey::builds_of(gone.id)).await? && draft.dependency(gone.id).await?.is_some())
    }

    async fn is_empty(&self, list: ListKey) -> Result<bool> {
        let query = Query::List { list, backwards: false };
        Ok(self.store.list(&query, None, 1).await?.items.is_empty())
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
                unless_damaged(self.trim_project(*project, keep).await)?;
            }
            if self.trim_builds(id, state.builds.saturating_sub(keep)).await? {
                let note = Note { stalls: 0, waits_for: None, ..claim.note.clone() };
                self.give_back(claim.clone(), Duration::from_millis(100), note);
                return Ok(());
            }
        }
        let mut done = self.draft();
        done.claim(claim.clone());
        done.due(DueChange::Done { task: claim.task });
        self.commit(done).await.map(drop)
    }

    /// The next part of the builds up to this number. Returns whether there is more.
    async fn trim_builds(&self, id: DependencyId, upto: u64) -> Result<bool> {
        let after = self.swept.lock().unwrap_or_else(PoisonError::into_inner).trimmed.remove(&id);
        let (page, next) = self.part_of(&ListKey::builds_of(id), after.as_deref(), PAGE).await?;
        for record in page {
            let Record::Build(build) = record else { continue };
            if build.number > upto {
                return Ok(false);
            }
            unless_damaged(self.delete_build(&build).await)?;
        }
        let Some(next) = next else { return Ok(false) };
        self.swept.lock().unwrap_or_else(PoisonError::into_inner).trimmed.insert(id, next);
        Ok(true)
    }

    async fn trim_project(&self, id: ProjectId, keep: u64) -> Result<()> {
        let mut draft = self.draft();
        let Some(project) = draft.project(id).await? else { return Ok(()) };
        let (oldest, _) = self.part_of(&ListKey::project_builds_of(id), None, PAGE).await?;
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

/// `None` if a record cannot be read, which is logged and counted: what hangs on it is left as it is.
fn unless_damaged<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if is_of_one_record(&error) => {
            pass_over(&error);
            Ok(None)
        }
        other => other.map(Some),
    }
}

fn before(now: Timestamp, by: Duration) -> Timestamp {
    TimeDelta::from_std(by).ok().and_then(|d| now.checked_sub_signed(d)).unwrap_or(Timestamp::MIN_UTC)
}
