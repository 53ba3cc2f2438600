//! Where things are on a server: URLs are built from our own base and never taken from an answer.

use capomastro_core::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt;
use url::Url;

/// What stays as it is in a path segment: the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// The longest full name of a job, in bytes.
const MAX_NAME: usize = 1_000;
/// What Jenkins allows in no name of an item; `%` it allows in the names that it makes of branches.
const FORBIDDEN: &str = "?*\\!@#$^&|<>[]:;";

/// The URL of a server: with its context path and a slash at its end, without user, password, query and fragment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base(Url);

impl Base {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let problem = |what: &str| {
            Error::config(format!(
                "the URL of the Jenkins server {what}: give its root, such as https://ci.example.org/jenkins/"
            ))
        };
        let mut url = Url::parse(text).map_err(|e| problem("cannot be read").with_source(e))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(problem("is not one of http or https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(problem("contains a user or password, which belong into the credentials"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(problem("has a query or fragment"));
        }
        let path = format!("{}/", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self(url))
    }

    pub(crate) const fn url(&self) -> &Url {
        &self.0
    }

    /// The URL of a place on this server.
    pub(crate) fn at(&self, place: &Place) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{}", self.0.path(), place.path));
        url.set_query(place.query.as_deref());
        url
    }
}

/// A path below the root of a server, encoded, and a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    path: String,
    query: Option<String>,
}

impl Place {
    /// A place given by path segments that are not encoded yet; an empty last one ends the path with a slash. None of
    /// them may be `.` or `..`, which do not survive in a URL.
    pub(crate) fn of<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Self {
        let path: Vec<String> = segments
            .into_iter()
            .map(|s| {
                debug_assert!(!is_dots(s.as_ref()), "dots are refused before a URL is made");
                encode(s.as_ref())
            })
            .collect();
        Self { path: path.join("/"), query: None }
    }

