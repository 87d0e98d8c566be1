//! Repair of a damaged JPEG, so that a decoder reads it to its end.
//!
//! It follows libjpeg's decoder: it skips bytes between segments, orders restart intervals, and
//! ends the picture, or an interval, where its data ends. Missing parts are left out, and the
//! decoder leaves them grey.

use std::ops::Range;

use super::structure::{
    END_OF_IMAGE, Header, RESTART_INTERVAL, START_OF_IMAGE, START_OF_SCAN, Segments, is_frame,
    markers,
};

/// A repaired JPEG.
#[derive(Debug)]
pub(super) struct RepairedJpeg {
    /// The file, with an end marker.
    pub(super) bytes: Vec<u8>,
    /// The coded data of each scan.
    pub(super) scans: Vec<Range<usize>>,
    /// Restart markers are missing or out of order.
    pub(super) has_restart_faults: bool,
    /// A marker in coded data replaced some of it. The data is cut off there, up to the next
    /// restart marker.
    pub(super) is_cut: bool,
    /// Scans that every picture has are missing.
    pub(super) lacks_scans: bool,
    /// End, in [`Self::bytes`], of the first scan after which each component has its coarsest
    /// values, and so all rows. None if there is no such scan.
    pub(super) all_rows: Option<usize>,
    /// Bytes outside segments.
    pub(super) stray: usize,
}

impl RepairedJpeg {
    /// Returns the bytes up to `end`, with an end marker.
    pub(super) fn up_to(&self, end: usize) -> Vec<u8> {
        [
            self.bytes.get(..end).unwrap_or_default(),
            &[0xff, END_OF_IMAGE],
        ]
        .concat()
    }
}

/// Repairs a JPEG with this header.
pub(super) fn repair(bytes: &[u8], header: &Header) -> RepairedJpeg {
    let mut repaired = RepairedJpeg {
        bytes: Vec::with_capacity(bytes.len() + 2),
        scans: Vec::new(),
        has_restart_faults: false,
        is_cut: false,
        lacks_scans: false,
        all_rows: None,
        stray: 0,
    };
    repaired.bytes.extend([0xff, START_OF_IMAGE]);
    let mut progress = Progress::new(header);
    let (mut interval, mut has_frame) = (0, false);
    if let Some(mut segments) = Segments::new(bytes) {
        while let Ok(segment) = segments.read() {
            if matches!(segment.marker, START_OF_IMAGE | END_OF_IMAGE)
                || (has_frame && is_frame(segment.marker))
            {
                break;
            }
            has_frame |= is_frame(segment.marker);
            repaired.bytes.extend(segment.whole);
            match (segment.marker, segment.body) {
                (RESTART_INTERVAL, [high, low, ..]) => {
                    interval = usize::from(u16::from_be_bytes([*high, *low]))
                }
                (START_OF_SCAN, body) => {
                    let scan = Scan::read(body);
                    let is_last =
                        !header.is_progressive && scan.components.len() == header.components.len();
                    let data = Data::split(bytes, segment.end, is_last, interval > 0);
                    let intervals =
                        (interval > 0).then(|| header.units(&scan.components).div_ceil(interval));
                    let begin = repaired.bytes.len();
                    repaired.has_restart_faults |= data.write(intervals, &mut repaired.bytes);
                    repaired.is_cut |= data.is_cut;
                    repaired.scans.push(begin..repaired.bytes.len());
                    progress.note(&scan);
                    if progress.has_all_rows() {
                        repaired.all_rows.get_or_insert(repaired.bytes.len());
                    }
                    if is_last {
                        break;
                    }
                    segments.skip_to(data.end);
                }
                _ => {}
            }
            repaired.stray = segments.stray;
        }
    }
    repaired.lacks_scans = !progress.is_complete();
    repaired.bytes.extend([0xff, END_OF_IMAGE]);
    repaired
}

