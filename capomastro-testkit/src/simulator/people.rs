//! What people do, by the handle of a scheduler.

use super::{
    plan::{Ask, DependencyPlan, Plan},
    stage::{Stage, revision},
};
use capomastro_core::{
    Error, ErrorKind, Result, Scheduler,
    model::{Build, Requester, Source},
    scheduler::{DependencySpec, TriggerRequest, WholeBuildRequest},
};
use std::sync::Arc;

pub(super) const LAUNCHER: &str = "system";
pub(super) const PROBE: &str = "sources";

/// The definition of a dependency. Another `edit` is another source.
pub(super) fn spec(plan: &Plan, of: &DependencyPlan, edit: u64) -> Result<DependencySpec> {
    let repository = if plan.one_repository { "all" } else { "" };
    let config = serde_json::json!({ "name": of.name, "edit": edit, "repository": repository });
    let mut spec =
        DependencySpec::new(&of.name, Source::new(PROBE, config)?, LAUNCHER)?.with_policy(of.policy.clone());
    for project in &of.projects {
        spec = spec.in_project(project)?;
    }
    Ok(spec)
}

fn somebody() -> Requester {
    "ada".parse().expect("a name")
}

/// Does what somebody asks, and checks that an error is one that a person can be given.
pub(super) async fn ask(stage: Arc<Stage>, scheduler: Scheduler, process: usize, what: Ask) {
    let plan = Arc::clone(&stage.world().plan);
    let answer = perform(&stage, &scheduler, &plan, &what).await;
    let mut world = stage.world();
    world.trace.line(|| format!("process {process} answers {what:?}: {}", shown(&answer)));
    if let Err(error) = answer {
        world.trace.text(error.kind().as_str());
        let wrong = matches!(error.kind(), ErrorKind::Internal | ErrorKind::Corrupt | ErrorKind::Conflict);
        if wrong {
            world.checker.fail("answer", || format!("{what:?} was answered with {}", error.report()));
        }
    }
}

fn shown(answer: &Result<()>) -> String {
    match answer {
        Ok(()) => "done".into(),
        Err(error) => error.report(),
    }
}

async fn newest(scheduler: &Scheduler, name: &str) -> Result<Build> {
    let (builds, _) = scheduler.history(name, None, 1).await?;
    builds.into_iter().next().ok_or_else(|| Error::new(ErrorKind::NotFound, "nothing was built yet"))
}

async fn perform(stage: &Stage, scheduler: &Scheduler, plan: &Plan, what: &Ask) -> Result<()> {
    let dependency = |n: &usize| &plan.dependencies[*n % plan.dependencies.len()];
    let project = |n: &usize| plan.projects.get(*n).map_or("none", String::as_str);
    match what {
        Ask::Push { dependency: d } => {
            let receipt = scheduler.trigger(&dependency(d).name, TriggerRequest::push()).await?;
            stage.world().checker.given(receipt);
        }
        Ask::Manual { dependency: d, at, parameter, on_held } => {
            let mut request = TriggerRequest::manual().by(somebody());
            if let Some(at) = at {
                request = request.at(revision(*at));
            }
            if *parameter {
                request = request.with_parameter("flavour", "mild");
            }
            if let Some(on_held) = on_held {
                request = request.on_held(*on_held);
            }
            let receipt = scheduler.trigger(&dependency(d).name, request).await?;
            stage.world().checker.given(receipt);
        }
        Ask::Pause { dependency: d } => {
            scheduler.pause(&dependency(d).name, &somebody(), "a history").await?
        }
        Ask::Resume { dependency: d } => scheduler.resume(&dependency(d).name).await?,
        Ask::Cancel { dependency: d } => {
            let build = newest(scheduler, &dependency(d).name).await?;
            let answer = scheduler.cancel(build.id, &somebody()).await?;
            stage.world().checker.cancelled(build.id, &answer);
        }
        Ask::Retry { dependency: d } => {
            let build = newest(scheduler, &dependency(d).name).await?;
            let receipt = scheduler.retry(build.id, &somebody()).await?;
            stage.world().checker.given(receipt);
        }
        Ask::BreakLock { dependency: d } => {
            scheduler.break_lock(&dependency(d).name, &somebody(), "a history").await?;
        }
        Ask::Edit { dependency: d } => {
            // Another source than any before, whoever else edits it now.
            let edit = {
                let mut world = stage.world();
                world.edits += 1;
                world.edits
            };
            scheduler.apply(&spec(plan, dependency(d), edit)?).await?;
        }
        Ask::Choose { dependency: d, policy } => {
            let changed = DependencyPlan { policy: (**policy).clone(), ..dependency(d).clone() };
            scheduler.apply_same_source(&spec(plan, &changed, 0)?).await?;
        }
        Ask::Delete { dependency: d } => scheduler.delete(&dependency(d).name).await?,
        Ask::Define { dependency: d } => {
            scheduler.ensure(&spec(plan, dependency(d), 0)?).await?;
        }
        Ask::Join { dependency: d, project: p } => {
            scheduler.add_to_project(project(p), &dependency(d).name).await?
        }
        Ask::Leave { dependency: d, project: p } => {
            scheduler.remove_from_project(project(p), &dependency(d).name).await?;
        }
        Ask::Pin { dependency: d, project: p, which } => {
            let (builds, _) = scheduler.history(&dependency(d).name, None, 20).await?;
            let good: Vec<_> = builds.into_iter().filter(|b| b.good).collect();
            let place = usize::try_from(*which % (good.len().max(1) as u64)).unwrap_or_default();
            let chosen =
                good.get(place).ok_or_else(|| Error::new(ErrorKind::NotFound, "nothing good yet"))?;
            scheduler.pin(project(p), &dependency(d).name, chosen.id).await?;
            stage.world().checker.pinned(project(p), chosen.dependency, Some(chosen.id));
        }
        Ask::Unpin { dependency: d, project: p } => scheduler.unpin(project(p), &dependency(d).name).await?,
        Ask::BuildProject { project: p, move_pin } => {
            let mut request = WholeBuildRequest::all().by(somebody());
            if let Some(d) = move_pin {
                request = request.moving_pin(&dependency(d).name);
            }
            scheduler.build_project(project(p), &request).await?;
        }
    }
    Ok(())
}
