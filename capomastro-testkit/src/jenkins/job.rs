//! Jobs: what a test declares about them, and what the server knows of them.

use super::{
    build::{Build, Youth},
    script::{Run, Script},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

/// Names a job for as long as the server runs, whatever it is called.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct JobId(pub(super) u64);

/// A parameter that a job declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What values it takes.
    pub kind: ParameterKind,
    /// What people are told about it.
    pub description: Option<String>,
}

/// What values a parameter takes, and the one it has when none is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// One line of text.
    String {
        /// The value when none is sent.
        default: String,
        /// Whether surrounding spaces are cut off.
        trim: bool,
    },
    /// Several lines of text.
    Text {
        /// The value when none is sent.
        default: String,
        /// Whether surrounding spaces are cut off.
        trim: bool,
    },
    /// `true`, or anything else for false.
    Boolean {
        /// The value when none is sent.
        default: bool,
    },
    /// One of a list; any other value is answered with 500. The first is the default.
    Choice(Vec<String>),
    /// A secret, which no answer ever shows, and by which two requests never differ.
    Password {
        /// The value when none is sent.
        default: String,
    },
}

impl Parameter {
    fn of(name: impl Into<String>, kind: ParameterKind) -> Self {
        Self { name: name.into(), kind, description: None }
    }

    /// A string, empty by default, not trimmed.
    pub fn string(name: impl Into<String>) -> Self {
        Self::of(name, ParameterKind::String { default: String::new(), trim: false })
    }

    /// A string with a default value, not trimmed.
    pub fn string_or(name: impl Into<String>, default: impl Into<String>) -> Self {
        Self::of(name, ParameterKind::String { default: default.into(), trim: false })
    }

    /// A string with a default value, trimmed.
    pub fn trimmed(name: impl Into<String>, default: impl Into<String>) -> Self {
        Self::of(name, ParameterKind::String { default: default.into(), trim: true })
    }

    /// Text of several lines, empty by default.
    pub fn text(name: impl Into<String>) -> Self {
        Self::of(name, ParameterKind::Text { default: String::new(), trim: false })
    }

    /// True or false.
    pub fn boolean(name: impl Into<String>, default: bool) -> Self {
        Self::of(name, ParameterKind::Boolean { default })
    }

    /// One of several; the first is the default.
    pub fn choice<T: Into<String>>(name: impl Into<String>, choices: impl IntoIterator<Item = T>) -> Self {
        Self::of(name, ParameterKind::Choice(choices.into_iter().map(Into::into).collect()))
    }

    /// A secret.
    pub fn password(name: impl Into<String>) -> Self {
        Self::of(name, ParameterKind::Password { default: String::new() })
    }

    /// This parameter with a description.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }
}

/// Whether a job is a freestyle project or a Pipeline.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum JobKind {
    /// Builds hold an executor, and do not outlive the server's process.
    #[default]
    Freestyle,
    /// Builds hold no executor of the node, go on after a restart, and know `term` and `kill`. Not seen live.
    Pipeline,
    /// Holds other jobs. Not seen live.
    Folder,
}

/// How a job's builds come about: by one script for all, or by asking a function for each.
#[derive(Clone)]
pub(super) enum Scripted {
    Same(Arc<Script>),
    Each(Arc<dyn Fn(&Run) -> Script + Send + Sync>),
}

impl Scripted {
    pub(super) fn of(&self, run: &Run) -> Arc<Script> {
        match self {
            Self::Same(script) => Arc::clone(script),
            Self::Each(make) => Arc::new(make(run)),
        }
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(script) => script.fmt(f),
            Self::Each(_) => f.write_str("Each(…)"),
        }
    }
}

/// What a test declares about a job.
#[derive(Clone, Debug)]
pub struct JobSpec {
    /// Path of names from the root, divided by `/`; folders on the way are made.
    pub(super) full_name: String,
    pub(super) kind: JobKind,
    pub(super) settings: Settings,
}

/// What can be changed about a job after it was made.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) description: String,
    pub(super) parameters: Vec<Parameter>,
    pub(super) concurrent: bool,
    pub(super) disabled: bool,
    /// A copy that nobody has saved yet cannot be built.
    pub(super) held: bool,
    pub(super) quiet_period: Option<Duration>,
    pub(super) label: Option<String>,
    pub(super) keep_builds: Option<usize>,
    /// A queue decision handler refuses every request.
    pub(super) refuses: bool,
    pub(super) auth_token: Option<String>,
    pub(super) youth: Youth,
    pub(super) scripted: Scripted,
    pub(super) notify: Vec<super::notify::Endpoint>,
    /// The configuration as it was posted, if it was.
    pub(super) xml: Option<String>,
}

impl JobSpec {
    fn of(full_name: impl Into<String>, kind: JobKind) -> Self {
        Self {
            full_name: full_name.into(),
            kind,
            settings: Settings {
                description: String::new(),
                parameters: Vec::new(),
                concurrent: true,
                disabled: false,
                held: false,
                quiet_period: None,
                label: None,
                keep_builds: None,
                refuses: false,
                auth_token: None,
                youth: Youth::default(),
                scripted: Scripted::Same(Arc::new(Script::default())),
                notify: Vec::new(),
                xml: None,
            },
        }
    }

