//! The event stream.

use super::{
    StoreHarness,
    desk::{Desk, SECOND},
    samples,
};
use capomastro_core::{
    events::{Event, EventKind},
    model::DependencyId,
    store::{EventFilter, EventPage, FIRST_EVENT},
};

fn told(id: DependencyId, what: impl std::fmt::Display) -> Event {
    Event::of_dependency(id, EventKind::Changed { what: what.to_string() })
}

async fn read(desk: &Desk, filter: EventFilter, after: u64, limit: usize) -> EventPage {
    let page = desk.store.events(filter, after, limit).await.expect("events are read");
    assert!(page.upto >= after, "the place never goes back");
    assert!(page.items.len() <= limit, "a page is within its limit");
    assert!(page.items.iter().all(|e| e.seq > after && e.seq <= page.upto), "{page:?} behind {after}");
    assert!(page.items.windows(2).all(|pair| pair[0].seq < pair[1].seq), "in order: {page:?}");
    page
}

pub(super) async fn events_come_in_the_order_of_their_commits(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let id = desk.dependency_id();
    let mut expected = Vec::new();
    for commit in 0..5 {
        desk.clock.advance(SECOND);
        let mut batch = desk.batch();
        batch.events = (0..4).map(|n| told(id, format!("{commit}.{n}"))).collect();
        desk.commit(&batch).await;
        expected.extend(batch.events.into_iter().map(|event| (desk.now(), event)));
    }
    for limit in 1..=21 {
        let mut found = Vec::new();
        let mut after = FIRST_EVENT;
        loop {
            let page = read(&desk, EventFilter::All, after, limit).await;
            if page.items.is_empty() {
                break;
            }
            after = page.upto;
            found.extend(page.items.into_iter().map(|stored| (stored.at, stored.event)));
        }
        assert_eq!(found, expected, "pages of {limit}");
    }
}

pub(super) async fn each_kind_of_event_returns_as_it_was_written(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let mut batch = desk.batch();
    batch.events = samples::events(&desk);
    desk.commit(&batch).await;
    let desk = desk.reopened(harness).await;
    let found: Vec<Event> = desk.events().await.into_iter().map(|stored| stored.event).collect();
    assert_eq!(found, batch.events);
}

pub(super) async fn events_can_be_filtered(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (mine, its, project) = (desk.dependency_id(), desk.dependency_id(), desk.project_id());
    let mut of_both = told(mine, "both");
    of_both.project = Some(project);
    let mut of_project = told(mine, "project");
    (of_project.dependency, of_project.project) = (None, Some(project));
    let mut of_nothing = told(mine, "nothing");
    of_nothing.dependency = None;
    let all = [told(mine, 1), told(its, 2), of_both, of_project, of_nothing, told(its, 3), told(mine, 4)];
    for event in &all {
        let mut batch = desk.batch();
        batch.events = vec![event.clone()];
        desk.commit(&batch).await;
    }
    let last = desk.events().await.last().expect("events").seq;
    for (filter, expected) in [
        (EventFilter::All, vec![0, 1, 2, 3, 4, 5, 6]),
        (EventFilter::Dependency(mine), vec![0, 2, 6]),
        (EventFilter::Dependency(its), vec![1, 5]),
        (EventFilter::Project(project), vec![2, 3]),
        (EventFilter::Dependency(desk.dependency_id()), vec![]),
        (EventFilter::Project(desk.project_id()), vec![]),
    ] {
        let expected: Vec<&Event> = expected.into_iter().map(|i: usize| &all[i]).collect();
        for limit in 1..=8 {
            let (mut found, mut after) = (Vec::new(), FIRST_EVENT);
            loop {
                let page = read(&desk, filter, after, limit).await;
                let short = page.items.len() < limit;
                found.extend(page.items.into_iter().map(|stored| stored.event));
                if page.upto == after || (short && page.upto >= last) {
                    break;
                }
                after = page.upto;
            }
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{filter:?}, pages of {limit}");
        }
    }
}

pub(super) async fn a_place_in_the_stream_never_goes_back(harness: &dyn StoreHarness) {
    let desk = Desk::fresh(harness).await;
    let (mine, its) = (desk.dependency_id(), desk.dependency_id());
    let tell = async |id| {
        let mut batch = desk.batch();
        batch.events = vec![told(id, "x")];
        desk.commit(&batch).await;
    };
    tell(its).await;
    let filter = EventFilter::Dependency(mine);
    let mut after = read(&desk, filter, FIRST_EVENT, 10).await.upto;
    for _ in 0..3 {
        // Whatever was skipped, what comes next is found from there.
        tell(its).await;
        tell(mine).await;
        tell(its).await;
        let page = read(&desk, filter, after, 10).await;
        assert_eq!(page.items.len(), 1);
        after = page.upto;
        let nothing = read(&desk, filter, after, 10).await;
        assert_eq!(nothing.items, vec![]);
        after = nothing.upto;
    }
    let beyond = read(&desk, EventFilter::All, after + 1_000, 10).await;
    assert_eq!((beyond.items, beyond.upto), (vec![], after + 1_000));
}

pub(super) async fn a_follower_misses_nothing_while_others_write(harness: &dyn StoreHarness) {
    const WRITERS: usize = 8;
    const EACH: usize = 15;
    let desk = Desk::fresh(harness).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let desk = desk.clone();
        let id = desk.dependency_id();
        writers.spawn(async move {
            for n in 0..EACH {
                let mut batch = desk.batch();
                batch.events = vec![told(id, format!("{writer} {n} a")), told(id, format!("{writer} {n} b"))];
                desk.commit(&batch).await;
            }
        });
    }
    let (mut found, mut after) = (Vec::new(), FIRST_EVENT);
    // One look after the last writer ended sees the rest.
    let mut ended = false;
    loop {
        let page = read(&desk, EventFilter::All, after, 7).await;
        after = page.upto;
        let nothing_new = page.items.is_empty();
        found.extend(page.items);
        if ended && nothing_new {
            break;
        }
        match writers.try_join_next() {
            Some(result) => result.expect("a writer ends well"),
            None if writers.is_empty() => ended = true,
            None => tokio::task::yield_now().await,
        }
    }
    assert_eq!(found, desk.events().await, "a follower sees what there is, in order and once");
    assert_eq!(found.len(), WRITERS * EACH * 2);
    let whats: Vec<String> = found
        .into_iter()
        .map(|stored| match stored.event.kind {
            EventKind::Changed { what } => what,
            kind => panic!("an event that nobody wrote: {kind:?}"),
        })
        .collect();
    for writer in 0..WRITERS {
        let own: Vec<&String> = whats.iter().filter(|what| what.starts_with(&format!("{writer} "))).collect();
        let expected: Vec<String> =
            (0..EACH).flat_map(|n| ["a", "b"].map(|part| format!("{writer} {n} {part}"))).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>(), "each writer's events in its order");
    }
    assert!(
        whats.chunks(2).all(|pair| pair[0][..pair[0].len() - 1] == pair[1][..pair[1].len() - 1]),
        "the events of one commit stand together"
    );
}
