//! The bytes of artifacts.

use crate::{
    address::{JobName, Place},
    job::is_artifact_path,
    launcher::Inner,
    wire::Build,
};
use capomastro_core::{Error, ErrorKind, Result, launch::Chunk, model::Revision};
use reqwest::StatusCode;
use sha2::{Digest as _, Sha256};
use std::io::Write;

/// How much of an artifact is read for the revision that stands in it.
const REVISION: usize = 2_048;

/// What came of reading an artifact for its digest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Digest {
    Of {
        /// `sha256:` and 64 hexadecimal digits.
        digest: String,
        size: u64,
    },
    /// It is larger than is read.
    TooLarge,
    /// It is not there.
    Gone,
}

pub(crate) fn place(job: &JobName, number: u64, path: &str) -> Place {
    let number = number.to_string();
    job.build(&number, std::iter::once("artifact").chain(path.split('/')))
}

fn outside(path: &str) -> Error {
    Error::invalid("the artifact's name leads outside: give a path that the build has told")
        .with_context("artifact", path.escape_debug())
}

impl Inner {
    pub(crate) async fn digest(&self, job: &JobName, number: u64, path: &str) -> Result<Digest> {
        self.copy(job, number, path, &mut std::io::sink()).await
    }

    /// Reads an artifact whole into a place for it, and digests it on the way.
    pub(crate) async fn copy(
        &self,
        job: &JobName,
        number: u64,
        path: &str,
        into: &mut (dyn Write + Send),
    ) -> Result<Digest> {
        if !is_artifact_path(path) {
            return Err(outside(path));
        }
        let mut opened = self.client.download(&place(job, number, path), 0, job).await?;
        match opened.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(Digest::Gone),
            _ => return Err(self.client.name(opened.complaint(), Some(job))),
        }
        let (mut hash, mut size) = (Sha256::new(), 0_u64);
        while let Some(piece) = opened.chunk().await? {
            let piece = piece.as_ref();
            size += piece.len() as u64;
            if size > self.options.max_artifact_bytes {
                return Ok(Digest::TooLarge);
            }
            hash.update(piece);
            into.write_all(piece).map_err(|e| {
                Error::new(ErrorKind::StorageFull, "the artifact cannot be written: look at the place for it")
                    .with_source(e)
            })?;
        }
        let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Digest::Of { digest: format!("sha256:{hex}"), size })
    }

    /// The revision in the first line of an artifact; `None` if the build has no such artifact.
    pub(crate) async fn built_revision(
        &self,
        job: &JobName,
        number: u64,
        path: &str,
        build: &Build,
    ) -> Result<Option<Revision>> {
        if !build.artifacts.iter().any(|a| a == path) {
            return Ok(None);
        }
        let text = self.artifact_piece(job, number, path, 0, REVISION).await?.bytes;
        let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        Ok(line.trim_end_matches('\r').parse().ok())
    }

    /// A piece of an artifact.
    pub(crate) async fn artifact_piece(
        &self,
        job: &JobName,
        number: u64,
        path: &str,
        offset: u64,
        max: usize,
    ) -> Result<Chunk> {
        if !is_artifact_path(path) {
            return Err(Error::invalid(
                "the artifact's name leads outside: give a path that the build has told",
            )
            .with_context("artifact", path.escape_debug()));
        }
        let place = place(job, number, path);
        let mut opened = self.client.download(&place, offset, job).await?;
        // A range beyond the end is an error of the server, not of the one who asks.
        let is_beyond = opened.status() == StatusCode::RANGE_NOT_SATISFIABLE
            || opened.status() == StatusCode::INTERNAL_SERVER_ERROR;
        if offset > 0 && is_beyond {
            drop(opened);
            opened = self.client.download(&place, 0, job).await?;
        }
        let mut skip = match opened.status() {
            StatusCode::OK => offset,
            StatusCode::PARTIAL_CONTENT => 0,
            _ => return Err(self.client.name(opened.complaint(), Some(job))),
        };
        let mut bytes = Vec::new();
        while let Some(piece) = opened.chunk().await? {
            let piece = piece.as_ref();
            let drop = usize::try_from(skip).unwrap_or(usize::MAX).min(piece.len());
            skip -= drop as u64;
            let rest = &piece[drop..];
            if rest.is_empty() {
                continue;
            }
            let room = max - bytes.len();
            bytes.extend_from_slice(&rest[..room.min(rest.len())]);
            if rest.len() > room {
                return Ok(Chunk { bytes, is_last: false });
            }
        }
        Ok(Chunk { bytes, is_last: true })
    }

    /// The error where a build is not known any more.
    pub(crate) fn missing(&self, job: &JobName) -> Error {
        let error = Error::new(ErrorKind::NotFound, "there is no such build any more");
        self.client.name(error, Some(job))
    }
}
