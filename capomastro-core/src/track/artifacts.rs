//! Which artifacts of a build are kept: what a build system reports is not trusted to be small or well named.

use crate::model::Artifact;
use std::collections::BTreeSet;

/// How many artifacts are kept of one build.
pub const MAX_ARTIFACTS: usize = 1_000;
/// The longest name of an artifact, in bytes.
const MAX_NAME: usize = 1_024;
/// The longest digest, in bytes.
const MAX_DIGEST: usize = 200;
/// The longest location, in bytes.
const MAX_LOCATION: usize = 4_096;

/// The artifacts that are kept, in their order, and how many were dropped: those whose names could lead outside of a folder
/// or confuse a reader, that repeat a name, and those beyond [`MAX_ARTIFACTS`]. A digest or location that is too long or
/// has control characters is dropped alone.
pub fn safe_artifacts(reported: Vec<Artifact>) -> (Vec<Artifact>, usize) {
    let total = reported.len();
    let mut names = BTreeSet::new();
    let plain = |text: &String, max| text.len() <= max && !text.chars().any(char::is_control);
    let kept: Vec<Artifact> = reported
        .into_iter()
        .filter(|a| is_safe(&a.name) && names.insert(a.name.clone()))
        .take(MAX_ARTIFACTS)
        .map(|a| Artifact {
            digest: a.digest.filter(|d| plain(d, MAX_DIGEST)),
            location: a.location.filter(|l| plain(l, MAX_LOCATION)),
            ..a
        })
        .collect();
    let dropped = total - kept.len();
    (kept, dropped)
}

/// Whether a name is a relative path that stays inside, on any system: parts between single `/`, none `.` or `..`, no
/// backslash, no drive letter, no control character.
fn is_safe(name: &str) -> bool {
    let is_drive =
        name.as_bytes().get(1) == Some(&b':') && name.starts_with(|c: char| c.is_ascii_alphabetic());
    name.len() <= MAX_NAME
        && !is_drive
        && !name.contains('\\')
        && !name.chars().any(char::is_control)
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn artifact(name: &str) -> Artifact {
        Artifact { name: name.into(), digest: None, size: None, location: None }
    }

    #[test]
    fn hostile_names_are_dropped_and_plain_ones_kept() {
        for (name, safe) in [
            ("a.deb", true),
            ("dir/a b.deb", true),
            ("…/ünï🦀", true),
            (".hidden", true),
            ("a..b", true),
            ("...", true),
            ("", false),
            ("/etc/passwd", false),
            ("..", false),
            (".", false),
            ("../a", false),
            ("a/../../b", false),
            ("a/./b", false),
            ("a//b", false),
            ("a/", false),
            ("C:/a", false),
            ("c:a", false),
            ("..\\a", false),
            ("\\\\host\\a", false),
            ("a\nb", false),
            ("a\0", false),
            ("\u{1b}[31m", false),
            ("a\u{85}b", false),
            (&"x".repeat(MAX_NAME), true),
            (&"x".repeat(MAX_NAME + 1), false),
        ] {
            let (kept, dropped) = safe_artifacts(vec![artifact(name)]);
            assert_eq!((kept.len(), dropped), if safe { (1, 0) } else { (0, 1) }, "{name:?}");
        }
    }

    #[test]
    fn at_most_a_thousand_are_kept_each_name_once() {
        let many: Vec<_> = (0..1_500).map(|n| artifact(&format!("f{n}"))).collect();
        let (kept, dropped) = safe_artifacts(many);
        assert_eq!((kept.len(), dropped), (1_000, 500));
        let (kept, dropped) = safe_artifacts(vec![artifact("a"), artifact("b"), artifact("a")]);
        assert_eq!((kept.len(), dropped), (2, 1));
    }

    #[test]
    fn a_hostile_digest_or_location_is_dropped_alone() {
        let reported = Artifact {
            name: "a".into(),
            digest: Some("x".repeat(MAX_DIGEST + 1)),
            size: Some(1),
            location: Some("http://h/\r\nx".into()),
        };
        let (kept, dropped) = safe_artifacts(vec![reported]);
        assert_eq!((kept, dropped), (vec![Artifact { size: Some(1), ..artifact("a") }], 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_kept_name_leads_outside(name in "(\\.|/|\\\\|[a-c:]|\\PC){0,12}") {
            let (kept, _) = safe_artifacts(vec![artifact(&name)]);
            for a in kept {
                let path = std::path::Path::new(&a.name);
                prop_assert!(path.components().all(|c| matches!(c, std::path::Component::Normal(_))), "{:?}", a.name);
            }
        }
    }
}
