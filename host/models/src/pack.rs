//! An installed pack, verified while it is read: what runs is what was checked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rostro_common::digest::Sha256Digest;

use super::manifest::{Manifest, ManifestError, ModelSpec};
use super::remedy;

/// The manifest's name in an installed pack's folder.
pub const MANIFEST: &str = "manifest.toml";

/// The models of the pack `testing`, which are part of the program.
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
}

/// Why a pack cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// No pack of that name is known or installed.
    #[error("there is no model pack `{name}`; choose one of {}", .known.join(", "))]
    Unknown {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// It is known and not installed.
    #[error(
        "the model pack `{name}` is not installed in {folder}; {remedy}, or choose another pack with --pack ({others})",
        folder = folder.display()
    )]
    NotInstalled {
        /// The name.
        name: String,
        /// Where it would be.
        folder: PathBuf,
        /// How to install it.
        remedy: String,
        /// The packs to choose instead.
        others: String,
    },
    /// Its manifest is not what it should be.
    #[error("the manifest of the installed pack `{name}` is not valid: {cause}; {remedy}")]
    Manifest {
        /// The pack.
        name: String,
        /// What is wrong.
        cause: Box<ManifestError>,
        /// How to replace it.
        remedy: String,
    },
    /// A file of it is missing or changed.
    #[error("the model pack `{name}` is damaged: {cause}; {remedy}")]
    Damaged {
        /// The pack.
        name: String,
        /// What is wrong.
        cause: Box<ModelFileError>,
        /// How to replace it.
        remedy: String,
    },
}

/// What is wrong with a model's file.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// It cannot be read.
    #[error("{file} cannot be read: {cause}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        cause: io::Error,
    },
    /// It has more bytes than the manifest allows.
    #[error("{file} has more than {max_size} bytes")]
    TooLarge {
        /// Which.
        file: String,
        /// The most that it may have.
        max_size: u64,
    },
    /// It is another file.
    #[error("{file} has the SHA-256 {given}, not {wanted}")]
    Digest {
        /// Which.
        file: String,
        /// What it is.
        given: Sha256Digest,
        /// What it should be.
        wanted: String,
    },
}

impl Pack {
    /// Opens the installed pack `name`, or the built-in `testing` where that is not installed.
    ///
    /// # Errors
    ///
    /// [`PackError`] says what is wrong and how to mend it.
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
                    remedy: remedy::install(name, models, true),
                })
            }
            Err(_) if name == "testing" => Self::testing(),
            Err(_) => Err(Self::absent(models, name)),
        }
    }

    fn open_installed(models: &Path, name: &str, manifest: &str) -> Result<Self, PackError> {
        let (folder, remedy) = (models.join(name), || remedy::install(name, models, true));
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
            verified(
                File::open(folder.join(&spec.file)).map_err(unreadable)?,
                spec,
            )
        };
        let files = manifest
            .models
            .iter()
            .map(|(role, spec)| Ok((role.clone(), read(spec)?)))
            .collect::<Result<_, ModelFileError>>();
        match files {
            Ok(files) => Ok(Self { manifest, files }),
            Err(cause) => Err(PackError::Damaged {
                name: name.to_owned(),
                cause: Box::new(cause),
                remedy: remedy(),
            }),
        }
    }

    /// The pack that is part of the program: tiny models that know drawn faces.
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
        Ok(Self { manifest, files })
    }

    fn absent(models: &Path, name: &str) -> PackError {
        if Manifest::built_in().any(|(manifest, _)| manifest.name == name) {
            let (remedy, others) = (remedy::install(name, models, false), remedy::others(models));
            return PackError::NotInstalled {
                name: name.to_owned(),
                folder: models.to_owned(),
                remedy,
                others,
            };
        }
        PackError::Unknown {
            name: name.to_owned(),
            known: Self::names(models),
        }
    }

    /// Bytes of an installed pack's files; none of one that is not installed.
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

    /// The names of packs in the folder, in order: every folder with a manifest is one, whoever put
    /// it there. Those that begin with a dot are being put together.
    pub fn installed(models: &Path) -> Vec<String> {
        let entries = models.read_dir().into_iter().flatten().flatten();
        let names = entries
            .filter(|entry| entry.path().join(MANIFEST).exists())
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }

    /// The names that can be asked for: of the packs that come with the program, then of others
    /// that are installed.
    pub(super) fn names(models: &Path) -> Vec<String> {
        let mut names: Vec<String> = Manifest::built_in()
            .map(|(manifest, _)| manifest.name)
            .collect();
        for name in Self::installed(models) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// What the pack says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The model for a role: how it is fed, and its bytes.
    #[must_use]
    pub fn model(&self, role: &str) -> Option<(&ModelSpec, &[u8])> {
        Some((self.manifest.models.get(role)?, self.files.get(role)?))
    }

    /// The built-in file of that name and pack, for installing it.
    pub(super) fn built_in_file(pack: &str, file: &str) -> Option<&'static [u8]> {
        TESTING
            .iter()
            .find(|(name, _)| pack == "testing" && *name == file)
            .map(|(_, bytes)| *bytes)
    }
}

