//! Tombstones: records of deletions, under a keyed hash of the person's id.

use std::collections::HashMap;

use uuid::Uuid;

use rostro_common::ids::PersonId;
use rostro_common::keyed_hash::HashKey;

/// Retention of a tombstone in milliseconds: 400 days.
pub const RETENTION_MS: i64 = 400 * 24 * 3600 * 1000;

/// Keyed hash of a person's id.
pub type Mac = [u8; 32];

/// A deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Change number of the deletion in its gallery.
    pub number: u64,
    /// Time of the deletion in milliseconds since 1970.
    pub deleted_at: i64,
}

/// Origin of an archive: its gallery, and the number and the time at which it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveOrigin {
    /// Id of the gallery, if the archive names it.
    pub gallery: Option<Uuid>,
    /// Change number of the gallery when the export began.
    pub number: Option<u64>,
    /// Time in milliseconds since 1970 when the export began; 0 if unknown.
    pub began: i64,
}

/// Tombstones of a gallery, and of the galleries that it imported archives of.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    keys: HashMap<Uuid, HashKey>,
    tombstones: HashMap<(Uuid, Mac), Tombstone>,
}

/// Returns the time in milliseconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Tombstone {
    pub(super) fn is_expired(self, now: i64) -> bool {
        now.saturating_sub(self.deleted_at) > RETENTION_MS
    }
}

impl ArchiveOrigin {
    /// Returns true if the archive was made before the deletion: by number within one gallery,
    /// otherwise by time.
    fn is_before(&self, gallery: Uuid, tombstone: Tombstone) -> bool {
        match self.number {
            Some(number) if self.gallery == Some(gallery) => tombstone.number > number,
            _ => tombstone.deleted_at >= self.began,
        }
    }
}

impl Tombstones {
    /// Adds a gallery with its key.
    pub fn add_gallery(&mut self, gallery: Uuid, key: HashKey) {
        self.keys.insert(gallery, key);
    }

    /// Returns every gallery with its key.
    pub fn galleries(&self) -> impl Iterator<Item = (Uuid, HashKey)> {
        self.keys
            .iter()
            .map(|(gallery, key)| (*gallery, key.clone()))
    }

    /// Returns every tombstone of a gallery.
    pub fn in_gallery(&self, gallery: Uuid) -> impl Iterator<Item = (Mac, Tombstone)> {
        self.tombstones
            .iter()
            .filter(move |((of, _), _)| *of == gallery)
            .map(|((_, mac), tombstone)| (*mac, *tombstone))
    }

    /// Adds a tombstone unless the same or a later one is known. Returns true if it was added.
    pub fn insert(&mut self, gallery: Uuid, mac: Mac, tombstone: Tombstone) -> bool {
        let is_known = self
            .get(gallery, mac)
            .is_some_and(|known| known.number >= tombstone.number);
        if !is_known {
            self.tombstones.insert((gallery, mac), tombstone);
        }
        !is_known
    }

    pub(super) fn get(&self, gallery: Uuid, mac: Mac) -> Option<Tombstone> {
        self.tombstones.get(&(gallery, mac)).copied()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tombstones.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.tombstones.len()
    }

    /// Returns the tombstones of a person, each with its gallery.
    pub(super) fn of(&self, id: &PersonId) -> impl Iterator<Item = (Uuid, Tombstone)> {
        self.keys.iter().filter_map(move |(gallery, key)| {
            Some((*gallery, self.get(*gallery, key.hash(id.as_str()).0)?))
        })
    }

    /// Returns true if a person was deleted. They may have been enrolled again since.
    pub fn has(&self, id: &PersonId) -> bool {
        self.of(id).next().is_some()
    }

    /// Returns true if a person was deleted after an archive was made.
    pub fn is_deleted_since(&self, id: &PersonId, origin: &ArchiveOrigin) -> bool {
        !self.is_empty()
            && self
                .of(id)
                .any(|(gallery, tombstone)| origin.is_before(gallery, tombstone))
    }

    /// Removes expired tombstones.
    pub fn expire_now(&mut self) {
        self.expire(now());
    }

    /// Removes expired tombstones, and returns their keys.
    pub(super) fn expire(&mut self, now: i64) -> Vec<(Uuid, Mac)> {
        self.tombstones
            .extract_if(|_, tombstone| tombstone.is_expired(now))
            .map(|(key, _)| key)
            .collect()
    }
}
