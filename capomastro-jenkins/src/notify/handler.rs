//! Receiving messages over HTTP.

use super::{MAX_BODY, Notifications};
use axum::{
    Router,
    body::to_bytes,
    extract::{Path, Request, State},
    http::StatusCode,
    routing::post,
};

impl Notifications {
    /// The handler, to be [nested](Router::nest) into an axum server below any path: `POST …/<secret segment>`. Behind the
    /// address `https://capomastro.example/jenkins` the plugin's endpoint is
    /// `https://capomastro.example/jenkins/<secret segment>`.
    ///
    /// Answers at once: 204 whatever the message says, 404 at any other segment without reading on, 413 beyond 1 MiB. Give
    /// the server a limit on the time for reading a request, as for any other handler; this one sets none.
    pub fn routes(&self) -> Router {
        Router::new().route("/{segment}", post(received)).with_state(self.clone())
    }
}

async fn received(
    State(to): State<Notifications>,
    Path(segment): Path<String>,
    request: Request,
) -> StatusCode {
    if !to.is_segment(&segment) {
        return StatusCode::NOT_FOUND;
    }
    let Ok(body) = to_bytes(request.into_body(), MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE;
    };
    to.receive(&body);
    StatusCode::NO_CONTENT
}
