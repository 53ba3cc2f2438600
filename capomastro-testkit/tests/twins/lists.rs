//! Twins of the cases about lists and their pages.

use crate::{Ground, bent::refuse, twins};
use capomastro_core::{
    ErrorKind,
    store::{ListKey, MAX_PAGE, Page, Query, Record, Versioned},
};

/// Where a record stands in a list.
fn place(query: &Query, record: &Record) -> Option<String> {
    let Query::List { list, .. } = query else { return None };
    record.lists().into_iter().find_map(|(key, place)| (key == *list).then_some(place))
}

twins! {
    each_record_is_found_in_its_lists_and_leaves_them, "deleted projects are in no list": |ground: &Ground| {
        ground.sound().on_list(|mem, query, after, limit| {
            let mut page = mem.list(query, after, limit)?;
            if matches!(query, Query::List { list, .. } if *list == ListKey::deleted_projects()) {
                page.items.clear();
            }
            Ok(page)
        })
    };
    lists_are_sorted_by_bytes_both_ways, "lists are sorted as UTF-16": |ground: &Ground| {
        ground.sound().on_list(|mem, query, after, limit| {
            let mut page = mem.list(query, after, limit)?;
            let units = |stored: &Versioned| -> Vec<u16> {
                place(query, &stored.record).unwrap_or_default().encode_utf16().collect()
            };
            match query {
                Query::List { backwards: true, .. } => {
                    page.items.sort_by_key(|stored| std::cmp::Reverse(units(stored)));
                }
                _ => page.items.sort_by_key(units),
            }
            Ok(page)
        })
    };
    pages_make_up_the_whole_list, "after a full page there is always one more": |ground: &Ground| {
        ground.sound().on_list(|mem, query, after, limit| {
            let mut page = mem.list(query, after, limit)?;
            if page.items.len() == limit && page.next.is_none() {
                page.next = page.items.last().and_then(|stored| place(query, &stored.record));
            }
            Ok(page)
        })
    };
    what_stays_is_paged_exactly_once, "pages are counted": |ground: &Ground| {
        ground.sound().on_list(|mem, query, after, limit| {
            let skipped: usize = after.map_or(0, |after| after.parse().unwrap_or_default());
            if !(1..=MAX_PAGE).contains(&limit) {
                return refuse(ErrorKind::InvalidInput);
            }
            let (mut all, mut next) = (Vec::new(), None);
            loop {
                let page = mem.list(query, next.as_deref(), MAX_PAGE)?;
                all.extend(page.items);
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
            let more = all.len() > skipped + limit;
            let items = all.into_iter().skip(skipped).take(limit).collect();
            Ok(Page { at: mem.now(), items, next: more.then(|| (skipped + limit).to_string()) })
        })
    };
    a_place_may_outlive_its_record, "behind a place that is gone there is nothing": |ground: &Ground| {
        ground.sound().on_list(|mem, query, after, limit| {
            let there = |after: &str| {
                mem.records().iter().any(|record| place(query, record).as_deref() == Some(after))
            };
            if after.is_some_and(|after| !there(after)) {
                return Ok(Page { at: mem.now(), items: Vec::new(), next: None });
            }
            mem.list(query, after, limit)
        })
    };
    a_page_has_at_most_a_thousand, "no more than a thousand records are read at once": |ground: &Ground| {
        ground.sound().on_get(|mem, keys| {
            if keys.len() > MAX_PAGE {
                return refuse(ErrorKind::InvalidInput);
            }
            mem.get(keys)
        })
    };
    limits_out_of_range_are_refused, "a limit of events that is too high is lowered": |ground: &Ground| {
        ground.sound().on_events(|mem, filter, after, limit| mem.events(filter, after, limit.min(MAX_PAGE)))
    };
}
