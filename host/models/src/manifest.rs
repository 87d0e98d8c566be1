//! What a pack's TOML manifest says.

use std::collections::BTreeMap;

use serde::Deserialize;

use rostro_common::digest::Sha256Digest;
use rostro_common::fs::without_mark;

/// The manifests that come with the program.
const BUILT_IN: [&str; 7] = [
    include_str!("../../../models/mobile.toml"),
    include_str!("../../../models/mobile-liveness.toml"),
    include_str!("../../../models/buffalo_l.toml"),
    include_str!("../../../models/buffalo_m.toml"),
    include_str!("../../../models/buffalo_sc.toml"),
    include_str!("../../../models/antelopev2.toml"),
    include_str!("../../../models/testing.toml"),
];

/// A pack of models that belong together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Lower-case letters, digits, `_` and `-`.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// The terms of use in one line.
    pub license: String,
    /// Whether somebody must agree to the terms before the pack is installed.
    #[serde(default)]
    pub requires_acceptance: bool,
    /// Where the pack is published; none if it is only installed from a folder.
    pub archive: Option<PublishedArchive>,
    /// The operating point that suits its models.
    pub thresholds: Thresholds,
    /// What suits its models of the pipeline's own settings, where the operator says nothing else.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// The models by role.
    pub models: BTreeMap<String, ModelSpec>,
}

/// A published zip archive.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedArchive {
    /// Where it is.
    pub url: String,
    /// What it must be: 64 hexadecimal digits.
    pub sha256: String,
}

/// An operating point.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// Faces with a lower detection score are not reported, 0 to 1.
    pub detection: f32,
    /// A face whose best cosine similarity is not above this is unknown, -1 to 1.
    pub similarity: f32,
}

/// A model's file, and how it wants to be fed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Its file's name, without a folder.
    pub file: String,
    /// What the file must be: 64 hexadecimal digits.
    pub sha256: String,
    /// The most bytes that the file may have: its size where it is known.
    pub max_size: u64,
    /// Width of its input in pixels; none if any multiple of 32 will do.
    pub width: Option<u32>,
    /// Height of its input in pixels; none if any multiple of 32 will do.
    pub height: Option<u32>,
    /// What is taken from each channel value of 0 to 255.
    pub mean: f32,
    /// What the difference is divided by.
    pub std: f32,
    /// The order of its input's channels.
    #[serde(default)]
    pub channels: Channels,
    /// How many images one run takes; none if any number.
    pub batch: Option<u32>,
    /// Numbers in an embedding, for a model that makes one.
    pub dimension: Option<u32>,
}

/// The order of a model's channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// What is wrong with a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is no TOML, or has other keys.
    #[error("not a pack manifest: {0}")]
    Toml(#[from] toml::de::Error),
    /// A value is out of its range.
    #[error("in the pack manifest, {key} {rule}")]
    Value {
        /// Which key.
        key: String,
        /// What it must be.
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

    /// The manifests that come with the program, with their texts.
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
            is_name(&self.name),
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
                is_name(role),
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
                "must be a number other than zero, and mean one too",
            )?;
            let sizes = [model.width, model.height, model.batch, model.dimension];
            must(
                !sizes.contains(&Some(0)),
                &key("width"),
                "and height, batch and dimension must be at least 1 where they are given",
            )?;
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
    };
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_file_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !text.starts_with('.')
        && text != super::pack::MANIFEST
        && (1..=128).contains(&text.len())
        && text.bytes().all(allowed)
}

/// Returns true for a digest in lower-case digits, as digests are displayed and compared.
fn is_sha256(text: &str) -> bool {
    text.parse()
        .is_ok_and(|digest: Sha256Digest| digest.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_manifest_is_valid() {
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
    fn a_bad_value_is_named_with_its_rule() {
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
