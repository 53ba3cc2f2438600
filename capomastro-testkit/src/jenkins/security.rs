//! Users, permissions, sessions and crumbs.

use super::{answer::Answer, request::Request, state::State};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt};

/// What a user may do.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// See the server at all.
    OverallRead,
    /// Quiet down, restart.
    Manage,
    /// Know that a job exists.
    JobDiscover,
    /// See a job.
    JobRead,
    /// Ask for a build.
    JobBuild,
    /// Cancel items and stop builds.
    JobCancel,
    /// Make jobs.
    JobCreate,
    /// Change jobs.
    JobConfigure,
    /// Delete jobs.
    JobDelete,
    /// Read a job's configuration.
    JobExtendedRead,
    /// Describe builds.
    RunUpdate,
    /// Read artifacts, where that permission is switched on.
    RunArtifacts,
}

impl Permission {
    const ALL: [Self; 12] = [
        Self::OverallRead,
        Self::Manage,
        Self::JobDiscover,
        Self::JobRead,
        Self::JobBuild,
        Self::JobCancel,
        Self::JobCreate,
        Self::JobConfigure,
        Self::JobDelete,
        Self::JobExtendedRead,
        Self::RunUpdate,
        Self::RunArtifacts,
    ];

    /// As `X-Required-Permission` names it, and what implies it.
    fn names(self) -> (&'static str, &'static [&'static str]) {
        const ADMINISTER: &str = "hudson.model.Hudson.Administer";
        const WRITE: &str = "hudson.security.Permission.GenericWrite";
        const READ: &str = "hudson.security.Permission.GenericRead";
        match self {
            Self::OverallRead => ("hudson.model.Hudson.Read", &[READ, ADMINISTER]),
            Self::Manage => ("hudson.model.Hudson.Manage", &[ADMINISTER]),
            Self::JobDiscover => ("hudson.model.Item.Discover", &[READ, ADMINISTER]),
            Self::JobRead => ("hudson.model.Item.Read", &["hudson.model.Item.Discover", READ, ADMINISTER]),
            Self::JobBuild => ("hudson.model.Item.Build", &["hudson.security.Permission.GenericUpdate", WRITE, ADMINISTER]),
            Self::JobCancel => ("hudson.model.Item.Cancel", &["hudson.security.Permission.GenericUpdate", WRITE, ADMINISTER]),
            Self::JobCreate => ("hudson.model.Item.Create", &["hudson.security.Permission.GenericCreate", WRITE, ADMINISTER]),
            Self::JobConfigure | Self::JobExtendedRead => {
                let implied_by = &[
                    "hudson.security.Permission.GenericConfigure",
                    "hudson.security.Permission.GenericUpdate",
                    WRITE,
                    ADMINISTER,
                ];
                ("hudson.model.Item.Configure", implied_by)
            }
            Self::JobDelete => ("hudson.model.Item.Delete", &["hudson.security.Permission.GenericDelete", WRITE, ADMINISTER]),
            Self::RunUpdate => ("hudson.model.Run.Update", &["hudson.security.Permission.GenericUpdate", WRITE, ADMINISTER]),
            Self::RunArtifacts => ("hudson.model.Run.Artifacts", &[ADMINISTER]),
        }
    }
}

/// A user of the server.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    pub(super) name: String,
    pub(super) token: Option<String>,
    pub(super) password: Option<String>,
    pub(super) permissions: Vec<Permission>,
}

impl User {
    /// Somebody who may do everything, with an API token.
    pub fn admin(name: impl Into<String>, token: impl Into<String>) -> Self {
        Self::with_permissions(name, Permission::ALL).token(token)
    }

    /// Somebody who may do what is listed and nothing else.
    pub fn with_permissions(name: impl Into<String>, permissions: impl IntoIterator<Item = Permission>) -> Self {
        Self { name: name.into(), token: None, password: None, permissions: permissions.into_iter().collect() }
    }

    /// Gives the user an API token.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Gives the user a password, with which POST needs a crumb.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("permissions", &self.permissions).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
pub(super) struct Security {
    pub(super) users: Vec<User>,
    /// Sessions by cookie, with who logged in through the form.
    pub(super) sessions: BTreeMap<String, Option<String>>,
    pub(super) cookies: u64,
}

/// Sessions beyond this are forgotten, oldest cookies first.
const MOST_SESSIONS: usize = 10_000;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    /// `None`: anonymous.
    pub(super) name: Option<String>,
    pub(super) by_token: bool,
}

