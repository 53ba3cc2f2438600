//! Where a build stands, by what was read of queue and builds.

use crate::{
    canonical::{canonical, is_cut_off},
    reference::Reference,
    wire::{Build, Item},
};
use std::collections::HashMap;

/// What was read of one job, and of the queue before that.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) builds: HashMap<u64, &'a Build>,
    /// All builds from this number on were read.
    pub(crate) down_to: u64,
    /// The session of the process that told it.
    pub(crate) session: &'a str,
    /// By the launch keys that they carry, if this is the parameter that does.
    keys: HashMap<(&'a str, &'a str), Keyed<'a>>,
}

#[derive(Debug, Default)]
struct Keyed<'a> {
    items: Vec<&'a Item>,
    builds: Vec<&'a Build>,
}

/// Where a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand<'a> {
    /// In the queue.
    Queued(&'a Item),
    /// It has a record.
    Build(&'a Build),
    /// The record of this build must be read first.
    AskBuild(u64),
    /// This queue item must be read first.
    AskItem(u64),
    /// The server does not know it.
    Unknown,
}

impl<'a> Facts<'a> {
    /// `parameters` are the names of those that carry keys.
    pub(crate) fn new(
        items: &'a [Item],
        builds: &'a [Build],
        down_to: u64,
        session: &'a str,
        parameters: &[&'a str],
    ) -> Self {
        let mut keys: HashMap<(&str, &str), Keyed<'_>> = HashMap::new();
        for parameter in parameters {
            for item in items {
                if let Some(Some(key)) = item.parameters.as_ref().and_then(|p| p.get(*parameter)) {
                    keys.entry((*parameter, key)).or_default().items.push(item);
                }
            }
            for build in builds {
                if let Some(Some(key)) = build.parameters.as_ref().and_then(|p| p.get(*parameter)) {
                    keys.entry((*parameter, key)).or_default().builds.push(build);
                }
            }
        }
        let builds = builds.iter().map(|b| (b.number, b)).collect();
        Self { builds, down_to, session, keys }
    }

    /// Where the build of this reference stands.
    pub(crate) fn stand(&self, reference: &Reference, key: &str) -> Stand<'a> {
        if let Some(number) = reference.number {
            match self.builds.get(&number) {
                None if number < self.down_to => return Stand::AskBuild(number),
                None => {}
                Some(build) if is_or_may_be(build, reference, key) && !is_cut_off(build) => {
                    return Stand::Build(build);
                }
                Some(_) => {}
            }
        }
        match (self.twin(reference, key), self.waiting(reference, key)) {
            // Jenkins stopped it in a crash, and is about to run its item once more.
            (Some(Stand::Build(build)), Some(item)) if is_cut_off(build) => Stand::Queued(item),
            (Some(twin), _) => twin,
            (None, Some(item)) => Stand::Queued(item),
            (None, None) => self.by_item(reference),
        }
    }

    /// The queue item of the key.
    pub(crate) fn waiting(&self, reference: &Reference, key: &str) -> Option<&'a Item> {
        self.keys.get(&(reference.parameter.as_str(), key))?.items.first().copied()
    }

    /// The build that stands for the key, among those that were read.
    pub(crate) fn twin(&self, reference: &Reference, key: &str) -> Option<Stand<'a>> {
        let keyed = self.keys.get(&(reference.parameter.as_str(), key))?;
        canonical(keyed.builds.iter().copied()).map(Stand::Build)
    }

    /// All items and unfinished builds of the key that nobody copied.
    pub(crate) fn all_of(&self, reference: &Reference, key: &str) -> (Vec<u64>, Vec<&'a Build>) {
        let Some(keyed) = self.keys.get(&(reference.parameter.as_str(), key)) else {
            return Default::default();
        };
        let builds = keyed.builds.iter().filter(|b| !b.has_ended() && !b.is_copy()).copied().collect();
        (keyed.items.iter().map(|i| i.id).collect(), builds)
    }

    /// By a queue item of the running session: in another one its id means nothing.
    fn by_item(&self, reference: &Reference) -> Stand<'a> {
        let (Some(item), None) = (reference.item, reference.number) else { return Stand::Unknown };
        if reference.session.is_empty() || reference.session != self.session {
            return Stand::Unknown;
        }
        let young = self.builds.values().find(|b| b.queue_id == Some(item) && b.parameters.is_none());
        young.map_or(Stand::AskItem(item), |build| Stand::Build(build))
    }
}

