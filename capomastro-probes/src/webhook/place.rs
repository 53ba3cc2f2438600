//! Which repository a hook is about, and which sources come from it. Pure.

use capomastro_core::model::Source;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use std::{collections::BTreeSet, fmt};

/// The longest place, in bytes.
const MAX_PLACE: usize = 1_000;
/// How many refs one hook tells apart; more count as all.
const MAX_REFS: usize = 64;
/// What stands for the default branch.
const HEAD: &str = "HEAD";
/// What stands for refs that no forge tells of by name.
const OTHER: &str = "refs/other";

/// One text for all URLs under which a forge offers one repository: `https`, `ssh` and `git` URLs of it are the same place.
///
/// Scheme, user, port, the `.git` at the end and the case of letters are left out, so two repositories of one server may be
/// the same place. That does no harm: a place only tells which dependencies are looked at earlier.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(String);

impl Place {
    /// The place of a URL, of `user@host:path`, or of a folder of this machine; `None` if it is neither.
    pub fn of(remote: &str) -> Option<Self> {
        if remote.is_empty() || remote.len() > MAX_PLACE || remote.chars().any(char::is_control) {
            return None;
        }
        let (host, path) = if remote.starts_with('/') {
            (String::new(), remote.to_owned())
        } else if let Some((scheme, rest)) = remote.split_once("://") {
            let rest = rest.split(['?', '#']).next().unwrap_or_default();
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let decoded = percent_decode_str(path).decode_utf8().ok()?;
            if scheme.eq_ignore_ascii_case("file") {
                (String::new(), decoded.into_owned())
            } else {
                (host_of(authority)?, decoded.into_owned())
            }
        } else {
            let (host, path) = remote.split_once(':').filter(|(host, _)| !host.contains('/'))?;
            (host_of(host)?, path.to_owned())
        };
        if path.chars().any(char::is_control) {
            return None;
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let path = parts.join("/");
        let path = path.strip_suffix(".git").unwrap_or(&path).trim_end_matches('/').to_lowercase();
        // Bitbucket's own servers have `/scm/` before the path in their http URLs only.
        let path = if host.is_empty() { &path } else { path.strip_prefix("scm/").unwrap_or(&path) };
        (!path.is_empty()).then(|| Self(format!("{host}/{path}")))
    }

    /// The place as text: `host/path`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// The host of `user@host:port`, one name for what a forge offers under several.
fn host_of(authority: &str) -> Option<String> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?.0,
        None => host.split(':').next().unwrap_or_default(),
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_host = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:".contains(&b));
    // ssh on the port of https.
    let host = match host.as_str() {
        "ssh.github.com" => "github.com".into(),
        "altssh.gitlab.com" => "gitlab.com".into(),
        "altssh.bitbucket.org" => "bitbucket.org".into(),
        _ => host,
    };
    is_host.then_some(host)
}

/// What a dependency follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    pub(super) place: Place,
    /// The whole name of the ref, `HEAD`, or `None` where every change counts.
    pub(super) name: Option<String>,
}

impl Watched {
    /// What a source follows: the repository at `url` in its configuration, and one of `branch`, `tag` and `ref`, as
    /// [`GitSource`](../git/struct.GitSource.html) and its siblings write them. Without any of these, the default branch
    /// of a repository. Of a source with a job type, everything at its own `source`, if that is a place. `None` if it names
    /// neither.
    pub fn of(source: &Source) -> Option<Self> {
        let text = |key| source.config.get(key).and_then(Value::as_str);
        let Some(url) = text("url") else {
            // What a job type's script looks at, which knows what of it counts.
            let own = source.config.get("job_type").and(text("source"))?;
            return Place::of(own).map(Self::all_of);
        };
        let place = Place::of(url)?;
        let name = match (text("branch"), text("tag"), text("ref")) {
            (Some(branch), _, _) => Some(format!("refs/heads/{branch}")),
            (_, Some(tag), _) => Some(format!("refs/tags/{tag}")),
            (_, _, Some(name)) => Some(name.to_owned()),
            // A bookmark of Mercurial, say: what it is called at a forge is not known.
            _ if source.config.get("bookmark").is_some() => None,
            _ => Some(HEAD.to_owned()),
        };
        Some(Self { place, name })
    }

