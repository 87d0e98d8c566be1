//! The index of a multi-picture file (CIPA DC-007): stereo cameras and phones put several JPEGs one after another into one file.

/// The name that stands before the index in a segment APP2.
const NAME: &[u8] = b"MPF\0";

/// The tag of the index's entries.
const ENTRIES: u16 = 0xb002;

/// Finds where the other pictures of a file begin, in bytes from the start of its first one, which is given. Empty without an index.
pub(super) fn offsets(picture: &[u8]) -> Vec<u64> {
    index(picture).unwrap_or_default()
}

fn index(picture: &[u8]) -> Option<Vec<u64>> {
    let mut at = 2;
    let begin = loop {
        let [0xff, marker, high, low] = picture.get(at..)?.first_chunk()? else { return None };
        match marker {
            0xff => at += 1,
            0xda => return None,
            0xe2 if picture.get(at + 4..)?.starts_with(NAME) => break at + 4 + NAME.len(),
            _ => at += 2 + usize::from(u16::from_be_bytes([*high, *low])),
        }
    };
    let tiff = picture.get(begin..)?;
    let is_big_endian = tiff.starts_with(b"MM");
    let number = |at: usize, width: usize| {
        let bytes = tiff.get(at..at.checked_add(width)?)?;
        let append = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
        Some(if is_big_endian { bytes.iter().fold(0, append) } else { bytes.iter().rev().fold(0, append) })
    };
    let directory = number(4, 4)? as usize;
    let field = |index: u32| directory.checked_add(2 + 12 * index as usize);
    let fields = number(directory, 2)?;
    let entries = (0..fields).filter_map(field).find(|at| number(*at, 2) == Some(ENTRIES.into()))?;
    let (length, place) = (number(entries + 4, 4)?, number(entries + 8, 4)? as usize);
    // Of each picture 16 bytes: attributes, size, and how far its start is from the index; of the first it is 0.
    let starts = (0..length / 16).map_while(|index| number(place.checked_add(16 * index as usize + 8)?, 4));
    Some(starts.filter(|start| *start > 0).map(|start| begin as u64 + u64::from(start)).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The picture with an index that says that another one begins `gap` bytes behind its end.
    pub(crate) fn with_index(picture: &[u8], gap: u32) -> Vec<u8> {
        let tiff = |second: u32| {
            let entry = |start: u32| [[0; 4], [0; 4], start.to_be_bytes(), [0; 4]].concat();
            let field = [b"\xb0\x02\0\x07\0\0\0\x20".as_slice(), &26_u32.to_be_bytes()].concat();
            [b"MM\0*\0\0\0\x08\0\x01".as_slice(), &field, &[0; 4], &entry(0), &entry(second)].concat()
        };
        let body = [NAME, &tiff(0)].concat();
        let length = (body.len() as u16 + 2).to_be_bytes();
        let whole = picture.len() + 4 + body.len();
        // From the byte order of the index, behind the start marker, the segment's own and its name.
        let second = whole as u32 + gap - 10;
        [&picture[..2], b"\xff\xe2", &length, NAME, &tiff(second), &picture[2..]].concat()
    }

    /// The index is read in both byte orders, and damaged it names nothing.
    #[test]
    fn index_names_other_pictures() {
        let picture = with_index(b"\xff\xd8\xff\xda\0\x02data\xff\xd9", 7);
        assert_eq!(offsets(&picture), [picture.len() as u64 + 7]);
        for end in 0..60 {
            offsets(&picture[..end]);
        }
        let place = picture.windows(4).position(|bytes| bytes == b"MM\0*").unwrap();
        let mut little = picture.clone();
        little[place..place + 2].copy_from_slice(b"II");
        assert!(offsets(&little).is_empty());
        assert!(offsets(b"\xff\xd8\xff\xda\0\x02data\xff\xd9").is_empty());
    }
}
