//! Commits as such: is what a decision read guarded, is the claim named, is an id used for one batch only?

use super::{Checker, Seen};
use capomastro_core::{
    ErrorKind,
    model::{CommitId, DependencyId, HolderId, ProjectId},
    store::{Batch, DueChange, Key, LimitScope, Record, Task},
};
use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

/// Which batches were written, and which were not answered.
#[derive(Debug, Default)]
pub(super) struct Commits {
    contents: BTreeMap<CommitId, u64>,
    /// Per holder: batches whose outcome it does not know.
    unknown: BTreeMap<HolderId, Vec<(CommitId, u64, u32)>>,
}

/// How often a holder repeats a batch before it gives up and may decide anew.
const MOST_REPEATS: u32 = 6;

/// Something that two batches of different content hardly share. The hasher has fixed keys.
fn content(batch: &Batch) -> u64 {
    let mut hasher = DefaultHasher::new();
    for put in &batch.puts {
        put.record.key().hash(&mut hasher);
        put.expect.hash(&mut hasher);
    }
    batch.deletes.hash(&mut hasher);
    batch.guards.hash(&mut hasher);
    for claim in &batch.claims {
        (claim.task, claim.ticket).hash(&mut hasher);
    }
    for due in &batch.due {
        due.task().hash(&mut hasher);
    }
    batch.events.len().hash(&mut hasher);
    hasher.finish()
}

/// Whether it would be told from another batch that is about the same. Without a claim it may not: two people can ask for
/// the same at once, and a driver that was frozen can find out what the one after it finds out.
fn is_particular(batch: &Batch) -> bool {
    !batch.claims.is_empty()
}

impl Commits {
    pub(super) fn unanswered(&mut self, batch: &Batch, kind: ErrorKind) {
        if !is_particular(batch) {
            return;
        }
        let of = self.unknown.entry(batch.holder.clone()).or_default();
        if kind != ErrorKind::OutcomeUnknown {
            // The repetition ended with an error: whoever asks again may decide the same anew.
            return of.retain(|(id, ..)| *id != batch.id);
        }
        match of.iter_mut().find(|(id, ..)| *id == batch.id) {
            Some((_, _, times)) => *times += 1,
            None => of.push((batch.id, content(batch), 1)),
        }
        of.retain(|(_, _, times)| *times <= MOST_REPEATS);
    }

    /// # Errors
    /// What is wrong with the id of the batch.
    pub(super) fn committed(&mut self, batch: &Batch, repeated: bool) -> Result<(), String> {
        let content = content(batch);
        let answer = match self.contents.get(&batch.id) {
            Some(stored) if *stored != content => Err(format!("id {} was used for two batches", batch.id)),
            Some(_) if !repeated => Err(format!("batch {} was written twice", batch.id)),
            _ => Ok(()),
        };
        self.contents.insert(batch.id, content);
        let mut again = None;
        if let Some(of) = self.unknown.get_mut(&batch.holder) {
            again =
                of.iter().find(|(id, stored, _)| *id != batch.id && *stored == content).map(|(id, ..)| *id);
            of.retain(|(id, ..)| *id != batch.id);
        }
        match again {
            Some(first) if is_particular(batch) => {
                Err(format!("batch {first}, of unknown outcome, was repeated under another id"))
            }
            _ => answer,
        }
    }
}

impl Checker {
    /// Whether a batch would conflict if this record had changed.
    fn covers(seen: &Seen<'_>, key: &Key) -> bool {
        seen.batch.puts.iter().any(|p| p.record.key() == *key)
            || seen.batch.guards.iter().any(|(k, _)| k == key)
            || seen.batch.deletes.iter().any(|(k, _)| k == key)
    }

    fn must_cover(&mut self, seen: &Seen<'_>, key: &Key, why: &str) {
        self.check(Self::covers(seen, key), "guard", || {
            format!("{key} was read and is not guarded, although {why}")
        });
    }

