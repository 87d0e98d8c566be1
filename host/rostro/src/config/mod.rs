//! Configuration of `rostro serve`, in two steps: what was typed ([`ServeArgs`], from flags,
//! `ROSTRO_*` variables and a TOML file), and what the rest of the program sees ([`Config`],
//! validated).
//!
//! Precedence: flag, variable, file, default. An unknown key in the file is an error.

mod address;
mod args;
pub(crate) mod check;
mod memory;
mod sizing;
mod source;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use rostro_api::{BodyLimits, BrowserAccess, Network};
use rostro_common::fs::read_text;
use rostro_index::Method;
use rostro_sandbox::limits::{LimitError, Limits};
use rostro_sandbox::pipeline::stage::Tuning;
use rostro_sandbox::review::Review;
use rostro_service::deployment::{ConfiguredTexts, FolderAction};

use args::Search;
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
    /// Folder of installed packs.
    pub models: PathBuf,
    /// Name of the pack.
    pub pack: String,
    /// The pipeline's component.
    pub pipeline: PathBuf,
    /// The policy's component, if it is another.
    pub policy: Option<PathBuf>,
    /// How pipeline, policy and pack were asked for.
    pub texts: ConfiguredTexts,
    /// Thresholds and settings for the guests.
    pub tuning: Tuning,
    /// What is done about a setting that the configured pipeline does not know.
    pub unknown_settings: UnknownSettingsAction,
    /// Folder of what is remembered.
    pub state: PathBuf,
    /// How long to wait at the start for another process that has the gallery or the state folder.
    pub wait_for_lock: Duration,
    /// Days for which lines of the audit log are kept.
    pub keep_audit: u32,
    /// Folder of compiled components, if it is not in that.
    pub compiled: Option<PathBuf>,
    /// Where the admin interface is served.
    pub admin: AdminAddress,
    /// Who may use it.
    pub admin_token_file: Option<PathBuf>,
    /// The watched folder, if there is one.
    pub pipelines: Option<PathBuf>,
    /// What becomes of a component that appears in it.
    pub pipelines_action: FolderAction,
    /// Pictures with expectations, if there are any.
    pub self_test: Option<PathBuf>,
    /// Failures in a row that a revision may have.
    pub breaker: u32,
    /// What guests are held to.
    pub limits: Limits,
    /// What the process may use of the machine.
    pub machine: Machine,
    /// MiB by which the people of the gallery may exceed the memory that is left for them.
    pub memory_short_mib: usize,
    /// Requests worked on at a time.
    pub workers: NonZeroUsize,
    /// Requests that may wait.
    pub queue: usize,
    /// Time for a request.
    pub deadline: Duration,
    /// Bytes of memory that all guests may have together.
    pub guest_bytes: usize,
    /// What callers may send.
    pub bodies: BodyLimits,
    /// Bytes of an archive of the gallery.
    pub archive_bytes: u64,
    /// The ONNX Runtime library, if it was named.
    pub onnxruntime: Option<PathBuf>,
    /// Where it is installed otherwise.
    pub runtime: PathBuf,
    /// The files of the certificate and its private key, if the service is to speak TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The file of API keys, if any are asked for.
    pub api_keys: Option<PathBuf>,
    /// Proxies that are believed.
    pub trusted_proxies: Vec<Network>,
    /// What pages in browsers may do.
    pub browsers: BrowserAccess,
    /// How strictly enrolment photos are judged, at least.
    pub review: Review,
    /// How the gallery is searched.
    pub search: Method,
    /// How the log is written.
    pub log_format: LogFormat,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {cause}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("the configuration file {path} is not valid: {cause}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why.
        cause: toml::de::Error,
    },
    /// A value is out of its range.
    #[error("{key} is {value}; it must be {range}")]
    Range {
        /// Which setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// A variable with pairs is not what it should be.
    #[error("{name} has `{value}`; write it as KEY=VALUE, several separated by commas")]
    Variable {
        /// Which.
        name: &'static str,
        /// What is no pair.
        value: String,
    },
    /// A pipeline's setting, or a limit, has a value that is no text, number or boolean.
    #[error("{table}.{key} must be a text, a number or a boolean")]
    Value {
        /// The table in the file.
        table: &'static str,
        /// The key in it.
        key: String,
    },
    /// A limit of the sandbox cannot be set so.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// The machine has too little memory.
    #[error(transparent)]
    Memory(#[from] Box<TooLittleMemory>),
    /// A certificate without its key, or the other way round.
    #[error("TLS needs both --tls-certificate and --tls-key")]
    HalfTls,
    /// Pages of other sites would be let in without a key.
    #[error(
        "--allow-origin lets pages of other sites call the service with a key, and no keys are asked for: name a file of keys with --api-keys"
    )]
    OriginsWithoutKeys,
    /// The name of an address is not known.
    #[error("cannot resolve {address}: {cause}; choose another address with {flag}")]
    Unresolved {
        /// The address.
        address: String,
        /// The flag that names it.
        flag: &'static str,
        /// Why.
        cause: io::Error,
    },
    /// The admin interface would be open to others.
    #[error(
        "the admin interface at {0} can be reached by others, who need a token: name a file of tokens with --admin-token-file"
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
}

