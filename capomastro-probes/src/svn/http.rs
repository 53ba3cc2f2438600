//! Repositories behind HTTP (WebDAV as mod_dav_svn speaks it), asked in process.
//!
//! One request tells all there is to know of a path, unless it is not there or was last changed elsewhere.

use super::{
    answer::{Failed, Found, Origin, nonsense},
    dav::{self, Elsewhere},
};
use crate::remote::http::{Credentials, Place, body, content_type, send};
use capomastro_core::Result;
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, WWW_AUTHENTICATE},
};
use url::Url;

/// What an answer came to.
#[derive(Debug)]
pub(super) enum Looked {
    Found(Found),
    /// The server logs people in in a way that only the svn program knows.
    NeedsProgram,
}

/// What is at `path`, percent-encoded, below the URL.
pub(super) async fn look(
    client: &Client,
    url: &Url,
    path: &str,
    credentials: Option<&Credentials>,
    max: u64,
) -> Result<Looked, Failed> {
    let mut place = Place::new(client, url.clone(), credentials, "repository");
    let looked = ask(&mut place, path, credentials.is_some(), max).await;
    looked.map_err(|failed| match failed {
        Failed::This(e) => Failed::This(place.discreet(e)),
        Failed::All(e) => Failed::All(place.discreet(e)),
    })
}

async fn ask(place: &mut Place<'_>, path: &str, logs_in: bool, max: u64) -> Result<Looked, Failed> {
    let shape = |request: RequestBuilder| {
        request.header("Depth", "0").header(CONTENT_TYPE, "text/xml").body(dav::PROPFIND)
    };
    let response = place.first(method(b"PROPFIND"), path, None, shape).await?;
    match response.status() {
        StatusCode::MULTI_STATUS => {}
        StatusCode::NOT_FOUND => return Ok(is_repository(place, path, &response).await?),
        StatusCode::UNAUTHORIZED if logs_in && !takes_passwords(&response) => {
            return Ok(Looked::NeedsProgram);
        }
        StatusCode::UNAUTHORIZED if logs_in => return Err(Failed::All(place.refusal(&response))),
        _ => return Err(place.refusal(&response).into()),
    }
    if content_type(response.headers()) == "text/html" {
        return Err(nonsense("a web page, perhaps to log in,").into());
    }
    let mut seen = dav::properties(&read(response, max).await?)?;
    if let Some(elsewhere) = &seen.elsewhere {
        seen.node.origin = where_was(place, elsewhere, seen.node.number, max).await?;
    }
    Ok(Looked::Found(Some(seen.node).into()))
}

/// Tells a path that is missing in a repository, which answers what it can do there, from a repository that is missing.
async fn is_repository(place: &Place<'_>, path: &str, missing: &Response) -> Result<Looked> {
    let response = send(place.request(Method::OPTIONS, place.at(path)?)).await?;
    let abilities = response.headers().get_all("dav");
    let is_subversion =
        abilities.iter().any(|v| v.to_str().is_ok_and(|v| v.contains("tigris.org/xmlns/dav/svn")));
    if response.status() == StatusCode::OK && is_subversion {
        Ok(Looked::Found(Found::Nothing))
    } else if response.status().is_success() || response.status() == StatusCode::NOT_FOUND {
        Err(place.refusal(missing))
    } else {
        Err(place.refusal(&response))
    }
}

async fn where_was(place: &Place<'_>, elsewhere: &Elsewhere, number: u64, max: u64) -> Result<Origin> {
    let mut url = place.at("")?;
    url.set_path(&elsewhere.href);
    let request = place
        .request(method(b"REPORT"), url)
        .header(CONTENT_TYPE, "text/xml")
        .body(dav::where_was(elsewhere.peg, number));
    let response = send(request).await?;
    if response.status() != StatusCode::OK {
        return Err(place.refusal(&response));
    }
    dav::location(&read(response, max).await?, &elsewhere.own, number)
}

async fn read(response: Response, max: u64) -> Result<Vec<u8>> {
    body(response, max).await?.ok_or_else(|| nonsense("more than the probe's max_answer_bytes"))
}

fn takes_passwords(response: &Response) -> bool {
    let ways = response.headers().get_all(WWW_AUTHENTICATE);
    ways.iter().any(|w| w.to_str().is_ok_and(|w| w.to_ascii_lowercase().contains("basic")))
}

fn method(name: &[u8]) -> Method {
    Method::from_bytes(name).expect("the name of a method is a token")
}
