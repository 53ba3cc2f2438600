//! Which request is answered by what.

use super::{
    answer::Answer,
    artifacts, console,
    export::job_path,
    job::{JobId, JobKind},
    language::Language,
    phases::StartPhase,
    queue::Fate,
    request::Request,
    script::Stop,
    security::{Permission, Who, no_crumb},
    state::State,
    tree::Select,
};
use serde_json::json;

type Refused = Box<Answer>;

/// Answers a request, and lets it have its effect.
pub(super) fn answer(state: &mut State, request: &Request) -> Answer {
    if let Some(phase) = state.phase.at(state.now) {
        return starting(state, request, phase);
    }
    if let ["elsewhere", name] = request.parts().as_slice() {
        return elsewhere(state, request, name);
    }
    let who = match state.authenticate(request) {
        Ok(who) => who,
        Err(refused) => return *refused,
    };
    if let Some(refused) = state.check_crumb(request, &who) {
        return refused;
    }
    match dispatch(state, request, &who) {
        Ok(answer) | Err(answer) => answer,
    }
}

/// A store that takes whoever shows credentials for somebody who does not belong there.
fn elsewhere(state: &State, request: &Request, name: &str) -> Answer {
    match state.kept.get(name) {
        _ if request.header("authorization").is_some() => {
            Answer::empty(400).body("application/xml", "<Error><Code>InvalidArgument</Code></Error>")
        }
        Some(content) => Answer::empty(200).body("application/octet-stream", content.clone()),
        None => Answer::empty(404),
    }
}

fn starting(state: &mut State, request: &Request, phase: StartPhase) -> Answer {
    let get = !request.is("POST");
    let starting = || Answer::unavailable("Starting Jenkins");
    match phase {
        // The server does not get here in the first two: it has no answer to give.
        StartPhase::Away | StartPhase::Silent | StartPhase::Starting => starting(),
        StartPhase::Restarting => Answer::unavailable("Restarting Jenkins"),
        StartPhase::StartingPostFails | StartPhase::NoCrumb if get => starting(),
        StartPhase::EarlyError | StartPhase::StartingPostFails => Answer::empty(500).body(
            super::answer::HTML,
            super::answer::html(
                "Error 500",
                "class hudson.security.csrf.DefaultCrumbIssuer is missing its descriptor",
            ),
        ),
        StartPhase::NoCrumb => no_crumb(request),
        StartPhase::Unauthorized => Answer::container(request, 401, "Unauthorized")
            .with("Set-Cookie", "remember-me=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=Lax")
            .with("WWW-Authenticate", "Basic realm=\"Jenkins\", charset=\"UTF-8\""),
        StartPhase::LateError => {
            let old = state.phase.old_session.clone();
            let new = std::mem::replace(&mut state.session, old);
            let answer = Answer::oops(state);
            state.session = new;
            answer
        }
    }
}

fn dispatch(state: &mut State, request: &Request, who: &Who) -> Result<Answer, Answer> {
    let parts = request.parts();
    match parts.as_slice() {
        ["health"] if request.trailing_slash => {
            return Ok(Answer::empty(200).body("application/json;charset=utf-8", "{\"status\":true}"));
        }
        ["health"] => return Ok(Answer::to(302, format!("{}/health/", state.config.context))),
        ["login"] => return Ok(Answer::page(state, 200, "Sign in - Jenkins", "Sign in to Jenkins")),
        ["j_spring_security_check"] => return Ok(log_in(state, request)),
        _ => {}
    }
    if who.name.is_none() {
        return Ok(state.log_in_first(request));
    }
    state.require(who, Permission::OverallRead).map_err(|refused| *refused)?;
    match parts.as_slice() {
        ["api", "json"] => api(state, request, |state, select| state.export_root(who, select)),
        [] => Ok(Answer::page(state, 200, "Dashboard - Jenkins", "Welcome to Jenkins!")),
        ["crumbIssuer", "api", "json"] => Ok(crumb(state, request, who)),
        ["whoAmI", "api", "json"] => {
            let who = json!({"_class": "hudson.security.WhoAmI", "authenticated": true, "name": who.name});
            Ok(Answer::api(state, &who))
        }
        ["computer", "api", "json"] => api(state, request, |state, select| state.export_computers(select)),
        ["queue", rest @ ..] => queue(state, request, who, rest),
        ["createItem"] => super::admin::create_item(state, request, who, "").map_err(|refused| *refused),
        ["checkJobName"] => super::admin::check_job_name(state, request, who).map_err(|refused| *refused),
        ["quietDown" | "cancelQuietDown" | "safeRestart" | "restart" | "reload"] => {
            manage(state, request, who, parts[0]).map_err(|refused| *refused)
        }
        ["job", ..] => job(state, request, who, &parts),
        _ => Ok(Answer::not_found(state)),
    }
}

