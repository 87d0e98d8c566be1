//! Files with the secrets of callers or operators, one per line, which can be reloaded.
//!
//! Secrets are kept as BLAKE3 digests keyed with a secret of the process, so that the time of a
//! comparison reveals nothing. No message quotes a secret.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use rostro_common::fs::read_text;

/// Shortest secret, in bytes, because shorter ones can be guessed.
const MIN_SECRET_BYTES: usize = 16;

/// Content of a line in addition to name and secret.
pub trait SecretEntry: Sized + Send + Sync + 'static {
    /// Singular and plural name of the secrets, for messages.
    const NAMES: [&'static str; 2];
    /// Format of a line, for messages.
    const LINE: &'static str;

    /// Parses the rest of a line after the name. Returns the entry and the secret.
    ///
    /// # Errors
    ///
    /// A description of the problem.
    fn read(rest: &str) -> Result<(Self, &str), &'static str>;
}

/// Owner of a secret, with the entry of its line.
#[derive(Debug)]
pub(crate) struct Owner<E> {
    pub name: Arc<str>,
    pub entry: E,
    digest: blake3::Hash,
}

/// Secrets of a file. Clones share them.
pub struct SecretsFile<E>(Arc<LoadedSecrets<E>>);

struct LoadedSecrets<E> {
    file: PathBuf,
    keys: ArcSwap<KeyDigests<E>>,
}

struct KeyDigests<E> {
    process_secret: [u8; 32],
    owners: Vec<Arc<Owner<E>>>,
}

/// Error about a file of secrets. It quotes no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretsFileError {
    /// The file cannot be read.
    #[error("cannot read the {names} in {file}: {cause}", file = file.display())]
    Unreadable {
        /// Name of the secrets.
        names: &'static str,
        /// Path of the file.
        file: PathBuf,
        /// Cause of the failure.
        cause: io::Error,
    },
    /// A line is not valid.
    #[error("{file}, line {line}: {problem}; write a line {format}", file = file.display())]
    Line {
        /// Path of the file.
        file: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Description of the problem.
        problem: String,
        /// Format of a line.
        format: &'static str,
    },
    /// The file has no secret.
    #[error("there is no {name} in {file}; write a line {format}", file = file.display())]
    None {
        /// Name of the secret.
        name: &'static str,
        /// Path of the file.
        file: PathBuf,
        /// Format of a line.
        format: &'static str,
    },
}

impl<E: SecretEntry> SecretsFile<E> {
    /// Reads a file. A line begins with a name and ends with the secret, separated by `:`. Empty
    /// lines and lines that begin with `#` are ignored.
    ///
    /// # Errors
    ///
    /// [`SecretsFileError`] names the line.
    pub fn read(file: &Path) -> Result<Self, SecretsFileError> {
        let keys = ArcSwap::from_pointee(KeyDigests::read(file)?);
        Ok(Self(Arc::new(LoadedSecrets {
            file: file.to_owned(),
            keys,
        })))
    }

    /// Reads the file again and returns the number of secrets. The previous secrets stay valid if
    /// the file cannot be used.
    ///
    /// # Errors
    ///
    /// [`SecretsFileError`].
    pub fn reload(&self) -> Result<usize, SecretsFileError> {
        let keys = KeyDigests::read(&self.0.file)?;
        let count = keys.owners.len();
        self.0.keys.store(Arc::new(keys));
        Ok(count)
    }

    /// Returns the number of secrets.
    pub fn count(&self) -> usize {
        self.0.keys.load().owners.len()
    }

    /// Returns the owner of a secret.
    pub(crate) fn owner(&self, secret: &str) -> Option<Arc<Owner<E>>> {
        self.0.keys.load().owner(secret)
    }
}

impl<E: SecretEntry> KeyDigests<E> {
    fn read(file: &Path) -> Result<Self, SecretsFileError> {
        let [name, names] = E::NAMES;
        let unreadable = |cause| SecretsFileError::Unreadable {
            names,
            file: file.to_owned(),
            cause,
        };
        let text = read_text(file).map_err(unreadable)?;
        let mut keys = Self {
            process_secret: process_secret().map_err(unreadable)?,
            owners: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            keys.add(line).map_err(|problem| SecretsFileError::Line {
                file: file.to_owned(),
                line: index + 1,
                problem,
                format: E::LINE,
            })?;
        }
        match keys.owners.is_empty() {
            true => Err(SecretsFileError::None {
                name,
                file: file.to_owned(),
                format: E::LINE,
            }),
            false => Ok(keys),
        }
    }

