//! Jobs made from a template: what Capomastro needs of a job, as a `config.xml`, and put into one that is there.
//!
//! [`JobTemplate::config_xml`] makes a job from nothing; [`JobTemplate::merged_into`] brings one that people have edited
//! up to date and leaves everything else in it as it is, byte for byte. Both are pure.

mod merge;
pub mod names;
mod parameter;
mod render;
mod step;
#[cfg(test)]
mod tests;
mod xml;

pub use merge::{Change, Merged};
pub use parameter::{Kind, Parameter};
pub use step::{Container, Isolation, Purpose};

use capomastro_core::{Error, Result, secret::Secret};
use std::{collections::BTreeSet, time::Duration};

/// The most parameters of one job.
const MAX_PARAMETERS: usize = 500;

/// Where Jenkins' Notification plugin sends its messages.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Endpoint {
    /// This address. Everybody who may read the job's configuration sees it.
    Url(Secret),
    /// The address that a credential of Jenkins ("secret text") holds, by the credential's id.
    Credential(String),
}

/// How many builds Jenkins keeps. `None` sets no limit.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// For how many days; at least 1.
    pub days: Option<u32>,
    /// How many; at least 1. Far more than start while nobody looks: a build that is gone before it was seen to end is lost.
    pub builds: Option<u32>,
}

/// What Capomastro wants of a job on Jenkins.
///
/// The job declares parameters, and has one shell step, which checks out the *job type* (a branch with scripts that several
/// dependencies share) and runs one of its scripts, in a container or not. What is not set here is left as it is in a job
/// that is there, and is Jenkins' default in a new one.
///
/// ```
/// use capomastro_jenkins::template::{Container, Isolation, JobTemplate, Parameter};
///
/// # fn main() -> capomastro_core::Result<()> {
/// let template = JobTemplate::new("https://git.example/job-types.git", "library", "build")
///     .isolated(Isolation::Execute(Container::Rootfs("/var/lib/capomastro/bookworm".into())))
///     .parameter(Parameter::choice("FLAVOUR", ["debug", "release"]))
///     .labelled("linux && lxc");
/// let xml = template.config_xml()?;
/// assert!(xml.starts_with("<?xml version='1.1' encoding='UTF-8'?>"));
/// // A job that has it all already is left as it is.
/// assert_eq!(template.merged_into(xml.as_bytes())?.xml, xml);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JobTemplate {
    /// What the job is for.
    pub purpose: Purpose,
    /// The job type's repository: an address that `git clone` takes on the agent, as the default of
    /// [`JOB_TYPE`](names::JOB_TYPE).
    pub repository: String,
    /// The job type's branch, as the default of [`BRANCH`](names::BRANCH).
    pub branch: String,
    /// The path of the script in the job type, as the default of [`SCRIPT`](names::SCRIPT).
    pub script: String,
    /// Where the script runs.
    pub isolation: Isolation,
    /// The parameter in which the launch key travels; [`BUILD_ID`](names::BUILD_ID) unless the job is an old one.
    pub id_parameter: String,
    /// The parameter for the revision that is to be built; [`REVISION`](names::REVISION) unless the job is an old one.
    pub revision_parameter: String,
    /// The parameter for who asked; [`REQUESTER`](names::REQUESTER) unless the job is an old one.
    pub requester_parameter: String,
    /// Further parameters.
    pub parameters: Vec<Parameter>,
    /// Where messages about builds go.
    pub endpoint: Option<Endpoint>,
    /// For people.
    pub description: Option<String>,
    /// How many builds Jenkins keeps.
    pub rotation: Option<Rotation>,
    /// How long a request waits before it starts, in whole seconds, at most a day. A repetition within that time does not
    /// make a second build.
    pub quiet_period: Option<Duration>,
    /// On which agents it runs, as a label expression; not for Pipelines.
    pub label: Option<String>,
    /// Whether several builds may run at the same time.
    pub concurrent: Option<bool>,
    /// What of the workspace is kept, as patterns such as `out/**`, separated by commas; not for Pipelines.
    pub artifacts: Option<String>,
    /// Where in a container the workspace, the job type and the step's own files are mounted: a directory that every root
    /// file system has and that nobody needs, relative to the root. `mnt` unless set.
    pub mounted_at: String,
    /// The `PATH` in a container that is copied; that of one made from a configuration stands in it.
    pub path: String,
    /// What stands before the names of LXC's tools, such as `sudo`, `-n`, where the agent is not root.
    pub through: Vec<String>,
    /// Where LXC keeps containers, if not in its own place: an absolute path.
    pub lxc_path: Option<String>,
    /// How long a script that is stopped may take to end, from SIGTERM to SIGKILL: 1 s to 1 h. 15 s unless set; Jenkins
    /// itself kills the step after two minutes.
    pub grace: Duration,
}