    /// Everything that happens at a place, for probes whose sources are written otherwise.
    pub const fn all_of(place: Place) -> Self {
        Self { place, name: None }
    }
}

/// What changed in a repository, as far as a hook says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// These refs, by their whole names; `HEAD` where it may be the default branch.
    Refs(BTreeSet<String>),
    /// It may be anything.
    Anything,
}

impl Changed {
    /// Nothing yet.
    pub(super) const fn nothing() -> Self {
        Self::Refs(BTreeSet::new())
    }

    /// One more ref. `default` is the default branch's short name, if the hook says it.
    pub(super) fn add(&mut self, name: &str, default: Option<&str>) {
        let Self::Refs(refs) = self else { return };
        if name.len() > MAX_PLACE || refs.len() >= MAX_REFS {
            *self = Self::Anything;
            return;
        }
        if let Some(branch) = name.strip_prefix("refs/heads/") {
            if default.is_none_or(|d| d == branch) {
                refs.insert(HEAD.into());
            }
            refs.insert(name.into());
        } else if name.starts_with("refs/tags/") {
            refs.insert(name.into());
        } else {
            refs.insert(OTHER.into());
        }
    }

    /// A change of refs that are neither branches nor tags.
    pub(super) fn other() -> Self {
        Self::Refs([OTHER.to_owned()].into())
    }