/// Whether a build of the number that the reference has is ours: it says so, or it has no parameters and is of our queue
/// item, or cannot say yet of which it is.
pub(crate) fn is_or_may_be(build: &Build, reference: &Reference, key: &str) -> bool {
    let is_of_item = match (build.queue_id, reference.item) {
        (Some(its), Some(ours)) => its == ours,
        _ => !build.has_ended(),
    };
    build.carries(&reference.parameter, key) || (build.parameters.is_none() && is_of_item)
}

/// How many builds of a list are worth reading instead of asking for one by its number. Beyond that, what lies further down
/// is read one by one.
const GAP: u64 = 200;

/// The lowest number that the list of builds is to reach for these, of which the highest number is `next`. A number counts as
/// often as it is wanted.
pub(crate) fn reach(next: u64, wanted: &[u64]) -> u64 {
    let mut wanted: Vec<u64> = wanted.to_vec();
    wanted.sort_unstable_by(|a, b| b.cmp(a));
    let worth = std::iter::successors(Some(GAP), |worth| Some(worth.saturating_add(GAP)));
    let pays = wanted.iter().zip(worth).filter(|(number, worth)| next.saturating_sub(**number) <= *worth);
    pays.map(|(number, _)| *number).min().map_or(next, |lowest| lowest.min(next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JenkinsJob;
    use capomastro_core::model::LaunchKey;

    const KEY: &str = "018f0000-0000-7000-8000-000000000007";
    const P: &str = "CAPOMASTRO_BUILD_ID";

    fn values(key: &str) -> Option<crate::wire::Values> {
        Some([(P.to_owned(), Some(key.to_owned()))].into())
    }

    fn build(number: u64, key: &str) -> Build {
        Build {
            number,
            is_building: true,
            queue_id: Some(number + 100),
            parameters: values(key),
            ..Build::default()
        }
    }

    fn young(number: u64) -> Build {
        Build { parameters: None, ..build(number, "") }
    }

    /// Without parameters, of this item.
    fn of_item(number: u64, item: u64) -> Build {
        Build { queue_id: Some(item), ..young(number) }
    }

    fn ended(build: Build) -> Build {
        Build { is_building: false, result: Some("SUCCESS".into()), ..build }
    }

    fn item(id: u64, key: &str) -> Item {
        Item { id, parameters: values(key), ..Item::default() }
    }

    fn cut_off(number: u64) -> Build {
        Build { is_building: false, result: Some("ABORTED".into()), ..build(number, KEY) }
    }

    #[test]
    fn a_build_stands_where_the_facts_say() {
        let key: LaunchKey = KEY.parse().unwrap();
        let bare = Reference::of(&JenkinsJob::new("a"), key, "s1", 3);
        let queued = || bare.clone().queued(105);
        let started = |n| queued().started(n);
        let of = |reference: &Reference, items: &[Item], builds: &[Build], session: &str| {
            let facts = Facts::new(items, builds, 3, session, &[P]);
            match facts.stand(reference, KEY) {
                Stand::Queued(item) => format!("item {}", item.id),
                Stand::Build(build) => format!("build {}", build.number),
                Stand::AskBuild(n) => format!("ask build {n}"),
                Stand::AskItem(n) => format!("ask item {n}"),
                Stand::Unknown => "unknown".into(),
            }
        };
        for (what, reference, items, builds, session, stands) in [
            ("it waits", queued(), vec![item(105, KEY)], vec![], "s1", "item 105"),
            ("it waits under another id", queued(), vec![item(7, KEY)], vec![], "s2", "item 7"),
            ("the id is another's now", queued(), vec![item(105, "x")], vec![], "s2", "unknown"),
            ("it runs", queued(), vec![], vec![build(5, KEY)], "s1", "build 5"),
            (
                "both were read in between",
                queued(),
                vec![item(105, KEY)],
                vec![build(5, KEY)],
                "s1",
                "build 5",
            ),
            ("it is young", queued(), vec![], vec![young(5)], "s1", "build 5"),
            ("another is young", queued(), vec![], vec![young(6)], "s1", "ask item 105"),
            ("young, and the id means nothing", queued(), vec![], vec![young(5)], "s2", "unknown"),
            ("it left", queued(), vec![], vec![build(5, "x")], "s1", "ask item 105"),
            ("only the key is known", bare.clone(), vec![], vec![build(5, KEY)], "s2", "build 5"),
            ("only the key is known, nothing there", bare.clone(), vec![], vec![], "s2", "unknown"),
            ("by number", started(5), vec![], vec![build(5, KEY)], "s2", "build 5"),
            ("by number, young", started(5), vec![], vec![young(5)], "s1", "build 5"),
            ("the number is another's", started(5), vec![], vec![build(5, "x")], "s1", "unknown"),
            (
                "the job was made again",
                started(5),
                vec![],
                vec![build(5, "x"), build(4, KEY)],
                "s1",
                "build 4",
            ),
            ("below what was read", started(2), vec![], vec![build(5, KEY)], "s1", "ask build 2"),
            ("a hole", started(5), vec![], vec![build(6, "x")], "s2", "unknown"),
            ("a hole, and it was queued again", started(5), vec![item(105, KEY)], vec![], "s2", "item 105"),
            ("a hole, and it ran again", started(5), vec![], vec![build(6, KEY)], "s2", "build 6"),
            ("cut off", started(5), vec![], vec![cut_off(5)], "s2", "build 5"),
            (
                "cut off, and it waits again",
                started(5),
                vec![item(105, KEY)],
                vec![cut_off(5)],
                "s2",
                "item 105",
            ),
            ("by number, another's that is young", started(5), vec![], vec![of_item(5, 7)], "s1", "unknown"),
            (
                "by number, without parameters",
                started(5),
                vec![],
                vec![ended(of_item(5, 105))],
                "s1",
                "build 5",
            ),
            ("another's without parameters", started(5), vec![], vec![ended(of_item(5, 7))], "s1", "unknown"),
            (
                "cut off, and it ran again",
                started(5),
                vec![],
                vec![cut_off(5), Build { queue_id: Some(105), ..build(6, KEY) }],
                "s2",
                "build 6",
            ),
        ] {
            assert_eq!(of(&reference, &items, &builds, session), stands, "{what}");
        }
    }

    #[test]
    fn lists_are_read_as_far_as_they_pay() {
        for (next, wanted, lowest) in [
            (100, vec![], 100),
            (100, vec![99, 98, 97], 97),
            (500, vec![499, 300, 101], 101),
            (500, vec![499, 3], 499),
            (9_000, vec![5], 9_000),
            (10, vec![50], 10),
            // Many that are far down.
            (501, (1..=13).collect(), 1),
            (501, vec![7, 7, 7], 7),
            (501, vec![7, 7], 501),
            (9_000, (1..=13).collect(), 9_000),
            // Some of which pay, and one that does not.
            (900, vec![700, 500, 300, 10], 300),
            (u64::MAX, vec![0], u64::MAX),
        ] {
            assert_eq!(reach(next, &wanted), lowest, "{next} {wanted:?}");
        }
        let many: Vec<u64> = (1..=500).collect();
        assert_eq!(reach(501, &many), 1);
    }
}