    /// Adds the secret of a line. The error describes the problem.
    fn add(&mut self, line: &str) -> Result<(), String> {
        let [name, _] = E::NAMES;
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let (owner, rest) = line.split_once(':').ok_or("there is no `:` in it")?;
        if owner.is_empty() || owner.len() > 64 || !is_visible(owner) {
            return Err("the name is not 1 to 64 visible letters without spaces".to_owned());
        }
        let (entry, secret) = E::read(rest)?;
        if secret.len() < MIN_SECRET_BYTES || !is_visible(secret) {
            return Err(format!(
                "the {name} is not at least {MIN_SECRET_BYTES} visible letters without spaces"
            ));
        }
        let digest = blake3::keyed_hash(&self.process_secret, secret.as_bytes());
        // A name may have several secrets, so that a new one is distributed before the old one is
        // removed. A secret has one owner.
        if self.owners.iter().any(|other| other.digest == digest) {
            return Err(format!(
                "the {name} was there before; every {name} is in one line"
            ));
        }
        self.owners.push(Arc::new(Owner {
            name: owner.into(),
            entry,
            digest,
        }));
        Ok(())
    }

    /// Returns the owner of a secret. All digests are compared, so that the time does not reveal
    /// the position in the file.
    fn owner(&self, secret: &str) -> Option<Arc<Owner<E>>> {
        let digest = blake3::keyed_hash(&self.process_secret, secret.as_bytes());
        self.owners
            .iter()
            .fold(None, |found, owner| {
                if owner.digest == digest {
                    Some(owner)
                } else {
                    found
                }
            })
            .cloned()
    }
}

/// Returns a random secret, which ends with the process.
fn process_secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(secret)
}

impl<E> Clone for SecretsFile<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> fmt::Debug for SecretsFile<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsFile")
            .field("file", &self.0.file)
            .field("count", &self.0.keys.load().owners.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Entry without further content.
    #[derive(Debug)]
    struct Unscoped;

    impl SecretEntry for Unscoped {
        const NAMES: [&'static str; 2] = ["secret", "secrets"];
        const LINE: &'static str = "NAME:SECRET";

        fn read(rest: &str) -> Result<(Self, &str), &'static str> {
            Ok((Self, rest))
        }
    }

    fn read(text: &str) -> (tempfile::TempDir, Result<SecretsFile<Unscoped>, String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, text).unwrap();
        let secrets = SecretsFile::read(&file).map_err(|error| {
            error
                .to_string()
                .replace(&file.display().to_string(), "file")
        });
        (folder, secrets)
    }

    #[test]
    fn secret_has_one_owner() {
        let (_folder, secrets) =
            read("# people\n\nalice:0123456789abcdef\r\nbob:fedcba987654:210\n");
        let secrets = secrets.unwrap();
        let owner = |secret| secrets.owner(secret).map(|owner| owner.name.to_string());
        assert_eq!(owner("0123456789abcdef").as_deref(), Some("alice"));
        assert_eq!(owner("fedcba987654:210").as_deref(), Some("bob"));
        assert_eq!(owner("0123456789abcde"), None);
        assert_eq!(owner(""), None);
        assert!(!format!("{secrets:?}").contains("0123456789"));
    }

    /// Rotation: old and new secret are both valid until the old line is removed.
    #[test]
    fn name_may_have_several_secrets() {
        let (_folder, secrets) =
            read("\u{feff}alice:0123456789abcdef\nbob:0123456789abcdeF\nalice:fedcba9876543210\n");
        let secrets = secrets.unwrap();
        let owner = |secret| secrets.owner(secret).map(|owner| owner.name.to_string());
        assert_eq!(owner("0123456789abcdef").as_deref(), Some("alice"));
        assert_eq!(owner("fedcba9876543210").as_deref(), Some("alice"));
        assert_eq!(owner("0123456789abcdeF").as_deref(), Some("bob"));
    }

    #[test]
    fn reload_keeps_secrets_on_bad_file() {
        let (folder, secrets) = read("alice:0123456789abcdef");
        let secrets = secrets.unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "alice:a-new-secret-of-hers\n").unwrap();
        assert!(
            secrets.owner("0123456789abcdef").is_some()
                && secrets.owner("a-new-secret-of-hers").is_none()
        );
        assert_eq!(secrets.reload().unwrap(), 1);
        assert!(
            secrets.owner("0123456789abcdef").is_none()
                && secrets.owner("a-new-secret-of-hers").is_some()
        );
        fs::write(&file, "alice").unwrap();
        assert!(secrets.reload().is_err() && secrets.owner("a-new-secret-of-hers").is_some());
    }

    #[test]
    fn bad_file_error_names_line_only() {
        for (text, message) in [
            ("", "there is no secret in file; write a line NAME:SECRET"),
            (
                "alice:short",
                "file, line 1: the secret is not at least 16 visible letters",
            ),
            (
                "\nhiddenhiddenhidden",
                "file, line 2: there is no `:` in it; write a line NAME:SECRET",
            ),
            (
                ":hiddenhiddenhidden",
                "file, line 1: the name is not 1 to 64",
            ),
            (
                "a b:hiddenhiddenhidden",
                "file, line 1: the name is not 1 to 64",
            ),
            (
                "a:hiddenhiddenhidden\na:hiddenhiddenhidden",
                "file, line 2: the secret was there before",
            ),
            (
                "a:hiddenhiddenhidden\nb:hiddenhiddenhidden",
                "file, line 2: the secret was there before",
            ),
        ] {
            let error = read(text).1.unwrap_err();
            assert!(
                error.contains(message) && !error.contains("hidden"),
                "{error}"
            );
        }
    }
}
