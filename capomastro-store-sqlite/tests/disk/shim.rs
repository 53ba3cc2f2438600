//! A disk that fails when a test says so, under the SQLite of another process: how it is compiled, preloaded and told.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// Which calls a fault is about; added up where several are.
pub(crate) const WRITE: u64 = 1;
pub(crate) const SYNC: u64 = 2;
pub(crate) const TRUNCATE: u64 = 4;

/// On which files; added up where several are.
pub(crate) const DATABASE: u64 = 1;
pub(crate) const WAL: u64 = 2;
pub(crate) const SHARED_MEMORY: u64 = 4;

pub(crate) const EIO: u64 = 5;
pub(crate) const ENOSPC: u64 = 28;

/// What happens to a call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It does not happen, and fails.
    Fail = 1,
    /// Half is written, and the next write fails. As `Fail` where nothing is written.
    Half = 2,
    /// It happens, and fails.
    DoAndFail = 3,
    /// The process is killed before it.
    Kill = 4,
}

/// What goes wrong, and when.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) ops: u64,
    pub(crate) files: u64,
    pub(crate) action: Action,
    pub(crate) errno: u64,
    pub(crate) when: When,
}

/// Of the calls that a fault is about.
#[derive(Copy, Clone, Debug)]
pub(crate) enum When {
    /// So many in a row, the first of them counted from 1.
    At { first: u64, times: u64 },
    /// Each by chance, in 65536.
    Chance { chance: u64, seed: u64 },
}

const SLOTS: usize = 10;
const ACTION: u64 = 2;
const FIRED: u64 = 9;

/// The way to the disk of one database, from any process.
#[derive(Debug)]
pub(crate) struct Shim {
    library: PathBuf,
    database: PathBuf,
    control: PathBuf,
    file: File,
}

impl Shim {
    /// Compiles it into this folder. Without a C compiler: `None` and a word, but a failure in CI.
    pub(crate) fn compile(folder: &Path, database: &Path) -> Option<Self> {
        let (source, library) = (folder.join("shim.c"), folder.join("shim.so"));
        std::fs::write(&source, include_str!("shim.c")).unwrap();
        let done = Command::new("cc")
            .args(["-Wall", "-Werror", "-O1", "-fPIC", "-shared", "-o"])
            .args([&library, &source])
            .args(["-ldl", "-lpthread"])
            .output();
        match done {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
            Err(e) => {
                assert!(std::env::var_os("CI").is_none(), "CI must have a C compiler (cc): {e}");
                eprintln!("SKIP: no C compiler (cc) is there; install gcc to test a disk that fails: {e}");
                return None;
            }
        }
        let control = folder.join("shim.control");
        let zeros = [0; 8 * SLOTS];
        std::fs::write(&control, zeros).unwrap();
        Some(Self::of(&library, database, &control))
    }

    fn of(library: &Path, database: &Path, control: &Path) -> Self {
        let file = File::options().read(true).write(true).open(control).unwrap();
        Self { library: library.into(), database: database.into(), control: control.into(), file }
    }

    /// In a process into which it was preloaded.
    pub(crate) fn here() -> Self {
        let var = |name: &str| PathBuf::from(std::env::var_os(name).unwrap());
        let (database, control) = (var("CAPOMASTRO_SHIM_FILE"), var("CAPOMASTRO_SHIM_CONTROL"));
        Self::of(&var("LD_PRELOAD"), &database, &control)
    }

    /// The database that it is about.
    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    /// Puts it under a process.
    pub(crate) fn preload(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("CAPOMASTRO_SHIM_FILE", &self.database)
            .env("CAPOMASTRO_SHIM_CONTROL", &self.control);
    }

    /// From now on this goes wrong, and nothing else.
    pub(crate) fn fault(&self, fault: &Fault) {
        self.heal();
        let (first, times, chance, seed) = match fault.when {
            When::At { first, times } => (first, times, 0, 0),
            When::Chance { chance, seed } => (0, 0, chance, seed),
        };
        let slots = [fault.ops, fault.files, 0, first, times, fault.errno, chance, seed, 0, 0];
        let bytes: Vec<u8> = slots.iter().flat_map(|n| n.to_ne_bytes()).collect();
        self.file.write_all_at(&bytes, 0).unwrap();
        self.set(ACTION, fault.action as u64);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.set(ACTION, 0);
    }

    /// How often something went wrong since the last fault was set.
    pub(crate) fn fired(&self) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, FIRED * 8).unwrap();
        u64::from_ne_bytes(bytes)
    }

    fn set(&self, slot: u64, value: u64) {
        self.file.write_all_at(&value.to_ne_bytes(), slot * 8).unwrap();
    }
}
