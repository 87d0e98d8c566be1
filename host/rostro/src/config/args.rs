//! Settings of the service. Each is a flag, a variable and a key of the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use merge::Merge;
use serde::{Deserialize, Serialize};

use rostro_api::{AllowedOrigin, Network, Origin};
use rostro_sandbox::review::Review;
use rostro_service::deployment::FolderAction;

use super::address::{Address, AdminAddress};
use super::database::DatabaseUrl;
use super::{key_value, number};

/// Raw settings of `rostro serve`. A default stands in its help text and in
/// [`ServeArgs::validate`], because clap's own defaults would hide the values of the file.
#[derive(Clone, Debug, Default, Args, Deserialize, Merge, Serialize)]
#[merge(strategy = merge::option::overwrite_none)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ServeArgs {
    /// Address to serve on, HOST:PORT [default: 127.0.0.1:4000]
    #[arg(long, env = "ROSTRO_LISTEN", value_name = "ADDRESS")]
    pub(super) listen: Option<Address>,
    /// Folder of CSV files with the enrolled people [default: embeddings_csvs]
    #[arg(long, env = "ROSTRO_GALLERY", value_name = "DIR")]
    pub(super) gallery: Option<PathBuf>,
    /// PostgreSQL database with the people [default: the folder --gallery]
    ///
    /// As postgresql://USER@HOST/NAME. An address with a password belongs into
    /// the file of --database-url-file.
    #[arg(
        long,
        env = "ROSTRO_DATABASE",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(super) database: Option<DatabaseUrl>,
    /// File with the address of that database
    #[arg(long, env = "ROSTRO_DATABASE_URL_FILE", value_name = "FILE")]
    pub(super) database_url_file: Option<PathBuf>,
    /// Name of this node among those of the database [default: host name and
    /// port]
    #[arg(long, env = "ROSTRO_NODE", value_name = "NAME")]
    pub(super) node: Option<String>,
    /// Seconds for which a node that lost the database still answers [default:
    /// 5]
    ///
    /// The same on all nodes. A deletion waits for this time at most if a node
    /// is dead.
    #[arg(long, env = "ROSTRO_LEASE", value_name = "SECONDS", value_parser = number::<f64>, allow_negative_numbers = true)]
    pub(super) lease: Option<f64>,
    /// Address at which callers reach this node, for redirects to its sessions:
    /// http://HOST:PORT or https://HOST:PORT
    #[arg(long, env = "ROSTRO_ADVERTISE", value_name = "URL")]
    pub(super) advertise: Option<Origin>,
    /// Start although settings of this node differ from those of other nodes
    ///
    /// For the time in which a setting is changed node by node. --lease must
    /// be equal all the same.
    #[arg(long, env = "ROSTRO_ALLOW_DIFFERENT", value_parser = BoolishValueParser::new())]
    #[merge(strategy = merge::bool::overwrite_false)]
    pub(super) allow_different: bool,
    /// Folder with installed model packs [default: models/installed here, or
    /// above this program]
    #[arg(long, env = "ROSTRO_MODELS", value_name = "DIR")]
    pub(super) models: Option<PathBuf>,
    /// Model pack to use; `testing` is built in, for drawn faces only [default:
    /// mobile]
    #[arg(long, env = "ROSTRO_PACK", value_name = "NAME")]
    pub(super) pack: Option<String>,
    /// Precision of the models that see frames [default: auto]
    ///
    /// `rostro models quantize` makes a pack's 8-bit variant. Enrolments and
    /// embeddings are always computed in floats.
    #[arg(long, env = "ROSTRO_PRECISION", value_name = "PRECISION", value_enum)]
    pub(super) precision: Option<FramePrecision>,
    /// Component with the pipeline [default: insightface.wasm next to this
    /// program]
    #[arg(long, env = "ROSTRO_PIPELINE", value_name = "FILE.wasm")]
    pub(super) pipeline: Option<PathBuf>,
    /// Component with a policy to replace the pipeline's own
    #[arg(long, env = "ROSTRO_POLICY", value_name = "FILE.wasm")]
    pub(super) policy: Option<PathBuf>,
    /// Least score of a reported face, 0 to 1 [default: the pack's]
    #[arg(long, env = "ROSTRO_DETECTION_THRESHOLD", value_name = "SCORE", value_parser = number::<f32>, allow_negative_numbers = true)]
    pub(super) detection_threshold: Option<f32>,
    /// Similarity that a known face must exceed, -1 to 1 [default: the pack's]
    #[arg(long, env = "ROSTRO_SIMILARITY_THRESHOLD", value_name = "COSINE", value_parser = number::<f32>, allow_negative_numbers = true)]
    pub(super) similarity_threshold: Option<f32>,
    /// Setting of the pipeline; may be repeated [env:
    /// ROSTRO_SETTING=KEY=VALUE,...]
    #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = key_value)]
    #[merge(skip)]
    #[serde(skip)]
    pub(super) settings: Vec<(String, String)>,
    /// Table `setting` of the file.
    #[arg(skip)]
    #[merge(strategy = keep_own_keys)]
    pub(super) setting: BTreeMap<String, toml::Value>,
    /// Reaction to a setting that the pipeline does not know [default: refuse]
    #[arg(
        long,
        env = "ROSTRO_UNKNOWN_SETTINGS",
        value_name = "ACTION",
        value_enum
    )]
    pub(super) unknown_settings: Option<UnknownSettingsAction>,
    /// Folder for revisions and the audit log [default: rostro_state]
    #[arg(long, env = "ROSTRO_STATE", value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// Seconds to wait at the start for the locks of gallery and state [default:
    /// 0]
    #[arg(long, env = "ROSTRO_WAIT_FOR_LOCK", value_name = "SECONDS", value_parser = number::<f64>, allow_negative_numbers = true)]
    pub(super) wait_for_lock: Option<f64>,
    /// Days to keep lines of the audit log, and the keys of people in them
    /// [default: 730]
    #[arg(long, env = "ROSTRO_KEEP_AUDIT", value_name = "DAYS", value_parser = number::<u32>, allow_negative_numbers = true)]
    pub(super) keep_audit: Option<u32>,
    /// Days to keep a session after its end, with its attendance [default: 30]
    #[arg(long, env = "ROSTRO_KEEP_SESSIONS", value_name = "DAYS", value_parser = number::<u32>, allow_negative_numbers = true)]
    pub(super) keep_sessions: Option<u32>,
    /// Open sessions of one API key at most [default: 200]
    #[arg(long, env = "ROSTRO_MAX_SESSIONS", value_name = "N", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) max_sessions: Option<usize>,
    /// File with the receivers of sessions' events: webhooks and MQTT brokers
    #[arg(long, env = "ROSTRO_WEBHOOKS", value_name = "FILE.toml")]
    pub(super) webhooks: Option<PathBuf>,
    /// Folder for compiled components [default: compiled in the state folder]
    ///
    /// Only this service may write into it, because the files are native code.
    #[arg(long, env = "ROSTRO_COMPILED", value_name = "DIR")]
    pub(super) compiled: Option<PathBuf>,
    /// Address of the admin interface, or `off` [default: 127.0.0.1:4001]
    ///
    /// An address that other machines can reach needs --admin-token-file.
    #[arg(long, env = "ROSTRO_ADMIN", value_name = "ADDRESS|off")]
    pub(super) admin: Option<AdminAddress>,
    /// File with a line NAME:TOKEN for each operator; read again on SIGHUP
    #[arg(long, env = "ROSTRO_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub(super) admin_token_file: Option<PathBuf>,
    /// Watched folder: each component that appears in it is staged
    #[arg(long, env = "ROSTRO_PIPELINES", value_name = "DIR")]
    pub(super) pipelines: Option<PathBuf>,
    /// Action for a staged component of the watched folder [default: activate]
    #[arg(
        long,
        env = "ROSTRO_PIPELINES_ACTION",
        value_name = "ACTION",
        value_enum
    )]
    pub(super) pipelines_action: Option<FolderAction>,
    /// Folder with photos and `expectations.toml`, which a revision must meet
    /// before it serves
    #[arg(long, env = "ROSTRO_SELF_TEST", value_name = "DIR")]
    pub(super) self_test: Option<PathBuf>,
    /// Roll back to the previous revision after this many consecutive failures
    /// [default: 10]
    ///
    /// Read again on SIGHUP.
    #[arg(long, env = "ROSTRO_BREAKER", value_name = "N", value_parser = number::<u32>, allow_negative_numbers = true)]
    pub(super) breaker: Option<u32>,
    /// Limit of the sandbox; may be repeated [env: ROSTRO_LIMIT=NAME=VALUE,...]
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = key_value)]
    #[merge(skip)]
    #[serde(skip)]
    pub(super) limits: Vec<(String, String)>,
    /// Table `limit` of the file.
    #[arg(skip)]
    #[merge(strategy = keep_own_keys)]
    pub(super) limit: BTreeMap<String, toml::Value>,
    /// Requests to process at a time [default: the cores of this process]
    #[arg(long, env = "ROSTRO_WORKERS", value_name = "N", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) workers: Option<usize>,
    /// Requests that may wait for a worker; read again on SIGHUP [default: 64]
    #[arg(long, env = "ROSTRO_QUEUE", value_name = "N", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) queue: Option<usize>,
    /// Seconds for a request after its body arrived; read again on SIGHUP
    /// [default: 30]
    #[arg(long, env = "ROSTRO_DEADLINE", value_name = "SECONDS", value_parser = number::<f64>, allow_negative_numbers = true)]
    pub(super) deadline: Option<f64>,
    /// Largest request body in MiB [default: 128]
    #[arg(long, env = "ROSTRO_MAX_BODY_MIB", value_name = "MIB", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) max_body_mib: Option<usize>,
    /// Largest image file in MiB [default: 100]
    #[arg(long, env = "ROSTRO_MAX_IMAGE_MIB", value_name = "MIB", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) max_image_mib: Option<usize>,
    /// Memory for all request bodies in MiB, at least twice the largest body
    /// [default: 512]
    #[arg(long, env = "ROSTRO_MAX_BODIES_MIB", value_name = "MIB", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) max_bodies_mib: Option<usize>,
    /// Largest archive of the gallery in GiB, in and out [default: 16]
    #[arg(long, env = "ROSTRO_MAX_ARCHIVE_GIB", value_name = "GIB", value_parser = number::<f64>, allow_negative_numbers = true)]
    pub(super) max_archive_gib: Option<f64>,
    /// Memory for all running pipelines in MiB, at least the limit of one
    /// [default: 256 for each worker, at least 1024]
    #[arg(long, env = "ROSTRO_MAX_GUESTS_MIB", value_name = "MIB", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) max_guests_mib: Option<usize>,
    /// Largest image to decode in megapixels, at most 40 [default: 40]
    #[arg(long, env = "ROSTRO_MAX_MEGAPIXELS", value_name = "N", value_parser = number::<u32>, allow_negative_numbers = true)]
    pub(super) max_megapixels: Option<u32>,
    /// ONNX Runtime library [default: the installed one in --runtime]
    #[arg(long, env = "ROSTRO_ONNXRUNTIME", value_name = "FILE")]
    pub(super) onnxruntime: Option<PathBuf>,
    /// Folder with the installed ONNX Runtime [default: models/runtime here, or
    /// above this program]
    #[arg(long, env = "ROSTRO_RUNTIME", value_name = "DIR")]
    pub(super) runtime: Option<PathBuf>,
    /// File with a line NAME:SCOPES:KEY for each API key [default: callers need
    /// no key]
    ///
    /// Read again on SIGHUP.
    #[arg(long, env = "ROSTRO_API_KEYS", value_name = "FILE")]
    pub(super) api_keys: Option<PathBuf>,
    /// File with the service's certificate chain, PEM; read again on SIGHUP
    /// [default: no TLS]
    #[arg(long, env = "ROSTRO_TLS_CERTIFICATE", value_name = "FILE")]
    pub(super) tls_certificate: Option<PathBuf>,
    /// File with the private key of that certificate, PEM
    #[arg(long, env = "ROSTRO_TLS_KEY", value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,
    /// Networks of trusted proxies, as 10.0.0.0/8 [default: none]
    ///
    /// Their headers about a client's address and the requested host are trusted.
    #[arg(long, env = "ROSTRO_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',', num_args = 1..)]
    pub(super) trusted_proxies: Option<Vec<Network>>,
    /// Address by which browsers reach the service, as `https://cameras.example`
    ///
    /// Needed where a proxy changes the host. May be repeated.
    #[arg(
        long,
        env = "ROSTRO_PUBLIC_ORIGIN",
        value_name = "URL",
        value_delimiter = ','
    )]
    pub(super) public_origin: Option<Vec<Origin>>,
    /// Site with pages that may call the service, as `https://app.example` or `*`
    /// [default: none]
    ///
    /// Needs --api-keys. May be repeated.
    #[arg(
        long,
        env = "ROSTRO_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub(super) allow_origin: Option<Vec<AllowedOrigin>>,
    /// Least strictness for enrolment photos [default: standard]
    ///
    /// Callers may ask for more with the field `review`. Read again on SIGHUP.
    #[arg(long, env = "ROSTRO_REVIEW", value_name = "STRICTNESS", value_enum)]
    pub(super) review: Option<Review>,
    /// Search method of the gallery [default: exact]
    #[arg(long, env = "ROSTRO_SEARCH", value_name = "METHOD", value_enum)]
    pub(super) search: Option<Search>,
    /// Templates up to which all of them are compared [default: 100000]
    #[arg(long, env = "ROSTRO_APPROXIMATE_ABOVE", value_name = "N", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) approximate_above: Option<usize>,
    /// Format of the log [default: text]
    #[arg(long, env = "ROSTRO_LOG_FORMAT", value_name = "FORMAT", value_enum)]
    pub(super) log_format: Option<LogFormat>,
}

/// Adds the keys of a base table that the own table lacks.
fn keep_own_keys(own: &mut BTreeMap<String, toml::Value>, base: BTreeMap<String, toml::Value>) {
    for (key, value) in base {
        own.entry(key).or_insert(value);
    }
}

/// Search method of the gallery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Search {
    /// Compare with every template
    #[default]
    Exact,
    /// Compare with a shortlist if there are many templates
    Approximate,
    /// Store templates in 8 bits, and compare with a shortlist if there are many
    Int8,
}

/// Precision of the models that see frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FramePrecision {
    /// The pack's 8-bit variant where a measurement at the start finds it faster
    #[default]
    Auto,
    /// Floats
    Float,
    /// The pack's 8-bit variant in every run
    Int8,
}

/// Reaction to a setting that the configured pipeline does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnknownSettingsAction {
    /// Do not start
    #[default]
    Refuse,
    /// Log a warning, for settings of a pipeline that is pushed later
    Warn,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}
