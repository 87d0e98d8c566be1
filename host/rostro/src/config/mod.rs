//! Configuration of `rostro serve` in two steps. [`ServeArgs`] holds the raw values of flags,
//! `ROSTRO_*` variables and a TOML file. [`Config`] is the validated form, which the program uses.
//!
//! Precedence: flag, variable, file, default. An unknown key in the file is an error.

mod address;
mod args;
pub(crate) mod check;
pub(crate) mod database;
pub(crate) mod fleet;
mod memory;
mod sizing;
mod source;
pub(crate) mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use merge::Merge;

use rostro_api::{BodyLimits, BrowserAccess, Network};
use rostro_common::fs::read_text;
use rostro_database::{DatabaseError, DatabaseOptions, FleetOptions, NodeSettings};
use rostro_index::Method;
use rostro_inference::precision::PrecisionMode;
use rostro_sandbox::limits::{LimitError, Limits};
use rostro_sandbox::pipeline::stage::Tuning;
use rostro_sandbox::review::Review;
use rostro_service::deployment::{ConfiguredTexts, FolderAction};
use rostro_sessions::SessionLimits;

use args::{FramePrecision, Search};
use sizing::TooLittleMemory;

pub(crate) use address::{Address, AdminAddress};
pub(crate) use args::{LogFormat, ServeArgs, UnknownSettingsAction};
pub(crate) use sizing::Machine;
pub(crate) use source::Source;

/// A validated configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Address to serve on.
    pub listen: Address,
    /// Folder of the CSV gallery.
    pub gallery: PathBuf,
    /// Database of the people, if they are not in the folder.
    pub database: Option<DatabaseOptions>,
    /// This node among those of the database.
    pub fleet: FleetOptions,
    /// Folder of installed packs.
    pub models: PathBuf,
    /// Name of the model pack.
    pub pack: String,
    /// Precision of the models that see frames.
    pub precision: PrecisionMode,
    /// Component of the pipeline.
    pub pipeline: PathBuf,
    /// Component with a policy to replace the pipeline's own.
    pub policy: Option<PathBuf>,
    /// Pipeline, policy and pack as they were typed.
    pub texts: ConfiguredTexts,
    /// Thresholds and settings for the guests.
    pub tuning: Tuning,
    /// Reaction to a setting that the configured pipeline does not know.
    pub unknown_settings: UnknownSettingsAction,
    /// State folder.
    pub state: PathBuf,
    /// Timeout at the start for the locks of the gallery and the state folder.
    pub wait_for_lock: Duration,
    /// Days for which lines of the audit log are kept.
    pub keep_audit: u32,
    /// File with the receivers of sessions' events.
    pub webhooks: Option<PathBuf>,
    /// Limits of sessions.
    pub sessions: SessionLimits,
    /// Folder of compiled components; by default it lies in the state folder.
    pub compiled: Option<PathBuf>,
    /// Address of the admin interface.
    pub admin: AdminAddress,
    /// File with the tokens of its operators.
    pub admin_token_file: Option<PathBuf>,
    /// Watched folder of components.
    pub pipelines: Option<PathBuf>,
    /// Action for a new component in it.
    pub pipelines_action: FolderAction,
    /// Folder with photos and expectations of the self-test.
    pub self_test: Option<PathBuf>,
    /// Consecutive failures after which a revision is rolled back.
    pub breaker: u32,
    /// Limits of guests.
    pub limits: Limits,
    /// Cores and memory that the process may use.
    pub machine: Machine,
    /// MiB by which the people of the gallery may exceed the memory that remains for them.
    pub memory_short_mib: usize,
    /// Number of requests that are processed at a time.
    pub workers: NonZeroUsize,
    /// Number of requests that may wait.
    pub queue: usize,
    /// Deadline of a request.
    pub deadline: Duration,
    /// Memory limit of all guests together, in bytes.
    pub guest_bytes: usize,
    /// Limits of request bodies.
    pub bodies: BodyLimits,
    /// Size limit of a gallery archive, in bytes.
    pub archive_bytes: u64,
    /// ONNX Runtime library; by default the installed one is used.
    pub onnxruntime: Option<PathBuf>,
    /// Folder of installed ONNX Runtime versions.
    pub runtime: PathBuf,
    /// Files of the certificate and its private key; none without TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// File of API keys; none if callers need no key.
    pub api_keys: Option<PathBuf>,
    /// Networks of proxies with trusted forwarding headers.
    pub trusted_proxies: Vec<Network>,
    /// Access of pages in browsers.
    pub browsers: BrowserAccess,
    /// Least strictness for enrolment photos.
    pub review: Review,
    /// Search method of the gallery.
    pub search: Method,
    /// Format of the log.
    pub log_format: LogFormat,
}

