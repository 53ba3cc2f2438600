//! Bringing a job that people have edited up to date.

use super::{
    JobTemplate, Kind, Parameter,
    render::{self, ARCHIVER, DISCARDER, ENDPOINT, NOTIFICATION, PARAMETERS, SHELL, leaf},
    step,
    xml::{Document, Edits, Place},
};
use capomastro_core::{Error, Result};
use std::collections::BTreeMap;

const NOT_CONCURRENT: &str =
    "org.jenkinsci.plugins.workflow.job.properties.DisableConcurrentBuildsJobProperty";

/// A change that a merge made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This was not there.
    Added(String),
    /// This was otherwise.
    Updated(String),
    /// This was there once more than once, or stands against what the template wants.
    Removed(String),
}

/// A `config.xml` brought up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merged {
    /// The document; the one that was given, byte for byte, if nothing was to be changed.
    pub xml: String,
    /// What was changed, in words for people. No secret is in them.
    pub changes: Vec<Change>,
    /// Parameters that are not the template's and are declared more than once: for people to clear up.
    pub declared_twice: Vec<String>,
}

struct Merging<'a> {
    document: &'a Document<'a>,
    edits: Edits,
    changes: Vec<Change>,
    /// What comes into the root.
    into_root: Vec<String>,
    /// What comes into its properties.
    into_properties: Vec<String>,
}

pub(super) fn merge(template: &JobTemplate, xml: &[u8]) -> Result<Merged> {
    let document = Document::parse(xml)?;
    let is_pipeline = match document.at(0).name.as_str() {
        "project" => false,
        "flow-definition" => true,
        other => {
            let message =
                "the job is neither a freestyle job nor a Pipeline: give the template a job of its own";
            return Err(Error::config(message).with_context("kind", other));
        }
    };
    let properties = document.child(0, "properties");
    let mut merging = Merging {
        document: &document,
        edits: Edits::default(),
        changes: Vec::new(),
        into_root: Vec::new(),
        into_properties: Vec::new(),
    };
    merging.rotation(template, properties);
    let declared_twice = merging.parameters(template, properties);
    merging.endpoint(template, properties);
    if is_pipeline {
        merging.pipeline_concurrency(template, properties);
    } else {
        merging.step(template);
        merging.archiver(template);
    }
    for (name, text) in render::settings(template) {
        if !is_pipeline || matches!(name, "description" | "quietPeriod") {
            merging.setting(0, name, &text);
        }
    }
    let pieces = std::mem::take(&mut merging.into_properties);
    match properties {
        Some(place) => merging.put_into(place, &pieces),
        None if pieces.is_empty() => {}
        None => merging.into_root.push(render::around("properties", &pieces)),
    }
    let pieces = std::mem::take(&mut merging.into_root);
    merging.put_into(0, &pieces);
    let Merging { edits, changes, .. } = merging;
    Ok(Merged { xml: edits.apply(document.xml), changes, declared_twice })
}

