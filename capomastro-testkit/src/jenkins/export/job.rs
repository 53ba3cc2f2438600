//! Jobs as JSON.

use super::{Object, job_path};
use crate::jenkins::{
    build::{Build, Given, View},
    job::{Job, JobKind, Parameter, ParameterKind},
    language::Language,
    security::Who,
    state::State,
    tree::{
        Select,
        visible::{ALWAYS, BY_NAME, DEEPER, HERE},
    },
    trigger::{as_json, default_of},
};
use serde_json::Value;

impl State {
    pub(in crate::jenkins) fn export_job(&self, who: &Who, job: &Job, select: &Select) -> Value {
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
            ("lastSuccessfulBuild", |view| {
                !view.building && matches!(view.result, Some("SUCCESS" | "UNSTABLE"))
            }),
            ("lastUnstableBuild", |view| !view.building && view.result == Some("UNSTABLE")),
            ("lastUnsuccessfulBuild", |view| {
                !view.building && view.result.is_some_and(|result| result != "SUCCESS")
            }),
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
        let default = default_of(parameter);
        let mut out = Object::of(select, default.class());
        if select.wants("name", BY_NAME).is_some() {
            out.put("name", BY_NAME, parameter.name.as_str());
        }
        if !matches!(default, Given::Secret(_)) {
            out.put("value", ALWAYS, as_json(&default));
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
