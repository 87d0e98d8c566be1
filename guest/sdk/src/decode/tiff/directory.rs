//! The first directory of a TIFF, of EXIF data, or of a BigTIFF.

/// Entries that are looked at: as many as a TIFF can have. A BigTIFF's count must not make the
/// search longer.
const MOST_ENTRIES: u64 = u16::MAX as u64;

/// Tags and their values. Nothing is read before it is asked for.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Directory<'a> {
    fields: Fields<'a>,
    is_big_tiff: bool,
    /// Where the first entry begins.
    entries: usize,
    count: usize,
}

/// Numbers that belong to a tag.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Values<'a> {
    fields: Fields<'a>,
    at: usize,
    width: usize,
    pub(super) count: u64,
}

impl<'a> Directory<'a> {
    /// Reads the head of a file. None if it is not that of a TIFF, or if the directory lies outside
    /// it.
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

    /// The integers of a tag, whichever of the integer types it has: writers choose BYTE, SHORT and
    /// LONG as they like. None if the tag is missing, has another type, or lies outside the file.
    pub(in super::super) fn values(&self, tag: u16) -> Option<Values<'a>> {
        // Width of an entry and of what fits into it, and where that begins.
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

    /// The first integer of a tag.
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

    /// The values as they lie in the file.
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
