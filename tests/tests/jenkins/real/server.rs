//! Which server, and who asks.

use capomastro_core::secret::{FixedSecrets, Secrets};
use capomastro_jenkins::{Credentials, JenkinsLauncher, JenkinsLauncherBuilder};
use capomastro_testkit::jenkins::Jenkins;
use std::{env, fmt, io::Write as _, path::PathBuf, sync::Arc};

const URL: &str = "CAPOMASTRO_JENKINS_URL";
const USER: &str = "CAPOMASTRO_JENKINS_USER";
const TOKEN: &str = "CAPOMASTRO_JENKINS_TOKEN";
const FOLDER: &str = "CAPOMASTRO_JENKINS_FOLDER";

/// A server with a user who may make, run and delete jobs.
#[derive(Clone)]
pub(super) struct Server {
    /// Its root, with a slash at the end.
    pub(super) url: String,
    pub(super) user: String,
    pub(super) token: String,
    /// A folder that the server's agents and this process both see.
    pub(super) folder: PathBuf,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.url)
    }
}

impl Server {
    /// The server that the environment names, if it names all of it.
    pub(super) fn named() -> Option<Self> {
        let of = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let url = format!("{}/", of(URL)?.trim_end_matches('/'));
        let folder = env::var_os(FOLDER).map_or_else(env::temp_dir, PathBuf::from);
        Some(Self { url, user: of(USER)?, token: of(TOKEN)?, folder })
    }

    /// Whether there is one; says loudly what to set if not.
    pub(super) fn is_named(what: &str) -> bool {
        let is_named = Self::named().is_some();
        if !is_named {
            let line = format!("SKIPPED: {what}: set {URL}, {USER} and {TOKEN} (see docs/jenkins.md)\n");
            // Not with a macro: of a test that passes, what macros print is not shown.
            std::io::stderr().write_all(line.as_bytes()).ok();
        }
        is_named
    }

    /// The double, as its administrator.
    pub(super) fn double(jenkins: &Jenkins) -> Self {
        let (user, token) = (Jenkins::ADMIN.to_owned(), Jenkins::TOKEN.to_owned());
        Self { url: jenkins.url(), user, token, folder: env::temp_dir() }
    }

    /// A launcher for this server, reached by this URL.
    pub(super) fn launcher(&self, url: &str) -> JenkinsLauncherBuilder {
        let secrets = FixedSecrets::default().with("jenkins", self.token.as_str());
        JenkinsLauncher::builder(url)
            .credentials(Credentials::token(&self.user, "jenkins"), Secrets::new(Arc::new(secrets)))
    }
}
