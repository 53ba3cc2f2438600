//! The rules, held to the decision table, to each sentence about it, to the stories that once broke them, and to random
//! histories.

mod bullets;
mod edits;
mod ends;
mod histories;
pub(crate) mod laws;
mod rows;
mod rows_held;
mod stories;
mod view;
mod world;
