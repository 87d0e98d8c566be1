//! Makes of a damaged JPEG one that a decoder reads to its end.
//!
//! Does what libjpeg does while it decodes: skips what stands between segments, puts restart intervals into their places, and
//! ends the picture where its data ends. Whatever is missing is left out, and the decoder leaves it grey.

use std::ops::Range;

use super::structure::{END_OF_IMAGE, Header, RESTART_INTERVAL, START_OF_IMAGE, START_OF_SCAN, Segments, is_frame};

/// A JPEG that was put together again.
#[derive(Debug)]
pub(super) struct Repaired {
    /// With an end marker.
    pub(super) bytes: Vec<u8>,
    /// Where the coded data of each scan lies.
    pub(super) scans: Vec<Range<usize>>,
    /// Restart markers are missing, or not in their order.
    pub(super) has_restart_faults: bool,
    /// Scans are missing that every picture has.
    pub(super) lacks_scans: bool,
}

impl Repaired {
    /// The bytes up to `end`, with an end marker.
    pub(super) fn up_to(&self, end: usize) -> Vec<u8> {
        [self.bytes.get(..end).unwrap_or_default(), &[0xff, END_OF_IMAGE]].concat()
    }
}

/// Puts a JPEG with this header together again.
pub(super) fn repair(bytes: &[u8], header: &Header) -> Repaired {
    let mut repaired =
        Repaired { bytes: Vec::with_capacity(bytes.len() + 2), scans: Vec::new(), has_restart_faults: false, lacks_scans: false };
    repaired.bytes.extend([0xff, START_OF_IMAGE]);
    let mut progress = Progress::new(header);
    let (mut interval, mut has_frame) = (0, false);
    if let Some(mut segments) = Segments::new(bytes) {
        while let Ok(segment) = segments.read() {
            if matches!(segment.marker, START_OF_IMAGE | END_OF_IMAGE) || (has_frame && is_frame(segment.marker)) {
                break;
            }
            has_frame |= is_frame(segment.marker);
            repaired.bytes.extend(segment.whole);
            match (segment.marker, segment.body) {
                (RESTART_INTERVAL, [high, low, ..]) => interval = usize::from(u16::from_be_bytes([*high, *low])),
                (START_OF_SCAN, body) => {
                    let scan = Scan::read(body);
                    let is_last = !header.is_progressive && scan.components.len() == header.components.len();
                    let data = Data::split(bytes, segment.end, is_last);
                    let intervals = (interval > 0).then(|| header.units(&scan.components).div_ceil(interval));
                    let begin = repaired.bytes.len();
                    repaired.has_restart_faults |= data.write(intervals, &mut repaired.bytes);
                    repaired.scans.push(begin..repaired.bytes.len());
                    progress.note(&scan);
                    if is_last {
                        break;
                    }
                    segments.skip_to(data.end);
                }
                _ => {}
            }
        }
    }
    repaired.lacks_scans = !progress.is_complete();
    repaired.bytes.extend([0xff, END_OF_IMAGE]);
    repaired
}

/// A scan's header.
#[derive(Debug)]
struct Scan {
    /// Numbers of its components.
    components: Vec<u8>,
    /// Which coefficients it has.
    band: Range<usize>,
    /// How many of their lowest bits are left to later scans.
    low: u8,
}

impl Scan {
    fn read(body: &[u8]) -> Self {
        let count = usize::from(body.first().copied().unwrap_or_default());
        let components = body.get(1..).unwrap_or_default().as_chunks::<2>().0.iter().take(count).map(|[id, _]| *id).collect();
        let (begin, end, low) = match body.get(1 + 2 * count..) {
            Some([begin, end, bits, ..]) => (usize::from(*begin), usize::from(*end) + 1, bits & 15),
            _ => (0, 64, 0),
        };
        Self { components, band: begin..end.min(64), low }
    }
}

