//! Makes the 8-bit variant of an installed pack's recogniser, by ONNX Runtime's tools in Python.
//!
//! The variant is calibrated with photos of faces, and refused if its embeddings differ too much
//! from those of the floats. Nothing is changed in the pack unless all went well.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rostro_common::digest::Sha256Digest;
use rostro_common::fs::atomic::{FileAccess, write_atomic};

use crate::manifest::is_file_name;
use crate::pack::{Pack, PackError};
use crate::variant::{self, VARIANTS, VariantSpec, Variants};

/// Role of the model with a variant. In 8 bits a detector was measured to lose faces.
pub const ROLE: &str = "recognizer";

/// Folder of the Python environment, next to the packs. Its name is no name of a pack.
const ENVIRONMENT: &str = ".quantize";

/// Prefix of the folders of unfinished work.
pub(crate) const QUANTIZING: &str = ".quantizing-";

/// The scripts, by file name.
const SCRIPTS: [(&str, &str); 2] = [
    (
        "variant.py",
        include_str!("../../../tools/quantize/variant.py"),
    ),
    ("faces.py", include_str!("../../../tools/quantize/faces.py")),
];
const REQUIREMENTS: &str = include_str!("../../../tools/quantize/requirements.txt");

/// Input of [`quantize`].
#[derive(Debug)]
pub struct QuantizeRequest<'a> {
    /// Folder of installed packs.
    pub models: &'a Path,
    /// Name of the pack.
    pub pack: &'a str,
    /// Folder with photos of faces; its subfolders count.
    pub photos: &'a Path,
    /// Python interpreter with the required packages; by default an environment is made.
    pub python: Option<&'a Path>,
    /// Replaces an existing variant.
    pub force: bool,
}

/// Result of [`quantize`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuantizeOutcome {
    /// The pack has a whole variant already.
    Already,
    /// The variant was made; the path of its model.
    Made(PathBuf),
}

/// Error of [`quantize`].
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The pack cannot be used.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The pack is part of the program and has no folder.
    #[error("the pack `{pack}` is not installed in {folder}; run `rostro models install {pack}`", folder = folder.display())]
    BuiltIn {
        /// Name of the pack.
        pack: String,
        /// Folder of installed packs.
        folder: PathBuf,
    },
    /// The pack has no recogniser.
    #[error("the pack `{0}` has no model for the role `{ROLE}`; choose another pack")]
    NoRecognizer(String),
    /// The photos cannot be read.
    #[error("cannot read the folder {folder} with photos: {cause}; name another one with --photos", folder = folder.display())]
    Photos {
        /// The folder.
        folder: PathBuf,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// A program could not be started.
    #[error("cannot run {program}: {cause}; install Python 3.11 or later with venv, or name an interpreter with --python", program = program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// A program failed; its own messages stand above.
    #[error("{what} failed ({status}); the lines above give the cause")]
    Failed {
        /// What the program does.
        what: &'static str,
        /// Its exit status.
        status: ExitStatus,
    },
    /// The variant cannot be read.
    #[error("cannot read {path}: {cause}; run the command again", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {cause}; make room or correct its permissions", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        cause: io::Error,
    },
}

