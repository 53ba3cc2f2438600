//! Jobs made, changed, renamed and deleted by requests.

use super::{
    answer::Answer,
    export::{encoded, job_path},
    job::JobId,
    request::Request,
    security::{Permission, Who},
    state::State,
};

type Refused = Box<Answer>;

/// What is wrong with a name, as Jenkins says it: quotes become spaces in the header.
pub(super) fn bad_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("No name is specified".to_owned());
    }
    if name == "." || name == ".." {
        return Some(format!("‘{name}’ is not an allowed name"));
    }
    if name.chars().any(char::is_control) {
        let shown: String = name.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        return Some(format!("No control code is allowed: {shown}"));
    }
    if let Some(bad) = name.chars().find(|c| "?*/\\%!@#$^&|<>[]:;".contains(*c)) {
        return Some(format!("‘{bad}’ is an unsafe character"));
    }
    name.ends_with('.').then(|| "A name cannot end with ‘.’".to_owned())
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// Whether a name is taken, also when it differs only in case.
fn taken(state: &State, full_name: &str) -> bool {
    let lower = full_name.to_lowercase();
    state.paths.keys().any(|path| path.to_lowercase() == lower)
}

pub(super) fn create_item(
    state: &mut State,
    request: &Request,
    who: &Who,
    folder: &str,
) -> Result<Answer, Refused> {
    if !request.is("POST") {
        return Ok(Answer::wrong_method(state));
    }
    state.require(who, Permission::JobCreate)?;
    let Some(name) = request.query("name").map(|name| name.trim().to_owned()) else {
        return Ok(Answer::failure(state, "Query parameter 'name' is required"));
    };
    if let Some(bad) = bad_name(&name) {
        return Ok(Answer::failure(state, &bad));
    }
    let full_name = below(folder, &name);
    if taken(state, &full_name) {
        return Ok(Answer::failure(state, &format!("A job already exists with the name ‘{name}’")));
    }
    let configure = format!("{}/{}configure", state.config.context, job_path(&full_name));
    match (request.query("mode"), request.query("from")) {
        (Some("copy"), Some(from)) => {
            let Some((kind, mut settings)) =
                state.job_at(&below(folder, from)).map(|(_, job)| (job.kind, job.settings.clone()))
            else {
                return Ok(Answer::failure(state, &format!("No such job: {from}")));
            };
            settings.held = true;
            state.add_job(&full_name, kind, settings);
            return Ok(Answer::to(302, configure));
        }
        (Some(_), _) => {
            let spec = super::job::JobSpec::freestyle(&full_name);
            state.add_job(&full_name, spec.kind, spec.settings);
            return Ok(Answer::to(302, configure));
        }
        (None, _) => {}
    }
    let Some(kind) = request.header("content-type") else {
        return Ok(Answer::failure(state, "No Content-Type header set"));
    };
    if !kind.starts_with("application/xml") && !kind.starts_with("text/xml") {
        return Ok(Answer::failure(state, "No mode given"));
    }
    let Ok(text) = std::str::from_utf8(&request.body) else { return Ok(Answer::oops(state)) };
    let Ok((kind, settings)) = super::config_xml::read(text, None) else { return Ok(Answer::oops(state)) };
    state.add_job(&full_name, kind, settings);
    Ok(Answer::empty(200))
}

pub(super) fn check_job_name(state: &mut State, request: &Request, who: &Who) -> Result<Answer, Refused> {
    state.require(who, Permission::JobCreate)?;
    let name = request.query("value").unwrap_or_default().trim().to_owned();
    let problem = bad_name(&name)
        .or_else(|| taken(state, &name).then(|| format!("A job already exists with the name ‘{name}’")));
    let markup =
        problem.map_or_else(|| "<div/>".to_owned(), |text| format!("<div class=\"error\">{text}</div>"));
    Ok(Answer::empty(200).body(super::answer::HTML, markup))
}

pub(super) fn config_xml(
    state: &mut State,
    request: &Request,
    who: &Who,
    id: JobId,
) -> Result<Answer, Refused> {
    if !request.is("POST") {
        if !state.may(who, Permission::JobConfigure) {
            state.require(who, Permission::JobExtendedRead)?;
        }
        let Some(job) = state.jobs.get(&id) else { return Ok(Answer::not_found(state)) };
        return Ok(Answer::empty(200).body("application/xml", super::config_xml::write(job)));
    }
    state.require(who, Permission::JobConfigure)?;
    let Some(job) = state.jobs.get(&id) else { return Ok(Answer::not_found(state)) };
    // The body is read as the header says, Latin-1 where it says nothing, whatever the prolog claims.
    let charset = request.header("content-type").unwrap_or_default().to_ascii_lowercase();
    let text = if charset.contains("charset=utf-8") {
        String::from_utf8_lossy(&request.body).into_owned()
    } else {
        let latin: String = request.body.iter().map(|byte| char::from(*byte)).collect();
        if latin.chars().any(|c| ('\u{80}'..='\u{9f}').contains(&c)) {
            return Ok(Answer::oops(state));
        }
        latin
    };
    match super::config_xml::read(&text, Some(&job.settings)) {
        Ok((kind, settings)) if kind == job.kind => {
            if let Some(job) = state.jobs.get_mut(&id) {
                job.settings = settings;
            }
            Ok(Answer::empty(200))
        }
        _ => Ok(Answer::oops(state)),
    }
}

pub(super) fn delete(state: &mut State, who: &Who, full_name: &str) -> Result<(), Refused> {
    state.require(who, Permission::JobDelete)?;
    state.delete_job(full_name);
    Ok(())
}

pub(super) fn rename(state: &mut State, request: &Request, who: &Who, id: JobId) -> Result<Answer, Refused> {
    state.require(who, Permission::JobConfigure)?;
    let Some(job) = state.jobs.get(&id) else { return Ok(Answer::not_found(state)) };
    let old = job.full_name.clone();
    let name = request.field("newName").unwrap_or_default().trim().to_owned();
    if let Some(bad) = bad_name(&name) {
        return Ok(Answer::failure(state, &bad));
    }
    let new = old.rsplit_once('/').map_or_else(|| name.clone(), |(folder, _)| below(folder, &name));
    if taken(state, &new) {
        return Ok(Answer::failure(state, &format!("The name ‘{name}’ is already in use.")));
    }
    if state.is_building(id) {
        return Ok(Answer::failure(state, "Unable to rename a job while it is building."));
    }
    state.move_job(&old, &new);
    let folder = new.rsplit_once('/').map_or(String::new(), |(folder, _)| job_path(folder));
    Ok(Answer::to(302, format!("{}/{folder}job/{}", state.config.context, encoded(&name))))
}