    /// Both.
    pub(super) fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::Refs(all), Self::Refs(more)) => {
                all.extend(more);
                if all.len() > 2 * MAX_REFS {
                    *self = Self::Anything;
                }
            }
            _ => *self = Self::Anything,
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Refs(refs) if refs.is_empty())
    }

    /// Whether somebody who follows this ref is concerned.
    pub(super) fn concerns(&self, name: Option<&str>) -> bool {
        let Self::Refs(refs) = self else { return true };
        match name {
            None => !refs.is_empty(),
            Some(name)
                if name == HEAD || name.starts_with("refs/heads/") || name.starts_with("refs/tags/") =>
            {
                refs.contains(name)
            }
            // A forge tells of these in many ways: each change may be theirs.
            Some(_) => !refs.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_urls_of_one_repository_are_one_place() {
        for (place, remotes) in [
            (
                "github.com/owner/repo",
                &[
                    "https://github.com/owner/repo.git",
                    "https://github.com/Owner/Repo",
                    "https://GitHub.com:443/owner/repo/",
                    "http://github.com/owner/repo",
                    "git://github.com/owner/repo.git",
                    "ssh://git@github.com/owner/repo.git",
                    "ssh://git@ssh.github.com:443/owner/repo.git",
                    "git@github.com:owner/repo.git",
                    "git@github.com:/owner/repo",
                    "https://user:hunter2@github.com/owner/repo.git",
                ][..],
            ),
            (
                "bitbucket.example.org/proj/repo",
                &[
                    "https://bitbucket.example.org/scm/PROJ/repo.git",
                    "ssh://git@bitbucket.example.org:7999/proj/repo.git",
                ],
            ),
            ("h/a/b c", &["https://h/a/b%20c", "ssh://h/a/b%20c.git", "h:a/b c"]),
            ("::1/a", &["ssh://git@[::1]:2222/a", "http://[::1]/a.git"]),
            ("/srv/a", &["/srv/a.git", "/srv//a/", "file:///srv/a.git"]),
        ] {
            for remote in remotes {
                assert_eq!(Place::of(remote).unwrap().as_str(), place, "{remote}");
            }
        }
    }

    #[test]
    fn other_repositories_are_other_places() {
        let repo = Place::of("https://h/a/b").unwrap();
        for other in ["https://h/a/b2", "https://h2/a/b", "https://h/a", "https://h/b/a/b", "/h/a/b"] {
            assert_ne!(Place::of(other), Some(repo.clone()), "{other}");
        }
        for none in
            ["", "a", "https://", "https://h", "https://h/", "https://h/a%0ab", "h\n:a", "https://h /a", "/"]
        {
            assert_eq!(Place::of(none), None, "{none:?}");
        }
        assert_eq!(Place::of(&format!("https://h/{}", "a".repeat(1_000))), None);
    }

    #[test]
    fn a_change_concerns_who_follows_the_ref() {
        let of = |refs: &[&str], default| {
            let mut changed = Changed::nothing();
            for name in refs {
                changed.add(name, default);
            }
            changed
        };
        for (changed, concerned, not_concerned) in [
            (
                of(&["refs/heads/main"], Some("main")),
                &["HEAD", "refs/heads/main", "refs/pull/1/head"][..],
                &["refs/heads/side", "refs/tags/main"][..],
            ),
            (of(&["refs/heads/side"], Some("main")), &["refs/heads/side"], &["HEAD", "refs/heads/main"]),
            (of(&["refs/heads/side"], None), &["refs/heads/side", "HEAD"], &["refs/heads/main"]),
            (of(&["refs/tags/v1"], None), &["refs/tags/v1"], &["HEAD", "refs/heads/v1", "refs/tags/v2"]),
            (Changed::other(), &["refs/pull/1/head"], &["HEAD", "refs/heads/main", "refs/tags/v1"]),
            (Changed::Anything, &["HEAD", "refs/heads/x", "refs/tags/x", "refs/x"], &[]),
            (Changed::nothing(), &[], &["HEAD", "refs/heads/x", "refs/x"]),
        ] {
            for name in concerned {
                assert!(changed.concerns(Some(name)), "{changed:?} {name}");
            }
            for name in not_concerned {
                assert!(!changed.concerns(Some(name)), "{changed:?} {name}");
            }
            assert_eq!(changed.concerns(None), !changed.is_nothing());
        }
    }

    #[test]
    fn too_many_refs_are_all_refs() {
        let mut changed = Changed::nothing();
        for n in 0..=MAX_REFS {
            changed.add(&format!("refs/tags/{n}"), None);
        }
        assert_eq!(changed, Changed::Anything);
        let mut merged = Changed::nothing();
        for n in 0..1_000 {
            let mut one = Changed::nothing();
            one.add(&format!("refs/tags/{n}"), None);
            merged.merge(one);
        }
        assert_eq!(merged, Changed::Anything);
    }

    #[test]
    fn a_source_follows_what_it_names() {
        for (config, name) in [
            (json!({"url": "https://h/a"}), Some("HEAD")),
            (json!({"url": "https://h/a", "branch": "main"}), Some("refs/heads/main")),
            (json!({"url": "https://h/a", "tag": "v1"}), Some("refs/tags/v1")),
            (json!({"url": "https://h/a", "ref": "refs/pull/7/head"}), Some("refs/pull/7/head")),
            (json!({"url": "https://h/a", "bookmark": "b"}), None),
        ] {
            let watched = Watched::of(&Source::new("any", config).unwrap()).unwrap();
            assert_eq!((watched.place.as_str(), watched.name.as_deref()), ("h/a", name));
        }
        let config = json!({"job_type": {"git": {"url": "https://h/types"}}, "source": "https://h/a.git"});
        let watched = Watched::of(&Source::new("any", config).unwrap()).unwrap();
        assert_eq!(watched, Watched::all_of(Place::of("https://h/a").unwrap()));
        let own = json!({"job_type": {"git": {"url": "https://h/types"}}, "source": "whatever"});
        for config in [
            own,
            json!({"source": "https://h/a"}),
            json!({}),
            json!({"url": 5}),
            json!({"url": "a"}),
            json!(null),
        ] {
            assert_eq!(Watched::of(&Source::new("any", config).unwrap()), None);
        }
    }
}
