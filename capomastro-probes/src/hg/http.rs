//! Repositories behind HTTP, by hg's own protocol: one request for branches, one for bookmarks.

use super::heads::{Found, Name, bookmarks, branches, nonsense, pick};
use crate::remote::http::{Credentials, Place, body, content_type, send};
use capomastro_core::{Error, ErrorKind, Result};
use reqwest::{Client, Method, Response, StatusCode};
use std::collections::{BTreeMap, BTreeSet};
use url::Url;

/// The longest list of branches or bookmarks, in bytes, unpacked.
const MAX_LIST: u64 = 64 * 1024 * 1024;

/// What these names are at in the repository at `url`. Whether heads are closed is not told.
pub(super) async fn look(
    client: &Client,
    url: &Url,
    credentials: Option<&Credentials>,
    names: &BTreeSet<Name>,
) -> Result<BTreeMap<Name, Result<Found>>> {
    let mut place = Place::new(client, url.clone(), credentials, "hg repository");
    let looked = ask(&mut place, names).await;
    looked.map_err(|e| place.discreet(e))
}

async fn ask(place: &mut Place<'_>, names: &BTreeSet<Name>) -> Result<BTreeMap<Name, Result<Found>>> {
    let mut answers = BTreeMap::new();
    let (wanted, marked): (Vec<&Name>, Vec<&Name>) =
        names.iter().partition(|name| matches!(name, Name::Branch(_)));
    if !wanted.is_empty() {
        let list = branches(&command(place, "cmd=branchmap", true).await?)?;
        for name in &wanted {
            let heads = list.get(name.text().as_bytes()).map_or(&[][..], Vec::as_slice);
            answers.insert((*name).clone(), pick(heads));
        }
    }
    if !marked.is_empty() {
        let list = command(place, "cmd=listkeys&namespace=bookmarks", wanted.is_empty()).await?;
        let list = bookmarks(&list)?;
        for name in marked {
            let found = list.get(name.text().as_bytes());
            answers.insert(name.clone(), Ok(found.map_or(Found::Nothing, |node| Found::Node(node.clone()))));
        }
    }
    Ok(answers)
}

/// What the server says to a command of the protocol.
async fn command(place: &mut Place<'_>, query: &str, is_first: bool) -> Result<Vec<u8>> {
    let response = if is_first {
        place.first(Method::GET, "", Some(query), |r| r).await?
    } else {
        let mut url = place.at("")?;
        url.set_query(Some(query));
        send(place.request(Method::GET, url)).await?
    };
    answer(place, response).await
}

async fn answer(place: &Place<'_>, response: Response) -> Result<Vec<u8>> {
    if response.status() != StatusCode::OK {
        return Err(place.refusal(&response));
    }
    match content_type(response.headers()).as_str() {
        // The list is not packed: that is for commands whose answers are long.
        "application/mercurial-0.1" => match body(response, MAX_LIST).await? {
            Some(text) => Ok(text),
            None => Err(nonsense("a list that is too long")),
        },
        "application/hg-error" => Err(Error::new(
            ErrorKind::Unavailable,
            "the server of the repository reports an error: if it stays, ask its operator",
        )),
        _ => Err(nonsense("something other than hg's protocol")),
    }
}
