//! Ids and keys of the gallery, and of the origins of its tombstones: `galleries.json`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use rostro_common::fs::atomic::{AtomicFile, FileAccess};
use rostro_common::fs::durable::sync_folder;
use rostro_common::fs::read_small;
use rostro_common::keyed_hash::HashKey;

const FILE: &str = "galleries.json";

/// Ids and keys of galleries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Galleries {
    pub(super) own: Uuid,
    keys: BTreeMap<Uuid, HashKey>,
}

/// Format of the file.
#[derive(Serialize, Deserialize)]
struct GalleriesFile {
    format: u32,
    own: String,
    /// Key in hexadecimal digits by gallery.
    keys: BTreeMap<String, String>,
}

impl Galleries {
    /// Creates a gallery with a random id and key.
    pub(super) fn random() -> io::Result<Self> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        let own = uuid::Builder::from_random_bytes(id).into_uuid();
        Ok(Self {
            own,
            keys: BTreeMap::from([(own, HashKey::random()?)]),
        })
    }

    pub(super) fn key(&self, gallery: Uuid) -> Option<HashKey> {
        self.keys.get(&gallery).cloned()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Uuid, HashKey)> {
        self.keys
            .iter()
            .map(|(gallery, key)| (*gallery, key.clone()))
    }

    /// Adds a gallery. Returns false if it is known with another key.
    pub(super) fn add(&mut self, gallery: Uuid, key: HashKey) -> bool {
        *self.keys.entry(gallery).or_insert_with(|| key.clone()) == key
    }

    /// Reads the file; none if it does not exist.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the file is damaged.
    pub(super) fn read(folder: &Path) -> io::Result<Option<Self>> {
        let bytes = match read_small(&folder.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged =
            |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} {what}"));
        let text: GalleriesFile = serde_json::from_slice(&bytes)
            .map_err(|error| damaged(&format!("cannot be read: {error}")))?;
        if text.format != 1 {
            return Err(io::Error::other(format!(
                "{FILE} was written by a later version of the program"
            )));
        }
        let id =
            |text: &str| Uuid::try_parse(text).map_err(|_| damaged("has an id that is no UUID"));
        let key = |text: &str| HashKey::from_hex(text).map_err(|_| damaged("has an invalid key"));
        let keys = text
            .keys
            .iter()
            .map(|(gallery, text)| Ok((id(gallery)?, key(text)?)))
            .collect::<io::Result<BTreeMap<_, _>>>()?;
        let own = id(&text.own)?;
        if !keys.contains_key(&own) {
            return Err(damaged("lacks the gallery's own key"));
        }
        Ok(Some(Self { own, keys }))
    }

    /// Writes the file atomically.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let keys = self
            .keys
            .iter()
            .map(|(gallery, key)| (gallery.to_string(), key.to_hex()))
            .collect();
        let text = GalleriesFile {
            format: 1,
            own: self.own.to_string(),
            keys,
        };
        let mut file = AtomicFile::create(&folder.join(FILE), FileAccess::Owner)?;
        serde_json::to_writer_pretty(&mut file, &text)?;
        file.write_all(b"\n")?;
        file.commit()?;
        // The name is durable once its folder is synced, and that folder's own name once the
        // gallery's is.
        for folder in [Some(folder), folder.parent()].into_iter().flatten() {
            sync_names(folder);
        }
        Ok(())
    }
}

/// Syncs a changed folder. If that fails, a crash may undo the change.
pub(super) fn sync_names(folder: &Path) {
    if let Err(error) = sync_folder(folder) {
        tracing::debug!("cannot sync {}: {error}", folder.display());
    }
}

#[cfg(test)]
pub(super) fn damage(folder: &Path) {
    std::fs::write(folder.join(FILE), "{").unwrap();
}
