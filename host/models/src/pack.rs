//! An installed pack. Its files are verified while they are read into memory, so that the bytes
//! that run are the bytes that were checked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rostro_common::digest::Sha256Digest;

use super::manifest::{MANIFEST, Manifest, ManifestError, ModelSpec, installed_names, known_names};
use super::model_file::{ModelFileError, read_verified};
use super::remedy;
use super::variant::{self, VARIANTS, VariantError};

/// Models of the pack `testing`, which are part of the program.
const TESTING: [(&str, &[u8]); 2] = [
    (
        "detector.onnx",
        include_bytes!("../../../models/testing/detector.onnx"),
    ),
    (
        "recognizer.onnx",
        include_bytes!("../../../models/testing/recognizer.onnx"),
    ),
];

/// A pack with its models in memory.
#[derive(Clone, Debug)]
pub struct Pack {
    manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
    /// Its folder, unless it is part of the program.
    folder: Option<PathBuf>,
}

/// Error of a pack that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// No pack of this name is known or installed.
    #[error("there is no model pack `{name}`; choose one of {}", .known.join(", "))]
    Unknown {
        /// Name of the pack.
        name: String,
        /// Names of the known packs.
        known: Vec<String>,
    },
    /// The pack is known but not installed.
    #[error(
        "the model pack `{name}` is not installed in {folder}; {remedy}, or choose another pack \
         with --pack ({others})",
        folder = folder.display()
    )]
    NotInstalled {
        /// Name of the pack.
        name: String,
        /// Folder of installed packs.
        folder: PathBuf,
        /// Command that installs it.
        remedy: String,
        /// Packs to choose instead.
        others: String,
    },
    /// The manifest is not valid.
    #[error("the manifest of the installed pack `{name}` is not valid: {cause}; {remedy}")]
    Manifest {
        /// Name of the pack.
        name: String,
        /// The error.
        cause: Box<ManifestError>,
        /// Command that replaces it.
        remedy: String,
    },
    /// A file is missing or changed.
    #[error("the model pack `{name}` is damaged: {cause}; {remedy}")]
    Damaged {
        /// Name of the pack.
        name: String,
        /// The error.
        cause: Box<ModelFileError>,
        /// Command that replaces it.
        remedy: String,
    },
    /// An 8-bit variant cannot be used.
    #[error(
        "the 8-bit variant of the model pack `{name}` cannot be used: {cause}; make it again with \
         `rostro models quantize {name} --photos DIR --force`, or remove {file}",
        file = file.display()
    )]
    Variant {
        /// Name of the pack.
        name: String,
        /// The error.
        cause: Box<VariantError>,
        /// The file that names the variants.
        file: PathBuf,
    },
}