/// Error of a configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {cause}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
    /// The file is not valid TOML, or has an unknown key or a value of another type.
    #[error("the configuration file {path} is not valid: {cause}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The cause, with its position.
        cause: toml::de::Error,
    },
    /// A value is out of its range.
    #[error("{key} is {value}; it must be {range}")]
    Range {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// The allowed range.
        range: &'static str,
    },
    /// A variable holds something else than pairs.
    #[error("{name} has `{value}`; write it as KEY=VALUE, several separated by commas")]
    Variable {
        /// The variable.
        name: &'static str,
        /// The part that is not a pair.
        value: String,
    },
    /// A pipeline's setting, or a limit, has a value that is not a text, a number or a boolean.
    #[error("{table}.{key} must be a text, a number or a boolean")]
    Value {
        /// The table in the file.
        table: &'static str,
        /// The key in it.
        key: String,
    },
    /// A limit of the sandbox has an unknown name or an invalid value.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The machine has too little memory.
    #[error(transparent)]
    Memory(#[from] Box<TooLittleMemory>),
    /// The address of the database is invalid.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A command on a database without one.
    #[error("no database is named; give its address with --database or --database-url-file")]
    NoDatabase,
    /// Two addresses of a database.
    #[error("--database and --database-url-file both name a database; give one of them")]
    TwoDatabases,
    /// A watched folder with a database.
    #[error(
        "--pipelines cannot be used with a database, because all nodes serve its revisions; push components with `rostro pipeline push`"
    )]
    WatchedFolder,
    /// A certificate without a key, or a key without a certificate.
    #[error("TLS needs both --tls-certificate and --tls-key")]
    HalfTls,
    /// Pages of other sites would have access without a key.
    #[error(
        "--allow-origin needs API keys, because pages of other sites must not have access without one; name a file of keys with --api-keys"
    )]
    OriginsWithoutKeys,
    /// The name in an address cannot be resolved.
    #[error("cannot resolve {address}: {cause}; choose another address with {flag}")]
    Unresolved {
        /// The address.
        address: String,
        /// The flag that names it.
        flag: &'static str,
        /// The cause.
        cause: io::Error,
    },
    /// Other machines could use the admin interface without a token.
    #[error(
        "the admin interface at {0} can be reached from other machines and needs tokens; name a file of tokens with --admin-token-file"
    )]
    OpenAdmin(String),
}

/// The files of secrets that a configuration names.
#[derive(Debug)]
pub(crate) struct SecretFiles {
    pub api_keys: Option<PathBuf>,
    pub admin_token_file: Option<PathBuf>,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Receivers of events.
    pub webhooks: Option<PathBuf>,
}

