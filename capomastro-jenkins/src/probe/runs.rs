//! The runs of a job, as the server tells of them, and which of them answers. No I/O.

use crate::{address::job_and_build, template::names};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// What is asked of the queue.
pub(super) const QUEUE: &str = "items[id,task[url],actions[parameters[name,value]]]";
/// What is asked of a queue item.
pub(super) const ITEM: &str = "cancelled,why,executable[number],actions[parameters[name,value]]";
/// What is asked of a job.
pub(super) const RUNS: &str = "builds[number,building,timestamp,actions[parameters[name,value]]]{0,50}";
/// What is asked of one run.
pub(super) const RUN: &str = "number,building,inProgress,result,actions[parameters[name,value]]";

/// The dates of HTTP are whole seconds, and so is what they are compared with.
const ROUNDING: Duration = Duration::from_secs(2);

/// Where a run is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// In the queue.
    Item(u64),
    /// A build of the job.
    Build(u64),
}

/// A run of ours that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) at: At,
    /// What stands around its answer.
    pub(super) mark: String,
    /// How long ago it was started, by the server's own clock; `None` in the queue.
    pub(super) age: Option<Duration>,
}

/// What is known of runs with an id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) runs: Vec<Run>,
    /// Whether there is a build that is too young to tell whose it is.
    pub(super) is_young: bool,
}

/// What to do about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It answers this look.
    Join(Run),
    /// Nothing there answers this look: what is of no use is stopped, and a new one is started.
    Start {
        /// These.
        stop: Vec<At>,
    },
    /// It cannot be told yet.
    LookAgain,
}

/// What the parameters of an item or build are, if any are attached.
pub(super) fn parameters(of: &Value) -> Option<BTreeMap<&str, &str>> {
    let actions = of["actions"].as_array()?;
    let mut found = None;
    for parameter in actions.iter().filter_map(|a| a["parameters"].as_array()).flatten() {
        if let (Some(name), Some(value)) = (parameter["name"].as_str(), parameter["value"].as_str()) {
            found.get_or_insert_with(BTreeMap::new).insert(name, value);
        }
    }
    found
}

fn mark_if(of: &Value, id: &str) -> Option<String> {
    let parameters = parameters(of)?;
    (parameters.get(names::PROBE_ID) == Some(&id))
        .then(|| parameters.get(names::PROBE_MARK).copied().unwrap_or_default().to_owned())
}

/// The unfinished runs of a job with this id. `now` is the server's clock in milliseconds, if its answer told it.
pub(super) fn known(queue: &Value, job: &Value, name: &str, id: &str, now: Option<u64>) -> Known {
    let mut known = Known::default();
    for item in queue["items"].as_array().into_iter().flatten() {
        let is_of_job =
            item["task"]["url"].as_str().and_then(job_and_build).is_some_and(|(j, _)| j.as_str() == name);
        if let (true, Some(number), Some(mark)) = (is_of_job, item["id"].as_u64(), mark_if(item, id)) {
            known.runs.push(Run { at: At::Item(number), mark, age: None });
        }
    }
    for build in job["builds"].as_array().into_iter().flatten() {
        let (Some(number), Some(true)) = (build["number"].as_u64(), build["building"].as_bool()) else {
            continue;
        };
        let Some(mark) = mark_if(build, id) else {
            known.is_young |= parameters(build).is_none();
            continue;
        };
        let started = build["timestamp"].as_u64();
        let age = now.zip(started).map(|(now, started)| Duration::from_millis(now.saturating_sub(started)));
        // Of one whose age cannot be told the worst is assumed.
        known.runs.push(Run { at: At::Build(number), mark, age: Some(age.unwrap_or(Duration::MAX)) });
    }
    known
}

