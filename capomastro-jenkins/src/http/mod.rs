//! Requests to one server: who we are, how many at once, how long, how large, and what an answer means.
//!
//! Only reads are sent again, at once, when their connection breaks: whether a change may be depends on what it asks. No redirect is followed, and
//! nothing of an answer decides where the next request goes.

mod circuit;
mod client;
mod crumb;
mod download;
mod reply;
mod trigger;
mod trust;

pub(crate) use client::{Body, Call, Client, Fault, Settings};
pub(crate) use reply::Reply;
pub(crate) use trigger::{Verdict, of_trigger};
