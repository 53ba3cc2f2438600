//! The remote API's JSON: objects of the server, as much of them as was asked for.

use super::{
    artifacts::display_paths,
    build::{Build, Values, View},
    job::{Job, JobId, JobKind, Parameter, ParameterKind},
    language::{Language, why},
    queue::{Cause, Fate, Item, Stage},
    security::{Permission, Who},
    state::State,
    tree::{Range, Select, visible::{ALWAYS, BY_NAME, DEEPER, HERE}},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

/// What is left as it is in a segment of a URL.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'(').remove(b')');

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
    fn inline<T>(&mut self, name: &str, all: impl Iterator<Item = T>, value: impl FnMut(T, &Select) -> Value) -> &mut Self {
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
            Object::of(select, "hudson.model.AllView").put("name", ALWAYS, name).put("url", ALWAYS, self.root()).done()
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

    pub(super) fn export_job(&self, who: &Who, job: &Job, select: &Select) -> Value {
        let pipeline = job.kind == JobKind::Pipeline;
        let url = format!("{}{}", self.root(), job_path(&job.full_name));
        let full_display = job.full_name.replace('/', " » ");
        let mut out = Object::of(select, job.class());
        out.put("description", HERE, job.settings.description.as_str())
            .put("displayName", HERE, job.name())
            .put("displayNameOrNull", HERE, Value::Null)
            .put("fullDisplayName", HERE, full_display)
            .put("fullName", HERE, job.full_name.as_str())
            .put("name", ALWAYS, job.name())
            .put("url", ALWAYS, url);
        if job.kind == JobKind::Folder {
            let children: Vec<_> = self.children_of(who, &job.full_name).collect();
            out.list("jobs", HERE, children.into_iter(), |job, select| self.export_job(who, job, select));
            return out.done();
        }
        let property = !job.settings.parameters.is_empty();
        let definitions = |_: (), select: &Select| {
            let mut out = Object::of(select, "hudson.model.ParametersDefinitionProperty");
            out.inline("parameterDefinitions", job.settings.parameters.iter(), export_definition);
            out.done()
        };
        out.inline("actions", property.then_some(()).into_iter(), definitions)
            .put("buildable", HERE, job.buildable())
            .put("color", DEEPER, self.color(job))
            .put("inQueue", HERE, !job.queued.is_empty())
            .put("keepDependencies", HERE, false)
            .put("nextBuildNumber", HERE, job.next_number)
            .put("concurrentBuild", HERE, job.settings.concurrent)
            .put("disabled", HERE, job.settings.disabled)
            .list("healthReport", HERE, std::iter::empty::<()>(), |(), _| Value::Null);
        out.inline("property", property.then_some(()).into_iter(), definitions);
        let listed = || job.builds.values().rev().filter(|build| build.view(self.now, pipeline).listed);
        let one = |build: &Build, select: &Select| self.export_build(job, build, select);
        out.list("builds", HERE, listed().take(100), one).list("allBuilds", BY_NAME, listed(), one);
        type Wanted = fn(&View<'_>) -> bool;
        let aliases: [(&str, Wanted); 8] = [
            ("lastBuild", |_| true),
            ("lastCompletedBuild", |view| !view.building),
            ("lastFailedBuild", |view| !view.building && view.result == Some("FAILURE")),
            ("lastStableBuild", |view| !view.building && view.result == Some("SUCCESS")),
            ("lastSuccessfulBuild", |view| !view.building && matches!(view.result, Some("SUCCESS" | "UNSTABLE"))),
            ("lastUnstableBuild", |view| !view.building && view.result == Some("UNSTABLE")),
            ("lastUnsuccessfulBuild", |view| !view.building && view.result.is_some_and(|result| result != "SUCCESS")),
            ("firstBuild", |_| false),
        ];
        for (alias, wanted) in aliases {
            out.object(alias, HERE, |select| {
                let found = match alias {
                    "firstBuild" => listed().next_back(),
                    _ => listed().find(|build| wanted(&build.view(self.now, pipeline))),
                };
                found.map_or(Value::Null, |build| one(build, select))
            });
        }
        out.object("queueItem", HERE, |select| {
            let item = job.queued.last().and_then(|id| self.queue.items.get(id));
            item.map_or(Value::Null, |item| self.export_item(item, None, Language::English, select))
        });
        out.done()
    }

    fn build_url(&self, job: &Job, number: u32) -> String {
        format!("{}{}{number}/", self.root(), job_path(&job.full_name))
    }

    pub(super) fn export_build(&self, job: &Job, build: &Build, select: &Select) -> Value {
        let pipeline = job.kind == JobKind::Pipeline;
        let view = build.view(self.now, pipeline);
        let number = build.number;
        let mut out = Object::of(select, job.build_class());
        out.put("number", DEEPER, number)
            .put("url", DEEPER, self.build_url(job, number))
            .put("id", HERE, number.to_string())
            .put("displayName", HERE, format!("#{number}"))
            .put("fullDisplayName", HERE, format!("{} #{number}", job.full_name.replace('/', " » ")))
            .put("description", HERE, build.description.clone())
            .put("building", HERE, view.building)
            .put("inProgress", HERE, view.in_progress)
            .put("result", HERE, view.result)
            .put("timestamp", HERE, build.created)
            .put("duration", HERE, view.duration)
            .put("estimatedDuration", HERE, job.estimate().map_or(Value::from(-1), Value::from))
            .put("keepLog", HERE, false)
            .object("executor", HERE, |_| if view.in_progress { json!({}) } else { Value::Null });
        if view.queue_id_known {
            out.put("queueId", HERE, build.queue_id);
        } else {
            out.put("queueId", HERE, -1);
        }
        self.export_build_actions(&mut out, build, &view);
        let finished = view.result.is_some() && build.ended.as_ref().is_some_and(|ended| ended.at <= self.now && !ended.cut);
        let artifacts = if finished { build.script.artifacts.as_slice() } else { &[] };
        let shown = display_paths(artifacts);
        out.list("artifacts", HERE, artifacts.iter().zip(&shown), |(artifact, display), select| {
            Object::plain(select)
                .put("displayPath", ALWAYS, display.as_str())
                .put("fileName", ALWAYS, artifact.file_name())
                .put("relativePath", ALWAYS, artifact.path.as_str())
                .done()
        });
        out.list("fingerprint", BY_NAME, artifacts.iter(), |artifact, select| {
            Object::plain(select)
                .put("fileName", ALWAYS, artifact.file_name())
                .put("timestamp", ALWAYS, build.created)
                .put("hash", ALWAYS, &super::security::digest(&[&artifact.path])[..32])
                .object("original", ALWAYS, |select| {
                    Object::plain(select).put("name", ALWAYS, job.full_name.as_str()).put("number", ALWAYS, number).done()
                })
                .list("usage", ALWAYS, std::iter::once(()), |(), select| {
                    Object::plain(select)
                        .put("name", ALWAYS, job.full_name.as_str())
                        .object("ranges", ALWAYS, |_| json!({}))
                        .done()
                })
                .done()
        });
        let changes = |select: &Select| {
            Object::of(select, "hudson.scm.EmptyChangeLogSet")
                .list("items", ALWAYS, std::iter::empty::<()>(), |(), _| Value::Null)
                .put("kind", ALWAYS, Value::Null)
                .done()
        };
        if pipeline {
            out.list("changeSets", HERE, std::iter::empty::<()>(), |(), select| changes(select));
            out.object("nextBuild", HERE, |_| Value::Null).object("previousBuild", HERE, |_| Value::Null);
        } else {
            out.put("builtOn", HERE, "").object("changeSet", HERE, changes);
        }
        out.list("culprits", HERE, build.script.culprits.iter(), |name, select| {
            Object::plain(select)
                .put("absoluteUrl", ALWAYS, format!("{}user/{}", self.root(), encoded(name)))
                .put("fullName", ALWAYS, name.as_str())
                .done()
        });
        out.done()
    }

    fn export_build_actions(&self, out: &mut Object<'_>, build: &Build, view: &View<'_>) {
        type Write<'w> = Box<dyn Fn(&Select) -> Value + 'w>;
        let mut actions: Vec<Write<'_>> = Vec::new();
        if view.values_known {
            if let Some(values) = &build.values {
                actions.push(Box::new(move |select| export_values(values, select)));
                if build.script.two_parameter_actions {
                    actions.push(Box::new(move |select| export_values(values, select)));
                }
            }
            actions.push(Box::new(move |select| export_causes(&build.causes, select)));
            if build.script.noise {
                actions.push(Box::new(|select| {
                    Object::of(select, "com.example.jenkins.UnknownAction").put("answer", HERE, 42).done()
                }));
            }
            for revision in &build.script.revisions {
                actions.push(Box::new(move |select| export_revision(revision, build.number, select)));
            }
            if let Some(by) = build.ended.as_ref().filter(|e| e.at <= self.now).and_then(|e| e.interrupted_by.as_ref()) {
                actions.push(Box::new(move |select| {
                    let mut out = Object::of(select, "jenkins.model.InterruptedBuildAction");
                    out.list("causes", HERE, std::iter::once(by), |by, select| {
                        Object::of(select, "jenkins.model.CauseOfInterruption$UserInterruption")
                            .put("shortDescription", ALWAYS, format!("Aborted by {by}"))
                            .done()
                    });
                    out.done()
                }));
            }
        }
        actions.push(Box::new(|_| json!({})));
        out.list("actions", HERE, actions.iter(), |action, select| action(select));
    }

    /// An item, in the queue or left.
    pub(super) fn export_item(&self, item: &Item, fate: Option<Fate>, language: Language, select: &Select) -> Value {
        let Some(job) = self.jobs.get(&item.job).or_else(|| self.deleted.get(&item.job)) else { return Value::Null };
        let class = match (fate, item.stage) {
            (Some(_), _) => "hudson.model.Queue$LeftItem",
            (None, Stage::Waiting { .. }) => "hudson.model.Queue$WaitingItem",
            (None, Stage::Blocked { .. }) => "hudson.model.Queue$BlockedItem",
            (None, Stage::Buildable { .. } | Stage::Pending { .. }) => "hudson.model.Queue$BuildableItem",
        };
        let live = fate.is_none();
        let buildable = live && matches!(item.stage, Stage::Buildable { .. } | Stage::Pending { .. });
        let params: String = item
            .values
            .iter()
            .flat_map(|values| values.iter())
            .map(|(name, value)| format!("\n{name}={}", super::trigger::shown(value)))
            .collect();
        let mut out = Object::of(select, class);
        let both: [bool; 2] = [item.values.is_some(), true];
        out.list("actions", HERE, both.iter().enumerate().filter(|(_, is)| **is), |(which, _), select| {
            match (which, &item.values) {
                (0, Some(values)) => export_values(values, select),
                _ => export_causes(&item.causes, select),
            }
        })
        .put("blocked", HERE, live && matches!(item.stage, Stage::Blocked { .. }))
        .put("buildable", HERE, buildable)
        .put("id", HERE, item.id)
        .put("inQueueSince", HERE, item.since)
        .put("params", HERE, params)
        .put("stuck", HERE, live && self.is_stuck(item, job))
        .object("task", HERE, |select| {
            Object::of(select, job.class())
                .put("name", ALWAYS, job.name())
                .put("url", ALWAYS, format!("{}{}", self.root(), job_path(&job.full_name)))
                .put("color", ALWAYS, self.color(job))
                .done()
        })
        .put("url", HERE, format!("queue/item/{}/", item.id))
        .put("why", HERE, if live { Value::from(why(self, item, job, language)) } else { Value::Null });
        match (fate, item.stage) {
            (Some(fate), _) => {
                out.put("cancelled", HERE, fate == Fate::Cancelled).object("executable", HERE, |select| match fate {
                    Fate::Started { number, shown_from } if shown_from <= self.now => {
                        Object::of(select, job.build_class())
                            .put("number", DEEPER, number)
                            .put("url", DEEPER, self.build_url(job, number))
                            .done()
                    }
                    Fate::Cancelled | Fate::Nothing | Fate::Started { .. } => Value::Null,
                });
            }
            (None, Stage::Waiting { due }) => {
                out.put("timestamp", HERE, due);
            }
            (None, Stage::Blocked { since }) => {
                out.put("buildableStartMilliseconds", HERE, since);
            }
            (None, Stage::Buildable { since }) => {
                out.put("buildableStartMilliseconds", HERE, since).put("pending", HERE, false);
            }
            (None, Stage::Pending { since, .. }) => {
                out.put("buildableStartMilliseconds", HERE, since).put("pending", HERE, true);
            }
        }
        out.done()
    }

    /// Buildable for far longer than it should take, or without any node that could run it.
    fn is_stuck(&self, item: &Item, job: &Job) -> bool {
        let Stage::Buildable { since } = item.stage else { return false };
        let waited = self.now.saturating_sub(since);
        let limit = job.estimate().map_or(86_400_000, |estimate| estimate.max(60_000).saturating_mul(10));
        !self.runs_here(job) || waited > limit
    }

    pub(super) fn export_queue(&self, who: &Who, language: Language, select: &Select) -> Value {
        let mut out = Object::of(select, "hudson.model.Queue");
        let read = self.may(who, Permission::JobRead);
        let discover = !read && self.may(who, Permission::JobDiscover);
        // Waiting ones first, then blocked, buildable and pending ones, each in their order.
        let mut items: Vec<&Item> = self.queue.items.values().collect();
        items.sort_by_key(|item| match item.stage {
            Stage::Waiting { .. } => 0,
            Stage::Blocked { .. } => 1,
            Stage::Buildable { .. } => 2,
            Stage::Pending { .. } => 3,
        });
        out.list("discoverableItems", HERE, items.iter().filter(|_| discover), |item, select| {
            Object::plain(select)
                .object("task", ALWAYS, |select| {
                    let name = self.jobs.get(&item.job).map(Job::name);
                    Object::plain(select).put("name", ALWAYS, name).done()
                })
                .done()
        });
        out.inline("items", items.iter().filter(|_| read), |item, select| self.export_item(item, None, language, select));
        out.done()
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
        let executor = |found: Option<(&Job, &Build)>, select: &Select| {
            Object::plain(select)
                .object("currentExecutable", HERE, |select| {
                    found.map_or(Value::Null, |(job, build)| self.export_build(job, build, select))
                })
                .done()
        };
        let one_off = self.jobs.iter().filter(|(_, job)| job.kind == JobKind::Pipeline);
        let one_off = one_off.flat_map(|(id, job)| job.running.iter().map(move |number| (id, number)));
        let labels = std::iter::once("built-in").chain(self.config.labels.iter().map(String::as_str));
        out.list("assignedLabels", HERE, labels, |name, select| Object::plain(select).put("name", DEEPER, name).done())
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

fn export_definition(parameter: &Parameter, select: &Select) -> Value {
    let kind = match &parameter.kind {
        ParameterKind::String { .. } => "String",
        ParameterKind::Text { .. } => "Text",
        ParameterKind::Boolean { .. } => "Boolean",
        ParameterKind::Choice(_) => "Choice",
        ParameterKind::Password { .. } => "Password",
    };
    let mut out = Object::of(select, &format!("hudson.model.{kind}ParameterDefinition"));
    out.object("defaultParameterValue", ALWAYS, |select| {
        let default = super::trigger::default_of(parameter);
        let mut out = Object::of(select, default.class());
        if select.wants("name", BY_NAME).is_some() {
            out.put("name", BY_NAME, parameter.name.as_str());
        }
        if !matches!(default, super::build::Given::Secret(_)) {
            out.put("value", ALWAYS, super::trigger::as_json(&default));
        }
        out.done()
    })
    .put("description", ALWAYS, parameter.description.clone())
    .put("name", ALWAYS, parameter.name.as_str())
    .put("type", ALWAYS, format!("{kind}ParameterDefinition"));
    if let ParameterKind::Choice(choices) = &parameter.kind {
        out.put("choices", ALWAYS, choices.clone());
    }
    out.done()
}

fn export_values(values: &Values, select: &Select) -> Value {
    let mut out = Object::of(select, "hudson.model.ParametersAction");
    out.list("parameters", DEEPER, values.iter(), |(name, value), select| {
        let mut out = Object::of(select, value.class());
        out.put("name", ALWAYS, name.as_str());
        if !matches!(value, super::build::Given::Secret(_)) {
            out.put("value", ALWAYS, super::trigger::as_json(value));
        }
        out.done()
    });
    out.done()
}

fn export_causes(causes: &[Cause], select: &Select) -> Value {
    let mut out = Object::of(select, "hudson.model.CauseAction");
    out.list("causes", DEEPER, causes.iter(), |cause, select| match cause {
        Cause::User(user) => Object::of(select, "hudson.model.Cause$UserIdCause")
            .put("shortDescription", ALWAYS, format!("Started by user {user}"))
            .put("userId", ALWAYS, user.as_str())
            .put("userName", ALWAYS, user.as_str())
            .done(),
        Cause::Remote { address, note } => {
            let with = note.as_ref().map(|note| format!(" with note: {note}")).unwrap_or_default();
            Object::of(select, "hudson.model.Cause$RemoteCause")
                .put("shortDescription", ALWAYS, format!("Started by remote host {address}{with}"))
                .put("addr", ALWAYS, address.as_str())
                .put("note", ALWAYS, note.clone())
                .done()
        }
        Cause::Rebuild { upstream, number } => Object::of(select, "com.sonyericsson.rebuild.RebuildCause")
            .put("shortDescription", ALWAYS, format!("Rebuilds build #{number}"))
            .put("upstreamBuild", ALWAYS, *number)
            .put("upstreamProject", ALWAYS, upstream.as_str())
            .put("upstreamUrl", ALWAYS, job_path(upstream))
            .done(),
    });
    out.done()
}

fn export_revision(revision: &super::script::Revision, number: u32, select: &Select) -> Value {
    let what = |select: &Select| {
        Object::plain(select)
            .put("SHA1", ALWAYS, revision.sha1.as_str())
            .list("branch", ALWAYS, std::iter::once(()), |(), select| {
                Object::plain(select)
                    .put("SHA1", ALWAYS, revision.sha1.as_str())
                    .put("name", ALWAYS, revision.branch.as_str())
                    .done()
            })
            .done()
    };
    Object::of(select, "hudson.plugins.git.util.BuildData")
        .object("buildsByBranchName", DEEPER, |_| {
            let branch = &revision.branch;
            json!({ branch: { "_class": "hudson.plugins.git.util.Build", "buildNumber": number, "buildResult": null } })
        })
        .object("lastBuiltRevision", DEEPER, what)
        .put("remoteUrls", DEEPER, vec![revision.remote.clone()])
        .put("scmName", DEEPER, "")
        .done()
}