    /// A freestyle job. Names of folders come before its own, divided by `/`.
    ///
    /// Its builds succeed at once, and several may run at a time, unless told otherwise.
    pub fn freestyle(full_name: impl Into<String>) -> Self {
        Self::of(full_name, JobKind::Freestyle)
    }

    /// A Pipeline job.
    pub fn pipeline(full_name: impl Into<String>) -> Self {
        Self::of(full_name, JobKind::Pipeline)
    }

    /// A folder.
    pub fn folder(full_name: impl Into<String>) -> Self {
        Self::of(full_name, JobKind::Folder)
    }

    /// Declares one more parameter.
    #[must_use]
    pub fn parameter(mut self, parameter: Parameter) -> Self {
        self.settings.parameters.push(parameter);
        self
    }

    /// Declares a string parameter, empty by default.
    #[must_use]
    pub fn string(self, name: impl Into<String>) -> Self {
        self.parameter(Parameter::string(name))
    }

    /// Describes the job.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.settings.description = description.into();
        self
    }

    /// Whether several of its builds may run at a time; true unless told otherwise.
    #[must_use]
    pub fn concurrent(mut self, concurrent: bool) -> Self {
        self.settings.concurrent = concurrent;
        self
    }

    /// Disables the job.
    #[must_use]
    pub fn disabled(mut self) -> Self {
        self.settings.disabled = true;
        self
    }

    /// How long its items wait when a request does not say; the server's own when never set.
    #[must_use]
    pub fn quiet_period(mut self, quiet_period: Duration) -> Self {
        self.settings.quiet_period = Some(quiet_period);
        self
    }

    /// A label of nodes; where no node has it the job's items are buildable and stuck.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.settings.label = Some(label.into());
        self
    }

    /// How many finished builds are kept; the oldest go when a later one ends.
    #[must_use]
    pub fn keep_builds(mut self, count: usize) -> Self {
        self.settings.keep_builds = Some(count);
        self
    }

    /// Every request to build it is refused by a queue decision handler.
    #[must_use]
    pub fn refusing(mut self) -> Self {
        self.settings.refuses = true;
        self
    }

    /// Lets whoever knows this token trigger it, even by GET.
    #[must_use]
    pub fn auth_token(mut self, token: impl Into<String>) -> Self {
        self.settings.auth_token = Some(token.into());
        self
    }

    /// How long its builds are seen half-made at their start.
    #[must_use]
    pub fn youth(mut self, youth: Youth) -> Self {
        self.settings.youth = youth;
        self
    }

    /// What its builds do.
    #[must_use]
    pub fn runs(mut self, script: Script) -> Self {
        self.settings.scripted = Scripted::Same(Arc::new(script));
        self
    }

    /// What its builds do, asked anew for each that starts.
    #[must_use]
    pub fn runs_with(mut self, script: impl Fn(&Run) -> Script + Send + Sync + 'static) -> Self {
        self.settings.scripted = Scripted::Each(Arc::new(script));
        self
    }

    /// Sends messages about its builds, as the Notification plugin does.
    #[must_use]
    pub fn notifies(mut self, endpoint: super::notify::Endpoint) -> Self {
        self.settings.notify.push(endpoint);
        self
    }
}

/// A job as the server has it.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) full_name: String,
    pub(super) kind: JobKind,
    pub(super) settings: Settings,
    pub(super) builds: BTreeMap<u32, Build>,
    pub(super) next_number: u32,
    /// Items of this job that have not left the queue.
    pub(super) queued: BTreeSet<u64>,
    /// Builds that hold an executor.
    pub(super) running: BTreeSet<u32>,
    /// How long its last successful builds took, newest last, at most three.
    pub(super) took: Vec<u64>,
}

impl Job {
    pub(super) fn new(full_name: String, kind: JobKind, settings: Settings) -> Self {
        Self {
            full_name,
            kind,
            settings,
            builds: BTreeMap::new(),
            next_number: 1,
            queued: BTreeSet::new(),
            running: BTreeSet::new(),
            took: Vec::new(),
        }
    }

    /// The last part of its name.
    pub(super) fn name(&self) -> &str {
        self.full_name.rsplit('/').next().unwrap_or_default()
    }

    pub(super) fn buildable(&self) -> bool {
        self.kind != JobKind::Folder && !self.settings.disabled && !self.settings.held
    }

    pub(super) fn class(&self) -> &'static str {
        match self.kind {
            JobKind::Freestyle => "hudson.model.FreeStyleProject",
            JobKind::Pipeline => "org.jenkinsci.plugins.workflow.job.WorkflowJob",
            JobKind::Folder => "com.cloudbees.hudson.plugins.folder.Folder",
        }
    }

    pub(super) fn build_class(&self) -> &'static str {
        match self.kind {
            JobKind::Pipeline => "org.jenkinsci.plugins.workflow.job.WorkflowRun",
            JobKind::Freestyle | JobKind::Folder => "hudson.model.FreeStyleBuild",
        }
    }

    /// The mean of its last successful builds.
    pub(super) fn estimate(&self) -> Option<u64> {
        let count = u64::try_from(self.took.len()).unwrap_or(1);
        (!self.took.is_empty()).then(|| self.took.iter().sum::<u64>() / count.max(1))
    }
}
