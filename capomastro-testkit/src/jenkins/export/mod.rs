//! The remote API's JSON: objects of the server, as much of them as was asked for.

mod build;
mod job;
mod queue;

use super::{
    job::{Job, JobId, JobKind},
    security::{Permission, Who},
    state::State,
    tree::{
        Range, Select,
        visible::{ALWAYS, DEEPER, HERE},
    },
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

/// What is left as it is in a segment of a URL.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'(').remove(b')');

pub(super) fn encoded(segment: &str) -> String {
    utf8_percent_encode(segment, SEGMENT).to_string()
}

/// Path of a job below the server's address, with a slash at its end.
pub(super) fn job_path(full_name: &str) -> String {
    full_name.split('/').map(|name| format!("job/{}/", encoded(name))).collect()
}

/// An object that is being written.
struct Object<'a> {
    select: &'a Select,
    map: Map<String, Value>,
}

impl<'a> Object<'a> {
    fn of(select: &'a Select, class: &str) -> Self {
        let mut object = Self::plain(select);
        object.map.insert("_class".to_owned(), Value::from(class));
        object
    }

    /// Without a class, as objects that nothing else could stand for.
    fn plain(select: &'a Select) -> Self {
        Self { select, map: Map::new() }
    }

    fn put(&mut self, name: &str, visibility: i32, value: impl Into<Value>) -> &mut Self {
        if self.select.wants(name, visibility).is_some() {
            self.map.insert(name.to_owned(), value.into());
        }
        self
    }

    fn object(&mut self, name: &str, visibility: i32, value: impl FnOnce(&Select) -> Value) -> &mut Self {
        if let Some((inner, _)) = self.select.wants(name, visibility) {
            self.map.insert(name.to_owned(), value(&inner));
        }
        self
    }

    fn list<T>(
        &mut self,
        name: &str,
        visibility: i32,
        all: impl Iterator<Item = T>,
        value: impl FnMut(T, &Select) -> Value,
    ) -> &mut Self {
        let wanted = self.select.wants(name, visibility);
        self.filled(name, wanted, all, value)
    }

    /// A list whose elements count as part of this object.
    fn inline<T>(
        &mut self,
        name: &str,
        all: impl Iterator<Item = T>,
        value: impl FnMut(T, &Select) -> Value,
    ) -> &mut Self {
        let wanted = self.select.wants_inline(name, HERE);
        self.filled(name, wanted, all, value)
    }

    fn filled<T>(
        &mut self,
        name: &str,
        wanted: Option<(Select, Range)>,
        all: impl Iterator<Item = T>,
        mut value: impl FnMut(T, &Select) -> Value,
    ) -> &mut Self {
        if let Some((inner, range)) = wanted {
            let values = range.of(all).map(|element| value(element, &inner)).collect();
            self.map.insert(name.to_owned(), Value::Array(values));
        }
        self
    }

    fn done(&mut self) -> Value {
        Value::Object(std::mem::take(&mut self.map))
    }
}

impl State {
    /// The address that JSON is full of, with a slash at its end.
    fn root(&self) -> String {
        match &self.config.root_url {
            Some(url) => format!("{}/", url.trim_end_matches('/')),
            None => "/".to_owned(),
        }
    }

    fn color(&self, job: &Job) -> String {
        if job.settings.disabled {
            return "disabled".to_owned();
        }
        let last = job.builds.values().rev().find_map(|build| {
            let view = build.view(self.now, job.kind == JobKind::Pipeline);
            if view.building { None } else { view.result }
        });
        let color = match last {
            None => "notbuilt",
            Some("SUCCESS") => "blue",
            Some("UNSTABLE") => "yellow",
            Some("FAILURE") => "red",
            Some(_) => "aborted",
        };
        let running = if job.running.is_empty() { "" } else { "_anime" };
        format!("{color}{running}")
    }

