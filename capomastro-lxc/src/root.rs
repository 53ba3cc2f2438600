//! What a container sees as its root.

use crate::config::Mount;
use capomastro_core::{Error, ErrorKind, Result};
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

/// What a container sees as its root. It is never written to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Root {
    /// The programs and libraries of this machine (`/usr`, `/bin`, `/sbin`, `/lib*`, `/opt`), read-only, with an `/etc`
    /// that has no secrets and no user's configuration. Nothing else of this machine is seen. What is installed here is
    /// there; what is upgraded here is upgraded there.
    Host,
    /// The folder of a root file system, read-only: one made by `debootstrap`, say. It needs `/bin/sh` and the programs
    /// that commands run.
    Folder(PathBuf),
    /// The folder of a root file system under an overlay that is thrown away when the command has ended, so that the
    /// command may write everywhere. What it writes lies in the runner's state folder meanwhile. Costs some ten
    /// milliseconds more to start.
    Ephemeral(PathBuf),
}

/// The folders that every root has of its own.
const OWN: [&str; 5] = ["proc", "sys", "dev", "tmp", "run"];
/// What is shown of this machine.
const HOST: [&str; 9] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec", "opt"];
/// What is shown of this machine's `/etc`: certificates, names of protocols, where libraries are, what programs mean.
const HOST_ETC: [&str; 12] = [
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "ld.so.cache",
    "localtime",
    "mime.types",
    "pki",
    "protocols",
    "python3",
    "python3.11",
    "services",
    "ssl",
];

const PASSWD: &str =
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnogroup:x:65534:\n";
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n";

/// What a container's root is made of, once it has been put together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Assembled {
    /// The value of `lxc.rootfs.path`.
    pub(crate) rootfs: String,
    pub(crate) read_only: bool,
    pub(crate) mounts: Vec<Mount>,
}

impl Root {
    /// The folder that must be there.
    pub(crate) fn base(&self) -> &Path {
        match self {
            Self::Host => Path::new("/"),
            Self::Folder(path) | Self::Ephemeral(path) => path,
        }
    }

    /// Checks the form of it.
    pub(crate) fn check(&self) -> Result<()> {
        let base = self.base();
        if !is_plain(base) {
            return Err(Error::config(
                "the folder of a container's root is not an absolute path without dots: give one",
            )
            .with_context("root", base.display()));
        }
        if matches!(self, Self::Ephemeral(_))
            && base.as_os_str().as_encoded_bytes().iter().any(|b| b",:\n".contains(b))
        {
            return Err(Error::config(
                "the folder of an ephemeral root contains a comma, a colon or a line break, which overlays cannot \
                 name: give another",
            )
            .with_context("root", base.display()));
        }
        Ok(())
    }

    /// The folders of this machine on which it depends what the root is made of: who adds or removes something there
    /// makes it another one.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        let listed = [self.base().to_owned(), self.base().join("etc")];
        let entries = listed.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        // An empty folder is not mounted.
        let is_empty = |dir: &PathBuf| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
        let empty: Vec<PathBuf> = entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .filter(is_empty)
            .collect();
        listed.into_iter().chain(empty).collect()
    }

    /// Puts the root together below `run`, the folder of one container. `points` are the paths inside at which something
    /// will be mounted; `names` are who is called what.
    pub(crate) fn assemble(
        &self,
        run: &Path,
        points: &[(PathBuf, bool)],
        names: &Names,
    ) -> Result<Assembled> {
        let failed = |e: io::Error| {
            Error::new(
                ErrorKind::Unavailable,
                "the root of a container cannot be put together: see that the state folder is writable and not full, \
                 and that the root's folder is there",
            )
            .with_context("root", self.base().display())
            .with_source(e)
        };
        let own = run.join("root");
        make(&own).map_err(failed)?;
        let (rootfs, mounts) = match self {
            Self::Host => (dir(&own)?, host(&own).map_err(failed)?),
            Self::Folder(base) => (dir(&own)?, folder(base, &own).map_err(failed)?),
            Self::Ephemeral(base) => {
                if base.join("etc").is_dir() {
                    make(&own.join("etc")).map_err(failed)?;
                }
                (format!("overlay:{}:{}", text(base)?, text(&own)?), Vec::new())
            }
        };
        for name in OWN {
            make(&own.join(name)).map_err(failed)?;
        }
        names.write(&own.join("etc")).map_err(failed)?;
        for (point, is_folder) in points {
            point_at(self, &own, point, *is_folder, &mounts)?;
        }
        Ok(Assembled { rootfs, read_only: !matches!(self, Self::Ephemeral(_)), mounts })
    }
}

