//! EXIF orientation, as cameras and converters store it.

use image::metadata::Orientation;

use super::tiff::Directory;

/// The prefix of EXIF data in a JPEG segment, and in the chunks of some WebP and PNG writers.
const PREFIX: &[u8] = b"Exif\0\0";

/// TIFF's tag for the orientation.
const ORIENTATION: u16 = 0x112;

/// Reads the orientation from EXIF data, which is a TIFF structure, or from a TIFF file.
///
/// Accepts the prefix `Exif\0\0`, both byte orders, BigTIFF, and every integer type. The standard
/// requires SHORT, but writers also use BYTE and LONG. Returns None if the tag is missing or its
/// value is not 1 to 8.
pub(super) fn of_exif(chunk: &[u8]) -> Option<Orientation> {
    let tiff = chunk.strip_prefix(PREFIX).unwrap_or(chunk);
    let orientation = Directory::read(tiff)?.number(ORIENTATION)?;
    u8::try_from(orientation)
        .ok()
        .and_then(Orientation::from_exif)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EXIF data with one entry: the orientation's tag, with this type and value.
    fn exif(order: &[u8], entry: &[u8]) -> Vec<u8> {
        let head: &[u8] = if order == b"MM" {
            b"\0*\0\0\0\x08\0\x01"
        } else {
            b"*\0\x08\0\0\0\x01\0"
        };
        [order, head, entry].concat()
    }

    /// Integer types, byte orders and prefixes of real writers give the same orientation.
    #[test]
    fn orientation_of_every_writer_is_read() {
        let big: [&[u8]; 3] = [
            b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0",
            b"\x01\x12\0\x04\0\0\0\x01\0\0\0\x06",
            b"\x01\x12\0\x01\0\0\0\x01\x06\0\0\0",
        ];
        let little: [&[u8]; 3] = [
            b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0",
            b"\x12\x01\x04\0\x01\0\0\0\x06\0\0\0",
            b"\x12\x01\x09\0\x01\0\0\0\x06\0\0\0",
        ];
        for (order, entries) in [(b"MM", big), (b"II", little)] {
            for entry in entries {
                let chunk = exif(order, entry);
                assert_eq!(of_exif(&chunk), Some(Orientation::Rotate90), "{chunk:02x?}");
                assert_eq!(
                    of_exif(&[PREFIX, &chunk].concat()),
                    Some(Orientation::Rotate90),
                    "{chunk:02x?} with a prefix"
                );
            }
        }
        let big_tiff = [
            b"II\x2b\0\x08\0\0\0\x10\0\0\0\0\0\0\0".as_slice(),
            &1_u64.to_le_bytes(),
            b"\x12\x01\x03\0",
            &1_u64.to_le_bytes(),
            b"\x06\0\0\0\0\0\0\0",
        ];
        assert_eq!(of_exif(&big_tiff.concat()), Some(Orientation::Rotate90));
    }

    /// Damaged EXIF data has no orientation.
    #[test]
    fn damaged_exif_has_no_orientation() {
        let whole = exif(b"MM", b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0");
        for end in 0..whole.len() - 2 {
            assert_eq!(of_exif(&whole[..end]), None, "cut at {end}");
        }
        for entry in [
            b"\x01\x12\0\x03\0\0\0\x01\0\x09\0\0",
            b"\x01\x12\0\x03\0\0\0\x01\0\0\0\0",
            b"\x01\x12\0\x02\0\0\0\x016\0\0\0",
            b"\x01\x13\0\x03\0\0\0\x01\0\x06\0\0",
        ] {
            assert_eq!(of_exif(&exif(b"MM", entry)), None, "{entry:02x?}");
        }
    }
}