/// Which run answers a look. One that was started before a trigger was given may have looked before it, and does not answer
/// that trigger; one that is queued has not looked yet.
pub(super) fn choose(known: &Known, trigger_age: Option<Duration>) -> Next {
    let answers = |run: &&Run| match (run.age, trigger_age) {
        _ if run.mark.is_empty() => false,
        (None, _) | (Some(_), None) => true,
        (Some(age), Some(trigger)) => age.saturating_add(ROUNDING) < trigger,
    };
    // What began first ends first.
    let running = known.runs.iter().filter(|r| matches!(r.at, At::Build(_)));
    let queued = known.runs.iter().filter(|r| matches!(r.at, At::Item(_)));
    match running.chain(queued).find(answers) {
        Some(run) => Next::Join(run.clone()),
        None if known.is_young => Next::LookAgain,
        None => Next::Start { stop: known.runs.iter().map(|r| r.at).collect() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(id: &str, mark: &str) -> Value {
        json!([{}, {"parameters": [
            {"name": "CAPOMASTRO_PROBE_ID", "value": id}, {"name": "CAPOMASTRO_PROBE_MARK", "value": mark}, {"name": "SECRET"},
        ]}])
    }

    #[test]
    fn only_unfinished_runs_with_the_id_are_known() {
        let queue = json!({"items": [
            {"id": 1, "task": {"url": "http://wrong.host/job/probes/job/lib/"}, "actions": of("x", "m1")},
            {"id": 2, "task": {"url": "http://wrong.host/job/lib/"}, "actions": of("x", "m2")},
            {"id": 3, "task": {"url": "http://h/job/probes/job/lib/"}, "actions": of("y", "m3")},
            {"id": 4, "task": {}, "actions": of("x", "m4")}, {}, null,
        ]});
        let job = json!({"builds": [
            {"number": 9, "building": true, "timestamp": 5_000, "actions": of("x", "m9")},
            {"number": 8, "building": true, "timestamp": 5_000, "actions": [{}, {"causes": []}]},
            {"number": 7, "building": true, "actions": of("x", "m7")},
            {"number": 6, "building": false, "timestamp": 5_000, "actions": of("x", "m6")},
            {"number": 5, "building": true, "timestamp": 5_000, "actions": of("y", "m5")},
        ]});
        let run = |at, mark: &str, age| Run { at, mark: mark.into(), age };
        let expected = Known {
            runs: vec![
                run(At::Item(1), "m1", None),
                run(At::Build(9), "m9", Some(Duration::from_secs(3))),
                run(At::Build(7), "m7", Some(Duration::MAX)),
            ],
            is_young: true,
        };
        assert_eq!(known(&queue, &job, "probes/lib", "x", Some(8_000)), expected);
        assert_eq!(known(&json!(null), &json!({"builds": 3}), "a", "x", None), Known::default());
    }

    #[test]
    fn a_run_that_may_have_looked_too_early_is_not_joined() {
        let seconds = Duration::from_secs;
        let item = Run { at: At::Item(1), mark: "m".into(), age: None };
        let running = |age| Run { at: At::Build(2), mark: "m".into(), age: Some(seconds(age)) };
        let lost = Run { mark: String::new(), ..item.clone() };
        let start = |stop: &[At]| Next::Start { stop: stop.to_vec() };
        let cases = [
            (vec![], false, None, start(&[])),
            (vec![], true, None, Next::LookAgain),
            (vec![item.clone()], true, Some(seconds(0)), Next::Join(item.clone())),
            (vec![running(100)], false, None, Next::Join(running(100))),
            (vec![running(100)], false, Some(seconds(200)), Next::Join(running(100))),
            (vec![running(100)], false, Some(seconds(100)), start(&[At::Build(2)])),
            (vec![running(100)], false, Some(seconds(101)), start(&[At::Build(2)])),
            (vec![running(100)], false, Some(seconds(50)), start(&[At::Build(2)])),
            (vec![item.clone(), running(100)], false, None, Next::Join(running(100))),
            (vec![item.clone(), running(100)], false, Some(seconds(50)), Next::Join(item)),
            (vec![lost], false, None, start(&[At::Item(1)])),
        ];
        for (runs, is_young, trigger_age, expected) in cases {
            let known = Known { runs, is_young };
            assert_eq!(choose(&known, trigger_age), expected, "{known:?} {trigger_age:?}");
        }
    }
}