impl ServeArgs {
    /// Returns the files of secrets, also if the configuration is not valid.
    pub(crate) fn secrets(&self) -> SecretFiles {
        SecretFiles {
            api_keys: self.api_keys.clone(),
            admin_token_file: self.admin_token_file.clone(),
            tls: self.tls_certificate.clone().zip(self.tls_key.clone()),
            webhooks: self.webhooks.clone(),
        }
    }

    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not valid TOML, or has an unknown key.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |cause| ConfigError::Unreadable {
            path: path.to_owned(),
            cause,
        };
        let text = read_text(path).map_err(unreadable)?;
        toml::from_str(&text).map_err(|cause| ConfigError::Invalid {
            path: path.to_owned(),
            cause,
        })
    }

    /// Parses the variables `ROSTRO_SETTING` and `ROSTRO_LIMIT`, which hold pairs separated by
    /// commas. clap reads every other variable.
    ///
    /// # Errors
    ///
    /// If a part is not KEY=VALUE.
    pub(crate) fn of_variables(
        settings: Option<String>,
        limits: Option<String>,
    ) -> Result<Self, ConfigError> {
        let pairs = |name: &'static str,
                     text: Option<String>|
         -> Result<Vec<(String, String)>, ConfigError> {
            let pairs = text
                .iter()
                .flat_map(|text| text.split(','))
                .filter(|text| !text.is_empty());
            pairs
                .map(|text| {
                    key_value(text).map_err(|_| ConfigError::Variable {
                        name,
                        value: text.to_owned(),
                    })
                })
                .collect()
        };
        Ok(Self {
            settings: pairs("ROSTRO_SETTING", settings)?,
            limits: pairs("ROSTRO_LIMIT", limits)?,
            ..Self::default()
        })
    }

    /// Returns this configuration, completed by `base`: a value of `base` counts only where this
    /// one has none. Tables are merged key by key.
    #[must_use]
    pub(crate) fn or(self, base: Self) -> Self {
        let mut merged = self.with_pairs_in_tables();
        merged.merge(base.with_pairs_in_tables());
        merged
    }

    /// Moves the pairs of `--setting` and `--limit` into the tables, where they replace values of
    /// the same key.
    fn with_pairs_in_tables(mut self) -> Self {
        let as_text = |(key, value)| (key, toml::Value::String(value));
        self.setting.extend(self.settings.drain(..).map(as_text));
        self.limit.extend(self.limits.drain(..).map(as_text));
        self
    }

    /// Fills in defaults and checks ranges. [`ServeArgs::fit`] considers the machine's memory as
    /// well.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Range`] names the setting, its value and the allowed range.
    pub(crate) fn validate(self) -> Result<Config, ConfigError> {
        let this = self.with_pairs_in_tables();
        let deadline = this.deadline.unwrap_or(30.0);
        if !(0.001..=3600.0).contains(&deadline) {
            return Err(range(
                "deadline",
                deadline,
                "between 0.001 and 3600 seconds",
            ));
        }
        let wait_for_lock = this.wait_for_lock.unwrap_or(0.0);
        if !(0.0..=86_400.0).contains(&wait_for_lock) {
            return Err(range(
                "wait-for-lock",
                wait_for_lock,
                "between 0 and 86400 seconds",
            ));
        }
        let database =
            database::options(this.database.as_ref(), this.database_url_file.as_deref())?;
        if database.is_some() && this.pipelines.is_some() {
            return Err(ConfigError::WatchedFolder);
        }
        let listen = this.listen.unwrap_or_else(|| Address::loopback(4000));
        let lease = this.lease.unwrap_or(5.0);
        if !(1.0..=60.0).contains(&lease) {
            return Err(range("lease", lease, "between 1 and 60 seconds"));
        }
        let admin = this
            .admin
            .unwrap_or_else(|| AdminAddress::At(Address::loopback(4001)));
        if let AdminAddress::At(address) = &admin
            && this.admin_token_file.is_none()
            && !address
                .is_loopback()
                .map_err(|cause| unresolved(address, "--admin", cause))?
        {
            return Err(ConfigError::OpenAdmin(address.to_string()));
        }
        let allowed_origins = this.allow_origin.unwrap_or_default();
        if !allowed_origins.is_empty() && this.api_keys.is_none() {
            return Err(ConfigError::OriginsWithoutKeys);
        }
        let workers = match this.workers {
            None => cores(),
            Some(workers) => NonZeroUsize::new(workers)
                .filter(|workers| workers.get() <= MAX_WORKERS)
                .ok_or_else(|| range("workers", workers, "between 1 and 1024"))?,
        };
        let breaker = match this.breaker {
            Some(0) => return Err(range("breaker", 0, "at least 1")),
            breaker => breaker.unwrap_or(10),
        };
        let limits = Limits::with(&texts("limit", this.limit)?)?;
        let guests = sizing::default_guests(workers.get());
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut config = Config {
            texts: ConfiguredTexts {
                pipeline: this.pipeline.as_ref().map(text),
                policy: this.policy.as_ref().map(text),
                pack: this.pack.clone(),
            },
            fleet: FleetOptions {
                node: this.node.unwrap_or_else(|| node_name(&listen)),
                lease: Duration::from_secs_f64(lease),
                settings: NodeSettings::default(),
                allows_different: this.allow_different,
                address: this.advertise.map(|origin| origin.to_string()),
            },
            listen,
            gallery: this.gallery.unwrap_or_else(|| "embeddings_csvs".into()),
            database,
            models: this.models.unwrap_or_else(|| installed(MODELS)),
            pack: this.pack.unwrap_or_else(|| "mobile".to_owned()),
            pipeline: this.pipeline.unwrap_or_else(default_pipeline),
            policy: this.policy,
            tuning: Tuning {
                detection: within(
                    "detection-threshold",
                    this.detection_threshold,
                    0.0,
                    "between 0 and 1",
                )?,
                similarity: within(
                    "similarity-threshold",
                    this.similarity_threshold,
                    -1.0,
                    "between -1 and 1",
                )?,
                max_pixels: 1_000_000 * u64::from(megapixels(this.max_megapixels)?),
                own: texts("setting", this.setting)?,
            },
            unknown_settings: this.unknown_settings.unwrap_or_default(),
            state: this.state.unwrap_or_else(|| "rostro_state".into()),
            wait_for_lock: Duration::from_secs_f64(wait_for_lock),
            keep_audit: match this.keep_audit.unwrap_or(730) {
                days @ 1..=36_500 => days,
                days => return Err(range("keep-audit", days, "between 1 and 36500 days")),
            },
            sessions: SessionLimits {
                keep_days: match this.keep_sessions.unwrap_or(30) {
                    days @ 1..=36_500 => days,
                    days => return Err(range("keep-sessions", days, "between 1 and 36500 days")),
                },
                open_per_owner: match this.max_sessions.unwrap_or(200) {
                    most @ 1..=10_000 => most,
                    most => return Err(range("max-sessions", most, "between 1 and 10000")),
                },
                ..SessionLimits::default()
            },
            webhooks: this.webhooks,
            compiled: this.compiled,
            admin,
            admin_token_file: this.admin_token_file,
            pipelines: this.pipelines,
            pipelines_action: this.pipelines_action.unwrap_or_default(),
            self_test: this.self_test,
            breaker,
            // A single guest must be able to use its whole limit.
            guest_bytes: mib("max-guests-mib", this.max_guests_mib, guests)?
                .max(limits.memory_bytes()),
            limits,
            machine: Machine {
                cores: cores(),
                memory: None,
            },
            memory_short_mib: 0,
            workers,
            queue: this.queue.unwrap_or(64),
            deadline: Duration::from_secs_f64(deadline),
            bodies: BodyLimits {
                body_bytes: mib("max-body-mib", this.max_body_mib, 128)?,
                image_bytes: mib("max-image-mib", this.max_image_mib, 100)?,
                // The largest body must fit into the half that one client may use.
                memory_bytes: mib("max-bodies-mib", this.max_bodies_mib, 512)?
                    .max(2 * mib("max-body-mib", this.max_body_mib, 128)?),
            },
            archive_bytes: gib("max-archive-gib", this.max_archive_gib, 16.0)?,
            onnxruntime: this.onnxruntime,
            runtime: this.runtime.unwrap_or_else(|| installed(RUNTIME)),
            api_keys: this.api_keys,
            tls: match (this.tls_certificate, this.tls_key) {
                (Some(certificate), Some(key)) => Some((certificate, key)),
                (None, None) => None,
                _ => return Err(ConfigError::HalfTls),
            },
            trusted_proxies: this.trusted_proxies.unwrap_or_default(),
            browsers: BrowserAccess::new(this.public_origin.unwrap_or_default(), allowed_origins),
            review: this.review.unwrap_or_default(),
            precision: match this.precision.unwrap_or_default() {
                FramePrecision::Auto => PrecisionMode::Auto,
                FramePrecision::Float => PrecisionMode::Float,
                FramePrecision::Int8 => PrecisionMode::Int8,
            },
            search: {
                let above = this.approximate_above.unwrap_or(100_000);
                match this.search.unwrap_or_default() {
                    Search::Exact => Method::Exact,
                    Search::Approximate => Method::Approximate { above },
                    Search::Int8 => Method::Int8 { above },
                }
            },
            log_format: this.log_format.unwrap_or_default(),
        };
        config.fleet.settings = fleet::settings(&config);
        Ok(config)
    }
}