/// Returns true if a scan has a wrong number or order of restart markers. The decoder does not
/// check them. Reads the whole file, but decodes nothing.
pub(super) fn has_restart_faults(bytes: &[u8], header: &Header) -> bool {
    let Some(mut segments) = Segments::new(bytes) else {
        return false;
    };
    let mut interval = 0;
    while let Ok(segment) = segments.read() {
        match (segment.marker, segment.body) {
            (START_OF_IMAGE | END_OF_IMAGE, _) => break,
            (RESTART_INTERVAL, [high, low, ..]) => {
                interval = usize::from(u16::from_be_bytes([*high, *low]))
            }
            (START_OF_SCAN, body) => {
                let (mut count, mut end) = (0, bytes.len());
                for marker in markers(bytes, segment.end) {
                    match marker.code {
                        Some(number @ 0xd0..=0xd7) if usize::from(number & 7) == count % 8 => {
                            count += 1
                        }
                        Some(0xd0..=0xd7) => return interval > 0,
                        _ => {
                            end = marker.begin;
                            break;
                        }
                    }
                }
                if interval > 0 {
                    // Some encoders write a marker after the last interval, too.
                    let intervals = header
                        .units(&Scan::read(body).components)
                        .div_ceil(interval);
                    if count + 1 != intervals && count != intervals {
                        return true;
                    }
                }
                segments.skip_to(end);
            }
            _ => {}
        }
    }
    false
}

/// Returns true if a scan of a non-progressive picture has several of the components, but not all.
/// The decoder does not support such scans.
pub(in super::super) fn has_mixed_scans(bytes: &[u8], header: &Header) -> bool {
    if header.is_progressive {
        return false;
    }
    // In most pictures the first scan has all components, and nothing else is read.
    let Some(mut segments) = Segments::new(bytes) else {
        return false;
    };
    while let Ok(segment) = segments.read() {
        match segment.marker {
            START_OF_IMAGE | END_OF_IMAGE => break,
            START_OF_SCAN => {
                let count = Scan::read(segment.body).components.len();
                if count >= header.components.len() {
                    return false;
                }
                if count > 1 {
                    return true;
                }
                let is_end = |code: u8| !matches!(code, 0xd0..=0xd7);
                let end = markers(bytes, segment.end).find(|marker| marker.code.is_none_or(is_end));
                segments.skip_to(end.map_or(bytes.len(), |marker| marker.begin));
            }
            _ => {}
        }
    }
    false
}

/// A scan's header.
#[derive(Debug)]
struct Scan {
    /// Numbers of its components.
    components: Vec<u8>,
    /// Its coefficients.
    band: Range<usize>,
    /// Number of low bits that later scans add.
    low: u8,
}

impl Scan {
    fn read(body: &[u8]) -> Self {
        let count = usize::from(body.first().copied().unwrap_or_default());
        let components = body
            .get(1..)
            .unwrap_or_default()
            .as_chunks::<2>()
            .0
            .iter()
            .take(count)
            .map(|[id, _]| *id)
            .collect();
        let (begin, end, low) = match body.get(1 + 2 * count..) {
            Some([begin, end, bits, ..]) => (usize::from(*begin), usize::from(*end) + 1, bits & 15),
            _ => (0, 64, 0),
        };
        Self {
            components,
            band: begin..end.min(64),
            low,
        }
    }
}

/// Progress of each component: the coefficients so far, and their missing bits.
struct Progress {
    components: Vec<(u8, [u8; 64])>,
    is_progressive: bool,
}

impl Progress {
    fn new(header: &Header) -> Self {
        Self {
            components: header
                .components
                .iter()
                .map(|component| (component.id, [u8::MAX; 64]))
                .collect(),
            is_progressive: header.is_progressive,
        }
    }

    fn note(&mut self, scan: &Scan) {
        for (id, left) in &mut self.components {
            if scan.components.contains(id) {
                // Without progressive refinement a scan has everything.
                let (band, low) = if self.is_progressive {
                    (scan.band.clone(), scan.low)
                } else {
                    (0..64, 0)
                };
                left.get_mut(band).unwrap_or_default().fill(low);
            }
        }
    }

    /// Returns true if the coarsest value of each block is there, possibly without all its bits.
    fn has_all_rows(&self) -> bool {
        self.components
            .iter()
            .all(|(_, left)| left.first().is_some_and(|bits| *bits < u8::MAX))
    }

