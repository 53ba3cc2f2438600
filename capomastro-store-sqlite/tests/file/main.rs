//! The store on real files, in real processes, with real faults.

mod bad_files;
mod embedder;
mod full_disk;
mod groups;
mod newer;
mod processes;
mod samples;