impl Merging<'_> {
    fn added(&mut self, what: impl Into<String>) {
        self.changes.push(Change::Added(what.into()));
    }

    fn updated(&mut self, what: impl Into<String>) {
        self.changes.push(Change::Updated(what.into()));
    }

    fn remove(&mut self, place: Place, what: impl Into<String>) {
        self.edits.replace(self.document.with_its_line(place), "");
        self.changes.push(Change::Removed(what.into()));
    }

    /// Puts pieces behind the last child of an element, each on a line of its own where its children stand so.
    fn put_into(&mut self, place: Place, pieces: &[String]) {
        if pieces.is_empty() {
            return;
        }
        let (document, element) = (self.document, self.document.at(place));
        let is_alone = |p: Place| document.xml[document.with_its_line(p)].starts_with(['\n', '\r']);
        let own = document.indent_of(place);
        let indent = match element.children.last() {
            Some(last) => is_alone(*last).then(|| document.indent_of(*last).to_owned()),
            None => (element.parent.is_none() || is_alone(place)).then(|| format!("{own}  ")),
        };
        let mut text = String::new();
        for piece in pieces {
            match &indent {
                Some(indent) => {
                    text.push('\n');
                    text.push_str(indent);
                    text.push_str(&render::indented(piece, indent));
                }
                None => text.push_str(piece),
            }
        }
        let end = indent.map(|_| format!("\n{own}")).unwrap_or_default();
        if element.is_closed {
            let tag = &document.xml[element.whole.clone()];
            let tag = tag.trim_end_matches("/>").trim_end();
            self.edits.replace(element.whole.clone(), format!("{tag}>{text}{end}</{}>", element.name));
            return;
        }
        let at = element.children.last().map_or(element.inside.start, |last| document.at(*last).whole.end);
        if !document.xml[at..element.inside.end].contains('\n') {
            text.push_str(&end);
        }
        self.edits.insert(at, text);
    }

    /// Makes the text of a child what it is to be. Says whether anything changed.
    fn set_child(&mut self, of: Place, name: &str, text: &str, where_missing: &str) -> bool {
        match self.document.child(of, name) {
            Some(child) => {
                let element = self.document.at(child);
                if element.text == text && element.children.is_empty() {
                    return false;
                }
                self.edits.replace(element.whole.clone(), leaf(name, text));
            }
            None if text == where_missing => return false,
            None => self.put_into(of, &[leaf(name, text)]),
        }
        true
    }

    /// A simple setting of the whole job.
    fn setting(&mut self, root: Place, name: &'static str, text: &str) {
        if self.document.child(root, name).is_none() {
            self.into_root.push(leaf(name, text));
            self.added(name);
        } else if self.set_child(root, name, text, "") {
            self.updated(name);
        }
    }

    fn rotation(&mut self, template: &JobTemplate, properties: Option<Place>) {
        let Some(rotation) = template.rotation else { return };
        let discarder = properties.and_then(|p| self.document.child(p, DISCARDER));
        // Before 2016 it stood in the root; Jenkins reads that still.
        let old = self.document.child(0, "logRotator");
        let strategy = discarder.and_then(|d| self.document.child(d, "strategy"));
        let Some(place) = strategy.or(old) else {
            match discarder {
                Some(discarder) => self.put_into(discarder, &[render::strategy(rotation)]),
                None => self.into_properties.push(render::discarder(rotation)),
            }
            return self.added("log rotation");
        };
        let element = self.document.at(place);
        let tag = &self.document.xml[element.whole.start..element.inside.start];
        let is_rotator = strategy.is_none() || tag.contains("hudson.tasks.LogRotator");
        if !is_rotator || element.is_closed {
            let indent = self.document.indent_of(place);
            self.edits.replace(element.whole.clone(), render::indented(&render::strategy(rotation), indent));
            return self.updated("log rotation");
        }
        let mut missing = Vec::new();
        let mut changed = false;
        for (name, text) in render::limits(rotation) {
            match self.document.child(place, name) {
                Some(_) => changed |= self.set_child(place, name, &text, ""),
                None => missing.push(leaf(name, &text)),
            }
        }
        self.put_into(place, &missing);
        if changed || !missing.is_empty() {
            self.updated("log rotation");
        }
    }

    /// Gives back the names of other parameters that are declared more than once.
    fn parameters(&mut self, template: &JobTemplate, properties: Option<Place>) -> Vec<String> {
        let document = self.document;
        let holders = properties.map(|p| document.children(p, PARAMETERS)).unwrap_or_default();
        let lists: Vec<Place> =
            holders.iter().flat_map(|h| document.children(*h, "parameterDefinitions")).collect();
        let mut known: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
        for definition in lists.iter().flat_map(|list| &document.at(*list).children) {
            if let Some(name) = document.text_of(*definition, "name") {
                known.entry(name).or_default().push(*definition);
            }
        }
        let mut missing = Vec::new();
        for parameter in template.declared() {
            let places = known.remove(parameter.name.as_str()).unwrap_or_default();
            let Some((first, others)) = places.split_first() else {
                missing.push(render::definition(&parameter));
                self.added(format!("parameter {}", parameter.name));
                continue;
            };
            self.definition(*first, &parameter);
            for other in others {
                self.remove(*other, format!("another definition of parameter {}", parameter.name));
            }
        }
        if !missing.is_empty() {
            match (lists.first(), holders.first()) {
                (Some(list), _) => self.put_into(*list, &missing),
                (None, Some(holder)) => {
                    self.put_into(*holder, &[render::around("parameterDefinitions", &missing)])
                }
                (None, None) => self.into_properties.push(render::parameters(&missing)),
            }
        }
        known.into_iter().filter(|(_, places)| places.len() > 1).map(|(name, _)| name.to_owned()).collect()
    }

    /// One of our parameters that is declared already.
    fn definition(&mut self, place: Place, parameter: &Parameter) {
        let document = self.document;
        let element = document.at(place);
        let what = format!("parameter {}", parameter.name);
        if element.name != parameter.class() {
            let indent = document.indent_of(place);
            self.edits
                .replace(element.whole.clone(), render::indented(&render::definition(parameter), indent));
            return self.updated(what);
        }
        let mut changed = false;
        let mut missing = Vec::new();
        for (name, whole) in parameter.children() {
            let wanted = match name {
                "name" => continue,
                "choices" => {
                    let Kind::Choice(choices) = &parameter.kind else { continue };
                    if document.child(place, name).is_some_and(|c| self.strings_below(c) == *choices) {
                        continue;
                    }
                    None
                }
                "description" => Some((parameter.description.as_str(), "")),
                "trim" => Some(("false", "false")),
                _ => Some((
                    parameter.default.as_str(),
                    if matches!(parameter.kind, Kind::Boolean) { "false" } else { "" },
                )),
            };
            match (document.child(place, name), wanted) {
                (Some(child), Some((text, _))) => {
                    let child = document.at(child);
                    if child.text == text && child.children.is_empty() {
                        continue;
                    }
                    self.edits.replace(child.whole.clone(), whole);
                }
                (Some(child), None) => self.edits.replace(document.at(child).whole.clone(), whole),
                (None, Some((text, where_missing))) if text == where_missing => continue,
                (None, _) => missing.push(whole),
            }
            changed = true;
        }
        self.put_into(place, &missing);
        if changed {
            self.updated(what);
        }
    }

    fn strings_below(&self, place: Place) -> Vec<String> {
        let mut found = Vec::new();
        for child in &self.document.at(place).children {
            let element = self.document.at(*child);
            if element.name == "string" {
                found.push(element.text.clone());
            } else {
                found.extend(self.strings_below(*child));
            }
        }
        found
    }

    fn endpoint(&mut self, template: &JobTemplate, properties: Option<Place>) {
        let Some(endpoint) = &template.endpoint else { return };
        const WHAT: &str = "notification endpoint";
        let document = self.document;
        let Some(property) = properties.and_then(|p| document.child(p, NOTIFICATION)) else {
            self.into_properties.push(render::notification(endpoint));
            return self.added(WHAT);
        };
        let Some(list) = document.child(property, "endpoints") else {
            self.put_into(property, &[render::around("endpoints", &[render::endpoint(endpoint)])]);
            return self.added(WHAT);
        };
        let (address, kind) = render::address(endpoint);
        let ours: Vec<Place> = document
            .children(list, ENDPOINT)
            .into_iter()
            .filter(|e| self.address_of(*e).is_some_and(|known| is_same(known, address)))
            .collect();
        let Some((first, others)) = ours.split_first() else {
            self.put_into(list, &[render::endpoint(endpoint)]);
            return self.added(WHAT);
        };
        let mut changed = false;
        let mut missing = Vec::new();
        let is_there = document.child(*first, "urlInfo").is_some_and(|info| {
            document.text_of(info, "urlOrId") == Some(address)
                && document.text_of(info, "urlType") == Some(kind)
        });
        if !is_there {
            changed = true;
            let place = document.child(*first, "urlInfo").or_else(|| document.child(*first, "url"));
            match place {
                Some(place) => {
                    let info = render::indented(&render::url_info(endpoint), document.indent_of(place));
                    self.edits.replace(document.at(place).whole.clone(), info);
                }
                None => missing.push(render::url_info(endpoint)),
            }
        }
        // How long Jenkins waits and how often it tries is left to whoever set it.
        for (name, text) in [("protocol", "HTTP"), ("format", "JSON"), ("event", "all")] {
            if document.child(*first, name).is_some() {
                changed |= self.set_child(*first, name, text, "");
            } else {
                missing.push(leaf(name, text));
            }
        }
        self.put_into(*first, &missing);
        if changed || !missing.is_empty() {
            self.updated(WHAT);
        }
        for other in others {
            self.remove(*other, "another notification endpoint of the same address");
        }
    }

    fn address_of(&self, endpoint: Place) -> Option<&str> {
        let info = self.document.child(endpoint, "urlInfo");
        info.and_then(|info| self.document.text_of(info, "urlOrId"))
            .or_else(|| self.document.text_of(endpoint, "url"))
            .map(str::trim)
    }

    fn pipeline_concurrency(&mut self, template: &JobTemplate, properties: Option<Place>) {
        const WHAT: &str = "that builds do not run at the same time";
        let there = properties.and_then(|p| self.document.child(p, NOT_CONCURRENT));
        match (template.concurrent, there) {
            (Some(false), None) => {
                self.into_properties.push(format!("<{NOT_CONCURRENT}/>"));
                self.added(WHAT);
            }
            (Some(true), Some(place)) => self.remove(place, WHAT),
            _ => {}
        }
    }

    fn step(&mut self, template: &JobTemplate) {
        const WHAT: &str = "shell step";
        let Some(builders) = self.document.child(0, "builders") else {
            self.into_root.push(render::around("builders", &[render::shell(template)]));
            return self.added(WHAT);
        };
        let mut ours = Vec::new();
        self.steps_below(builders, &mut ours);
        let Some((first, others)) = ours.split_first() else {
            self.put_into(builders, &[render::shell(template)]);
            return self.added(WHAT);
        };
        if self.set_child(*first, "command", &step::text(template), "") {
            self.updated(WHAT);
        }
        for other in others {
            self.remove(*other, "another shell step of ours");
        }
    }

    /// The steps that we made, wherever people have put them.
    fn steps_below(&self, place: Place, found: &mut Vec<Place>) {
        for child in &self.document.at(place).children {
            let command = self.document.text_of(*child, "command");
            let is_ours =
                command.is_some_and(|c| c.lines().nth(1).is_some_and(|l| l.starts_with(step::MARK)));
            if self.document.at(*child).name == SHELL && is_ours {
                found.push(*child);
            } else {
                self.steps_below(*child, found);
            }
        }
    }

    fn archiver(&mut self, template: &JobTemplate) {
        let Some(artifacts) = &template.artifacts else { return };
        const WHAT: &str = "archived artifacts";
        let Some(publishers) = self.document.child(0, "publishers") else {
            self.into_root.push(render::around("publishers", &[render::archiver(artifacts)]));
            return self.added(WHAT);
        };
        match self.document.child(publishers, ARCHIVER) {
            Some(place) => {
                if self.set_child(place, "artifacts", artifacts, "") {
                    self.updated(WHAT);
                }
            }
            None => {
                self.put_into(publishers, &[render::archiver(artifacts)]);
                self.added(WHAT);
            }
        }
    }
}

/// Whether two addresses are one but for the secret segment at their end, which may have been drawn anew.
fn is_same(known: &str, ours: &str) -> bool {
    let without_segment = |url: &'_ str| url.rsplit_once('/').map(|(front, _)| front.to_owned());
    known == ours || (ours.contains("://") && without_segment(known) == without_segment(ours))
}
