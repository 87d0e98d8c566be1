//! 8-bit variants of a pack's models, which a file next to the manifest names.
//!
//! The file is not part of the manifest, because programs of before must still read the pack, and
//! a revision's id covers the manifest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rostro_common::digest::Sha256Digest;
use serde::{Deserialize, Serialize};

use crate::manifest::{Manifest, is_file_name, is_sha256};
use crate::model_file::{ModelFileError, read_verified};

/// Name of the file in a pack's folder.
pub const VARIANTS: &str = "int8.toml";

/// 8-bit variants by the role of their originals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Variants(pub(crate) BTreeMap<String, VariantSpec>);

/// An 8-bit variant of a model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VariantSpec {
    /// File name without a folder.
    pub(crate) file: String,
    /// SHA-256 of the file in 64 lower-case hexadecimal digits.
    pub(crate) sha256: String,
    /// Size of the file in bytes.
    pub(crate) size: u64,
    /// SHA-256 of the model that it is a variant of.
    pub(crate) original: String,
}

/// Error of a variant that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VariantError {
    /// The file of variants cannot be read.
    #[error("cannot read {VARIANTS}: {0}")]
    Unreadable(#[from] io::Error),
    /// It is not TOML, or has missing or unknown keys.
    #[error("{VARIANTS} is not valid: {0}")]
    Toml(#[from] toml::de::Error),
    /// A value is out of its range.
    #[error("in {VARIANTS}, {role}.{key} is not valid")]
    Value {
        /// Role of the model.
        role: String,
        /// Key of the value.
        key: &'static str,
    },
    /// The pack has no model for the role.
    #[error("{VARIANTS} names a variant for `{0}`, for which the pack has no model")]
    UnknownRole(String),
    /// It was made from another model than the pack's.
    #[error("{file} was made from another model than the pack's `{role}`")]
    OtherOriginal {
        /// Role of the model.
        role: String,
        /// File of the variant.
        file: String,
    },
    /// Its file is missing or changed.
    #[error(transparent)]
    File(#[from] ModelFileError),
}

/// Reads the verified bytes of the variant for a role. Most packs have none.
pub(crate) fn read(
    folder: &Path,
    manifest: &Manifest,
    role: &str,
) -> Result<Option<Vec<u8>>, VariantError> {
    match read_specs(folder)?.0.get(role) {
        Some(spec) => read_variant(folder, manifest, role, spec).map(Some),
        None => Ok(None),
    }
}

/// Reads what a pack's folder says of its variants.
pub(crate) fn read_specs(folder: &Path) -> Result<Variants, VariantError> {
    match fs::read_to_string(folder.join(VARIANTS)) {
        Ok(text) => Ok(toml::from_str(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Variants::default()),
        Err(error) => Err(error.into()),
    }
}

/// Returns a digest of the variants that a pack's folder names; none without any.
pub(crate) fn digest(folder: &Path) -> Option<Sha256Digest> {
    let variants = read_specs(folder).ok()?.0;
    let lines = variants.iter();
    let lines: String = lines
        .map(|(role, spec)| format!("{role} {}\n", spec.sha256))
        .collect();
    (!lines.is_empty()).then(|| Sha256Digest::of(lines.as_bytes()))
}

fn read_variant(
    folder: &Path,
    manifest: &Manifest,
    role: &str,
    spec: &VariantSpec,
) -> Result<Vec<u8>, VariantError> {
    let invalid = |key| VariantError::Value {
        role: role.to_owned(),
        key,
    };
    if !is_file_name(&spec.file) {
        return Err(invalid("file"));
    }
    if !is_sha256(&spec.sha256) {
        return Err(invalid("sha256"));
    }
    let original = manifest
        .models
        .get(role)
        .ok_or_else(|| VariantError::UnknownRole(role.to_owned()))?;
    if original.sha256 != spec.original {
        return Err(VariantError::OtherOriginal {
            role: role.to_owned(),
            file: spec.file.clone(),
        });
    }
    let file = File::open(folder.join(&spec.file)).map_err(|cause| ModelFileError::Unreadable {
        file: spec.file.clone(),
        cause,
    })?;
    Ok(read_verified(file, &spec.file, &spec.sha256, spec.size)?)
}