    /// The same place with one more parameter in its query, whose value is encoded here.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        let pair = format!("{name}={}", utf8_percent_encode(value, SEGMENT));
        self.query = Some(match self.query {
            Some(query) => format!("{query}&{pair}"),
            None => pair,
        });
        self
    }

    /// What a server answers about itself, for this `tree`.
    pub(crate) fn root_api(tree: &str) -> Self {
        Self::of(["api", "json"]).with("tree", tree)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

fn encode(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

pub(crate) fn is_dots(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// The full name of a job: the names of its folders and its own, with `/` between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct JobName(String);

impl JobName {
    /// The name as people write it.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let problem = if name.is_empty() || name.len() > MAX_NAME {
            "is empty or longer than 1,000 bytes"
        } else if name.split('/').any(str::is_empty) {
            "has an empty part: write folder/job, without a slash at the beginning or end"
        } else if name.split('/').any(is_dots) {
            "has a part that is . or .., which no URL can name"
        } else if name.split('/').any(|s| s != s.trim() || s.ends_with('.')) {
            "has a part with a blank at its beginning or end, or a dot at its end"
        } else if let Some(c) = name.chars().find(|c| c.is_control() || FORBIDDEN.contains(*c)) {
            return Err(Error::config(
                "the job's name has a character that Jenkins allows in no name: rename it",
            )
            .with_context("character", c.escape_debug())
            .with_context("job", name.escape_debug()));
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(Error::config(format!("the job's name {problem}")).with_context("job", name.escape_debug()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').flat_map(|name| ["job", name])
    }

    /// A place below the job; none of the further segments may be `.` or `..`.
    pub(crate) fn at<'a>(&'a self, further: impl IntoIterator<Item = &'a str>) -> Place {
        Place::of(self.segments().chain(further))
    }

    /// What the server answers about the job, for this `tree`.
    pub(crate) fn api(&self, tree: &str) -> Place {
        self.at(["api", "json"]).with("tree", tree)
    }

    /// The path of the page of one of its builds, below the server's root.
    pub(crate) fn page(&self, number: u64) -> String {
        self.build(&number.to_string(), [""]).to_string()
    }

    /// A place below one of its builds.
    pub(crate) fn build<'a>(&'a self, number: &'a str, further: impl IntoIterator<Item = &'a str>) -> Place {
        Place::of(self.segments().chain([number]).chain(further))
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path of a URL, absolute or relative, without query and fragment, as segments that are still encoded.
fn path_segments(url: &str) -> Vec<&str> {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let path = &url[..end];
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => path,
    };
    path.split('/').filter(|s| !s.is_empty()).collect()
}

/// The number of the queue item that a `Location` names, whatever its host and context path.
pub(crate) fn queue_item(location: &str) -> Option<u64> {
    let segments = path_segments(location);
    match segments.as_slice() {
        [.., "queue", "item", number] => number.parse().ok(),
        _ => None,
    }
}

/// The job that a URL names, and the number of one of its builds if it names one, whatever its host and context path.
pub(crate) fn job_and_build(url: &str) -> Option<(JobName, Option<u64>)> {
    let mut segments = path_segments(url);
    let number = match segments.as_slice() {
        [.., before, last] if *before != "job" => {
            let number = last.parse().ok();
            if number.is_some() {
                segments.pop();
            }
            number
        }
        _ => None,
    };
    let mut names = Vec::new();
    while let [.., "job", name] = segments.as_slice() {
        names.push(percent_decode_str(name).decode_utf8().ok()?.into_owned());
        segments.truncate(segments.len() - 2);
    }
    names.reverse();
    let name = JobName::parse(&names.join("/")).ok()?;
    Some((name, number))
}

/// Whether a `Location` leads to the page of this job.
pub(crate) fn is_page_of(location: &str, job: &JobName) -> bool {
    job_and_build(location).is_some_and(|(named, build)| named == *job && build.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use capomastro_core::ErrorKind;

    #[test]
    fn a_server_has_a_root() {
        for (text, root) in [
            ("http://ci", Some("http://ci/")),
            ("https://ci.example.org/jenkins", Some("https://ci.example.org/jenkins/")),
            ("https://ci:8443/a/b//", Some("https://ci:8443/a/b/")),
            ("ftp://ci", None),
            ("ci.example.org", None),
            ("https://user@ci", None),
            ("https://u:hunter2@ci", None),
            ("https://ci/?a=b", None),
            ("https://ci/#x", None),
            ("", None),
        ] {
            let got = Base::parse(text);
            if let Err(e) = &got {
                assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{text}");
                assert!(!e.report().contains("hunter2"), "{e:?}");
            }
            assert_eq!(got.ok().map(|b| b.url().to_string()).as_deref(), root, "{text}");
        }
    }

    #[test]
    fn names_become_paths_of_the_own_base() {
        let base = Base::parse("http://ci/ctx").unwrap();
        for (name, url) in [
            ("a", "http://ci/ctx/job/a/api/json?tree=x%5By%5D"),
            ("a/b c/ü", "http://ci/ctx/job/a/job/b%20c/job/%C3%BC/api/json?tree=x%5By%5D"),
            ("m/feature%2Fx", "http://ci/ctx/job/m/job/feature%252Fx/api/json?tree=x%5By%5D"),
            ("job", "http://ci/ctx/job/job/api/json?tree=x%5By%5D"),
            ("a+b=c,d", "http://ci/ctx/job/a%2Bb%3Dc%2Cd/api/json?tree=x%5By%5D"),
        ] {
            assert_eq!(base.at(&JobName::parse(name).unwrap().api("x[y]")).as_str(), url);
        }
    }

    #[test]
    fn names_that_no_job_has_are_refused() {
        for name in [
            "", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", " a", "a ", "a.", "a?b", "a#b", "a\nb", "a:b",
        ] {
            let e = JobName::parse(name).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidConfig, "{name:?}");
        }
        assert!(JobName::parse(&"a".repeat(MAX_NAME + 1)).is_err());
    }

    #[test]
    fn a_location_names_a_queue_item_by_its_end() {
        for (location, item) in [
            ("http://inner:8080/ctx/queue/item/17/", Some(17)),
            ("https://ci/queue/item/17", Some(17)),
            ("/ctx/queue/item/5000000000/", Some(5_000_000_000)),
            ("queue/item/1/?x=y", Some(1)),
            ("http://ci/job/queue/", None),
            ("http://ci/queue/item/", None),
            ("http://ci/queue/item/x/", None),
            ("http://ci/queue/item/-1/", None),
            ("/login?from=/queue/item/1/", None),
            ("", None),
        ] {
            assert_eq!(queue_item(location), item, "{location}");
        }
    }

    #[test]
    fn a_url_names_a_job_and_a_build_by_its_end() {
        for (url, named) in [
            ("http://wrong:1/ctx/job/a/job/b%20c/17/", Some(("a/b c", Some(17)))),
            ("/job/a/", Some(("a", None))),
            ("http://h/job/17/", Some(("17", None))),
            ("http://h/job/17/3", Some(("17", Some(3)))),
            ("http://h/job/m/job/feature%252Fx/1/", Some(("m/feature%2Fx", Some(1)))),
            ("http://h/job/job/job/b/1/", Some(("job/b", Some(1)))),
            ("http://h/job/a/lastBuild/", None),
            ("http://h/job/%2e%2e/1/", None),
            ("http://h/view/x/", None),
            ("http://h", None),
            ("", None),
        ] {
            let got = job_and_build(url);
            assert_eq!(got.as_ref().map(|(j, n)| (j.as_str(), *n)), named, "{url}");
        }
        let job = JobName::parse("a/b").unwrap();
        assert!(is_page_of("/ctx/job/a/job/b/", &job));
        assert!(!is_page_of("/ctx/job/a/job/b/4/", &job) && !is_page_of("/ctx/job/a/", &job));
    }
}
