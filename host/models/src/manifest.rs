//! The TOML manifest of a pack.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use rostro_common::digest::Sha256Digest;
use rostro_common::fs::without_mark;

/// The manifest's name in an installed pack's folder.
pub const MANIFEST: &str = "manifest.toml";

/// Manifests that are part of the program.
const BUILT_IN: [&str; 7] = [
    include_str!("../../../models/mobile.toml"),
    include_str!("../../../models/mobile-liveness.toml"),
    include_str!("../../../models/buffalo_l.toml"),
    include_str!("../../../models/buffalo_m.toml"),
    include_str!("../../../models/buffalo_sc.toml"),
    include_str!("../../../models/antelopev2.toml"),
    include_str!("../../../models/testing.toml"),
];

/// Description of a pack: models that belong together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of lower-case letters, digits, `_` and `-`.
    pub name: String,
    /// Description in one line.
    pub description: String,
    /// Terms of use in one line.
    pub license: String,
    /// Whether the terms must be accepted before the pack is installed.
    #[serde(default)]
    pub requires_acceptance: bool,
    /// The published archive; `None` if the pack is installed only from a folder.
    pub archive: Option<PublishedArchive>,
    /// Recommended thresholds for its models.
    pub thresholds: Thresholds,
    /// Defaults of the pipeline's own settings. The operator's values take precedence.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Models by role.
    pub models: BTreeMap<String, ModelSpec>,
}

/// A published zip archive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedArchive {
    /// Address for the download.
    pub url: String,
    /// SHA-256 in 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// Decision thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Faces with a lower detection score are not reported, 0 to 1.
    pub detection: f32,
    /// Maximum cosine similarity at which a face is still unknown, -1 to 1.
    pub similarity: f32,
}

/// A model's file and its input format.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// File name without a folder.
    pub file: String,
    /// SHA-256 of the file in 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Maximum size of the file in bytes: its exact size if known.
    pub max_size: u64,
    /// Width of the input in pixels; `None` if any multiple of 32 is allowed.
    pub width: Option<u32>,
    /// Height of the input in pixels; `None` if any multiple of 32 is allowed.
    pub height: Option<u32>,
    /// Number that is subtracted from each channel value of 0 to 255.
    pub mean: f32,
    /// Number that the difference is divided by.
    pub std: f32,
    /// Order of the input's channels.
    #[serde(default)]
    pub channels: Channels,
    /// Number of images in one run; `None` if any number is allowed.
    pub batch: Option<u32>,
    /// Dimension of the embedding, for a model that makes one.
    pub dimension: Option<u32>,
}

/// Order of colour channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// Error of a manifest that is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The text is not TOML, or has missing or unknown keys.
    #[error("not a pack manifest: {0}")]
    Toml(#[from] toml::de::Error),
    /// A value is out of its range.
    #[error("in the pack manifest, {key} {rule}")]
    Value {
        /// The key.
        key: String,
        /// The rule that the value breaks.
        rule: &'static str,
    },
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] names the key and the rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(without_mark(text))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Iterates over the manifests that are part of the program, with their texts.
    pub fn built_in() -> impl Iterator<Item = (Self, &'static str)> {
        BUILT_IN
            .into_iter()
            .filter_map(|text| Self::parse(text).ok().map(|manifest| (manifest, text)))
    }

    fn check(&self) -> Result<(), ManifestError> {
        let must = |holds: bool, key: &str, rule: &'static str| match holds {
            true => Ok(()),
            false => Err(ManifestError::Value {
                key: key.to_owned(),
                rule,
            }),
        };
        must(
            is_identifier(&self.name),
            "name",
            "must be lower-case letters, digits, `_` and `-`",
        )?;
        must(
            (0.0..=1.0).contains(&self.thresholds.detection),
            "thresholds.detection",
            "must be between 0 and 1",
        )?;
        must(
            (-1.0..=1.0).contains(&self.thresholds.similarity),
            "thresholds.similarity",
            "must be between -1 and 1",
        )?;
        must(
            !self.models.is_empty(),
            "models",
            "must have at least one role",
        )?;
        if let Some(archive) = &self.archive {
            must(
                is_sha256(&archive.sha256),
                "archive.sha256",
                "must be 64 hexadecimal digits",
            )?;
        }
        for (role, model) in &self.models {
            let key = |field: &str| format!("models.{role}.{field}");
            must(
                is_identifier(role),
                &key(""),
                "must be lower-case letters, digits, `_` and `-`",
            )?;
            must(
                is_file_name(&model.file),
                &key("file"),
                "must be the name of a file, without a folder",
            )?;
            must(
                is_sha256(&model.sha256),
                &key("sha256"),
                "must be 64 hexadecimal digits",
            )?;
            must(
                model.std.is_normal() && model.mean.is_finite(),
                &key("std"),
                "must be a number other than zero, and mean a number",
            )?;
            let sizes = [model.width, model.height, model.batch, model.dimension];
            must(
                !sizes.contains(&Some(0)),
                &key("width"),
                "and height, batch and dimension must be at least 1 if present",
            )?;
        }
        Ok(())
    }
}

