//! Markers of ITU-T T.81 (annex B) that separate frames.

pub(super) const START_OF_IMAGE: u8 = 0xd8;
pub(super) const END_OF_IMAGE: u8 = 0xd9;
pub(super) const START_OF_SCAN: u8 = 0xda;

/// Number of bytes after a start marker that decide whether a picture begins: stray ones, and the
/// next marker.
pub(super) const AFTER_START: usize = 5;

/// Returns true if a byte after 0xFF makes a marker that can separate frames. Stuffed zeros,
/// restart markers and fill bytes belong to coded data, and have no meaning between segments.
pub(super) fn is_marker(byte: u8) -> bool {
    !matches!(byte, 0x00 | 0x01 | 0xd0..=0xd7 | 0xff)
}

/// Returns true if the marker begins a segment of a picture's header.
fn is_of_header(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf | START_OF_SCAN..=0xef | 0xfe)
}

/// Returns true if the marker begins a segment that may contain pictures: of an application, or a
/// comment.
pub(super) fn may_hold_pictures(marker: u8) -> bool {
    matches!(marker, 0xe0..=0xef | 0xfe)
}

/// Returns true if a length follows the marker. Coded data may have only tables and further scans;
/// another marker there is a lost byte, and its length would cover other pictures.
pub(super) fn has_length(marker: u8, is_coded: bool) -> bool {
    match marker {
        START_OF_IMAGE | END_OF_IMAGE => false,
        0xc4 | 0xcc | START_OF_SCAN..=0xdd => true,
        _ => !is_coded,
    }
}

/// Returns true if a picture begins with a start marker and these bytes: [`AFTER_START`] of them,
/// or fewer at the end of the stream.
pub(super) fn is_start(after: &[u8]) -> bool {
    after.len() < AFTER_START || after.windows(2).any(is_header_marker)
}

fn is_header_marker(bytes: &[u8]) -> bool {
    matches!(bytes, [0xff, marker] if is_of_header(*marker))
}

/// Returns true if a start marker and a header's marker stand here, because a start marker alone
/// may be data.
pub(super) fn is_plain_start(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, START_OF_IMAGE]) && bytes.get(2..4).is_some_and(is_header_marker)
}

/// Returns true if the header of a picture continues here, after a few stray bytes at most.
pub(super) fn continues_header(bytes: &[u8]) -> bool {
    let first = bytes
        .windows(2)
        .find(|bytes| matches!(bytes, [0xff, marker] if is_of_header(*marker) || matches!(*marker, START_OF_IMAGE | END_OF_IMAGE)));
    first.is_some_and(is_header_marker)
}

/// Finds the next marker, and the offset of its body.
pub(super) fn next_marker(bytes: &[u8], from: usize) -> Option<(u8, usize)> {
    let at = from
        + bytes
            .get(from..)?
            .windows(2)
            .position(|bytes| matches!(bytes, [0xff, byte] if is_marker(*byte)))?;
    Some((*bytes.get(at + 1)?, at + 2))
}

/// Extent of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// To its end marker, after this many bytes.
    Whole(usize),
    /// To the end of a segment that is also the end of the bytes.
    Segments,
    /// Beyond the bytes, or to the start of another picture.
    Part,
}

/// Follows the markers of a picture that begins here.
pub(super) fn extent(bytes: &[u8]) -> Extent {
    let (mut at, mut is_coded) = (2, false);
    while let Some((marker, body)) = next_marker(bytes, at) {
        at = match (marker, bytes.get(body..)) {
            (END_OF_IMAGE, _) => return Extent::Whole(body),
            (START_OF_IMAGE, _) => return Extent::Part,
            (_, Some([high, low, ..])) if has_length(marker, is_coded) => {
                body + usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => body,
        };
        is_coded |= marker == START_OF_SCAN;
    }
    if at == bytes.len() && !is_coded {
        Extent::Segments
    } else {
        Extent::Part
    }
}
