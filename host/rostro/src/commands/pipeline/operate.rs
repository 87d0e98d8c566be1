//! Commands that use a running service's admin interface.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Agent;

use rostro_api::admin::ChangeAnswer;
use rostro_common::digest::Sha256Digest;
use rostro_common::fs::read_at_most;
use rostro_common::text::sanitize;
use rostro_sandbox::limits::MAX_COMPONENT_BYTES;
use rostro_service::deployment::{RevisionState, RevisionStatus, Statuses};

use super::{PipelineCommand, ServiceArgs, table};
use crate::commands::client::{ClientError, Credentials, explain};
use crate::terminal::say;

/// Timeout of a connection, and of the answer to a small request.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Timeout of an upload, which is the service's own.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(330);

/// Interval of polling for a staged revision.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Error of a request to the admin interface.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperateError {
    /// A file cannot be read.
    #[error("cannot read {file}: {cause}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The cause.
        cause: io::Error,
    },
    /// The token or the certificates cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The service rejects the token, or requires one.
    #[error("refused: {message}; {remedy}")]
    Unauthorized {
        /// The service's message.
        message: String,
        /// The remedy.
        remedy: String,
    },
    /// The admin interface cannot be reached.
    #[error(
        "cannot reach the admin interface at {admin}: {cause}; pass the address that `rostro serve` logs at its start with --admin"
    )]
    Unreachable {
        /// Its address.
        admin: String,
        /// The cause.
        cause: String,
    },
    /// The service refuses.
    #[error("refused: {message}")]
    Refused {
        /// The cause.
        message: String,
    },
    /// The service is busy.
    #[error("the service is busy: {message}")]
    Busy {
        /// The service's message.
        message: String,
    },
    /// The server at the address is not an admin interface.
    #[error("the server at {admin} is not an admin interface of rostro: {cause}")]
    Other {
        /// Its address.
        admin: String,
        /// The unexpected part of its answer.
        cause: String,
    },
    /// Staging of a pushed revision failed.
    #[error("the revision {revision} failed: {reason}")]
    Failed {
        /// The revision.
        revision: String,
        /// The cause.
        reason: String,
    },
    /// Staging takes longer than the command waits.
    #[error(
        "the revision {revision} is still being staged after {seconds} s; `rostro pipeline list` shows its state"
    )]
    Slow {
        /// The revision.
        revision: String,
        /// Seconds that the command waited.
        seconds: u64,
    },
}

/// Limits and settings of a revision's own.
struct OwnValues<'a> {
    limits: &'a [String],
    settings: BTreeMap<String, String>,
}

/// Pushed revision as `--json` prints it.
#[derive(Serialize)]
struct PushedRevision<'a> {
    #[serde(flatten)]
    revision: &'a RevisionStatus,
    /// False if the service had it before.
    changed: bool,
}

/// Runs a command on a running service.
pub(super) fn run(command: PipelineCommand) -> Result<(), OperateError> {
    match command {
        // Commands without a service.
        PipelineCommand::New(_)
        | PipelineCommand::Check { .. }
        | PipelineCommand::Try(_)
        | PipelineCommand::Diff(_)
        | PipelineCommand::Bench(_) => Ok(()),
        PipelineCommand::Push {
            file,
            pack,
            policy_only,
            limits,
            settings,
            enrol,
            activate,
            allow_contract_change,
            timeout,
            service,
        } => {
            let client = AdminClient::new(&service)?;
            let own = OwnValues {
                limits: &limits,
                settings: settings.into_iter().collect(),
            };
            let answer = client.push(&file, pack.as_deref(), (policy_only, enrol), &own)?;
            client.finish_staging(answer, timeout, activate.then_some(allow_contract_change))
        }
        PipelineCommand::Configure {
            revision,
            settings,
            unset,
            activate,
            timeout,
            service,
        } => {
            let client = AdminClient::new(&service)?;
            let settings = settings.into_iter().collect();
            let answer = client.configure(&revision, &settings, &unset)?;
            client.finish_staging(answer, timeout, activate.then_some(false))
        }
        PipelineCommand::List { service } => {
            let client = AdminClient::new(&service)?;
            let statuses: Statuses = client.get("/v1/revisions")?;
            client.print(&statuses, || table::revisions(&statuses));
            Ok(())
        }
        PipelineCommand::Activate {
            revision,
            allow_contract_change,
            partial,
            service,
        } => {
            let client = AdminClient::new(&service)?;
            client.print_change(client.activate(&revision, allow_contract_change, partial)?);
            Ok(())
        }
        PipelineCommand::Shadow {
            revision,
            share,
            off,
            service,
        } => {
            let client = AdminClient::new(&service)?;
            let path = format!("/v1/revisions/{}/shadow", digits(&revision));
            client.print_change(if off {
                client.delete(&path)?
            } else {
                client.post(&format!("{path}?share={share}"))?
            });
            Ok(())
        }
        PipelineCommand::Canary {
            revision,
            share,
            allow_contract_change,
            off,
            service,
        } => {
            let client = AdminClient::new(&service)?;
            let path = format!("/v1/revisions/{}/canary", digits(&revision));
            let ask = format!("{path}?share={share}&allow_contract_change={allow_contract_change}");
            client.print_change(if off {
                client.delete(&path)?
            } else {
                client.post(&ask)?
            });
            Ok(())
        }
        PipelineCommand::Rollback { partial, service } => {
            let client = AdminClient::new(&service)?;
            client.print_change(client.post(&format!("/v1/rollback?partial={partial}"))?);
            Ok(())
        }
        PipelineCommand::Retire { revision, service } => {
            let client = AdminClient::new(&service)?;
            client.print_change(client.delete(&format!("/v1/revisions/{}", digits(&revision)))?);
            Ok(())
        }
    }
}

