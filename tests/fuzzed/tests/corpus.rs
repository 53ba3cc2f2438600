//! The kept corpus of each fuzzing target, and a bounded number of seeded mutations of it.

#![allow(clippy::unwrap_used, reason = "tests")]

use capomastro_fuzzed::{TARGETS, Target, mutations};
use std::{fs, path::PathBuf};

/// How many mutations of each corpus are tried. `CAPOMASTRO_FUZZ_MUTATIONS` asks for another number.
const MUTATIONS: usize = 2_000;

/// The examples of a target by name: those that start with `ok-` mean something.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|f| f.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|f| (f.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(f).unwrap()))
        .collect()
}

fn target(name: &str) -> Target {
    TARGETS.iter().find(|(n, _)| *n == name).unwrap().1
}

/// Tells which input it was.
struct Input<'a>(&'a str, &'a [u8]);

impl Drop for Input<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {:?}", self.0, self.1.escape_ascii().to_string());
        }
    }
}

fn run(name: &str) {
    let (target, corpus) = (target(name), corpus(name));
    assert!(corpus.iter().any(|(n, _)| n.starts_with("ok-")), "no good example of {name}");
    assert!(corpus.iter().any(|(n, _)| !n.starts_with("ok-")), "no bad example of {name}");
    for (file, bytes) in &corpus {
        let input = Input(file, bytes);
        assert_eq!(target(bytes), file.starts_with("ok-"), "{name}/{file}: whether it means something");
        drop(input);
    }
    let count = std::env::var("CAPOMASTRO_FUZZ_MUTATIONS").map_or(MUTATIONS, |n| n.parse().unwrap());
    let seeds: Vec<Vec<u8>> = corpus.into_iter().map(|(_, bytes)| bytes).collect();
    let mut good = 0;
    for bytes in mutations(&seeds, 1, count) {
        let input = Input("a mutation", &bytes);
        good += usize::from(target(&bytes));
        drop(input);
    }
    println!("{name}: {} examples, {count} mutations of which {good} mean something", seeds.len());
    assert!(
        count < 100 || (good > 0 && good < count),
        "mutations that are all alike try nothing: {good} of {count}"
    );
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn each_target_is_run_here_and_by_the_fuzzer() {
            let here = [$(stringify!($name)),*];
            let known: Vec<&str> = TARGETS.iter().map(|(n, _)| *n).collect();
            assert_eq!(here.as_slice(), known);
            let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
            let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
            for name in known {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no target of fuzz/");
                let file = fs::read_to_string(root.join(format!("fuzz_targets/{name}.rs"))).unwrap();
                assert!(file.contains(&format!("capomastro_fuzzed::{name}(")), "fuzz/fuzz_targets/{name}.rs");
            }
            let mut kept: Vec<String> =
                fs::read_dir(root.join("corpus")).unwrap().map(|d| d.unwrap().file_name().into_string().unwrap()).collect();
            kept.sort();
            assert_eq!(kept, here, "each corpus has a target");
        }
    };
}

targets! { build_folder git_daemon git_http git_url script_output stored_records }