    /// What decisions are made by must be guarded, whatever the outcome was.
    pub(super) fn check_guards(&mut self, seen: &Seen<'_>) {
        for put in &seen.batch.puts {
            let stored = seen.before(&put.record.key()).is_some();
            self.check(stored == put.expect.is_some(), "guard", || {
                format!("{} is written without the version that is stored", put.record.key())
            });
        }
        for change in seen.changes() {
            match (change.before, change.after) {
                (None, Record::Build(b)) => {
                    self.must_cover(seen, &Key::Dependency(b.dependency), "a build of it starts");
                    self.must_cover(seen, &Key::State(b.dependency), "a build of it starts");
                    let projects =
                        seen.state_before(b.dependency).map(|s| s.projects.clone()).unwrap_or_default();
                    for project in projects {
                        self.cover_project(seen, project, "a build for it starts");
                    }
                }
                (Some(Record::Build(old)), Record::Build(new)) if old.phase != new.phase => {
                    self.must_cover(seen, &Key::Dependency(new.dependency), "a build of it went on");
                    self.check_claim_of_build(seen, new);
                    if new.phase.is_terminal() {
                        self.must_cover(seen, &Key::State(new.dependency), "a build of it ends");
                        for (project, _) in &old.project_builds {
                            self.cover_project(seen, *project, "a build for it ends");
                        }
                        for scope in [LimitScope::Overall, LimitScope::Launcher(new.launcher.clone())] {
                            self.must_cover(seen, &Key::Limit(scope), "a build that it may count ends");
                        }
                    }
                }
                (Some(Record::State(old)), Record::State(new)) => {
                    let decides = old.observed != new.observed
                        || old.accounted != new.accounted
                        || old.held != new.held
                        || old.paused != new.paused
                        || old.retry != new.retry
                        || old.waiting != new.waiting
                        || old.epoch != new.epoch;
                    if decides {
                        self.must_cover(seen, &Key::Dependency(new.id), "what is known of it changes");
                    }
                    if old.applied_ticket != new.applied_ticket {
                        let claim = seen.batch.claims.iter().find(|c| c.task == Task::Look(new.id));
                        self.check(claim.is_some_and(|c| c.ticket == new.applied_ticket), "claim", || {
                            format!("a look at {} was applied without its claim", new.id)
                        });
                    }
                    if old.linked != new.linked {
                        for project in old.projects.clone() {
                            self.cover_project(seen, project, "a link in it moves");
                        }
                    }
                }
                (Some(Record::Project(old)), Record::Project(new)) if old.members != new.members => {
                    for member in new.members.keys().filter(|m| old.members.get(m) != new.members.get(m)) {
                        self.cover_member(seen, new.id, *member);
                    }
                }
                _ => {}
            }
        }
        for due in &seen.batch.due {
            if let DueChange::Done { task } = due {
                self.check(seen.holds(*task), "claim", || format!("{task} is done without its claim"));
            }
        }
    }

    fn cover_project(&mut self, seen: &Seen<'_>, project: ProjectId, why: &str) {
        self.must_cover(seen, &Key::Project(project), why);
        let open = match seen.before(&Key::Project(project)) {
            Some(Record::Project(p)) => p.open.clone(),
            _ => Vec::new(),
        };
        for build in open {
            self.must_cover(seen, &Key::ProjectBuild(build), why);
        }
    }

    fn cover_member(&mut self, seen: &Seen<'_>, project: ProjectId, member: DependencyId) {
        let pins_only = match (
            seen.before(&Key::Project(project)),
            seen.batch.puts.iter().find_map(|p| match &p.record {
                Record::Project(p) if p.id == project => Some(p),
                _ => None,
            }),
        ) {
            (Some(Record::Project(old)), Some(new)) => {
                old.members.get(&member).map(|m| m.linked) == new.members.get(&member).map(|m| m.linked)
            }
            _ => false,
        };
        if !pins_only {
            self.must_cover(seen, &Key::State(member), "its link in a project moves");
        }
    }

    fn check_claim_of_build(&mut self, seen: &Seen<'_>, build: &capomastro_core::model::Build) {
        let task = Task::Drive(build.id);
        let by_person = seen.batch.due.iter().any(|d| matches!(d, DueChange::Drop { task: t } if *t == task));
        let judged =
            seen.batch.puts.iter().any(|p| matches!(&p.record, Record::Orphan(o) if o.build == build.id));
        self.check(seen.holds(task) || by_person || judged, "claim", || {
            format!("build {} became {} without the claim that drives it", build.id, build.phase)
        });
    }
}