/// Returns the letters and digits of an id, so that it cannot change the path of the request.
fn digits(revision: &str) -> String {
    revision
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect()
}

fn line(revision: &RevisionStatus) -> String {
    let name = revision.name.as_deref().unwrap_or("?");
    let version = revision.version.as_deref().unwrap_or("?");
    format!(
        "{} ({name} {version} on {}): {}",
        revision.id.short(),
        revision.pack,
        revision.state
    )
}

/// Client of a running service's admin interface.
pub(crate) struct AdminClient<'s> {
    agent: Agent,
    service: &'s ServiceArgs,
    credentials: Credentials,
}

impl<'s> AdminClient<'s> {
    /// Creates a client of the admin interface that the arguments name.
    pub(crate) fn new(service: &'s ServiceArgs) -> Result<Self, OperateError> {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(ANSWER_TIMEOUT));
        Ok(Self {
            agent: service.trust.agent(&service.admin, config)?,
            service,
            credentials: service.token.credentials()?,
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.service.admin.trim_end_matches('/'))
    }

    /// Sends a GET request and parses the JSON answer.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, OperateError> {
        let request = self
            .agent
            .get(self.url(path))
            .config()
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build();
        self.answer(self.credentials.sign(request).call())
    }

    fn delete(&self, path: &str) -> Result<ChangeAnswer, OperateError> {
        let request = self
            .agent
            .delete(self.url(path))
            .config()
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build();
        self.answer(self.credentials.sign(request).call())
    }

    fn post(&self, path: &str) -> Result<ChangeAnswer, OperateError> {
        self.send(path, &[])
    }

    fn send(&self, path: &str, body: &[u8]) -> Result<ChangeAnswer, OperateError> {
        let request = self
            .agent
            .post(self.url(path))
            .config()
            .timeout_global(Some(UPLOAD_TIMEOUT))
            .build();
        self.answer(self.credentials.sign(request).send(body))
    }

    fn activate(
        &self,
        revision: &str,
        allow_contract_change: bool,
        partial: bool,
    ) -> Result<ChangeAnswer, OperateError> {
        self.post(&format!(
            "/v1/revisions/{}/activate?allow_contract_change={allow_contract_change}&partial={partial}",
            digits(revision)
        ))
    }

    fn configure(
        &self,
        revision: &str,
        settings: &BTreeMap<String, String>,
        unset: &[String],
    ) -> Result<ChangeAnswer, OperateError> {
        let body = serde_json::json!({ "settings": settings, "unset": unset });
        let path = format!("/v1/revisions/{}/settings", digits(revision));
        self.send(&path, body.to_string().as_bytes())
    }

    /// Waits until a revision is staged, activates it if that is wanted, and prints the result.
    /// `activate` says whether people may have to be re-enrolled for it.
    fn finish_staging(
        &self,
        ChangeAnswer { changed, revision }: ChangeAnswer,
        timeout: u64,
        activate: Option<bool>,
    ) -> Result<(), OperateError> {
        let staged = self.wait(revision, timeout)?;
        if activate.is_some() && !changed && !self.service.json {
            say("already staged");
        }
        let pushed = PushedRevision {
            revision: &staged,
            changed,
        };
        match activate {
            Some(allow_contract_change) => self.print_change(self.activate(
                &staged.id.to_string(),
                allow_contract_change,
                false,
            )?),
            None if changed => self.print(&pushed, || format!("staged {}", line(&staged))),
            None => self.print(&pushed, || format!("already staged: {}", line(&staged))),
        }
        Ok(())
    }

