//! Reading where things stand, and why.

use crate::{
    Result,
    decide::{Context, Decision, LockView, Occasion, evaluate},
    detect::{Answer, Detection, Look, detect},
    model::{Build, BuildId, Dependency, DependencyState, Note, Project, ProjectBuild, Revision},
    scheduler::{Inner, Scheduler, apply::Applying, look::failed},
    store::{DueRow, EventFilter, EventPage, Key, ListKey, Query, Record, Task},
    time::Timestamp,
    why::{WhyNotBuilding, why_not_building},
};
use futures_util::future::{Either, select};
use std::pin::pin;

/// Where a dependency stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DependencyStatus {
    /// As people configured it.
    pub dependency: Dependency,
    /// What the machine knows.
    pub state: DependencyState,
    /// The build that holds it.
    pub build: Option<Build>,
    /// Lossy facts about that build, such as since when it runs.
    pub build_note: Option<Note>,
    /// When the next look is due.
    pub next_look: Option<Timestamp>,
    /// Lossy facts about looking, such as how often each decision that changed nothing was repeated.
    pub look_note: Option<Note>,
    /// Why it is not building, or that it is.
    pub why: WhyNotBuilding,
    /// The store's time of all this.
    pub at: Timestamp,
}

/// Where a project stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProjectStatus {
    /// The project, with what stands for each dependency.
    pub project: Project,
    /// The project build that stands for it now.
    pub current: Option<ProjectBuild>,
    /// Its project builds that are not sealed.
    pub open: Vec<ProjectBuild>,
}

/// What a look now would lead to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Preview {
    /// What the probe saw, if it saw something.
    pub observed: Option<Revision>,
    /// Why the source could not be looked at.
    pub failure: Option<String>,
    /// What would be decided, in order.
    pub decisions: Vec<(Decision, Option<Revision>)>,
    /// The revision that would be built.
    pub would_build: Option<Revision>,
}

impl Scheduler {
    /// Where a dependency stands, and why it is not building.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown name.
    pub async fn status(&self, dependency: &str) -> Result<DependencyStatus> {
        let inner = &self.inner;
        let mut draft = inner.draft();
        let dependency = inner.dependency_named(&mut draft, dependency).await?;
        let id = dependency.id;
        let state = inner.state_of(&mut draft, id).await?;
        let look = due_row(draft.record(Key::Due(Task::Look(id))).await?);
        let (mut build, mut drive) = (None, None);
        if let Some(held) = &state.held {
            build = draft.build(held.owner).await?;
            drive = due_row(draft.record(Key::Due(Task::Drive(held.owner))).await?);
        }
        let at = draft.now()?;
        let why =
            why_not_building(&state, &dependency.policy, build.as_ref(), drive.as_ref(), look.as_ref(), at);
        Ok(DependencyStatus {
            dependency,
            state,
            build,
            build_note: drive.map(|d| d.note),
            next_look: look.as_ref().map(|l| l.due_at),
            look_note: look.map(|l| l.note),
            why,
            at,
        })
    }

    /// Why a dependency is not building: one typed reason, at any time.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown name.
    pub async fn why_not_building(&self, dependency: &str) -> Result<WhyNotBuilding> {
        Ok(self.status(dependency).await?.why)
    }

    /// Where a project stands.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown name.
    pub async fn project_status(&self, project: &str) -> Result<ProjectStatus> {
        let inner = &self.inner;
        let mut draft = inner.draft();
        let project = inner.project_named(&mut draft, project).await?;
        let current = match &project.current {
            Some(current) => draft.project_build(current.id).await?,
            None => None,
        };
        let mut open = Vec::new();
        for id in &project.open {
            open.extend(draft.project_build(*id).await?);
        }
        Ok(ProjectStatus { project, current, open })
    }

    /// The builds of a dependency, the newest first: at most `limit` (1 to 1,000), behind `after`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown name.
    pub async fn history(
        &self,
        dependency: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Build>, Option<String>)> {
        let mut draft = self.inner.draft();
        let id = self.inner.dependency_named(&mut draft, dependency).await?.id;
        let query = Query::List { list: ListKey::builds_of(id), backwards: true };
        let page = self.inner.store.list(&query, after, limit).await?;
        let builds = page.items.into_iter().filter_map(|v| match v.record {
            Record::Build(b) => Some(b),
            _ => None,
        });
        Ok((builds.collect(), page.next))
    }

