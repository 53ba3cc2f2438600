//! What forges send. Pure: headers and bytes in, data out.
//!
//! Only which repository and which refs is read. Revisions are not, since nothing is decided by what a hook says; nor is
//! any address fetched from.

use super::{
    Forge, Headers,
    place::{Changed, Place},
};
use capomastro_core::{Error, ErrorKind, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use url::form_urlencoded;

/// How many changes of one message are read; more count as all refs.
const MAX_CHANGES: usize = 1_000;

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Something changed at one repository, under the names that it has.
    Changed { places: BTreeSet<Place>, changed: Changed },
    /// The forge tries whether somebody is there.
    Ping,
    /// Something that does not change what is built.
    Other,
}

/// Reads a message whose signature holds.
///
/// # Errors
/// [`Corrupt`](ErrorKind::Corrupt) if it is not what the forge sends.
pub(super) fn read(forge: Forge, headers: Headers<'_>, body: &[u8]) -> Result<Said> {
    let message = json(forge, headers, body)?;
    match forge {
        Forge::GitHub => hub(headers.get("x-github-event").unwrap_or_default(), &message),
        Forge::Gitea => {
            let event = headers.get("x-forgejo-event").or_else(|| headers.get("x-gitea-event"));
            hub(event.unwrap_or_default(), &message)
        }
        Forge::GitLab => gitlab(&message),
        Forge::Bitbucket => bitbucket(headers.get("x-event-key").unwrap_or_default(), &message),
        Forge::Generic => generic(&message),
    }
}

/// The JSON of a message. Through a value, in which of a key that occurs twice the last one counts.
fn json(forge: Forge, headers: Headers<'_>, body: &[u8]) -> Result<Value> {
    let kind = headers.get("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let may_be_form = matches!(forge, Forge::GitHub | Forge::Gitea);
    let parsed = if kind == "application/json" {
        serde_json::from_slice(body)
    } else if may_be_form && kind == "application/x-www-form-urlencoded" {
        let payload = form_urlencoded::parse(body).find(|(name, _)| name == "payload");
        let (_, payload) = payload.ok_or_else(|| corrupt("the form has no payload"))?;
        serde_json::from_str(&payload)
    } else {
        return Err(Error::new(ErrorKind::Unsupported, "the content type is not application/json"));
    };
    parsed.map_err(|e| corrupt("the message is not JSON").with_source(e))
}

fn corrupt(message: &str) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

fn text<'a>(of: &'a Value, path: &str) -> Option<&'a str> {
    of.pointer(path).and_then(Value::as_str).filter(|t| !t.is_empty())
}

/// The places of all URLs at these paths.
fn places(message: &Value, paths: &[&str]) -> Result<BTreeSet<Place>> {
    let found: BTreeSet<Place> = paths.iter().filter_map(|path| Place::of(text(message, path)?)).collect();
    if found.is_empty() { Err(corrupt("the message names no repository")) } else { Ok(found) }
}

fn changed(places: BTreeSet<Place>, changed: Changed) -> Said {
    if changed.is_nothing() { Said::Other } else { Said::Changed { places, changed } }
}

/// GitHub, and Gitea and Forgejo, which send nearly the same:
/// <https://docs.github.com/en/webhooks/webhook-events-and-payloads>, <https://forgejo.org/docs/latest/user/webhooks/>.
fn hub(event: &str, message: &Value) -> Result<Said> {
    const REPOSITORY: [&str; 5] = [
        "/repository/clone_url",
        "/repository/ssh_url",
        "/repository/git_url",
        "/repository/html_url",
        "/repository/svn_url",
    ];
    let mut what = Changed::nothing();
    let default = text(message, "/repository/default_branch");
    let name = || text(message, "/ref").ok_or_else(|| corrupt("the message names no ref"));
    match event {
        "ping" => return Ok(Said::Ping),
        // The whole name of the ref.
        "push" => what.add(name()?, default),
        // The short name and its kind.
        "create" | "delete" => match (text(message, "/ref_type"), name()?) {
            (_, whole) if whole.starts_with("refs/") => what.add(whole, default),
            (Some("branch"), branch) => what.add(&format!("refs/heads/{branch}"), default),
            (Some("tag"), tag) => what.add(&format!("refs/tags/{tag}"), default),
            _ => what = Changed::Anything,
        },
        "pull_request" => what = Changed::other(),
        // The default branch may be another one now.
        "repository" => what = Changed::Anything,
        _ => return Ok(Said::Other),
    }
    Ok(changed(places(message, &REPOSITORY)?, what))
}

