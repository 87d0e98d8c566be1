//! Installs a pack from a folder, an archive or a download: all of it or nothing.
//!
//! The files are written into a staging folder next to the pack's folder, which is then renamed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::archive::{self, PackArchiveError};
use super::download::{self, DownloadError};
use super::manifest::{MANIFEST, Manifest, ManifestError, known_names};
use super::model_file::{ModelFileError, read_verified};
use super::pack::{Pack, PackError};
use super::quantize::QUANTIZING;
use super::remedy;

/// Prefix of staging folders.
const INSTALLING: &str = ".installing-";

/// Prefix of folders that hold the replaced pack until its replacement is in place.
const REPLACED: &str = ".replaced-";

/// Age after which such a folder cannot belong to a running installation.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Error of a pack that is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No manifest of this name is known.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The manifest's file is not valid.
    #[error("{path}: {cause}", path = path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The error in it.
        cause: ManifestError,
    },
    /// The terms were not accepted.
    #[error(
        "the terms of `{name}` were not accepted: {license}; pass --accept-license if you agree"
    )]
    License {
        /// Name of the pack.
        name: String,
        /// Terms of use.
        license: String,
    },
    /// The pack is not published, and no files were passed.
    #[error(
        "the pack `{name}` has no archive to download; pass the folder with its files ({files}) \
         with --from, or install one of the packs that can be downloaded: {downloadable}",
        files = .files.join(", "),
        downloadable = .downloadable.join(", ")
    )]
    NoArchive {
        /// Name of the pack.
        name: String,
        /// Names of the files that the pack needs.
        files: Vec<String>,
        /// Names of the packs that can be downloaded.
        downloadable: Vec<String>,
    },
    /// The archive was not fetched.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The archive is refused.
    #[error("the archive {path} is refused: {cause}", path = path.display())]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Reason.
        cause: Box<PackArchiveError>,
    },
    /// A file of the folder does not match the manifest.
    #[error("cannot use the folder {path}: {cause}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Reason.
        cause: ModelFileError,
    },
    /// The pack's folder exists and is not a pack.
    #[error(
        "{path} exists and is not a model pack; move it away, or pass another folder \
         with --models",
        path = path.display()
    )]
    NotAPack {
        /// The folder.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {cause}", path = path.display())]
    Io {
        /// Attempted operation, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        cause: io::Error,
    },
}

/// A pack to install, and where its files come from.
#[derive(Debug)]
pub struct InstallRequest<'a> {
    /// Name of a known or installed pack, or the path of a manifest.
    pub pack: &'a str,
    /// Folder or zip archive with the files; `None` to download.
    pub from: Option<&'a Path>,
    /// Whether the terms were accepted on the command line.
    pub accept_license: bool,
    /// Whether an installed pack is replaced.
    pub force: bool,
    /// Certificates to trust for a download.
    pub trust: download::Trust,
}

/// Result of an installation, with the folder or file.
#[derive(Debug)]
pub enum InstallOutcome {
    /// It was installed before and is intact.
    Already(PathBuf),
    /// It is installed now.
    Now(PathBuf),
}

/// Installs a pack into `models`.
///
/// # Errors
///
/// [`InstallError`] states the fault and, where there is one, a remedy.
pub fn install(
    request: &InstallRequest<'_>,
    models: &Path,
) -> Result<InstallOutcome, InstallError> {
    let (manifest, text) = find_manifest(request.pack, models)?;
    let target = models.join(&manifest.name);
    if !request.force && is_installed(models, &manifest, &text) {
        return Ok(InstallOutcome::Already(target));
    }
    if target.exists() && !target.join(MANIFEST).is_file() {
        return Err(InstallError::NotAPack { path: target });
    }
    check_license(&manifest, request.accept_license)?;
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |cause| InstallError::Io {
            action,
            path,
            cause,
        }
    };
    fs::create_dir_all(models).map_err(io("make", models))?;
    remove_stale(models);
    let files = read_files(&manifest, request, models)?;
    // On the same file system as the target, because it is renamed. It is removed on an error.
    let staging = tempfile::Builder::new()
        .prefix(INSTALLING)
        .tempdir_in(models)
        .map_err(io("write into", models))?;
    for (name, bytes) in files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .chain([(MANIFEST, text.as_bytes())])
    {
        let path = staging.path().join(name);
        write(&path, bytes).map_err(io("write", &path))?;
    }
    replace_folder(staging.path(), &target, models).map_err(io("replace", &target))?;
    if request.from.is_none() {
        let _ = fs::remove_file(partial_path(models, &manifest));
    }
    Ok(InstallOutcome::Now(target))
}

