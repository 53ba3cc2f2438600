//! What a build leaves behind: found, copied, digested.

use crate::fault::on_disk;
use cap_std::{
    ambient_authority,
    fs::{Dir, OpenOptions, OpenOptionsExt as _},
};
use capomastro_core::{Result, model::Artifact};
use glob::{MatchOptions, Pattern};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
};

/// How many files and folders are looked at for one build.
const MAX_ENTRIES: usize = 200_000;
/// How deep folders are searched.
const MAX_DEPTH: usize = 64;
/// The longest name of an artifact, in bytes.
const MAX_NAME: usize = 1_000;
/// How many problems are told.
const MAX_PROBLEMS: usize = 10;

const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// What may be kept.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) count: usize,
    pub(crate) bytes: u64,
}

/// What was kept, and what was to be kept and could not be: for people.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) problems: Vec<String>,
}

impl Collected {
    fn problem(&mut self, text: impl FnOnce() -> String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(text());
        }
    }
}

/// Copies everything below `drop`, and what `patterns` find below `work`, to `into`, which is made anew. Where both have
/// a file of the same name, the one in `drop` is kept. Symbolic links to files are followed as long as they stay below
/// the folder that is searched; others are left out.
///
/// # Errors
/// When `into` cannot be written. What is wrong with the build's own files is a problem instead.
pub(crate) fn collect(
    drop: &Path,
    work: &Path,
    patterns: &[String],
    into: &Path,
    bounds: Bounds,
) -> Result<Collected> {
    crate::folder::remove(into)
        .and_then(|()| fs::create_dir(into))
        .map_err(|e| on_disk("make a folder for artifacts", into, e))?;
    let mut collected = Collected::default();
    let mut seen = 0;
    let mut files: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let roots = [drop, work].map(|root| Dir::open_ambient_dir(root, ambient_authority()).ok());
    if let Some(dir) = &roots[0] {
        for file in walk(dir, Path::new(""), &mut seen, &mut collected) {
            files.entry(file).or_insert(0);
        }
    }
    for pattern in patterns {
        let mut found = false;
        if let Some(dir) = &roots[1] {
            for file in matching(dir, pattern, &mut seen, &mut collected) {
                found = true;
                files.entry(file).or_insert(1);
            }
        }
        if !found {
            collected.problem(|| format!("nothing was found for the artifact {pattern:?}"));
        }
    }
    if files.len() > bounds.count {
        collected.problem(|| format!("there are {} artifacts and {} are allowed", files.len(), bounds.count));
    }
    let mut left = bounds.bytes;
    for (file, root) in files.into_iter().take(bounds.count) {
        let Some(dir) = &roots[root] else { continue };
        let name = match name_of(&file) {
            Ok(name) => name,
            Err(why) => {
                collected.problem(|| format!("{file:?} was not kept: {why}"));
                continue;
            }
        };
        match copy(dir, &file, &into.join(&name), left)? {
            Copied::Kept { digest, size } => {
                left -= size;
                collected.artifacts.push(Artifact {
                    location: into.join(&name).to_str().map(str::to_owned),
                    name,
                    digest: Some(digest),
                    size: Some(size),
                });
            }
            Copied::TooLarge => {
                collected
                    .problem(|| format!("all artifacts have more than the {} bytes allowed", bounds.bytes));
                break;
            }
            Copied::NotReadable(why) => collected.problem(|| format!("{name:?} was not kept: {why}")),
        }
    }
    Ok(collected)
}

