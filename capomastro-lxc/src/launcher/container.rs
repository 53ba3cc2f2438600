//! The container of one build.

use super::job::{LxcJob, Policy};
use crate::{
    builder::LxcRunnerBuilder,
    cgroups,
    config::{Container, IdMap, Machine, Mount, User},
    network::Link,
    root::{Names, Root},
    runner::rest,
    state::on_disk,
};
use capomastro_core::{Error, ErrorKind, Result, model::LaunchKey};
use capomastro_process::{CommandJob, Enclosure, Left, STOP_PIPE, Site};
use rustix::{
    fs::{CWD, Gid, Mode, OFlags, Uid, chown, mkfifoat},
    io::Errno,
};
use serde_json::Value;
use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// What runs first inside.
const ENTER: &str = include_str!("../shell/enter.sh");
/// What the names of variables begin with on their way in.
const CARRIED: &str = "CAPOMASTRO_IN_";
/// The folder, in a build's own, of what its container is made of.
const OWN: &str = "enclosure";
/// Where programs of this machine are.
const PROGRAMS: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin";
/// The folder, in a build's own, of what it says, and the file there that tells how it ended.
const SAYS: &str = "says";
const END: &str = "end";
/// How often, ten milliseconds apart, it is tried to remove what is left of a container.
const TRIES: usize = 500;

/// Containers for builds, like those of a runner.
#[derive(Debug)]
pub(crate) struct Containers {
    setup: LxcRunnerBuilder,
    policy: Policy,
}

impl Containers {
    pub(crate) const fn new(setup: LxcRunnerBuilder, policy: Policy) -> Self {
        Self { setup, policy }
    }

    /// The name of a build's container. With the folder's own number: a key is unique among the builds of one scheduler,
    /// and a copy of its store may be at work beside it.
    fn name(key: LaunchKey, folder: &Path) -> Result<String> {
        let found = fs::metadata(folder).map_err(|e| on_disk(folder, e))?;
        Ok(format!("capo-{key}-{:x}", found.ino()))
    }

    /// The folders and files that a job has shown, as they really are and as they are called inside.
    fn shown(&self, job: &LxcJob) -> Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        let wanted = job.container.reads.iter().map(|p| (p, false));
        for (path, written) in wanted.chain(job.container.writes.iter().map(|p| (p, true))) {
            let real = fs::canonicalize(path).map_err(|e| {
                Error::config("a folder that the job has shown does not exist: create it")
                    .with_context("folder", path.display())
                    .with_source(e)
            })?;
            let is_allowed = |below: &PathBuf| fs::canonicalize(below).is_ok_and(|b| real.starts_with(b));
            let reads: &[PathBuf] = if written { &[] } else { &self.policy.reads };
            if !self.policy.writes.iter().chain(reads).any(is_allowed) {
                return Err(Error::config(
                    "a folder that the job has shown leads, by a symbolic link, to one that the launcher does not \
                     allow: name one that is allowed",
                )
                .with_context("folder", path.display()));
            }
            let mount = Mount::read_only(&real, path, real.is_dir());
            mounts.push(if written { mount.writable() } else { mount });
        }
        Ok(mounts)
    }

    /// Gives a folder of the build to whoever runs inside.
    fn hand_over(&self, folder: &Path) -> Result<()> {
        let User { uid, gid } = self.setup.user.unwrap_or(User { uid: 0, gid: 0 });
        let first = self.setup.ids.map_or(0, |IdMap { first, .. }| first);
        if (uid, gid, first) == (0, 0, 0) {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(first + uid), Gid::from_raw(first + gid));
        chown(folder, Some(uid), Some(gid)).map_err(|e| on_disk(folder, e.into()))
    }
}

impl Enclosure for Containers {
    fn job(&self, job: &Value) -> Result<CommandJob> {
        let job = LxcJob::parse(job)?;
        self.policy.check(&job.container)?;
        Ok(job.command)
    }

    fn carrier(&self, name: &str) -> String {
        format!("{CARRIED}{name}")
    }

