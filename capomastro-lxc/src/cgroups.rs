//! Control groups of containers: what a killed container leaves behind.

use crate::config::CGROUP;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where control groups are.
const ROOT: &str = "/sys/fs/cgroup";

/// The control groups of the container `name`: those of its processes first, that of its monitor behind.
pub(crate) fn of(name: &str) -> Vec<PathBuf> {
    let payload = format!("lxc.payload.{name}");
    let monitor = format!("lxc.monitor.{name}");
    let mut found = Vec::new();
    for parent in parents() {
        let Ok(entries) = fs::read_dir(parent) else { continue };
        for entry in entries.flatten() {
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            // LXC adds a number where the name is taken.
            let is_of = |own: &String| {
                file.strip_prefix(own.as_str()).is_some_and(|rest| {
                    rest.is_empty()
                        || rest.strip_prefix('-').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
                })
            };
            if is_of(&payload) {
                found.insert(0, entry.path());
            } else if is_of(&monitor) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// The groups below which our containers are: one for each hierarchy.
fn parents() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let mut parents = vec![root.join(CGROUP)];
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        parents.push(entry.path().join(CGROUP));
    }
    // Under version 2 a service may have a subtree of its own.
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    if let Some(path) = own.lines().find_map(|l| l.strip_prefix("0::/")).filter(|p| !p.is_empty()) {
        parents.extend(Path::new(path).ancestors().map(|a| root.join(a).join(CGROUP)));
    }
    parents.retain(|p| p.is_dir());
    parents.sort();
    parents.dedup();
    parents
}

/// Kills what still runs in the groups and removes those that are empty; whether nothing is left.
pub(crate) fn clear(name: &str) -> bool {
    let groups = of(name);
    for group in &groups {
        for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
            if let Some(pid) = pid.parse().ok().and_then(Pid::from_raw)
                && let Err(error) = kill_process(pid, Signal::KILL)
            {
                tracing::debug!(%error, container = name, "a process of a container ended by itself");
            }
        }
    }
    for group in &groups {
        remove(group);
    }
    of(name).is_empty()
}

/// Removes a group and those below it; they hold no files that could be removed.
fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            remove(&entry.path());
        }
    }
    if let Err(error) = fs::remove_dir(group)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(%error, group = %group.display(), "a control group is still in use");
    }
}
