//! Pictures within a segment: thumbnails and previews, or the next frames, if data was lost and the
//! segment's length covers them.

use super::markers::{Extent, continues_header, extent, is_plain_start};
use super::tiff::Tiff;

/// Tag of a thumbnail's offset in EXIF data.
const THUMBNAIL: u32 = 0x201;

/// Finds the start of the next frame in a segment's body: the first start marker that belongs
/// neither to a thumbnail nor to a preview.
///
/// `body` begins with the length, and may be shorter than it. `after` follows the body.
pub(super) fn next_frame(marker: u8, body: &[u8], after: &[u8]) -> Option<usize> {
    let is_whole = body
        .first_chunk()
        .is_some_and(|length| usize::from(u16::from_be_bytes(*length)) <= body.len());
    let bytes = [body, after].concat();
    let known = thumbnails(body);
    // The first start that is not a thumbnail's, the first thumbnail without an end, and the
    // extents of the former.
    let (mut found, mut unfinished, mut extents, mut at) = (None, None, Vec::new(), 0);
    while let Some(start) = (at..body.len()).find(|at| bytes.get(*at..).is_some_and(is_plain_start))
    {
        let extent = body.get(start..).map_or(Extent::Part, extent);
        // The only application segment of a thumbnail is JFIF's.
        let is_bare = !matches!(bytes.get(start + 3), Some(0xe1..=0xfe));
        let is_known = is_bare && known.contains(&start) || is_thumbnail(body, start);
        if !is_known {
            found = found.or(Some(start));
            extents.push(extent);
        } else if extent == Extent::Part {
            unfinished = unfinished.or(Some(start));
        }
        at = start
            + if let Extent::Whole(length) = extent {
                length
            } else {
                2
            };
    }
    let are_whole = extents
        .iter()
        .all(|extent| matches!(extent, Extent::Whole(_)));
    // A preview that is too large for one segment continues in the next, which has an equal name.
    let has_more = body
        .get(2..6)
        .is_some_and(|name| after.starts_with(&[0xff, marker]) && after.get(4..8) == Some(name));
    // A preview follows a name. If a frame was cut off within the length, the next frame begins
    // before that position.
    let is_named = found.is_none_or(|start| start >= 6);
    let is_own = is_whole
        && is_named
        && (are_whole && continues_header(after)
            || has_more && !extents.contains(&Extent::Segments));
    // If a frame was cut off just before its thumbnail, the next frame is in the thumbnail's place.
    let found = found.or(unfinished.filter(|_| is_whole));
    found.filter(|_| !is_own)
}

/// Returns the offsets of thumbnails in EXIF data.
fn thumbnails(body: &[u8]) -> Vec<usize> {
    let Some(tiff) = body
        .get(2..)
        .and_then(|body| body.strip_prefix(b"Exif\0\0"))
        .map(Tiff::new)
    else {
        return Vec::new();
    };
    tiff.directories()
        .filter_map(|directory| Some(8 + tiff.field(directory, THUMBNAIL)?.value as usize))
        .collect()
}

/// Returns true if a thumbnail of JFIF or Photoshop begins here.
fn is_thumbnail(body: &[u8], start: usize) -> bool {
    let is_jfif = body
        .get(2..)
        .is_some_and(|body| body.starts_with(b"JFXX\0"))
        && start == 8;
    // A resource's header without a name, and the thumbnail's own of 28 bytes.
    let resource = start.checked_sub(40).and_then(|start| body.get(start..));
    is_jfif
        || resource.is_some_and(|bytes| {
            bytes.starts_with(b"8BIM\x04\x0c") || bytes.starts_with(b"8BIM\x04\x09")
        })
}
