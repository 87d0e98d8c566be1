//! Installing a pack: from a folder, from an archive, or by download; all of it or nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::archive::{self, PackArchiveError};
use super::download::{self, DownloadError};
use super::manifest::{Manifest, ManifestError};
use super::pack::{MANIFEST, ModelFileError, Pack, PackError, verified};
use super::remedy;

/// How the folders begin in which a pack is put together, and in which what it replaces is kept
/// meanwhile.
const INSTALLING: &str = ".installing-";
const REPLACED: &str = ".replaced-";

/// How old such a folder is when nobody can be working in it any more.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Why a pack is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// No manifest of that name is known.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The manifest's file is not valid.
    #[error("{path}: {cause}", path = path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: ManifestError,
    },
    /// Nobody agreed to the terms.
    #[error(
        "the terms of `{name}` were not accepted: {license}; give --accept-license if you agree"
    )]
    License {
        /// The pack.
        name: String,
        /// Its terms.
        license: String,
    },
    /// The pack is not published, so it must be given.
    #[error(
        "the pack `{name}` has no archive to download; give the folder with its files ({files}) with --from, or install one of those that can \
         be downloaded: {downloadable}",
        files = .files.join(", "),
        downloadable = .downloadable.join(", ")
    )]
    NoArchive {
        /// The pack.
        name: String,
        /// The files that it needs.
        files: Vec<String>,
        /// The packs that can be downloaded.
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
        /// Why.
        cause: Box<PackArchiveError>,
    },
    /// A file of the folder is not what it should be.
    #[error("the folder {path} cannot be used: {cause}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        cause: ModelFileError,
    },
    /// Something else is where the pack belongs.
    #[error("{path} is there and is no model pack; move it away, or name another folder with --models", path = path.display())]
    NotAPack {
        /// What is there.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {cause}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
}

/// What to install.
#[derive(Debug)]
pub struct InstallRequest<'a> {
    /// The name of a pack that is known or installed, or the path of a manifest.
    pub pack: &'a str,
    /// A folder or a zip archive with the files; none to download.
    pub from: Option<&'a Path>,
    /// Whether the terms were accepted on the command line.
    pub accept_license: bool,
    /// Whether an installed pack is installed again.
    pub force: bool,
    /// The certificates to trust for a download.
    pub trust: download::Trust,
}

/// What was done.
#[derive(Debug)]
pub enum InstallOutcome {
    /// The pack was there and is whole.
    Already(PathBuf),
    /// It was installed.
    Now(PathBuf),
}

/// Installs a pack into `models`.
pub fn install(
    request: &InstallRequest<'_>,
    models: &Path,
) -> Result<InstallOutcome, InstallError> {
    let (manifest, text) = manifest(request.pack, models)?;
    let target = models.join(&manifest.name);
    if !request.force && is_installed(models, &manifest, &text) {
        return Ok(InstallOutcome::Already(target));
    }
    if target.exists() && !target.join(MANIFEST).is_file() {
        return Err(InstallError::NotAPack { path: target });
    }
    agree(&manifest, request.accept_license)?;
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
    let files = obtain(&manifest, request, models)?;
    // Beside the target, so that it can be renamed there, and removed unless it is.
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
    swap_in(staging.path(), &target, models).map_err(io("replace", &target))?;
    if request.from.is_none() {
        let _ = fs::remove_file(partial(models, &manifest));
    }
    Ok(InstallOutcome::Now(target))
}

/// The manifest of a known pack, of a file, or of a pack that is installed already, with its text.
fn manifest(pack: &str, models: &Path) -> Result<(Manifest, String), InstallError> {
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
            known: Pack::names(models),
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

/// Whether exactly this pack is installed.
fn is_installed(models: &Path, manifest: &Manifest, text: &str) -> bool {
    let there = fs::read_to_string(models.join(&manifest.name).join(MANIFEST));
    there.is_ok_and(|there| there == text) && Pack::open(models, &manifest.name).is_ok()
}

/// Makes sure that somebody agreed to the terms, asking where there is somebody to ask.
fn agree(manifest: &Manifest, accepted: bool) -> Result<(), InstallError> {
    if accepted || !manifest.requires_acceptance {
        return Ok(());
    }
    let refused = || InstallError::License {
        name: manifest.name.clone(),
        license: manifest.license.clone(),
    };
    if !io::stdin().is_terminal() {
        return Err(refused());
    }
    // A prompt that cannot be shown is answered with no.
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

fn obtain(
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
            let path = partial(models, manifest);
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

/// The files of a pack that is part of the program.
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
        Ok((
            spec.file.clone(),
            verified(
                File::open(folder.join(&spec.file)).map_err(unreadable)?,
                spec,
            )?,
        ))
    };
    manifest.models.values().map(read).collect()
}

fn from_archive(
    manifest: &Manifest,
    path: &Path,
    file: File,
) -> Result<BTreeMap<String, Vec<u8>>, InstallError> {
    archive::read(file, manifest).map_err(|cause| InstallError::Archive {
        path: path.to_owned(),
        cause: Box::new(cause),
    })
}

/// Where a download is kept until it is complete.
fn partial(models: &Path, manifest: &Manifest) -> PathBuf {
    models.join(format!(".{}.zip.partial", manifest.name))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Removes the folders of installations that were killed. Left to the next one if they cannot be
/// removed.
fn remove_stale(models: &Path) {
    for entry in models.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with(INSTALLING) || name.starts_with(REPLACED);
        let changed = || {
            entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
        };
        // Younger ones may be of an installation that is under way.
        if ours
            && changed()
                .and_then(|then| SystemTime::now().duration_since(then).ok())
                .is_some_and(|age| age > STALE)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Puts the staged folder where the pack belongs. What was there is moved aside first and removed
/// after, or put back.
fn swap_in(staged: &Path, target: &Path, models: &Path) -> io::Result<()> {
    let aside = tempfile::Builder::new()
        .prefix(REPLACED)
        .tempdir_in(models)?;
    let old = aside.path().join("pack");
    if target.exists() {
        fs::rename(target, &old)?;
    }
    match fs::rename(staged, target) {
        Ok(()) => {}
        // Another installation of the same pack was quicker; it was verified like this one.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        Err(error) => {
            if old.exists() && fs::rename(&old, target).is_err() {
                // The pack's only copy, for somebody to put back.
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
    fn a_pack_that_cannot_be_replaced_stays() {
        let models = tempfile::tempdir().unwrap();
        let target = models.path().join("own");
        fs::create_dir(&target).unwrap();
        fs::write(target.join(MANIFEST), "the old one").unwrap();
        let error = swap_in(&models.path().join("nowhere"), &target, models.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(
            fs::read_to_string(target.join(MANIFEST)).unwrap(),
            "the old one"
        );
        assert_eq!(
            models.path().read_dir().unwrap().count(),
            1,
            "nothing is left beside it"
        );
    }

    #[cfg(unix)]
    #[test]
    fn other_users_may_read_a_pack_if_the_umask_lets_them() {
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
            panic!("nothing was installed before")
        };
        let ordinary = folder.path().join("ordinary");
        fs::write(&ordinary, "").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(
            mode(&pack),
            mode(&models),
            "`models` is made as any folder is"
        );
        for file in pack.read_dir().unwrap() {
            assert_eq!(mode(&file.unwrap().path()), mode(&ordinary));
        }
    }
}
