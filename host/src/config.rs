//! Configuration of `rostro serve`, in two steps: what was typed ([`ServeArgs`], from flags, `ROSTRO_*` variables and a TOML file), and
//! what the rest of the program sees ([`Config`], validated).
//!
//! Precedence: flag, variable, file, default. An unknown key in the file is an error.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::http::BodyLimits;
use crate::index::Method;
use crate::revision::Tuning;

/// What an operator may set; each once as a flag, a variable and a key of the file.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct ServeArgs {
    /// Address to serve on [default: 127.0.0.1:4000]
    #[arg(long, env = "ROSTRO_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Folder of CSV files with the people who are known [default: embeddings_csvs]
    #[arg(long, env = "ROSTRO_GALLERY", value_name = "DIR")]
    gallery: Option<PathBuf>,
    /// Folder with installed model packs [default: models/installed]
    #[arg(long, env = "ROSTRO_MODELS", value_name = "DIR")]
    models: Option<PathBuf>,
    /// Model pack to use; `testing` is built in and knows drawn faces only [default: mobile]
    #[arg(long, env = "ROSTRO_PACK", value_name = "NAME")]
    pack: Option<String>,
    /// Component with the pipeline [default: insightface.wasm beside this program]
    #[arg(long, env = "ROSTRO_PIPELINE", value_name = "FILE.wasm")]
    pipeline: Option<PathBuf>,
    /// Component whose policy replaces the pipeline's own
    #[arg(long, env = "ROSTRO_POLICY", value_name = "FILE.wasm")]
    policy: Option<PathBuf>,
    /// Faces with a lower score are not reported, 0 to 1 [default: the pack's]
    #[arg(long, env = "ROSTRO_DETECTION_THRESHOLD", value_name = "SCORE")]
    detection_threshold: Option<f32>,
    /// Faces whose best similarity is not above this are unknown, -1 to 1 [default: the pack's]
    #[arg(long, env = "ROSTRO_SIMILARITY_THRESHOLD", value_name = "COSINE", allow_negative_numbers = true)]
    similarity_threshold: Option<f32>,
    /// A setting for the pipeline itself, as KEY=VALUE; may be repeated [env: ROSTRO_SETTING=KEY=VALUE,...]
    #[arg(long = "setting", value_name = "KEY=VALUE", value_parser = key_value)]
    #[serde(skip)]
    settings: Vec<(String, String)>,
    /// The same in the file: a table.
    #[arg(skip)]
    setting: BTreeMap<String, toml::Value>,
    /// Requests worked on at a time [default: the cores that this process may use]
    #[arg(long, env = "ROSTRO_WORKERS", value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Requests that may wait for a worker [default: 64]
    #[arg(long, env = "ROSTRO_QUEUE", value_name = "N")]
    queue: Option<usize>,
    /// Seconds that a request may take from its arrival [default: 30]
    #[arg(long, env = "ROSTRO_DEADLINE", value_name = "SECONDS")]
    deadline: Option<f64>,
    /// Largest body of a request in MiB [default: 128]
    #[arg(long, env = "ROSTRO_MAX_BODY_MIB", value_name = "MIB")]
    max_body_mib: Option<usize>,
    /// Largest image file in MiB [default: 32]
    #[arg(long, env = "ROSTRO_MAX_IMAGE_MIB", value_name = "MIB")]
    max_image_mib: Option<usize>,
    /// Memory for the bodies of all requests together in MiB, at least twice the largest body [default: 512]
    #[arg(long, env = "ROSTRO_MAX_BODIES_MIB", value_name = "MIB")]
    max_bodies_mib: Option<usize>,
    /// Largest image in megapixels, at most 40 [default: 40]
    #[arg(long, env = "ROSTRO_MAX_MEGAPIXELS", value_name = "N")]
    max_megapixels: Option<u32>,
    /// ONNX Runtime library [default: the one that `rostro runtime install` put into models/runtime]
    #[arg(long, env = "ROSTRO_ONNXRUNTIME", value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Folder into which `rostro runtime install` puts ONNX Runtime [default: models/runtime]
    #[arg(long, env = "ROSTRO_RUNTIME", value_name = "DIR")]
    runtime: Option<PathBuf>,
    /// How to search the gallery [default: exact]
    #[arg(long, env = "ROSTRO_SEARCH", value_name = "METHOD", value_enum)]
    search: Option<Search>,
    /// Templates up to which an approximate search is exact nevertheless [default: 100000]
    #[arg(long, env = "ROSTRO_APPROXIMATE_ABOVE", value_name = "N")]
    approximate_above: Option<usize>,
    /// How to write the log [default: text]
    #[arg(long, env = "ROSTRO_LOG_FORMAT", value_name = "FORMAT", value_enum)]
    log_format: Option<LogFormat>,
}

