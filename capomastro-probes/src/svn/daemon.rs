//! Repositories behind `svnserve`, asked in process.

use super::{
    answer::{Nodes, nonsense},
    conversation::{Conversation, Request, Step, Told, unknown},
    wire::Reader,
};
use crate::remote::http::Credentials;
use capomastro_core::{Error, ErrorKind, Result};
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What is at each path, by path; `None` if the server logs people in in a way that only the svn program knows.
pub(super) async fn look(
    (host, port): (&str, u16),
    url: &str,
    paths: &[String],
    credentials: Option<&Credentials>,
    max: u64,
) -> Result<Option<Nodes>> {
    let (mut paths, mut nodes) = (paths.to_vec(), Nodes::new());
    loop {
        let request = Request { url, paths: &paths, credentials, at: None };
        match converse(host, port, request, max).await? {
            Step::Done(Told::Nodes(told)) => {
                nodes.extend(paths.into_iter().zip(told.into_iter().map(|node| node.map(Into::into))));
                return Ok(Some(nodes));
            }
            Step::Done(Told::Hidden(index)) if index < paths.len() => {
                nodes.insert(paths.remove(index), Err(unknown()));
                if paths.is_empty() {
                    return Ok(Some(nodes));
                }
            }
            Step::NeedsProgram => return Ok(None),
            _ => return Err(nonsense("something that was not asked for")),
        }
    }
}

/// The last step of a conversation.
async fn converse(host: &str, port: u16, request: Request<'_>, max: u64) -> Result<Step> {
    // Brackets belong to an address in a URL only.
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = TcpStream::connect((address, port)).await.map_err(|e| {
        Error::new(ErrorKind::Unavailable, "svnserve cannot be reached: check host and port").with_source(e)
    })?;
    let mut conversation = Conversation::new(request);
    let mut reader = Reader::new(max);
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        while let Some(item) = reader.next()? {
            match conversation.hear(&item)? {
                Step::Listen => {}
                Step::Say(text) => stream.write_all(text.as_bytes()).await.map_err(broken)?,
                last => return Ok(last),
            }
        }
        let count = stream.read(&mut buffer).await.map_err(broken)?;
        if count == 0 {
            return Err(Error::new(ErrorKind::Unavailable, "svnserve hung up in the middle of an answer"));
        }
        reader.feed(&buffer[..count])?;
    }
}

fn broken(e: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to svnserve broke").with_source(e)
}
