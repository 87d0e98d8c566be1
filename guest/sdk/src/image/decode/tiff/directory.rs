//! The first directory of a TIFF, of EXIF data, or of a BigTIFF.

/// The most entries to search, as many as a TIFF can have, so that a BigTIFF's count cannot prolong
/// the search.
const MOST_ENTRIES: u64 = u16::MAX as u64;

/// Tags and their values, read on demand.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Directory<'a> {
    fields: Fields<'a>,
    is_big_tiff: bool,
    /// Position of the first entry.
    entries: usize,
    count: usize,
}

/// The numbers of a tag.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Values<'a> {
    fields: Fields<'a>,
    at: usize,
    width: usize,
    pub(super) count: u64,
}

impl<'a> Directory<'a> {
    /// Reads the header of a file. None if it is not a TIFF's, or if the directory lies outside the
    /// file.
    pub(in super::super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let fields = Fields {
            bytes,
            is_big_endian: bytes.starts_with(b"MM"),
        };
        if !fields.is_big_endian && !bytes.starts_with(b"II") {
            return None;
        }
        let is_big_tiff = match fields.number(2, 2)? {
            42 => false,
            43 => true,
            _ => return None,
        };
        let (offset, count) = if is_big_tiff { (8, 8) } else { (4, 2) };
        let directory = usize::try_from(fields.number(offset, offset)?).ok()?;
        let entries = fields.number(directory, count)?.min(MOST_ENTRIES) as usize;
        Some(Self {
            fields,
            is_big_tiff,
            entries: directory.checked_add(count)?,
            count: entries,
        })
    }

    pub(super) const fn is_big_endian(&self) -> bool {
        self.fields.is_big_endian
    }

    /// Returns the integers of a tag of any integer type, because writers choose between BYTE,
    /// SHORT and LONG. None if the tag is missing, has another type, or lies outside the file.
    pub(in super::super) fn values(&self, tag: u16) -> Option<Values<'a>> {
        // Size of an entry, room for inline values, and the position of that room.
        let (entry, room, value) = if self.is_big_tiff {
            (20, 8, 12)
        } else {
            (12, 4, 8)
        };
        for index in 0..self.count {
            let at = self.entries.checked_add(index.checked_mul(entry)?)?;
            if self.fields.number(at, 2)? != u64::from(tag) {
                continue;
            }
            let width = match self.fields.number(at.checked_add(2)?, 2)? {
                1 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 13 => 4,
                16..=18 if self.is_big_tiff => 8,
                _ => return None,
            };
            let count = self.fields.number(at.checked_add(4)?, room)?;
            let place = at.checked_add(value)?;
            let is_inline = count.checked_mul(width as u64)? <= room as u64;
            let at = if is_inline {
                place
            } else {
                usize::try_from(self.fields.number(place, room)?).ok()?
            };
            let end = u64::try_from(at)
                .ok()?
                .checked_add(count.checked_mul(width as u64)?)?;
            return (end <= self.fields.bytes.len() as u64).then_some(Values {
                fields: self.fields,
                at,
                width,
                count,
            });
        }
        None
    }

    /// Returns the first integer of a tag.
    pub(in super::super) fn number(&self, tag: u16) -> Option<u64> {
        self.values(tag)?.get(0)
    }
}

impl<'a> Values<'a> {
    pub(in super::super) fn get(&self, index: u64) -> Option<u64> {
        let index = usize::try_from(index).ok().filter(|_| index < self.count)?;
        self.fields.number(
            self.at.checked_add(index.checked_mul(self.width)?)?,
            self.width,
        )
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        let values = *self;
        (0..self.count).map_while(move |index| values.get(index))
    }

    /// Returns the bytes of the values in the file.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.fields
            .bytes
            .get(self.at..)
            .and_then(|rest| rest.get(..self.count as usize * self.width))
            .unwrap_or_default()
    }
}

/// Numbers of a TIFF structure.
#[derive(Clone, Copy, Debug)]
struct Fields<'a> {
    bytes: &'a [u8],
    is_big_endian: bool,
}

impl Fields<'_> {
    /// Reads an unsigned number of `width` bytes, at most 8.
    fn number(&self, at: usize, width: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at.checked_add(width)?)?;
        let append = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.is_big_endian {
            bytes.iter().fold(0, append)
        } else {
            bytes.iter().rev().fold(0, append)
        })
    }
}
