//! How a build ended: gathered once from its folder, judged by rules.

use crate::{
    artifacts::{self, Bounds},
    enclosure::{Enclosure, Left},
    environment::SAYS,
    folder::{Folder, Lock, Status, read_bounded, remove},
    job::CommandJob,
};
use capomastro_core::{
    Error, ErrorKind, Result,
    launch::{Ended, LaunchRequest, Outcome},
    model::{Artifact, BuildId, BuildKey, DependencyName, LaunchKey, Parameters, Requester, Revision},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{fs, path::PathBuf};

/// What was asked for, as it stands in the build's folder. No secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    key: LaunchKey,
    build: BuildId,
    dependency: DependencyName,
    number: u64,
    revision: Revision,
    display: Option<String>,
    build_key: Option<BuildKey>,
    parameters: Parameters,
    requesters: Vec<Requester>,
    fence: u64,
    pub(crate) job: CommandJob,
    pub(crate) dir: PathBuf,
    at: Timestamp,
}

impl Record {
    pub(crate) fn new(request: &LaunchRequest, job: &CommandJob, dir: PathBuf, at: Timestamp) -> Self {
        Self {
            format: 1,
            key: request.key,
            build: request.build,
            dependency: request.dependency.clone(),
            number: request.number,
            revision: request.revision.clone(),
            display: request.display.clone(),
            build_key: request.build_key.clone(),
            parameters: request.parameters.clone(),
            requesters: request.requesters.clone(),
            fence: request.fence,
            job: job.clone(),
            dir,
            at,
        }
    }
}

/// What was found in a build's folder after its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gathered {
    format: u32,
    artifacts: Vec<Artifact>,
    /// Why not everything was kept that was to be kept.
    problems: Vec<String>,
    built: Option<Revision>,
    /// What is worth saying and changes nothing.
    remarks: Vec<String>,
    /// How it ended where it was enclosed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inside: Option<Left>,
}

/// What was found after a build's end, gathering it if nobody has yet. `None` if somebody else is busy with the folder.
pub(crate) fn of(
    folder: &Folder,
    enclosure: Option<&dyn Enclosure>,
) -> Result<Option<(CommandJob, Gathered)>> {
    let record = folder.read_json::<Record>("request.json")?.ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            "the request of a build is missing: see who removed it from its folder",
        )
        .with_context("path", folder.path().display())
    })?;
    if let Some(gathered) = folder.read_json("result.json")? {
        return Ok(Some((record.job, gathered)));
    }
    let Some(lock) = folder.lock()? else { return Ok(None) };
    // Whoever had the lock before may have done it.
    let gathered = match folder.read_json("result.json")? {
        Some(gathered) => gathered,
        None => {
            let gathered = gather(folder, &record, enclosure, &lock)?;
            folder.write_json("result.json", &gathered)?;
            // Its files have been copied; what cannot be removed now goes with the folder.
            if let Err(error) = remove(&folder.at("drop")) {
                tracing::warn!(%error, key = %folder.key(), "what a build dropped could not be removed");
            }
            gathered
        }
    };
    drop(lock);
    Ok(Some((record.job, gathered)))
}

fn gather(
    folder: &Folder,
    record: &Record,
    enclosure: Option<&dyn Enclosure>,
    _lock: &Lock,
) -> Result<Gathered> {
    let mut gathered = Gathered { format: 1, ..Gathered::default() };
    // First: while something lives in there, files change.
    gathered.inside = enclosure.map(|e| e.leave(folder.key(), folder.path())).transpose()?;
    let bounds = Bounds { count: record.job.max_artifacts, bytes: record.job.max_artifact_bytes };
    let collected = artifacts::collect(
        &folder.at("drop"),
        &record.dir,
        &record.job.artifacts,
        &folder.at("artifacts"),
        bounds,
    )?;
    gathered.artifacts = collected.artifacts;
    gathered.problems = collected.problems;
    match built(folder) {
        Ok(built) => gathered.built = built,
        Err(e) => gathered.remarks.push(format!("the built revision was not taken: {}", e.message())),
    }
    if folder.has("log.cut") {
        gathered.remarks.push("not all of the log was kept".into());
    }
    Ok(gathered)
}

/// The revision that the build says it has built: the content of its file without one trailing line break.
fn built(folder: &Folder) -> Result<Option<Revision>> {
    let says = folder.at(SAYS);
    // Never by a link that the build has put in its place.
    if !fs::symlink_metadata(&says).is_ok_and(|m| m.is_dir()) {
        return Ok(None);
    }
    let Some(bytes) = read_bounded(&says.join("built-revision"), 4 * 1024)? else { return Ok(None) };
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    Revision::try_from(line).map(Some)
}

