//! ONNX Runtime's library: where it is, and installing it.
//!
//! It is taken from the Python wheel `onnxruntime`, the one place from which every platform's
//! library can be had by an ordinary package client. The wheel is only unpacked: Python is needed
//! to fetch it, not to run it.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use indicatif::ProgressBar;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::install::InstallOutcome;

/// The version that is installed; its C interface is the one that the host was tested with.
pub const VERSION: &str = "1.32.0";

/// The largest library that is unpacked, in bytes; that of Linux has under 30 MB.
const LARGEST: u64 = 512 << 20;

/// The library's name, once installed.
const LIBRARY: &str = if cfg!(target_os = "windows") {
    "onnxruntime.dll"
} else if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

/// Why the library is not there.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// It is not installed.
    #[error(
        "ONNX Runtime is not installed at {path}; run `rostro runtime install --runtime {folder}`, or name the library with --onnxruntime",
        path = path.display(),
        folder = folder.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// The folder of installations.
        folder: PathBuf,
    },
    /// The library that was named does not exist.
    #[error(
        "there is no ONNX Runtime library at {path}, which --onnxruntime names; name the file of the library, or leave that out and run \
         `rostro runtime install`",
        path = path.display()
    )]
    NoSuchLibrary {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// pip cannot be run.
    #[error(
        "cannot run `{program} -m pip` to fetch the wheel onnxruntime {VERSION}: {cause}; install Python with pip, or fetch the wheel yourself and \
         give it with --from"
    )]
    Pip {
        /// The program that was tried.
        program: &'static str,
        /// Why it did not run.
        cause: io::Error,
    },
    /// pip did not get the wheel.
    #[error(
        "pip cannot fetch the wheel onnxruntime {VERSION}; fetch it yourself and give it with --from. pip says: {said}"
    )]
    Fetch {
        /// The end of pip's words.
        said: String,
    },
    /// The wheel is not usable.
    #[error("{path} is no usable wheel: {cause}", path = path.display())]
    Wheel {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: ZipError,
    },
    /// The wheel has no library of this platform.
    #[error("{path} has no {LIBRARY}; it may be of another platform", path = path.display())]
    NoLibrary {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot install {path}: {cause}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// The library to load: the one that is named, else the installed one.
///
/// # Errors
///
/// If it is not there.
pub fn locate(named: Option<&Path>, runtime: &Path) -> Result<PathBuf, RuntimeError> {
    match named {
        Some(path) if !path.is_file() => Err(RuntimeError::NoSuchLibrary {
            path: path.to_owned(),
        }),
        Some(path) => Ok(path.to_owned()),
        None => match installed(runtime) {
            path if path.is_file() => Ok(path),
            path => Err(RuntimeError::Missing {
                path,
                folder: runtime.to_owned(),
            }),
        },
    }
}

fn installed(runtime: &Path) -> PathBuf {
    runtime.join(VERSION).join(LIBRARY)
}

/// Installs the library into the folder `runtime`: from a wheel or a library, or with pip.
///
/// # Errors
///
/// [`RuntimeError`], whose message is for people.
pub fn install(
    from: Option<&Path>,
    force: bool,
    runtime: &Path,
) -> Result<InstallOutcome, RuntimeError> {
    let target = installed(runtime);
    if target.is_file() && !force {
        return Ok(InstallOutcome::Already(target));
    }
    let fetched;
    let source = match from {
        Some(path) => path.to_owned(),
        None => {
            fetched = tempfile::tempdir().map_err(|cause| RuntimeError::Io {
                path: std::env::temp_dir(),
                cause,
            })?;
            fetch(fetched.path())?
        }
    };
    place(&source, &target)?;
    Ok(InstallOutcome::Now(target))
}

/// Fetches the wheel into a folder; answers where it is.
fn fetch(folder: &Path) -> Result<PathBuf, RuntimeError> {
    let spinner = ProgressBar::new_spinner()
        .with_message(format!("fetching the wheel onnxruntime {VERSION} with pip"));
    spinner.enable_steady_tick(Duration::from_millis(100));
    let program = if cfg!(target_os = "windows") {
        "python"
    } else {
        "python3"
    };
    let output = Command::new(program)
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--disable-pip-version-check",
            "--dest",
        ])
        .arg(folder)
        .arg(format!("onnxruntime=={VERSION}"))
        .output()
        .map_err(|cause| RuntimeError::Pip { program, cause })?;
    spinner.finish_and_clear();
    let wheel = folder
        .read_dir()
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| is_wheel(path));
    match wheel {
        Some(wheel) if output.status.success() => Ok(wheel),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let end: Vec<&str> = said.lines().rev().take(3).collect();
            Err(RuntimeError::Fetch {
                said: end.into_iter().rev().collect::<Vec<_>>().join("; "),
            })
        }
    }
}

