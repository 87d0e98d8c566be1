//! Gate that holds requests while the service starts. Health routes answer meanwhile.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::get;
use tokio::sync::SetOnce;
use tower::Service;

use rostro_common::shutdown::Shutdown;

use crate::error::ApiError;
use crate::public::health::healthz;
use crate::request::trace::observe;

/// Gate to an application that is set later, closed until then. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct StartupGate(Arc<SetOnce<Router>>);

impl StartupGate {
    /// Opens the gate for waiting and later requests.
    pub fn open(&self, app: Router) {
        // A second call has no effect.
        let _ = self.0.set(app);
    }

    /// Returns the gate as an application. Requests wait for at most `max_wait`, and no longer than
    /// until the service stops.
    pub fn router(&self, max_wait: Duration, shutdown: Shutdown) -> Router {
        let starting_app = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(starting))
            .fallback(starting)
            .layer(from_fn_with_state(None, observe));
        let state = GateState {
            gate: self.clone(),
            starting_app,
            max_wait,
            shutdown,
        };
        Router::new().fallback(enter).with_state(state)
    }
}

#[derive(Clone)]
struct GateState {
    gate: StartupGate,
    /// Routes while the gate is closed.
    starting_app: Router,
    max_wait: Duration,
    shutdown: Shutdown,
}

async fn enter(State(mut state): State<GateState>, request: Request) -> Response {
    let is_health_route = matches!(request.uri().path(), "/healthz" | "/readyz");
    let wait = if is_health_route {
        Duration::ZERO
    } else {
        state.max_wait
    };
    let app = match state.gate.0.get() {
        Some(app) => Some(app),
        None => tokio::select! {
            opened = tokio::time::timeout(wait, state.gate.0.wait()) => opened.ok(),
            () = state.shutdown.begun() => None,
        },
    };
    let mut app = app.cloned();
    let Ok(response) = app
        .as_mut()
        .unwrap_or(&mut state.starting_app)
        .call(request)
        .await;
    response
}

async fn starting() -> ApiError {
    ApiError::retry_later("starting", "The service is starting. Try again later.")
}
