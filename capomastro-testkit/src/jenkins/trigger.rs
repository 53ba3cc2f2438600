//! Requests to build a job: who may, what is sent, and what comes back.

use super::{
    answer::Answer,
    build::{Given, Values},
    export::job_path,
    job::{JobId, Parameter, ParameterKind},
    queue::{Cause, Scheduled},
    request::Request,
    security::{Permission, Who},
    state::State,
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// A value as JSON shows it.
pub(super) fn as_json(value: &Given) -> Value {
    match value {
        Given::Boolean(value) => Value::from(*value),
        other => Value::from(other.plain()),
    }
}

/// A value as `params` shows it.
pub(super) fn shown(value: &Given) -> String {
    match value {
        Given::Secret(_) => "****".to_owned(),
        other => other.plain(),
    }
}

pub(super) fn default_of(parameter: &Parameter) -> Given {
    match &parameter.kind {
        ParameterKind::String { default, .. } => Given::Text(default.clone()),
        ParameterKind::Text { default, .. } => Given::LongText(default.clone()),
        ParameterKind::Boolean { default } => Given::Boolean(*default),
        ParameterKind::Choice(choices) => Given::Text(choices.first().cloned().unwrap_or_default()),
        ParameterKind::Password { default } => Given::Secret(default.clone()),
    }
}

/// What makes Jenkins throw an exception.
struct Bad;

/// The values that the declared parameters get from fields; fields that nobody declared are dropped.
fn values(declared: &[Parameter], fields: &[(String, String)]) -> Result<Values, Bad> {
    let mut values = Vec::with_capacity(declared.len());
    for parameter in declared {
        let mut sent = fields.iter().filter(|(name, _)| *name == parameter.name);
        let value = match (sent.next(), sent.next()) {
            (Some(_), Some(_)) => return Err(Bad),
            (None, _) => default_of(parameter),
            (Some((_, text)), None) => given(parameter, text)?,
        };
        values.push((parameter.name.clone(), value));
    }
    Ok(Arc::new(values))
}

fn given(parameter: &Parameter, text: &str) -> Result<Given, Bad> {
    let trimmed = |trim: bool| if trim { text.trim().to_owned() } else { text.to_owned() };
    Ok(match &parameter.kind {
        ParameterKind::String { trim, .. } => Given::Text(trimmed(*trim)),
        ParameterKind::Text { trim, .. } => Given::LongText(trimmed(*trim)),
        ParameterKind::Boolean { .. } => Given::Boolean(text.eq_ignore_ascii_case("true")),
        ParameterKind::Password { .. } => Given::Secret(text.to_owned()),
        ParameterKind::Choice(choices) if choices.iter().any(|choice| choice == text) => {
            Given::Text(text.to_owned())
        }
        ParameterKind::Choice(_) => return Err(Bad),
    })
}

/// A `delay`: `Nsec`, `N sec`, or milliseconds; truncated to whole seconds, never below zero.
fn delay(text: &str) -> Result<Duration, Bad> {
    let text = text.trim();
    let (number, unit) = match ["secs", "sec"].iter().find_map(|unit| text.strip_suffix(unit)) {
        Some(number) => (number.trim(), 1_000_i64),
        None => (text, 1),
    };
    let number: i64 = number.parse().map_err(|_| Bad)?;
    let seconds = number.saturating_mul(unit) / 1_000;
    // The server counts seconds in 32 bits; what does not fit is cut off, which leaves 44 years of 9999999999.
    let kept = u32::try_from(seconds.max(0) & i64::from(u32::MAX)).unwrap_or(u32::MAX);
    Ok(Duration::from_secs(u64::from(kept)))
}

impl State {
    /// Where the client believes that this server is.
    pub(super) fn origin_of(&self, request: &Request) -> String {
        let forwarded = |name: &str| {
            request.header(name).map(|value| value.split(',').next().unwrap_or_default().trim().to_owned())
        };
        let scheme = forwarded("x-forwarded-proto").unwrap_or_else(|| "http".to_owned());
        let mut host = forwarded("x-forwarded-host").or_else(|| request.header("host")).unwrap_or_default();
        if let Some(port) = forwarded("x-forwarded-port") {
            let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name).to_owned();
            host = format!("{name}:{port}");
        }
        let default = if scheme == "https" { ":443" } else { ":80" };
        let host = host.strip_suffix(default).unwrap_or(&host);
        format!("{scheme}://{host}")
    }

    pub(super) fn item_location(&self, request: &Request, id: u64) -> String {
        format!("{}{}/queue/item/{id}/", self.origin_of(request), self.config.context)
    }

    fn cause(&self, request: &Request, who: &Who, token: bool) -> Cause {
        if token {
            let address = request.header("x-forwarded-for").unwrap_or_else(|| "127.0.0.1".to_owned());
            return Cause::Remote { address, note: request.field("cause") };
        }
        Cause::User(who.name.clone().unwrap_or_else(|| "anonymous".to_owned()))
    }

    /// Answers `build` and `buildWithParameters`.
    pub(super) fn build(&mut self, request: &Request, who: &Who, id: JobId, with_parameters: bool) -> Answer {
        let Some(job) = self.jobs.get(&id) else { return Answer::not_found(self) };
        let name = job.name().to_owned();
        let parameters = job.settings.parameters.clone();
        let here = format!("{}/{}", self.config.context, job_path(&job.full_name));
        let quiet = job.settings.quiet_period.unwrap_or(self.config.quiet_period);
        let buildable = job.buildable();
        let given_token = request.field("token");
        let by_token = match (&job.settings.auth_token, &given_token) {
            (Some(expected), Some(given)) if expected == given => true,
            (Some(_), Some(_)) => return Answer::page(self, 403, "Jenkins", "Invalid token provided."),
            _ => false,
        };
        if !by_token && let Err(refused) = self.require(who, Permission::JobBuild) {
            return *refused;
        }
        if !by_token && !request.is("POST") {
            if !with_parameters && !parameters.is_empty() {
                return Answer::page(self, 405, "Jenkins", "This build requires parameters:");
            }
            return Answer::wrong_method(self);
        }
        if !buildable {
            return Answer::container(request, 409, &format!("{name} is not buildable"));
        }
        let Ok(fields) = request.fields() else { return Answer::oops(self) };
        let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let quiet = match field("delay").map(delay) {
            None => quiet,
            Some(Ok(delay)) => delay,
            Some(Err(Bad)) => return Answer::oops(self),
        };
        let cause = self.cause(request, who, by_token);
        if with_parameters {
            if parameters.is_empty() {
                return Answer::container(request, 400, &format!("{name} is not parameterized"));
            }
            let Ok(values) = values(&parameters, &fields) else { return Answer::oops(self) };
            let fold = if self.config.old_fold { 201 } else { 303 };
            return match self.schedule(id, Some(values), cause, quiet) {
                Scheduled::Created(item) => Answer::to(201, self.item_location(request, item)),
                Scheduled::Existing(item) => Answer::to(fold, self.item_location(request, item)),
                Scheduled::Refused => Answer::to(302, here),
            };
        }
        if parameters.is_empty() {
            return match self.schedule(id, None, cause, quiet) {
                Scheduled::Created(item) | Scheduled::Existing(item) => {
                    Answer::to(201, self.item_location(request, item))
                }
                Scheduled::Refused => Answer::to(302, here),
            };
        }
        let Some(form) = field("json") else {
            return Answer::container(request, 400, "Nothing is submitted");
        };
        let Some(sent) = submitted(form) else { return Answer::oops(self) };
        let Ok(values) = values(&parameters, &sent) else { return Answer::oops(self) };
        match self.schedule(id, Some(values), cause, quiet) {
            Scheduled::Created(_) => Answer::to(201, format!("{}{here}", self.origin_of(request))),
            Scheduled::Existing(_) | Scheduled::Refused => Answer::to(302, here),
        }
    }
}

/// Names and values in the `json` field of a form.
fn submitted(form: &str) -> Option<Vec<(String, String)>> {
    let form: Value = serde_json::from_str(form).ok()?;
    let all = match form.get("parameter")? {
        Value::Array(all) => all.clone(),
        one @ Value::Object(_) => vec![one.clone()],
        _ => return None,
    };
    all.iter()
        .map(|parameter| {
            let name = parameter.get("name")?.as_str()?.to_owned();
            let value = match parameter.get("value")? {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Some((name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_taken_as_seen_live() {
        let table: [(&str, Option<u64>); 16] = [
            ("5sec", Some(5)),
            ("5 sec", Some(5)),
            ("0sec", Some(0)),
            ("0", Some(0)),
            ("5", Some(0)),
            ("5000", Some(5)),
            ("5999", Some(5)),
            ("-5", Some(0)),
            ("9999999999sec", Some(1_410_065_407)),
            ("abc", None),
            ("1min", None),
            ("1h", None),
            ("1d", None),
            ("5.5sec", None),
            ("", None),
            ("sec", None),
        ];
        for (text, seconds) in table {
            assert_eq!(delay(text).ok().map(|delay| delay.as_secs()), seconds, "{text:?}");
        }
    }
}