    fn enclose(&self, site: &Site<'_>) -> Result<Vec<OsString>> {
        let job = LxcJob::parse(site.job)?;
        let root = job.container.root.as_ref().and_then(|name| self.policy.roots.get(name));
        let root = root.unwrap_or(&self.setup.root);
        let program = program(&self.setup.program)?;

        let own = site.folder.join(OWN);
        for folder in [own.clone(), own.join("lxc")] {
            fs::DirBuilder::new().mode(0o711).create(&folder).map_err(|e| on_disk(&folder, e))?;
        }
        let pipe = site.folder.join(STOP_PIPE);
        mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH)
            .map_err(|e| on_disk(&pipe, e.into()))?;

        let [dir, _, says] = site.shared;
        let end = says.join(END);
        fs::File::create_new(&end).map_err(|e| on_disk(&end, e))?;
        self.hand_over(&pipe)?;
        self.hand_over(&end)?;

        let mut mounts = self.setup.mounts.clone();
        let mut ours = self.shown(&job)?;
        for folder in site.shared {
            // The working directory, where the job names one, is in what it has shown.
            if !folder.starts_with(site.folder) {
                continue;
            }
            self.hand_over(folder)?;
            ours.push(Mount::read_only(folder, folder, true).writable());
        }
        ours.push(Mount::read_only(&pipe, &pipe, false));
        // What is shown of a folder is on top of it.
        ours.sort_by_key(|mount| mount.inside().components().count());
        mounts.extend(ours);
        if let Some(program) = site.argv.first()
            && lacks(root, &mounts, program, site.path)
        {
            return Err(Error::new(
                ErrorKind::NotFound,
                "the job's program does not exist in its container's root: install it there, or add its folder to \
                 the job's PATH",
            )
            .with_context("program", program.to_string_lossy().escape_debug())
            .with_context("root", root.base().display()));
        }

        let link = Link::take(&self.setup.network, &self.setup.state)?;
        let points: Vec<(PathBuf, bool)> =
            mounts.iter().map(|m| (m.inside().to_owned(), m.is_folder())).collect();
        let names = Names { resolv: self.setup.network.resolv(), hosts: self.setup.network.hosts() };
        let assembled = root.assemble(&own, &points, &names)?;
        let mut text = Container {
            root: &assembled,
            mounts: &mounts,
            link: link.as_ref(),
            limits: &self.policy.limits(&job.container)?,
            user: self.setup.user,
            ids: self.setup.ids,
            machine: Machine::look(),
        }
        .text()?;
        for name in site.variables {
            // Its value is in the environment of the process that reads this.
            text.push_str(&format!("lxc.environment = {CARRIED}{name}\n"));
        }
        let config = own.join("config");
        fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&config)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|e| on_disk(&config, e))?;
        let name = Self::name(site.key, site.folder)?;
        if let Some(link) = link {
            link.lend(&site.folder.join("lock"), &name)?;
        }

        let mut argv: Vec<OsString> = vec![program.into(), "-n".into(), name.into(), "-P".into()];
        argv.extend([own.join("lxc").into(), "-f".into(), config.into(), "--".into()]);
        argv.extend(["/bin/sh", "-c", ENTER, "capomastro"].map(OsString::from));
        argv.extend([end, pipe, dir.to_owned()].map(OsString::from));
        argv.extend(site.variables.iter().map(OsString::from));
        argv.push("--".into());
        argv.extend_from_slice(site.argv);
        Ok(argv)
    }

    fn leave(&self, key: LaunchKey, folder: &Path) -> Result<Left> {
        let name = Self::name(key, folder)?;
        let is_gone = (0..TRIES).any(|_| {
            let is_gone = cgroups::clear(&name);
            if !is_gone {
                rest();
            }
            is_gone
        });
        if !is_gone {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the container of a build that has ended does not go away: see what its processes wait for",
            )
            .with_context("container", name));
        }
        remove(&folder.join(OWN))?;
        left(&folder.join(SAYS).join(END))
    }
}

/// What the first process inside wrote. A build can have put something else in its place, and then has begun.
fn left(file: &Path) -> Result<Left> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match rustix::fs::open(file, flags, Mode::empty()) {
        Ok(opened) => fs::File::from(opened),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(judge(None)),
        Err(e) => return Err(on_disk(file, e.into())),
    };
    if !opened.metadata().map_err(|e| on_disk(file, e))?.is_file() {
        return Ok(judge(None));
    }
    let mut text = Vec::new();
    opened.take(4 * 1024).read_to_end(&mut text).map_err(|e| on_disk(file, e))?;
    Ok(judge(Some(&String::from_utf8_lossy(&text))))
}

