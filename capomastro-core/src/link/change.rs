//! What can happen to a project's slots, links, pins and members.

use super::ProjectView;
use crate::{
    Error, ErrorKind, Result,
    events::{Event, EventKind},
    model::{
        Build, BuildId, BuildKey, DependencyId, EndReason, Member, ProjectBuild, ProjectBuildId, ReceiptId,
        ReceiptState, Requester, Slot, SlotKind,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// Whether a chosen member of a whole build could be asked to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It was: the receipt of its manual request.
    Receipt(ReceiptId),
    /// It was not, for this reason.
    Not(String),
}

/// A request to build a project or a chosen part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeRequest {
    /// The chosen members. A pinned one that is chosen but not in `move_pins` is built, and its pin stays.
    pub chosen: BTreeMap<DependencyId, Asked>,
    /// The chosen members whose pins move to their fresh builds when those end good.
    pub move_pins: BTreeSet<DependencyId>,
    /// The key that the builds share.
    pub build_key: Option<BuildKey>,
    /// Who asked.
    pub requester: Option<Requester>,
}

/// How a request ended that a slot awaited and that did not start.
#[derive(Clone, Copy, Debug)]
pub enum SlotEnd<'a> {
    /// It joined this build.
    Joined(&'a Build),
    /// It ended without a build, for this reason.
    Otherwise(&'a str),
}

/// What to tell the slot that awaits a receipt in this state; `None` while the receipt is open and where a build was
/// started or joined for it.
pub fn end_note(state: &ReceiptState) -> Option<String> {
    let reason = match state {
        ReceiptState::AwaitsLook
        | ReceiptState::Waiting { .. }
        | ReceiptState::Started { .. }
        | ReceiptState::Joined { .. } => return None,
        ReceiptState::Reused { .. } => "an earlier build of the same revision was linked instead",
        ReceiptState::LostTo { .. } => "discarded, since a build held the dependency",
        ReceiptState::Ended { reason } => match reason {
            EndReason::Unchanged => "the source had not changed",
            EndReason::Baselined => "the first revision was taken as it is",
            EndReason::Reverted => "the source went back to what was built",
            EndReason::Vetoed => "the policy forbids how the source moved",
            EndReason::Quiet { .. } => "the source has to be quiet first",
            EndReason::RelationStale => "how the source moved has to be looked at again",
            EndReason::Paused => "the dependency is paused",
            EndReason::SourceMissing => "the source was not found",
            EndReason::Superseded => "the source was edited",
            EndReason::Deleted => "the dependency was deleted",
            EndReason::Refused => "the build system refused the build",
            EndReason::Coalesced => "left to the next build",
            EndReason::Withdrawn { .. } => "withdrawn",
        },
    };
    Some(reason.to_owned())
}

impl ProjectView {
    /// A build starts. Each open slot that awaits one of its receipts becomes fresh. If there is none and the project
    /// tracks the dependency, a project build of all members is requested in which it is fresh; a project that pins the
    /// dependency, does not have it or was deleted gets none.
    pub fn request_for_build(&mut self, build: &Build, draw: &mut dyn FnMut() -> ProjectBuildId) {
        self.learn(build);
        let receipts: BTreeSet<ReceiptId> = build.causes.iter().filter_map(|c| c.receipt).collect();
        if self.start(&receipts, build.id) {
            return;
        }
        let tracks = self.project.members.get(&build.dependency).is_some_and(|m| m.pin.is_none());
        if tracks && self.project.deleted_at.is_none() {
            let fresh = BTreeMap::from([(build.dependency, Slot::of(SlotKind::Fresh { build: build.id }))]);
            let id = self.open_build(fresh, draw);
            self.fresh.insert((build.id, id));
        }
    }

    /// Somebody asks for a build of the project or of a part of it: one project build, in which the chosen members await
    /// their requests. Returns its id, which the requests' causes carry.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if nothing is chosen, something is chosen that is not a member, or a pin
    /// is to move whose member is not chosen; [`NotFound`](ErrorKind::NotFound) if the project was deleted.
    pub fn request_whole(
        &mut self,
        request: WholeRequest,
        draw: &mut dyn FnMut() -> ProjectBuildId,
    ) -> Result<ProjectBuildId> {
        self.check_alive()?;
        if request.chosen.is_empty() {
            return Err(Error::invalid("nothing was chosen: name at least one dependency of the project")
                .with_context("project", &self.project.name));
        }
        for dependency in request.chosen.keys() {
            self.member(*dependency)?;
        }
        if let Some(dependency) = request.move_pins.iter().find(|d| !request.chosen.contains_key(d)) {
            return Err(Error::invalid(
                "a pin moves to what is built here: choose its dependency too, or pin it by hand",
            )
            .with_context("dependency", dependency));
        }
        let slots = request.chosen.into_iter().map(|(dependency, asked)| {
            let slot = match asked {
                Asked::Receipt(receipt) => Slot::of(SlotKind::Awaiting { receipt }),
                Asked::Not(reason) => self.filled(self.at_rest(dependency), Some(reason)),
            };
            (dependency, slot)
        });
        let slots = slots.collect();
        let id = self.open_build(slots, draw);
        if let Some(made) = self.builds.get_mut(&id) {
            let is_pinned = |d: &DependencyId| self.project.members.get(d).is_some_and(|m| m.pin.is_some());
            made.moves_pins = request.move_pins.into_iter().filter(is_pinned).collect();
            made.build_key = request.build_key;
            made.requester = request.requester;
        }
        Ok(id)
    }

    /// A request that slots may await ends without being started: joined to a build, or otherwise. Nothing happens where
    /// no slot awaits it.
    pub fn slot_ended(&mut self, receipt: ReceiptId, end: SlotEnd<'_>) {
        let receipts = BTreeSet::from([receipt]);
        match end {
            SlotEnd::Joined(build) => {
                self.learn(build);
                self.start(&receipts, build.id);
            }
            SlotEnd::Otherwise(reason) => {
                for (id, dependency) in self.awaiting(&receipts) {
                    let slot = self.filled(self.at_rest(dependency), Some(reason.to_owned()));
                    self.put_slot(id, dependency, slot);
                }
            }
        }
    }

    /// A build has ended, as `build` records it. A good one becomes the linked build of its member, and pins that were
    /// named for it move. Open project builds in which it is fresh are resolved.
    pub fn build_ended(&mut self, build: &Build) {
        self.learn(build);
        if !build.good {
            return;
        }
        let dependency = build.dependency;
        let named = self.open().any(|b| {
            b.moves_pins.contains(&dependency)
                && b.slots.get(&dependency).is_some_and(|s| s.kind == SlotKind::Fresh { build: build.id })
        });
        if let Some(member) = self.project.members.get_mut(&dependency) {
            member.linked = Some(build.id);
            if named && member.pin.is_some_and(|pin| pin != build.id) {
                member.pin = Some(build.id);
                self.tell(EventKind::Pinned { dependency, build: Some(build.id) });
            }
        }
    }

    /// An earlier good build stands for its dependency again.
    ///
    /// # Errors
    /// [`Internal`](ErrorKind::Internal) if it did not end good.
    pub fn reused(&mut self, build: &Build) -> Result<()> {
        if !build.good {
            return Err(Error::internal("only a good build can be linked").with_context("build", build.id));
        }
        self.learn(build);
        if let Some(member) = self.project.members.get_mut(&build.dependency) {
            member.linked = Some(build.id);
        }
        Ok(())
    }

    /// Holds the project at a build, or lets it follow the linked build again. What earlier requests named is withdrawn:
    /// the later word counts.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) if the dependency is not a member, or the build is another
    /// dependency's or did not end good; [`NotFound`](ErrorKind::NotFound) if the project was deleted.
    pub fn set_pin(&mut self, dependency: DependencyId, build: Option<&Build>) -> Result<()> {
        self.check_alive()?;
        self.member(dependency)?;
        if let Some(build) = build {
            if build.dependency != dependency {
                return Err(Error::invalid("a pin holds a build of its own dependency: give one of those")
                    .with_context("build", build.id)
                    .with_context("dependency", dependency));
            }
            if !build.good {
                return Err(Error::invalid("a pin holds a good build: give one that succeeded")
                    .with_context("build", build.id)
                    .with_context("phase", build.phase));
            }
            self.learn(build);
        }
        let pin = build.map(|b| b.id);
        for open in self.builds.values_mut().filter(|b| b.seal.is_none()) {
            open.moves_pins.retain(|d| *d != dependency);
        }
        if let Some(member) = self.project.members.get_mut(&dependency)
            && member.pin != pin
        {
            member.pin = pin;
            self.tell(EventKind::Pinned { dependency, build: pin });
        }
        Ok(())
    }

    /// A dependency joins the project, with its linked build if it has one. Project builds that are open get no slot for
    /// it. Where it is a member already, its pin stays.
    ///
    /// # Errors
    /// [`NotFound`](ErrorKind::NotFound) if the project was deleted.
    pub fn add_member(&mut self, dependency: DependencyId, linked: Option<&Build>) -> Result<()> {
        self.check_alive()?;
        if let Some(build) = linked {
            self.learn(build);
        }
        self.project.members.entry(dependency).or_default().linked = linked.map(|b| b.id);
        Ok(())
    }

    /// A dependency leaves the project. It stays in the records, open ones too, whose slots resolve as they would have.
    /// Returns whether it was a member.
    pub fn remove_member(&mut self, dependency: DependencyId) -> bool {
        self.project.members.remove(&dependency).is_some()
    }

    fn check_alive(&self) -> Result<()> {
        match self.project.deleted_at {
            None => Ok(()),
            Some(_) => Err(Error::new(ErrorKind::NotFound, "the project was deleted: define it anew")
                .with_context("project", &self.project.name)),
        }
    }

    fn member(&self, dependency: DependencyId) -> Result<&Member> {
        self.project.members.get(&dependency).ok_or_else(|| {
            Error::invalid("not a dependency of this project: add it first")
                .with_context("project", &self.project.name)
                .with_context("dependency", dependency)
        })
    }

    /// The open slots that await one of these receipts.
    fn awaiting(&self, receipts: &BTreeSet<ReceiptId>) -> Vec<(ProjectBuildId, DependencyId)> {
        let slots = self.open().flat_map(|b| b.slots.iter().map(|(d, s)| (b.id, *d, s)));
        slots
            .filter(
                |(_, _, s)| matches!(&s.kind, SlotKind::Awaiting { receipt } if receipts.contains(receipt)),
            )
            .map(|(id, d, _)| (id, d))
            .collect()
    }

    /// Makes the slots that await one of these receipts fresh; whether there was one.
    fn start(&mut self, receipts: &BTreeSet<ReceiptId>, build: BuildId) -> bool {
        let awaiting = self.awaiting(receipts);
        for (id, dependency) in &awaiting {
            self.put_slot(*id, *dependency, self.filled(SlotKind::Fresh { build }, None));
            self.fresh.insert((build, *id));
        }
        !awaiting.is_empty()
    }

    fn put_slot(&mut self, id: ProjectBuildId, dependency: DependencyId, slot: Slot) {
        if let Some(build) = self.builds.get_mut(&id) {
            build.slots.insert(dependency, slot);
        }
    }

    /// Requests a project build with these slots; the other members' slots hold what stands for them.
    pub(super) fn open_build(
        &mut self,
        mut slots: BTreeMap<DependencyId, Slot>,
        draw: &mut dyn FnMut() -> ProjectBuildId,
    ) -> ProjectBuildId {
        for dependency in self.project.members.keys() {
            if !slots.contains_key(dependency) {
                slots.insert(*dependency, self.filled(self.at_rest(*dependency), None));
            }
        }
        let bound_at_request = slots.iter().filter_map(|(d, s)| match s.kind {
            SlotKind::Carried { build } | SlotKind::Pinned { build } => Some((*d, build)),
            _ => None,
        });
        let bound_at_request = bound_at_request.collect();
        let (id, project) = (draw(), self.project.id);
        let made = ProjectBuild {
            id,
            project,
            name: self.next_name(),
            slots,
            bound_at_request,
            moves_pins: Vec::new(),
            build_key: None,
            requester: None,
            requested_at: self.now,
            seal: None,
        };
        self.builds.insert(id, made);
        self.project.open.push(id);
        self.tell(EventKind::ProjectBuildRequested { project_build: id });
        id
    }

    pub(super) fn tell(&mut self, kind: EventKind) {
        self.events.push(Event::of_project(self.project.id, kind));
    }
}
