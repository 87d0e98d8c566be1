//! What changes while the service runs: on SIGHUP configuration, API keys, tokens and certificate
//! are read again.
//!
//! What cannot be used changes nothing, and the log says so. A part of the configuration is in
//! force at once; of the rest the log says that it takes a restart, and what serves is changed by
//! `rostro pipeline`.

use std::sync::{Arc, Mutex, PoisonError};

use rostro_api::Scopes;
use rostro_api::admin::Operator;
use rostro_api::auth::secrets::SecretsFile;
use rostro_api::server::tls::Tls;
use rostro_common::text::sanitize;
use rostro_service::Service;
use rostro_service::deployment::Deployment;
use rostro_service::executor::Executor;

use crate::config::{Config, ConfigError, ServeArgs, Source};

pub(crate) use rostro_api::admin::reload::ReloadStatus;

/// What is read again, and from where.
#[derive(Debug)]
pub(crate) struct Reload {
    pub source: Source,
    /// What was read last, as far as it is in force.
    pub in_force: Mutex<ServeArgs>,
    pub keys: Option<SecretsFile<Scopes>>,
    pub tokens: Option<SecretsFile<Operator>>,
    pub tls: Option<Tls>,
    pub service: Arc<Service>,
    pub executor: Executor,
    pub deployment: Arc<Deployment>,
    /// Where it is recorded how it went.
    pub status: ReloadStatus,
}

impl Reload {
    /// Reads everything again, and records how that went.
    pub(crate) fn reload(&self) {
        let mut failures = Vec::new();
        match self.deployment.audit().reopen() {
            Ok(()) => tracing::info!("audit log opened again"),
            Err(error) => failures.push(format!(
                "the audit log cannot be written: {error}; the next line tries again"
            )),
        }
        if let Err(error) = self.configuration() {
            // It quotes the file, which may be any.
            failures.push(format!(
                "the configuration stays as it was: {}",
                cut(&sanitize(&error.to_string()))
            ));
        }
        match self.keys.as_ref().map(SecretsFile::reload) {
            Some(Ok(keys)) => tracing::info!(keys, "API keys read again"),
            Some(Err(error)) => failures.push(format!("the API keys stay as they were: {error}")),
            None => {}
        }
        match self.tokens.as_ref().map(SecretsFile::reload) {
            Some(Ok(tokens)) => tracing::info!(tokens, "tokens read again"),
            Some(Err(error)) => failures.push(format!("the tokens stay as they were: {error}")),
            None => {}
        }
        match self.tls.as_ref().map(Tls::reload) {
            Some(Ok(())) => tracing::info!("certificate read again"),
            Some(Err(error)) => failures.push(format!("the certificate stays as it was: {error}")),
            None => {}
        }
        for failure in &failures {
            tracing::error!("{failure}");
        }
        self.status.record(failures);
    }

    fn configuration(&self) -> Result<(), ConfigError> {
        let args = self.source.read()?;
        let Config {
            review,
            queue,
            deadline,
            breaker,
            ..
        } = args.clone().validate()?;
        let (now, later) = self
            .in_force
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_up(args);
        self.service.set_review(review);
        self.executor.set_bounds(queue, deadline);
        self.deployment.set_breaker(breaker);
        let changed = if now.is_empty() {
            "nothing".to_owned()
        } else {
            now.join(", ")
        };
        tracing::info!(changed, "configuration read again");
        if !later.is_empty() {
            tracing::warn!(
                "changed in the configuration, and in force from a restart on: {}",
                later.join(", ")
            );
        }
        Ok(())
    }
}

/// The begin of a message, which is as long as any line that is of use.
fn cut(message: &str) -> String {
    message.chars().take(500).collect()
}
