//! What is installed, and as whom it runs.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// Where Debian keeps the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// A user and its group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unprivileged {
    pub(super) user: u32,
    pub(super) group: u32,
}

/// The programs of PostgreSQL.
#[derive(Clone, Debug)]
pub(super) struct Installed {
    folder: PathBuf,
}

impl Installed {
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Whether PostgreSQL is here. If not, says once what to install; with `CI` set, panics.
pub fn is_installed() -> bool {
    postgres().is_some()
}

pub(super) fn postgres() -> Option<&'static Installed> {
    static FOUND: OnceLock<Option<Installed>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let folder = postgres_folder().filter(|_| have_guards());
        skip_unless(folder.is_some(), "PostgreSQL", "postgresql (and util-linux)");
        folder.map(|folder| Installed { folder })
    });
    FOUND.get().and_then(Option::as_ref)
}

pub(super) fn pgbouncer() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let found = on_path("pgbouncer").filter(|_| have_guards());
        skip_unless(found.is_some(), "pgbouncer", "pgbouncer (and util-linux)");
        found
    });
    FOUND.get().and_then(|f| f.as_deref())
}

/// As whom servers run: they refuse to be root.
pub(super) fn unprivileged() -> Option<Unprivileged> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let user = ["postgres", "nobody"].into_iter().find_map(|name| user_in(&users, name));
    Some(user.expect("as root, servers run as the user postgres or nobody: /etc/passwd has neither"))
}

fn user_in(users: &str, name: &str) -> Option<Unprivileged> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        let (user, group) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Unprivileged { user, group })
    })
}

fn postgres_folder() -> Option<PathBuf> {
    let is_whole = |folder: &PathBuf| ["initdb", "postgres"].iter().all(|p| folder.join(p).is_file());
    if let Some(chosen) = std::env::var_os("CAPOMASTRO_POSTGRES_BIN") {
        let chosen = PathBuf::from(chosen);
        assert!(is_whole(&chosen), "CAPOMASTRO_POSTGRES_BIN is {chosen:?}, without initdb and postgres");
        return Some(chosen);
    }
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().filter_map(Result::ok);
    let newest = versions
        .filter_map(|v| Some((v.file_name().to_str()?.parse::<u32>().ok()?, v.path().join("bin"))))
        .filter(|(_, folder)| is_whole(folder))
        .max();
    newest
        .map(|(_, folder)| folder)
        .or_else(|| on_path("initdb")?.parent().map(Path::to_owned).filter(is_whole))
}

/// Without these, a server could outlive a test that is killed.
fn have_guards() -> bool {
    ["setpriv", "flock"].into_iter().all(|p| on_path(p).is_some())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|f| f.join(program)).find(|p| p.is_file())
}

fn skip_unless(is_there: bool, what: &str, packages: &str) {
    if is_there {
        return;
    }
    assert!(std::env::var_os("CI").is_none(), "CI must have {what}: install {packages}");
    let line = format!("SKIPPED: tests that need {what}; install {packages} to run them\n");
    // Not with a macro: of a test that passes, what macros print is not shown.
    std::io::stderr().write_all(line.as_bytes()).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_whole_names() {
        let users = "root:x:0:0:root:/root:/bin/sh\npostgres2:x:7:8::/:/\npostgres:x:101:104:,,,:/var:/bin/bash\nbad:x\n";
        assert_eq!(user_in(users, "postgres"), Some(Unprivileged { user: 101, group: 104 }));
        assert_eq!(user_in(users, "nobody"), None);
        assert_eq!(user_in(users, "bad"), None);
    }
}
