//! Builds as JSON.

use super::{Object, encoded, job_path};
use crate::jenkins::{
    artifacts::display_paths,
    build::{Build, Given, Values, View},
    job::{Job, JobKind},
    queue::Cause,
    script::Revision,
    security::digest,
    state::State,
    tree::{
        Select,
        visible::{ALWAYS, BY_NAME, DEEPER, HERE},
    },
    trigger::as_json,
};
use serde_json::{Value, json};

impl State {
    pub(super) fn build_url(&self, job: &Job, number: u32) -> String {
        format!("{}{}{number}/", self.root(), job_path(&job.full_name))
    }

    pub(in crate::jenkins) fn export_build(&self, job: &Job, build: &Build, select: &Select) -> Value {
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
        let finished = view.result.is_some()
            && build.ended.as_ref().is_some_and(|ended| ended.at <= self.now && !ended.cut);
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
                .put("hash", ALWAYS, &digest(&[&artifact.path])[..32])
                .object("original", ALWAYS, |select| {
                    Object::plain(select)
                        .put("name", ALWAYS, job.full_name.as_str())
                        .put("number", ALWAYS, number)
                        .done()
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
            if let Some(by) =
                build.ended.as_ref().filter(|e| e.at <= self.now).and_then(|e| e.interrupted_by.as_ref())
            {
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
}

pub(super) fn export_values(values: &Values, select: &Select) -> Value {
    let mut out = Object::of(select, "hudson.model.ParametersAction");
    out.list("parameters", DEEPER, values.iter(), |(name, value), select| {
        let mut out = Object::of(select, value.class());
        out.put("name", ALWAYS, name.as_str());
        if !matches!(value, Given::Secret(_)) {
            out.put("value", ALWAYS, as_json(value));
        }
        out.done()
    });
    out.done()
}

pub(super) fn export_causes(causes: &[Cause], select: &Select) -> Value {
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

fn export_revision(revision: &Revision, number: u32, select: &Select) -> Value {
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