    fn push(
        &self,
        file: &Path,
        pack: Option<&str>,
        (policy_only, enrol): (bool, bool),
        own: &OwnValues<'_>,
    ) -> Result<ChangeAnswer, OperateError> {
        let bytes =
            read_at_most(file, MAX_COMPONENT_BYTES).map_err(|cause| OperateError::Unreadable {
                file: file.to_owned(),
                cause,
            })?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("sha256", &Sha256Digest::of(&bytes).to_string());
        query.append_pair("policy_only", &policy_only.to_string());
        if enrol {
            // Sent only if set, because earlier versions refuse the parameter.
            query.append_pair("enrol", "true");
        }
        query.append_pair("limits", &own.limits.join(","));
        if !own.settings.is_empty() {
            // As for `enrol`.
            let settings = serde_json::json!(own.settings).to_string();
            query.append_pair("settings", &settings);
        }
        pack.into_iter().for_each(|pack| {
            query.append_pair("pack", pack);
        });
        let path = format!("/v1/revisions?{}", query.finish());
        let begun = Instant::now();
        loop {
            match self.send(&path, &bytes) {
                // Another upload is in progress.
                Err(OperateError::Busy { .. }) if begun.elapsed() < UPLOAD_TIMEOUT => {
                    std::thread::sleep(Duration::from_secs(1))
                }
                answer => return answer,
            }
        }
    }

    /// Waits until a revision is staged or failed, on every node.
    fn wait(&self, pushed: RevisionStatus, seconds: u64) -> Result<RevisionStatus, OperateError> {
        let begun = Instant::now();
        let spinner =
            ProgressBar::new_spinner().with_message(format!("staging {}", pushed.id.short()));
        let mut revision = pushed;
        let is_staging = |revision: &RevisionStatus| {
            let nodes = revision.nodes.iter().map(|node| node.state);
            nodes
                .chain([revision.state])
                .any(|state| state == RevisionState::Staging)
        };
        while is_staging(&revision) {
            if begun.elapsed() > Duration::from_secs(seconds) {
                return Err(OperateError::Slow {
                    revision: revision.id.short(),
                    seconds,
                });
            }
            spinner.tick();
            std::thread::sleep(POLL_INTERVAL);
            revision = self.get(&format!("/v1/revisions/{}", revision.id))?;
        }
        spinner.finish_and_clear();
        match revision.state {
            RevisionState::Failed => Err(OperateError::Failed {
                revision: revision.id.short(),
                reason: sanitize(
                    revision
                        .reason
                        .as_deref()
                        .unwrap_or("the service reports no reason"),
                ),
            }),
            _ => Ok(revision),
        }
    }

    fn answer<T: DeserializeOwned>(
        &self,
        answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, OperateError> {
        let admin = || self.service.admin.clone();
        let unreachable = |error: ureq::Error| OperateError::Unreachable {
            admin: admin(),
            cause: explain(&error, &self.service.admin),
        };
        let mut answer = answer.map_err(unreachable)?;
        let text = answer.body_mut().read_to_string().map_err(unreachable)?;
        if answer.status().is_success() {
            return serde_json::from_str(&text).map_err(|error| OperateError::Other {
                admin: admin(),
                cause: error.to_string(),
            });
        }
        let body: Option<Value> = serde_json::from_str(&text).ok();
        let message = body
            .as_ref()
            .and_then(|body| body.get("error"))
            .and_then(Value::as_str);
        if let (Some(message), Some(remedy)) =
            (message, self.credentials.advice(answer.status().as_u16()))
        {
            return Err(OperateError::Unauthorized {
                message: sanitize(message),
                remedy,
            });
        }
        match message {
            Some(message) if answer.status().as_u16() == 503 => Err(OperateError::Busy {
                message: sanitize(message),
            }),
            Some(message) => Err(OperateError::Refused {
                message: sanitize(message),
            }),
            None => Err(OperateError::Other {
                admin: admin(),
                cause: format!("it answered with status {}", answer.status()),
            }),
        }
    }

    /// Prints the result of a change.
    fn print_change(&self, answer: ChangeAnswer) {
        self.print(&answer, || {
            format!(
                "{}{}",
                line(&answer.revision),
                if answer.changed { "" } else { " (unchanged)" }
            )
        });
    }

    /// Prints JSON, or text.
    fn print(&self, value: &impl Serialize, text: impl FnOnce() -> String) {
        match self.service.json {
            true => say(&format!(
                "{:#}",
                serde_json::to_value(value).unwrap_or_default()
            )),
            false => say(&text()),
        }
    }
}
