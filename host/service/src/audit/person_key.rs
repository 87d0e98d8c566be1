//! Keys of the hashes that stand for people in the audit log. A new key is made each year, and kept
//! as long as lines that use it.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rostro_common::fs::atomic::{AtomicFile, FileAccess};
use rostro_common::fs::durable::sync_folder;
use rostro_common::fs::read_small;
use rostro_common::ids::PersonId;
use rostro_common::keyed_hash::HashKey;
use rostro_gallery::{AuditKey, Store};

/// Time for which a key is used for new lines: a year.
const KEY_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);

/// The first lines of the file.
const HEAD: &str = "# Keys of the people in audit.jsonl: when each was made, and the key. Keep it secret: it tests ids.\n";

/// A key, and the time at which it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonKey {
    stored: AuditKey,
    /// Identifies the key in a line without revealing it.
    pub id: String,
}

impl From<AuditKey> for PersonKey {
    fn from(stored: AuditKey) -> Self {
        let id = stored.key.hash("\0key id");
        Self {
            id: id.to_string().chars().take(8).collect(),
            stored,
        }
    }
}

impl PersonKey {
    fn made(&self) -> Timestamp {
        self.stored.made
    }

    /// Returns the hash of a person's id. An id has no control character, so the hash never equals
    /// the key's own id.
    pub fn hash(&self, id: &PersonId) -> String {
        self.stored.key.hash(id.as_str()).to_string()
    }
}