/// Returns the manifest of a built-in pack, of a file or of an installed pack, with its text.
fn find_manifest(pack: &str, models: &Path) -> Result<(Manifest, String), InstallError> {
    if let Some((manifest, text)) = Manifest::built_in().find(|(manifest, _)| manifest.name == pack)
    {
        return Ok((manifest, text.to_owned()));
    }
    let is_file = Path::new(pack)
        .extension()
        .is_some_and(|extension| extension == "toml");
    let path = if is_file {
        PathBuf::from(pack)
    } else {
        models.join(pack).join(MANIFEST)
    };
    if !is_file && !path.exists() {
        return Err(PackError::Unknown {
            name: pack.to_owned(),
            known: known_names(models),
        }
        .into());
    }
    let text = fs::read_to_string(&path).map_err(|cause| InstallError::Io {
        action: "read",
        path: path.clone(),
        cause,
    })?;
    let manifest =
        Manifest::parse(&text).map_err(|cause| InstallError::Manifest { path, cause })?;
    Ok((manifest, text))
}

/// Returns true if this pack is installed with the same manifest and intact files.
fn is_installed(models: &Path, manifest: &Manifest, text: &str) -> bool {
    let installed = fs::read_to_string(models.join(&manifest.name).join(MANIFEST));
    installed.is_ok_and(|installed| installed == text) && Pack::open(models, &manifest.name).is_ok()
}

/// Checks that the terms are accepted: by `is_accepted`, or by a prompt if standard input is a
/// terminal.
fn check_license(manifest: &Manifest, is_accepted: bool) -> Result<(), InstallError> {
    if is_accepted || !manifest.requires_acceptance {
        return Ok(());
    }
    let refused = || InstallError::License {
        name: manifest.name.clone(),
        license: manifest.license.clone(),
    };
    if !io::stdin().is_terminal() {
        return Err(refused());
    }
    // A prompt that cannot be shown counts as a refusal.
    let prompt = format!(
        "{}: {}\nDo you accept these terms? [y/N] ",
        manifest.name, manifest.license
    );
    io::stderr()
        .write_all(prompt.as_bytes())
        .map_err(|_| refused())?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|_| refused())?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        Ok(())
    } else {
        Err(refused())
    }
}

/// Reads and verifies the pack's files from their source.
fn read_files(
    manifest: &Manifest,
    request: &InstallRequest<'_>,
    models: &Path,
) -> Result<BTreeMap<String, Vec<u8>>, InstallError> {
    if let Some(files) = built_in(manifest) {
        return Ok(files);
    }
    match (request.from, &manifest.archive) {
        (Some(folder), _) if folder.is_dir() => {
            from_folder(manifest, folder).map_err(|cause| InstallError::Folder {
                path: folder.to_owned(),
                cause,
            })
        }
        (Some(path), _) => {
            let file = File::open(path).map_err(|cause| InstallError::Io {
                action: "read",
                path: path.to_owned(),
                cause,
            })?;
            from_archive(manifest, path, file)
        }
        (None, Some(archive)) => {
            let path = partial_path(models, manifest);
            let file = download::fetch(archive, &path, request.trust)?;
            from_archive(manifest, &path, file)
        }
        (None, None) => {
            let files = manifest
                .models
                .values()
                .map(|model| model.file.clone())
                .collect();
            Err(InstallError::NoArchive {
                name: manifest.name.clone(),
                files,
                downloadable: remedy::downloadable(),
            })
        }
    }
}