impl ServeArgs {
    /// The files of secrets, also of a configuration that is not valid.
    pub(crate) fn secrets(&self) -> SecretFiles {
        SecretFiles {
            api_keys: self.api_keys.clone(),
            admin_token_file: self.admin_token_file.clone(),
            tls: self.tls_certificate.clone().zip(self.tls_key.clone()),
        }
    }

    /// What a configuration file says.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no TOML, or has a key that is not known.
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

    /// What the variables `ROSTRO_SETTING` and `ROSTRO_LIMIT` say: pairs separated by commas. Every
    /// other variable is its flag's.
    ///
    /// # Errors
    ///
    /// If one is not KEY=VALUE.
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

    /// These settings, and where they say nothing those of `base`.
    #[must_use]
    pub(crate) fn or(self, base: Self) -> Self {
        let typed = |pairs: Vec<(String, String)>| {
            pairs
                .into_iter()
                .map(|(key, value)| (key, toml::Value::String(value)))
        };
        let mut setting = base.setting;
        setting.extend(typed(base.settings));
        setting.extend(self.setting);
        setting.extend(typed(self.settings));
        let mut limit = base.limit;
        limit.extend(typed(base.limits));
        limit.extend(self.limit);
        limit.extend(typed(self.limits));
        Self {
            listen: self.listen.or(base.listen),
            gallery: self.gallery.or(base.gallery),
            models: self.models.or(base.models),
            pack: self.pack.or(base.pack),
            pipeline: self.pipeline.or(base.pipeline),
            policy: self.policy.or(base.policy),
            detection_threshold: self.detection_threshold.or(base.detection_threshold),
            similarity_threshold: self.similarity_threshold.or(base.similarity_threshold),
            settings: Vec::new(),
            setting,
            limits: Vec::new(),
            limit,
            unknown_settings: self.unknown_settings.or(base.unknown_settings),
            state: self.state.or(base.state),
            wait_for_lock: self.wait_for_lock.or(base.wait_for_lock),
            keep_audit: self.keep_audit.or(base.keep_audit),
            compiled: self.compiled.or(base.compiled),
            admin: self.admin.or(base.admin),
            admin_token_file: self.admin_token_file.or(base.admin_token_file),
            pipelines: self.pipelines.or(base.pipelines),
            pipelines_action: self.pipelines_action.or(base.pipelines_action),
            self_test: self.self_test.or(base.self_test),
            breaker: self.breaker.or(base.breaker),
            workers: self.workers.or(base.workers),
            queue: self.queue.or(base.queue),
            deadline: self.deadline.or(base.deadline),
            max_body_mib: self.max_body_mib.or(base.max_body_mib),
            max_image_mib: self.max_image_mib.or(base.max_image_mib),
            max_bodies_mib: self.max_bodies_mib.or(base.max_bodies_mib),
            max_archive_gib: self.max_archive_gib.or(base.max_archive_gib),
            max_guests_mib: self.max_guests_mib.or(base.max_guests_mib),
            max_megapixels: self.max_megapixels.or(base.max_megapixels),
            onnxruntime: self.onnxruntime.or(base.onnxruntime),
            runtime: self.runtime.or(base.runtime),
            api_keys: self.api_keys.or(base.api_keys),
            tls_certificate: self.tls_certificate.or(base.tls_certificate),
            tls_key: self.tls_key.or(base.tls_key),
            trusted_proxies: self.trusted_proxies.or(base.trusted_proxies),
            public_origin: self.public_origin.or(base.public_origin),
            allow_origin: self.allow_origin.or(base.allow_origin),
            review: self.review.or(base.review),
            search: self.search.or(base.search),
            approximate_above: self.approximate_above.or(base.approximate_above),
            log_format: self.log_format.or(base.log_format),
        }
    }