/// Reads the keys of a file, oldest first. A missing file has none.
///
/// # Errors
///
/// If the file cannot be read, or has an invalid line ([`ErrorKind::InvalidData`]).
pub fn read(file: &Path) -> io::Result<Vec<PersonKey>> {
    let bytes = match read_small(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let wrong = |line: usize| {
        io::Error::new(
            ErrorKind::InvalidData,
            format!("line {line} is not a time and a key"),
        )
    };
    let mut keys = Vec::new();
    for (index, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line
            .split_once(' ')
            .and_then(|(made, key)| Some((made.parse().ok()?, HashKey::from_hex(key).ok()?)));
        let (made, key) = key.ok_or_else(|| wrong(index + 1))?;
        keys.push(AuditKey { made, key }.into());
    }
    Ok(keys)
}

/// The keys of a running service.
#[derive(Debug)]
pub(super) struct PersonKeys {
    store: Arc<dyn Store>,
    /// Place of the keys, if the store has none.
    file: PathBuf,
    /// Oldest first. None before the file was read.
    keys: Option<Vec<PersonKey>>,
    /// Whether the last attempt to read or write the file failed, which is logged once.
    is_failing: bool,
}

impl PersonKeys {
    pub(super) fn new(store: Arc<dyn Store>, file: PathBuf) -> Self {
        Self {
            store,
            file,
            keys: None,
            is_failing: false,
        }
    }

    /// Returns the key for lines that are written now, and makes a new one if the newest is a year
    /// old. Returns none if the file can be neither read nor written; the next call tries again.
    pub(super) fn current(&mut self, now: Timestamp) -> Option<&PersonKey> {
        match self.renew(now) {
            Ok(()) => self.is_failing = false,
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                let consequence = if self.keys.as_ref().is_some_and(|keys| !keys.is_empty()) {
                    "the old key stays in use"
                } else {
                    "lines of the audit log identify no person"
                };
                let place = match self.store.is_shared() {
                    true => "the database".to_owned(),
                    false => self.file.display().to_string(),
                };
                tracing::error!(
                    "cannot store a key in {place}: {error}; until this is repaired, {consequence}"
                );
            }
            Err(_) => {}
        }
        self.keys.as_ref().and_then(|keys| keys.last())
    }

    fn renew(&mut self, now: Timestamp) -> io::Result<()> {
        let keys = match &mut self.keys {
            Some(keys) => keys,
            None => self.keys.insert(self.load()?),
        };
        let is_shared = self.store.is_shared();
        if !is_shared && !keys.is_empty() && !self.file.try_exists()? {
            write(&self.file, keys)?;
            tracing::error!(
                "{} was missing and was written again, because no line of a person can be found without it",
                self.file.display()
            );
        }
        if keys
            .last()
            .is_some_and(|newest| now.duration_since(newest.made()) < KEY_LIFETIME)
        {
            return Ok(());
        }
        let new = AuditKey {
            made: now,
            key: HashKey::random()?,
        };
        if is_shared {
            let newest = keys.last().map(PersonKey::made);
            self.store.add_audit_key(&new, newest)?;
            // Another node may have added one first.
            self.keys = Some(self.load()?);
            return Ok(());
        }
        let mut renewed = keys.clone();
        renewed.push(new.into());
        write(&self.file, &renewed)?;
        *keys = renewed;
        Ok(())
    }

    fn load(&self) -> io::Result<Vec<PersonKey>> {
        match self.store.audit_keys()? {
            Some(keys) => Ok(keys.into_iter().map(PersonKey::from).collect()),
            None => load(&self.file),
        }
    }

    /// Returns the keys of a database that lines from after `cutoff` use.
    pub(super) fn shared_after(&self, cutoff: Timestamp) -> Vec<AuditKey> {
        let keys = self.keys.as_ref().filter(|_| self.store.is_shared());
        let keys = keys.map(Vec::as_slice).unwrap_or_default();
        let kept = keys.iter().skip(expired_before(keys, cutoff));
        kept.map(|key| key.stored.clone()).collect()
    }

    /// Drops the keys that only lines from before `cutoff` use.
    pub(super) fn drop_before(&mut self, cutoff: Timestamp) {
        let Some(keys) = &mut self.keys else { return };
        let expired = expired_before(keys, cutoff);
        if expired == 0 {
            return;
        }
        let kept = keys.split_off(expired);
        let dropped = std::mem::replace(keys, kept);
        let removed = match self.store.is_shared() {
            true => {
                let made: Vec<Timestamp> = dropped.iter().map(PersonKey::made).collect();
                self.store.remove_audit_keys(&made)
            }
            false => write(&self.file, keys),
        };
        match removed {
            Ok(()) => tracing::info!(
                keys = dropped.len(),
                "dropped keys of the audit log whose lines are gone"
            ),
            Err(error) => {
                tracing::error!("cannot drop old keys of the audit log: {error}");
                keys.splice(0..0, dropped);
            }
        }
    }
}

/// Returns the number of keys that only lines from before `cutoff` use. A key is in use until the
/// next one is made.
fn expired_before(keys: &[PersonKey], cutoff: Timestamp) -> usize {
    let next = keys.iter().skip(1);
    next.take_while(|next| next.made() < cutoff).count()
}

/// Reads the keys for use. A damaged file is moved away and not overwritten, because lines may use
/// its keys.
fn load(file: &Path) -> io::Result<Vec<PersonKey>> {
    let keys = match read(file) {
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            let aside = (1..100)
                .map(|number| file.with_extension(format!("key.damaged-{number}")))
                .find(|aside| !aside.exists());
            let aside = aside.ok_or(error)?;
            fs::rename(file, &aside)?;
            tracing::error!(
                "{} is damaged and was moved to {}; restore it from a backup to find people in older lines",
                file.display(),
                aside.display()
            );
            Vec::new()
        }
        keys => keys?,
    };
    #[cfg(unix)]
    if !keys.is_empty() {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(file, fs::Permissions::from_mode(0o600))?;
    }
    Ok(keys)
}

