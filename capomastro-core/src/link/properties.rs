//! Generated histories: [`World`] checks the invariants after each commit; what remains is that all of them converge.

use super::world::{A, B, C, P, Q, World, receipt};
use crate::model::{BuildId, DependencyId, Phase, ProjectBuildId, ProjectId, ReceiptId, SlotKind};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Act {
    Start(DependencyId),
    End(DependencyId, bool),
    Reuse(usize),
    Pin(ProjectId, usize),
    Unpin(ProjectId, DependencyId),
    Join(ProjectId, DependencyId),
    Leave(ProjectId, DependencyId),
    Whole(ProjectId, u8, u8),
    JoinRunning(DependencyId),
    Drop(DependencyId),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let dependency = || prop_oneof![Just(A), Just(B), Just(C)];
    let project = || prop_oneof![Just(P), Just(Q)];
    let act = prop_oneof![
        6 => dependency().prop_map(Act::Start),
        6 => (dependency(), prop::bool::weighted(0.7)).prop_map(|(d, good)| Act::End(d, good)),
        1 => any::<usize>().prop_map(Act::Reuse),
        1 => (project(), any::<usize>()).prop_map(|(p, n)| Act::Pin(p, n)),
        1 => (project(), dependency()).prop_map(|(p, d)| Act::Unpin(p, d)),
        1 => (project(), dependency()).prop_map(|(p, d)| Act::Join(p, d)),
        1 => (project(), dependency()).prop_map(|(p, d)| Act::Leave(p, d)),
        3 => (project(), 1_u8..8, 0_u8..8).prop_map(|(p, c, n)| Act::Whole(p, c, n)),
        2 => dependency().prop_map(Act::JoinRunning),
        1 => dependency().prop_map(Act::Drop),
    ];
    prop::collection::vec(act, 0..60)
}

/// Does what can be done of `act` now.
fn perform(w: &mut World, number: u128, act: &Act) {
    let good = |w: &World, n: usize| -> Option<(DependencyId, BuildId)> {
        let good: Vec<_> = w.builds.values().filter(|b| b.good).map(|b| (b.dependency, b.id)).collect();
        (!good.is_empty()).then(|| good[n % good.len()])
    };
    match act {
        Act::Start(d) if !w.running.contains_key(d) => _ = w.start(*d),
        Act::End(d, good) if w.running.contains_key(d) => {
            w.end(*d, if *good { Phase::Succeeded } else { Phase::Failed });
        }
        Act::Reuse(n) => {
            if let Some((_, build)) = good(w, *n) {
                w.reuse(build);
            }
        }
        Act::Pin(p, n) => {
            if let Some((d, build)) = good(w, *n) {
                let is_member = w.projects[p].members.contains_key(&d);
                assert_eq!(w.pin(*p, d, Some(build)).is_ok(), is_member);
            }
        }
        Act::Unpin(p, d) => {
            let is_member = w.projects[p].members.contains_key(d);
            assert_eq!(w.pin(*p, *d, None).is_ok(), is_member);
        }
        Act::Join(p, d) => w.join(*p, *d),
        Act::Leave(p, d) => _ = w.leave(*p, *d),
        Act::Whole(p, chosen, named) => {
            let pick = |bits: u8| -> Vec<DependencyId> {
                let members = w.projects[p].members.keys().enumerate();
                members.filter(|(i, _)| bits & (1 << i) != 0).map(|(_, d)| *d).collect()
            };
            let chosen = pick(*chosen);
            let named: Vec<_> = pick(*named).into_iter().filter(|d| chosen.contains(d)).collect();
            if !chosen.is_empty() {
                w.whole(*p, number, &chosen, &named);
            }
        }
        Act::JoinRunning(d) if w.running.contains_key(d) => w.join_running(*d),
        Act::Drop(d) => {
            if let Some(first) = w.waiting.get(d).and_then(|r| r.first().copied()) {
                w.drop_request(*d, first, "withdrawn");
            }
        }
        Act::Start(_) | Act::End(..) | Act::JoinRunning(_) => {}
    }
}

/// Lets everything that waits or runs end.
fn quiesce(w: &mut World, order: &[DependencyId]) {
    for d in order {
        for receipt in w.waiting.get(d).cloned().unwrap_or_default() {
            w.drop_request(*d, receipt, "withdrawn");
        }
        if w.running.contains_key(d) {
            w.end(*d, Phase::Succeeded);
        }
    }
}

fn awaited(w: &World) -> Vec<(ProjectBuildId, ReceiptId)> {
    let slots = w.records.values().flat_map(|r| r.slots.values().map(|s| (r.id, s)));
    slots
        .filter_map(|(id, s)| match s.kind {
            SlotKind::Awaiting { receipt } => Some((id, receipt)),
            _ => None,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_invariants_and_converges(acts in acts(), order in Just(vec![A, B, C]).prop_shuffle()) {
        let mut w = World::of(&[(P, &[A, B]), (Q, &[B, C])]);
        for (number, act) in acts.iter().enumerate() {
            perform(&mut w, u128::try_from(number).unwrap(), act);
        }
        quiesce(&mut w, &order);
        prop_assert_eq!(awaited(&w), vec![]);
        for (id, project) in &w.projects {
            prop_assert!(project.open.is_empty(), "something stays open: {project:?}");
            let links: Option<BTreeMap<_, _>> =
                project.members.iter().map(|(d, m)| Some((*d, m.stands()?))).collect();
            if let Some(links) = links.filter(|l| !l.is_empty()) {
                prop_assert_eq!(w.current(*id), links);
            }
        }
    }

    #[test]
    fn overlapping_rebuilds_converge_in_any_order_of_their_ends(order in Just(vec![A, B, C]).prop_shuffle(), whole in 0_u8..8) {
        let mut w = World::built(&[(P, &[A, B, C]), (Q, &[C, A])]);
        perform(&mut w, 1, &Act::Whole(P, whole, 0));
        let started: BTreeMap<_, _> = [C, A, B].into_iter().map(|d| (d, w.start(d))).collect();
        for d in &order {
            w.end(*d, Phase::Succeeded);
        }
        prop_assert_eq!(w.current(P), started.clone());
        prop_assert_eq!(w.current(Q), BTreeMap::from([(A, started[&A]), (C, started[&C])]));
    }

    #[test]
    fn the_same_history_gives_the_same_records(acts in acts()) {
        let run = || {
            let mut w = World::of(&[(P, &[A, B]), (Q, &[B, C])]);
            for (number, act) in acts.iter().enumerate() {
                perform(&mut w, u128::try_from(number).unwrap(), act);
            }
            (w.projects, w.records)
        };
        prop_assert_eq!(run(), run());
    }
}

#[test]
fn a_receipt_is_its_own() {
    assert_ne!(receipt(A, 1), receipt(B, 1));
}
