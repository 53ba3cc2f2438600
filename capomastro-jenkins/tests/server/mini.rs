//! A server over real HTTP whose answers are what a test says.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{HeaderName, HeaderValue, Response},
};
use capomastro_core::secret::{FixedSecrets, Secrets};
use capomastro_jenkins::{Credentials, JenkinsLauncher};
use std::{
    future::Future,
    sync::{Arc, Mutex},
};

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) method: String,
    /// Path and query, still encoded.
    pub(crate) target: String,
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Method and path, without the query.
    pub(crate) fn what(&self) -> String {
        format!("{} {}", self.method, self.target.split('?').next().unwrap())
    }

    /// The fields of a form.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }
}

pub(crate) type Answer = Response<Body>;

/// An answer of Jenkins' own.
pub(crate) fn answer(status: u16, headers: &[(&str, &[u8])], body: impl Into<Body>) -> Answer {
    let mut answer = Response::builder().status(status).body(body.into()).unwrap();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        answer.headers_mut().append(name, HeaderValue::from_bytes(value).unwrap());
    }
    answer
}

/// The page for 404, and with it most others.
pub(crate) fn page(status: u16) -> Answer {
    let headers: [(&str, &[u8]); 2] =
        [("X-Jenkins", b"2.568.2"), ("Content-Type", b"text/html;charset=utf-8")];
    answer(status, &headers, "<html>Jenkins</html>")
}

pub(crate) fn json(value: &serde_json::Value) -> Answer {
    let headers: [(&str, &[u8]); 2] = [("X-Jenkins", b"2.568.2"), ("X-Jenkins-Session", b"4dda74ac")];
    answer(200, &headers, value.to_string())
}

/// A running server, and all that it was asked.
pub(crate) struct Mini {
    pub(crate) url: String,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Mini {
    /// Serves below a context path until the test ends.
    pub(crate) async fn serve<F, R>(decide: F) -> Self
    where
        F: Fn(Got) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Answer> + Send + 'static,
    {
        let got = Arc::new(Mutex::new(Vec::new()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ctx/", listener.local_addr().unwrap());
        let seen = Arc::clone(&got);
        let app = Router::new().fallback(move |request: Request| {
            let (seen, decide) = (Arc::clone(&seen), decide.clone());
            async move {
                let (parts, body) = request.into_parts();
                let target = parts.uri.to_string();
                let one = Got {
                    method: parts.method.to_string(),
                    target: target.strip_prefix("/ctx").expect("below the context path").to_owned(),
                    content_type: parts
                        .headers
                        .get("content-type")
                        .map(|v| v.to_str().unwrap().to_owned())
                        .unwrap_or_default(),
                    body: axum::body::to_bytes(body, usize::MAX).await.unwrap(),
                };
                seen.lock().unwrap().push(one.clone());
                decide(one).await
            }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, got }
    }

    pub(crate) fn server(&self) -> JenkinsLauncher {
        let secrets = Secrets::new(Arc::new(FixedSecrets::default().with("token", "hunter2hunter2")));
        JenkinsLauncher::builder(&self.url)
            .credentials(Credentials::token("capo", "token"), secrets)
            .build()
            .unwrap()
    }

    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub(crate) fn whats(&self) -> Vec<String> {
        self.got().iter().map(Got::what).collect()
    }
}
