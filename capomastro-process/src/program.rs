//! Which file a program's name means.

use rustix::fs::{Access, access};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// What a search for a program found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This file, which can be run.
    Program(PathBuf),
    /// This file, which cannot be run by this user.
    NotExecutable(PathBuf),
    /// Nothing.
    Nothing,
}

/// The file that `program` means: looked up in `path` (the value of `PATH`) if it is a bare name, else relative to
/// `dir`. Unlike `execvp` this asks the environment that the program will have, not ours, and ignores relative and empty
/// parts of `path`: what runs must not depend on where it runs.
pub(crate) fn find(program: &OsStr, path: &OsStr, dir: &Path) -> Found {
    if program.is_empty() {
        return Found::Nothing;
    }
    if program.as_encoded_bytes().contains(&b'/') {
        return judge(dir.join(program));
    }
    let mut result = Found::Nothing;
    for candidate in std::env::split_paths(path).filter(|p| p.is_absolute()).map(|p| p.join(program)) {
        match judge(candidate) {
            Found::Nothing => {}
            found @ Found::Program(_) => return found,
            other => {
                if result == Found::Nothing {
                    result = other;
                }
            }
        }
    }
    result
}

fn judge(file: PathBuf) -> Found {
    if !file.is_file() {
        Found::Nothing
    } else if access(&file, Access::EXEC_OK).is_ok() {
        Found::Program(file)
    } else {
        Found::NotExecutable(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn a_name_means_the_first_file_in_the_path_that_can_be_run() {
        let d = tempfile::tempdir().unwrap();
        let (a, b) = (d.path().join("a"), d.path().join("b"));
        for (dir, mode) in [(&a, 0o644), (&b, 0o755)] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("tool"), "").unwrap();
            fs::set_permissions(dir.join("tool"), fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = std::env::join_paths([Path::new("relative"), &a, &b]).unwrap();
        let (tool, dir) = (OsStr::new("tool"), d.path());
        assert_eq!(find(tool, &path, dir), Found::Program(b.join("tool")));
        assert_eq!(find(tool, a.as_os_str(), dir), Found::NotExecutable(a.join("tool")));
        assert_eq!(find(tool, OsStr::new(""), &b), Found::Nothing);
        assert_eq!(find(OsStr::new("b/tool"), OsStr::new(""), dir), Found::Program(b.join("tool")));
        assert_eq!(find(OsStr::new("./b"), OsStr::new(""), dir), Found::Nothing, "a folder is no program");
        assert_eq!(find(OsStr::new(""), &path, dir), Found::Nothing);
    }
}