/// The files that a pattern finds: those whose path it matches, and all of a folder that it names.
fn matching(dir: &Dir, pattern: &str, seen: &mut usize, collected: &mut Collected) -> Vec<PathBuf> {
    let parts: Vec<&str> = Path::new(pattern)
        .components()
        .filter_map(|c| match c {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    let literal = parts.iter().take_while(|p| !p.contains(['*', '?', '['])).count();
    let base: PathBuf = parts[..literal].iter().collect();
    if literal == parts.len() {
        return match dir.metadata(if base.as_os_str().is_empty() { Path::new(".") } else { &base }) {
            Ok(m) if m.is_file() => vec![base],
            Ok(m) if m.is_dir() => walk(dir, &base, seen, collected),
            _ => Vec::new(),
        };
    }
    let Ok(pattern) = Pattern::new(&parts.join("/")) else { return Vec::new() };
    let mut files = walk(dir, &base, seen, collected);
    files.retain(|file| pattern.matches_path_with(file, MATCHING));
    files
}

/// All files below `base`, and links to files, as paths relative to `dir`. Links to folders are not entered.
fn walk(dir: &Dir, base: &Path, seen: &mut usize, collected: &mut Collected) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![base.to_owned()];
    while let Some(folder) = folders.pop() {
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        let Ok(entries) = dir.read_dir(here) else { continue };
        for entry in entries.flatten() {
            *seen += 1;
            if *seen > MAX_ENTRIES {
                collected.problem(|| {
                    format!("more than {MAX_ENTRIES} files were searched for artifacts: name their folder")
                });
                return files;
            }
            let path = folder.join(entry.file_name());
            match entry.file_type() {
                Ok(t) if t.is_dir() && path.components().count() <= MAX_DEPTH => folders.push(path),
                Ok(t) if t.is_file() => files.push(path),
                Ok(t) if t.is_symlink() && dir.metadata(&path).is_ok_and(|m| m.is_file()) => files.push(path),
                _ => {}
            }
        }
    }
    files
}

/// The name of an artifact, if the path makes a safe one.
fn name_of(file: &Path) -> Result<String, &'static str> {
    let name = file.to_str().ok_or("its name is not UTF-8")?;
    if is_safe(name) { Ok(name.to_owned()) } else { Err("its name is too long or has control characters") }
}

/// Whether this is a path below a folder that says what it seems to say.
pub(crate) fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME
        && !name.chars().any(char::is_control)
        && !name.ends_with('/')
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

enum Copied {
    Kept { digest: String, size: u64 },
    TooLarge,
    NotReadable(String),
}

fn copy(dir: &Dir, from: &Path, to: &Path, max: u64) -> Result<Copied> {
    let mut source = match open(dir, from) {
        Ok(source) => source,
        Err(e) => return Ok(Copied::NotReadable(e.to_string())),
    };
    let failed = |e| on_disk("keep an artifact", to, e);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut target = fs::File::create_new(to).map_err(failed)?;
    let mut digest = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let n = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                fs::remove_file(to).map_err(failed)?;
                return Ok(Copied::NotReadable(e.to_string()));
            }
        };
        size += n as u64;
        if size > max {
            fs::remove_file(to).map_err(failed)?;
            return Ok(Copied::TooLarge);
        }
        digest.update(&buffer[..n]);
        target.write_all(&buffer[..n]).map_err(failed)?;
    }
    // Whether it can be run is part of what was built; who may read it is not.
    let runs = source.metadata().is_ok_and(|m| m.permissions().mode() & 0o111 != 0);
    if runs {
        let mode = target.metadata().map_err(failed)?.permissions().mode();
        target.set_permissions(fs::Permissions::from_mode(mode | (mode & 0o444) >> 2)).map_err(failed)?;
    }
    target.sync_all().map_err(failed)?;
    let mut text = String::from("sha256:");
    for byte in digest.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(Copied::Kept { digest: text, size })
}

