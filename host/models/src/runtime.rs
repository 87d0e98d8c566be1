//! Locates and installs ONNX Runtime's library.
//!
//! The library comes from the Python wheel `onnxruntime`, because an ordinary package client can
//! fetch it for every platform. The wheel is only unpacked: Python is needed to fetch it, not to
//! run it.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use indicatif::ProgressBar;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::install::InstallOutcome;

/// The version that is installed; its C interface is the one that the host was tested with.
pub const VERSION: &str = "1.32.0";

/// Maximum size of the unpacked library in bytes. The library for Linux has less than 30 MB.
const LARGEST: u64 = 512 << 20;

/// File name of the installed library.
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
    /// The library is not installed.
    #[error(
        "ONNX Runtime is not installed at {path}; run `rostro runtime install --runtime \
         {folder}`, or pass the library with --onnxruntime",
        path = path.display(),
        folder = folder.display()
    )]
    Missing {
        /// Expected path.
        path: PathBuf,
        /// Folder of installations.
        folder: PathBuf,
    },
    /// The library of `--onnxruntime` does not exist.
    #[error(
        "no ONNX Runtime library at {path} (--onnxruntime); pass the path of the library's file, \
         or omit the flag and run `rostro runtime install`",
        path = path.display()
    )]
    NoSuchLibrary {
        /// Path of the flag.
        path: PathBuf,
    },
    /// pip cannot be run.
    #[error(
        "cannot run `{program} -m pip` to fetch the wheel onnxruntime {VERSION}: {cause}; install \
         Python with pip, or fetch the wheel yourself and pass it with --from"
    )]
    Pip {
        /// Name of Python's program.
        program: &'static str,
        /// Error of the operating system.
        cause: io::Error,
    },
    /// pip did not fetch the wheel.
    #[error(
        "pip cannot fetch the wheel onnxruntime {VERSION}: {output}; fetch it yourself and pass \
         it with --from"
    )]
    Fetch {
        /// Last lines of pip's output.
        output: String,
    },
    /// The wheel is not usable.
    #[error("cannot read the wheel {path}: {cause}", path = path.display())]
    Wheel {
        /// The file.
        path: PathBuf,
        /// Error of the archive.
        cause: ZipError,
    },
    /// The wheel has no library for this platform.
    #[error("{path} has no {LIBRARY}; it may be for another platform", path = path.display())]
    NoLibrary {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be read or written.
    #[error("cannot install {path}: {cause}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        cause: io::Error,
    },
}

/// Returns the path of the library to load: `flag`, else the installed library.
///
/// # Errors
///
/// If the file does not exist.
pub fn locate(flag: Option<&Path>, runtime: &Path) -> Result<PathBuf, RuntimeError> {
    match flag {
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

/// Fetches the wheel into a folder with pip. Returns its path.
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
            let errors = String::from_utf8_lossy(&output.stderr);
            let mut last: Vec<&str> = errors.lines().rev().take(3).collect();
            last.reverse();
            Err(RuntimeError::Fetch {
                output: last.join("; "),
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
    use rostro_common::fs::atomic::{FileAccess, write_atomic};

    // Readable by other users, because the user that installs is often not the one that serves.
    fs::create_dir_all(folder)
        .and_then(|()| write_atomic(target, FileAccess::Umask, &bytes))
        .map(drop)
        .map_err(io(target))
}

/// Returns the library in a wheel: `onnxruntime/capi/libonnxruntime.so.<version>`, or the name on
/// another platform.
fn unpack(wheel: &Path) -> Result<Vec<u8>, RuntimeError> {
    let wheel_error = |cause| RuntimeError::Wheel {
        path: wheel.to_owned(),
        cause,
    };
    let file = File::open(wheel).map_err(|cause| RuntimeError::Io {
        path: wheel.to_owned(),
        cause,
    })?;
    let mut archive = ZipArchive::new(file).map_err(wheel_error)?;
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
    let entry = archive.by_name(&name).map_err(wheel_error)?;
    entry
        .take(LARGEST)
        .read_to_end(&mut bytes)
        .map_err(|cause| wheel_error(cause.into()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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
    fn library_of_wheel_is_installed() {
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
    fn library_permissions_follow_umask() {
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
    fn wheel_of_other_platform_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let from = wheel(folder.path(), "onnxruntime/capi/another.library");
        let error = install(Some(&from), false, folder.path()).unwrap_err();
        assert!(matches!(error, RuntimeError::NoLibrary { .. }), "{error}");
    }
}