/// How the gallery is searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Search {
    /// Every template is compared with.
    #[default]
    Exact,
    /// Of many templates, only those that look near at first sight are.
    Approximate,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A validated configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Address to serve on.
    pub listen: SocketAddr,
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
    /// Thresholds and settings for the guests.
    pub tuning: Tuning,
    /// Requests worked on at a time.
    pub workers: NonZeroUsize,
    /// Requests that may wait.
    pub queue: usize,
    /// Time for a request.
    pub deadline: Duration,
    /// What callers may send.
    pub bodies: BodyLimits,
    /// The ONNX Runtime library, if it was named.
    pub onnxruntime: Option<PathBuf>,
    /// Where it is installed otherwise.
    pub runtime: PathBuf,
    /// How the gallery is searched.
    pub search: Method,
    /// How the log is written.
    pub log_format: LogFormat,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
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
    /// The variable with the pipeline's settings is not what it should be.
    #[error("ROSTRO_SETTING has `{0}`; write it as KEY=VALUE, several separated by commas")]
    Variable(String),
    /// A pipeline's setting has a value that is no text, number or boolean.
    #[error("setting.{0} must be a text, a number or a boolean")]
    Setting(String),
}

impl ServeArgs {
    /// What a configuration file says.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no TOML, or has a key that is not known.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        toml::from_str(&text).map_err(|cause| ConfigError::Invalid { path: path.to_owned(), cause })
    }

    /// What the variable `ROSTRO_SETTING` says: settings for the pipeline, separated by commas. Every other variable is its flag's.
    ///
    /// # Errors
    ///
    /// If it is not KEY=VALUE.
    pub(crate) fn of_variable(text: Option<String>) -> Result<Self, ConfigError> {
        let settings = text.iter().flat_map(|text| text.split(',')).filter(|text| !text.is_empty());
        let settings = settings.map(|text| key_value(text).map_err(|_| ConfigError::Variable(text.to_owned())));
        Ok(Self { settings: settings.collect::<Result<_, _>>()?, ..Self::default() })
    }

    /// These settings, and where they say nothing those of `base`.
    #[must_use]
    pub(crate) fn or(self, base: Self) -> Self {
        let typed = |settings: Vec<(String, String)>| settings.into_iter().map(|(key, value)| (key, toml::Value::String(value)));
        let mut setting = base.setting;
        setting.extend(typed(base.settings));
        setting.extend(self.setting);
        setting.extend(typed(self.settings));
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
            workers: self.workers.or(base.workers),
            queue: self.queue.or(base.queue),
            deadline: self.deadline.or(base.deadline),
            max_body_mib: self.max_body_mib.or(base.max_body_mib),
            max_image_mib: self.max_image_mib.or(base.max_image_mib),
            max_bodies_mib: self.max_bodies_mib.or(base.max_bodies_mib),
            max_megapixels: self.max_megapixels.or(base.max_megapixels),
            onnxruntime: self.onnxruntime.or(base.onnxruntime),
            runtime: self.runtime.or(base.runtime),
            search: self.search.or(base.search),
            approximate_above: self.approximate_above.or(base.approximate_above),
            log_format: self.log_format.or(base.log_format),
        }
    }

    /// Fills in defaults and checks ranges.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Range`] names the setting, its value and what is allowed.
    pub(crate) fn validate(self) -> Result<Config, ConfigError> {
        let this = self.or(Self::default());
        let deadline = this.deadline.unwrap_or(30.0);
        if !(0.001..=3600.0).contains(&deadline) {
            return Err(range("deadline", deadline, "between 0.001 and 3600 seconds"));
        }
        Ok(Config {
            listen: this.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 4000))),
            gallery: this.gallery.unwrap_or_else(|| "embeddings_csvs".into()),
            models: this.models.unwrap_or_else(|| "models/installed".into()),
            pack: this.pack.unwrap_or_else(|| "mobile".to_owned()),
            pipeline: this.pipeline.unwrap_or_else(beside_this_program),
            policy: this.policy,
            tuning: Tuning {
                detection: within("detection-threshold", this.detection_threshold, 0.0, "between 0 and 1")?,
                similarity: within("similarity-threshold", this.similarity_threshold, -1.0, "between -1 and 1")?,
                max_pixels: 1_000_000 * u64::from(megapixels(this.max_megapixels)?),
                own: this.setting.into_iter().map(text).collect::<Result<_, _>>()?,
            },
            workers: this.workers.unwrap_or_else(cores),
            queue: this.queue.unwrap_or(64),
            deadline: Duration::from_secs_f64(deadline),
            bodies: BodyLimits {
                body_bytes: mib("max-body-mib", this.max_body_mib, 128)?,
                image_bytes: mib("max-image-mib", this.max_image_mib, 32)?,
                // Any one body must find room, twice while its parts are taken out of it.
                memory_bytes: mib("max-bodies-mib", this.max_bodies_mib, 512)?.max(2 * mib("max-body-mib", this.max_body_mib, 128)?),
            },
            onnxruntime: this.onnxruntime,
            runtime: this.runtime.unwrap_or_else(|| "models/runtime".into()),
            search: match this.search.unwrap_or_default() {
                Search::Exact => Method::Exact,
                Search::Approximate => Method::Approximate { above: this.approximate_above.unwrap_or(100_000) },
            },
            log_format: this.log_format.unwrap_or_default(),
        })
    }
}

