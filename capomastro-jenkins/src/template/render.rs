//! A template as XML, whole and in pieces.

use super::{
    Endpoint, JobTemplate, Parameter, Rotation, step,
    xml::{escape, finished},
};

pub(super) const PARAMETERS: &str = "hudson.model.ParametersDefinitionProperty";
pub(super) const NOTIFICATION: &str = "com.tikal.hudson.plugins.notification.HudsonNotificationProperty";
pub(super) const ENDPOINT: &str = "com.tikal.hudson.plugins.notification.Endpoint";
pub(super) const DISCARDER: &str = "jenkins.model.BuildDiscarderProperty";
pub(super) const SHELL: &str = "hudson.tasks.Shell";
pub(super) const ARCHIVER: &str = "hudson.tasks.ArtifactArchiver";

/// An element with a text.
pub(super) fn leaf(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

/// An element around others, each on lines of its own.
pub(super) fn around(tag: &str, children: &[String]) -> String {
    let name = tag.split(' ').next().unwrap_or(tag);
    if children.is_empty() {
        return format!("<{tag}/>");
    }
    let inside: String = children.iter().map(|c| format!("\n  {}", indented(c, "  "))).collect();
    format!("<{tag}>{inside}\n</{name}>")
}

/// A piece with blanks before all its lines but the first. Lines inside of a text are none.
pub(super) fn indented(piece: &str, by: &str) -> String {
    piece.replace('\n', &format!("\n{by}"))
}

pub(super) fn definition(parameter: &Parameter) -> String {
    let children: Vec<String> = parameter.children().into_iter().map(|(_, whole)| whole).collect();
    around(parameter.class(), &children)
}

pub(super) fn parameters(definitions: &[String]) -> String {
    around(PARAMETERS, &[around("parameterDefinitions", definitions)])
}

/// The address of an endpoint, as the children of its `urlInfo`.
pub(super) fn address(endpoint: &Endpoint) -> (&str, &'static str) {
    match endpoint {
        Endpoint::Url(url) => (url.expose(), "PUBLIC"),
        Endpoint::Credential(id) => (id, "SECRET"),
    }
}

pub(super) fn url_info(endpoint: &Endpoint) -> String {
    let (url, kind) = address(endpoint);
    around("urlInfo", &[leaf("urlOrId", url), leaf("urlType", kind)])
}

pub(super) fn endpoint(endpoint: &Endpoint) -> String {
    let mut children = vec![leaf("protocol", "HTTP"), leaf("format", "JSON"), url_info(endpoint)];
    for (name, text) in [
        ("event", "all"),
        // A build waits for the answer, so not for long, and never twice: a message is a hint.
        ("timeout", "5000"),
        ("loglines", "0"),
        ("retries", "0"),
        ("branch", ".*"),
    ] {
        children.push(leaf(name, text));
    }
    around(ENDPOINT, &children)
}

pub(super) fn notification(to: &Endpoint) -> String {
    around(NOTIFICATION, &[around("endpoints", &[endpoint(to)])])
}

/// The limits of a rotation, by the names of Jenkins, where -1 is none.
pub(super) fn limits(rotation: Rotation) -> [(&'static str, String); 2] {
    let text = |limit: Option<u32>| limit.map_or_else(|| "-1".to_owned(), |n| n.to_string());
    [("daysToKeep", text(rotation.days)), ("numToKeep", text(rotation.builds))]
}

pub(super) fn strategy(rotation: Rotation) -> String {
    let mut children: Vec<String> = limits(rotation).iter().map(|(name, text)| leaf(name, text)).collect();
    children.extend([leaf("artifactDaysToKeep", "-1"), leaf("artifactNumToKeep", "-1")]);
    around("strategy class=\"hudson.tasks.LogRotator\"", &children)
}

pub(super) fn discarder(rotation: Rotation) -> String {
    around(DISCARDER, &[strategy(rotation)])
}

pub(super) fn shell(template: &JobTemplate) -> String {
    around(SHELL, &[leaf("command", &step::text(template))])
}

pub(super) fn archiver(artifacts: &str) -> String {
    let children = [
        leaf("artifacts", artifacts),
        leaf("allowEmptyArchive", "true"),
        leaf("onlyIfSuccessful", "false"),
        leaf("fingerprint", "false"),
        leaf("defaultExcludes", "true"),
        leaf("caseSensitive", "true"),
    ];
    around(ARCHIVER, &children)
}

/// What a template says of the simple settings of a freestyle job.
pub(super) fn settings(template: &JobTemplate) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if let Some(description) = &template.description {
        settings.push(("description", description.clone()));
    }
    if let Some(period) = template.quiet_period {
        settings.push(("quietPeriod", period.as_secs().to_string()));
    }
    if let Some(label) = &template.label {
        settings.push(("assignedNode", label.clone()));
        settings.push(("canRoam", "false".into()));
    }
    if let Some(concurrent) = template.concurrent {
        settings.push(("concurrentBuild", concurrent.to_string()));
    }
    settings
}

/// A freestyle job from nothing.
pub(super) fn config_xml(template: &JobTemplate) -> String {
    let mut properties = Vec::new();
    properties.extend(template.rotation.map(discarder));
    let definitions: Vec<String> = template.declared().iter().map(definition).collect();
    properties.push(parameters(&definitions));
    properties.extend(template.endpoint.as_ref().map(notification));
    let mut children = vec![
        "<actions/>".to_owned(),
        leaf("keepDependencies", "false"),
        around("properties", &properties),
        "<scm class=\"hudson.scm.NullSCM\"/>".to_owned(),
    ];
    let settings = settings(template);
    children.extend(settings.iter().map(|(name, text)| leaf(name, text)));
    for (name, text) in [("canRoam", "true"), ("disabled", "false"), ("concurrentBuild", "false")] {
        if !settings.iter().any(|(set, _)| *set == name) {
            children.push(leaf(name, text));
        }
    }
    children.push("<triggers/>".to_owned());
    children.push(around("builders", &[shell(template)]));
    children.push(around("publishers", &template.artifacts.iter().map(|a| archiver(a)).collect::<Vec<_>>()));
    children.push("<buildWrappers/>".to_owned());
    format!("<?xml version='1.1' encoding='UTF-8'?>\n{}\n", finished(&around("project", &children)))
}
