//! What the end of a build means, and which revision it has built.

use crate::{
    canonical::is_cut_off,
    job::Built,
    wire::{Build, shown},
};
use capomastro_core::{launch::Outcome, model::Revision};

/// How a build ended. `is_restarted` tells that the server was restarted since the build was known to run.
///
/// | result | means |
/// |---|---|
/// | `SUCCESS`, `UNSTABLE`, `FAILURE` | succeeded, unstable, failed |
/// | `ABORTED`, and somebody interrupted it | cancelled |
/// | `ABORTED` without that, after a restart or as a crash leaves it | lost |
/// | `ABORTED` otherwise: the build says so of itself | cancelled |
/// | `NOT_BUILT`, interrupted by a newer one | cancelled |
/// | `NOT_BUILT`, or anything unknown | failed, and the message says what Jenkins says |
pub(crate) fn outcome(build: &Build, is_restarted: bool) -> (Outcome, Option<String>) {
    match build.result.as_deref().unwrap_or_default() {
        "SUCCESS" => (Outcome::Succeeded, None),
        "UNSTABLE" => (Outcome::Unstable, None),
        "FAILURE" => (Outcome::Failed, None),
        "ABORTED" if build.is_interrupted => (Outcome::Cancelled, None),
        "ABORTED" if is_restarted || is_cut_off(build) => {
            (Outcome::Lost, Some("Jenkins was stopped while the build ran".into()))
        }
        "ABORTED" => (Outcome::Cancelled, None),
        "NOT_BUILT" if build.is_interrupted => {
            (Outcome::Cancelled, Some("Jenkins says NOT_BUILT: something newer came before it".into()))
        }
        other => (Outcome::Failed, Some(format!("Jenkins says {}", shown(other)))),
    }
}

/// The revision that git has checked out, if it can be told from others.
pub(crate) fn git_revision(build: &Build, built: &Built) -> Option<Revision> {
    let Built::Git { remote } = built else { return None };
    let mut revisions: Vec<&str> = build
        .checkouts
        .iter()
        .filter(|(_, remotes)| {
            remote.as_deref().is_none_or(|wanted| remotes.iter().any(|r| same_place(r, wanted)))
        })
        .map(|(revision, _)| revision.as_str())
        .collect();
    revisions.sort_unstable();
    revisions.dedup();
    match revisions.as_slice() {
        [one] => one.parse().ok(),
        _ => None,
    }
}

/// Whether two URLs of repositories mean one: a slash or `.git` at the end, and who asks, make no difference.
fn same_place(one: &str, other: &str) -> bool {
    fn bare(url: &str) -> String {
        let url = url.trim_end_matches('/');
        let url = url.strip_suffix(".git").unwrap_or(url);
        match url.split_once("://") {
            Some((scheme, rest)) => {
                let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
                let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                format!("{}://{}/{path}", scheme.to_ascii_lowercase(), host.to_ascii_lowercase())
            }
            None => url.to_owned(),
        }
    }
    bare(one) == bare(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_means_one_outcome() {
        use Outcome::{Cancelled, Failed, Lost, Succeeded, Unstable};
        for (result, interrupted, restarted, duration, means) in [
            ("SUCCESS", false, false, 5, Succeeded),
            ("SUCCESS", false, true, 5, Succeeded),
            ("UNSTABLE", false, false, 5, Unstable),
            ("FAILURE", false, true, 5, Failed),
            ("ABORTED", true, false, 5, Cancelled),
            ("ABORTED", true, true, 0, Cancelled),
            ("ABORTED", false, true, 5, Lost),
            ("ABORTED", false, false, 0, Lost),
            ("ABORTED", false, false, 5, Cancelled),
            ("NOT_BUILT", true, false, 5, Cancelled),
            ("NOT_BUILT", false, false, 5, Failed),
            ("EXPLODED", false, false, 5, Failed),
            ("", false, false, 5, Failed),
        ] {
            let build = Build {
                result: Some(result.into()),
                is_interrupted: interrupted,
                duration,
                ..Build::default()
            };
            assert_eq!(outcome(&build, restarted).0, means, "{result} {interrupted} {restarted} {duration}");
        }
    }

    #[test]
    fn the_revision_is_that_of_the_right_repository() {
        let of = |checkouts: &[(&str, &str)], remote: Option<&str>| {
            let checkouts = checkouts.iter().map(|(r, u)| ((*r).to_owned(), vec![(*u).to_owned()])).collect();
            let build = Build { checkouts, ..Build::default() };
            git_revision(&build, &Built::Git { remote: remote.map(str::to_owned) }).map(String::from)
        };
        let (lib, tool) = (("aa", "https://bot@H/lib.git"), ("bb", "https://h/tool"));
        assert_eq!(of(&[lib], None).as_deref(), Some("aa"));
        assert_eq!(of(&[lib, tool], None), None, "which of them cannot be told");
        assert_eq!(of(&[lib, tool], Some("https://h/lib/")).as_deref(), Some("aa"));
        assert_eq!(of(&[lib, tool], Some("https://h/tool.git")).as_deref(), Some("bb"));
        assert_eq!(of(&[lib, lib], None).as_deref(), Some("aa"));
        assert_eq!(of(&[lib], Some("https://h/other")), None);
        assert_eq!(of(&[("ssh", "git@h:lib.git")], Some("git@h:lib")).as_deref(), Some("ssh"));
        assert_eq!(of(&[], None), None);
    }
}