/// Returns the files of a pack that is part of the program.
fn built_in(manifest: &Manifest) -> Option<BTreeMap<String, Vec<u8>>> {
    let file = |file: &String| {
        Some((
            file.clone(),
            Pack::built_in_file(&manifest.name, file)?.to_vec(),
        ))
    };
    manifest
        .models
        .values()
        .map(|model| file(&model.file))
        .collect()
}

fn from_folder(
    manifest: &Manifest,
    folder: &Path,
) -> Result<BTreeMap<String, Vec<u8>>, ModelFileError> {
    let read = |spec: &super::ModelSpec| {
        let unreadable = |cause| ModelFileError::Unreadable {
            file: spec.file.clone(),
            cause,
        };
        let file = File::open(folder.join(&spec.file)).map_err(unreadable)?;
        let bytes = read_verified(file, &spec.file, &spec.sha256, spec.max_size)?;
        Ok((spec.file.clone(), bytes))
    };
    manifest.models.values().map(read).collect()
}

fn from_archive(
    manifest: &Manifest,
    path: &Path,
    file: File,
) -> Result<BTreeMap<String, Vec<u8>>, InstallError> {
    archive::read_models(file, manifest).map_err(|cause| InstallError::Archive {
        path: path.to_owned(),
        cause: Box::new(cause),
    })
}

/// Returns the path of an incomplete download.
fn partial_path(models: &Path, manifest: &Manifest) -> PathBuf {
    models.join(format!(".{}.zip.partial", manifest.name))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes the folders of killed installations. Failures are left to the next installation.
fn remove_stale(models: &Path) {
    for entry in models.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_ours = [INSTALLING, REPLACED, QUANTIZING]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        let age = || {
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            SystemTime::now().duration_since(modified.ok()?).ok()
        };
        // Younger folders may belong to a running installation.
        if is_ours && age().is_some_and(|age| age > STALE) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Renames the staged folder to `target`. An existing pack is moved aside first, and removed
/// afterwards or restored on an error.
fn replace_folder(staged: &Path, target: &Path, models: &Path) -> io::Result<()> {
    let aside = tempfile::Builder::new()
        .prefix(REPLACED)
        .tempdir_in(models)?;
    let old = aside.path().join("pack");
    if target.exists() {
        fs::rename(target, &old)?;
    }
    match fs::rename(staged, target) {
        Ok(()) => {}
        // A concurrent installation of the same pack finished first. It was verified, too.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        Err(error) => {
            if old.exists() && fs::rename(&old, target).is_err() {
                // Keeps the pack's only copy, so that the operator can restore it.
                let _ = aside.keep();
            }
            return Err(error);
        }
    }
    rostro_common::fs::durable::sync_folder(models).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_replacement_keeps_old_pack() {
        let models = tempfile::tempdir().unwrap();
        let target = models.path().join("own");
        fs::create_dir(&target).unwrap();
        fs::write(target.join(MANIFEST), "the old one").unwrap();
        let error =
            replace_folder(&models.path().join("nowhere"), &target, models.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(
            fs::read_to_string(target.join(MANIFEST)).unwrap(),
            "the old one"
        );
        assert_eq!(
            models.path().read_dir().unwrap().count(),
            1,
            "no other folder is left"
        );
    }

    #[cfg(unix)]
    #[test]
    fn pack_permissions_follow_umask() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        let request = InstallRequest {
            pack: "testing",
            from: None,
            accept_license: false,
            force: false,
            trust: |_| Ok(ureq::tls::TlsConfig::default()),
        };
        let InstallOutcome::Now(pack) = install(&request, &models).unwrap() else {
            panic!("no pack was installed before")
        };
        let ordinary = folder.path().join("ordinary");
        fs::write(&ordinary, "").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(
            mode(&pack),
            mode(&models),
            "`models` is created like any folder"
        );
        for file in pack.read_dir().unwrap() {
            assert_eq!(mode(&file.unwrap().path()), mode(&ordinary));
        }
    }
}