/// Replaces the file atomically. The new file is for its owner alone.
fn write(file: &Path, keys: &[PersonKey]) -> io::Result<()> {
    let folder = file.parent().unwrap_or_else(|| Path::new("."));
    let mut text = HEAD.to_owned();
    for PersonKey {
        stored: AuditKey { made, key },
        ..
    } in keys
    {
        text.push_str(&format!("{made} {}\n", key.to_hex()));
    }
    let mut unfinished = AtomicFile::create(file, FileAccess::Owner)?;
    unfinished.write_all(text.as_bytes())?;
    unfinished.commit()?;
    // The file is in place, so a failure here does not undo the write.
    let _ = sync_folder(folder);
    Ok(())
}

#[cfg(test)]
mod tests {
    use rostro_gallery::FolderStore;

    use super::*;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_second(number * 86_400).unwrap()
    }

    /// Returns the keys of a folder, for a store without keys.
    fn keys_in(folder: &Path) -> PersonKeys {
        let store = FolderStore::open_unlocked(folder).unwrap();
        PersonKeys::new(Arc::new(store), folder.join("audit.key"))
    }

    fn keys() -> (tempfile::TempDir, PersonKeys) {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys_in(folder.path());
        (folder, keys)
    }

    #[test]
    fn key_changes_after_a_year() {
        let (folder, mut keys) = keys();
        let first = keys.current(day(0)).unwrap().clone();
        assert_eq!(keys.current(day(364)), Some(&first));
        let second = keys.current(day(365)).unwrap().clone();
        assert_ne!(second.id, first.id);
        assert_eq!(read(&keys.file).unwrap(), [first.clone(), second.clone()]);
        // A clock that jumps back makes no key, and another process uses the newest one.
        assert_eq!(keys.current(day(100)), Some(&second));
        assert_eq!(keys_in(folder.path()).current(day(400)), Some(&second));
        let alice = "alice".parse().unwrap();
        assert_ne!(first.hash(&alice), second.hash(&alice));
    }

    #[test]
    fn key_outlives_its_last_line() {
        let (_folder, mut keys) = keys();
        for year in 0..3 {
            keys.current(day(365 * year)).unwrap();
        }
        // The first key was in use until day 365.
        keys.drop_before(day(365));
        assert_eq!(read(&keys.file).unwrap().len(), 3);
        keys.drop_before(day(366));
        assert_eq!(read(&keys.file).unwrap().len(), 2);
        keys.drop_before(day(100_000));
        let left = read(&keys.file).unwrap();
        assert_eq!(left.len(), 1, "the newest is in use");
        assert_eq!(keys.current(day(800)), left.last());
    }

    /// Lines are found by the keys in the file, so a removed file is written again.
    #[test]
    fn removed_key_file_is_written_again() {
        let (_folder, mut keys) = keys();
        let key = keys.current(day(0)).unwrap().clone();
        fs::remove_file(&keys.file).unwrap();
        assert_eq!(keys.current(day(1)), Some(&key));
        assert_eq!(read(&keys.file).unwrap(), [key]);
    }

    #[cfg(unix)]
    #[test]
    fn key_file_is_private() {
        use std::os::unix::fs::PermissionsExt;

        let (folder, mut keys) = keys();
        keys.current(day(0)).unwrap();
        let mode = || fs::metadata(&keys.file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&keys.file, fs::Permissions::from_mode(0o644)).unwrap();
        keys_in(folder.path()).current(day(0)).unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn damaged_key_file_is_kept_aside() {
        let (folder, mut keys) = keys();
        fs::write(&keys.file, "not a key\n").unwrap();
        keys.current(day(0)).unwrap();
        assert_eq!(
            fs::read_to_string(folder.path().join("audit.key.damaged-1")).unwrap(),
            "not a key\n"
        );
        assert_eq!(read(&keys.file).unwrap().len(), 1);
    }

    #[test]
    fn unwritable_key_file_is_retried() {
        let (folder, mut keys) = keys();
        let file = std::mem::replace(&mut keys.file, folder.path().join("missing/audit.key"));
        assert_eq!(keys.current(day(0)), None);
        keys.file = file;
        assert!(keys.current(day(0)).is_some());
    }
}
