//! What this launcher calls a build: all that a process needs that knows nothing else of it.

use crate::{
    address::JobName,
    job::{Artifacts, Built, ID_PARAMETER, JenkinsJob, is_id_parameter},
};
use capomastro_core::{
    Error, Result,
    model::{ExternalRef, LaunchKey},
};
use serde::{Deserialize, Serialize};

/// A queue item, a build, or whatever carries the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) job: String,
    pub(crate) key: LaunchKey,
    #[serde(default = "id_parameter", skip_serializing_if = "is_id_parameter")]
    pub(crate) parameter: String,
    /// The session in which `item` means our queue item, and in which the build was seen last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) session: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) item: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) number: Option<u64>,
    /// No build of ours has a lower number.
    #[serde(default)]
    pub(crate) floor: u64,
    #[serde(default, skip_serializing_if = "Built::is_default")]
    pub(crate) built: Built,
    #[serde(default, skip_serializing_if = "Artifacts::is_default")]
    pub(crate) artifacts: Artifacts,
}

fn id_parameter() -> String {
    ID_PARAMETER.into()
}

impl Reference {
    pub(crate) fn of(job: &JenkinsJob, key: LaunchKey, session: &str, floor: u64) -> Self {
        Self {
            job: job.job.clone(),
            key,
            parameter: job.id_parameter.clone(),
            session: session.to_owned(),
            item: None,
            number: None,
            floor,
            built: job.built.clone(),
            artifacts: job.artifacts,
        }
    }

    pub(crate) fn parse(external: &ExternalRef) -> Result<Self> {
        let of_another = || {
            Error::invalid("the reference is not one of the Jenkins launcher: see which launcher made it")
                .with_context("build", external.0.chars().take(100).collect::<String>().escape_debug())
        };
        let reference: Self = serde_json::from_str(&external.0).map_err(|_| of_another())?;
        JobName::parse(&reference.job).map_err(|_| of_another())?;
        Ok(reference)
    }

    pub(crate) fn job(&self) -> Result<JobName> {
        JobName::parse(&self.job)
    }

    pub(crate) fn external(&self) -> ExternalRef {
        ExternalRef(serde_json::to_string(self).expect("text and numbers are JSON"))
    }

    /// The same as a queue item of this session.
    pub(crate) fn queued(mut self, item: u64) -> Self {
        self.item = Some(item);
        self.number = None;
        self
    }

    /// The same as a build.
    pub(crate) fn started(mut self, number: u64) -> Self {
        self.number = Some(number);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;

    #[test]
    fn a_reference_is_read_as_it_was_written() {
        let key = KEY.parse().unwrap();
        let mut job = JenkinsJob::new("a/b").built(Built::Git { remote: None });
        job.id_parameter = "MY_ID".into();
        for reference in [
            Reference::of(&JenkinsJob::new("a"), key, "1f", 7),
            Reference::of(&job, key, "1f", 7).queued(5_000_000_000),
            Reference::of(&job, key, "", 0).queued(1).started(8),
        ] {
            assert_eq!(Reference::parse(&reference.external()).unwrap(), reference);
        }
    }

    const KEY: &str = "018f0000-0000-7000-8000-000000000007";

    #[test]
    fn what_another_made_is_refused() {
        let key = KEY.parse().unwrap();
        let bad = Reference { job: "../x".into(), ..Reference::of(&JenkinsJob::new("a"), key, "", 0) };
        for text in ["", "nonsense", "{}", "[]", "{\"job\": 1}", "a\0b\n", bad.external().0.as_str()] {
            let e = Reference::parse(&ExternalRef(text.into())).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidInput, "{text}");
        }
    }
}
