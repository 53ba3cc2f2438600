//! What is made durable before a build is asked for.

use crate::job::{JenkinsJob, ParameterValue, is_parameter};
use capomastro_core::{
    Error, Result,
    launch::{LaunchRequest, Refusal},
    secret::Secret,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// The facts of a request for a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memo {
    pub(crate) job: String,
    /// The number of the job's next build before the first request: no build of ours has a lower one.
    pub(crate) floor: u64,
    /// The session in which it was read.
    pub(crate) session: String,
    /// When the last request was sent, by this process's clock. For people.
    pub(crate) posted_at: Timestamp,
    /// The parameters, without secrets: each request of one key sends the same.
    pub(crate) parameters: BTreeMap<String, String>,
}

impl Memo {
    pub(crate) fn read(memo: Option<&Value>) -> Result<Option<Self>> {
        memo.map(|memo| {
            Self::deserialize(memo).map_err(|_| {
                Error::new(
                    capomastro_core::ErrorKind::Corrupt,
                    "what was kept with the build is not of the Jenkins launcher: see which launcher began it",
                )
            })
        })
        .transpose()
    }
}

pub(crate) fn refusal(reason: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), permanent: true }
}

/// The parameters of a build that are no secrets.
pub(crate) fn plain(job: &JenkinsJob, request: &LaunchRequest) -> Result<BTreeMap<String, String>, Refusal> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &job.parameters {
        if let ParameterValue::Plain(text) = value {
            all.insert(name.clone(), text.clone());
        }
    }
    for (name, value) in &request.parameters {
        if !is_parameter(name) {
            return Err(refusal(format!(
                "the parameter {:?} means something to Jenkins itself or cannot be one: rename it",
                name.escape_debug().to_string()
            )));
        }
        if job.is_own(name) {
            return Err(refusal(format!(
                "the parameter {name:?} is filled in by the launcher: leave it out"
            )));
        }
        all.insert(name.clone(), value.clone());
    }
    all.insert(job.id_parameter.clone(), request.key.to_string());
    all.insert(job.revision_parameter.clone(), request.revision.to_string());
    let mut tell = |name: &Option<String>, value: String| {
        if let Some(name) = name {
            all.insert(name.clone(), value);
        }
    };
    tell(&job.dependency_parameter, request.dependency.to_string());
    tell(&job.number_parameter, request.number.to_string());
    tell(&job.build_key_parameter, request.build_key.as_ref().map(ToString::to_string).unwrap_or_default());
    let requesters: Vec<String> = request.requesters.iter().map(ToString::to_string).collect();
    tell(&job.requester_parameter, requesters.join(", "));
    Ok(all)
}

/// The secret ones, but for those that somebody gave another value for this build.
pub(crate) async fn secret(
    job: &JenkinsJob,
    request: &LaunchRequest,
    plain: &BTreeMap<String, String>,
) -> Result<Vec<(String, Secret)>> {
    let mut all = Vec::new();
    for (name, value) in &job.parameters {
        if let ParameterValue::Secret(reference) = value
            && !plain.contains_key(name)
        {
            all.push((name.clone(), request.secrets.resolve(reference).await?));
        }
    }
    Ok(all)
}

/// Whether the job would take these parameters: it drops silently what it does not declare, and is in error about a value
/// that is none of its choices.
pub(crate) fn check<'a>(
    declared: &BTreeMap<String, Option<Vec<String>>>,
    plain: &'a BTreeMap<String, String>,
    secret: impl IntoIterator<Item = &'a str>,
) -> Result<(), Refusal> {
    if declared.is_empty() {
        return Err(refusal("the job declares no parameters: declare those that are sent to it"));
    }
    let names = plain.keys().map(String::as_str).chain(secret);
    let missing: Vec<&str> = names.filter(|name| !declared.contains_key(*name)).collect();
    if !missing.is_empty() {
        return Err(refusal(format!(
            "the job does not declare {}, and Jenkins would drop that silently: declare it as a text parameter",
            missing.join(", ")
        )));
    }
    for (name, value) in plain {
        if let Some(Some(choices)) = declared.get(name)
            && !choices.contains(value)
        {
            return Err(refusal(format!(
                "the job's parameter {name} has no such choice: give one of its choices"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_job_declares_is_sent() {
        let declared: BTreeMap<String, Option<Vec<String>>> =
            [("ID".into(), None), ("C".into(), Some(vec!["x".into(), "y".into()]))].into();
        let plain = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect()
        };
        for (given, secret, says) in [
            (plain(&[("ID", "1")]), vec![], None),
            (plain(&[("ID", "1"), ("C", "x")]), vec![], None),
            (plain(&[("ID", "1"), ("C", "z")]), vec![], Some("no such choice")),
            (plain(&[("ID", "1"), ("X", "")]), vec![], Some("not declare X")),
            (plain(&[("ID", "1")]), vec!["TOKEN"], Some("not declare TOKEN")),
        ] {
            let got = check(&declared, &given, secret);
            match (got, says) {
                (Ok(()), None) => {}
                (Err(refusal), Some(says)) => {
                    assert!(refusal.permanent && refusal.reason.contains(says), "{refusal:?}");
                }
                other => panic!("{given:?}: {other:?}"),
            }
        }
        assert!(check(&BTreeMap::new(), &plain(&[("ID", "1")]), []).is_err());
    }
}
