//! What a build is told, by its environment.

use crate::{
    folder::Folder,
    job::{CommandJob, EnvValue, is_variable},
    process::BUILD_ID,
};
use capomastro_core::{Result, launch::LaunchRequest};
use std::collections::BTreeMap;

/// The folder, in a build's own, for what the build says beside its log.
pub(crate) const SAYS: &str = "says";

/// Where programs are looked up unless the job says otherwise.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything but secrets. `Err` says why the request cannot be told to a process.
pub(crate) fn plain(
    request: &LaunchRequest,
    job: &CommandJob,
    folder: &Folder,
) -> Result<BTreeMap<String, String>, String> {
    let place = |name: &str| {
        let path = folder.at(name);
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| "the folder of builds has a name that is not UTF-8".to_owned())
    };
    let own = |name: &str, value: String| (format!("CAPOMASTRO_{name}"), value);
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        (BUILD_ID.to_owned(), request.key.to_string()),
        own("DEPENDENCY", request.dependency.to_string()),
        own("REVISION", request.revision.as_str().to_owned()),
        own("BUILD_NUMBER", request.number.to_string()),
        own("ARTIFACTS", place("drop")?),
        own("BUILT_REVISION_FILE", place(&format!("{SAYS}/built-revision"))?),
    ]);
    env.extend(request.build_key.as_ref().map(|key| own("BUILD_KEY", key.to_string())));
    for (name, value) in &job.env {
        if let EnvValue::Plain(value) = value {
            env.insert(name.clone(), value.clone());
        }
    }
    for (name, value) in &request.parameters {
        if !is_variable(&format!("P_{name}")) {
            return Err(format!(
                "the parameter {name:?} cannot be a variable: use letters, digits and underscores in its name"
            ));
        }
        if value.contains('\0') {
            return Err(format!("the parameter {name:?} contains a NUL: remove it"));
        }
        env.extend([own(&format!("PARAM_{name}"), value.clone())]);
    }
    Ok(env)
}

/// The secrets that the job names, fetched now.
pub(crate) async fn secret(request: &LaunchRequest, job: &CommandJob) -> Result<Vec<(String, String)>> {
    let mut env = Vec::new();
    for (name, value) in &job.env {
        if let EnvValue::Secret(reference) = value {
            let value = request.secrets.resolve(reference).await?;
            if value.expose().contains('\0') {
                return Err(capomastro_core::Error::config(
                    "a secret contains a NUL and cannot be in an environment",
                )
                .with_context("secret", &reference.secret));
            }
            env.push((name.clone(), value.expose().to_owned()));
        }
    }
    Ok(env)
}
