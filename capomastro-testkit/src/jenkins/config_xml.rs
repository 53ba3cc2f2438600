//! Configurations of jobs as XML: read as far as they matter here, and written as Jenkins writes them.

use super::{
    job::{Job, JobKind, JobSpec, Parameter, ParameterKind, Settings},
    notify::Endpoint,
};
use quick_xml::{Reader, XmlVersion, events::Event};
use std::time::Duration;

/// What Jenkins answers with 500.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Broken;

const PROLOG: &str = "<?xml version=\"1.1\" encoding=\"UTF-8\"?>\n";

/// An element, with its children and its text.
#[derive(Debug, Default)]
struct Element {
    name: String,
    text: String,
    children: Vec<Self>,
}

impl Element {
    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }

    /// Every element called `name` below this one.
    fn all<'a>(&'a self, name: &str, found: &mut Vec<&'a Self>) {
        for child in &self.children {
            if child.name == name {
                found.push(child);
            }
            child.all(name, found);
        }
    }
}

fn parse(xml: &str) -> Result<Element, Broken> {
    let mut reader = Reader::from_str(xml);
    let mut open = vec![Element::default()];
    loop {
        match reader.read_event().map_err(|_| Broken)? {
            Event::Start(start) => {
                let name = start.name().as_ref().to_owned();
                open.push(Element { name, ..Element::default() });
            }
            Event::Empty(start) => {
                let name = start.name().as_ref().to_owned();
                let parent = open.last_mut().ok_or(Broken)?;
                parent.children.push(Element { name, ..Element::default() });
            }
            Event::End(_) => {
                let done = open.pop().ok_or(Broken)?;
                open.last_mut().ok_or(Broken)?.children.push(done);
            }
            Event::Text(text) => {
                let text = text.xml_content(XmlVersion::Explicit1_1);
                open.last_mut().ok_or(Broken)?.text.push_str(&text);
            }
            Event::CData(text) => {
                let text = text.xml_content(XmlVersion::Explicit1_1);
                open.last_mut().ok_or(Broken)?.text.push_str(&text);
            }
            Event::GeneralRef(reference) => {
                let whole = format!("&{};", &*reference);
                let text = quick_xml::escape::unescape(&whole).map_err(|_| Broken)?.into_owned();
                open.last_mut().ok_or(Broken)?.text.push_str(&text);
            }
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    let top = open.pop().ok_or(Broken)?;
    if !open.is_empty() {
        return Err(Broken);
    }
    top.children.into_iter().next().ok_or(Broken)
}

/// Reads a configuration; what XML cannot say is kept from the job's settings before.
pub(super) fn read(xml: &str, before: Option<&Settings>) -> Result<(JobKind, Settings), Broken> {
    let root = parse(xml)?;
    let kind = match root.name.as_str() {
        "project" => JobKind::Freestyle,
        "flow-definition" => JobKind::Pipeline,
        "com.cloudbees.hudson.plugins.folder.Folder" => JobKind::Folder,
        _ => return Err(Broken),
    };
    let mut settings = before.cloned().unwrap_or_else(|| JobSpec::freestyle("").settings);
    settings.held = false;
    settings.description = root.text_of("description").unwrap_or_default().to_owned();
    settings.disabled = root.text_of("disabled").is_some_and(|text| text.trim() == "true");
    // Only an element of its own makes a Pipeline run one at a time; a freestyle job does unless told otherwise.
    settings.concurrent = match kind {
        JobKind::Pipeline => true,
        _ => root.text_of("concurrentBuild").is_some_and(|text| text.trim() == "true"),
    };
    settings.label = root.text_of("assignedNode").map(str::to_owned);
    settings.auth_token = root.text_of("authToken").map(str::to_owned);
    settings.quiet_period =
        root.text_of("quietPeriod").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let mut discarders = Vec::new();
    root.all("numToKeep", &mut discarders);
    settings.keep_builds = discarders.first().and_then(|keep| keep.text.trim().parse().ok());
    settings.parameters = Vec::new();
    settings.notify = Vec::new();
    if let Some(properties) = root.child("properties") {
        if let Some(definitions) = properties
            .child("hudson.model.ParametersDefinitionProperty")
            .and_then(|property| property.child("parameterDefinitions"))
        {
            settings.parameters = definitions.children.iter().filter_map(parameter).collect();
        }
        let mut endpoints = Vec::new();
        properties.all("com.tikal.hudson.plugins.notification.Endpoint", &mut endpoints);
        settings.notify = endpoints.into_iter().filter_map(endpoint).collect();
    }
    settings.xml = Some(with_prolog(xml));
    Ok((kind, settings))
}

fn parameter(definition: &Element) -> Option<Parameter> {
    let name = definition.text_of("name")?.to_owned();
    let default = definition.text_of("defaultValue").unwrap_or_default().to_owned();
    let trim = definition.text_of("trim").is_some_and(|text| text.trim() == "true");
    let kind = match definition.name.strip_prefix("hudson.model.")?.strip_suffix("ParameterDefinition")? {
        "String" => ParameterKind::String { default, trim },
        "Text" => ParameterKind::Text { default, trim },
        "Boolean" => ParameterKind::Boolean { default: default.trim() == "true" },
        "Choice" => {
            let mut choices = Vec::new();
            definition.all("string", &mut choices);
            ParameterKind::Choice(choices.into_iter().map(|choice| choice.text.clone()).collect())
        }
        "Password" => ParameterKind::Password { default },
        _ => return None,
    };
    Some(Parameter { name, kind, description: definition.text_of("description").map(str::to_owned) })
}

/// An endpoint, also in the form that had the address as a child of its own.
fn endpoint(element: &Element) -> Option<Endpoint> {
    let url = element
        .child("urlInfo")
        .and_then(|info| info.text_of("urlOrId"))
        .or_else(|| element.text_of("url"))?;
    Some(Endpoint::all(url.trim()))
}

/// The document with the prolog that Jenkins writes.
fn with_prolog(xml: &str) -> String {
    let body = xml.trim_start();
    let body = match body.strip_prefix("<?xml") {
        Some(rest) => rest.split_once("?>").map_or("", |(_, body)| body),
        None => body,
    };
    format!("{PROLOG}{}", body.trim_start())
}

/// The job's configuration, as it was posted or else as far as the double knows it.
pub(super) fn write(job: &Job) -> String {
    if let Some(xml) = &job.settings.xml {
        // What was switched since is told by the element that Jenkins keeps for it.
        let disabled = |value: bool| format!("<disabled>{value}</disabled>");
        return xml.replace(&disabled(!job.settings.disabled), &disabled(job.settings.disabled));
    }
    let settings = &job.settings;
    let text = |text: &str| quick_xml::escape::escape(text).into_owned();
    let root = match job.kind {
        JobKind::Freestyle => "project",
        JobKind::Pipeline => "flow-definition",
        JobKind::Folder => "com.cloudbees.hudson.plugins.folder.Folder",
    };
    let mut out = format!(
        "{PROLOG}<{root}>\n  <actions/>\n  <description>{}</description>\n  <keepDependencies>false</keepDependencies>\n",
        text(&settings.description)
    );
    if settings.parameters.is_empty() {
        out.push_str("  <properties/>\n");
    } else {
        out.push_str(
            "  <properties>\n    <hudson.model.ParametersDefinitionProperty>\n      <parameterDefinitions>\n",
        );
        for parameter in &settings.parameters {
            out.push_str(&definition(parameter));
        }
        out.push_str("      </parameterDefinitions>\n    </hudson.model.ParametersDefinitionProperty>\n  </properties>\n");
    }
    if let Some(quiet) = settings.quiet_period {
        out.push_str(&format!("  <quietPeriod>{}</quietPeriod>\n", quiet.as_secs()));
    }
    if let Some(label) = &settings.label {
        out.push_str(&format!("  <assignedNode>{}</assignedNode>\n", text(label)));
    }
    out.push_str(&format!(
        "  <disabled>{}</disabled>\n  <concurrentBuild>{}</concurrentBuild>\n  <builders/>\n  <publishers/>\n  <buildWrappers/>\n</{root}>",
        settings.disabled, settings.concurrent
    ));
    out
}

fn definition(parameter: &Parameter) -> String {
    let text = |text: &str| quick_xml::escape::escape(text).into_owned();
    let (kind, rest) = match &parameter.kind {
        ParameterKind::String { default, trim } => {
            ("String", format!("<defaultValue>{}</defaultValue><trim>{trim}</trim>", text(default)))
        }
        ParameterKind::Text { default, trim } => {
            ("Text", format!("<defaultValue>{}</defaultValue><trim>{trim}</trim>", text(default)))
        }
        ParameterKind::Boolean { default } => ("Boolean", format!("<defaultValue>{default}</defaultValue>")),
        ParameterKind::Choice(choices) => {
            let all: String =
                choices.iter().map(|choice| format!("<string>{}</string>", text(choice))).collect();
            (
                "Choice",
                format!(
                    "<choices class=\"java.util.Arrays$ArrayList\"><a class=\"string-array\">{all}</a></choices>"
                ),
            )
        }
        ParameterKind::Password { .. } => {
            ("Password", "<defaultValue>{AQAAABAAAAAQ}</defaultValue>".to_owned())
        }
    };
    let description = parameter
        .description
        .as_ref()
        .map(|d| format!("<description>{}</description>", text(d)))
        .unwrap_or_default();
    format!(
        "        <hudson.model.{kind}ParameterDefinition><name>{}</name>{description}{rest}</hudson.model.{kind}ParameterDefinition>\n",
        text(&parameter.name)
    )
}