/// The cores that this process may use: the affinity mask and the cgroup's quota, as the standard library reads them.
#[must_use]
pub(crate) fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// A number of MiB in bytes.
fn mib(key: &'static str, value: Option<usize>, default: usize) -> Result<usize, ConfigError> {
    match value.unwrap_or(default) {
        value @ 1..=10_000 => Ok(value << 20),
        value => Err(range(key, value, "between 1 and 10000")),
    }
}

/// The range is what a guest's memory holds, decoded from 16 bits with alpha.
fn megapixels(value: Option<u32>) -> Result<u32, ConfigError> {
    match value.unwrap_or(40) {
        value @ 1..=40 => Ok(value),
        value => Err(range("max-megapixels", value, "between 1 and 40")),
    }
}

fn within(key: &'static str, value: Option<f32>, least: f32, allowed: &'static str) -> Result<Option<f32>, ConfigError> {
    match value {
        Some(value) if !(least..=1.0).contains(&value) => Err(range(key, value, allowed)),
        value => Ok(value),
    }
}

fn range(key: &'static str, value: impl ToString, range: &'static str) -> ConfigError {
    ConfigError::Range { key, value: value.to_string(), range }
}

/// A pipeline's setting as the text that the pipeline reads.
fn text((key, value): (String, toml::Value)) -> Result<(String, String), ConfigError> {
    let text = match value {
        toml::Value::String(text) => text,
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        _ => return Err(ConfigError::Setting(key)),
    };
    Ok((key, text))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

fn beside_this_program() -> PathBuf {
    let folder = std::env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
    folder.unwrap_or_default().join("insightface.wasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(toml: &str) -> ServeArgs {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn what_was_typed_wins_over_the_file_key_by_key() {
        let typed =
            ServeArgs { pack: Some("buffalo_l".into()), settings: vec![("letterbox".into(), "square".into())], ..ServeArgs::default() };
        let config = typed.or(args("pack = 'mobile'\nqueue = 3\n[setting]\nletterbox = 'frame'\ndetector-size = 320")).validate().unwrap();
        assert_eq!((config.pack.as_str(), config.queue), ("buffalo_l", 3));
        let own: Vec<_> = config.tuning.own.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(own, ["detector-size=320", "letterbox=square"]);
    }

    #[test]
    fn a_setting_of_the_pipeline_is_decided_key_by_key() {
        let typed = ServeArgs { settings: vec![("a".into(), "flag, with a comma".into())], ..ServeArgs::default() };
        let variable = ServeArgs::of_variable(Some("a=variable,b=variable".into())).unwrap();
        let config = typed.or(variable).or(args("[setting]\na = 'file'\nb = 'file'\nc = true")).validate().unwrap();
        let own: Vec<_> = config.tuning.own.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(own, ["a=flag, with a comma", "b=variable", "c=true"]);
        assert!(ServeArgs::of_variable(Some("a".into())).unwrap_err().to_string().contains("KEY=VALUE"));
        assert!(ServeArgs::of_variable(None).unwrap().settings.is_empty());
    }

    #[test]
    fn a_search_is_exact_unless_it_is_chosen_otherwise() {
        for (toml, method) in [
            ("", Method::Exact),
            ("approximate-above = 5", Method::Exact),
            ("search = 'approximate'", Method::Approximate { above: 100_000 }),
            ("search = 'approximate'\napproximate-above = 5", Method::Approximate { above: 5 }),
        ] {
            assert_eq!(args(toml).validate().unwrap().search, method, "{toml}");
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let error = toml::from_str::<ServeArgs>("similarity = 0.4").unwrap_err().to_string();
        assert!(error.contains("unknown field `similarity`"), "{error}");
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        for (toml, message) in [
            ("similarity-threshold = 1.5", "similarity-threshold is 1.5; it must be between -1 and 1"),
            ("detection-threshold = nan", "detection-threshold is NaN; it must be between 0 and 1"),
            ("deadline = 0", "deadline is 0; it must be between 0.001 and 3600 seconds"),
            ("max-megapixels = 0", "max-megapixels is 0; it must be between 1 and 40"),
        ] {
            assert_eq!(args(toml).validate().unwrap_err().to_string(), message);
        }
    }
}
