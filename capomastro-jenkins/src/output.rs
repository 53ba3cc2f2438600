//! Logs and artifacts of builds, in pieces.

use crate::{
    address::JobName,
    artifacts::Digest,
    console::{Cursor, HeadAndTail},
    launcher::{Inner, JenkinsLauncher},
    observe::Ask,
    reference::Reference,
    stand::Stand,
};
use async_trait::async_trait;
use capomastro_core::{
    Error, Result,
    launch::{BuildOutput, Chunk},
    model::{Artifact, ExternalRef},
};
use reqwest::{StatusCode, header::HeaderName};

const MORE: HeaderName = HeaderName::from_static("x-more-data");

/// Where the output of a build is to be had.
enum Place {
    /// It has begun.
    At(JobName, u64),
    /// It waits.
    NotYet,
}

impl Inner {
    async fn place_of(&self, build: &ExternalRef) -> Result<Place> {
        let reference = Reference::parse(build)?;
        let name = reference.job()?;
        if let Some(number) = reference.number {
            return Ok(Place::At(name, number));
        }
        let key = reference.key.to_string();
        let ask = Ask { reference, key };
        let queue = self.client.queue().await?;
        let facts = self.facts_of(&name, &[&ask], &queue).await?;
        let Some(listed) = &facts.listed else { return Err(self.missing(&name)) };
        let stand = self.index(listed, &queue, &[&ask]).stand(&ask.reference, &ask.key);
        match stand {
            Stand::Build(build) => Ok(Place::At(name, build.number)),
            Stand::AskBuild(number) => Ok(Place::At(name, number)),
            Stand::Queued(_) => Ok(Place::NotYet),
            Stand::AskItem(id) => match self.client.item(id).await? {
                Some((item, _)) if item.is_cancelled => Err(self.missing(&name)),
                Some(_) => Ok(Place::NotYet),
                None => Err(self.missing(&name)),
            },
            Stand::Unknown => Err(self.missing(&name)),
        }
    }

    async fn log(&self, build: &ExternalRef, offset: u64, max: usize) -> Result<Chunk> {
        let (name, number) = match self.place_of(build).await? {
            Place::At(name, number) => (name, number),
            Place::NotYet => return Ok(Chunk { bytes: Vec::new(), is_last: false }),
        };
        let reader = format!("{name}#{number}");
        let mut cursor = self.memory.logs.get(&reader).filter(|c| c.given <= offset).unwrap_or_default();
        let number = number.to_string();
        let place =
            name.build(&number, ["logText", "progressiveText"]).with("start", &cursor.start.to_string());
        let mut opened = self.client.download(&place, 0, &name).await?;
        if opened.status() != StatusCode::OK {
            return Err(self.client.name(opened.complaint(), Some(&name)));
        }
        let has_more = opened.header(&MORE).is_some_and(|more| more == "true");
        let mut is_whole = true;
        while let Some(piece) = opened.chunk().await? {
            let wanted = usize::try_from(offset - cursor.given.min(offset)).unwrap_or_default();
            if !cursor.take(piece.as_ref(), wanted.saturating_add(max)) {
                is_whole = false;
                break;
            }
            cursor.skip_to(offset);
        }
        cursor.end_of_answer();
        cursor.skip_to(offset);
        let bytes = if cursor.given == offset { cursor.give(max) } else { Vec::new() };
        let is_last = is_whole && !has_more && cursor.pending.is_empty();
        self.memory.logs.set(reader, cursor, self.client.clock().monotonic());
        Ok(Chunk { bytes, is_last })
    }

    async fn console(&self, build: &ExternalRef, max: usize) -> Result<Vec<u8>> {
        let (name, number) = match self.place_of(build).await? {
            Place::At(name, number) => (name, number),
            Place::NotYet => return Ok(Vec::new()),
        };
        let place = name.build(&number.to_string(), ["consoleText"]);
        let mut opened = self.client.download(&place, 0, &name).await?;
        if opened.status() != StatusCode::OK {
            return Err(self.client.name(opened.complaint(), Some(&name)));
        }
        let (mut plain, mut kept) = (Cursor::default(), HeadAndTail::new(max));
        while let Some(piece) = opened.chunk().await? {
            plain.take(piece.as_ref(), usize::MAX);
            kept.take(&plain.give(usize::MAX));
        }
        Ok(kept.finish())
    }
}

impl JenkinsLauncher {
    /// The whole log of a build as plain text. Of one that is longer than `max` bytes, the beginning and the end are kept,
    /// and between them a line says how much is missing. Empty while the build waits.
    ///
    /// # Errors
    /// [`NotFound`](capomastro_core::ErrorKind::NotFound) if there is no such build any more; when the server cannot be
    /// asked.
    pub async fn console(&self, build: &ExternalRef, max: usize) -> Result<Vec<u8>> {
        self.0.console(build, max).await.map_err(|e| e.with_operation("read log"))
    }

    /// Copies an artifact whole into `into`, as it comes, and returns it with its size and SHA-256 digest. Writing is not
    /// waited for: give a file or memory. After an error, or when the future is dropped, a part may have been written.
    ///
    /// # Errors
    /// [`InvalidInput`](capomastro_core::ErrorKind::InvalidInput) if the name leads outside or the artifact is larger than
    /// [`max_artifact_bytes`](crate::JenkinsLauncherBuilder::max_artifact_bytes); [`NotFound`](capomastro_core::ErrorKind::NotFound) if
    /// there is no such build or artifact; [`StorageFull`](capomastro_core::ErrorKind::StorageFull) if it cannot be written.
    pub async fn copy_artifact(
        &self,
        build: &ExternalRef,
        name: &str,
        into: &mut (dyn std::io::Write + Send),
    ) -> Result<Artifact> {
        let copied = async {
            let (job, number) = match self.0.place_of(build).await? {
                Place::At(job, number) => (job, number),
                Place::NotYet => return Err(self.0.missing(&Reference::parse(build)?.job()?)),
            };
            let (digest, size) = match self.0.copy(&job, number, name, into).await? {
                Digest::Of { digest, size } => (Some(digest), Some(size)),
                Digest::TooLarge => {
                    return Err(Error::invalid(
                        "the artifact is larger than is allowed: raise max_artifact_bytes",
                    ));
                }
                Digest::Gone => return Err(self.0.missing(&job)),
            };
            let location = Some(format!("{}artifact/{name}", job.page(number)));
            Ok(Artifact { name: name.to_owned(), digest, size, location })
        };
        copied.await.map_err(|e| e.with_operation("copy artifact"))
    }
}

#[async_trait]
impl BuildOutput for JenkinsLauncher {
    /// Plain text in UTF-8 with single line ends: without the notes that Jenkins puts into it, colours and other control
    /// characters. Reading on from where the last piece ended is cheap; elsewhere the log is read from its beginning.
    async fn log(&self, build: &ExternalRef, offset: u64, max: usize) -> Result<Chunk> {
        self.0.log(build, offset, max).await.map_err(|e| e.with_operation("read log"))
    }

    async fn artifact(&self, build: &ExternalRef, name: &str, offset: u64, max: usize) -> Result<Chunk> {
        let read = async {
            match self.0.place_of(build).await? {
                Place::At(job, number) => self.0.artifact_piece(&job, number, name, offset, max).await,
                Place::NotYet => Err(self.0.missing(&Reference::parse(build)?.job()?)),
            }
        };
        read.await.map_err(|e| e.with_operation("read artifact"))
    }
}
