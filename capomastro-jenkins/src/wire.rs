//! What a server tells of queue items, builds and jobs, read tolerantly: every field may be missing, what is unknown is
//! ignored, and of a key that comes twice the last counts.

use crate::address::{JobName, job_and_build};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is asked of each queue item.
pub(crate) const ITEM: &str = "id,blocked,buildable,stuck,why,inQueueSince,cancelled,executable[number,url],task[name,url],actions[parameters[name,value],causes[shortDescription]]";
/// What is asked of each build of a list.
pub(crate) const BUILD: &str = "number,queueId,building,inProgress,result,duration,description,actions[parameters[name,value],causes[shortDescription,userId]]";
/// What is asked of a build that has ended, beside that.
pub(crate) const BUILD_END: &str = "number,queueId,building,inProgress,result,duration,description,actions[parameters[name,value],causes[shortDescription,userId],lastBuiltRevision[SHA1],remoteUrls],artifacts[relativePath]";
/// What is asked of a job before a launch.
pub(crate) const JOB: &str = "buildable,nextBuildNumber,property[parameterDefinitions[name,type,choices]]";

/// The longest text of a server that is handed on to people, in characters.
const MAX_TEXT: usize = 300;

/// The parameters of an item or a build; a value may be hidden.
pub(crate) type Values = BTreeMap<String, Option<String>>;

/// A queue item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) id: u64,
    pub(crate) job: Option<JobName>,
    pub(crate) parameters: Option<Values>,
    pub(crate) causes: Vec<String>,
    pub(crate) why: Option<String>,
    pub(crate) is_stuck: bool,
    pub(crate) is_cancelled: bool,
    /// Whether it has left the queue.
    pub(crate) has_left: bool,
    /// The number of the build that it became.
    pub(crate) executable: Option<u64>,
}

/// A build's record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Build {
    pub(crate) number: u64,
    pub(crate) queue_id: Option<u64>,
    pub(crate) is_building: bool,
    /// Older servers do not tell.
    pub(crate) is_in_progress: Option<bool>,
    pub(crate) result: Option<String>,
    /// In milliseconds; zero until it has ended.
    pub(crate) duration: u64,
    pub(crate) description: Option<String>,
    /// `None` while they are not attached.
    pub(crate) parameters: Option<Values>,
    /// The classes of its causes.
    pub(crate) causes: Vec<String>,
    /// The users that its causes name.
    pub(crate) users: Vec<String>,
    /// Whether somebody or something interrupted it, as it says itself.
    pub(crate) is_interrupted: bool,
    pub(crate) is_pipeline: bool,
    /// What git has checked out: the revision and where it came from.
    pub(crate) checkouts: Vec<(String, Vec<String>)>,
    pub(crate) artifacts: Vec<String>,
}

/// What a job says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) is_buildable: bool,
    pub(crate) next: Option<u64>,
    /// The declared parameters, and the values that one may have where it is a choice.
    pub(crate) declared: BTreeMap<String, Option<Vec<String>>>,
    pub(crate) builds: Vec<Build>,
    /// How many builds were told, also such as cannot be read.
    pub(crate) told: u64,
}

/// Whether these parameters carry the key.
fn carry(parameters: Option<&Values>, parameter: &str, key: &str) -> bool {
    parameters.and_then(|p| p.get(parameter)).is_some_and(|value| value.as_deref() == Some(key))
}

impl Item {
    pub(crate) fn carries(&self, parameter: &str, key: &str) -> bool {
        carry(self.parameters.as_ref(), parameter, key)
    }

    pub(crate) fn read(value: &Value) -> Option<Self> {
        let actions = Actions::read(value);
        let has_left = value.get("cancelled").is_some_and(Value::is_boolean)
            || value.get("executable").is_some()
            || value["_class"].as_str().is_some_and(|class| class.ends_with("LeftItem"));
        let of_executable = || job_and_build(value["executable"]["url"].as_str()?)?.1;
        Some(Self {
            id: value["id"].as_u64()?,
            job: value["task"]["url"].as_str().and_then(job_and_build).map(|(job, _)| job),
            parameters: actions.parameters,
            causes: actions.causes,
            why: value["why"].as_str().map(shown),
            is_stuck: value["stuck"].as_bool().unwrap_or_default(),
            is_cancelled: value["cancelled"].as_bool().unwrap_or_default(),
            has_left,
            executable: value["executable"]["number"].as_u64().or_else(of_executable),
        })
    }

    pub(crate) fn list(value: &Value) -> Vec<Self> {
        list(&value["items"], Self::read)
    }

