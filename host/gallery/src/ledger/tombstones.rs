//! Tombstones: that a person was deleted, and when, under a keyed hash of the id.

use std::collections::HashMap;

use uuid::Uuid;

use rostro_common::ids::PersonId;
use rostro_common::keyed_hash::HashKey;

/// How long a tombstone is kept, in milliseconds: 400 days.
const KEPT: i64 = 400 * 24 * 3600 * 1000;

/// Keyed hash of a person's id.
pub type Mac = [u8; 32];

/// A deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Change number of the deletion in its gallery.
    pub number: u64,
    /// Milliseconds since 1970.
    pub deleted_at: i64,
}

/// What is known of when an archive was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveOrigin {
    /// Id of the gallery, if the archive names it.
    pub gallery: Option<Uuid>,
    /// Change number of the gallery when the export began.
    pub number: Option<u64>,
    /// Milliseconds since 1970 when the export began; 0 if that is not known.
    pub began: i64,
}

/// Tombstones of a gallery, and of those whose archives it took in.
#[derive(Clone, Debug, Default)]
pub struct Tombstones {
    keys: HashMap<Uuid, HashKey>,
    tombstones: HashMap<(Uuid, Mac), Tombstone>,
}

/// The time in milliseconds since 1970.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Tombstone {
    pub(super) fn is_expired(self, now: i64) -> bool {
        now.saturating_sub(self.deleted_at) > KEPT
    }
}

impl ArchiveOrigin {
    /// Returns whether the deletion came after the archive was made: by number in the archive's own
    /// gallery, else by time.
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

    /// Every gallery with its key.
    pub fn galleries(&self) -> impl Iterator<Item = (Uuid, HashKey)> {
        self.keys
            .iter()
            .map(|(gallery, key)| (*gallery, key.clone()))
    }

    /// Every tombstone of a gallery.
    pub fn in_gallery(&self, gallery: Uuid) -> impl Iterator<Item = (Mac, Tombstone)> {
        self.tombstones
            .iter()
            .filter(move |((of, _), _)| *of == gallery)
            .map(|((_, mac), tombstone)| (*mac, *tombstone))
    }

    /// Adds a tombstone unless the same or a later one is known. Returns whether it was added.
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

    /// The tombstones of a person, each with its gallery.
    pub(super) fn of(&self, id: &PersonId) -> impl Iterator<Item = (Uuid, Tombstone)> {
        self.keys.iter().filter_map(move |(gallery, key)| {
            Some((*gallery, self.get(*gallery, key.hash(id.as_str()).0)?))
        })
    }

    /// Returns whether a person was deleted after an archive was made.
    pub fn is_deleted_since(&self, id: &PersonId, made: &ArchiveOrigin) -> bool {
        !self.is_empty()
            && self
                .of(id)
                .any(|(gallery, tombstone)| made.is_before(gallery, tombstone))
    }

    /// Removes tombstones whose time is over by now.
    pub fn expire_now(&mut self) {
        self.expire(now());
    }

    /// Removes tombstones whose time is over, and returns which.
    pub(super) fn expire(&mut self, now: i64) -> Vec<(Uuid, Mac)> {
        self.tombstones
            .extract_if(|_, tombstone| tombstone.is_expired(now))
            .map(|(key, _)| key)
            .collect()
    }
}