    /// The project builds of a project, the newest first: at most `limit` (1 to 1,000), behind `after`.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown name.
    pub async fn project_history(
        &self,
        project: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<ProjectBuild>, Option<String>)> {
        let mut draft = self.inner.draft();
        let id = self.inner.project_named(&mut draft, project).await?.id;
        let query = Query::List { list: ListKey::project_builds_of(id), backwards: true };
        let page = self.inner.store.list(&query, after, limit).await?;
        let builds = page.items.into_iter().filter_map(|v| match v.record {
            Record::ProjectBuild(b) => Some(b),
            _ => None,
        });
        Ok((builds.collect(), page.next))
    }

    /// The recorded decisions and other events of a dependency, in order, behind a place in the stream.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown name.
    pub async fn decisions(&self, dependency: &str, after: u64, limit: usize) -> Result<EventPage> {
        let mut draft = self.inner.draft();
        let id = self.inner.dependency_named(&mut draft, dependency).await?.id;
        self.events(EventFilter::Dependency(id), after, limit).await
    }

    /// Looks at a dependency's source now and says what would be decided; nothing is written, and no build is started.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) for an unknown name. A source that cannot be looked at is no error here.
    pub async fn preview(&self, dependency: &str) -> Result<Preview> {
        let inner = &self.inner;
        let mut draft = inner.draft();
        let dependency = inner.dependency_named(&mut draft, dependency).await?;
        let state = inner.state_of(&mut draft, dependency.id).await?;
        let now = draft.now()?;
        let answer = inner.look_once(&dependency, &state).await;
        let look = Look {
            ticket: u64::MAX,
            epoch: state.epoch,
            accounted: state.accounted_revision().cloned(),
            satisfies: state.stored.iter().map(|s| s.receipt).collect(),
        };
        let detected = detect(&state, &look, &answer, now);
        let failure = match answer {
            Answer::Failed(failure) => Some(failure.message),
            Answer::Probed(_) => None,
        };
        let occasion = match detected.detection {
            Detection::Seen => Occasion::Seen { satisfies: look.satisfies },
            Detection::NotFound { twice } => Occasion::NotFound { satisfies: look.satisfies, twice },
            Detection::Stale | Detection::Failed | Detection::Nothing => {
                return Ok(Preview { observed: None, failure, decisions: Vec::new(), would_build: None });
            }
        };
        let observed = detected.state.observed_revision().cloned();
        let applying = Applying::new(inner, dependency, now);
        let known_good = applying.known_good(&mut draft, &detected.state).await?;
        let context = Context {
            policy: &applying.dependency.policy,
            now,
            lock: LockView::AsStored,
            known_good: &known_good,
            build: BuildId::draw(now, inner.random.as_ref()),
        };
        let evaluation = evaluate(&detected.state, &context, &occasion);
        Ok(Preview {
            observed,
            failure,
            decisions: evaluation.decided.into_iter().map(|d| (d.decision, d.revision)).collect(),
            would_build: evaluation.start.map(|s| s.revision),
        })
    }
}

fn due_row(record: Option<Record>) -> Option<DueRow> {
    match record {
        Some(Record::Due(row)) => Some(row),
        _ => None,
    }
}

impl Inner {
    /// One look outside the schedule, for a preview.
    async fn look_once(&self, dependency: &Dependency, state: &DependencyState) -> Answer {
        let deadline = dependency.policy.timeouts.probe;
        let ask = self.ask_of(dependency, state, deadline);
        let answer = async {
            self.key_of(&dependency.source)?;
            let probe = self.probes.get(&dependency.source.probe);
            let answers = match probe {
                Some(probe) => probe.probe(&[ask]).await,
                None => Vec::new(),
            };
            match <[_; 1]>::try_from(answers) {
                Ok([answer]) => answer,
                Err(_) => Err(crate::Error::internal("the probe gave another number of answers than one")),
            }
        };
        let answer = match select(pin!(answer), pin!(self.clock.sleep(deadline))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(crate::Error::new(
                crate::ErrorKind::TimedOut,
                "the probe did not answer within its deadline",
            )),
        };
        match answer {
            Ok(probed) => Answer::Probed(probed),
            Err(error) => failed(&error),
        }
    }
}