/// Answers JSON of what is exported.
fn api(
    state: &mut State,
    request: &Request,
    export: impl FnOnce(&State, &Select) -> serde_json::Value,
) -> Result<Answer, Answer> {
    match Select::from_query(request.query("tree"), request.query("depth")) {
        Ok(select) => Ok(Answer::api(state, &export(state, &select))),
        Err(super::tree::Malformed) => Err(Answer::oops(state)),
    }
}

fn log_in(state: &mut State, request: &Request) -> Answer {
    let name = request.field("j_username").unwrap_or_default();
    let password = request.field("j_password");
    let good = state.security.users.iter().any(|user| {
        user.name == name && password.is_some() && (user.password == password || user.token == password)
    });
    if good {
        let cookie = state.new_session_for(Some(name));
        Answer::to(302, format!("{}/", state.config.context)).with("Set-Cookie", cookie)
    } else {
        Answer::to(302, format!("{}/loginError", state.config.context))
    }
}

fn crumb(state: &mut State, request: &Request, who: &Who) -> Answer {
    if !state.config.crumbs {
        return Answer::not_found(state);
    }
    let Ok(select) = Select::from_query(request.query("tree"), request.query("depth")) else {
        return Answer::oops(state);
    };
    let mut out = json!({"_class": "hudson.security.csrf.DefaultCrumbIssuer"});
    if select.wants("crumbRequestField", super::tree::visible::HERE).is_some() {
        out["crumbRequestField"] = json!("Jenkins-Crumb");
    }
    let mut cookie = None;
    if select.wants("crumb", super::tree::visible::HERE).is_some() {
        let known = request.session().filter(|id| state.security.sessions.contains_key(id));
        let session = known.unwrap_or_else(|| {
            let opened = state.new_cookie();
            let id =
                opened.trim_start_matches("JSESSIONID=").split(';').next().unwrap_or_default().to_owned();
            cookie = Some(opened);
            id
        });
        out["crumb"] = json!(state.crumb(who.name.as_deref(), &session));
    }
    let answer = Answer::api(state, &out);
    match cookie {
        Some(cookie) => answer.with("Set-Cookie", cookie),
        None => answer,
    }
}

fn manage(state: &mut State, request: &Request, who: &Who, what: &str) -> Result<Answer, Refused> {
    if !request.is("POST") {
        return Ok(Answer::wrong_method(state));
    }
    state.require(who, Permission::Manage)?;
    match what {
        "quietDown" => state.quiet_down(request.field("message")),
        "cancelQuietDown" => state.cancel_quiet_down(),
        "safeRestart" => state.safe_restart(),
        "restart" => state.terminate_and_start(),
        _ => state.reload(),
    }
    Ok(Answer::to(302, format!("{}/", state.config.context)))
}

fn queue(state: &mut State, request: &Request, who: &Who, rest: &[&str]) -> Result<Answer, Answer> {
    let language = Language::of(request.header("accept-language").as_deref());
    match rest {
        ["api", "json"] => api(state, request, |state, select| state.export_queue(who, language, select)),
        ["cancelItem"] => Ok(cancel(state, request, who, request.field("id").as_deref())),
        ["item", id, rest @ ..] => {
            let Ok(id) = id.parse::<u64>() else { return Err(Answer::oops(state)) };
            let job = state
                .queue
                .items
                .get(&id)
                .or_else(|| state.queue.left.get(&id).map(|left| &left.item))
                .map(|item| item.job);
            if job.is_none()
                || !state.may(who, Permission::JobDiscover) && !state.may(who, Permission::JobRead)
            {
                return Ok(Answer::not_found(state));
            }
            if !state.may(who, Permission::JobRead) {
                return Ok(Answer::page(state, 403, "Jenkins", "Please sign in to access this item"));
            }
            match rest {
                [] => Ok(Answer::text(format!(
                    "Queue item exists. For details check, for example, {}/queue/item/{id}/api/json?tree=cancelled,executable[url]",
                    state.config.context
                ))),
                ["api", "json"] => api(state, request, |state, select| match state.queue.items.get(&id) {
                    Some(item) => state.export_item(item, None, language, select),
                    None => state.queue.left.get(&id).map_or(serde_json::Value::Null, |left| {
                        state.export_item(&left.item, Some(left.fate), language, select)
                    }),
                }),
                ["cancelQueue"] => Ok(cancel(state, request, who, Some(&id.to_string()))),
                _ => Ok(Answer::not_found(state)),
            }
        }
        _ => Ok(Answer::not_found(state)),
    }
}

