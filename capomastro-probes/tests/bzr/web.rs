//! A web server that shows files, and can misbehave.

use http_body_util::Full;
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::net::TcpListener;

/// A request as the server got it.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    /// With the query, if there is one.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
}

/// How a request is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
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
    hanging: Arc<AtomicUsize>,
}

/// A request that is not answered, as long as its client waits.
struct Hanging(Arc<AtomicUsize>);

impl Hanging {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Web {
    pub(crate) async fn serve(
        root: PathBuf,
        decide: impl Fn(&Got) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let hanging: Arc<AtomicUsize> = Arc::default();
        let web = Self { port, got: Arc::clone(&got), hanging: Arc::clone(&hanging) };
        let shared = Arc::new((root, decide));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, got, hanging) = (Arc::clone(&shared), Arc::clone(&got), Arc::clone(&hanging));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (shared, got, hanging) =
                        (Arc::clone(&shared), Arc::clone(&got), Arc::clone(&hanging));
                    async move {
                        let path = request.uri().to_string();
                        let this = Got { path, headers: request.headers().clone() };
                        let answer = (shared.1)(&this);
                        got.lock().unwrap().push(this.clone());
                        Ok::<_, Infallible>(match answer {
                            Answer::File => file(&shared.0, &this.path),
                            Answer::Say(status, headers, body) => say(status, &headers, body),
                            Answer::Hang => {
                                let _hanging = Hanging::new(&hanging);
                                std::future::pending().await
                            }
                        })
                    }
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

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// How many clients wait for an answer that never comes.
    pub(crate) fn hanging(&self) -> usize {
        self.hanging.load(Ordering::SeqCst)
    }

    /// All requests so far.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }
}

fn file(root: &Path, path: &str) -> Response<Full<Bytes>> {
    let path = percent_decode_str(path.trim_start_matches('/')).decode_utf8().expect("UTF-8");
    match std::fs::read(root.join(&*path)) {
        Ok(bytes) => say(200, &[("content-type", "application/octet-stream".into())], bytes),
        Err(_) => say(404, &[("content-type", "text/html".into())], b"<html>no".into()),
    }
}

fn say(status: u16, headers: &[(&'static str, String)], body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, value);
    }
    response.body(Full::new(body.into())).expect("a response")
}
