//! Is there anything of a key? What was read of queue and builds either shows it, or proves that there is nothing, or
//! leaves a doubt.

use crate::{
    canonical::canonical,
    wire::{Build, Item},
};
use std::fmt;

/// What was read, in this order: the queue, the job's builds down to the floor, the queue again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looked {
    pub(crate) before: Vec<Item>,
    pub(crate) builds: Vec<Build>,
    pub(crate) after: Vec<Item>,
    /// The number that the job gives to its next build, as told with the builds.
    pub(crate) next: Option<u64>,
    /// The lowest number that a build of ours can have; builds were read down to it. `None` where it is not known.
    pub(crate) floor: Option<u64>,
    /// Whether the job declares the parameter that carries the key.
    pub(crate) is_declared: bool,
    /// Whether the queue has items of this job that the user may not see.
    pub(crate) has_hidden: bool,
    /// Whether all was told by one process of the server.
    pub(crate) is_one_session: bool,
}

/// Why nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The server was restarted meanwhile.
    Restarted,
    /// A number was given to a build of which there is no record, or not yet.
    Hole(u64),
    /// A build goes on whose parameters are not attached yet.
    Young(u64),
    /// A build has ended, and it cannot be told whose it was.
    Unidentified(u64),
    /// The queue has items that the user may not see.
    Hidden,
    /// The job does not tell the number of its next build.
    NoNumbers,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restarted => f.write_str("the server was restarted meanwhile"),
            Self::Hole(n) => write!(f, "there is no record of build {n}"),
            Self::Young(n) => write!(f, "build {n} has just begun"),
            Self::Unidentified(n) => write!(f, "build {n} does not tell whose it is"),
            Self::Hidden => f.write_str("the queue has items that the user may not see"),
            Self::NoNumbers => f.write_str("the job does not tell its numbers"),
        }
    }
}

/// What a sweep has shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Swept {
    Build(u64),
    Item(u64),
    /// Nothing is there, as far as one look can tell.
    Nothing,
    Doubtful(Doubt),
}

impl Looked {
    pub(crate) fn of(&self, parameter: &str, key: &str) -> Swept {
        // A build is worth more than an item: an item that was read first may have become it.
        if let Some(build) = canonical(self.builds.iter().filter(|b| b.carries(parameter, key))) {
            return Swept::Build(build.number);
        }
        if let Some(item) = self.after.iter().chain(&self.before).find(|i| i.carries(parameter, key)) {
            return Swept::Item(item.id);
        }
        self.doubt(parameter).map_or(Swept::Nothing, Swept::Doubtful)
    }

    fn doubt(&self, parameter: &str) -> Option<Doubt> {
        if !self.is_one_session {
            return Some(Doubt::Restarted);
        }
        if self.has_hidden {
            return Some(Doubt::Hidden);
        }
        let is_ours = |b: &&Build| self.floor.is_none_or(|floor| b.number >= floor);
        let unclear = self.builds.iter().filter(is_ours).find_map(|b| match &b.parameters {
            None if !b.has_ended() => Some(Doubt::Young(b.number)),
            None => Some(Doubt::Unidentified(b.number)),
            // The definition went before the build began, and our key with it.
            Some(values) if !self.is_declared && !values.contains_key(parameter) => {
                Some(Doubt::Unidentified(b.number))
            }
            Some(_) => None,
        });
        if unclear.is_some() {
            return unclear;
        }
        let floor = self.floor?;
        let Some(next) = self.next else { return Some(Doubt::NoNumbers) };
        (floor..next).find(|n| self.builds.iter().all(|b| b.number != *n)).map(Doubt::Hole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: &str = "ID";
    const KEY: &str = "k";

    fn values(key: &str) -> Option<crate::wire::Values> {
        Some([(P.to_owned(), Some(key.to_owned()))].into())
    }

    fn item(id: u64, key: &str) -> Item {
        Item { id, parameters: values(key), ..Item::default() }
    }

    fn running(number: u64, key: &str) -> Build {
        Build { number, is_building: true, parameters: values(key), ..Build::default() }
    }

    fn young(number: u64) -> Build {
        Build { parameters: None, ..running(number, "") }
    }

    fn ended(build: Build) -> Build {
        Build { is_building: false, result: Some("SUCCESS".into()), ..build }
    }

    fn looked(builds: Vec<Build>, next: u64) -> Looked {
        Looked {
            builds,
            next: Some(next),
            floor: Some(5),
            is_declared: true,
            is_one_session: true,
            ..Looked::default()
        }
    }

    #[test]
    fn what_was_read_shows_it_or_proves_or_doubts() {
        let others = || vec![running(6, "x"), ended(running(5, "y"))];
        let without = |build: Build| Build { parameters: Some(crate::wire::Values::new()), ..build };
        for (what, looked, swept) in [
            ("a build", looked(vec![running(6, "x"), running(5, KEY)], 7), Swept::Build(5)),
            ("an item", Looked { after: vec![item(9, KEY)], ..looked(others(), 7) }, Swept::Item(9)),
            (
                "an item that has just left",
                Looked { before: vec![item(9, KEY)], ..looked(others(), 7) },
                Swept::Item(9),
            ),
            (
                "an item that became a build",
                Looked { before: vec![item(9, KEY)], ..looked(vec![running(5, KEY)], 6) },
                Swept::Build(5),
            ),
            ("others only", Looked { after: vec![item(9, "z")], ..looked(others(), 7) }, Swept::Nothing),
            ("nothing at all", looked(vec![], 5), Swept::Nothing),
            ("a young one", looked(vec![young(5)], 6), Swept::Doubtful(Doubt::Young(5))),
            ("a young one below the floor", looked(vec![young(4)], 5), Swept::Nothing),
            (
                "one that never told",
                looked(vec![ended(young(5))], 6),
                Swept::Doubtful(Doubt::Unidentified(5)),
            ),
            ("another's without our parameter", looked(vec![ended(without(young(5)))], 6), Swept::Nothing),
            (
                "one after the definition went",
                Looked { is_declared: false, ..looked(vec![ended(without(young(5)))], 6) },
                Swept::Doubtful(Doubt::Unidentified(5)),
            ),
            ("a hole", looked(vec![running(6, "x")], 7), Swept::Doubtful(Doubt::Hole(5))),
            ("a number ahead", looked(others(), 8), Swept::Doubtful(Doubt::Hole(7))),
            (
                "a restart",
                Looked { is_one_session: false, ..looked(others(), 7) },
                Swept::Doubtful(Doubt::Restarted),
            ),
            (
                "a hidden item",
                Looked { has_hidden: true, ..looked(others(), 7) },
                Swept::Doubtful(Doubt::Hidden),
            ),
            ("no numbers", Looked { next: None, ..looked(vec![], 5) }, Swept::Doubtful(Doubt::NoNumbers)),
            ("no floor", Looked { floor: None, ..looked(vec![running(6, "x")], 9) }, Swept::Nothing),
        ] {
            assert_eq!(looked.of(P, KEY), swept, "{what}");
        }
    }
}
