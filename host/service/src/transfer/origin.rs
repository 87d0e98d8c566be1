//! Origin of an archive: `gallery.json`, and `tombstones/GALLERY` for each gallery with tombstones.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use rostro_common::digest::Sha256Digest;
use rostro_common::keyed_hash::HashKey;
use rostro_gallery::ledger::{ArchiveNumber, ArchiveOrigin, Tombstone, Tombstones};

/// Name of the entry.
pub(super) const NAME: &str = "gallery.json";

/// Size limit of the entry, in bytes.
pub(super) const MAX_BYTES: u64 = 4096;

/// Size limit of an entry of tombstones, in bytes: half a million tombstones.
pub(super) const MAX_TOMBSTONE_BYTES: u64 = 64 << 20;

/// Format of `gallery.json`.
#[derive(Debug, Serialize, Deserialize)]
struct OriginFile {
    format: u32,
    #[serde(default)]
    gallery: Option<String>,
    /// Change number of the gallery when the export began.
    #[serde(default)]
    number: Option<u64>,
    /// Time when the export began.
    began: String,
}

/// Returns the text of `gallery.json`.
pub(super) fn text(numbered: Option<ArchiveNumber>, began: jiff::Timestamp) -> Vec<u8> {
    let gallery = numbered.map(|numbered| numbered.gallery.to_string());
    let number = numbered.and_then(|numbered| numbered.number);
    serde_json::to_vec_pretty(&OriginFile {
        format: 1,
        gallery,
        number,
        began: began.to_string(),
    })
    .unwrap_or_default()
}

/// Reads `gallery.json` from an untrusted archive.
pub(super) fn read(bytes: &[u8]) -> Result<ArchiveOrigin, String> {
    let text: OriginFile =
        serde_json::from_slice(bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    if text.format != 1 {
        return Err("it was written by a later version of the program".to_owned());
    }
    let gallery = text
        .gallery
        .as_deref()
        .map(Uuid::try_parse)
        .transpose()
        .map_err(|_| "its gallery is not a UUID".to_owned())?;
    // A number has no meaning without its gallery.
    let number = text.number.filter(|_| gallery.is_some());
    let began: jiff::Timestamp = text
        .began
        .parse()
        .map_err(|_| "its time is invalid".to_owned())?;
    Ok(ArchiveOrigin {
        gallery,
        number,
        began: began.as_millisecond(),
    })
}

/// Writes a gallery's tombstones: a line with the key, then a line for each.
pub(super) fn write_tombstones(
    tombstones: &Tombstones,
    gallery: Uuid,
    key: &HashKey,
    mut to: impl Write,
) -> io::Result<()> {
    writeln!(to, "key {}", key.to_hex())?;
    let mut lines: Vec<_> = tombstones.in_gallery(gallery).collect();
    lines.sort_unstable_by_key(|(_, tombstone)| tombstone.number);
    for (mac, Tombstone { number, deleted_at }) in lines {
        writeln!(to, "{} {number} {deleted_at}", Sha256Digest(mac))?;
    }
    Ok(())
}

/// Reads a gallery's tombstones from an untrusted archive, and adds those that are not expired.
pub(super) fn read_tombstones(
    bytes: Vec<u8>,
    gallery: Uuid,
    to: &mut Tombstones,
) -> Result<(), String> {
    let text = String::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let mut lines = text.lines();
    let key = lines
        .next()
        .and_then(|line| line.strip_prefix("key "))
        .ok_or("its first line is not a key")?;
    let key = HashKey::from_hex(key).map_err(|_| "its key is invalid")?;
    let mut read = Vec::new();
    for (index, line) in lines.enumerate() {
        let wrong = || format!("line {} is not a tombstone", index + 2);
        let mut parts = line.split(' ');
        let (Some(mac), Some(number), Some(deleted_at), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let number = number.parse::<u64>().map_err(|_| wrong())?;
        read.push((
            mac.parse::<Sha256Digest>().map_err(|_| wrong())?.0,
            Tombstone {
                number,
                deleted_at: deleted_at.parse().map_err(|_| wrong())?,
            },
        ));
    }
    to.add_gallery(gallery, key);
    for (mac, tombstone) in read {
        to.insert(gallery, mac, tombstone);
    }
    to.expire_now();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rostro_gallery::ledger::now;

    /// An import reads the origin that an export writes.
    #[test]
    fn origin_is_read_as_written() {
        let began = jiff::Timestamp::from_millisecond(now()).unwrap();
        let gallery = Uuid::from_u128(5);
        for number in [None, Some(0), Some(7), Some(u64::MAX)] {
            let made = read(&text(Some(ArchiveNumber { gallery, number }), began)).unwrap();
            assert_eq!(
                made,
                ArchiveOrigin {
                    gallery: Some(gallery),
                    number,
                    began: began.as_millisecond()
                }
            );
        }
        assert_eq!(read(&text(None, began)).unwrap().gallery, None);
        for wrong in [
            "",
            "{}",
            "{\"format\":2,\"began\":\"2026-01-01T00:00:00Z\"}",
            "{\"format\":1,\"began\":\"soon\"}",
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tombstones_are_read_as_written() {
        let (gallery, key) = (
            Uuid::from_u128(5),
            HashKey::from_hex(&"03".repeat(32)).unwrap(),
        );
        let mut tombstones = Tombstones::default();
        tombstones.add_gallery(gallery, key.clone());
        for number in 1..20_u8 {
            tombstones.insert(
                gallery,
                [number; 32],
                Tombstone {
                    number: number.into(),
                    deleted_at: now(),
                },
            );
        }
        let mut bytes = Vec::new();
        write_tombstones(&tombstones, gallery, &key, &mut bytes).unwrap();
        let mut again = Tombstones::default();
        read_tombstones(bytes, gallery, &mut again).unwrap();
        let sorted = |of: &Tombstones| {
            let mut all: Vec<_> = of
                .in_gallery(gallery)
                .map(|(mac, tombstone)| (tombstone.number, mac, tombstone.deleted_at))
                .collect();
            all.sort_unstable();
            all
        };
        assert_eq!(sorted(&again), sorted(&tombstones));
        for wrong in [
            "",
            "no key\n",
            "key 12\n",
            &format!("key {}\nx 1 2\n", "0".repeat(64)),
            &format!("key {}\n\n", "0".repeat(64)),
        ] {
            assert!(
                read_tombstones(
                    wrong.as_bytes().to_vec(),
                    gallery,
                    &mut Tombstones::default()
                )
                .is_err(),
                "{wrong}"
            );
        }
    }
}
