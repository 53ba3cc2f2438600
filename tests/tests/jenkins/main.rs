//! A whole scheduler whose builds run on Jenkins: on the double, over each store, through everything that goes wrong between
//! them; and on a real server, where one is named.
#![allow(clippy::unwrap_used, reason = "tests")]

mod attacked;
mod farm;
mod real;
mod told;
mod whole;
