//! A web server in front of `git http-backend`, which can also misbehave.

use super::repo;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{io::AsyncWriteExt, net::TcpListener};

/// A request as the server got it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// By `git http-backend`.
    Git,
    /// By `git http-backend`, as if it knew nothing but version 0 of the protocol.
    OldGit,
    /// With the file of that path.
    File,
    /// With this.
    Say(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Never.
    Hang,
}

pub(crate) struct Web {
    pub(crate) port: u16,
    got: Arc<Mutex<Vec<Got>>>,
    hung_up: Arc<AtomicUsize>,
}

impl Web {
    pub(crate) async fn serve(
        root: PathBuf,
        decide: impl Fn(&Got) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let hung_up: Arc<AtomicUsize> = Arc::default();
        let web = Self { port, got: Arc::clone(&got), hung_up: Arc::clone(&hung_up) };
        let decide = Arc::new(decide);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (root, decide) = (root.clone(), Arc::clone(&decide));
                let (got, hung_up) = (Arc::clone(&got), Arc::clone(&hung_up));
                let service = service_fn(move |request| {
                    let (root, decide) = (root.clone(), Arc::clone(&decide));
                    let (got, hung_up) = (Arc::clone(&got), Arc::clone(&hung_up));
                    async move { Ok::<_, Infallible>(respond(request, &root, &*decide, &got, &hung_up).await) }
                });
                tokio::spawn(async move {
                    // A client that hangs up is no failure of the server.
                    let served = hyper::server::conn::http1::Builder::new();
                    drop(served.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        web
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/a.git", self.port)
    }

    /// All requests so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    /// How many clients hung up before they were answered.
    pub(crate) fn hung_up(&self) -> usize {
        self.hung_up.load(Ordering::SeqCst)
    }
}

async fn respond(
    request: Request<Incoming>,
    root: &Path,
    decide: &(dyn Fn(&Got) -> Answer + Send + Sync),
    got: &Mutex<Vec<Got>>,
    hung_up: &Arc<AtomicUsize>,
) -> Response<Full<Bytes>> {
    struct Count(Arc<AtomicUsize>);
    impl Drop for Count {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let path = request.uri().path_and_query().expect("a path").as_str().to_owned();
    let method = request.method().to_string();
    let this = Got { method, path, headers: request.headers().clone() };
    let answer = decide(&this);
    got.lock().unwrap().push(this.clone());
    let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    match answer {
        Answer::Git => backend(root, &this, &body, true).await,
        Answer::OldGit => backend(root, &this, &body, false).await,
        Answer::File => {
            let path = this.path.split('?').next().expect("a path").trim_start_matches('/');
            match std::fs::read(root.join(path)) {
                Ok(bytes) => say(200, &[("content-type", "text/plain".into())], bytes),
                Err(_) => say(404, &[], Vec::new()),
            }
        }
        Answer::Say(status, headers, body) => say(status, &headers, body),
        Answer::Hang => {
            let _count = Count(Arc::clone(hung_up));
            std::future::pending().await
        }
    }
}

fn say(status: u16, headers: &[(&'static str, String)], body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Full::new(body.into())).expect("a response")
}

/// Runs the CGI program of git, <https://git-scm.com/docs/git-http-backend>.
async fn backend(root: &Path, got: &Got, body: &[u8], version_2: bool) -> Response<Full<Bytes>> {
    let (path, query) = got.path.split_once('?').unwrap_or((&got.path, ""));
    let header = |name: &str| got.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let mut command = tokio::process::Command::new("git");
    command
        .arg("http-backend")
        .env_clear()
        .envs(repo::env())
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &got.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    if version_2 {
        command.env("GIT_PROTOCOL", header("git-protocol"));
    }
    let mut child = command.spawn().expect("git http-backend runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that does not read its input may have ended before.
    drop(stdin.write_all(body).await);
    drop(stdin);
    let output = child.wait_with_output().await.expect("git http-backend ends").stdout;
    let end = output.windows(4).position(|w| w == b"\r\n\r\n").expect("headers end");
    let mut response = Response::builder();
    for line in str::from_utf8(&output[..end]).expect("headers are text").split("\r\n") {
        let (name, value) = line.split_once(": ").expect("a header");
        response = if name == "Status" {
            response.status(value.split(' ').next().expect("a number"))
        } else {
            response.header(name, value)
        };
    }
    response.body(Full::new(output[end + 4..].to_vec().into())).expect("a response")
}
