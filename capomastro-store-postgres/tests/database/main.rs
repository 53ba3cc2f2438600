//! The store in real databases, with real faults.
#![expect(clippy::unwrap_used, reason = "functions that tests share are tests too")]

mod bad_servers;
mod contention;
mod embedder;
mod events;
mod hints;
mod late_rows;
mod migrations;
mod newer;
mod outages;
mod plans;
mod rights;
mod samples;