    /// Fills in defaults and checks ranges. The machine's memory does not count: see
    /// [`ServeArgs::fit`].
    ///
    /// # Errors
    ///
    /// [`ConfigError::Range`] names the setting, its value and what is allowed.
    pub(crate) fn validate(self) -> Result<Config, ConfigError> {
        let this = self.or(Self::default());
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
                .filter(|workers| workers.get() <= MOST_WORKERS)
                .ok_or_else(|| range("workers", workers, "between 1 and 1024"))?,
        };
        let breaker = match this.breaker {
            Some(0) => return Err(range("breaker", 0, "at least 1")),
            breaker => breaker.unwrap_or(10),
        };
        let limits = Limits::with(&texts("limit", this.limit)?)?;
        let guests = sizing::usual_guests(workers.get());
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        Ok(Config {
            texts: ConfiguredTexts {
                pipeline: this.pipeline.as_ref().map(text),
                policy: this.policy.as_ref().map(text),
                pack: this.pack.clone(),
            },
            listen: this.listen.unwrap_or_else(|| Address::loopback(4000)),
            gallery: this.gallery.unwrap_or_else(|| "embeddings_csvs".into()),
            models: this.models.unwrap_or_else(|| installed(MODELS)),
            pack: this.pack.unwrap_or_else(|| "mobile".to_owned()),
            pipeline: this.pipeline.unwrap_or_else(beside_this_program),
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
            compiled: this.compiled,
            admin,
            admin_token_file: this.admin_token_file,
            pipelines: this.pipelines,
            pipelines_action: this.pipelines_action.unwrap_or_default(),
            self_test: this.self_test,
            breaker,
            // One that is alone must have what its limit says.
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
                // Any one body must find room in the half that one client may have.
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
            search: match this.search.unwrap_or_default() {
                Search::Exact => Method::Exact,
                Search::Approximate => Method::Approximate {
                    above: this.approximate_above.unwrap_or(100_000),
                },
            },
            log_format: this.log_format.unwrap_or_default(),
        })
    }
}

/// The cores that this process may use: the affinity mask and the cgroup's quota, as the standard
/// library reads them.
#[must_use]
pub(crate) fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// The most requests that are worked on at a time.
const MOST_WORKERS: usize = 1024;

/// The most MiB that anything may be.
const MOST_MIB: usize = 1_000_000;

/// A number of MiB in bytes.
fn mib(key: &'static str, value: Option<usize>, default: usize) -> Result<usize, ConfigError> {
    match value.unwrap_or(default) {
        value @ 1..=MOST_MIB => Ok(value << 20),
        value => Err(range(key, value, "between 1 and 1000000")),
    }
}

/// A number of GiB in bytes.
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

/// The range is what a guest's memory holds, decoded from 16 bits with alpha.
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

/// The values of a table as text, which is what guests read.
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

/// Returns the error of an address whose name is not known.
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

pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// The default pipeline: a component beside this program, or where `cargo xtask guest` puts it.
pub(crate) fn beside_this_program() -> PathBuf {
    let folder = std::env::current_exe()
        .ok()
        .and_then(|program| program.parent().map(Path::to_owned))
        .unwrap_or_default();
    let beside = folder.join("insightface.wasm");
    let built = folder.join("../guest/insightface.wasm");
    match !beside.exists() && built.is_file() {
        true => built.canonicalize().unwrap_or(built),
        false => beside,
    }
}

/// The folder with installed packs, for [`installed`].
pub(crate) const MODELS: &str = "models/installed";

/// The folder with ONNX Runtime, for [`installed`].
pub(crate) const RUNTIME: &str = "models/runtime";

/// A folder of the installation, as [`MODELS`]: in the current folder, else in the nearest folder
/// above this program that has it.
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