fn cancel(state: &mut State, request: &Request, who: &Who, id: Option<&str>) -> Answer {
    if !request.is("POST") {
        return Answer::wrong_method(state);
    }
    let status = cancel_item(state, who, id.and_then(|id| id.parse().ok()));
    if state.config.old_cancel {
        let back = request.header("referer").unwrap_or_else(|| format!("{}/queue/", state.config.context));
        return Answer::to(302, back);
    }
    match status {
        204 => Answer::empty(204),
        status => Answer::page(state, status, "Jenkins - Jenkins", "Could not cancel"),
    }
}

fn cancel_item(state: &mut State, who: &Who, id: Option<u64>) -> u16 {
    let Some(id) = id else { return 404 };
    let known = state.queue.items.contains_key(&id) || state.queue.left.contains_key(&id);
    if !known || !state.may(who, Permission::JobDiscover) && !state.may(who, Permission::JobRead) {
        return 404;
    }
    if !state.may(who, Permission::JobCancel) {
        return 422;
    }
    let pending = state
        .queue
        .items
        .get(&id)
        .is_none_or(|item| matches!(item.stage, super::queue::Stage::Pending { .. }));
    if pending {
        return 500;
    }
    state.leave(id, Fate::Cancelled);
    state.maintain();
    204
}

fn job(state: &mut State, request: &Request, who: &Who, parts: &[&str]) -> Result<Answer, Answer> {
    let mut names = Vec::new();
    let mut rest = parts;
    while let ["job", name, more @ ..] = rest {
        names.push(*name);
        rest = more;
    }
    let full_name = names.join("/");
    let Some((id, kind)) = state.job_at(&full_name).map(|(id, job)| (id, job.kind)) else {
        return Ok(Answer::not_found(state));
    };
    if !state.may(who, Permission::JobRead) {
        return Ok(if state.may(who, Permission::JobDiscover) {
            Answer::page(state, 403, "Jenkins", "Please sign in to access this item")
        } else {
            Answer::not_found(state)
        });
    }
    let here = format!("{}/{}", state.config.context, job_path(&full_name));
    let post = request.is("POST");
    match rest {
        [] if request.is("DELETE") && !request.trailing_slash => Ok(Answer::to(302, here)),
        [] if request.is("DELETE") => {
            super::admin::delete(state, who, &full_name).map_err(|refused| *refused)?;
            Ok(Answer::empty(204))
        }
        [] if !request.trailing_slash => Ok(Answer::to(302, here)),
        [] => Ok(Answer::page(state, 200, &format!("{full_name} - Jenkins"), &full_name)),
        ["api", "json"] => api(state, request, |state, select| {
            state.jobs.get(&id).map_or(serde_json::Value::Null, |job| state.export_job(who, job, select))
        }),
        ["createItem"] if kind == JobKind::Folder => {
            super::admin::create_item(state, request, who, &full_name).map_err(|refused| *refused)
        }
        ["config.xml"] => super::admin::config_xml(state, request, who, id).map_err(|refused| *refused),
        ["build"] if kind != JobKind::Folder => Ok(state.build(request, who, id, false)),
        ["buildWithParameters"] if kind != JobKind::Folder => Ok(state.build(request, who, id, true)),
        ["enable" | "disable" | "doDelete" | "confirmRename"] if !post => Ok(Answer::wrong_method(state)),
        [what @ ("enable" | "disable")] => {
            state.require(who, Permission::JobConfigure).map_err(|refused| *refused)?;
            state.set_disabled(id, *what == "disable");
            Ok(Answer::to(302, here))
        }
        ["doDelete"] => {
            super::admin::delete(state, who, &full_name).map_err(|refused| *refused)?;
            Ok(Answer::to(302, format!("{}/", state.config.context)))
        }
        ["confirmRename"] => super::admin::rename(state, request, who, id).map_err(|refused| *refused),
        [which, rest @ ..] => match build_number(state, id, which) {
            Some(number) => build(state, request, who, (id, number), rest),
            None => Ok(Answer::not_found(state)),
        },
    }
}