    /// The server itself.
    pub(super) fn export_root(&self, who: &Who, select: &Select) -> Value {
        let mut out = Object::of(select, "hudson.model.Hudson");
        out.list("assignedLabels", HERE, std::iter::once("built-in"), |name, select| {
            Object::plain(select).put("name", DEEPER, name).done()
        })
        .put("mode", HERE, "NORMAL")
        .put("nodeDescription", HERE, "the Jenkins controller's built-in node")
        .put("nodeName", HERE, "")
        .put("numExecutors", HERE, self.config.executors)
        .put("description", HERE, Value::Null)
        .put("quietDownReason", HERE, self.quieting.clone().flatten())
        .put("quietingDown", HERE, self.quieting.is_some())
        .put("slaveAgentPort", HERE, -1)
        .put("useCrumbs", HERE, self.config.crumbs)
        .put("useSecurity", HERE, true)
        .put("url", HERE, self.config.root_url.as_ref().map(|_| self.root()))
        .object("overallLoad", HERE, |_| json!({}))
        .object("unlabeledLoad", HERE, |s| Object::of(s, "jenkins.model.UnlabeledLoadStatistics").done())
        .list("jobs", HERE, self.children_of(who, ""), |job, select| self.export_job(who, job, select));
        out.list("views", HERE, std::iter::once("all"), |name, select| {
            Object::of(select, "hudson.model.AllView")
                .put("name", ALWAYS, name)
                .put("url", ALWAYS, self.root())
                .done()
        });
        out.done()
    }

    fn children_of<'a>(&'a self, who: &'a Who, folder: &'a str) -> impl Iterator<Item = &'a Job> {
        let may = self.may(who, Permission::JobRead);
        self.paths
            .iter()
            .filter(move |(path, _)| {
                let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
                may && parent == folder
            })
            .filter_map(|(_, id)| self.jobs.get(id))
    }

    pub(super) fn export_computers(&self, select: &Select) -> Value {
        let busy = self.executing.len();
        let mut out = Object::of(select, "hudson.model.ComputerSet");
        out.put("busyExecutors", HERE, busy)
            .put("displayName", HERE, "Nodes")
            .put("totalExecutors", HERE, self.config.executors)
            .inline("computer", std::iter::once(()), |(), select| self.export_computer(select));
        out.done()
    }

    fn export_computer(&self, select: &Select) -> Value {
        let mut out = Object::of(select, "hudson.model.Hudson$MasterComputer");
        let running = |id: &JobId, number: &u32| {
            self.jobs.get(id).and_then(|job| job.builds.get(number).map(|build| (job, build)))
        };
        let executor = |found: Option<(&Job, &super::build::Build)>, select: &Select| {
            Object::plain(select)
                .object("currentExecutable", HERE, |select| {
                    found.map_or(Value::Null, |(job, build)| self.export_build(job, build, select))
                })
                .done()
        };
        let one_off = self.jobs.iter().filter(|(_, job)| job.kind == JobKind::Pipeline);
        let one_off = one_off.flat_map(|(id, job)| job.running.iter().map(move |number| (id, number)));
        let labels = std::iter::once("built-in").chain(self.config.labels.iter().map(String::as_str));
        out.list("assignedLabels", HERE, labels, |name, select| {
            Object::plain(select).put("name", DEEPER, name).done()
        })
        .put("description", HERE, "the Jenkins controller's built-in node")
        .put("displayName", HERE, "Built-In Node")
        .put("idle", HERE, self.executing.is_empty())
        .put("jnlpAgent", HERE, false)
        .put("launchSupported", HERE, true)
        .put("manualLaunchAllowed", HERE, true)
        .put("numExecutors", HERE, self.config.executors)
        .put("offline", HERE, false)
        .put("offlineCause", HERE, Value::Null)
        .put("offlineCauseReason", HERE, "")
        .put("temporarilyOffline", HERE, false)
        .list("oneOffExecutors", HERE, one_off, |(id, number), select| executor(running(id, number), select));
        let busy = self.executing.iter().map(|(id, number)| running(id, number));
        let idle = self.config.executors.saturating_sub(self.executing.len());
        out.list("executors", HERE, busy.chain(std::iter::repeat_n(None, idle)), executor);
        out.done()
    }
}
