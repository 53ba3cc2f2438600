//! The git probe against real repositories, servers and programs.

mod asking;
mod cost;
mod credentials;
mod file;
mod hostile;
mod inetd;
mod repo;
mod runner;
mod ssh;
mod story;
mod web;
