//! What the Notification plugin sends. Pure: bytes in, data out.

use crate::address::job_and_build;
use capomastro_core::{Error, ErrorKind, Result, model::LaunchKey};
use serde_json::{Map, Value};

/// The longest text that is kept of a payload, in bytes.
const MAX_TEXT: usize = 1_024;

/// How far a build is, as the plugin says. It sends [`Queued`](Phase::Queued) and [`Started`](Phase::Started) together,
/// when the build starts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// `QUEUED`: sent when the build starts, with the time at which it came into the queue.
    Queued,
    /// `STARTED`.
    Started,
    /// `COMPLETED`: the result is there; what comes after the build still runs.
    Completed,
    /// `FINALIZED`, and `FINISHED` of plugins up to 1.5: all is done.
    Finalized,
    /// A phase of a plugin that is newer or not the known one; at most 1,024 bytes.
    Other(String),
}

impl Phase {
    fn of(text: &str) -> Self {
        match text {
            "QUEUED" => Self::Queued,
            "STARTED" => Self::Started,
            "COMPLETED" => Self::Completed,
            "FINALIZED" | "FINISHED" => Self::Finalized,
            other => Self::Other(cut(other)),
        }
    }
}

/// One message of the Notification plugin, as far as it says where to look. All of it is hearsay: who knows the address
/// can send anything.
///
/// What is not here is not read: addresses, which would have to be fetched from, log texts, artifacts, results.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notification {
    /// The job's full name, folders first, such as `team/lib`: from the message's `url`, since its `name` is the same for
    /// jobs in different folders. At most 1,000 bytes.
    pub job: String,
    /// The build's number at Jenkins.
    pub number: u64,
    /// The queue item it came from, if the message says.
    pub queue_id: Option<u64>,
    /// How far it is.
    pub phase: Phase,
    /// Its result so far, if the message says; at most 1,024 bytes.
    pub status: Option<String>,
    /// The launch key that travels with the build. `None` for builds that others started, for messages without parameters,
    /// and where the parameter is not a key.
    pub key: Option<LaunchKey>,
}

impl Notification {
    /// Reads a message in which our id is the parameter `id_parameter`.
    ///
    /// Every field may be missing but the job and the number; what is unknown is passed over, of a key that occurs twice
    /// the last one counts.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) if it is not JSON, or names no job or no number.
    pub fn parse(body: &[u8], id_parameter: &str) -> Result<Self> {
        // Through a map, since derived structs refuse keys that occur twice.
        let message: Value = serde_json::from_slice(body).map_err(|e| {
            corrupt("a notification is not JSON: set the endpoint's format to JSON").with_source(e)
        })?;
        let build = message.get("build").and_then(Value::as_object).ok_or_else(|| {
            corrupt(
                "a notification has no `build`: is it the Notification plugin that sends to this address?",
            )
        })?;
        let number = whole(build, "number").filter(|n| *n > 0).ok_or_else(|| {
            corrupt("a notification has no build number: is it the Notification plugin that sends to this address?")
        })?;
        let named = |url: Option<&str>, expected| match job_and_build(url?)? {
            (job, found) if found == expected => Some(job.as_str().to_owned()),
            _ => None,
        };
        let of_job = named(message.get("url").and_then(Value::as_str), None);
        let of_build = || named(text(build, "url"), Some(number));
        let job = of_job.or_else(of_build).ok_or_else(|| {
            corrupt("a notification's `url` is not that of a job, such as job/team/job/lib/")
        })?;
        let key = build.get("parameters").and_then(|p| p.get(id_parameter)).and_then(Value::as_str);
        Ok(Self {
            job,
            number,
            queue_id: whole(build, "queue_id"),
            phase: Phase::of(text(build, "phase").unwrap_or_default()),
            status: text(build, "status").map(cut),
            key: key.and_then(|key| key.trim().parse().ok()),
        })
    }
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

fn text<'a>(of: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    of.get(key).and_then(Value::as_str)
}

fn whole(of: &Map<String, Value>, key: &str) -> Option<u64> {
    of.get(key).and_then(Value::as_u64)
}

