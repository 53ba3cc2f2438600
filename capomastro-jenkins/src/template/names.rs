//! The names of the parameters that a job declares for Capomastro.

use capomastro_core::{Error, Result};

/// The launch key of a build; see [`JobTemplate::id_parameter`](super::JobTemplate::id_parameter).
pub const BUILD_ID: &str = "CAPOMASTRO_BUILD_ID";
/// The revision of the dependency that is to be built.
pub const REVISION: &str = "CAPOMASTRO_REVISION";
/// Who asked for the build, for people.
pub const REQUESTER: &str = "CAPOMASTRO_REQUESTER";
/// The dependency's name.
pub const DEPENDENCY: &str = "CAPOMASTRO_DEPENDENCY";
/// The repository of the job type: an address that `git clone` takes.
pub const JOB_TYPE: &str = "CAPOMASTRO_JOB_TYPE";
/// The job type's branch.
pub const BRANCH: &str = "CAPOMASTRO_BRANCH";
/// The job type's revision: a full commit id on its branch; the tip where empty.
pub const JOB_TYPE_REVISION: &str = "CAPOMASTRO_JOB_TYPE_REVISION";
/// The path of the script in the job type.
pub const SCRIPT: &str = "CAPOMASTRO_SCRIPT";

/// What names a run of a probe.
pub const PROBE_ID: &str = "CAPOMASTRO_PROBE_ID";
/// What stands on the lines around a probe's answer.
pub const PROBE_MARK: &str = "CAPOMASTRO_PROBE_MARK";
/// How a probe's script answers: `token` or `changed`.
pub const PROBE_LANGUAGE: &str = "CAPOMASTRO_PROBE_LANGUAGE";
/// After how many seconds a run of a probe ends itself.
pub const PROBE_SECONDS: &str = "CAPOMASTRO_PROBE_SECONDS";
/// The revision that was last seen; empty if none.
pub const OBSERVED: &str = "CAPOMASTRO_OBSERVED";
/// The revision that was last settled; empty if none.
pub const ACCOUNTED: &str = "CAPOMASTRO_ACCOUNTED";
/// When the last build was started, in RFC 3339; empty if none.
pub const LAST_BUILD: &str = "CAPOMASTRO_LAST_BUILD";
/// The same in whole seconds since 1970.
pub const LAST_BUILD_UNIX: &str = "CAPOMASTRO_LAST_BUILD_UNIX";

/// Names that Jenkins or a shell sets: a parameter of this name would hide what is needed. One called `BUILD_ID` also keeps
/// Jenkins from ending the processes of a build that is stopped.
const TAKEN: [&str; 24] = [
    "BUILD_DISPLAY_NAME",
    "BUILD_ID",
    "BUILD_NUMBER",
    "BUILD_TAG",
    "BUILD_URL",
    "EXECUTOR_NUMBER",
    "HOME",
    "HUDSON_COOKIE",
    "HUDSON_SERVER_COOKIE",
    "IFS",
    "JENKINS_HOME",
    "JENKINS_SERVER_COOKIE",
    "JENKINS_URL",
    "JOB_BASE_NAME",
    "JOB_NAME",
    "JOB_URL",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "NODE_NAME",
    "PATH",
    "PWD",
    "TMPDIR",
    "WORKSPACE",
    "WORKSPACE_TMP",
];

/// Refuses what is no name of a variable, or one that is taken.
pub(super) fn check_variable(name: &str) -> Result<()> {
    let is_name = name.len() <= 200
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let problem = if !is_name {
        "is not one of a variable: give up to 200 letters, digits and underscores, no digit first"
    } else if TAKEN.contains(&name) || name.starts_with("capo_") {
        "is one that Jenkins or the shell sets: choose another, such as CAPOMASTRO_BUILD_ID for the id"
    } else {
        return Ok(());
    };
    Err(Error::config(format!("a parameter's name {problem}")).with_context("name", name.escape_debug()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_variables_that_are_free_are_taken() {
        for good in [BUILD_ID, "REQUESTOR", "_a1", "lower", "BZR_BRANCH"] {
            check_variable(good).unwrap();
        }
        for bad in [
            "",
            "1a",
            "a b",
            "a-b",
            "a=b",
            "a;b",
            "$(x)",
            "ä",
            "BUILD_ID",
            "PATH",
            "LD_PRELOAD",
            "capo_run",
            &"x".repeat(201),
        ] {
            assert!(check_variable(bad).is_err(), "{bad}");
        }
    }
}