    fn is_complete(&self) -> bool {
        self.components
            .iter()
            .all(|(_, left)| left.iter().all(|bits| *bits == 0))
    }
}

/// A scan's coded data, in the pieces between its restart markers.
#[derive(Debug)]
struct Data<'a> {
    first: &'a [u8],
    /// The pieces, each after the restart marker of this number.
    others: Vec<(u8, &'a [u8])>,
    /// Position of the marker that ends the data.
    end: usize,
    /// An invalid marker replaced data.
    is_cut: bool,
}

impl<'a> Data<'a> {
    /// Reads coded data from `begin` on. After the last scan (`is_last`) only the end of the
    /// picture, or the start of another one, can follow: any other marker is a damaged byte. With
    /// `has_restarts`, restart markers are valid.
    ///
    /// Data after a damaged byte is left out up to the next restart marker, as in libjpeg. Its
    /// codes would have wrong positions in the picture.
    fn split(bytes: &'a [u8], begin: usize, is_last: bool, has_restarts: bool) -> Self {
        let mut data = Self {
            first: &[],
            others: Vec::new(),
            end: bytes.len(),
            is_cut: false,
        };
        // Start of the piece, until its end is known.
        let mut piece = Some(begin);
        let finish = |data: &mut Self, piece: Option<usize>, end: usize| {
            if let Some(run) = piece.and_then(|begin| bytes.get(begin..end)) {
                *data
                    .others
                    .last_mut()
                    .map_or(&mut data.first, |(_, piece)| piece) = run;
            }
        };
        for marker in markers(bytes, begin) {
            match marker.code {
                Some(number @ 0xd0..=0xd7) if has_restarts => {
                    finish(&mut data, piece, marker.begin);
                    data.others.push((number & 7, &[]));
                    piece = Some(marker.end);
                }
                Some(END_OF_IMAGE | START_OF_IMAGE) | None => {
                    data.end = marker.begin;
                    break;
                }
                Some(0xc0..=0xcf | 0xd8..) if !is_last => {
                    data.end = marker.begin;
                    break;
                }
                Some(_) => {
                    data.is_cut = true;
                    finish(&mut data, piece, marker.begin);
                    piece = None;
                }
            }
        }
        let end = data.end;
        finish(&mut data, piece, end);
        data
    }