/// Returns the names of the packs in a folder, in order. Every folder with a manifest is a pack.
/// Names with a leading dot are skipped, because those packs are incomplete.
pub(crate) fn installed_names(models: &Path) -> Vec<String> {
    let entries = models.read_dir().into_iter().flatten().flatten();
    let names = entries
        .filter(|entry| entry.path().join(MANIFEST).exists())
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

/// Returns the names of the built-in packs, then of other installed packs.
pub(crate) fn known_names(models: &Path) -> Vec<String> {
    let mut names: Vec<String> = Manifest::built_in()
        .map(|(manifest, _)| manifest.name)
        .collect();
    for name in installed_names(models) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Returns true for a valid name of a pack or a role.
fn is_identifier(text: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
    };
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

/// Returns true for the name of a model's file, without a folder.
pub(crate) fn is_file_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !text.starts_with('.')
        && text != MANIFEST
        && (1..=128).contains(&text.len())
        && text.bytes().all(allowed)
}

/// Returns true for a digest in lower-case digits, as digests are displayed and compared.
pub(crate) fn is_sha256(text: &str) -> bool {
    text.parse()
        .is_ok_and(|digest: Sha256Digest| digest.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_manifests_are_valid() {
        for text in BUILT_IN {
            Manifest::parse(text).unwrap();
        }
        let names: Vec<String> = Manifest::built_in()
            .map(|(manifest, _)| manifest.name)
            .collect();
        assert_eq!(
            names,
            [
                "mobile",
                "mobile-liveness",
                "buffalo_l",
                "buffalo_m",
                "buffalo_sc",
                "antelopev2",
                "testing"
            ]
        );
    }

    #[test]
    fn invalid_value_names_key_and_rule() {
        let good = BUILT_IN[0];
        for (from, to, wanted) in [
            (
                "name = \"mobile\"",
                "name = \"../mobile\"",
                "name must be lower-case",
            ),
            (
                "file = \"det_500m.onnx\"",
                "file = \"../det_500m.onnx\"",
                "models.detector.file must be the name of a file",
            ),
            (
                "std = 128.0",
                "std = 0.0",
                "models.detector.std must be a number other than zero",
            ),
            (
                "sha256 = \"5e44",
                "sha256 = \"5E44",
                "models.detector.sha256 must be 64 hexadecimal digits",
            ),
            (
                "similarity = ",
                "similarity = 1",
                "thresholds.similarity must be between -1 and 1",
            ),
            (
                "batch = 1",
                "batch = 0",
                "models.recognizer.width and height, batch",
            ),
            ("batch = 1", "bach = 1", "unknown field `bach`"),
        ] {
            assert!(good.contains(from), "{from}");
            let error = Manifest::parse(&good.replacen(from, to, 1))
                .unwrap_err()
                .to_string();
            assert!(error.contains(wanted), "{to}: {error}");
        }
    }
}
