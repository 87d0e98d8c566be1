//! Reload on SIGHUP: reads configuration, API keys, tokens and certificate again.
//!
//! A file that cannot be used changes nothing; the log and the status report it. Some settings are
//! in force at once, and the log names changed settings that need a restart. Revisions change by
//! `rostro pipeline`, not by a reload.

use std::sync::{Arc, Mutex, PoisonError};

use rostro_api::Scopes;
use rostro_api::admin::Operator;
use rostro_api::auth::secrets::SecretsFile;
use rostro_api::server::tls::Tls;
use rostro_common::text::sanitize;
use rostro_database::NodeSettings;
use rostro_service::Service;
use rostro_service::deployment::Deployment;
use rostro_service::executor::Executor;

use super::signals::SignalStream;
use crate::config::fleet::set_review;
use crate::config::{Config, ConfigError, ServeArgs, Source};

pub(crate) use rostro_api::admin::reload::ReloadStatus;

/// Everything that a reload reads, and the parts that it changes.
#[derive(Debug)]
pub(crate) struct Reload {
    pub source: Source,
    /// The settings in force.
    pub in_force: Mutex<ServeArgs>,
    pub keys: Option<SecretsFile<Scopes>>,
    pub tokens: Option<SecretsFile<Operator>>,
    pub tls: Option<Tls>,
    pub service: Arc<Service>,
    pub executor: Executor,
    /// Settings of this node, which others compare.
    pub settings: NodeSettings,
    pub deployment: Arc<Deployment>,
    /// Result of the last reload, for the admin interface.
    pub status: ReloadStatus,
}

impl Reload {
    /// Reads everything again, and records the failures.
    pub(crate) fn reload(&self) {
        let mut failures = Vec::new();
        match self.deployment.audit().reopen() {
            Ok(()) => tracing::info!("audit log opened again"),
            Err(error) => failures.push(format!(
                "the audit log cannot be written: {error}; the next line tries again"
            )),
        }
        if let Err(error) = self.configuration() {
            // The error quotes the file, which may hold any bytes.
            failures.push(format!(
                "the configuration stays as it was: {}",
                cut(&sanitize(&error.to_string()))
            ));
        }
        match self.keys.as_ref().map(SecretsFile::reload) {
            Some(Ok(keys)) => {
                tracing::info!(keys, "API keys read again");
                // Clients connect again, and their keys are checked again.
                self.service.end_subscriptions();
            }
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
            .apply_reloadable(args);
        self.service.set_review(review);
        set_review(&self.settings, review);
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

/// Reloads on each SIGHUP.
pub(super) async fn reload_on_hangup(mut hangups: SignalStream, reload: Arc<Reload>) {
    loop {
        hangups.next().await;
        let status = reload.status.clone();
        let reload = Arc::clone(&reload);
        // A panic in one reload is a bug, and must not end the later ones.
        if let Err(error) = tokio::task::spawn_blocking(move || reload.reload()).await {
            let failure = format!("cannot finish the reload: {error}");
            tracing::error!("{failure}");
            status.record(vec![failure]);
        }
    }
}

/// Returns the first 500 characters: the message may quote a long line.
fn cut(message: &str) -> String {
    message.chars().take(500).collect()
}
