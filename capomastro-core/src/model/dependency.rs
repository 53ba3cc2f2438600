//! What people say about a dependency.

use crate::{
    Error, Result,
    model::{DependencyId, DependencyName, LauncherName, Policy, ProbeName},
    time::Timestamp,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Where a dependency comes from: the name under which a probe was registered, and that probe's own configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The name under which the probe was registered.
    pub probe: ProbeName,
    /// The probe's own configuration. Credentials stand in it as [`SecretRef`](crate::secret::SecretRef)s only.
    pub config: Value,
}

impl Source {
    /// A source for the probe registered as `probe`.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) if `config` cannot be written as JSON,
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if the name is not one.
    pub fn new(probe: &str, config: impl Serialize) -> Result<Self> {
        let config = serde_json::to_value(config).map_err(|e| {
            Error::config("the source's configuration cannot be written as JSON").with_source(e)
        })?;
        Ok(Self { probe: probe.parse()?, config })
    }

    /// The configuration in the probe's own type.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig), naming the probe and what does not fit.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.config).map_err(|e| {
            Error::config("the source's configuration does not fit its probe")
                .with_context("probe", &self.probe)
                .with_context("problem", without_value(&e.to_string()))
        })
    }
}

/// What serde says is wrong, without the value that it found: that may be a password where the name of a secret belongs.
pub fn without_value(problem: &str) -> String {
    let shows_value = ["invalid type: ", "invalid value: ", "unknown variant "];
    match shows_value.iter().find(|kind| problem.starts_with(**kind)) {
        Some(kind) => match problem.rsplit_once(", expected ") {
            Some((_, expected)) => format!("{}, expected {expected}", kind.trim_end_matches([':', ' '])),
            None => kind.trim_end_matches([':', ' ']).to_owned(),
        },
        // The name of an unknown setting is shown, and may be anything.
        None => problem.replace(char::is_control, " "),
    }
}

/// A dependency as people configured it. The machine's own state is [`DependencyState`](crate::model::DependencyState).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Dependency {
    /// Its identity; survives renaming.
    pub id: DependencyId,
    /// Its name.
    pub name: DependencyName,
    /// Where it comes from.
    pub source: Source,
    /// The name under which its launcher was registered.
    pub launcher: LauncherName,
    /// What the launcher is to build: the launcher's own configuration.
    pub job: Value,
    /// What to do when.
    pub policy: Policy,
    /// When it was defined; schedules are anchored here.
    pub created_at: Timestamp,
    /// When it was deleted, if it was; kept while its builds are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

impl Dependency {
    /// A newly defined dependency.
    pub fn new(
        id: DependencyId,
        name: DependencyName,
        source: Source,
        launcher: LauncherName,
        job: Value,
        policy: Policy,
        created_at: Timestamp,
    ) -> Self {
        Self { id, name, source, launcher, job, policy, created_at, deleted_at: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretRef;
    use serde_json::json;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[expect(dead_code, reason = "only parsed")]
        password: SecretRef,
        #[expect(dead_code, reason = "only parsed")]
        #[serde(default)]
        kind: Option<Kind>,
    }

    #[derive(Debug, Deserialize)]
    enum Kind {
        Git,
    }

    #[test]
    fn a_password_in_the_place_of_a_reference_is_not_shown() {
        for (config, shown) in [
            (json!({"password": "hunter2"}), "invalid type, expected struct SecretRef"),
            (json!({"password": "hunter2, expected nothing"}), "invalid type, expected struct SecretRef"),
            (json!({"password": {"secret": "a"}, "kind": "hunter2"}), "unknown variant, expected `Git`"),
            (json!({}), "missing field `password`"),
        ] {
            let e = Source::new("git", config).unwrap().parse::<Config>().unwrap_err();
            let text = format!("{} {e:?}", e.report());
            assert!(text.contains(shown) && !text.contains("hunter2"), "{text}");
        }
    }
}
