//! HTTP: connections, bytes, and what happens to them. All rules are elsewhere.

use super::{
    answer::Answer,
    faults::{Broken, Effect},
    handle::Inner,
    phases::StartPhase,
    request::Request,
    state::Late,
};
use futures_util::stream;
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::BoxBody};
use hyper::{
    Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    header::{HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// Request line and headers beyond this are refused.
const MOST_HEAD: usize = 8 * 1024;
/// Bodies of requests beyond this are refused by the double, to stay within memory.
const MOST_BODY: usize = 64 * 1024 * 1024;

type Body = BoxBody<Bytes, io::Error>;

/// Accepts connections for as long as the server is there.
pub(super) async fn accept(listener: TcpListener, server: Weak<Inner>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Some(inner) = server.upgrade() else { return };
        if inner.look(|state| state.phase.at(state.now)) == Some(StartPhase::Away) {
            continue;
        }
        let keep_alive = inner.look(|state| state.config.keep_alive);
        inner.traffic.connection();
        let counted = Counted { stream, server: Weak::clone(&server) };
        drop(inner);
        let server = Weak::clone(&server);
        drop(tokio::spawn(connection(counted, server, keep_alive)));
    }
}

async fn connection(stream: Counted, server: Weak<Inner>, keep_alive: Duration) {
    let last = std::sync::Mutex::new(None);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let server = server.upgrade();
        let last = &last;
        async move {
            let gone = || io::Error::from(io::ErrorKind::ConnectionAborted);
            let server = server.ok_or_else(gone)?;
            let now = server.now();
            let since = last.lock().ok().and_then(|mut last: std::sync::MutexGuard<'_, Option<u64>>| last.replace(now));
            // Where a test moves time by hand, the connection is found closed by the request that comes too late.
            if since.is_some_and(|since| now.saturating_sub(since) >= super::build::millis(keep_alive)) {
                return Err(gone());
            }
            serve(&server, request).await
        }
    });
    // How a connection ends is the client's to find out.
    drop(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(keep_alive)
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), service)
            .await,
    );
}

/// What is to be done about a request once the rules have spoken.
enum Reply {
    Answer(Answer),
    Nothing,
    Hang,
    After(Duration, Answer),
}

async fn serve(server: &Arc<Inner>, request: hyper::Request<Incoming>) -> Result<Response<Body>, io::Error> {
    server.traffic.request();
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or_else(|| head.uri.path().to_owned(), ToString::to_string);
    let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let headers: Vec<(String, Vec<u8>)> =
        head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    let host = headers.iter().find(|(name, _)| name == "host");
    let host = host.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    let gzip = headers
        .iter()
        .any(|(name, value)| name == "accept-encoding" && String::from_utf8_lossy(value).contains("gzip"));
    if target.len() + head.method.as_str().len() > MOST_HEAD {
        return Ok(response(Answer::empty(414), false));
    }
    if target.len() + size > MOST_HEAD {
        return Ok(response(Answer::empty(431), false));
    }
    // A request cut within its body ends here, without any effect.
    let body = Limited::new(body, MOST_BODY).collect().await.map_err(|_| reset())?.to_bytes().to_vec();
    let context = server.look(|state| state.config.context.clone());
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let Some(request) = Request::new(head.method.as_str(), &target, &context, headers, body) else {
        let message = serde_json::json!({"message": "Not Found", "url": format!("http://{host}{path}"), "status": "404"});
        return Ok(response(Answer::empty(404).body("application/json", message.to_string()), false));
    };
    if !context.is_empty() && path == context {
        return Ok(response(Answer::to(301, format!("{context}/")), false));
    }
    let reply = decide(server, &request);
    let answer = match reply {
        Reply::Answer(answer) => answer,
        Reply::Nothing => return Err(reset()),
        Reply::Hang => std::future::pending().await,
        Reply::After(wait, answer) => {
            server.clock.sleep(wait).await;
            answer
        }
    };
    server.traffic.answered(&request.method, &request.raw_path, answer.status);
    Ok(response(answer, gzip))
}

/// Lets the request have its effect, or not, and says what comes back.
fn decide(server: &Inner, request: &Request) -> Reply {
    let phase = server.look(|state| (state.phase.at(state.now), state.phase.changes_at(state.now), state.now));
    match phase {
        (Some(StartPhase::Away), ..) => return Reply::Nothing,
        (Some(StartPhase::Silent), Some(until), now) => {
            let wait = Duration::from_millis(until.saturating_sub(now));
            return Reply::After(wait, Answer::unavailable("Starting Jenkins"));
        }
        _ => {}
    }
    let Some(fault) = server.faults().next(request) else { return Reply::Answer(server.answer(request)) };
    let answer = match fault.effect {
        Effect::Done => server.answer(request),
        Effect::None => Answer::empty(500),
        Effect::Late(after) => {
            server.change(|state| {
                let at = state.now.saturating_add(super::build::millis(after));
                state.late.push(Late { at, request: request.clone() });
            });
            Answer::empty(500)
        }
    };
    match &fault.broken {
        Broken::Reset => Reply::Nothing,
        Broken::Silence => Reply::Hang,
        Broken::Slow(by) => Reply::After(*by, answer),
        _ => Reply::Answer(fault.spoil(answer)),
    }
}

fn response(mut answer: Answer, gzip: bool) -> Response<Body> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let compressible = answer.cut_at.is_none() && answer.status == 200 && answer.body.len() > 32;
    if gzip && compressible {
        answer.body = super::artifacts::gzip(&answer.body);
        answer = answer.with("Content-Encoding", "gzip");
    }
    let mut all = vec![("Server", b"Jetty(12.1.8)".to_vec()), ("X-Content-Type-Options", b"nosniff".to_vec())];
    all.append(&mut answer.headers);
    if answer.cut_at.is_some() {
        all.push(("Content-Length", answer.body.len().to_string().into_bytes()));
    }
    for (name, value) in all {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&value)) {
            response.headers_mut().append(name, value);
        }
    }
    let body = Bytes::from(answer.body);
    let body: Body = match answer.cut_at {
        Some(at) => {
            let sent = body.slice(..at.min(body.len()));
            let broken = Err(io::Error::from(io::ErrorKind::ConnectionReset));
            StreamBody::new(stream::iter([Ok(Frame::data(sent)), broken])).boxed()
        }
        None => Full::new(body).map_err(|never| match never {}).boxed(),
    };
    response.map(|()| body)
}

/// A connection whose bytes are counted.
struct Counted {
    stream: TcpStream,
    server: Weak<Inner>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if let Some(server) = self.server.upgrade() {
            server.traffic.received(buffer.filled().len() - before);
        }
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let (Poll::Ready(Ok(written)), Some(server)) = (&polled, self.server.upgrade()) {
            server.traffic.sent(*written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