impl Pack {
    /// Opens the installed pack `name`, or the built-in `testing` if that is not installed.
    ///
    /// # Errors
    ///
    /// [`PackError`] states the fault and a remedy.
    pub fn open(models: &Path, name: &str) -> Result<Self, PackError> {
        let folder = models.join(name);
        match fs::read_to_string(folder.join(MANIFEST)) {
            Ok(text) => Self::open_installed(models, name, &text),
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                let cause = Box::new(ModelFileError::Unreadable {
                    file: MANIFEST.to_owned(),
                    cause,
                });
                Err(PackError::Damaged {
                    name: name.to_owned(),
                    cause,
                    remedy: remedy::install_command(name, models, true),
                })
            }
            Err(_) if name == "testing" => Self::testing(),
            Err(_) => Err(Self::not_installed(models, name)),
        }
    }

    fn open_installed(models: &Path, name: &str, manifest: &str) -> Result<Self, PackError> {
        let (folder, remedy) = (models.join(name), || {
            remedy::install_command(name, models, true)
        });
        let manifest = Manifest::parse(manifest).map_err(|cause| PackError::Manifest {
            name: name.to_owned(),
            cause: Box::new(cause),
            remedy: remedy(),
        })?;
        let read = |spec: &ModelSpec| {
            let unreadable = |cause| ModelFileError::Unreadable {
                file: spec.file.clone(),
                cause,
            };
            let file = File::open(folder.join(&spec.file)).map_err(unreadable)?;
            read_verified(file, &spec.file, &spec.sha256, spec.max_size)
        };
        let files = manifest
            .models
            .iter()
            .map(|(role, spec)| Ok((role.clone(), read(spec)?)))
            .collect::<Result<_, ModelFileError>>();
        match files {
            Ok(files) => Ok(Self {
                manifest,
                files,
                folder: Some(folder),
            }),
            Err(cause) => Err(PackError::Damaged {
                name: name.to_owned(),
                cause: Box::new(cause),
                remedy: remedy(),
            }),
        }
    }

    /// Returns the pack that is part of the program: tiny models for drawn faces.
    fn testing() -> Result<Self, PackError> {
        let unknown = || PackError::Unknown {
            name: "testing".to_owned(),
            known: Vec::new(),
        };
        let (manifest, _) = Manifest::built_in()
            .find(|(manifest, _)| manifest.name == "testing")
            .ok_or_else(unknown)?;
        let bytes = |spec: &ModelSpec| {
            TESTING
                .iter()
                .find(|(file, _)| *file == spec.file)
                .map(|(_, bytes)| bytes.to_vec())
        };
        let files = manifest
            .models
            .iter()
            .filter_map(|(role, spec)| Some((role.clone(), bytes(spec)?)))
            .collect();
        Ok(Self {
            manifest,
            files,
            folder: None,
        })
    }

    fn not_installed(models: &Path, name: &str) -> PackError {
        if Manifest::built_in().any(|(manifest, _)| manifest.name == name) {
            let (remedy, others) = (
                remedy::install_command(name, models, false),
                remedy::other_packs(models),
            );
            return PackError::NotInstalled {
                name: name.to_owned(),
                folder: models.to_owned(),
                remedy,
                others,
            };
        }
        PackError::Unknown {
            name: name.to_owned(),
            known: known_names(models),
        }
    }

    /// Returns the total size of an installed pack's files in bytes; 0 if it is not installed.
    pub fn file_bytes(models: &Path, name: &str) -> usize {
        let sizes = models
            .join(name)
            .read_dir()
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.metadata().ok());
        sizes
            .map(|metadata| usize::try_from(metadata.len()).unwrap_or(usize::MAX))
            .fold(0, usize::saturating_add)
    }

    /// Returns the manifest of an installed or built-in pack without reading its models.
    pub fn read_manifest(models: &Path, name: &str) -> Option<Manifest> {
        let installed = fs::read_to_string(models.join(name).join(MANIFEST))
            .ok()
            .and_then(|text| Manifest::parse(&text).ok());
        installed.or_else(|| {
            Manifest::built_in()
                .map(|(manifest, _)| manifest)
                .find(|manifest| manifest.name == name)
        })
    }

    /// Numbers in an embedding of a pack, if its manifest can be read and says so.
    pub fn dimension(models: &Path, name: &str) -> Option<usize> {
        Self::read_manifest(models, name)?
            .models
            .values()
            .filter_map(|model| model.dimension)
            .max()
            .and_then(|dimension| dimension.try_into().ok())
    }

    /// Returns a digest of what a pack's folder says of its 8-bit variants; none without any.
    pub fn variants_digest(models: &Path, name: &str) -> Option<Sha256Digest> {
        variant::digest(&models.join(name))
    }

    /// Returns the names of the packs in a folder, in order.
    pub fn installed(models: &Path) -> Vec<String> {
        installed_names(models)
    }

    /// Returns the manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the pack's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// Returns the description and the bytes of the model for a role.
    #[must_use]
    pub fn model(&self, role: &str) -> Option<(&ModelSpec, &[u8])> {
        Some((self.manifest.models.get(role)?, self.files.get(role)?))
    }

    /// Reads the verified bytes of the 8-bit variant of the model for a role. Most packs have none.
    ///
    /// # Errors
    ///
    /// [`PackError::Variant`] if a variant exists and cannot be used. The pack itself is whole.
    pub fn read_variant(&self, role: &str) -> Result<Option<Vec<u8>>, PackError> {
        let Some(folder) = &self.folder else {
            return Ok(None);
        };
        variant::read(folder, &self.manifest, role).map_err(|cause| PackError::Variant {
            name: self.name().to_owned(),
            cause: Box::new(cause),
            file: folder.join(VARIANTS),
        })
    }

    /// Returns a file of a built-in pack, for its installation.
    pub(super) fn built_in_file(pack: &str, file: &str) -> Option<&'static [u8]> {
        TESTING
            .iter()
            .find(|(name, _)| pack == "testing" && *name == file)
            .map(|(_, bytes)| *bytes)
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    /// Writes a pack without a built-in manifest, as other tools do.
    fn put(models: &Path, name: &str, recognizer: &[u8]) {
        let folder = models.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("recognizer.onnx"), recognizer).unwrap();
        let digest = Sha256Digest::of(recognizer);
        let text = format!(
            "name = '{name}'\ndescription = ''\nlicense = ''\n[thresholds]\ndetection = 0.7\nsimilarity = 0.5\n[models.recognizer]\n\
             file = 'recognizer.onnx'\nsha256 = '{digest}'\nmax_size = {}\nmean = 0\nstd = 1\n",
            recognizer.len()
        );
        fs::write(folder.join(MANIFEST), text).unwrap();
    }

    #[test]
    fn pack_of_another_tool_opens() {
        let models = tempfile::tempdir().unwrap();
        put(models.path(), "mobile-int8", b"weights");
        let pack = Pack::open(models.path(), "mobile-int8").unwrap();
        assert_eq!(
            (pack.name(), pack.model("recognizer").unwrap().1),
            ("mobile-int8", b"weights".as_slice())
        );
    }

    #[test]
    fn pack_not_installed_names_working_command() {
        let models = tempfile::tempdir().unwrap();
        put(models.path(), "mobile-int8", b"weights");
        let folder = models.path().display();
        let open_error = |name: &str| Pack::open(models.path(), name).unwrap_err().to_string();
        let error = open_error("buffalo_l");
        assert!(
            error.contains(&format!(
                "run `rostro models install buffalo_l --models {folder}`"
            )),
            "{error}"
        );
        // The pack has no archive, so that a download would fail.
        let error = open_error("mobile");
        let command = format!("`rostro models install mobile --from FOLDER --models {folder}`");
        assert!(
            error.contains("det_500m.onnx and mobilefacenet.onnx") && error.contains(&command),
            "{error}"
        );
        let others = "(installed there: mobile-int8; to be downloaded: buffalo_l, buffalo_m, \
            buffalo_sc, antelopev2; built in: testing";
        assert!(
            error.contains("it cannot be downloaded") && error.contains(others),
            "{error}"
        );
    }

    #[test]
    fn pack_damaged_names_working_command() {
        let models = tempfile::tempdir().unwrap();
        for (name, remedy) in [
            (
                "mobile",
                "it cannot be downloaded: put det_500m.onnx and mobilefacenet.onnx into a folder \
                 and run `rostro models install mobile --force --from FOLDER",
            ),
            (
                "buffalo_sc",
                "run `rostro models install buffalo_sc --force",
            ),
            (
                "own",
                "put recognizer.onnx into a folder and run `rostro models install own --force \
                 --from FOLDER",
            ),
        ] {
            put(models.path(), name, b"weights");
            std::fs::write(models.path().join(name).join("recognizer.onnx"), b"other").unwrap();
            let error = Pack::open(models.path(), name).unwrap_err().to_string();
            assert!(error.contains(remedy), "{error}");
        }
    }

    #[test]
    fn unknown_pack_lists_known_ones() {
        let models = tempfile::tempdir().unwrap();
        put(models.path(), "mobile-int8", b"weights");
        put(models.path(), "mobile", b"weights");
        put(models.path(), ".quantizing-1", b"half of the wei");
        let error = Pack::open(models.path(), "mobile-int4")
            .unwrap_err()
            .to_string();
        let names = "mobile, mobile-liveness, buffalo_l, buffalo_m, buffalo_sc, antelopev2, \
            testing, mobile-int8";
        assert_eq!(
            error,
            format!("there is no model pack `mobile-int4`; choose one of {names}")
        );
    }

    /// Writes `int8.toml` with one variant of the recogniser, and its file.
    fn put_variant(models: &Path, name: &str, file: &str, original: &[u8]) {
        let (folder, bytes) = (models.join(name), b"eight bits");
        fs::write(folder.join("recognizer.int8.onnx"), bytes).unwrap();
        let text = format!(
            "[recognizer]\nfile = '{file}'\nsha256 = '{}'\nsize = {}\noriginal = '{}'\n",
            Sha256Digest::of(bytes),
            bytes.len(),
            Sha256Digest::of(original)
        );
        fs::write(folder.join(VARIANTS), text).unwrap();
    }

    #[test]
    fn variants_digest_follows_files() {
        let models = tempfile::tempdir().unwrap();
        put(models.path(), "own", b"weights");
        let digest = || Pack::variants_digest(models.path(), "own");
        assert_eq!(digest(), None);
        put_variant(models.path(), "own", "recognizer.int8.onnx", b"weights");
        let first = digest().unwrap();
        let file = models.path().join("own").join(VARIANTS);
        let text = fs::read_to_string(&file).unwrap();
        let other = text.replace(
            &Sha256Digest::of(b"eight bits").to_string(),
            &Sha256Digest::of(b"others").to_string(),
        );
        fs::write(&file, other).unwrap();
        assert_ne!(digest().unwrap(), first);
    }

    #[test]
    fn variant_is_read_by_role() {
        let models = tempfile::tempdir().unwrap();
        put(models.path(), "own", b"weights");
        let pack = Pack::open(models.path(), "own").unwrap();
        let variant = |role: &str| pack.read_variant(role).unwrap();
        assert_eq!(variant("recognizer"), None);
        put_variant(models.path(), "own", "recognizer.int8.onnx", b"weights");
        assert_eq!(variant("recognizer").unwrap(), b"eight bits");
        assert_eq!(variant("detector"), None);
    }

    #[test]
    fn unusable_variant_names_remedy() {
        let models = tempfile::tempdir().unwrap();
        put(models.path(), "own", b"weights");
        let file = models.path().join("own").join(VARIANTS);
        let pack = Pack::open(models.path(), "own").unwrap();
        let error = || pack.read_variant("recognizer").unwrap_err().to_string();
        let check = |cause: &str| {
            let error = error();
            assert!(error.contains(cause), "{error}");
            assert!(
                error.contains("`rostro models quantize own --photos DIR --force`"),
                "{error}"
            );
        };
        put_variant(models.path(), "own", "recognizer.int8.onnx", b"other");
        check("was made from another model than the pack's `recognizer`");
        put_variant(models.path(), "own", "missing.onnx", b"weights");
        check("cannot read missing.onnx");
        put_variant(models.path(), "own", "../recognizer.onnx", b"weights");
        check("recognizer.file is not valid");
        put_variant(models.path(), "own", "recognizer.onnx", b"weights");
        check("recognizer.onnx has the SHA-256");
        fs::write(&file, "[recognizer]\nfile = 1").unwrap();
        check("int8.toml is not valid");
    }
}
