//! Branches behind HTTP, as files of a web server: one request where the branch is there.

use super::tip::{Format, Tip, is_format, nonsense};
use crate::remote::http::{Credentials, Place, body, send};
use capomastro_core::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, Response, StatusCode};
use url::Url;

/// The longest file that says where a branch is or stands, in bytes.
const MAX_LINE: u64 = 8 * 1024;
/// The longest history of a branch of old, in bytes.
const MAX_HISTORY: u64 = 64 * 1024 * 1024;
/// What of a colocated branch's name is written as it is.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What the server shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// The tip of the branch; none if it has no revision.
    At(Option<Tip>),
    /// No branch as files; there may be one behind bzr's own protocol.
    Nothing,
    /// A branch of a kind that is not read here.
    NeedsProgram,
}

/// The tip of the branch at `url`, or of the one colocated there under `name`.
pub(super) async fn look(
    client: &Client,
    url: &Url,
    credentials: Option<&Credentials>,
    name: Option<&str>,
) -> Result<Looked> {
    let mut place = Place::new(client, url.clone(), credentials, "bzr branch");
    let looked = ask(&mut place, name).await;
    looked.map_err(|e| place.discreet(e))
}

async fn ask(place: &mut Place<'_>, name: Option<&str>) -> Result<Looked> {
    let branch = match name {
        Some(name) => format!(".bzr/branches/{}", utf8_percent_encode(name, NAME)),
        None => ".bzr/branch".to_owned(),
    };
    let response = place.first(Method::GET, &format!("{branch}/last-revision"), None, |r| r).await?;
    if let Some(text) = file(place, response, MAX_LINE).await? {
        return Tip::of_last_revision(&text).map(Looked::At);
    }
    let Some(format) = next(place, &format!("{branch}/format"), MAX_LINE).await? else {
        return Ok(Looked::Nothing);
    };
    if !is_format(&format) {
        return Err(nonsense("something that is no branch"));
    }
    match Format::of(&format) {
        Format::History => {
            let history = next(place, &format!("{branch}/revision-history"), MAX_HISTORY).await?;
            Tip::of_history(&history.unwrap_or_default()).map(Looked::At)
        }
        Format::Reference => Err(Error::config(
            "the URL is that of a checkout, which only refers to a branch: give the URL of the branch itself",
        )),
        Format::Other => Ok(Looked::NeedsProgram),
    }
}

async fn next(place: &Place<'_>, path: &str, max: u64) -> Result<Option<Vec<u8>>> {
    let response = send(place.request(Method::GET, place.at(path)?)).await?;
    file(place, response, max).await
}

/// The content of a file; `None` if the server has none.
async fn file(place: &Place<'_>, response: Response, max: u64) -> Result<Option<Vec<u8>>> {
    match response.status() {
        StatusCode::OK => match body(response, max).await? {
            Some(text) => Ok(Some(text)),
            None => Err(nonsense("a file that is too long")),
        },
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
        _ => Err(place.refusal(&response)),
    }
}