/// Opens a file below `dir`, never outside it, and never waits for a pipe that somebody put there.
pub(crate) fn open(dir: &Dir, path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed());
    let file = dir.open_with(path, &options)?.into_std();
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const LARGE: Bounds = Bounds { count: 100, bytes: 1_000_000 };

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let d = tempfile::tempdir().unwrap();
        for side in ["drop", "work"] {
            fs::create_dir(d.path().join(side)).unwrap();
        }
        for file in files {
            let path = d.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        d
    }

    fn gather(d: &Path, patterns: &[&str], bounds: Bounds) -> (Vec<String>, Vec<String>) {
        let patterns: Vec<String> = patterns.iter().map(|s| (*s).to_owned()).collect();
        let c = collect(&d.join("drop"), &d.join("work"), &patterns, &d.join("out"), bounds).unwrap();
        for a in &c.artifacts {
            assert_eq!(fs::metadata(d.join("out").join(&a.name)).unwrap().len(), a.size.unwrap());
        }
        (c.artifacts.into_iter().map(|a| a.name).collect(), c.problems)
    }

    #[test]
    fn patterns_paths_and_folders_find_what_they_say() {
        let d =
            tree(&["work/a.deb", "work/sub/b.deb", "work/sub/.c.deb", "work/sub/deep/d.deb", "work/x.log"]);
        for (patterns, names) in [
            (&["*.deb"][..], &["a.deb"][..]),
            (&["./a.deb"], &["a.deb"]),
            (&["sub/*.deb"], &["sub/.c.deb", "sub/b.deb"]),
            (&["**/*.deb"], &["a.deb", "sub/.c.deb", "sub/b.deb", "sub/deep/d.deb"]),
            (&["sub/"], &["sub/.c.deb", "sub/b.deb", "sub/deep/d.deb"]),
            (&["x.log", "?.log", "[xy].log"], &["x.log"]),
            (&["."], &["a.deb", "sub/.c.deb", "sub/b.deb", "sub/deep/d.deb", "x.log"]),
        ] {
            assert_eq!(
                gather(d.path(), patterns, LARGE),
                (names.iter().map(|s| (*s).into()).collect(), vec![])
            );
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let d = tree(&["work/a"]);
        let (names, problems) = gather(d.path(), &["a", "b", "c/*"], LARGE);
        assert_eq!(names, ["a"]);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("\"b\""), "{problems:?}");
    }

    #[test]
    fn the_dropped_file_wins_and_its_digest_is_right() {
        let d = tree(&["drop/a", "work/a"]);
        let c = collect(
            &d.path().join("drop"),
            &d.path().join("work"),
            &["a".into()],
            &d.path().join("out"),
            LARGE,
        )
        .unwrap();
        assert_eq!(fs::read_to_string(d.path().join("out/a")).unwrap(), "drop/a");
        // printf drop/a | sha256sum
        let digest = "sha256:".to_owned() + DROP_A;
        assert_eq!(c.artifacts[0].digest.as_ref(), Some(&digest));
    }

    const DROP_A: &str = "04995b670b2123744744736819c0a6861c9a6a88a9aec7bf206a35003fd00f07";

    #[test]
    fn links_stay_inside_and_pipes_hold_nobody_up() {
        let d = tree(&["work/real", "secret"]);
        let work = d.path().join("work");
        symlink("real", work.join("inside")).unwrap();
        symlink("../secret", work.join("outside")).unwrap();
        symlink(d.path().join("secret"), work.join("absolute")).unwrap();
        symlink(".", work.join("loop")).unwrap();
        symlink("../..", d.path().join("drop/up")).unwrap();
        let status = std::process::Command::new("mkfifo").arg(work.join("pipe")).status().unwrap();
        assert!(status.success());
        assert_eq!(gather(d.path(), &["**/*"], LARGE).0, ["inside", "real"]);
        let (names, problems) =
            gather(d.path(), &["outside", "absolute", "pipe", "loop/../../secret"], LARGE);
        assert_eq!(names, Vec::<String>::new());
        assert_eq!(problems.len(), 4, "{problems:?}");
    }

    #[test]
    fn bounds_hold() {
        let d = tree(&["work/a", "work/b", "work/c"]);
        let (names, problems) = gather(d.path(), &["*"], Bounds { count: 2, ..LARGE });
        assert_eq!((names.len(), problems.len()), (2, 1));
        let (names, problems) = gather(d.path(), &["*"], Bounds { bytes: 13, ..LARGE });
        assert_eq!((names.len(), problems.len()), (2, 1), "6 bytes each: {names:?} {problems:?}");
        let (names, problems) = gather(d.path(), &["*"], Bounds { bytes: 18, ..LARGE });
        assert_eq!((names.len(), problems.len()), (3, 0));
    }

    #[test]
    fn names_are_safe() {
        for bad in ["", "/a", "a/", "../a", "a/../b", "a//b", "./a", "a\nb", &"x".repeat(1_001)] {
            assert!(!is_safe(bad), "{bad:?}");
        }
        for good in ["a", "a/b", "..a", "a b/ö"] {
            assert!(is_safe(good), "{good:?}");
        }
    }
}