/// Returns the number of cores that this process may use, by its affinity mask and cgroup quota.
#[must_use]
pub(crate) fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Upper bound of `workers`.
const MAX_WORKERS: usize = 1024;

/// Upper bound of sizes in MiB.
const MAX_MIB: usize = 1_000_000;

/// Converts MiB to bytes.
fn mib(key: &'static str, value: Option<usize>, default: usize) -> Result<usize, ConfigError> {
    match value.unwrap_or(default) {
        value @ 1..=MAX_MIB => Ok(value << 20),
        value => Err(range(key, value, "between 1 and 1000000")),
    }
}

/// Converts GiB to bytes.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked"
)]
fn gib(key: &'static str, value: Option<f64>, default: f64) -> Result<u64, ConfigError> {
    match value.unwrap_or(default) {
        value if (0.001..=65536.0).contains(&value) => Ok((value * f64::from(1 << 30)) as u64),
        value => Err(range(key, value, "between 0.001 and 65536")),
    }
}

/// Checks the number of megapixels. A guest's memory holds 40, decoded from 16 bits with alpha.
fn megapixels(value: Option<u32>) -> Result<u32, ConfigError> {
    match value.unwrap_or(40) {
        value @ 1..=40 => Ok(value),
        value => Err(range("max-megapixels", value, "between 1 and 40")),
    }
}

