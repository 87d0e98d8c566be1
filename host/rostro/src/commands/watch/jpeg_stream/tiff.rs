//! Directories of a TIFF structure, which EXIF data and the index of a multi-picture file have.

/// TIFF structure, from its byte order on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiff<'a>(&'a [u8]);

/// Field of a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// Number of values, or of bytes if they have no type.
    pub(super) count: u32,
    /// The value, or the offset of the values.
    pub(super) value: u32,
}

impl<'a> Tiff<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads a number of at most four bytes.
    pub(super) fn number(self, at: usize, width: usize) -> Option<u32> {
        let bytes = self.0.get(at..at.checked_add(width)?)?;
        let append = |number: u32, byte: &u8| number << 8 | u32::from(*byte);
        Some(if self.0.starts_with(b"MM") {
            bytes.iter().fold(0, append)
        } else {
            bytes.iter().rev().fold(0, append)
        })
    }

    /// Returns the offsets of the first directory and of those that it links to.
    pub(super) fn directories(self) -> impl Iterator<Item = usize> {
        let next = move |directory: &usize| {
            let end = directory.checked_add(2 + 12 * self.number(*directory, 2)? as usize)?;
            self.number(end, 4)
                .filter(|next| *next > 0)
                .map(|next| next as usize)
        };
        // EXIF data has two; more than a few are a loop.
        std::iter::successors(self.number(4, 4).map(|first| first as usize), next).take(4)
    }

    /// Returns the field of a directory with this tag.
    pub(super) fn field(self, directory: usize, tag: u32) -> Option<Field> {
        let place = |index: u32| directory.checked_add(2 + 12 * index as usize);
        let at = (0..self.number(directory, 2)?)
            .map_while(place)
            .find(|at| self.number(*at, 2) == Some(tag))?;
        Some(Field {
            count: self.number(at + 4, 4)?,
            value: self.number(at + 8, 4)?,
        })
    }
}
