//! Adoption of an archive's tombstones.

use std::io;

use super::slots::SlotRecord;
use super::tombstones::{Tombstone, Tombstones, now};
use super::{Ledger, MAX_STEP, TOO_FAR};

/// Maximum number of tombstones, so that an archive cannot fill memory and disk.
const MAX_TOMBSTONES: usize = 2_000_000;

/// Maximum number of galleries that tombstones are kept of.
const MAX_GALLERIES: usize = 64;

impl Ledger {
    /// Adopts the tombstones of an archive. Returns the reasons for the omitted ones.
    ///
    /// # Errors
    ///
    /// If the tombstones cannot be written.
    pub fn merge(&self, others: &Tombstones) -> io::Result<Vec<&'static str>> {
        let mut reasons = Vec::new();
        if others.is_empty() {
            return Ok(reasons);
        }
        let mut state = self.lock();
        let Some(open) = self.open_or_create(&mut state) else {
            return Ok(reasons);
        };
        let mut galleries = open.galleries.clone();
        let mut records: Vec<SlotRecord> = Vec::new();
        let (now_ms, mut highest) = (now(), self.numbers.latest());
        let max_number = highest.saturating_add(MAX_STEP);
        for (gallery, key) in others.galleries() {
            if galleries.key(gallery).is_none() && galleries.count() >= MAX_GALLERIES {
                reasons.push("tombstones of this many galleries are not kept");
                continue;
            }
            if !galleries.add(gallery, key) {
                reasons.push("the key differs from the one that is known of this gallery");
                continue;
            }
            let is_own = gallery == galleries.own;
            if is_own
                && others
                    .in_gallery(gallery)
                    .any(|(_, tombstone)| tombstone.number > max_number)
            {
                reasons.push(TOO_FAR);
            }
            for (mac, tombstone) in others
                .in_gallery(gallery)
                .filter(|(_, tombstone)| !is_own || tombstone.number <= max_number)
            {
                let tombstone = Tombstone {
                    deleted_at: tombstone.deleted_at.clamp(0, now_ms.max(0)),
                    ..tombstone
                };
                if tombstone.is_expired(now_ms)
                    || open
                        .tombstones
                        .get(gallery, mac)
                        .is_some_and(|known| known.number >= tombstone.number)
                {
                    continue;
                }
                if open.tombstones.len() + records.len() >= MAX_TOMBSTONES {
                    reasons.push("there are too many tombstones");
                    break;
                }
                if is_own {
                    highest = highest.max(tombstone.number);
                }
                records.push(SlotRecord {
                    gallery,
                    mac,
                    tombstone,
                });
            }
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
        self.numbers.raise(highest);
        open.reserve()?;
        open.write(&records)?;
        for SlotRecord {
            gallery,
            mac,
            tombstone,
        } in records
        {
            open.tombstones.insert(gallery, mac, tombstone);
        }
        Ok(reasons)
    }
}
