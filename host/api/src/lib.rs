//! HTTP interface of Rostro: the service's port and the admin port.
//!
//! A request passes these modules in order; a frame, for example, goes from the handler in
//! `public::recognize` through `request::frame` to `Service::recognize`, and back as an answer.
//!
//! - `server`: connections, TLS, and the gate that holds requests while the service starts
//! - `router`: routes of the service's port with their layers, and the OpenAPI document
//! - `auth`: API keys of callers, tokens of operators, and the files with both
//! - `request`: request id and log line, caller, parameters, and bodies within bounds
//! - `public`: handlers of the service's port, and the pages to try them
//! - `admin`: handlers of the admin port
//! - `state`: state that the public handlers share
//! - `error`: the error of every route, with its status and stable code
//! - `metrics`: counts and times of requests
//!
//! Arrows: rostro → api → {service, common}. No decision about faces is made here, and this crate
//! imports neither the sandbox nor the stores.

pub mod admin;
pub mod auth;
mod error;
pub mod metrics;
mod public;
pub mod request;
mod router;
pub mod server;
mod state;

pub use auth::api_keys::{ApiKeyAuth, Scopes};
pub use request::browser::{AllowedOrigin, BrowserAccess, Origin};
pub use request::caller::{Caller, Network, TrustedProxies};
pub use router::{app, document};
pub use server::startup::StartupGate;
pub use state::BodyLimits;