fn within(
    key: &'static str,
    value: Option<f32>,
    least: f32,
    allowed: &'static str,
) -> Result<Option<f32>, ConfigError> {
    match value {
        Some(value) if !(least..=1.0).contains(&value) => Err(range(key, value, allowed)),
        value => Ok(value),
    }
}

fn range(key: &'static str, value: impl ToString, range: &'static str) -> ConfigError {
    ConfigError::Range {
        key,
        value: value.to_string(),
        range,
    }
}

/// Returns the default name of a node: the host's name and the port.
fn node_name(listen: &Address) -> String {
    format!("{}:{}", host_name(), listen.port())
}

/// Returns the name of this machine.
pub(crate) fn host_name() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

/// Converts the values of a table to text, because guests read settings as text.
fn texts(
    table: &'static str,
    values: BTreeMap<String, toml::Value>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = |(key, value)| match value {
        toml::Value::String(text) => Ok((key, text)),
        toml::Value::Integer(number) => Ok((key, number.to_string())),
        toml::Value::Float(number) => Ok((key, number.to_string())),
        toml::Value::Boolean(flag) => Ok((key, flag.to_string())),
        _ => Err(ConfigError::Value { table, key }),
    };
    values.into_iter().map(text).collect()
}

/// Returns the error of an address with an unknown name.
pub(crate) fn unresolved(address: &Address, flag: &'static str, cause: io::Error) -> ConfigError {
    ConfigError::Unresolved {
        address: address.to_string(),
        flag,
        cause,
    }
}

/// Parses a flag that is a number. Its range is checked with the rest of the configuration.
fn number<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.trim()
        .parse()
        .map_err(|error: T::Err| match text.trim().parse::<f64>() {
            Ok(value) if value < 0.0 => "it must not be negative".to_owned(),
            Ok(value) if value.fract() != 0.0 => "it must be a whole number".to_owned(),
            Ok(_) => error.to_string(),
            Err(_) => "it is not a number".to_owned(),
        })
}

/// Parses a pair KEY=VALUE.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// Returns the default pipeline: the component next to this program, or the one that `cargo xtask
/// guest` built.
pub(crate) fn default_pipeline() -> PathBuf {
    let folder = std::env::current_exe()
        .ok()
        .and_then(|program| program.parent().map(Path::to_owned))
        .unwrap_or_default();
    let installed = folder.join("insightface.wasm");
    let built = folder.join("../guest/insightface.wasm");
    match !installed.exists() && built.is_file() {
        true => built.canonicalize().unwrap_or(built),
        false => installed,
    }
}

/// Folder with installed packs, for [`installed`].
pub(crate) const MODELS: &str = "models/installed";

/// Folder with ONNX Runtime, for [`installed`].
pub(crate) const RUNTIME: &str = "models/runtime";

/// Returns a folder of the installation, such as [`MODELS`]: in the current folder, else in the
/// nearest folder above this program that has it.
pub(crate) fn installed(relative: &str) -> PathBuf {
    let here = PathBuf::from(relative);
    if here.is_dir() {
        return here;
    }
    let program = std::env::current_exe()
        .and_then(|program| program.canonicalize())
        .unwrap_or_default();
    program
        .ancestors()
        .skip(1)
        .map(|folder| folder.join(relative))
        .find(|folder| folder.is_dir())
        .unwrap_or(here)
}

#[cfg(test)]
mod tests;