/// Reads a model to its end, no further than it may be, and checks that it is the one that is
/// meant.
pub(super) fn verified(from: impl Read, spec: &ModelSpec) -> Result<Vec<u8>, ModelFileError> {
    let mut bytes = Vec::new();
    let unreadable = |cause| ModelFileError::Unreadable {
        file: spec.file.clone(),
        cause,
    };
    from.take(spec.max_size.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > spec.max_size {
        return Err(ModelFileError::TooLarge {
            file: spec.file.clone(),
            max_size: spec.max_size,
        });
    }
    let given = Sha256Digest::of(&bytes);
    if given.to_string() != spec.sha256 {
        return Err(ModelFileError::Digest {
            file: spec.file.clone(),
            given,
            wanted: spec.sha256.clone(),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pack that no built-in manifest knows, put into the folder by something else than `rostro
    /// models install`.
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
    fn a_pack_that_was_made_and_not_installed_can_be_opened() {
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
        let says = |name: &str| Pack::open(models.path(), name).unwrap_err().to_string();
        let error = says("buffalo_l");
        assert!(
            error.contains(&format!(
                "run `rostro models install buffalo_l --models {folder}`"
            )),
            "{error}"
        );
        // It has no archive: a download would fail.
        let error = says("mobile");
        let command = format!("`rostro models install mobile --from FOLDER --models {folder}`");
        assert!(
            error.contains("det_500m.onnx and mobilefacenet.onnx") && error.contains(&command),
            "{error}"
        );
        let others = "(installed there: mobile-int8; to be downloaded: buffalo_l, buffalo_m, buffalo_sc, antelopev2; built in: testing";
        assert!(
            error.contains("it cannot be downloaded") && error.contains(others),
            "{error}"
        );
    }

    #[test]
    fn pack_damaged_names_working_command() {
        let models = tempfile::tempdir().unwrap();
        for (name, says) in [
            (
                "mobile",
                "it cannot be downloaded: put det_500m.onnx and mobilefacenet.onnx into a folder and run `rostro models install mobile --force --from FOLDER",
            ),
            (
                "buffalo_sc",
                "run `rostro models install buffalo_sc --force",
            ),
            (
                "own",
                "put recognizer.onnx into a folder and run `rostro models install own --force --from FOLDER",
            ),
        ] {
            put(models.path(), name, b"weights");
            std::fs::write(models.path().join(name).join("recognizer.onnx"), b"other's").unwrap();
            let error = Pack::open(models.path(), name).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn whoever_names_an_unknown_pack_hears_of_those_that_were_made() {
        let models = tempfile::tempdir().unwrap();
        put(models.path(), "mobile-int8", b"weights");
        put(models.path(), "mobile", b"weights");
        put(models.path(), ".quantizing-1", b"half of the wei");
        let error = Pack::open(models.path(), "mobile-int4")
            .unwrap_err()
            .to_string();
        let names = "mobile, mobile-liveness, buffalo_l, buffalo_m, buffalo_sc, antelopev2, testing, mobile-int8";
        assert_eq!(
            error,
            format!("there is no model pack `mobile-int4`; choose one of {names}")
        );
    }
}
