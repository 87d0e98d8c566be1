//! Index of a multi-picture file (CIPA DC-007), in which stereo cameras and phones put several
//! JPEGs one after another.

use std::ops::RangeInclusive;

use super::markers::{has_length, next_marker};
use super::tiff::Tiff;

/// Name before the index in a segment APP2.
const NAME: &[u8] = b"MPF\0";

/// Tag of the index's entries.
const ENTRIES: u32 = 0xb002;

/// Further picture of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Offset from the start of the first picture, in bytes.
    pub(super) offset: u64,
    /// Possible lengths, if the offset is a guess.
    pub(super) lengths: Option<RangeInclusive<u64>>,
}

/// Finds the further pictures of a file from the index in its first picture. Empty without an
/// index.
///
/// `has_end` is true if the first picture has its end marker. If data of it was lost, the others
/// begin before the offsets of the index.
pub(super) fn parts(picture: &[u8], has_end: bool) -> Vec<Part> {
    let Some((begin, entries)) = index(picture) else {
        return Vec::new();
    };
    let own = picture.len() as u64;
    let first = entries
        .iter()
        .find(|entry| entry.start == 0)
        .map_or(0, |entry| u64::from(entry.size));
    let others = entries.into_iter().filter(|entry| entry.start > 0);
    let places = |entry: IndexEntry| {
        let (offset, size) = (begin as u64 + u64::from(entry.start), u64::from(entry.size));
        let exact = Part {
            offset,
            lengths: None,
        };
        let nearer = (offset + own)
            .checked_sub(first)
            .filter(|_| first > 0 && first != own && size > 0);
        // Without an end marker the rest of the file may be lost, and the next frame follow.
        let lengths = if has_end { 1..=size } else { size..=size };
        [
            Some(exact),
            nearer.map(|offset| Part {
                offset,
                lengths: Some(lengths),
            }),
        ]
    };
    others.flat_map(places).flatten().collect()
}

/// Entry of the index.
struct IndexEntry {
    size: u32,
    /// Distance of the picture's start from the index; 0 for the first picture.
    start: u32,
}

/// Returns the offset of the index, from which starts count, and its entries.
fn index(picture: &[u8]) -> Option<(usize, Vec<IndexEntry>)> {
    let mut at = 2;
    let begin = loop {
        let (marker, body) = next_marker(picture, at)?;
        match marker {
            0xda => return None,
            0xe2 if picture.get(body + 2..)?.starts_with(NAME) => break body + 2 + NAME.len(),
            _ if has_length(marker, false) => {
                at = body + usize::from(u16::from_be_bytes(*picture.get(body..)?.first_chunk()?))
            }
            _ => at = body,
        }
    };
    let tiff = Tiff::new(picture.get(begin..)?);
    let entries = tiff.field(tiff.directories().next()?, ENTRIES)?;
    // An entry has 16 bytes: attributes, size, start, and the entries of dependent pictures.
    let entry = |index: u32| {
        let place = (entries.value as usize).checked_add(16 * index as usize)?;
        Some(IndexEntry {
            size: tiff.number(place.checked_add(4)?, 4)?,
            start: tiff.number(place.checked_add(8)?, 4)?,
        })
    };
    Some((begin, (0..entries.count / 16).map_while(entry).collect()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns the picture with an index of two: the second begins `gap` bytes after the end of the
    /// first and has `size` bytes.
    pub(crate) fn with_index(picture: &[u8], gap: u32, size: u32) -> Vec<u8> {
        let tiff = |first: u32, second: u32| {
            let entry = |size: u32, start: u32| {
                [[0; 4], size.to_be_bytes(), start.to_be_bytes(), [0; 4]].concat()
            };
            let field = [
                b"\xb0\x02\0\x07\0\0\0\x20".as_slice(),
                &26_u32.to_be_bytes(),
            ]
            .concat();
            [
                b"MM\0*\0\0\0\x08\0\x01".as_slice(),
                &field,
                &[0; 4],
                &entry(first, 0),
                &entry(size, second),
            ]
            .concat()
        };
        let body = [NAME, &tiff(0, 0)].concat();
        let length = (body.len() as u16 + 2).to_be_bytes();
        let whole = (picture.len() + 4 + body.len()) as u32;
        // Counts from the byte order of the index, after the start marker, the segment's marker,
        // its length and its name.
        let second = whole + gap - 10;
        [
            &picture[..2],
            b"\xff\xe2",
            &length,
            NAME,
            &tiff(whole, second),
            &picture[2..],
        ]
        .concat()
    }

    const PICTURE: &[u8] = b"\xff\xd8\xff\xda\0\x02data\xff\xd9";

    fn exact(offset: usize) -> Part {
        Part {
            offset: offset as u64,
            lengths: None,
        }
    }

    /// The index is read in its byte order, and a damaged one names no pictures.
    #[test]
    fn index_names_other_pictures() {
        let picture = with_index(PICTURE, 7, 50);
        assert_eq!(parts(&picture, true), [exact(picture.len() + 7)]);
        for end in 0..60 {
            parts(&picture[..end], false);
        }
        let place = picture
            .windows(4)
            .position(|bytes| bytes == b"MM\0*")
            .unwrap();
        let mut little = picture.clone();
        little[place..place + 2].copy_from_slice(b"II");
        assert!(parts(&little, true).is_empty());
        assert!(parts(PICTURE, true).is_empty());
    }

    /// Offsets count from the index, also if stray bytes moved it.
    #[test]
    fn stray_byte_leaves_index_readable() {
        let picture = with_index(PICTURE, 7, 50);
        let odd = [&picture[..2], b"\0", &picture[2..]].concat();
        assert_eq!(parts(&odd, true)[0], exact(odd.len() + 7));
    }

    /// Lost data of the first picture moves the others nearer.
    #[test]
    fn lost_data_moves_other_pictures() {
        let picture = with_index(PICTURE, 7, 50);
        let lossy = [&picture[..picture.len() - 4], b"\xff\xd9"].concat();
        let nearer = |lengths| Part {
            offset: lossy.len() as u64 + 7,
            lengths: Some(lengths),
        };
        assert_eq!(
            parts(&lossy, true),
            [exact(picture.len() + 7), nearer(1..=50)]
        );
        assert_eq!(
            parts(&lossy, false),
            [exact(picture.len() + 7), nearer(50..=50)]
        );
    }
}
