//! The configuration of a container, as the file that LXC reads.

use crate::{builder::Limits, network::Link, root::Assembled};
use capomastro_core::{Error, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Something of this machine that is shown inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    from: PathBuf,
    /// Relative to the root.
    inside: PathBuf,
    is_folder: bool,
    writable: bool,
}

impl Mount {
    pub(crate) fn read_only(from: &Path, inside: &Path, is_folder: bool) -> Self {
        let inside = inside.strip_prefix("/").unwrap_or(inside).to_owned();
        Self { from: from.to_owned(), inside, is_folder, writable: false }
    }

    pub(crate) const fn writable(mut self) -> Self {
        self.writable = true;
        self
    }

    pub(crate) fn from(&self) -> &Path {
        &self.from
    }

    pub(crate) fn inside(&self) -> &Path {
        &self.inside
    }

    pub(crate) const fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// In the form of `fstab`.
    fn line(&self) -> Result<String> {
        let create = if self.is_folder { "dir" } else { "file" };
        let access = if self.writable { "rw" } else { "ro" };
        Ok(format!(
            "{} {} none bind,{access},nosuid,nodev,create={create} 0 0",
            escaped(&self.from)?,
            escaped(&self.inside)?
        ))
    }
}

/// A path as a field of `fstab`: what `getmntent` takes back.
fn escaped(path: &Path) -> Result<String> {
    let text = path.to_str().ok_or_else(|| {
        Error::config("a folder that is to be shown inside a container is not UTF-8: give another")
            .with_context("folder", path.display())
    })?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' ' | '\t' | '\n' | '\\' => out.push_str(&format!("\\{:03o}", u32::from(c))),
            c => out.push(c),
        }
    }
    Ok(out)
}

/// Who runs inside, as seen inside.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Ids inside that are other ids outside.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct IdMap {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// What this machine has, as far as the configuration depends on it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) apparmor: bool,
    /// Whether the list of system calls that LXC brings is there.
    pub(crate) seccomp: bool,
}

impl Machine {
    /// Asks the machine.
    pub(crate) fn look() -> Self {
        let apparmor = fs::read("/sys/module/apparmor/parameters/enabled");
        Self { apparmor: apparmor.is_ok_and(|b| b.starts_with(b"Y")), seccomp: Path::new(SECCOMP).is_file() }
    }
}

/// Where the lists of system calls are.
pub(crate) const SECCOMP: &str = "/usr/share/lxc/config/common.seccomp";
/// Below which control group all our containers are.
pub(crate) const CGROUP: &str = "capomastro";
/// What a process inside may do beyond its own: own and change files of the container's users, and kill them.
const CAPABILITIES: &str = "chown dac_override fowner fsetid kill setgid setuid";

/// One container.
#[derive(Debug)]
pub(crate) struct Container<'a> {
    pub(crate) root: &'a Assembled,
    pub(crate) mounts: &'a [Mount],
    pub(crate) link: Option<&'a Link>,
    pub(crate) limits: &'a Limits,
    pub(crate) user: Option<User>,
    pub(crate) ids: Option<IdMap>,
    pub(crate) machine: Machine,
}

impl Container<'_> {
    /// The text of the file.
    pub(crate) fn text(&self) -> Result<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut set = |key: &str, value: &str| lines.push(format!("{key} = {value}"));
        set("lxc.rootfs.path", &self.root.rootfs);
        if self.root.read_only {
            set("lxc.rootfs.options", "ro");
        }
        set("lxc.uts.name", "capomastro");
        set("lxc.autodev", "1");
        set("lxc.tty.max", "0");
        set("lxc.mount.auto", "proc:mixed sys:ro");
        set("lxc.no_new_privs", "1");
        set("lxc.cap.keep", CAPABILITIES);
        set("lxc.cgroup.dir", CGROUP);
        if !self.machine.apparmor {
            set("lxc.apparmor.profile", "unconfined");
        }
        if self.machine.seccomp {
            set("lxc.seccomp.profile", SECCOMP);
        }
        if let Some(IdMap { first, count }) = self.ids {
            set("lxc.idmap", &format!("u 0 {first} {count}"));
            set("lxc.idmap", &format!("g 0 {first} {count}"));
        }
        if let Some(User { uid, gid }) = self.user {
            set("lxc.init.uid", &uid.to_string());
            set("lxc.init.gid", &gid.to_string());
        }
        match self.link {
            None => set("lxc.net.0.type", "empty"),
            Some(link) => {
                for (key, value) in link.settings() {
                    set(&format!("lxc.net.0.{key}"), &value);
                }
            }
        }
        let Limits { memory, processes, open_files, scratch } = self.limits;
        // For either version of control groups; what belongs to the other one is ignored.
        if let Some(bytes) = memory {
            set("lxc.cgroup2.memory.max", &bytes.to_string());
            set("lxc.cgroup.memory.limit_in_bytes", &bytes.to_string());
        }
        set("lxc.cgroup2.pids.max", &processes.to_string());
        set("lxc.cgroup.pids.max", &processes.to_string());
        set("lxc.prlimit.nofile", &open_files.to_string());
        set("lxc.prlimit.core", "0");
        for mount in &self.root.mounts {
            set("lxc.mount.entry", &mount.line()?);
        }
        for (place, size) in [("tmp", *scratch), ("run", 16 << 20), ("dev/shm", *scratch)] {
            let text = format!("tmpfs {place} tmpfs rw,nosuid,nodev,size={size},mode=1777,create=dir 0 0");
            set("lxc.mount.entry", &text);
        }
        // Behind the others, so that what is shown of /tmp is on top of it.
        for mount in self.mounts {
            set("lxc.mount.entry", &mount.line()?);
        }
        Ok(lines.join("\n") + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_field_and_one_line() {
        for (path, line) in [
            ("/a", "/a a none bind,ro,nosuid,nodev,create=dir 0 0"),
            ("/a b", "/a\\040b a\\040b none bind,ro,nosuid,nodev,create=dir 0 0"),
            (
                "/a\nlxc.cap.keep = all",
                "/a\\012lxc.cap.keep\\040=\\040all a\\012lxc.cap.keep\\040=\\040all none \
              bind,ro,nosuid,nodev,create=dir 0 0",
            ),
            ("/a\\040b#", "/a\\134040b# a\\134040b# none bind,ro,nosuid,nodev,create=dir 0 0"),
        ] {
            let path = Path::new(path);
            assert_eq!(Mount::read_only(path, path, true).line().unwrap(), line);
        }
    }
}