/// Which coefficients of each component came, and how many of their bits are still to come.
struct Progress {
    components: Vec<(u8, [u8; 64])>,
    is_progressive: bool,
}

impl Progress {
    fn new(header: &Header) -> Self {
        Self {
            components: header.components.iter().map(|component| (component.id, [u8::MAX; 64])).collect(),
            is_progressive: header.is_progressive,
        }
    }

    fn note(&mut self, scan: &Scan) {
        for (id, left) in &mut self.components {
            if scan.components.contains(id) {
                // Without refinement a scan has everything.
                let (band, low) = if self.is_progressive { (scan.band.clone(), scan.low) } else { (0..64, 0) };
                left.get_mut(band).unwrap_or_default().fill(low);
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.components.iter().all(|(_, left)| left.iter().all(|bits| *bits == 0))
    }
}

/// A scan's coded data, in the pieces between its restart markers.
#[derive(Debug)]
struct Data<'a> {
    first: Piece<'a>,
    /// Each after the marker of this number.
    others: Vec<(u8, Piece<'a>)>,
    /// Where the marker that ends the data begins.
    end: usize,
}

/// Runs of bytes that follow each other once what is no data between them is left out.
type Piece<'a> = Vec<&'a [u8]>;

impl<'a> Data<'a> {
    /// Reads coded data from `begin` on. `is_last` says that only the end of the picture, or the start of another one, can
    /// follow: any other marker in it is a damaged byte.
    fn split(bytes: &'a [u8], begin: usize, is_last: bool) -> Self {
        let mut data = Self { first: Vec::new(), others: Vec::new(), end: bytes.len() };
        let (mut run, mut at) = (begin, begin);
        let take = |data: &mut Self, from: usize, to: usize| {
            let piece = data.others.last_mut().map_or(&mut data.first, |(_, piece)| piece);
            piece.extend(bytes.get(from..to).filter(|run| !run.is_empty()));
        };
        while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xff)) {
            let marker = at + found;
            let fill = bytes.get(marker..).unwrap_or_default().iter().take_while(|byte| **byte == 0xff).count();
            let code = marker + fill;
            at = code + 1;
            match bytes.get(code) {
                // A byte of data.
                Some(0x00) => {}
                Some(number @ 0xd0..=0xd7) => {
                    take(&mut data, run, marker);
                    data.others.push((number & 7, Vec::new()));
                    run = at;
                }
                Some(&(END_OF_IMAGE | START_OF_IMAGE)) => {
                    data.end = marker;
                    break;
                }
                Some(0xc0..) if !is_last => {
                    data.end = marker;
                    break;
                }
                // No marker of coded data: what should stand here is lost.
                Some(_) => {
                    take(&mut data, run, marker);
                    run = at;
                }
                // Padding after the data.
                None => {
                    data.end = marker;
                    break;
                }
            }
        }
        let end = data.end;
        take(&mut data, run, end);
        data
    }

