//! The part of a forge: a repository, and a request that says that somebody pushed to it.

use capomastro_core::{
    Error, Result,
    time::{Clock, SystemClock},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A real git repository.
#[derive(Debug)]
pub(crate) struct Repository {
    path: PathBuf,
}

impl Repository {
    pub(crate) fn new(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::transient)?;
        let repository = Self { path: path.canonicalize().map_err(Error::transient)? };
        repository.git(&["init", "--quiet", "--initial-branch=main"])?;
        Ok(repository)
    }

    pub(crate) fn url(&self) -> String {
        self.path.display().to_string()
    }

    /// Commits to `main`; the commit.
    pub(crate) fn commit(&self) -> Result<String> {
        self.git(&["commit", "--quiet", "--allow-empty", "--message=work"])?;
        self.git(&["rev-parse", "HEAD"])
    }

    fn git(&self, args: &[&str]) -> Result<String> {
        let output = Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"])
            .args(args)
            .current_dir(&self.path)
            .output()
            .map_err(Error::transient)?;
        if !output.status.success() {
            return Err(Error::internal(String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// Tells of pushes.
#[derive(Debug)]
pub(crate) struct Sender {
    to: SocketAddr,
    source: String,
}

impl Sender {
    pub(crate) const fn new(to: SocketAddr, source: String) -> Self {
        Self { to, source }
    }

    /// Says that somebody pushed to a ref, signed with this secret; the status that comes back.
    pub(crate) async fn push(&self, name: &str, secret: &str) -> Result<u16> {
        let body = serde_json::json!({"source": self.source, "ref": name}).to_string();
        let time = SystemClock.now().timestamp().to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .map_err(|e| Error::internal("a secret is no key").with_source(e))?;
        mac.update(format!("{time}.{body}").as_bytes());
        let signature: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
        let request = format!(
            "POST /hooks/generic HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nX-Capomastro-Timestamp: {time}\r\nX-Capomastro-Signature: sha256={signature}\r\n\r\n{body}",
            self.to,
            body.len(),
        );
        let mut connection = TcpStream::connect(self.to).await.map_err(Error::transient)?;
        connection.write_all(request.as_bytes()).await.map_err(Error::transient)?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.map_err(Error::transient)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.ok_or_else(|| Error::internal("the answer is none of HTTP"))
    }
}
