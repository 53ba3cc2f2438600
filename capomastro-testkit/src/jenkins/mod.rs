//! A double of a Jenkins server, which speaks real HTTP on 127.0.0.1.
//!
//! It answers as Jenkins 2.568.2 was seen to answer: jobs with declared parameters, a queue that folds identical
//! requests, builds whose records are half-made while they are young, consoles, artifacts, tokens and crumbs, restarts
//! that keep what a restart keeps and crashes that lose what a crash loses. A test arranges all that, moves time by a
//! [`ManualClock`](crate::ManualClock) or lets it pass, and asks afterwards what really started.
//!
//! ```
//! use capomastro_testkit::{ManualClock, jenkins::{Jenkins, JobSpec, Script}};
//! use std::{sync::Arc, time::Duration};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let clock = ManualClock::new();
//! let jenkins = Jenkins::builder().clock(Arc::new(clock.clone())).start().await.unwrap();
//! let minute = Duration::from_secs(60);
//! jenkins.define_job(JobSpec::freestyle("team/nightly").string("ID").runs(Script::succeeds_after(minute)));
//!
//! // What is under test talks to `jenkins.url()` as `Jenkins::ADMIN` with `Jenkins::TOKEN`; here somebody else does.
//! jenkins.trigger("team/nightly", &[("ID", "7")], "somebody");
//! assert!(jenkins.builds("team/nightly")[0].building);
//! clock.advance(minute);
//! assert_eq!(jenkins.builds("team/nightly")[0].result.as_deref(), Some("SUCCESS"));
//! jenkins.crash();
//! assert_eq!(jenkins.started_with("ID", "7").len(), 1); // exactly once
//! # });
//! ```
//!
//! # Time
//!
//! No thread makes time pass: whenever the server is asked anything, everything that was due until then happens first,
//! in order. It follows only the monotonic side of its clock.
//!
//! # What goes wrong
//!
//! [`Fault`] makes requests fail before, after or long before their effect, by script or, with [`Chaos`], by a seed.
//! [`Jenkins::crash`], [`Jenkins::restart`], [`Jenkins::safe_restart`] and [`Jenkins::reload`] do what they say;
//! [`Startup::as_seen`] makes a server come back through the phases of a real start. [`Youth`] shows builds half-made.
//! A process that is [`StartPhase::Away`] keeps its port and closes every connection without an answer, where a real
//! one would refuse it.
//!
//! # Seen live, and not
//!
//! The answers to more than 200 requests are held to what a live Jenkins 2.568.2 without plugins answered to the same,
//! in the same situation. Made from sources and reports instead, and not seen live, are:
//!
//! - Pipelines, folders, moved jobs, `term` and `kill` ([`JobSpec::pipeline`], [`JobSpec::folder`],
//!   [`Jenkins::move_job`], [`Stop`]);
//! - messages of the Notification plugin ([`Endpoint`], [`Message`]), the Rebuild plugin ([`Jenkins::rebuild`]), data
//!   of the git plugin ([`Revision`]), two parameter actions in one build;
//! - items that are pending ([`JenkinsBuilder::pending_for`]), and that nothing folds into them;
//! - results that worsen while a build runs, and unknown ones ([`Script::worsens`]);
//! - older cores ([`JenkinsBuilder::old_fold`], [`JenkinsBuilder::old_cancel`]);
//! - proxies, time-outs, late effects, cut and huge bodies ([`Fault`]), artifacts that are kept elsewhere or break off
//!   ([`Artifact::elsewhere`], [`Artifact::cut_after`]).
//!
//! Not there at all: agents, views, `depth` beyond what lists show, XML and Python variants of the remote API, HTML that
//! is worth reading, plugins other than the ones named.

mod admin;
mod answer;
mod artifacts;
mod build;
mod builder;
mod config_xml;
mod console;
mod durability;
mod export;
mod faults;
mod handle;
mod job;
mod language;
mod notify;
mod phases;
mod queue;
mod request;
mod routes;
mod script;
mod security;
mod server;
mod state;
mod traffic;
mod tree;
mod trigger;

pub use artifacts::Artifact;
pub use build::Youth;
pub use builder::JenkinsBuilder;
pub use faults::{Chaos, Fault};
pub use handle::{BuildSeen, ItemSeen, Jenkins};
pub use job::{JobKind, JobSpec, Parameter, ParameterKind};
pub use notify::{Endpoint, Message};
pub use phases::{StartPhase, Startup};
pub use script::{Revision, Run, Script, Stop};
pub use security::{Permission, User};
pub use state::Started;
pub use traffic::{Served, Traffic};