/// The listed build that a number or an alias means.
fn build_number(state: &State, id: JobId, which: &str) -> Option<u32> {
    let job = state.jobs.get(&id)?;
    let pipeline = job.kind == JobKind::Pipeline;
    let view = |build: &super::build::Build| build.view(state.now, pipeline).listed;
    if let Ok(number) = which.parse::<u32>() {
        return job.builds.get(&number).filter(|build| view(build)).map(|build| build.number);
    }
    let ended = |build: &super::build::Build| {
        let view = build.view(state.now, pipeline);
        if view.building { None } else { view.result.map(str::to_owned) }
    };
    let mut newest = job.builds.values().rev().filter(|build| view(build));
    let found = match which {
        "lastBuild" => newest.next(),
        "firstBuild" => newest.next_back(),
        "lastCompletedBuild" => newest.find(|build| ended(build).is_some()),
        "lastSuccessfulBuild" => {
            newest.find(|build| matches!(ended(build).as_deref(), Some("SUCCESS" | "UNSTABLE")))
        }
        "lastStableBuild" => newest.find(|build| ended(build).as_deref() == Some("SUCCESS")),
        "lastFailedBuild" => newest.find(|build| ended(build).as_deref() == Some("FAILURE")),
        _ => None,
    };
    found.map(|build| build.number)
}

fn build(
    state: &mut State,
    request: &Request,
    who: &Who,
    (id, number): (JobId, u32),
    rest: &[&str],
) -> Result<Answer, Answer> {
    let Some(job) = state.jobs.get(&id) else { return Ok(Answer::not_found(state)) };
    let Some(build) = job.builds.get(&number) else { return Ok(Answer::not_found(state)) };
    let kind = job.kind;
    let pipeline = kind == JobKind::Pipeline;
    let view = build.view(state.now, pipeline);
    let here = format!("{}/{}{number}/", state.config.context, job_path(&job.full_name));
    let title = format!("{} #{number}", job.full_name);
    match rest {
        [] if !request.trailing_slash => Ok(Answer::to(302, here)),
        [] => Ok(Answer::page(state, 200, &format!("{title} - Jenkins"), &title)),
        ["api", "json"] => api(state, request, |state, select| {
            let found = state.jobs.get(&id).and_then(|job| job.builds.get(&number).map(|build| (job, build)));
            found.map_or(serde_json::Value::Null, |(job, build)| state.export_build(job, build, select))
        }),
        ["stop" | "submitDescription"] if !request.is("POST") => Ok(Answer::wrong_method(state)),
        ["term" | "kill"] if !pipeline => {
            let missing = rest[0];
            if request.trailing_slash {
                return Ok(Answer::not_found(state));
            }
            Ok(Answer::to(302, format!("{here}{missing}/")))
        }
        [how @ ("stop" | "term" | "kill")] => {
            state.require(who, Permission::JobCancel).map_err(|refused| *refused)?;
            let how = match *how {
                "stop" => Stop::Stop,
                "term" => Stop::Term,
                _ => Stop::Kill,
            };
            let by = who.name.clone().unwrap_or_default();
            state.stop(id, number, how, &by);
            Ok(Answer::to(302, request.header("referer").unwrap_or(here)))
        }
        ["submitDescription"] => {
            state.require(who, Permission::RunUpdate).map_err(|refused| *refused)?;
            let description = request.field("description").filter(|text| !text.is_empty());
            if let Some(build) = state.jobs.get_mut(&id).and_then(|job| job.builds.get_mut(&number)) {
                build.description = description;
                build.saved = true;
            }
            Ok(Answer::to(302, here))
        }
        ["consoleText"] => {
            let raw = console::raw(build, kind, state.now).unwrap_or_default();
            Ok(Answer::text(console::plain(&raw)))
        }
        ["logText", "progressiveText"] => {
            let raw = console::raw(build, kind, state.now);
            let open = view.in_progress || view.building;
            Ok(console::progressive(state, request, raw.as_deref(), open))
        }
        ["artifact", path @ ..] => {
            let script = std::sync::Arc::clone(&build.script);
            let all = if view.result.is_some() { script.artifacts.as_slice() } else { &[] };
            if state.config.artifact_permission {
                state.require(who, Permission::RunArtifacts).map_err(|refused| *refused)?;
            }
            Ok(artifacts::fetch(state, request, &title, all, path))
        }
        _ => Ok(Answer::not_found(state)),
    }
}
