//! Parameters that a job declares.

use super::{
    names::check_variable,
    xml::{check_text, escape},
};
use capomastro_core::{Error, Result};

/// What a parameter holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// One line of text.
    String,
    /// Text of several lines.
    Text,
    /// Yes or no.
    Boolean,
    /// One of these; the first is the default. Any other value is refused by Jenkins.
    Choice(Vec<String>),
}

/// A parameter that a job declares. What is not declared never reaches a build: Jenkins drops it without a word.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parameter {
    /// Its name, which is also the name of the variable that a script reads.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
    /// For people.
    pub description: String,
    /// What it is where nobody says; of no meaning for a choice.
    pub default: String,
}

impl Parameter {
    /// A parameter of one line, empty by default.
    pub fn string(name: impl Into<String>) -> Self {
        Self::new(name, Kind::String)
    }

    /// A parameter of several lines, empty by default.
    pub fn text(name: impl Into<String>) -> Self {
        Self::new(name, Kind::Text)
    }

    /// A parameter that is `false` by default.
    pub fn boolean(name: impl Into<String>) -> Self {
        Self::new(name, Kind::Boolean).default_value("false")
    }

    /// A parameter that is one of these, by default the first.
    pub fn choice<C: Into<String>>(name: impl Into<String>, of: impl IntoIterator<Item = C>) -> Self {
        Self::new(name, Kind::Choice(of.into_iter().map(Into::into).collect()))
    }

    fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), kind, description: String::new(), default: String::new() }
    }

    /// What it is where nobody says.
    #[must_use]
    pub fn default_value(mut self, value: impl Into<String>) -> Self {
        self.default = value.into();
        self
    }

    /// What people read about it.
    #[must_use]
    pub fn described(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        check_variable(&self.name)?;
        let problem = |message: &str| Error::config(message).with_context("parameter", &self.name);
        check_text("a parameter", &self.description)?;
        check_text("a parameter", &self.default)?;
        match &self.kind {
            Kind::String if self.default.contains(['\n', '\r']) => {
                Err(problem("the default of a string parameter has several lines: make it a text parameter"))
            }
            Kind::Boolean if !matches!(self.default.as_str(), "true" | "false") => Err(problem(
                "the default of a boolean parameter is neither \"true\" nor \"false\": choose one",
            )),
            Kind::Choice(choices) => {
                if choices.is_empty() || choices.iter().any(|c| c.is_empty() || c.contains(['\n', '\r'])) {
                    return Err(problem(
                        "a choice is empty or has several lines: give one or more lines of text",
                    ));
                }
                choices.iter().try_for_each(|c| check_text("a choice", c))
            }
            _ => Ok(()),
        }
    }

    /// The class of its definition.
    pub(super) const fn class(&self) -> &'static str {
        match self.kind {
            Kind::String => "hudson.model.StringParameterDefinition",
            Kind::Text => "hudson.model.TextParameterDefinition",
            Kind::Boolean => "hudson.model.BooleanParameterDefinition",
            Kind::Choice(_) => "hudson.model.ChoiceParameterDefinition",
        }
    }

    /// The children of its definition that are ours, by name, each as its whole element; those behind the name may differ
    /// in a job that people have edited.
    pub(super) fn children(&self) -> Vec<(&'static str, String)> {
        let element = |name: &'static str, text: &str| (name, format!("<{name}>{}</{name}>", escape(text)));
        let mut children = vec![element("name", &self.name), element("description", &self.description)];
        match &self.kind {
            Kind::Choice(choices) => {
                let of: String = choices.iter().map(|c| format!("<string>{}</string>", escape(c))).collect();
                children.push((
                    "choices",
                    format!("<choices class=\"java.util.Arrays$ArrayList\"><a class=\"string-array\">{of}</a></choices>"),
                ));
            }
            Kind::Boolean => children.push(element("defaultValue", &self.default)),
            Kind::String | Kind::Text => {
                children.push(element("defaultValue", &self.default));
                // A trimmed value would not be the one that was sent, and two requests would not be seen to be the same.
                children.push(element("trim", "false"));
            }
        }
        children
    }
}