    /// The jobs of items of which the user may see nothing else.
    pub(crate) fn hidden(value: &Value) -> Vec<String> {
        list(&value["discoverableItems"], |item| {
            Some(item["task"]["name"].as_str().unwrap_or_default().to_owned())
        })
    }
}

impl Build {
    pub(crate) fn carries(&self, parameter: &str, key: &str) -> bool {
        carry(self.parameters.as_ref(), parameter, key)
    }

    /// Whether it has ended and its record and log are complete.
    pub(crate) fn has_ended(&self) -> bool {
        !self.is_building && self.result.is_some() && self.is_in_progress != Some(true)
    }

    /// Whether it was made from another build by a person or a plugin.
    pub(crate) fn is_copy(&self) -> bool {
        self.causes.iter().any(|class| {
            ["Rebuild", "Replay", "Naginator", "RetryCause"].iter().any(|copy| class.contains(copy))
        })
    }

    pub(crate) fn read(value: &Value) -> Option<Self> {
        let actions = Actions::read(value);
        let text = |field: &str| value[field].as_str().map(str::to_owned);
        Some(Self {
            number: value["number"].as_u64()?,
            queue_id: value["queueId"].as_u64(),
            is_building: value["building"].as_bool().unwrap_or_default(),
            is_in_progress: value["inProgress"].as_bool(),
            result: text("result"),
            duration: value["duration"].as_u64().unwrap_or_default(),
            description: text("description"),
            parameters: actions.parameters,
            causes: actions.causes,
            users: actions.users,
            is_interrupted: actions.is_interrupted,
            is_pipeline: value["_class"].as_str().is_some_and(|class| class.ends_with("WorkflowRun")),
            checkouts: actions.checkouts,
            artifacts: list(&value["artifacts"], |a| a["relativePath"].as_str().map(str::to_owned)),
        })
    }
}

impl Job {
    pub(crate) fn read(value: &Value) -> Self {
        let properties = value["property"].as_array().map(Vec::as_slice).unwrap_or_default();
        let declared = properties
            .iter()
            .filter_map(|p| p["parameterDefinitions"].as_array())
            .flatten()
            .filter_map(|definition| {
                let choices = definition["choices"]
                    .as_array()
                    .map(|all| all.iter().filter_map(Value::as_str).map(str::to_owned).collect());
                Some((definition["name"].as_str()?.to_owned(), choices))
            })
            .collect();
        let builds = if value["allBuilds"].is_array() { &value["allBuilds"] } else { &value["builds"] };
        Self {
            // Old servers and odd kinds of jobs do not tell; the request itself will.
            is_buildable: value["buildable"].as_bool().unwrap_or(true),
            next: value["nextBuildNumber"].as_u64(),
            declared,
            builds: list(builds, Build::read),
            told: builds.as_array().map_or(0, Vec::len) as u64,
        }
    }
}

/// The builds that run now, of any job: what each executor says of its build.
pub(crate) fn running(value: &Value) -> Vec<(JobName, Build)> {
    let computers = value["computer"].as_array().map(Vec::as_slice).unwrap_or_default();
    computers
        .iter()
        .flat_map(|computer| ["executors", "oneOffExecutors"].map(|kind| &computer[kind]))
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|executor| {
            let build = &executor["currentExecutable"];
            let (job, _) = job_and_build(build["url"].as_str()?)?;
            Some((job, Build::read(build)?))
        })
        .collect()
}

#[derive(Default)]
struct Actions {
    parameters: Option<Values>,
    causes: Vec<String>,
    users: Vec<String>,
    is_interrupted: bool,
    checkouts: Vec<(String, Vec<String>)>,
}

impl Actions {
    fn read(of: &Value) -> Self {
        let mut all = Self::default();
        for action in of["actions"].as_array().map(Vec::as_slice).unwrap_or_default() {
            if let Some(parameters) = action["parameters"].as_array() {
                let values = all.parameters.get_or_insert_default();
                for parameter in parameters {
                    let Some(name) = parameter["name"].as_str() else { continue };
                    let value = match &parameter["value"] {
                        Value::String(text) => Some(text.clone()),
                        Value::Bool(flag) => Some(flag.to_string()),
                        Value::Number(number) => Some(number.to_string()),
                        _ => None,
                    };
                    values.insert(name.to_owned(), value);
                }
            }
            let class = action["_class"].as_str().unwrap_or_default();
            if class.ends_with("InterruptedBuildAction") {
                all.is_interrupted = true;
            } else {
                all.causes.extend(list(&action["causes"], |c| c["_class"].as_str().map(str::to_owned)));
                all.users.extend(list(&action["causes"], |c| c["userId"].as_str().map(str::to_owned)));
            }
            if let Some(revision) = action["lastBuiltRevision"]["SHA1"].as_str() {
                let remotes = list(&action["remoteUrls"], |url| url.as_str().map(str::to_owned));
                all.checkouts.push((revision.to_owned(), remotes));
            }
        }
        all
    }
}