/// <https://docs.gitlab.com/user/project/integrations/webhook_events/>, and the system hooks of a whole server.
fn gitlab(message: &Value) -> Result<Said> {
    const PROJECT: [&str; 7] = [
        "/project/git_http_url",
        "/project/git_ssh_url",
        "/project/web_url",
        "/repository/git_http_url",
        "/repository/git_ssh_url",
        "/repository/homepage",
        "/repository/url",
    ];
    let default = text(message, "/project/default_branch");
    let event = text(message, "/object_kind").or_else(|| text(message, "/event_name")).unwrap_or_default();
    let mut what = Changed::nothing();
    match event {
        "push" | "tag_push" => {
            what.add(text(message, "/ref").ok_or_else(|| corrupt("the message names no ref"))?, default);
        }
        "repository_update" => {
            let refs = message.get("refs").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for name in refs.iter().take(MAX_CHANGES).filter_map(Value::as_str) {
                what.add(name, default);
            }
        }
        "merge_request" => what = Changed::other(),
        _ => return Ok(Said::Other),
    }
    Ok(changed(places(message, &PROJECT)?, what))
}

/// <https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/> and
/// <https://confluence.atlassian.com/bitbucketserver/event-payload-938025882.html>.
fn bitbucket(event: &str, message: &Value) -> Result<Said> {
    let mut what = Changed::nothing();
    match event {
        "diagnostics:ping" => return Ok(Said::Ping),
        "repo:push" => {
            for change in changes(message.pointer("/push/changes"), &mut what) {
                // `new` is null where a branch was deleted, `old` where it was made.
                let of =
                    ["/new", "/old"].iter().find_map(|side| change.pointer(side).filter(|s| !s.is_null()));
                let of = of.unwrap_or(&Value::Null);
                match (text(of, "/type"), text(of, "/name")) {
                    (Some("branch" | "named_branch" | "bookmark"), Some(name)) => {
                        what.add(&format!("refs/heads/{name}"), text(message, "/repository/mainbranch/name"));
                    }
                    (Some("tag" | "annotated_tag"), Some(name)) => {
                        what.add(&format!("refs/tags/{name}"), None)
                    }
                    _ => what = Changed::Anything,
                }
            }
        }
        "repo:refs_changed" | "mirror:repo_synchronized" => {
            for change in changes(message.get("changes"), &mut what) {
                match text(change, "/ref/id").or_else(|| text(change, "/refId")) {
                    Some(name) => what.add(name, None),
                    None => what = Changed::Anything,
                }
            }
        }
        _ => return Ok(Said::Other),
    }
    let mut found: BTreeSet<Place> = BTreeSet::new();
    let clones = message.pointer("/repository/links/clone").and_then(Value::as_array);
    let clones = clones.map(Vec::as_slice).unwrap_or_default();
    found.extend(clones.iter().take(8).filter_map(|link| Place::of(text(link, "/href")?)));
    // The cloud: the page of the repository is at the same place as the repository.
    found.extend(text(message, "/repository/links/html/href").and_then(Place::of));
    // A server of one's own: the page is `…/projects/KEY/repos/slug/browse`, and old ones name no other address.
    let page = text(message, "/repository/links/self/0/href");
    found.extend(page.and_then(|page| {
        let (base, rest) = page.split_once("/projects/")?;
        let (project, slug) = rest.split_once("/repos/")?;
        Place::of(&format!("{base}/scm/{project}/{}", slug.trim_end_matches("/browse")))
    }));
    if found.is_empty() { Err(corrupt("the message names no repository")) } else { Ok(changed(found, what)) }
}

fn changes<'a>(of: Option<&'a Value>, what: &mut Changed) -> &'a [Value] {
    let all = of.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if all.len() > MAX_CHANGES {
        *what = Changed::Anything;
        return &[];
    }
    all
}

/// Our own form: `{"source": "https://…", "ref": "refs/heads/main"}`, in which a `ref` may be missing.
fn generic(message: &Value) -> Result<Said> {
    if message.get("ping").is_some() && message.get("source").is_none() {
        return Ok(Said::Ping);
    }
    let mut what = Changed::nothing();
    match message.get("ref") {
        None | Some(Value::Null) => what = Changed::Anything,
        Some(Value::String(name)) if name.starts_with("refs/") => what.add(name, None),
        Some(_) => return Err(corrupt("ref is not the whole name of a ref, such as refs/heads/main")),
    }
    Ok(changed(places(message, &["/source"])?, what))
}