fn cut(text: &str) -> String {
    text.chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= MAX_TEXT).then_some(c)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "018f0000-0000-7000-8000-000000000001";

    fn parse(message: &Value) -> Result<Notification> {
        Notification::parse(message.to_string().as_bytes(), "CAPOMASTRO_BUILD_ID")
    }

    /// What the plugin sends at the end of a build with all that it can send.
    fn whole_message() -> Value {
        json!({
            "name": "lib", "display_name": "Lib", "url": "job/team/job/lib/",
            "build": {
                "full_url": "http://elsewhere.example/job/team/job/lib/7/", "number": 7, "queue_id": 41,
                "timestamp": 1_790_000_000_000_u64, "duration": 1_200, "phase": "FINALIZED", "status": "SUCCESS",
                "url": "job/team/job/lib/7/",
                "scm": {"url": "u", "branch": "main", "commit": "c", "changes": [], "culprits": []},
                "parameters": {"CAPOMASTRO_BUILD_ID": KEY, "BRANCH": "main"},
                "log": "", "notes": "", "test_summary": {"total": 1, "failed": 0},
                "artifacts": {"a.so": {"archive": "http://elsewhere.example/a.so"}},
            },
        })
    }

    #[test]
    fn a_whole_message_says_where_to_look() {
        let expected = Notification {
            job: "team/lib".into(),
            number: 7,
            queue_id: Some(41),
            phase: Phase::Finalized,
            status: Some("SUCCESS".into()),
            key: Some(KEY.parse().unwrap()),
        };
        assert_eq!(parse(&whole_message()).unwrap(), expected);
    }

    #[test]
    fn all_but_job_and_number_may_be_missing() {
        let expected = Notification {
            job: "lib".into(),
            number: 1,
            queue_id: None,
            phase: Phase::Other(String::new()),
            status: None,
            key: None,
        };
        for message in [
            json!({"url": "job/lib/", "build": {"number": 1}}),
            json!({"name": "other", "url": "job/lib", "build": {"number": 1, "parameters": null}}),
            json!({"build": {"number": 1, "url": "job/lib/1/"}}),
            json!({"url": 5, "build": {"number": 1, "url": "job/lib/1/", "status": 3, "queue_id": "x"}}),
            json!({"url": "job/lib/", "build": {"number": 1, "parameters": {"CAPOMASTRO_BUILD_ID": "my own"}}}),
            json!({"url": "job/lib/", "build": {"number": 1, "queue_id": -1, "parameters": ["a"]}}),
        ] {
            assert_eq!(parse(&message).unwrap(), expected, "{message}");
        }
    }

    #[test]
    fn what_says_not_where_is_corrupt() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let mut cases: Vec<String> =
            vec![String::new(), "<html>".into(), "{\"build\":{\"number\":1".into(), deep];
        cases.extend(
            [
                json!(null),
                json!([]),
                json!({"url": "job/lib/"}),
                json!({"url": "job/lib/", "build": []}),
                json!({"url": "job/lib/", "build": {}}),
                json!({"url": "job/lib/", "build": {"number": 0}}),
                json!({"url": "job/lib/", "build": {"number": -1}}),
                json!({"url": "job/lib/", "build": {"number": 1.5}}),
                json!({"url": "job/lib/", "build": {"number": "1"}}),
                json!({"name": "lib", "build": {"number": 1}}),
                json!({"url": "view/all/", "build": {"number": 1}}),
                json!({"build": {"number": 1, "url": "job/lib/2/"}}),
            ]
            .map(|m| m.to_string()),
        );
        for case in cases {
            let error = Notification::parse(case.as_bytes(), "CAPOMASTRO_BUILD_ID").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{case}");
            assert!(error.message().contains(": ") || error.message().contains("such as"), "{error}");
        }
        assert!(Notification::parse(b"\xff{}", "X").is_err());
    }

    #[test]
    fn each_phase_is_known_and_unknown_ones_are_kept_within_bounds() {
        for (text, phase) in [
            ("QUEUED", Phase::Queued),
            ("STARTED", Phase::Started),
            ("COMPLETED", Phase::Completed),
            ("FINALIZED", Phase::Finalized),
            ("FINISHED", Phase::Finalized),
            ("finished", Phase::Other("finished".into())),
        ] {
            let message = json!({"url": "job/lib/", "build": {"number": 1, "phase": text}});
            assert_eq!(parse(&message).unwrap().phase, phase);
        }
        let long = json!({"url": "job/lib/", "build": {"number": 1, "phase": "ä".repeat(5_000)}});
        let Phase::Other(kept) = parse(&long).unwrap().phase else { panic!("it is unknown") };
        assert_eq!(kept.len(), 1_024);
    }

    #[test]
    fn of_a_key_that_occurs_twice_the_last_counts() {
        let twice =
            br#"{"url":"job/a/","url":"job/b/","build":{"number":1},"build":{"number":2,"number":3}}"#;
        let read = Notification::parse(twice, "X").unwrap();
        assert_eq!((read.job.as_str(), read.number), ("b", 3));
    }

    #[test]
    fn jobs_of_one_short_name_are_told_apart() {
        let of = |url: &str| parse(&json!({"name": "lib", "url": url, "build": {"number": 1}})).unwrap().job;
        assert_eq!(of("job/a/job/lib/"), "a/lib");
        assert_eq!(of("job/b/job/lib/"), "b/lib");
    }
}
