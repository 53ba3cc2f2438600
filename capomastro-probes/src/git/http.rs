//! Repositories behind HTTP, asked in process.
//!
//! The smart protocol, version 2 where the server has it, else what it says in version 0 or 1; and the plain files of a
//! web server that knows nothing of git. Redirects are followed as git follows them: for the first request only.

use super::{
    listing::{Found, Listing, Wants, nonsense, object_id, too_large},
    protocol::{Outcome, Reader},
};
use crate::remote::http::{Credentials, Place, body, broken, content_type, send};
use capomastro_core::Result;
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE},
};
use url::Url;

const ADVERTISEMENT: &str = "application/x-git-upload-pack-advertisement";
const RESULT: &str = "application/x-git-upload-pack-result";

/// The refs of the repository at `url`.
pub(super) async fn list(
    client: &Client,
    url: &Url,
    credentials: Option<&Credentials>,
    wants: &Wants,
    max: u64,
) -> Result<Listing> {
    let mut place = Place::new(client, url.clone(), credentials, "repository");
    let listed = ask(&mut place, wants, max).await;
    listed.map_err(|e| place.discreet(e))
}

async fn ask(place: &mut Place<'_>, wants: &Wants, max: u64) -> Result<Listing> {
    let response = place.first(Method::GET, "info/refs", Some("service=git-upload-pack"), version_2).await?;
    if response.status() != StatusCode::OK {
        return Err(place.refusal(&response));
    }
    match content_type(response.headers()).as_str() {
        ADVERTISEMENT => {}
        "text/html" | "application/xhtml+xml" => return Err(nonsense("a web page, perhaps to log in,")),
        _ => return plain_files(place, response, wants, max).await,
    }
    match read(response, Reader::advertisement(wants.clone(), max)).await? {
        Outcome::Refs(listing) => Ok(listing),
        Outcome::Introduced(capabilities) => {
            let request = place.request(Method::POST, place.at("git-upload-pack")?);
            let request = version_2(request)
                .header(ACCEPT, RESULT)
                .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
                .body(capabilities.ask(wants)?);
            let response = send(request).await?;
            if response.status() != StatusCode::OK {
                return Err(place.refusal(&response));
            }
            if content_type(response.headers()) != RESULT {
                return Err(nonsense("something that is no answer to its own protocol"));
            }
            match read(response, Reader::ls_refs(wants.clone(), max)).await? {
                Outcome::Refs(listing) => Ok(listing),
                Outcome::Introduced(_) => Err(nonsense("an introduction where refs belong")),
            }
        }
    }
}

/// A web server without git: what `git update-server-info` wrote, and `HEAD`.
async fn plain_files(place: &Place<'_>, response: Response, wants: &Wants, max: u64) -> Result<Listing> {
    let refs = body(response, max).await?.ok_or_else(|| too_large(max))?;
    let response = send(version_2(place.request(Method::GET, place.at("HEAD")?))).await?;
    if response.status() != StatusCode::OK {
        return Err(place.refusal(&response));
    }
    let head = body(response, max).await?.ok_or_else(|| too_large(max))?;
    let head = str::from_utf8(&head).unwrap_or_default().trim();
    let mut wants_and_head = wants.clone();
    if let Some(target) = head.strip_prefix("ref: ").map(str::trim).filter(|t| t.starts_with("refs/")) {
        wants_and_head.insert(target.to_owned());
        let mut listing = Listing::of_lines(&refs, &wants_and_head)?;
        if let Some(found) = listing.get(target).cloned() {
            listing.note(wants, "HEAD", Found { target: Some(target.to_owned()), ..found });
        }
        return Ok(listing);
    }
    let id = object_id(head.as_bytes()).map_err(|_| nonsense("something that is no git repository"))?;
    let mut listing = Listing::of_lines(&refs, &wants_and_head)?;
    listing.note(wants, "HEAD", Found { id, ..Found::default() });
    Ok(listing)
}

fn version_2(request: RequestBuilder) -> RequestBuilder {
    request.header("Git-Protocol", "version=2")
}

async fn read(mut response: Response, mut reader: Reader) -> Result<Outcome> {
    while let Some(bytes) = response.chunk().await.map_err(broken)? {
        if reader.feed(&bytes)? {
            break;
        }
    }
    reader.finish()
}