    /// Appends the pieces with restart markers in their order, and an empty piece for each that is missing. `intervals` is how
    /// many pieces there should be, if the picture has restart markers. Returns true if markers were not as they should be.
    fn write(&self, intervals: Option<usize>, out: &mut Vec<u8>) -> bool {
        let append = |out: &mut Vec<u8>, piece: &Piece<'_>| piece.iter().for_each(|run| out.extend(*run));
        append(out, &self.first);
        let Some(intervals) = intervals else {
            // Without an interval a restart marker is a damaged byte.
            self.others.iter().for_each(|(_, piece)| append(out, piece));
            return !self.others.is_empty();
        };
        let mut missing = intervals.saturating_sub(1 + self.others.len());
        let gap = |expected: u8, found: u8| usize::from(found.wrapping_sub(expected) & 7);
        let follows = std::iter::once(7).chain(self.others.iter().map(|(number, _)| *number));
        let is_hole = |(before, number): &(u8, u8)| gap(before.wrapping_add(1), *number) > 0;
        let numbers = self.others.iter().map(|(number, _)| *number);
        let holes = follows.zip(numbers).filter(is_hole).count();
        let mut has_faults = missing > 0;
        let mut expected = 0_u8;
        for (number, piece) in &self.others {
            let mut lost = gap(expected, *number);
            has_faults |= lost > 0;
            // Numbers repeat after eight: of a single hole it is known how long it is.
            if holes == 1 && lost > 0 {
                lost += missing.saturating_sub(lost) / 8 * 8;
            }
            if lost > missing {
                // More than are missing: as libjpeg takes it, a marker from before is skipped with its data, and any other is
                // taken for the one that is expected.
                if lost % 8 >= 6 {
                    continue;
                }
                lost = 0;
            }
            missing -= lost;
            for _ in 0..=lost {
                out.extend([0xff, 0xd0 | expected & 7]);
                expected = expected.wrapping_add(1) & 7;
            }
            append(out, piece);
        }
        has_faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A baseline picture of 64 × 16 pixels in one component: 16 units, with a restart marker after every two.
    const HEAD: &[u8] = b"\xff\xd8\xff\xdd\0\x04\0\x02\xff\xc0\0\x0b\x08\0\x10\0\x40\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0";

    fn repaired(bytes: &[u8]) -> Repaired {
        repair(bytes, &Header::read(bytes).unwrap())
    }

    /// The repaired coded data, each piece as its text, markers as their number: `a0b1c`.
    fn text(data: &[u8]) -> String {
        let bytes = [HEAD, data].concat();
        let repaired = repaired(&bytes);
        let scan = repaired.bytes[repaired.scans[0].clone()].to_vec();
        let mut text = String::new();
        let mut rest = scan.as_slice();
        while let Some((first, after)) = rest.split_first() {
            match (first, after) {
                (0xff, [number @ 0xd0..=0xd7, after @ ..]) => {
                    text.push((b'0' + (number & 7)) as char);
                    rest = after;
                }
                (byte, after) => {
                    text.push(*byte as char);
                    rest = after;
                }
            }
        }
        text
    }

    const WHOLE: &[u8] = b"a\xff\xd0b\xff\xd1c\xff\xd2d\xff\xd3e\xff\xd4f\xff\xd5g\xff\xd6h\xff\xd9";

    /// What is whole stays as it is.
    #[test]
    fn whole_picture_is_kept() {
        let bytes = [HEAD, WHOLE].concat();
        let repaired = repaired(&bytes);
        assert_eq!(repaired.bytes, bytes);
        assert!(!repaired.has_restart_faults && !repaired.lacks_scans);
    }

    /// Lost intervals become empty ones, whatever is lost of which, and the others stay in their places.
    #[test]
    fn restart_intervals_are_put_in_place() {
        for (what, data, wanted) in [
            ("whole", WHOLE, "a0b1c2d3e4f5g6h"),
            ("no end", &WHOLE[..WHOLE.len() - 2], "a0b1c2d3e4f5g6h"),
            ("padded with 0xff", b"a\xff\xd0b\xff\xff\xff", "a0b"),
            ("fill bytes before markers", b"a\xff\xff\xd0b\xff\xff\xff\xd1c\xff\xd9", "a0b1c"),
            ("a lost marker", b"a\xff\xd0bc\xff\xd2d\xff\xd3e\xff\xd4f\xff\xd5g\xff\xd6h\xff\xd9", "a0bc12d3e4f5g6h"),
            ("lost intervals", b"a\xff\xd0b\xff\xd5g\xff\xd6h\xff\xd9", "a0b12345g6h"),
            ("a lost beginning", b"\xff\xd6h\xff\xd9", "0123456h"),
            ("a lost end", b"a\xff\xd0b\xff\xd9", "a0b"),
            ("two holes", b"a\xff\xd1c\xff\xd2d\xff\xd3e\xff\xd6h\xff\xd9", "a01c2d3e456h"),
            ("a wrong number", b"a\xff\xd0b\xff\xd5c\xff\xd2d\xff\xd3e\xff\xd4f\xff\xd5g\xff\xd6h\xff\xd9", "a0b1c2d3e4f5g6h"),
            ("an interval twice", b"a\xff\xd0b\xff\xd1c\xff\xd1c\xff\xd2d\xff\xd3e\xff\xd4f\xff\xd5g\xff\xd6h\xff\xd9", "a0b1c2d3e4f5g6h"),
            ("a marker of no meaning", b"a\xff\x47\xff\xd0b\xff\xc4\xff\xd1c\xff\xd9", "a0b1c"),
            ("another picture behind", b"a\xff\xd0b\xff\xd8\xff\xd1c\xff\xd9", "a0b"),
        ] {
            assert_eq!(text(data), wanted, "{what}");
        }
    }

    /// Numbers repeat after eight, so that a long hole is told by how many intervals are missing.
    #[test]
    fn hole_of_more_than_eight_is_filled() {
        // 4 × 4 units, a marker after each: 15 markers.
        let mut head = [b"\xff\xd8\xff\xdd\0\x04\0\x01", &HEAD[8..]].concat();
        head[13..17].copy_from_slice(&[0, 32, 0, 32]);
        let bytes = [&head, b"a\xff\xd0b\xff\xd2n\xff\xd3o\xff\xd9".as_slice()].concat();
        let header = Header::read(&bytes).unwrap();
        assert_eq!(header.units(&[1]), 16);
        let repaired = repair(&bytes, &header);
        let scan = &repaired.bytes[repaired.scans[0].clone()];
        // One interval is missing by the numbers, and eight more by the count.
        assert_eq!(scan.iter().filter(|byte| **byte == 0xff).count(), 12);
        assert!(scan.ends_with(b"\xff\xd2n\xff\xd3o"), "{scan:02x?}");
    }

    /// Stray bytes, fill bytes and markers without meaning between segments are left out, wherever they stand.
    #[test]
    fn bytes_between_segments_are_left_out() {
        let whole = [HEAD, b"a\xff\xd9"].concat();
        for at in [2, 8, 21] {
            for stray in [b"\0".as_slice(), b"abc", b"\xff", b"\xff\xff\xff", b"\xff\0", b"\xff\xd3", b"x\xff\x01y"] {
                let bytes = [&whole[..at], stray, &whole[at..]].concat();
                let header = Header::read(&bytes).unwrap();
                let is_fill = stray.iter().all(|byte| *byte == 0xff);
                assert_eq!(header.stray > 0, !is_fill, "{stray:02x?}");
                assert_eq!(repair(&bytes, &header).bytes, whole, "{stray:02x?} at {at}");
            }
        }
    }

    /// A progressive picture has everything once each coefficient of each component has all its bits.
    #[test]
    fn missing_scans_are_told() {
        let head = b"\xff\xd8\xff\xc2\0\x0b\x08\0\x10\0\x40\x01\x01\x11\0".as_slice();
        let scan = |begin: u8, end: u8, bits: u8| [b"\xff\xda\0\x08\x01\x01\0".as_slice(), &[begin, end, bits], b"data"].concat();
        for (scans, lacks) in [
            (vec![scan(0, 0, 0), scan(1, 63, 0)], false),
            (vec![scan(0, 0, 1), scan(1, 63, 0)], true),
            (vec![scan(0, 0, 1), scan(1, 63, 0), scan(0, 0, 0x10)], false),
            (vec![scan(0, 0, 0), scan(1, 5, 0)], true),
        ] {
            let bytes = [head, &scans.concat()].concat();
            let repaired = repaired(&bytes);
            assert_eq!((repaired.lacks_scans, repaired.scans.len()), (lacks, scans.len()), "{scans:02x?}");
        }
    }
}
