//! How checkouts are set up.

use super::{
    branch::Kinds,
    checkouts::{Checkouts, Inner},
    folder::Folder,
    measure::Most,
    room::Bounds,
};
use crate::{bzr::BzrProbe, git::GitProbe, hg::HgProbe, svn::SvnProbe};
use capomastro_core::{
    Error, Result,
    command::CommandRunner,
    time::{Clock, Random, SystemClock, SystemRandom},
};
use std::{
    path::{Component, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Semaphore;

const MIB: u64 = 1024 * 1024;

/// Sets [`Checkouts`] up. Made by [`Checkouts::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is set up until build is called"]
pub struct CheckoutsBuilder {
    folder: PathBuf,
    kinds: Kinds,
    runner: Arc<dyn CommandRunner>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    most: Most,
    bounds: Bounds,
    lease: Duration,
    fresh: Duration,
    timeout: Duration,
    makers: usize,
}

impl CheckoutsBuilder {
    pub(super) fn new(folder: PathBuf, runner: Arc<dyn CommandRunner>) -> Self {
        Self {
            folder,
            kinds: Kinds::new(&runner),
            runner,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            most: Most { bytes: 64 * MIB, entries: 10_000 },
            bounds: Bounds { count: 64, bytes: 1024 * MIB, unused: Duration::from_secs(14 * 24 * 3_600) },
            lease: Duration::from_secs(30 * 24 * 3_600),
            fresh: Duration::from_secs(10),
            timeout: Duration::from_secs(300),
            makers: 2,
        }
    }

    /// Looks at branches of git with this probe, and writes them with its program.
    pub fn git(mut self, probe: GitProbe) -> Self {
        self.kinds.git = probe;
        self
    }

    /// Looks at branches of Bazaar with this probe, and writes them with its program.
    pub fn bzr(mut self, probe: BzrProbe) -> Self {
        self.kinds.bzr = probe;
        self
    }

    /// Looks at branches of Mercurial with this probe, and writes them with its program.
    pub fn hg(mut self, probe: HgProbe) -> Self {
        self.kinds.hg = probe;
        self
    }

    /// Looks at branches of Subversion with this probe, and writes them with its program.
    pub fn svn(mut self, probe: SvnProbe) -> Self {
        self.kinds.svn = probe;
        self
    }

    /// Where time comes from; the system unless given.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where randomness comes from; the system unless given.
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// How many bytes one checkout may have; 64 MiB unless given. Four times as many may be needed while it is written.
    pub const fn max_checkout_bytes(mut self, bytes: u64) -> Self {
        self.most.bytes = bytes;
        self
    }

    /// How many files and folders one checkout may have; 10,000 unless given.
    pub const fn max_checkout_files(mut self, files: u64) -> Self {
        self.most.entries = files;
        self
    }

    /// How many checkouts there may be, those in use among them; 64 unless given, at least 1.
    pub const fn max_count(mut self, count: usize) -> Self {
        self.bounds.count = count;
        self
    }

    /// How many bytes all of them may have, with 4 KiB for each file besides what is in it; 1 GiB unless given.
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.bounds.bytes = bytes;
        self
    }

    /// How long a checkout that nobody uses stays; two weeks unless given.
    pub const fn keep_unused(mut self, unused: Duration) -> Self {
        self.bounds.unused = unused;
        self
    }

    /// How long the checkout of a build is kept whose end nobody saw; 30 days unless given. A build that takes longer
    /// may lose its scripts.
    pub const fn keep_leased(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// How long a look at a branch serves those who ask again; 10 s unless given, zero for never.
    pub const fn fresh(mut self, fresh: Duration) -> Self {
        self.fresh = fresh;
        self
    }

    /// How long writing one checkout may take; 5 min unless given.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many are written at the same time; 2 unless given, at least 1.
    pub const fn at_once(mut self, makers: usize) -> Self {
        self.makers = makers;
        self
    }

    /// The checkouts. Makes nothing on disk yet.
    ///
    /// # Errors
    /// [`InvalidConfig`](capomastro_core::ErrorKind::InvalidConfig) for a folder that is not an absolute path without
    /// dots, and for bounds of zero.
    pub fn build(self) -> Result<Checkouts> {
        let is_plain = self.folder.is_absolute()
            && self.folder.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
        if !is_plain || self.folder.parent().is_none() {
            return Err(Error::config(
                "the folder of checkouts is not an absolute path without dots, or is /: give such a path",
            )
            .with_context("folder", self.folder.display()));
        }
        let bounds = [self.most.bytes, self.most.entries, self.bounds.bytes, self.bounds.count as u64];
        if bounds.contains(&0) || self.timeout.is_zero() || self.makers == 0 {
            return Err(Error::config("a bound of checkouts is zero, which allows none: give at least 1"));
        }
        Ok(Checkouts(Arc::new(Inner {
            folder: Folder::new(self.folder),
            kinds: self.kinds,
            runner: self.runner,
            clock: self.clock,
            random: self.random,
            most: self.most,
            bounds: self.bounds,
            lease: self.lease,
            fresh: self.fresh,
            timeout: self.timeout,
            makers: Semaphore::new(self.makers.min(Semaphore::MAX_PERMITS)),
            looks: Mutex::default(),
            making: Mutex::default(),
        })))
    }
}
