//! Artifacts: how they are listed and how they are fetched.

use super::{
    answer::{Answer, HTML, html},
    request::Request,
    state::State,
};
use std::{io::Write, sync::Arc};

/// A file that a build leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    pub(super) path: String,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File(Arc<[u8]>),
    /// Listed, and answered with 404.
    Symlink,
    /// Answered with a redirect.
    Elsewhere(String),
    /// The connection breaks after this many bytes.
    Cut(Arc<[u8]>, usize),
}

impl Artifact {
    /// A file at a path below the artifacts' folder, with `/` between names.
    pub fn file(path: impl Into<String>, content: impl AsRef<[u8]>) -> Self {
        Self { path: path.into(), kind: Kind::File(content.as_ref().into()) }
    }

    /// A symbolic link, which is listed and cannot be fetched.
    pub fn symlink(path: impl Into<String>) -> Self {
        Self { path: path.into(), kind: Kind::Symlink }
    }

    /// A file that is kept elsewhere: asking for it redirects to `url`. Not seen live.
    ///
    /// `Jenkins::keep_elsewhere` of another server is such a place.
    pub fn elsewhere(path: impl Into<String>, url: impl Into<String>) -> Self {
        Self { path: path.into(), kind: Kind::Elsewhere(url.into()) }
    }

    /// A file whose download breaks after `bytes`. Not seen live.
    pub fn cut_after(path: impl Into<String>, content: impl AsRef<[u8]>, bytes: usize) -> Self {
        Self { path: path.into(), kind: Kind::Cut(content.as_ref().into(), bytes) }
    }

    /// Its last name, which need not be unique.
    pub(super) fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// The shortest trailing parts of each path that tell them apart.
pub(super) fn display_paths(all: &[Artifact]) -> Vec<String> {
    let short = |path: &str| path.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    all.iter()
        .map(|artifact| {
            let name = short(&artifact.path);
            let unique = all.iter().filter(|other| short(&other.path) == name).count() == 1;
            if unique { name } else { artifact.path.clone() }
        })
        .collect()
}

/// All files were written at this moment.
const WRITTEN: &str = "Sun, 22 Nov 2026 19:04:32 GMT";

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("txt" | "log") => "text/plain",
        Some("html") => HTML,
        Some("json") => "application/json",
        Some("xml") => "application/xml",
        _ => "application/octet-stream",
    }
}

/// Answers `…/artifact/<path>`; `above` is the URL path of the build, for redirects.
pub(super) fn fetch(
    state: &mut State,
    request: &Request,
    title: &str,
    all: &[Artifact],
    path: &[&str],
) -> Answer {
    if path.contains(&"..") {
        return Answer::oops(state);
    }
    let joined = path.join("/");
    if let Some(artifact) = all.iter().find(|artifact| artifact.path == joined) {
        return one(state, request, artifact);
    }
    if path.first() == Some(&"*zip*") {
        return Answer::empty(200).body("application/zip", zip(all));
    }
    match path {
        [.., "*fingerprint*" | "*view*"] => return Answer::page(state, 200, "Jenkins", &joined),
        [folder @ .., "*plain*"] => {
            let names = names_in(all, &folder.join("/"));
            return Answer::text(names.iter().map(|name| format!("{name}\n")).collect::<String>());
        }
        _ => {}
    }
    let globs = path.iter().any(|segment| segment.contains(['*', '?']));
    let folder =
        joined.is_empty() || all.iter().any(|artifact| artifact.path.starts_with(&format!("{joined}/")));
    match (globs, folder) {
        (false, false) => Answer::not_found(state),
        (false, true) if !request.trailing_slash => {
            Answer::to(302, format!("{}{}/", state.origin_of(request), request.raw_path))
        }
        _ => Answer::page(state, 200, &format!("Artifacts of {title} : /{joined} - Jenkins"), "Artifacts"),
    }
}

fn names_in(all: &[Artifact], folder: &str) -> Vec<String> {
    let below = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let mut names: Vec<String> = all
        .iter()
        .filter_map(|artifact| artifact.path.strip_prefix(&below))
        .map(|rest| rest.split_once('/').map_or_else(|| rest.to_owned(), |(first, _)| format!("{first}/")))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn one(state: &mut State, request: &Request, artifact: &Artifact) -> Answer {
    let (content, cut) = match &artifact.kind {
        Kind::File(content) => (content, None),
        Kind::Cut(content, at) => (content, Some(*at)),
        Kind::Symlink => return Answer::not_found(state),
        Kind::Elsewhere(url) => return Answer::to(302, url),
    };
    if request.header("if-modified-since").as_deref() == Some(WRITTEN) {
        return Answer::empty(304);
    }
    let described =
        |status: u16| Answer::empty(status).with("Last-Modified", WRITTEN).with("Accept-Ranges", "bytes");
    let kind = media_type(artifact.file_name());
    if let Some(range) =
        request.header("range").and_then(|range| range.strip_prefix("bytes=").map(str::to_owned))
    {
        let length = content.len();
        let last = length.saturating_sub(1);
        let (from, to) = range.split_once('-').unwrap_or((&range, ""));
        let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
            (Ok(from), Ok(to)) => (from, to.min(last)),
            (Ok(from), Err(_)) => (from, last),
            (Err(_), Ok(suffix)) => (length.saturating_sub(suffix), last),
            (Err(_), Err(_)) => (0, last),
        };
        let said = format!("bytes {from}-{to}/{length}");
        if from > to {
            // An exception, in the middle of an answer that was begun.
            let page = Answer::oops(state);
            let mut answer = described(500).with("Content-Range", said);
            answer.headers.extend(page.headers.into_iter().filter(|(name, _)| *name != "Cache-Control"));
            answer.body = html("Jenkins - Jenkins", "Oops!").into_bytes();
            return answer;
        }
        return described(206).with("Content-Range", said).body(kind, &content[from..=to]);
    }
    let mut answer = described(200).body(kind, &content[..]);
    answer.cut_at = cut;
    answer
}

/// A zip archive whose entries are stored as they are.
fn zip(all: &[Artifact]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    let mut entries = 0_u16;
    for artifact in all {
        let Kind::File(content) = &artifact.kind else { continue };
        let name = format!("archive/{}", artifact.path.replace('\\', "/"));
        let mut crc = flate2::Crc::new();
        crc.update(content);
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name_size = u16::try_from(name.len()).unwrap_or(u16::MAX);
        let offset = u32::try_from(out.len()).unwrap_or(u32::MAX);
        let mut common = Vec::new();
        // Version 2.0, names in UTF-8, stored, no time.
        common.extend([20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0]);
        common.extend(crc.sum().to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend(size.to_le_bytes());
        common.extend(name_size.to_le_bytes());
        common.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(&content[..]);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
        entries += 1;
    }
    let start = u32::try_from(out.len()).unwrap_or(u32::MAX);
    let size = u32::try_from(directory.len()).unwrap_or(u32::MAX);
    out.append(&mut directory);
    out.extend(b"PK\x05\x06\x00\x00\x00\x00");
    out.extend(entries.to_le_bytes());
    out.extend(entries.to_le_bytes());
    out.extend(size.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// Compresses as the container does for who accepts it.
pub(super) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing into a vector cannot fail.
    let written = encoder.write_all(body);
    debug_assert!(written.is_ok());
    encoder.finish().unwrap_or_default()
}
