//! The `tree` parameter: which properties of which objects an answer holds, and which elements of its lists.

use std::{collections::BTreeMap, rc::Rc};

/// What an exporter asks before it writes a property.
#[derive(Clone, Debug)]
pub(super) enum Select {
    /// No `tree`: properties whose visibility is at least this.
    Depth(i32),
    /// Only what is named.
    Named(Rc<Node>),
}

/// One level of a `tree`: the properties wanted there.
#[derive(Debug, Default)]
pub(super) struct Node {
    children: BTreeMap<String, (Rc<Self>, Range)>,
}

/// A range of a list: `{from,to}` with `to` excluded.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Range {
    pub(super) const ALL: Self = Self { from: 0, to: usize::MAX };

    /// The elements of `all` that are in this range.
    pub(super) fn of<T>(self, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        all.skip(self.from).take(self.to.saturating_sub(self.from))
    }
}

/// A `tree` that Jenkins answers with 500.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// How exporters mark a property: most are seen at the level that was asked for, names also one level below.
pub(super) mod visible {
    /// Seen at the level that was asked for.
    pub(in crate::jenkins) const HERE: i32 = 1;
    /// Seen one level deeper too.
    pub(in crate::jenkins) const DEEPER: i32 = 2;
    /// Seen wherever the object is.
    pub(in crate::jenkins) const ALWAYS: i32 = 3;
    /// Seen by name only.
    pub(in crate::jenkins) const BY_NAME: i32 = 0;
}

impl Select {
    /// What the query's `tree` and `depth` ask for.
    pub(super) fn from_query(tree: Option<&str>, depth: Option<&str>) -> Result<Self, Malformed> {
        if let Some(tree) = tree {
            return parse(tree).map(|node| Self::Named(Rc::new(node)));
        }
        let depth = match depth {
            Some(depth) => depth.parse::<i32>().map_err(|_| Malformed)?,
            None => 0,
        };
        Ok(Self::Depth(1_i32.saturating_sub(depth)))
    }

    /// How to write the value of property `name`, if it is wanted.
    pub(super) fn wants(&self, name: &str, visibility: i32) -> Option<(Self, Range)> {
        match self {
            Self::Depth(least) => (visibility >= *least).then(|| (Self::Depth(least + 1), Range::ALL)),
            Self::Named(node) => node
                .children
                .get(name)
                .or_else(|| node.children.get("*"))
                .map(|(child, range)| (Self::Named(Rc::clone(child)), *range)),
        }
    }

    /// As [`wants`](Self::wants), for a property whose value counts as part of its owner.
    pub(super) fn wants_inline(&self, name: &str, visibility: i32) -> Option<(Self, Range)> {
        match self {
            Self::Depth(least) => (visibility >= *least).then(|| (self.clone(), Range::ALL)),
            Self::Named(_) => self.wants(name, visibility),
        }
    }
}

fn parse(tree: &str) -> Result<Node, Malformed> {
    let mut rest = tree;
    let node = list(&mut rest)?;
    if rest.is_empty() { Ok(node) } else { Err(Malformed) }
}

fn list(rest: &mut &str) -> Result<Node, Malformed> {
    let mut node = Node::default();
    loop {
        let end = rest.find([',', '[', ']', '{', '}']).unwrap_or(rest.len());
        let name = rest[..end].trim();
        if name.is_empty() {
            return Err(Malformed);
        }
        *rest = &rest[end..];
        let child = if let Some(inner) = rest.strip_prefix('[') {
            *rest = inner;
            let child = list(rest)?;
            *rest = rest.strip_prefix(']').ok_or(Malformed)?;
            child
        } else {
            Node::default()
        };
        let range = match rest.strip_prefix('{') {
            Some(inner) => {
                let end = inner.find('}').ok_or(Malformed)?;
                *rest = &inner[end + 1..];
                range(&inner[..end])?
            }
            None => Range::ALL,
        };
        node.children.insert(name.to_owned(), (Rc::new(child), range));
        match rest.strip_prefix(',') {
            Some(more) => *rest = more,
            None => return Ok(node),
        }
    }
}

fn range(text: &str) -> Result<Range, Malformed> {
    let number = |text: &str, otherwise: usize| match text.trim() {
        "" => Ok(otherwise),
        text => text.parse::<usize>().map_err(|_| Malformed),
    };
    match text.split_once(',') {
        Some((from, to)) => Ok(Range { from: number(from, 0)?, to: number(to, usize::MAX)? }),
        None => {
            let index = text.trim().parse::<usize>().map_err(|_| Malformed)?;
            Ok(Range { from: index, to: index.saturating_add(1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(range: &str) -> Result<Vec<usize>, Malformed> {
        let select = Select::from_query(Some(&format!("builds[number]{range}")), None)?;
        let (_, range) = select.wants("builds", visible::HERE).expect("it was named");
        Ok(range.of(0..10).collect())
    }

    #[test]
    fn ranges_are_as_seen_live() {
        let table: [(&str, &[usize]); 7] = [
            ("", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
            ("{0,3}", &[0, 1, 2]),
            ("{2,4}", &[2, 3]),
            ("{,2}", &[0, 1]),
            ("{8,}", &[8, 9]),
            ("{3}", &[3]),
            ("{5,2}", &[]),
        ];
        for (range, expected) in table {
            assert_eq!(elements(range).as_deref(), Ok(expected), "{range}");
        }
        for malformed in ["{-1,2}", "{a}", "{0,1", "]", "{}"] {
            assert_eq!(elements(malformed), Err(Malformed), "{malformed}");
        }
    }

    #[test]
    fn a_malformed_tree_is_told_from_a_good_one() {
        for malformed in ["", "a[", "a]", "a,,b", "a[]", "a[b", "[a]", "a{1"] {
            assert!(Select::from_query(Some(malformed), None).is_err(), "{malformed}");
        }
        for good in ["a", "a,b", "a[b[c]],d", "a[*]", "a[b{1,2}]{3}"] {
            assert!(Select::from_query(Some(good), None).is_ok(), "{good}");
        }
    }

    #[test]
    fn names_are_followed_and_the_rest_left_out() {
        let select = Select::from_query(Some("a[b],c[*]"), None).unwrap();
        assert!(select.wants("d", visible::ALWAYS).is_none());
        let (a, _) = select.wants("a", visible::BY_NAME).unwrap();
        assert!(a.wants("b", visible::HERE).is_some() && a.wants("x", visible::HERE).is_none());
        let (c, _) = select.wants("c", visible::HERE).unwrap();
        assert!(c.wants("anything", visible::HERE).is_some());
    }

    #[test]
    fn depth_widens_what_is_seen() {
        let flat = Select::from_query(None, None).unwrap();
        let (inner, _) = flat.wants("builds", visible::HERE).unwrap();
        assert!(
            inner.wants("number", visible::DEEPER).is_some()
                && inner.wants("result", visible::HERE).is_none()
        );
        let deep = Select::from_query(None, Some("1")).unwrap();
        let (inner, _) = deep.wants("builds", visible::HERE).unwrap();
        assert!(inner.wants("result", visible::HERE).is_some());
    }
}
