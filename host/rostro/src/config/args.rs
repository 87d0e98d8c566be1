//! What may be typed: flags, variables and keys of the file, one and the same.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use merge::Merge;
use serde::{Deserialize, Serialize};

use rostro_api::{AllowedOrigin, Network, Origin};
use rostro_sandbox::review::Review;
use rostro_service::deployment::FolderAction;

use super::address::{Address, AdminAddress};
use super::{key_value, number};

/// What an operator may set; each once as a flag, a variable and a key of the file.
#[derive(Clone, Debug, Default, Args, Deserialize, Merge, Serialize)]
#[merge(strategy = merge::option::overwrite_none)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ServeArgs {
    /// Address to serve on, HOST:PORT [default: 127.0.0.1:4000]
    #[arg(long, env = "ROSTRO_LISTEN", value_name = "ADDRESS")]
    pub(super) listen: Option<Address>,
    /// Folder of CSV files with the people who are known [default: embeddings_csvs]
    #[arg(long, env = "ROSTRO_GALLERY", value_name = "DIR")]
    pub(super) gallery: Option<PathBuf>,
    /// Folder with installed model packs [default: models/installed here, or above this program]
    #[arg(long, env = "ROSTRO_MODELS", value_name = "DIR")]
    pub(super) models: Option<PathBuf>,
    /// Model pack to use; `testing` is built in and knows drawn faces only [default: mobile]
    #[arg(long, env = "ROSTRO_PACK", value_name = "NAME")]
    pub(super) pack: Option<String>,
    /// Component with the pipeline [default: insightface.wasm beside this program]
    #[arg(long, env = "ROSTRO_PIPELINE", value_name = "FILE.wasm")]
    pub(super) pipeline: Option<PathBuf>,
    /// Component whose policy replaces the pipeline's own
    #[arg(long, env = "ROSTRO_POLICY", value_name = "FILE.wasm")]
    pub(super) policy: Option<PathBuf>,
    /// Faces with a lower score are not reported, 0 to 1 [default: the pack's]
    #[arg(long, env = "ROSTRO_DETECTION_THRESHOLD", value_name = "SCORE", value_parser = number::<f32>, allow_negative_numbers = true)]
    pub(super) detection_threshold: Option<f32>,
    /// Faces whose best similarity is not above this are unknown, -1 to 1 [default: the pack's]
    #[arg(long, env = "ROSTRO_SIMILARITY_THRESHOLD", value_name = "COSINE", value_parser = number::<f32>, allow_negative_numbers = true)]
    pub(super) similarity_threshold: Option<f32>,
    /// A setting for the pipeline itself, as KEY=VALUE; may be repeated [env:
    /// ROSTRO_SETTING=KEY=VALUE,...]
    #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = key_value)]
    #[merge(skip)]
    #[serde(skip)]
    pub(super) settings: Vec<(String, String)>,
    /// The same in the file: a table.
    #[arg(skip)]
    #[merge(strategy = keep_own_keys)]
    pub(super) setting: BTreeMap<String, toml::Value>,
    /// What a setting does that the pipeline does not know: stop the start, or warn [default:
    /// refuse]
    #[arg(
        long,
        env = "ROSTRO_UNKNOWN_SETTINGS",
        value_name = "ACTION",
        value_enum
    )]
    pub(super) unknown_settings: Option<UnknownSettingsAction>,
    /// Folder in which revisions are remembered across restarts, and who changed them [default:
    /// rostro_state]
    #[arg(long, env = "ROSTRO_STATE", value_name = "DIR")]
    pub(super) state: Option<PathBuf>,
    /// Seconds to wait at the start for another process that still uses the gallery or the state
    /// folder [default: 0]
    #[arg(long, env = "ROSTRO_WAIT_FOR_LOCK", value_name = "SECONDS", value_parser = number::<f64>, allow_negative_numbers = true)]
    pub(super) wait_for_lock: Option<f64>,
    /// Days for which lines of the audit log, and the keys of the people in them, are kept
    /// [default: 730]
    #[arg(long, env = "ROSTRO_KEEP_AUDIT", value_name = "DAYS", value_parser = number::<u32>, allow_negative_numbers = true)]
    pub(super) keep_audit: Option<u32>,
    /// Folder in which compiled components are kept, so that they need not be compiled again;
    /// nobody else may write into it [default: compiled in the state folder]
    #[arg(long, env = "ROSTRO_COMPILED", value_name = "DIR")]
    pub(super) compiled: Option<PathBuf>,
    /// Address of the admin interface, or `off`; other addresses than of the loopback interface
    /// need --admin-token-file [default: 127.0.0.1:4001]
    #[arg(long, env = "ROSTRO_ADMIN", value_name = "ADDRESS|off")]
    pub(super) admin: Option<AdminAddress>,
    /// File with a line NAME:TOKEN for each operator who may use the admin interface; read again on
    /// SIGHUP
    #[arg(long, env = "ROSTRO_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub(super) admin_token_file: Option<PathBuf>,
    /// Folder that is watched: a component that appears in it is staged
    #[arg(long, env = "ROSTRO_PIPELINES", value_name = "DIR")]
    pub(super) pipelines: Option<PathBuf>,
    /// What becomes of a component from the watched folder once it is staged [default: activate]
    #[arg(
        long,
        env = "ROSTRO_PIPELINES_ACTION",
        value_name = "ACTION",
        value_enum
    )]
    pub(super) pipelines_action: Option<FolderAction>,
    /// Folder with pictures that a revision must see as `expectations.toml` in it says before it
    /// can serve
    #[arg(long, env = "ROSTRO_SELF_TEST", value_name = "DIR")]
    pub(super) self_test: Option<PathBuf>,
    /// Failed requests in a row after which a revision is taken out and the previous one serves;
    /// read again on SIGHUP [default: 10]
    #[arg(long, env = "ROSTRO_BREAKER", value_name = "N", value_parser = number::<u32>, allow_negative_numbers = true)]
    pub(super) breaker: Option<u32>,
    /// A limit of the sandbox, as NAME=VALUE; may be repeated [env: ROSTRO_LIMIT=NAME=VALUE,...]
    #[arg(long = "limit", value_name = "NAME=VALUE", value_parser = key_value)]
    #[merge(skip)]
    #[serde(skip)]
    pub(super) limits: Vec<(String, String)>,
    /// The same in the file: a table.
    #[arg(skip)]
    #[merge(strategy = keep_own_keys)]
    pub(super) limit: BTreeMap<String, toml::Value>,
    /// Requests worked on at a time [default: the cores that this process may use]
    #[arg(long, env = "ROSTRO_WORKERS", value_name = "N", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) workers: Option<usize>,
    /// Requests that may wait for a worker; read again on SIGHUP [default: 64]
    #[arg(long, env = "ROSTRO_QUEUE", value_name = "N", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) queue: Option<usize>,
    /// Seconds that a request may take from the end of its body; read again on SIGHUP [default: 30]
    #[arg(long, env = "ROSTRO_DEADLINE", value_name = "SECONDS", value_parser = number::<f64>, allow_negative_numbers = true)]
    pub(super) deadline: Option<f64>,
    /// Largest body of a request in MiB [default: 128]
    #[arg(long, env = "ROSTRO_MAX_BODY_MIB", value_name = "MIB", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) max_body_mib: Option<usize>,
    /// Largest image file in MiB [default: 100]
    #[arg(long, env = "ROSTRO_MAX_IMAGE_MIB", value_name = "MIB", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) max_image_mib: Option<usize>,
    /// Memory for the bodies of all requests together in MiB, at least twice the largest body
    /// [default: 512]
    #[arg(long, env = "ROSTRO_MAX_BODIES_MIB", value_name = "MIB", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) max_bodies_mib: Option<usize>,
    /// Largest archive of the gallery in GiB, in and out [default: 16]
    #[arg(long, env = "ROSTRO_MAX_ARCHIVE_GIB", value_name = "GIB", value_parser = number::<f64>, allow_negative_numbers = true)]
    pub(super) max_archive_gib: Option<f64>,
    /// Memory that all running pipelines together may take in MiB, at least what one may [default:
    /// 256 for each worker, at least 1024]
    #[arg(long, env = "ROSTRO_MAX_GUESTS_MIB", value_name = "MIB", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) max_guests_mib: Option<usize>,
    /// Most pixels that are decoded of an image in megapixels, at most 40 [default: 40]
    #[arg(long, env = "ROSTRO_MAX_MEGAPIXELS", value_name = "N", value_parser = number::<u32>, allow_negative_numbers = true)]
    pub(super) max_megapixels: Option<u32>,
    /// ONNX Runtime library [default: the one that `rostro runtime install` put into the folder
    /// --runtime]
    #[arg(long, env = "ROSTRO_ONNXRUNTIME", value_name = "FILE")]
    pub(super) onnxruntime: Option<PathBuf>,
    /// Folder into which `rostro runtime install` puts ONNX Runtime [default: models/runtime here,
    /// or above this program]
    #[arg(long, env = "ROSTRO_RUNTIME", value_name = "DIR")]
    pub(super) runtime: Option<PathBuf>,
    /// File with the API keys of callers, a line NAME:SCOPES:KEY for each; read again on SIGHUP
    /// [default: none are asked for]
    #[arg(long, env = "ROSTRO_API_KEYS", value_name = "FILE")]
    pub(super) api_keys: Option<PathBuf>,
    /// File with the service's certificate and those that lead to its root, PEM; read again on
    /// SIGHUP [default: no TLS]
    #[arg(long, env = "ROSTRO_TLS_CERTIFICATE", value_name = "FILE")]
    pub(super) tls_certificate: Option<PathBuf>,
    /// File with the private key of that certificate, PEM
    #[arg(long, env = "ROSTRO_TLS_KEY", value_name = "FILE")]
    pub(super) tls_key: Option<PathBuf>,
    /// Networks of proxies in front of the service, as 10.0.0.0/8; what they say of a client's
    /// address and of the host that it asked is believed [default: none]
    #[arg(long, env = "ROSTRO_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',', num_args = 1..)]
    pub(super) trusted_proxies: Option<Vec<Network>>,
    /// Address under which browsers reach the service, as `https://cameras.example`, where a proxy
    /// changes the host; may be repeated
    #[arg(
        long,
        env = "ROSTRO_PUBLIC_ORIGIN",
        value_name = "URL",
        value_delimiter = ','
    )]
    pub(super) public_origin: Option<Vec<Origin>>,
    /// Site whose pages may call the service with a key, as `https://app.example`, or `*`; may be
    /// repeated; needs --api-keys [default: none]
    #[arg(
        long,
        env = "ROSTRO_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub(super) allow_origin: Option<Vec<AllowedOrigin>>,
    /// How strictly enrolment photos are judged; callers may ask for more with the field `review`;
    /// read again on SIGHUP [default: standard]
    #[arg(long, env = "ROSTRO_REVIEW", value_name = "STRICTNESS", value_enum)]
    pub(super) review: Option<Review>,
    /// How to search the gallery [default: exact]
    #[arg(long, env = "ROSTRO_SEARCH", value_name = "METHOD", value_enum)]
    pub(super) search: Option<Search>,
    /// Templates up to which an approximate search is exact nevertheless [default: 100000]
    #[arg(long, env = "ROSTRO_APPROXIMATE_ABOVE", value_name = "N", value_parser = number::<usize>, allow_negative_numbers = true)]
    pub(super) approximate_above: Option<usize>,
    /// How to write the log [default: text]
    #[arg(long, env = "ROSTRO_LOG_FORMAT", value_name = "FORMAT", value_enum)]
    pub(super) log_format: Option<LogFormat>,
}

/// Adds the keys of a base table that the own table lacks.
fn keep_own_keys(own: &mut BTreeMap<String, toml::Value>, base: BTreeMap<String, toml::Value>) {
    for (key, value) in base {
        own.entry(key).or_insert(value);
    }
}

/// How the gallery is searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Search {
    /// Every template is compared with.
    #[default]
    Exact,
    /// Of many templates, only those that look near at first sight are.
    Approximate,
}

/// What is done about a setting that the configured pipeline does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UnknownSettingsAction {
    /// The service does not start.
    #[default]
    Refuse,
    /// The log has a warning: for settings of a pipeline that will be pushed.
    Warn,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
