//! Adoption of an archive's tombstones.

use std::collections::HashMap;
use std::io;

use uuid::Uuid;

use rostro_common::keyed_hash::HashKey;

use super::slots::SlotRecord;
use super::tombstones::{Mac, Tombstone, Tombstones, now};
use super::{Ledger, check_step};

/// Maximum number of tombstones, so that an archive cannot fill memory and disk.
const MAX_TOMBSTONES: usize = 2_000_000;

/// Maximum number of galleries that tombstones are kept of.
const MAX_GALLERIES: usize = 64;

/// The part of an archive's tombstones that a gallery adopts.
#[derive(Debug, Default)]
pub struct Adoption {
    /// Galleries that were unknown, with their keys.
    pub galleries: Vec<(Uuid, HashKey)>,
    /// New or later tombstones.
    pub tombstones: Vec<(Uuid, Mac, Tombstone)>,
    /// Number that the gallery's own changes must be above.
    pub highest: u64,
    /// Reasons for what is omitted.
    pub reasons: Vec<&'static str>,
}

impl Tombstones {
    /// Returns what a gallery adopts of others: its own id is `own`, and its latest change has the
    /// number `latest`.
    pub fn adopt(&self, others: &Self, own: Uuid, latest: u64) -> Adoption {
        let mut adoption = Adoption {
            highest: latest,
            ..Adoption::default()
        };
        let mut keys: HashMap<Uuid, HashKey> = self.galleries().collect();
        let now_ms = now();
        for (gallery, key) in others.galleries() {
            match keys.get(&gallery) {
                Some(known) if *known != key => {
                    adoption
                        .reasons
                        .push("the key differs from the one that is known of this gallery");
                    continue;
                }
                Some(_) => {}
                None if keys.len() >= MAX_GALLERIES => {
                    adoption
                        .reasons
                        .push("tombstones of this many galleries are not kept");
                    continue;
                }
                None => {
                    keys.insert(gallery, key.clone());
                    adoption.galleries.push((gallery, key));
                }
            }
            let is_own = gallery == own;
            let too_far = others
                .in_gallery(gallery)
                .find_map(|(_, tombstone)| check_step(latest, tombstone.number).err());
            adoption.reasons.extend(too_far.filter(|_| is_own));
            for (mac, tombstone) in others
                .in_gallery(gallery)
                .filter(|(_, tombstone)| !is_own || check_step(latest, tombstone.number).is_ok())
            {
                let tombstone = Tombstone {
                    deleted_at: tombstone.deleted_at.clamp(0, now_ms.max(0)),
                    ..tombstone
                };
                if tombstone.is_expired(now_ms)
                    || self
                        .get(gallery, mac)
                        .is_some_and(|known| known.number >= tombstone.number)
                {
                    continue;
                }
                if self.len() + adoption.tombstones.len() >= MAX_TOMBSTONES {
                    adoption.reasons.push("there are too many tombstones");
                    break;
                }
                if is_own {
                    adoption.highest = adoption.highest.max(tombstone.number);
                }
                adoption.tombstones.push((gallery, mac, tombstone));
            }
        }
        adoption
    }
}

impl Ledger {
    /// Adopts the tombstones of an archive. Returns the reasons for the omitted ones.
    ///
    /// # Errors
    ///
    /// If the tombstones cannot be written.
    pub fn merge(&self, others: &Tombstones) -> io::Result<Vec<&'static str>> {
        if others.is_empty() {
            return Ok(Vec::new());
        }
        let mut state = self.lock();
        let Some(open) = self.open_or_create(&mut state) else {
            return Ok(Vec::new());
        };
        let adoption = open
            .tombstones
            .adopt(others, open.galleries.own, self.numbers.latest());
        let mut galleries = open.galleries.clone();
        for (gallery, key) in &adoption.galleries {
            galleries.add(*gallery, key.clone());
        }
        if galleries != open.galleries
            && let Some(folder) = &self.folder
        {
            galleries.write(folder)?;
        }
        for (gallery, key) in galleries.iter() {
            open.tombstones.add_gallery(gallery, key);
        }
        open.galleries = galleries;
        self.numbers.raise(adoption.highest);
        open.reserve()?;
        let record = |&(gallery, mac, tombstone): &(Uuid, Mac, Tombstone)| SlotRecord {
            gallery,
            mac,
            tombstone,
        };
        let records: Vec<SlotRecord> = adoption.tombstones.iter().map(record).collect();
        open.write(&records)?;
        for (gallery, mac, tombstone) in adoption.tombstones {
            open.tombstones.insert(gallery, mac, tombstone);
        }
        Ok(adoption.reasons)
    }
}