    /// Appends the pieces with restart markers in order, and an empty piece for each missing one.
    /// `intervals` is the expected number of pieces, if the picture has restart markers. Returns
    /// true if markers are missing or out of order.
    fn write(&self, intervals: Option<usize>, out: &mut Vec<u8>) -> bool {
        out.extend(self.first);
        let Some(intervals) = intervals else {
            return false;
        };
        let mut missing = intervals.saturating_sub(1 + self.others.len());
        let gap = |expected: u8, found: u8| usize::from(found.wrapping_sub(expected) & 7);
        let follows = std::iter::once(7).chain(self.others.iter().map(|(number, _)| *number));
        let is_hole = |(before, number): &(u8, u8)| gap(before.wrapping_add(1), *number) > 0;
        let numbers = self.others.iter().map(|(number, _)| *number);
        let holes = follows.zip(numbers).filter(is_hole).count();
        // Some encoders write a marker after the last interval, too.
        let mut has_faults = missing > 0 || self.others.len() > intervals;
        let mut expected = 0_u8;
        for (number, piece) in &self.others {
            let mut lost = gap(expected, *number);
            has_faults |= lost > 0;
            // Numbers repeat after eight, but the length of a single hole is known from the count.
            if holes == 1 && lost > 0 {
                lost += missing.saturating_sub(lost) / 8 * 8;
            }
            if lost > missing {
                // More than are missing. libjpeg skips a marker from before with its data, and
                // places one of the next two by its number. It takes any other for the expected
                // one.
                match lost % 8 {
                    6.. => continue,
                    1 | 2 => lost %= 8,
                    _ => lost = 0,
                }
            }
            missing = missing.saturating_sub(lost);
            for _ in 0..=lost {
                out.extend([0xff, 0xd0 | expected & 7]);
                expected = expected.wrapping_add(1) & 7;
            }
            out.extend(*piece);
        }
        has_faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A baseline picture of 64 × 16 pixels in one component: 16 units, with a restart marker after
    /// every two.
    const HEAD: &[u8] = b"\xff\xd8\xff\xdd\0\x04\0\x02\xff\xc0\0\x0b\x08\0\x10\0\x40\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0";

    fn repaired(bytes: &[u8]) -> RepairedJpeg {
        repair(bytes, &Header::read(bytes).unwrap())
    }

    /// Returns the repaired coded data as text: each piece, with markers as their number: `a0b1c`.
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

    const WHOLE: &[u8] =
        b"a\xff\xd0b\xff\xd1c\xff\xd2d\xff\xd3e\xff\xd4f\xff\xd5g\xff\xd6h\xff\xd9";

    /// Intact data stays unchanged.
    #[test]
    fn whole_picture_is_kept() {
        let bytes = [HEAD, WHOLE].concat();
        let repaired = repaired(&bytes);
        assert_eq!(repaired.bytes, bytes);
        assert!(!repaired.has_restart_faults && !repaired.lacks_scans);
    }

    /// Lost intervals become empty ones, and the others stay in place.
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
            ("data behind a marker of no meaning", b"a\xff\x47lost\xff\xd0b\xff\xc4lost\xff\xd1c\xff\xd9", "a0b1c"),
            ("two swapped", b"a\xff\xd1c\xff\xd0b\xff\xd2d\xff\xd3e\xff\xd4f\xff\xd5g\xff\xd6h\xff\xd9", "a01c2d3e4f5g6h"),
            ("another picture behind", b"a\xff\xd0b\xff\xd8\xff\xd1c\xff\xd9", "a0b"),
        ] {
            assert_eq!(text(data), wanted, "{what}");
        }
    }

    /// The length of a long hole follows from the number of missing intervals, because numbers
    /// repeat after eight.
    #[test]
    fn long_restart_hole_is_filled() {
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

    /// Stray bytes, fill bytes and markers without meaning are dropped at any position between
    /// segments.
    #[test]
    fn bytes_between_segments_are_left_out() {
        let whole = [HEAD, b"a\xff\xd9"].concat();
        for at in [2, 8, 21] {
            for stray in [
                b"\0".as_slice(),
                b"abc",
                b"\xff",
                b"\xff\xff\xff",
                b"\xff\0",
                b"\xff\xd3",
                b"x\xff\x01y",
            ] {
                let bytes = [&whole[..at], stray, &whole[at..]].concat();
                let header = Header::read(&bytes).unwrap();
                let is_fill = stray.iter().all(|byte| *byte == 0xff);
                assert_eq!(header.stray > 0, !is_fill, "{stray:02x?}");
                assert_eq!(repair(&bytes, &header).bytes, whole, "{stray:02x?} at {at}");
            }
        }
    }

    /// A progressive picture is complete once each coefficient of each component has all its bits.
    #[test]
    fn missing_scans_are_reported() {
        let head = b"\xff\xd8\xff\xc2\0\x0b\x08\0\x10\0\x40\x01\x01\x11\0".as_slice();
        let scan = |begin: u8, end: u8, bits: u8| {
            [
                b"\xff\xda\0\x08\x01\x01\0".as_slice(),
                &[begin, end, bits],
                b"data",
            ]
            .concat()
        };
        for (scans, lacks) in [
            (vec![scan(0, 0, 0), scan(1, 63, 0)], false),
            (vec![scan(0, 0, 1), scan(1, 63, 0)], true),
            (vec![scan(0, 0, 1), scan(1, 63, 0), scan(0, 0, 0x10)], false),
            (vec![scan(0, 0, 0), scan(1, 5, 0)], true),
        ] {
            let bytes = [head, &scans.concat()].concat();
            let repaired = repaired(&bytes);
            assert_eq!(
                (repaired.lacks_scans, repaired.scans.len()),
                (lacks, scans.len()),
                "{scans:02x?}"
            );
        }
    }
}
