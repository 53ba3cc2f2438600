//! The store on real files, in real processes, with real faults.
#![expect(clippy::unwrap_used, reason = "functions that tests share are tests too")]

mod bad_files;
mod embedder;
mod full_disk;
mod groups;
mod newer;
mod processes;
mod samples;
