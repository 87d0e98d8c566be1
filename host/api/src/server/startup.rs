//! What is answered before the service can answer: requests wait until it can, and whoever asks for
//! its health is told.

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

/// The way to an application that there is not yet.
#[derive(Clone, Debug)]
pub struct StartupGate(Arc<SetOnce<Router>>);

impl StartupGate {
    /// One that is closed.
    pub fn new() -> Self {
        Self(Arc::new(SetOnce::new()))
    }

    /// Lets requests in, those that wait and all after them.
    pub fn open(&self, app: Router) {
        // It is opened once.
        let _ = self.0.set(app);
    }

    /// The gate as an application; a request waits before it for at most `patience`, and not once
    /// the service stops.
    pub fn router(&self, patience: Duration, shutdown: Shutdown) -> Router {
        let before = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(starting))
            .fallback(starting)
            .layer(from_fn_with_state(None, observe));
        let way = GateState {
            gate: self.clone(),
            before,
            patience,
            shutdown,
        };
        Router::new().fallback(enter).with_state(way)
    }
}

#[derive(Clone)]
struct GateState {
    gate: StartupGate,
    before: Router,
    patience: Duration,
    shutdown: Shutdown,
}

async fn enter(State(mut way): State<GateState>, request: Request) -> Response {
    let is_of_health = matches!(request.uri().path(), "/healthz" | "/readyz");
    let wait = if is_of_health {
        Duration::ZERO
    } else {
        way.patience
    };
    let app = match way.gate.0.get() {
        Some(app) => Some(app),
        None => tokio::select! {
            opened = tokio::time::timeout(wait, way.gate.0.wait()) => opened.ok(),
            () = way.shutdown.begun() => None,
        },
    };
    let mut app = app.cloned();
    let Ok(response) = app.as_mut().unwrap_or(&mut way.before).call(request).await;
    response
}

async fn starting() -> ApiError {
    ApiError::later("starting", "The service is starting. Try again later.")
}
