//! Receiving hooks over HTTP.

use super::{FindHeader, Headers, Received, Webhooks, counted};
use axum::{
    Router,
    body::to_bytes,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::future::{Either, select};
use std::{pin::pin, time::Duration};

/// How long a body may take.
const MAX_READING: Duration = Duration::from_secs(10);
/// When somebody who was turned away may come again, in seconds.
const COME_AGAIN: &str = "10";

impl Webhooks {
    /// The handler, to be [nested](Router::nest) into an axum server below any path: `POST …/github` and so on.
    ///
    /// Answers at once, before anything is looked at. A request without a signature is answered without reading its body;
    /// at most 16 bodies are read at a time, for at most 10 seconds each.
    pub fn routes(&self) -> Router {
        Router::new().route("/{segment}", post(received)).with_state(self.clone())
    }
}

async fn received(State(to): State<Webhooks>, Path(segment): Path<String>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let headers = Headers::new(&parts.headers);
    if let Some(refused) = to.refused_unread(&segment, headers) {
        return answer(counted(refused));
    }
    let Ok(_permit) = to.shared.readers.try_acquire() else { return answer(counted(Received::Full)) };
    let too_late = to.shared.clock.sleep(MAX_READING);
    let body = match select(pin!(to_bytes(body, to.shared.max_body)), too_late).await {
        Either::Left((Ok(body), _)) => body,
        Either::Left((Err(_), _)) => return answer(counted(Received::TooLong)),
        Either::Right(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    answer(to.receive(&segment, headers, &body))
}

impl FindHeader for HeaderMap {
    fn find(&self, name: &str) -> Option<&str> {
        let mut values = self.get_all(name).iter();
        let first = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(first)
    }
}

fn answer(received: Received) -> Response {
    let status = StatusCode::from_u16(received.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    match received {
        Received::Full => {
            (status, plain, [(header::RETRY_AFTER, COME_AGAIN)], received.text()).into_response()
        }
        _ => (status, plain, received.text()).into_response(),
    }
}