impl JobTemplate {
    /// A job that runs a script of a job type directly on the agent.
    pub fn new(repository: impl Into<String>, branch: impl Into<String>, script: impl Into<String>) -> Self {
        Self {
            purpose: Purpose::Build,
            repository: repository.into(),
            branch: branch.into(),
            script: script.into(),
            isolation: Isolation::Direct,
            id_parameter: names::BUILD_ID.into(),
            revision_parameter: names::REVISION.into(),
            requester_parameter: names::REQUESTER.into(),
            parameters: Vec::new(),
            endpoint: None,
            description: None,
            rotation: None,
            quiet_period: None,
            label: None,
            concurrent: None,
            artifacts: None,
            mounted_at: "mnt".into(),
            path: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into(),
            through: Vec::new(),
            lxc_path: None,
            grace: Duration::from_secs(15),
        }
    }

    /// The same for a job that looks instead of building.
    #[must_use]
    pub const fn for_probes(mut self) -> Self {
        self.purpose = Purpose::Probe;
        self
    }

    /// Where the script runs.
    #[must_use]
    pub fn isolated(mut self, isolation: Isolation) -> Self {
        self.isolation = isolation;
        self
    }

    /// One more parameter.
    #[must_use]
    pub fn parameter(mut self, parameter: Parameter) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// Where messages about builds go.
    #[must_use]
    pub fn notifying(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// What people read about it.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// On which agents it runs, as a label expression.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// How many builds Jenkins keeps.
    #[must_use]
    pub const fn rotating(mut self, rotation: Rotation) -> Self {
        self.rotation = Some(rotation);
        self
    }

    /// How long a request waits before it starts.
    #[must_use]
    pub const fn quiet(mut self, period: Duration) -> Self {
        self.quiet_period = Some(period);
        self
    }

    /// Whether several builds may run at the same time.
    #[must_use]
    pub const fn concurrent(mut self, concurrent: bool) -> Self {
        self.concurrent = Some(concurrent);
        self
    }

    /// What of the workspace is kept.
    #[must_use]
    pub fn keeping(mut self, artifacts: impl Into<String>) -> Self {
        self.artifacts = Some(artifacts.into());
        self
    }

    /// The job's `config.xml` from nothing: a freestyle job, in XML 1.1 as Jenkins writes it. Pure. Send it in UTF-8.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) with what to do where something is not acceptable.
    pub fn config_xml(&self) -> Result<String> {
        self.check()?;
        Ok(render::config_xml(self))
    }

    /// A `config.xml` that is there, brought up to date: what this template sets is set, everything else stays as it is,
    /// byte for byte. Pure; merging into the result changes nothing more. Freestyle jobs (`project`) get all of it,
    /// Pipelines (`flow-definition`) only parameters, messages, description, rotation, quiet period and concurrency: their
    /// steps are their own.
    ///
    /// Of a parameter that is declared twice the first is kept. What this template does not set any more stays, since
    /// nobody can tell it from what people added. A step of ours is known by its second line.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) as [`config_xml`](JobTemplate::config_xml), and for
    /// another kind of job; [`Corrupt`](capomastro_core::ErrorKind::Corrupt) if it is not well-formed XML 1.0 or 1.1 in
    /// UTF-8 of at most 8 MiB, or has a document type.
    pub fn merged_into(&self, config_xml: &[u8]) -> Result<Merged> {
        self.check()?;
        merge::merge(self, config_xml)
    }

    /// The text of the shell step, as for an agent's `/bin/sh`.
    ///
    /// # Errors
    /// As [`config_xml`](JobTemplate::config_xml).
    pub fn shell_step(&self) -> Result<String> {
        self.check()?;
        Ok(step::text(self))
    }

    /// All that the job declares, in order.
    fn declared(&self) -> Vec<Parameter> {
        let own = |name: &str, default: &str, description: &str| {
            Parameter::string(name).default_value(default).described(description)
        };
        let mut all = match self.purpose {
            Purpose::Build => vec![
                own(&self.id_parameter, "", "Set by Capomastro, to find the build again."),
                own(&self.revision_parameter, "", "The revision to build."),
                own(&self.requester_parameter, "", "Who asked for the build."),
                own(names::DEPENDENCY, "", "The dependency that is built."),
            ],
            Purpose::Probe => vec![
                own(names::PROBE_ID, "", "Set by Capomastro, to find the run again."),
                own(names::PROBE_MARK, "", "What stands around the answer."),
                own(names::PROBE_LANGUAGE, "token", "How the script answers: token or changed."),
                own(names::PROBE_SECONDS, "", "After how many seconds the run ends itself."),
                own(names::DEPENDENCY, "", "The dependency that is looked at."),
                own(names::OBSERVED, "", "The revision that was last seen."),
                own(names::ACCOUNTED, "", "The revision that was last settled."),
                own(names::LAST_BUILD, "", "When the last build was started (RFC 3339)."),
                own(names::LAST_BUILD_UNIX, "", "The same in seconds since 1970."),
            ],
        };
        all.extend([
            own(names::JOB_TYPE, &self.repository, "The repository of the job type."),
            own(names::BRANCH, &self.branch, "The branch of the job type."),
            own(
                names::JOB_TYPE_REVISION,
                "",
                "The full commit id of the job type; the tip of its branch if empty.",
            ),
            own(names::SCRIPT, &self.script, "The script of the job type, as a path in it."),
        ]);
        all.extend(self.parameters.iter().cloned());
        all
    }

    fn check(&self) -> Result<()> {
        step::check(self)?;
        let declared = self.declared();
        if declared.len() > MAX_PARAMETERS {
            return Err(Error::config("the template has more than 500 parameters: remove some"));
        }
        let mut known = BTreeSet::new();
        for parameter in &declared {
            parameter.check()?;
            if !known.insert(&parameter.name) {
                let message = "the template declares a parameter twice: remove one or rename it";
                return Err(Error::config(message).with_context("parameter", &parameter.name));
            }
        }
        for (what, text) in [
            ("the description", &self.description),
            ("the label", &self.label),
            ("a pattern", &self.artifacts),
        ] {
            xml::check_text(what, text.as_deref().unwrap_or_default())?;
        }
        match &self.endpoint {
            Some(Endpoint::Url(url)) => {
                let is_http =
                    url::Url::parse(url.expose()).is_ok_and(|u| matches!(u.scheme(), "http" | "https"));
                if !is_http {
                    return Err(Error::config(
                        "the notification endpoint is no http or https address: give the whole address",
                    ));
                }
            }
            Some(Endpoint::Credential(id)) => {
                xml::check_text("the endpoint's credential", id)?;
                if id.is_empty() {
                    return Err(Error::config("the notification endpoint's credential has no id: give it"));
                }
            }
            None => {}
        }
        if self.quiet_period.is_some_and(|p| p.as_secs() > 86_400 || p.subsec_nanos() > 0) {
            return Err(Error::config(
                "the quiet period is not made of whole seconds, at most a day: choose another",
            ));
        }
        if self.rotation.is_some_and(|r| r.days == Some(0) || r.builds == Some(0)) {
            return Err(Error::config("the rotation keeps nothing at all: keep a day or a build at least"));
        }
        Ok(())
    }
}