fn list<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter().filter_map(read).collect()
}

/// A server's text for people, without what could do more than be read.
pub(crate) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_item_is_read_from_whatever_there_is() {
        let item = Item::read(&json!({
            "_class": "hudson.model.Queue$LeftItem", "id": 5_000_000_000_u64, "cancelled": false, "new": {"x": 1},
            "why": "In the\nquiet period", "task": {"name": "b", "url": "http://wrong:1/ctx/job/a/job/b/"},
            "executable": {"url": "http://wrong:1/ctx/job/a/job/b/17/"},
            "actions": [{}, null, {"_class": "x"}, {"parameters": [{"name": "A", "value": "1"}, {"name": "P"}, {}]},
                {"parameters": [{"name": "B", "value": true}, {"name": "C", "value": 3}]},
                {"causes": [{"_class": "hudson.model.Cause$UserIdCause"}, {}]}],
        }))
        .unwrap();
        assert_eq!((item.id, item.job.unwrap().as_str()), (5_000_000_000, "a/b"));
        assert_eq!(item.why.as_deref(), Some("In the quiet period"));
        assert!(item.has_left && !item.is_cancelled);
        assert_eq!(item.executable, Some(17));
        let values = item.parameters.unwrap();
        assert_eq!(values.len(), 4);
        assert_eq!((values["B"].as_deref(), values["P"].as_deref()), (Some("true"), None));
        assert!(Item::read(&json!({"id": -1})).is_none() && Item::read(&json!([])).is_none());
        assert!(!Item::read(&json!({"id": 1})).unwrap().has_left);
    }

    #[test]
    fn a_build_is_read_from_whatever_there_is() {
        let young =
            Build::read(&json!({"number": 3, "queueId": -1, "building": true, "duration": -1})).unwrap();
        assert_eq!((young.queue_id, young.parameters, young.duration), (None, None, 0));
        let build = Build::read(&json!({
            "_class": "org.jenkinsci.plugins.workflow.job.WorkflowRun", "number": 4, "result": "ABORTED",
            "inProgress": true,
            "actions": [
                {"_class": "jenkins.model.InterruptedBuildAction", "causes": [{"_class": "x"}]},
                {"causes": [{"_class": "com.sonyericsson.rebuild.RebuildCause"}]},
                {"lastBuiltRevision": {"SHA1": "abc"}, "remoteUrls": ["https://h/a.git"]},
            ],
            "artifacts": [{"relativePath": "a"}, {}],
        }))
        .unwrap();
        assert!(build.is_pipeline && build.is_interrupted && build.is_copy() && !build.has_ended());
        assert_eq!(build.checkouts, [("abc".to_owned(), vec!["https://h/a.git".to_owned()])]);
        assert_eq!(build.artifacts, ["a"]);
        assert!(Build::read(&json!({"number": "x"})).is_none());
    }

    #[test]
    fn a_build_has_ended_by_its_state_table() {
        for (building, in_progress, result, ended) in [
            (true, Some(false), None, false),
            (true, Some(true), None, false),
            (true, Some(true), Some("FAILURE"), false),
            (false, Some(true), Some("SUCCESS"), false),
            (false, Some(false), Some("SUCCESS"), true),
            (false, None, Some("SUCCESS"), true),
            (false, Some(false), None, false),
        ] {
            let build = Build {
                is_building: building,
                is_in_progress: in_progress,
                result: result.map(str::to_owned),
                ..Build::default()
            };
            assert_eq!(build.has_ended(), ended, "{build:?}");
        }
    }

    #[test]
    fn a_job_is_read_from_whatever_there_is() {
        let job = Job::read(&json!({
            "nextBuildNumber": 7, "buildable": false,
            "property": [{}, {"parameterDefinitions": [{"name": "A"}, {"name": "C", "choices": ["x", "y"]}, {}]}],
            "builds": [{"number": 6}, {"number": null}],
        }));
        assert_eq!((job.next, job.is_buildable, job.builds.len()), (Some(7), false, 1));
        assert_eq!(job.declared["C"].as_deref(), Some(&["x".to_owned(), "y".to_owned()][..]));
        assert_eq!(Job::read(&json!(null)), Job { is_buildable: true, ..Job::default() });
    }
}
