//! The store on real files, in real processes, with real faults.
#![expect(clippy::unwrap_used, reason = "functions that tests share are tests too")]

mod bad_disk;
mod bad_files;
mod embedder;
mod full_disk;
mod groups;
mod moving;
mod newer;
mod power_cut;
mod processes;
mod samples;

#[path = "../disk/shim.rs"]
mod shim;