fn is_wheel(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "whl" || extension == "zip")
}

/// Puts the library of a wheel, or a library as it is, in its place, whole or not at all.
fn place(source: &Path, target: &Path) -> Result<(), RuntimeError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |cause| RuntimeError::Io { path, cause }
    };
    let bytes = if is_wheel(source) {
        unpack(source)?
    } else {
        fs::read(source).map_err(io(source))?
    };
    let folder = target.parent().unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let mut builder = tempfile::Builder::new();
        // Cut by the umask, like any file's: who installs is often not who serves.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(target).map_err(|error| error.error)?;
        rostro_common::fs::durable::sync_folder(folder).map(drop)
    };
    write().map_err(io(target))
}

/// The library in a wheel: `onnxruntime/capi/libonnxruntime.so.<version>`, or as other platforms
/// call it.
fn unpack(wheel: &Path) -> Result<Vec<u8>, RuntimeError> {
    let bad = |cause| RuntimeError::Wheel {
        path: wheel.to_owned(),
        cause,
    };
    let file = File::open(wheel).map_err(|cause| RuntimeError::Io {
        path: wheel.to_owned(),
        cause,
    })?;
    let mut archive = ZipArchive::new(file).map_err(bad)?;
    let stem = LIBRARY.trim_end_matches(".dylib");
    let is_library = |name: &str| {
        name.strip_prefix("onnxruntime/capi/")
            .is_some_and(|name| name.starts_with(stem) && !name.contains('/'))
    };
    let name = archive
        .file_names()
        .flatten()
        .find(|name| is_library(name))
        .map(Cow::into_owned);
    let name = name.ok_or_else(|| RuntimeError::NoLibrary {
        path: wheel.to_owned(),
    })?;
    let mut bytes = Vec::new();
    let entry = archive.by_name(&name).map_err(bad)?;
    entry
        .take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(|cause| bad(cause.into()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn wheel(folder: &Path, entry: &str) -> PathBuf {
        let path = folder.join("onnxruntime.whl");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for name in ["onnxruntime/capi/libonnxruntime_providers_shared.so", entry] {
            writer
                .start_file(name, SimpleFileOptions::default())
                .unwrap();
            writer.write_all(name.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    #[test]
    fn the_library_of_a_wheel_is_installed_and_found() {
        let folder = tempfile::tempdir().unwrap();
        let entry = format!("onnxruntime/capi/{LIBRARY}.{VERSION}");
        let from = wheel(folder.path(), &entry);
        assert!(matches!(
            locate(None, folder.path()),
            Err(RuntimeError::Missing { .. })
        ));
        install(Some(&from), false, folder.path()).unwrap();
        let library = locate(None, folder.path()).unwrap();
        assert_eq!(fs::read_to_string(library).unwrap(), entry);
    }

    #[cfg(unix)]
    #[test]
    fn other_users_may_read_the_library_if_the_umask_lets_them() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("given");
        fs::write(&from, "a library").unwrap();
        let target = installed(folder.path());
        place(&from, &target).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&target), mode(&from));
    }

    #[test]
    fn a_wheel_of_another_platform_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let from = wheel(folder.path(), "onnxruntime/capi/another.library");
        let error = install(Some(&from), false, folder.path()).unwrap_err();
        assert!(matches!(error, RuntimeError::NoLibrary { .. }), "{error}");
    }
}
