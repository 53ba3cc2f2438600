//! The job that an address in a message is about.

use percent_encoding::percent_decode_str;

/// The deepest folder that is believed in.
const MAX_LEVELS: usize = 32;
/// The longest name, in bytes: it is a folder's name on Jenkins' disk.
const MAX_NAME: usize = 255;

/// The full name in `job/team/job/lib/`, folders first. `None` if it is no such address.
pub(super) fn of_job(url: &str) -> Option<String> {
    full_name(&segments(url)?)
}

/// The full name in `job/team/job/lib/7/`, where 7 is the build's number.
pub(super) fn of_build(url: &str, number: u64) -> Option<String> {
    let segments = segments(url)?;
    let (last, job) = segments.split_last()?;
    (last.parse() == Ok(number)).then(|| full_name(job)).flatten()
}

/// Host and query say nothing here: an address with either is none of a job's own.
fn segments(url: &str) -> Option<Vec<&str>> {
    if url.contains(['?', '#', '\\']) || url.contains("//") {
        return None;
    }
    Some(url.split('/').filter(|s| !s.is_empty()).take(MAX_LEVELS * 2 + 2).collect())
}

fn full_name(segments: &[&str]) -> Option<String> {
    if segments.is_empty() || segments.len() > MAX_LEVELS * 2 {
        return None;
    }
    let mut names = Vec::new();
    for pair in segments.chunks(2) {
        let ["job", name] = pair else { return None };
        let name = percent_decode_str(name).decode_utf8().ok()?;
        let is_name = !matches!(name.as_ref(), "." | "..")
            && name.len() <= MAX_NAME
            && !name.contains(['/', '\\'])
            && !name.contains(char::is_control);
        if !is_name {
            return None;
        }
        names.push(name);
    }
    Some(names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_jobs_are_read() {
        let deep = "job/a/".repeat(33);
        let long = format!("job/{}/", "x".repeat(256));
        let cases = [
            ("job/lib/", Some("lib")),
            ("job/lib", Some("lib")),
            ("/job/lib/", Some("lib")),
            ("job/a%20b/job/%C3%A9%23/", Some("a b/é#")),
            // A branch of a multibranch job, whose name has %2F in it.
            ("job/multi/job/feat%252Fx/", Some("multi/feat%2Fx")),
            ("job/job/job/job/", Some("job/job")),
            ("", None),
            ("job/", None),
            ("job/a/job/", None),
            ("job/a/b/", None),
            ("jobs/a/", None),
            ("http://jenkins.example/job/a/", None),
            ("//jenkins.example/job/a/", None),
            ("job/a/?x=job/b/", None),
            ("job/a#/", None),
            ("job/../", None),
            ("job/%2e%2e/", None),
            ("job/a%2Fb/", None),
            ("job/a%5Cb/", None),
            ("job/a%00/", None),
            ("job/%ff/", None),
            (deep.as_str(), None),
            (long.as_str(), None),
        ];
        for (url, expected) in cases {
            assert_eq!(of_job(url).as_deref(), expected, "{url}");
        }
        assert_eq!(of_build("job/a/7/", 7).as_deref(), Some("a"));
        assert_eq!(of_build("job/a/7/", 8), None);
        assert_eq!(of_build("job/a/", 7), None);
    }
}
