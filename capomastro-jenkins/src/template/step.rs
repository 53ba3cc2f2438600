//! The shell step: what it is told, and its text.

use super::{
    JobTemplate,
    names::{self, check_variable},
    xml::check_text,
};
use capomastro_core::{Error, Result};
use std::fmt::Write as _;

/// The line by which a step of ours is known in a job that people have edited.
pub(super) const MARK: &str = "# Made by Capomastro:";

/// The same for every job.
const BODY: &str = include_str!("step.sh");

/// What a job is for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// To build: the script's status is the build's.
    #[default]
    Build,
    /// To look: what the script prints, or its status, is the answer that a probe reads.
    Probe,
}

/// Where a job's script runs.
///
/// The script always comes from the job type, in a working directory that is the job's workspace, with nothing on its
/// standard input. In a container the workspace is mounted for writing, the job type for reading only, and the job's
/// parameters and a few of Jenkins' own variables (`BUILD_NUMBER`, `BUILD_TAG`, `BUILD_URL`, `JOB_NAME`, `NODE_NAME`) are
/// handed in; nothing else of the environment is. The container's name holds the id that travels with the build, and is
/// taken down when the step ends, is stopped or is killed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isolation {
    /// On the agent itself.
    Direct,
    /// In an LXC container (`lxc-execute`) that exists only for it.
    Execute(Container),
    /// In a copy of an LXC container that is there and stopped (`lxc-copy --ephemeral`, its changes on an overlay).
    Copy {
        /// The container's name.
        base: String,
    },
}

/// What an LXC container is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Container {
    /// What a configuration file on the agent says: an absolute path. It has a root file system, no network unless it says
    /// so, and a directory to mount in; see [`JobTemplate::mounted_at`].
    Config(String),
    /// A root file system on the agent: an absolute path to a directory. It is mounted read-only, with an empty `/tmp` of
    /// 1 GiB at most, and has no network.
    Rootfs(String),
}

/// The text of the step. All that people or sources say reaches it as variables of its environment; what stands in it is
/// only what the template says, quoted.
pub(super) fn text(template: &JobTemplate) -> String {
    let (isolation, container) = match &template.isolation {
        Isolation::Direct => ("direct", String::new()),
        Isolation::Execute(container) => ("execute", lines_of(container)),
        Isolation::Copy { base } => ("copy", base.clone()),
    };
    let purpose = match template.purpose {
        Purpose::Build => "build",
        Purpose::Probe => "probe",
    };
    let declared = template.declared();
    let mut variables: Vec<&str> = declared.iter().map(|p| p.name.as_str()).collect();
    variables.extend(["BUILD_NUMBER", "BUILD_TAG", "BUILD_URL", "JOB_NAME", "NODE_NAME"]);
    variables.dedup();
    let mut text = format!(
        "#!/bin/sh\n{MARK} this step is rewritten when the job is pushed. Put steps of your own before or after it.\n"
    );
    for (name, value) in [
        ("purpose", purpose),
        ("isolation", isolation),
        ("container", &container),
        ("through", &template.through.join(" ")),
        ("lxcpath", template.lxc_path.as_deref().unwrap_or_default()),
        ("mount", &template.mounted_at),
        ("path", &template.path),
        ("grace", &template.grace.as_secs().to_string()),
        ("variables", &variables.join(" ")),
    ] {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "capo_{name}={}", quoted(value));
    }
    let of_probe = |name| if template.purpose == Purpose::Probe { name } else { "" };
    let id = if template.purpose == Purpose::Probe { names::PROBE_ID } else { &template.id_parameter };
    for (name, variable) in [
        ("repository", names::JOB_TYPE),
        ("branch", names::BRANCH),
        ("revision", names::JOB_TYPE_REVISION),
        ("script", names::SCRIPT),
        ("id", id),
        ("mark", of_probe(names::PROBE_MARK)),
        ("language", of_probe(names::PROBE_LANGUAGE)),
        ("seconds", of_probe(names::PROBE_SECONDS)),
    ] {
        let _ = match variable {
            "" => writeln!(text, "capo_{name}=''"),
            variable => writeln!(text, "capo_{name}=${{{variable}-}}"),
        };
    }
    text.push_str(BODY);
    text
}

/// What the container is made of, as lines of an LXC configuration.
fn lines_of(container: &Container) -> String {
    match container {
        Container::Config(path) => format!("lxc.include = {path}"),
        Container::Rootfs(path) => [
            &format!("lxc.rootfs.path = dir:{path}"),
            "lxc.rootfs.options = ro",
            "lxc.autodev = 1",
            "lxc.net.0.type = empty",
            "lxc.mount.auto = proc:mixed sys:ro",
            "lxc.mount.entry = tmpfs tmp tmpfs rw,nosuid,nodev,mode=1777,size=1g 0 0",
        ]
        .join("\n"),
    }
}

/// A word that a shell reads back as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

pub(super) fn check(template: &JobTemplate) -> Result<()> {
    match &template.isolation {
        Isolation::Direct => {}
        Isolation::Execute(Container::Config(path) | Container::Rootfs(path)) => absolute("container", path)?,
        Isolation::Copy { base } => {
            if base.is_empty()
                || base.len() > 63
                || !base.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            {
                return Err(config("the container to copy has a name that LXC does not take", base));
            }
        }
    }
    if let Some(path) = &template.lxc_path {
        absolute("LXC path", path)?;
    }
    let is_plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./=".contains(&b))
    };
    for word in &template.through {
        if !is_plain(word) {
            return Err(config(
                "a word before the LXC tools is not made of letters, digits and -_./= only",
                word,
            ));
        }
    }
    let mounted = &template.mounted_at;
    if !is_plain(mounted) || mounted.split('/').any(|s| matches!(s, "" | "." | "..")) {
        return Err(config("the place to mount is not a relative path such as mnt", mounted));
    }
    if template.path.is_empty() || template.path.contains(char::is_control) {
        return Err(config("the PATH for containers is no list of directories", &template.path));
    }
    if !(1..=3_600).contains(&template.grace.as_secs()) {
        return Err(Error::config("the grace of a step is not 1 s to 1 h: choose a time between"));
    }
    check_variable(&template.id_parameter)
}

fn absolute(what: &str, path: &str) -> Result<()> {
    check_text("a path", path)?;
    let is_plain = path.starts_with('/') && path.trim() == path && !path.contains(char::is_control);
    if is_plain {
        return Ok(());
    }
    Err(config(&format!("the {what} is not an absolute path on one line"), path))
}

fn config(message: &str, given: &str) -> Error {
    Error::config(format!("{message}: choose another")).with_context("given", given.escape_debug())
}