/// Makes the variant. The scripts print their progress and the measured differences.
///
/// # Errors
///
/// [`QuantizeError`] names the step that failed.
pub fn quantize(request: &QuantizeRequest<'_>) -> Result<QuantizeOutcome, QuantizeError> {
    let &QuantizeRequest {
        models,
        pack: name,
        photos,
        python,
        force,
    } = request;
    let pack = Pack::open(models, name)?;
    let folder = models.join(name);
    if !folder.is_dir() {
        return Err(QuantizeError::BuiltIn {
            pack: name.to_owned(),
            folder: models.to_owned(),
        });
    }
    if !force && pack.read_variant(ROLE)?.is_some() {
        return Ok(QuantizeOutcome::Already);
    }
    let Some((original, _)) = pack.model(ROLE) else {
        return Err(QuantizeError::NoRecognizer(name.to_owned()));
    };
    photos.read_dir().map_err(|cause| QuantizeError::Photos {
        folder: photos.to_owned(),
        cause,
    })?;
    let work = tempfile::Builder::new()
        .prefix(QUANTIZING)
        .tempdir_in(models)
        .map_err(|cause| unwritten(models, cause))?;
    for (file, text) in SCRIPTS {
        let path = work.path().join(file);
        fs::write(&path, text).map_err(|cause| unwritten(&path, cause))?;
    }
    let python = match python {
        Some(python) => python.to_owned(),
        None => environment(&models.join(ENVIRONMENT))?,
    };
    let made = work.path().join("variant.onnx");
    let script = work.path().join("variant.py");
    // In one argument, because a folder's name may begin with a hyphen.
    let mut photos_flag = OsString::from("--photos=");
    photos_flag.push(photos);
    let arguments = [
        script.as_os_str(),
        folder.as_os_str(),
        made.as_os_str(),
        &photos_flag,
    ];
    run("the calibration", &python, arguments)?;
    let bytes = fs::read(&made).map_err(|cause| QuantizeError::Read {
        path: made.clone(),
        cause,
    })?;
    let digest = Sha256Digest::of(&bytes);
    let spec = VariantSpec {
        // Named by its digest, so that a crash leaves either variant whole.
        file: format!(
            "{}.int8-{}.onnx",
            original.file.trim_end_matches(".onnx"),
            digest.short()
        ),
        sha256: digest.to_string(),
        size: bytes.len() as u64,
        original: original.sha256.clone(),
    };
    let target = folder.join(&spec.file);
    let replaced = variant::read_specs(&folder).unwrap_or_default();
    write(&target, &bytes)?;
    let text = toml::to_string(&Variants([(ROLE.to_owned(), spec)].into()))
        .map_err(|error| unwritten(&folder.join(VARIANTS), io::Error::other(error)))?;
    write(&folder.join(VARIANTS), text.as_bytes())?;
    remove_replaced(&pack, &folder, &replaced, &target);
    Ok(QuantizeOutcome::Made(target))
}

/// Removes the variant that was replaced, unless it is a model of the pack itself. A file that
/// remains is named by nothing.
fn remove_replaced(pack: &Pack, folder: &Path, replaced: &Variants, kept: &Path) {
    let Some(spec) = replaced.0.get(ROLE) else {
        return;
    };
    let path = folder.join(&spec.file);
    let mut models = pack.manifest().models.values();
    let is_own = models.any(|model| model.file == spec.file) || !is_file_name(&spec.file);
    if path != kept && !is_own {
        let _ = fs::remove_file(path);
    }
}

/// Makes the Python environment, or keeps one with the required packages. Returns its interpreter.
fn environment(folder: &Path) -> Result<PathBuf, QuantizeError> {
    let python = folder.join("bin/python");
    let installed = folder.join("installed.txt");
    // After an upgrade of the system's Python, the packages are there and cannot be imported.
    let has_packages = || {
        let probe = Command::new(&python)
            .args(["-c", "import cv2, numpy, onnx, onnxruntime"])
            .stderr(Stdio::null())
            .status();
        probe.is_ok_and(|status| status.success())
    };
    if fs::read_to_string(&installed).is_ok_and(|text| text == REQUIREMENTS) && has_packages() {
        return Ok(python);
    }
    let requirements = folder.join("requirements.txt");
    let venv = [
        "-m".as_ref(),
        "venv".as_ref(),
        "--clear".as_ref(),
        folder.as_os_str(),
    ];
    run("making the Python environment", Path::new("python3"), venv)?;
    write(&requirements, REQUIREMENTS.as_bytes())?;
    let pip = [
        "-m".as_ref(),
        "pip".as_ref(),
        "install".as_ref(),
        "--disable-pip-version-check".as_ref(),
        "--requirement".as_ref(),
        requirements.as_os_str(),
    ];
    run("installing the Python packages", &python, pip)?;
    write(&installed, REQUIREMENTS.as_bytes())?;
    Ok(python)
}

fn run<'a>(
    what: &'static str,
    program: &Path,
    arguments: impl IntoIterator<Item = &'a OsStr>,
) -> Result<(), QuantizeError> {
    let status = Command::new(program)
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .status()
        .map_err(|cause| QuantizeError::Start {
            program: program.to_owned(),
            cause,
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(QuantizeError::Failed { what, status })
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), QuantizeError> {
    write_atomic(path, FileAccess::Umask, bytes)
        .map(drop)
        .map_err(|cause| unwritten(path, cause))
}

fn unwritten(path: &Path, cause: io::Error) -> QuantizeError {
    QuantizeError::Write {
        path: path.to_owned(),
        cause,
    }
}