/// What the content of the file says, which a build can have changed.
fn judge(text: Option<&str>) -> Left {
    if text == Some("") {
        return Left::NeverBegan(
            "its container could not be set up: its log ends with what LXC says; see what the launcher's health check \
             finds"
                .into(),
        );
    }
    let last = text.and_then(|text| text.lines().last()?.strip_prefix("end ")?.parse::<u8>().ok());
    last.map_or_else(
        || {
            Left::Cut(
                "its container was ended before the build could tell its status: by somebody outside, by the build \
                 itself, or for want of memory"
                    .into(),
            )
        },
        |code| Left::Ended(code.into()),
    )
}

/// The file of a program of this machine.
fn program(name: &OsStr) -> Result<PathBuf> {
    let candidates: Vec<PathBuf> = if name.as_encoded_bytes().contains(&b'/') {
        vec![name.into()]
    } else {
        std::env::split_paths(PROGRAMS).map(|dir| dir.join(name)).collect()
    };
    candidates.into_iter().find(|file| file.is_absolute() && file.is_file()).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "LXC is not installed: install the package lxc")
            .with_context("program", name.to_string_lossy().escape_debug())
    })
}

/// Whether a program is certainly not there inside. What is not certain is left to the build to find out.
fn lacks(root: &Root, mounts: &[Mount], program: &OsStr, path: &str) -> bool {
    let is_there = |file: &Path| {
        let inside = file.strip_prefix("/").unwrap_or(file);
        mounts.iter().any(|mount| inside.starts_with(mount.inside()))
            || fs::symlink_metadata(root.base().join(inside)).is_ok()
    };
    let name = Path::new(program);
    if program.as_encoded_bytes().contains(&b'/') {
        return name.is_absolute() && !is_there(name) && !name.starts_with("/tmp");
    }
    !std::env::split_paths(path).any(|dir| dir.is_absolute() && is_there(&dir.join(name)))
}

/// Removes what a container was made of.
fn remove(own: &Path) -> Result<()> {
    // What is shown in a container must never be taken for its folder's own.
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|e| on_disk(own, e))?;
    let is_mounted = own.to_str().is_none_or(|own| mounts.contains(&format!(" {own}/")));
    if is_mounted {
        return Err(Error::new(
            ErrorKind::Unavailable,
            "the folder of a build's container has mounts: see who made them, and unmount them",
        )
        .with_context("folder", own.display()));
    }
    match fs::remove_dir_all(own) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(on_disk(own, e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_inside_is_judged_whatever_a_build_wrote() {
        for (text, left) in [
            (Some("begun\nend 0\n"), Some(0)),
            (Some("begun\nend 137\n"), Some(137)),
            (Some("begun\nend 255\n"), Some(255)),
            (Some("nonsense\nend 3"), Some(3)),
            (Some("begun\n"), None),
            (Some("begun\nend 256\n"), None),
            (Some("begun\nend -1\n"), None),
            (Some("begun\nend 0\nx"), None),
            (None, None),
        ] {
            match (judge(text), left) {
                (Left::Ended(code), Some(expected)) => assert_eq!(code, expected, "{text:?}"),
                (Left::Cut(_), None) => {}
                (other, _) => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(matches!(judge(Some("")), Left::NeverBegan(_)));
    }

    #[test]
    fn a_program_is_missed_only_where_it_cannot_be() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("bin")).unwrap();
        fs::write(root.path().join("bin/tool"), "").unwrap();
        let base = Root::Folder(root.path().into());
        let mounts = [Mount::read_only(Path::new("/srv/x"), Path::new("/opt/x"), true)];
        for (program, path, missed) in [
            ("tool", "/usr/bin:/bin", false),
            ("tool", "/usr/bin", true),
            ("tool", "bin", true),
            ("tool", "/opt/x/bin", false),
            ("/bin/tool", "", false),
            ("/bin/other", "", true),
            ("/opt/x/other", "", false),
            ("./other", "", false),
            ("/tmp/other", "", false),
        ] {
            assert_eq!(lacks(&base, &mounts, OsStr::new(program), path), missed, "{program} in {path:?}");
        }
    }
}