/// Hexadecimal digest of parts.
pub(super) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl State {
    /// Opens a session, and says how to keep its cookie.
    pub(super) fn new_cookie(&mut self) -> String {
        self.new_session_for(None)
    }

    pub(super) fn new_session_for(&mut self, user: Option<String>) -> String {
        self.security.cookies += 1;
        let count = self.security.cookies;
        let id = format!("node0{count:08x}{}", &digest(&[&self.seed.to_string(), "cookie", &count.to_string()])[..16]);
        if self.security.sessions.len() >= MOST_SESSIONS {
            self.security.sessions.pop_first();
        }
        self.security.sessions.insert(id.clone(), user);
        let path = if self.config.context.is_empty() { "/" } else { &self.config.context };
        format!("JSESSIONID={id}; Path={path}; HttpOnly; SameSite=Lax")
    }

    /// The crumb of a user in a session.
    pub(super) fn crumb(&self, user: Option<&str>, session: &str) -> String {
        digest(&[&self.seed.to_string(), user.unwrap_or("anonymous"), session])
    }

    /// Finds out who asks, or answers 401.
    pub(super) fn authenticate(&self, request: &Request) -> Result<Who, Box<Answer>> {
        let logged_in = request
            .session()
            .and_then(|id| self.security.sessions.get(&id).cloned())
            .flatten();
        let Some(header) = request.header("authorization") else {
            return Ok(Who { name: logged_in, by_token: false });
        };
        let unauthorized = || {
            Box::new(
                Answer::container(request, 401, "Unauthorized")
                    .with("Set-Cookie", "remember-me=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; SameSite=Lax")
                    .with("WWW-Authenticate", "Basic realm=\"Jenkins\", charset=\"UTF-8\""),
            )
        };
        let Some(encoded) = header.strip_prefix("Basic ") else {
            return Ok(Who { name: logged_in, by_token: false });
        };
        let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((name, secret)) = decoded.as_deref().and_then(|text| text.split_once(':')) else {
            return Err(unauthorized());
        };
        // The session of the same user wins, and what was sent with it is never looked at.
        if logged_in.as_deref() == Some(name) {
            return Ok(Who { name: logged_in, by_token: false });
        }
        let user = self.security.users.iter().find(|user| user.name == name).ok_or_else(unauthorized)?;
        let name = Some(user.name.clone());
        if user.token.as_deref() == Some(secret) {
            Ok(Who { name, by_token: true })
        } else if user.password.as_deref() == Some(secret) {
            Ok(Who { name, by_token: false })
        } else {
            Err(unauthorized())
        }
    }

    /// Refuses a POST without a good crumb, unless a token exempts it.
    pub(super) fn check_crumb(&mut self, request: &Request, who: &Who) -> Option<Answer> {
        if !self.config.crumbs || !request.is("POST") || who.by_token {
            return None;
        }
        let given = request.header("jenkins-crumb").or_else(|| request.field("Jenkins-Crumb"));
        let session = request.session().filter(|id| self.security.sessions.contains_key(id));
        if let (Some(given), Some(session)) = (&given, &session)
            && *given == self.crumb(who.name.as_deref(), session)
        {
            return None;
        }
        let refused = no_crumb(request);
        Some(if given.is_some() && session.is_none() {
            let cookie = self.new_cookie();
            refused.with("Set-Cookie", cookie)
        } else {
            refused
        })
    }

    pub(super) fn may(&self, who: &Who, permission: Permission) -> bool {
        who.name.as_ref().is_some_and(|name| {
            self.security.users.iter().any(|user| user.name == *name && user.permissions.contains(&permission))
        })
    }

    /// Refuses who lacks a permission.
    pub(super) fn require(&mut self, who: &Who, permission: Permission) -> Result<(), Box<Answer>> {
        if self.may(who, permission) { Ok(()) } else { Err(Box::new(self.forbidden(who, permission))) }
    }

    fn forbidden(&mut self, who: &Who, permission: Permission) -> Answer {
        let (name, implied_by) = permission.names();
        let who = who.name.as_deref().unwrap_or("anonymous");
        let mut answer = Answer::page(self, 403, "Jenkins", "Access Denied")
            .with("X-You-Are-Authenticated-As", who)
            .with(
                "X-You-Are-In-Group-Disabled",
                "JENKINS-39402: use -Dhudson.security.AccessDeniedException2.REPORT_GROUP_HEADERS=true or use /whoAmI to diagnose",
            )
            .with("X-Required-Permission", name);
        for implied_by in implied_by {
            answer = answer.with("X-Permission-Implied-By", implied_by);
        }
        answer
    }

    /// What somebody unknown is sent on a page that is not for all.
    pub(super) fn log_in_first(&mut self, request: &Request) -> Answer {
        let mut answer = self.forbidden(&Who { name: None, by_token: false }, Permission::OverallRead);
        let login = format!("{}/login?from={}", self.config.context, request.raw_path);
        answer.body = format!(
            "<html><head><meta http-equiv='refresh' content='1;url={login}'/></head><body>Authentication required</body></html>"
        )
        .into_bytes();
        answer
    }
}

pub(super) fn no_crumb(request: &Request) -> Answer {
    Answer::container(request, 403, "No valid crumb was included in the request")
}
