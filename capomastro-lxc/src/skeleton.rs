//! Roots that containers share which run one after the other, or beside one another. Nobody writes to them; to make one for
//! each container, and above all to remove it, would take longer than the container itself.

use crate::{
    root::{Assembled, Names, Root},
    state::{Run, on_disk},
};
use capomastro_core::Result;
use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// How many are kept; one for each set of folders that commands have shown.
const KEPT: usize = 16;

/// The roots of one runner.
#[derive(Debug)]
pub(crate) struct Skeletons {
    /// Where they are, and what their names begin with.
    folder: PathBuf,
    prefix: String,
    made: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    count: u64,
    /// The one that was used last is last.
    kept: Vec<Skeleton>,
}

#[derive(Debug)]
struct Skeleton {
    run: Run,
    points: Vec<(PathBuf, bool)>,
    seen: Vec<(PathBuf, Option<SystemTime>)>,
    root: Arc<Assembled>,
}

impl Skeletons {
    pub(crate) const fn new(folder: PathBuf, prefix: String) -> Self {
        Self { folder, prefix, made: Mutex::new(Made { count: 0, kept: Vec::new() }) }
    }

    /// A root with these places for mounts, which stays as long as somebody has it.
    pub(crate) fn root(
        &self,
        root: &Root,
        points: &[(PathBuf, bool)],
        names: &Names,
    ) -> Result<Arc<Assembled>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |s: &Skeleton| s.points == points && s.seen.iter().all(|(path, at)| changed(path) == *at);
        if let Some(at) = made.kept.iter().position(fits) {
            let skeleton = made.kept.remove(at);
            let root = Arc::clone(&skeleton.root);
            made.kept.push(skeleton);
            return Ok(root);
        }
        // First what it is like, then the root: what changes meanwhile is seen the next time.
        let seen =
            root.watched().into_iter().map(|path| (changed(&path), path)).map(|(at, p)| (p, at)).collect();
        let name = format!("{}{}", self.prefix, made.count);
        made.count += 1;
        let run = Run { folder: self.folder.join(&name), name };
        fs::DirBuilder::new().mode(0o711).create(&run.folder).map_err(|e| on_disk(&run.folder, e))?;
        let assembled = match root.assemble(&run.folder, points, names) {
            Ok(assembled) => Arc::new(assembled),
            Err(e) => {
                run.remove();
                return Err(e);
            }
        };
        made.kept.push(Skeleton { run, points: points.into(), seen, root: Arc::clone(&assembled) });
        while made.kept.len() > KEPT
            && let Some(at) = made.kept.iter().position(|s| Arc::strong_count(&s.root) == 1)
        {
            made.kept.remove(at).run.remove();
        }
        Ok(assembled)
    }
}

/// All containers have ended by then.
impl Drop for Skeletons {
    fn drop(&mut self) {
        let made = self.made.get_mut().unwrap_or_else(PoisonError::into_inner);
        for skeleton in made.kept.drain(..) {
            skeleton.run.remove();
        }
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|m| m.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_made_once_until_what_it_shows_is_another() {
        let (base, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for folder in ["bin", "etc", "srv"] {
            fs::create_dir(base.path().join(folder)).unwrap();
        }
        fs::write(base.path().join("bin/sh"), "").unwrap();
        let root = Root::Folder(base.path().into());
        let skeletons = Skeletons::new(state.path().into(), "a-".into());
        let get = |points: &[(PathBuf, bool)]| skeletons.root(&root, points, &Names::default()).unwrap();
        let count = || fs::read_dir(state.path()).unwrap().count();
        let points = |n: usize| [(PathBuf::from(format!("place-{n}")), true)];
        let first = get(&points(0));
        assert!(Arc::ptr_eq(&first, &get(&points(0))));
        assert!(!Arc::ptr_eq(&first, &get(&points(1))));
        assert_eq!(count(), 2);
        // What was empty is not mounted, and so must be looked at again.
        fs::write(base.path().join("srv/file"), "").unwrap();
        let second = get(&points(0));
        assert!(!Arc::ptr_eq(&first, &second));
        assert_eq!(second.mounts.len(), first.mounts.len() + 1);
        fs::write(base.path().join("etc/os-release"), "").unwrap();
        assert_eq!(get(&points(0)).mounts.len(), first.mounts.len() + 2);
        // What is in use stays.
        for n in 0..2 * KEPT {
            get(&points(n));
        }
        assert_eq!(count(), KEPT);
        assert!(Path::new(first.rootfs.strip_prefix("dir:").unwrap()).join("bin").is_dir());
        drop(skeletons);
        assert_eq!(count(), 0);
    }
}