/// How a build ended whose supervisor told it.
pub(crate) fn judge(status: Status, job: &CommandJob, gathered: Gathered) -> Ended {
    let Gathered { artifacts, problems, built, remarks, inside, .. } = gathered;
    let mut said = Vec::new();
    // Where it was enclosed, the status that its supervisor saw is not its own.
    let code = match inside {
        None => Some(status.code),
        Some(Left::Ended(code)) => Some(code),
        Some(Left::Cut(_) | Left::NeverBegan(_)) => None,
    };
    let mut outcome = match code {
        Some(0) => Outcome::Succeeded,
        _ if status.stopped => Outcome::Cancelled,
        Some(code) if job.unstable.iter().any(|u| i32::from(*u) == code) => Outcome::Unstable,
        // Nothing of the revision was run.
        None if matches!(inside, Some(Left::NeverBegan(_))) => Outcome::Lost,
        _ => Outcome::Failed,
    };
    match (code, inside) {
        (Some(0), _) => {}
        // A shell cannot tell a signal from a status above 128.
        (Some(code @ 129..=192), _) => {
            said.push(format!("ended with status {code}, as by signal {}", code - 128));
        }
        (Some(code), _) => said.push(format!("ended with status {code}")),
        (None, Some(Left::Cut(why) | Left::NeverBegan(why))) if !status.stopped => said.push(why),
        (None, _) => said.push("it was ended before it could tell its status".into()),
    }
    if matches!(outcome, Outcome::Succeeded | Outcome::Unstable) && !problems.is_empty() {
        outcome = Outcome::Failed;
    }
    said.extend(problems);
    said.extend(remarks);
    let mut ended = Ended::new(outcome);
    ended.built = built;
    ended.artifacts = artifacts;
    ended.message = message(&said);
    ended
}

/// How a build ended whose supervisor did not live to tell.
pub(crate) fn judge_dead(restarted: bool, asked: bool, gathered: Gathered) -> Ended {
    let why = if restarted {
        "the machine was restarted while the build ran"
    } else {
        "the build's supervisor was killed, and so its exit status is not known"
    };
    let mut ended = Ended::new(match (asked, restarted) {
        (true, _) => Outcome::Cancelled,
        (false, true) => Outcome::Lost,
        // What killed its supervisor may be its own doing, such as all the memory that it took.
        (false, false) => Outcome::Failed,
    });
    ended.built = gathered.built;
    ended.artifacts = gathered.artifacts;
    ended.message = message(&[why.to_owned()]);
    ended
}

fn message(said: &[String]) -> Option<String> {
    if said.is_empty() { None } else { Some(said.join("; ").chars().take(2_000).collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: i32, stopped: bool) -> Status {
        serde_json::from_value(serde_json::json!({"format": 1, "code": code, "stopped": stopped})).unwrap()
    }

    #[test]
    fn an_end_is_judged_by_status_stop_and_artifacts() {
        let job = CommandJob::new(["x"]).unstable(3);
        for (code, stopped, problem, outcome, says) in [
            (0, false, false, Outcome::Succeeded, ""),
            (0, true, false, Outcome::Succeeded, ""),
            (0, false, true, Outcome::Failed, "missing"),
            (3, false, false, Outcome::Unstable, "status 3"),
            (3, false, true, Outcome::Failed, "status 3; missing"),
            (3, true, false, Outcome::Cancelled, "status 3"),
            (1, false, false, Outcome::Failed, "status 1"),
            (1, false, true, Outcome::Failed, "status 1; missing"),
            (143, true, true, Outcome::Cancelled, "signal 15"),
            (137, false, false, Outcome::Failed, "signal 9"),
            (255, false, false, Outcome::Failed, "status 255"),
        ] {
            let problems = if problem { vec!["missing".to_owned()] } else { vec![] };
            let ended = judge(status(code, stopped), &job, Gathered { problems, ..Gathered::default() });
            assert_eq!(ended.outcome, outcome, "{code} {stopped} {problem}");
            let said = ended.message.unwrap_or_default();
            assert!(said.contains(says) && said.is_empty() == says.is_empty(), "{code}: {said}");
        }
    }

    #[test]
    fn an_enclosed_build_has_the_status_that_was_told_inside() {
        let job = CommandJob::new(["x"]).unstable(3);
        let (cut, never) = (Left::Cut("why".into()), Left::NeverBegan("why".into()));
        for (code, stopped, inside, outcome, says) in [
            (1, false, Left::Ended(0), Outcome::Succeeded, ""),
            (0, false, Left::Ended(1), Outcome::Failed, "status 1"),
            (0, false, Left::Ended(3), Outcome::Unstable, "status 3"),
            (0, true, Left::Ended(143), Outcome::Cancelled, "signal 15"),
            (0, false, cut.clone(), Outcome::Failed, "why"),
            (137, true, cut, Outcome::Cancelled, "before it could tell"),
            (1, false, never.clone(), Outcome::Lost, "why"),
            (137, true, never, Outcome::Cancelled, "before it could tell"),
        ] {
            let gathered = Gathered { inside: Some(inside.clone()), ..Gathered::default() };
            let ended = judge(status(code, stopped), &job, gathered);
            assert_eq!(ended.outcome, outcome, "{code} {stopped} {inside:?}");
            let said = ended.message.unwrap_or_default();
            assert!(said.contains(says) && said.is_empty() == says.is_empty(), "{code}: {said}");
        }
    }

    #[test]
    fn the_dead_have_failed_unless_somebody_asked_or_the_machine_was_restarted() {
        assert_eq!(judge_dead(false, false, Gathered::default()).outcome, Outcome::Failed);
        assert_eq!(judge_dead(false, true, Gathered::default()).outcome, Outcome::Cancelled);
        assert_eq!(judge_dead(true, true, Gathered::default()).outcome, Outcome::Cancelled);
        assert_eq!(judge_dead(true, false, Gathered::default()).outcome, Outcome::Lost);
        assert!(judge_dead(true, false, Gathered::default()).message.unwrap().contains("restarted"));
    }
}
