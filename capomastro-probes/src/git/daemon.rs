//! Repositories behind `git daemon`, asked in process.

use super::{
    listing::{Listing, Wants, nonsense},
    protocol::{Outcome, Reader, daemon_request},
};
use capomastro_core::{Error, ErrorKind, Result};
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The refs of the repository at `path` of the daemon at `host`.
///
/// Versions 0 and 1 say everything at once; version 2 is asked for what is wanted.
pub(super) async fn list(host: &str, port: u16, path: &str, wants: &Wants, max: u64) -> Result<Listing> {
    // Brackets belong to an address in a URL only.
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let mut stream = TcpStream::connect((address, port)).await.map_err(|e| {
        Error::new(ErrorKind::Unavailable, "the git daemon cannot be reached: check host and port")
            .with_source(e)
    })?;
    let named = if port == 9418 { host.to_owned() } else { format!("{host}:{port}") };
    stream.write_all(&daemon_request(path, &named)).await.map_err(broken)?;
    let listing = match read(&mut stream, Reader::advertisement(wants.clone(), max)).await? {
        Outcome::Refs(listing) => listing,
        Outcome::Introduced(capabilities) => {
            stream.write_all(&capabilities.ask(wants)?).await.map_err(broken)?;
            match read(&mut stream, Reader::ls_refs(wants.clone(), max)).await? {
                Outcome::Refs(listing) => listing,
                Outcome::Introduced(_) => return Err(nonsense("an introduction where refs belong")),
            }
        }
    };
    // Says that nothing more is wanted; a daemon that is not told logs an error. What it thinks of it changes nothing.
    if let Err(e) = stream.write_all(b"0000").await {
        tracing::debug!(error = %e, "a git daemon hung up before it was told that nothing more is wanted");
    }
    Ok(listing)
}

async fn read(stream: &mut TcpStream, mut reader: Reader) -> Result<Outcome> {
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        let count = stream.read(&mut buffer).await.map_err(broken)?;
        if count == 0 || reader.feed(&buffer[..count])? {
            return reader.finish();
        }
    }
}

fn broken(e: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to the git daemon broke").with_source(e)
}
