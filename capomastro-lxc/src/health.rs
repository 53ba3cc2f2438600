//! What a machine lacks to run containers.

use crate::{
    network::Network,
    root::Root,
    runner::{LxcRunner, blocking},
};
use capomastro_core::{
    ErrorKind, Result,
    command::{Command, CommandRunner as _, Exit},
};
use std::{fmt, fs, path::Path, time::Duration};

/// How long a container may take that does nothing.
const TRIAL: Duration = Duration::from_secs(30);

/// What was found wrong on a machine; nothing, if containers run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong, and what to do about it.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, for people.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl Health {
    /// Whether containers run here.
    pub fn is_well(&self) -> bool {
        self.problems.is_empty()
    }

    fn add(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.problems.push(Problem { what: what.into(), advice: advice.into() });
    }
}

/// One line a problem.
impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_well() {
            return f.write_str("containers run here");
        }
        for (n, problem) in self.problems.iter().enumerate() {
            let end = if n == 0 { "" } else { "\n" };
            write!(f, "{end}{}: {}", problem.what, problem.advice)?;
        }
        Ok(())
    }
}

impl LxcRunner {
    /// What is missing on this machine for containers of this runner; the last proof is one that does nothing. Takes as
    /// long as a container takes to start, 30 s at most. Cancellation: leaves nothing behind.
    ///
    /// # Errors
    /// Only where not even looking is possible: the runtime shuts down.
    pub async fn health(&self) -> Result<Health> {
        let mut health = Health::default();
        match self.process().run(&Command::new(&self.setup().program).arg("--version")).await {
            Ok(output) if output.exit == Exit::Code(0) => {
                let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                let major = version.split('.').next().and_then(|m| m.parse::<u32>().ok());
                if major.is_none_or(|m| m < 5) {
                    let shown: String = version.chars().flat_map(char::escape_debug).take(40).collect();
                    health.add(format!("LXC is too old or unknown ({shown})"), "install LXC 5 or newer");
                }
            }
            Ok(output) => health.add("lxc-execute does not run", output.complaint()),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                health.add("lxc-execute is not installed", "install the package lxc");
            }
            Err(e) => health.add("lxc-execute does not run", e.report()),
        }
        let setup = self.setup().clone();
        let seen = blocking(move || {
            let mut health = Health::default();
            look(&setup.root, &setup.network, setup.ids.is_some(), &mut health);
            Ok(health)
        })
        .await?;
        health.problems.extend(seen.problems);
        if health.is_well() {
            let trial = Command::new("/bin/sh").args(["-c", ":"]).deadline(TRIAL);
            match self.run(&trial).await {
                Ok(output) if output.exit == Exit::Code(0) => {}
                Ok(output) => health.add("a container's shell does not work", output.complaint()),
                Err(e) => health.add(
                    "a container does not start",
                    format!("see what LXC says, and whether this machine is itself a container without rights: {}", e.report()),
                ),
            }
        }
        Ok(health)
    }
}

fn look(root: &Root, network: &Network, has_ids: bool, health: &mut Health) {
    if !rustix::process::geteuid().is_root() && !has_ids {
        health.add(
            "this process is not root and has no map of ids",
            "run it as root, or give the runner a map of ids that /etc/subuid and /etc/subgid grant",
        );
    }
    if !Path::new("/sys/fs/cgroup").read_dir().is_ok_and(|mut d| d.next().is_some()) {
        health.add("there are no control groups", "mount /sys/fs/cgroup");
    }
    let base = root.base();
    let shell = base.join("bin/sh");
    match fs::symlink_metadata(&shell) {
        Ok(_) => {}
        Err(_) if !base.is_dir() => {
            health.add(
                format!("the root's folder {} is not there", base.display()),
                "make it, with debootstrap say",
            );
        }
        Err(_) => health.add(
            format!("the root {} has no /bin/sh", base.display()),
            "give the folder of a whole root file system",
        ),
    }
    if let Network::Bridge { bridge, .. } = network
        && !Path::new("/sys/class/net").join(bridge).join("bridge").is_dir()
    {
        health.add(
            format!("there is no bridge {bridge}"),
            "make it (ip link add … type bridge, or the service lxc-net), or give the runner another",
        );
    }
}