/// The files of `/etc` that tell names and addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) resolv: String,
    pub(crate) hosts: String,
}

impl Names {
    /// Writes them into the container's own `/etc`, if its root has one.
    fn write(&self, etc: &Path) -> io::Result<()> {
        if !etc.is_dir() {
            return Ok(());
        }
        file(&etc.join("resolv.conf"), &self.resolv)?;
        file(&etc.join("hosts"), &self.hosts)
    }
}

fn host(own: &Path) -> io::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for name in HOST {
        show(&Path::new("/").join(name), &own.join(name), Path::new(name), &mut mounts)?;
    }
    let etc = own.join("etc");
    make(&etc)?;
    file(&etc.join("passwd"), PASSWD)?;
    file(&etc.join("group"), GROUP)?;
    file(&etc.join("nsswitch.conf"), NSSWITCH)?;
    for name in HOST_ETC {
        show(&Path::new("/etc").join(name), &etc.join(name), &Path::new("etc").join(name), &mut mounts)?;
    }
    for name in ["var", "var/tmp", "home", "root"] {
        make(&own.join(name))?;
    }
    Ok(mounts)
}

fn folder(base: &Path, own: &Path) -> io::Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        if OWN.iter().any(|own| name.as_os_str() == *own) {
            continue;
        }
        if name.as_os_str() == "etc" && entry.file_type()?.is_dir() {
            // Entry by entry, so that who is called what can be the container's own.
            let etc = own.join("etc");
            make(&etc)?;
            for inner in fs::read_dir(entry.path())? {
                let inner = inner?;
                let inner_name = inner.file_name();
                if inner_name != "resolv.conf" && inner_name != "hosts" {
                    show(&inner.path(), &etc.join(&inner_name), &name.join(&inner_name), &mut mounts)?;
                }
            }
            continue;
        }
        show(&entry.path(), &own.join(&name), &name, &mut mounts)?;
    }
    Ok(mounts)
}

/// Shows what is at `from` as `to`: a link as a link, an empty folder as an empty folder, the rest by a mount.
fn show(from: &Path, to: &Path, inside: &Path, mounts: &mut Vec<Mount>) -> io::Result<()> {
    let kind = match fs::symlink_metadata(from) {
        Ok(found) => found.file_type(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if kind.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if kind.is_dir() {
        make(to)?;
        if fs::read_dir(from)?.next().is_none() {
            return Ok(());
        }
    } else if kind.is_file() {
        file(to, "")?;
    } else {
        return Ok(());
    }
    mounts.push(Mount::read_only(from, inside, kind.is_dir()));
    Ok(())
}

/// Makes the place at which something is mounted.
fn point_at(root: &Root, own: &Path, point: &Path, is_folder: bool, shown: &[Mount]) -> Result<()> {
    let below: PathBuf = point.components().filter(|c| matches!(c, Component::Normal(_))).collect();
    // In a file system of the container's own, where the place is made as it starts.
    if OWN.iter().any(|name| below.starts_with(name)) {
        return Ok(());
    }
    if let Some(mount) = shown.iter().find(|m| below.starts_with(m.inside()) && below != m.inside()) {
        let rest = below.strip_prefix(mount.inside()).unwrap_or(&below);
        return if mount.from().join(rest).exists() {
            Ok(())
        } else {
            Err(Error::config(
                "a folder cannot be shown inside the container, since its root has no such place: make it there, or \
                 take an ephemeral root",
            )
            .with_context("folder", point.display())
            .with_context("root", root.base().display()))
        };
    }
    let place = own.join(&below);
    let made = if is_folder {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&place)
    } else {
        place
            .parent()
            .map_or(Ok(()), |p| fs::DirBuilder::new().recursive(true).mode(0o755).create(p))
            .and_then(|()| if place.exists() { Ok(()) } else { file(&place, "") })
    };
    made.map_err(|e| {
        Error::new(
            ErrorKind::Unavailable,
            "a place for a mount cannot be made: see that the state folder is writable",
        )
        .with_context("folder", point.display())
        .with_source(e)
    })
}

fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        // Whatever mask this process has.
        _ => fs::set_permissions(path, fs::Permissions::from_mode(0o755)),
    }
}

fn file(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}

fn dir(path: &Path) -> Result<String> {
    Ok(format!("dir:{}", text(path)?))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().filter(|t| !t.contains('\n')).ok_or_else(|| {
        Error::config("a folder's name is not UTF-8 or contains a line break: give another")
            .with_context("folder", path.display())
    })
}

/// Whether a path is absolute and means what it says.
pub(crate) fn is_plain(path: &Path) -> bool {
    path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
}
