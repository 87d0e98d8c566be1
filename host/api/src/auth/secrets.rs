//! Secrets by which callers and operators are known: a file with a line for each, which may be read
//! again while requests are served.
//!
//! They are kept as digests under a secret of this process (BLAKE3, keyed): comparing them tells
//! nothing of a secret by the time it takes, and no message quotes one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use rostro_common::fs::read_text;

/// Shorter secrets can be guessed.
const SHORTEST: usize = 16;

/// What is written in a line beside name and secret, and so what the secrets are.
pub trait SecretEntry: Sized + Send + Sync + 'static {
    /// What the secrets are called, one and many.
    const NAMES: [&'static str; 2];
    /// How a line is written.
    const LINE: &'static str;

    /// Takes what stands between the name and the secret: gives it with the secret.
    ///
    /// # Errors
    ///
    /// What is wrong with the line.
    fn read(rest: &str) -> Result<(Self, &str), &'static str>;
}

/// Who a secret belongs to, and what stands beside it in the file.
#[derive(Debug)]
pub(crate) struct Owner<E> {
    pub name: Arc<str>,
    pub entry: E,
    digest: blake3::Hash,
}

/// The secrets of a file. Clones share them.
pub struct SecretsFile<E>(Arc<LoadedSecrets<E>>);

struct LoadedSecrets<E> {
    file: PathBuf,
    keys: ArcSwap<KeyDigests<E>>,
}

struct KeyDigests<E> {
    secret: [u8; 32],
    owners: Vec<Arc<Owner<E>>>,
}

/// Why a file of secrets cannot be used. None is quoted.
#[derive(Debug, thiserror::Error)]
pub enum SecretsFileError {
    /// It cannot be read.
    #[error("cannot read the {names} in {file}: {cause}", file = file.display())]
    Unreadable {
        /// What is in it.
        names: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is not what it should be.
    #[error("{file}, line {line}: {what}; write a line {format}", file = file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
        /// How a line is written.
        format: &'static str,
    },
    /// There is none in it.
    #[error("there is no {name} in {file}; write a line {format}", file = file.display())]
    None {
        /// What should be in it.
        name: &'static str,
        /// The file.
        file: PathBuf,
        /// How a line is written.
        format: &'static str,
    },
}

impl<E: SecretEntry> SecretsFile<E> {
    /// Reads a file with a line for each secret, which begins with its name and ends with itself,
    /// `:` between; empty lines and those that begin with `#` do not count.
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

    /// Reads the file again; how many secrets are good from then on. Those before stay good if it
    /// cannot be used.
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

    /// How many secrets are good.
    pub fn count(&self) -> usize {
        self.0.keys.load().owners.len()
    }

    /// Whose secret it is.
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
            secret: secret().map_err(unreadable)?,
            owners: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            keys.add(line).map_err(|what| SecretsFileError::Line {
                file: file.to_owned(),
                line: index + 1,
                what,
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

    /// Takes a line; what is wrong with it.
    fn add(&mut self, line: &str) -> Result<(), String> {
        let [name, _] = E::NAMES;
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let (owner, rest) = line.split_once(':').ok_or("there is no `:` in it")?;
        if owner.is_empty() || owner.len() > 64 || !is_visible(owner) {
            return Err("the name is not 1 to 64 visible letters without spaces".to_owned());
        }
        let (entry, secret) = E::read(rest)?;
        if secret.len() < SHORTEST || !is_visible(secret) {
            return Err(format!(
                "the {name} is not at least {SHORTEST} visible letters without spaces"
            ));
        }
        let digest = blake3::keyed_hash(&self.secret, secret.as_bytes());
        // A name may have several, so that a new one is handed out before the old one ends. A
        // secret has one owner.
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

    /// Whose secret it is. All are compared, so that the time tells nothing of where in the file it
    /// stands.
    fn owner(&self, secret: &str) -> Option<Arc<Owner<E>>> {
        let given = blake3::keyed_hash(&self.secret, secret.as_bytes());
        self.owners
            .iter()
            .fold(None, |found, owner| {
                if owner.digest == given {
                    Some(owner)
                } else {
                    found
                }
            })
            .cloned()
    }
}

/// A secret that nobody knows and that ends with the process.
fn secret() -> io::Result<[u8; 32]> {
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
        f.debug_struct("Keyring")
            .field("file", &self.0.file)
            .field("count", &self.0.keys.load().owners.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Secrets with nothing beside them.
    #[derive(Debug)]
    struct Unscoped;

    impl SecretEntry for Unscoped {
        const NAMES: [&'static str; 2] = ["secret", "secrets"];
        const LINE: &'static str = "NAME:SECRET";

        fn read(rest: &str) -> Result<(Self, &str), &'static str> {
            Ok((Self, rest))
        }
    }

    fn ring(text: &str) -> (tempfile::TempDir, Result<SecretsFile<Unscoped>, String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, text).unwrap();
        let ring = SecretsFile::read(&file).map_err(|error| {
            error
                .to_string()
                .replace(&file.display().to_string(), "file")
        });
        (folder, ring)
    }

    #[test]
    fn a_secret_is_its_owners_and_nobody_elses() {
        let (_folder, ring) = ring("# people\n\nalice:0123456789abcdef\r\nbob:fedcba987654:210\n");
        let ring = ring.unwrap();
        let owner = |secret| ring.owner(secret).map(|owner| owner.name.to_string());
        assert_eq!(owner("0123456789abcdef").as_deref(), Some("alice"));
        assert_eq!(owner("fedcba987654:210").as_deref(), Some("bob"));
        assert_eq!((owner("0123456789abcde"), owner("")), (None, None));
        assert!(!format!("{ring:?}").contains("0123456789"));
    }

    /// Rotation: the old secret and the new one are both good, until the old line is taken out.
    #[test]
    fn name_may_have_several_secrets() {
        let (_folder, ring) =
            ring("\u{feff}alice:0123456789abcdef\nbob:0123456789abcdeF\nalice:fedcba9876543210\n");
        let ring = ring.unwrap();
        let owner = |secret| ring.owner(secret).map(|owner| owner.name.to_string());
        assert_eq!(owner("0123456789abcdef").as_deref(), Some("alice"));
        assert_eq!(owner("fedcba9876543210").as_deref(), Some("alice"));
        assert_eq!(owner("0123456789abcdeF").as_deref(), Some("bob"));
    }

    #[test]
    fn a_file_is_read_again_and_a_bad_one_changes_nothing() {
        let (folder, ring) = ring("alice:0123456789abcdef");
        let ring = ring.unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "alice:a-new-secret-of-hers\n").unwrap();
        assert!(
            ring.owner("0123456789abcdef").is_some()
                && ring.owner("a-new-secret-of-hers").is_none()
        );
        assert_eq!(ring.reload().unwrap(), 1);
        assert!(
            ring.owner("0123456789abcdef").is_none()
                && ring.owner("a-new-secret-of-hers").is_some()
        );
        fs::write(&file, "alice").unwrap();
        assert!(ring.reload().is_err() && ring.owner("a-new-secret-of-hers").is_some());
    }

    #[test]
    fn a_bad_file_is_refused_with_the_line_and_without_the_secret() {
        for (text, wanted) in [
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
            let error = ring(text).1.unwrap_err();
            assert!(
                error.contains(wanted) && !error.contains("hidden"),
                "{error}"
            );
        }
    }
}
