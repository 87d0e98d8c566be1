//! Splits a stream of consecutive JPEGs, as cameras and `ffmpeg -f mjpeg` write it, into frames.
//!
//! The parser follows the markers of ITU-T T.81 (annex B). It skips segments by their length, so
//! that a thumbnail inside one does not end the picture. In entropy-coded data 0x00 follows every
//! 0xFF that is data. A damaged picture ends where the next one starts. It is a frame as well,
//! because the service judges the rest of it.

mod embedded;
mod markers;
mod multi_picture;
mod tiff;

use std::io::{self, ErrorKind, Read};

use self::markers::{
    AFTER_START, END_OF_IMAGE, START_OF_IMAGE, START_OF_SCAN, has_length, is_marker,
    is_plain_start, is_start, may_hold_pictures,
};
use self::multi_picture::Part;

/// Largest picture in bytes.
const MAX_BYTES: usize = 128 << 20;

/// Number of bytes after a segment that decide whether the picture continues there.
const AFTER_SEGMENT: usize = 64;

/// Frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A picture, up to its end marker or to the start of the next one.
    Picture(Vec<u8>),
    /// A picture without an end marker at the end of the stream. Only its pixels show whether it is
    /// whole.
    Unfinished(Vec<u8>),
    /// A picture that is not accepted, with the reason.
    Refused(String),
}

/// Iterator over the frames of a stream.
#[derive(Debug)]
pub(crate) struct JpegStream<R> {
    stream: R,
    /// Bytes to read again, the last first.
    unread: Vec<u8>,
    /// Number of bytes read, without those to read again.
    position: u64,
    /// Further pictures of the last frame's multi-picture file. Offsets count from the start of the
    /// stream.
    parts: Vec<Part>,
}

/// End of a picture.
enum End {
    /// Its end marker.
    Marker,
    /// The start of the next picture.
    NextStart,
    /// The end of the stream.
    Stream,
    /// The size limit.
    TooLarge,
}

impl<R: Read> JpegStream<R> {
    /// Creates the iterator. The stream should be buffered, because it is read byte by byte.
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            unread: Vec::new(),
            position: 0,
            parts: Vec::new(),
        }
    }

    /// Reads a byte; None at the end of the stream.
    fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = match self.unread.pop() {
            Some(byte) => byte,
            None => {
                let mut byte = [0];
                match self.stream.read_exact(&mut byte) {
                    Ok(()) => byte[0],
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
                    Err(error) => return Err(error),
                }
            }
        };
        self.position += 1;
        Ok(Some(byte))
    }

    /// Puts back the bytes that were read last.
    fn put_back(&mut self, bytes: &[u8]) {
        self.position -= bytes.len() as u64;
        self.unread.extend(bytes.iter().rev());
    }

    /// Peeks at the next `count` bytes, or fewer at the end of the stream.
    fn peek(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let Some(byte) = self.byte()? else { break };
            bytes.push(byte);
        }
        self.put_back(&bytes);
        Ok(bytes)
    }

    /// Returns true if a picture begins with the start marker that was read last.
    fn is_at_start(&mut self) -> io::Result<bool> {
        self.peek(AFTER_START).map(|after| is_start(&after))
    }

    /// Skips to the start of the next picture. Returns false at the end of the stream.
    fn find_start(&mut self) -> io::Result<bool> {
        let mut last = 0;
        while let Some(byte) = self.byte()? {
            if last == 0xff && byte == START_OF_IMAGE && self.is_at_start()? {
                return Ok(true);
            }
            last = byte;
        }
        Ok(false)
    }

    /// Reads the rest of a picture after its start.
    fn picture(&mut self, picture: &mut Vec<u8>) -> io::Result<End> {
        let mut is_coded = false;
        loop {
            let Some(marker) = self.marker(picture)? else {
                return Ok(End::Stream);
            };
            if picture.len() > MAX_BYTES {
                return Ok(End::TooLarge);
            }
            match marker {
                END_OF_IMAGE => return Ok(End::Marker),
                START_OF_IMAGE => {
                    picture.truncate(picture.len() - 2);
                    self.put_back(&[0xff, START_OF_IMAGE]);
                    return Ok(End::NextStart);
                }
                _ if has_length(marker, is_coded) => {
                    if !self.segment(marker, is_coded, picture)? {
                        return Ok(End::Stream);
                    }
                    is_coded |= marker == START_OF_SCAN;
                }
                _ => {}
            }
        }
    }

    /// Copies bytes up to the next marker and returns it; None at the end of the stream. Stops at
    /// the size limit, too.
    fn marker(&mut self, picture: &mut Vec<u8>) -> io::Result<Option<u8>> {
        let mut last = 0;
        while let Some(byte) = self.byte()? {
            picture.push(byte);
            let has_marker = last == 0xff
                && is_marker(byte)
                && (byte != START_OF_IMAGE || self.is_at_start()?);
            if has_marker || picture.len() > MAX_BYTES {
                return Ok(Some(byte));
            }
            last = byte;
        }
        Ok(None)
    }

    /// Copies a segment, which begins with its own length, up to the start of another picture in
    /// it. Returns false if the stream ends in it. `is_coded` is true after coded data.
    fn segment(&mut self, marker: u8, is_coded: bool, picture: &mut Vec<u8>) -> io::Result<bool> {
        let begin = picture.len();
        let mut length = 2;
        while picture.len() < begin + length {
            let Some(byte) = self.byte()? else { break };
            picture.push(byte);
            if let Some([high, low]) = picture.get(begin..) {
                length = usize::from(u16::from_be_bytes([*high, *low]));
            }
        }
        let body = picture.get(begin..).unwrap_or_default();
        let is_whole = body.len() >= length;
        // If data was lost, the length covers the start of the next picture, perhaps only a part of
        // its first bytes.
        let straddling = if body.iter().rev().take(3).any(|byte| *byte == 0xff) {
            3
        } else {
            0
        };
        let bytes = [body, &self.peek(straddling)?].concat();
        let start = (0..body.len()).find(|at| bytes.get(*at..).is_some_and(is_plain_start));
        let next = match start {
            Some(_) if may_hold_pictures(marker) && !is_coded => {
                embedded::next_frame(marker, body, &self.peek(AFTER_SEGMENT)?)
            }
            start => start,
        };
        if let Some(start) = next {
            let rest = picture.split_off(begin + start);
            self.put_back(&rest);
        }
        Ok(is_whole || next.is_some())
    }

    /// Returns true if a picture is a further picture of an earlier frame.
    fn is_part(&mut self, begin: u64, picture: &[u8]) -> bool {
        self.parts.retain(|part| part.offset >= begin);
        let length = picture.len() as u64;
        let fits = |part: &Part| match &part.lengths {
            None => true,
            // A picture with an index of its own is another frame.
            Some(lengths) => {
                lengths.contains(&length) && multi_picture::parts(picture, true).is_empty()
            }
        };
        self.parts
            .iter()
            .any(|part| part.offset == begin && fits(part))
    }

    fn frame(&mut self) -> io::Result<Option<Frame>> {
        while self.find_start()? {
            let begin = self.position - 2;
            let mut picture = vec![0xff, START_OF_IMAGE];
            let end = self.picture(&mut picture)?;
            if self.is_part(begin, &picture) {
                continue;
            }
            let parts = multi_picture::parts(&picture, matches!(end, End::Marker));
            self.parts.extend(parts.into_iter().map(|part| Part {
                offset: begin + part.offset,
                ..part
            }));
            match end {
                // Consecutive start markers are not a picture.
                End::Marker | End::NextStart if picture.len() <= 4 => {}
                End::Marker | End::NextStart => return Ok(Some(Frame::Picture(picture))),
                End::Stream => return Ok(Some(Frame::Unfinished(picture))),
                End::TooLarge => {
                    return Ok(Some(Frame::Refused(format!(
                        "a JPEG of more than {} MiB, or one without an end",
                        MAX_BYTES >> 20
                    ))));
                }
            }
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for JpegStream<R> {
    type Item = io::Result<Frame>;

    fn next(&mut self) -> Option<Self::Item> {
        self.frame().transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Picture with a thumbnail in EXIF data, stuffed bytes and a restart marker in its data.
    const PICTURE: &[u8] = b"\xff\xd8\
        \xff\xe1\0\x31Exif\0\0II*\0\x08\0\0\0\x01\0\x01\x02\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0\xff\xd8\xff\xdb\0\x03\x01\xff\xda\0\x02\x11\x22\xff\xd9\
        \xff\xdb\0\x04\x01\x02\
        \xff\xda\0\x03\x01\x12\xff\0\x34\xff\xd1\x56\xff\xd9";

    /// Offset of the end of its EXIF data.
    const HEADER: usize = 53;

    /// Picture within another one.
    const PREVIEW: &[u8] = b"\xff\xd8\xff\xdb\0\x04\x05\x06\xff\xda\0\x02\x11\xff\xd9";

    fn split(stream: &[u8]) -> Vec<Frame> {
        JpegStream::new(stream).collect::<io::Result<_>>().unwrap()
    }

    fn pictures(stream: &[u8]) -> Vec<Vec<u8>> {
        let picture = |frame| match frame {
            Frame::Picture(picture) => picture,
            other => panic!("{other:?}"),
        };
        split(stream).into_iter().map(picture).collect()
    }

    fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
        [
            &[0xff, marker],
            (body.len() as u16 + 2).to_be_bytes().as_slice(),
            body,
        ]
        .concat()
    }

    /// Returns the picture with more segments after its start marker.
    fn with_segments(segments: &[u8]) -> Vec<u8> {
        [&PICTURE[..2], segments, &PICTURE[2..]].concat()
    }

    /// Pictures end at their end markers, not at their thumbnails'.
    #[test]
    fn pictures_are_split_at_their_ends() {
        let boundary = b"\r\n--frame\r\n".as_slice();
        let stream = [boundary, PICTURE, boundary, PICTURE].concat();
        assert_eq!(pictures(&stream), [PICTURE, PICTURE]);
    }

    /// A picture at the end of the stream differs from a whole one.
    #[test]
    fn picture_at_stream_end_is_unfinished() {
        for end in 2..PICTURE.len() {
            let stream = [PICTURE, &PICTURE[..end]].concat();
            let expected = [
                Frame::Picture(PICTURE.to_vec()),
                Frame::Unfinished(PICTURE[..end].to_vec()),
            ];
            assert_eq!(split(&stream), expected, "cut after {end} bytes");
        }
    }

    /// A picture that is cut off anywhere, also in its EXIF data or thumbnail, ends where the next
    /// one starts. The next one is read whole.
    #[test]
    fn start_marker_begins_next_picture() {
        let plain = [&PICTURE[..2], &PICTURE[HEADER..]].concat();
        for next in [PICTURE, &plain] {
            for end in 2..PICTURE.len() {
                let found = pictures(&[&PICTURE[..end], next, next, next, next].concat());
                // A start marker alone is not a picture.
                let cut = Some(PICTURE[..end].to_vec()).filter(|cut| cut.len() > 4);
                assert_eq!(
                    found,
                    Vec::from_iter(cut.into_iter().chain(vec![next.to_vec(); 4])),
                    "cut after {end} bytes"
                );
            }
        }
    }

    /// A false marker in coded data is a lost byte: its length covers no other picture.
    #[test]
    fn false_marker_swallows_no_picture() {
        let at = PICTURE.len() - 4;
        for marker in 0x02..=0xfe_u8 {
            if matches!(marker, 0xd0..=0xd9) {
                continue;
            }
            for length in [[0xff, 0xff], [0, 0x40], [0, 0]] {
                let damaged = [&PICTURE[..at], &[0xff, marker], &length, &PICTURE[at..]].concat();
                let found =
                    pictures(&[PICTURE, &damaged, PICTURE, PICTURE, PICTURE, PICTURE].concat());
                assert_eq!(found.len(), 6, "{marker:02x} {length:02x?}");
                assert!(
                    found[0] == PICTURE
                        && found[1] == damaged
                        && found[2..].iter().all(|found| found == PICTURE),
                    "{marker:02x}"
                );
            }
        }
    }

    /// Bytes between segments and padding after the data belong to the picture.
    #[test]
    fn stray_bytes_end_no_picture() {
        for at in [2, HEADER] {
            for stray in [b"\0".as_slice(), b"abc", b"\xff", b"\xff\0", b"\xff\xd3"] {
                let odd = [&PICTURE[..at], stray, &PICTURE[at..]].concat();
                assert_eq!(
                    pictures(&[&odd, PICTURE].concat()),
                    [odd.as_slice(), PICTURE],
                    "{stray:02x?} at {at}"
                );
            }
        }
        let padded = [&PICTURE[..PICTURE.len() - 2], &[0; 100]].concat();
        assert_eq!(
            pictures(&[&padded, PICTURE].concat()),
            [padded.as_slice(), PICTURE]
        );
    }

    /// Previews in application segments are not frames. Stray bytes may follow them, and one may
    /// span several segments.
    #[test]
    fn previews_are_no_frames() {
        for marker in [0xe0, 0xe1, 0xe2, 0xe5, 0xed, 0xee, 0xfe] {
            let whole = segment(marker, &[b"VENDOR\0\0", PREVIEW, b"\0\0", PREVIEW].concat());
            for stray in [b"".as_slice(), b"\0", b"abc", b"\xff\0"] {
                let picture = with_segments(&[&whole, stray].concat());
                assert_eq!(
                    pictures(&[&picture, PICTURE].concat()),
                    [picture.as_slice(), PICTURE],
                    "{marker:02x} {stray:02x?}"
                );
            }
            let (first, second) = PREVIEW.split_at(7);
            let parts = [first, second]
                .map(|part| segment(marker, &[b"VENDOR\0\0", part].concat()))
                .concat();
            let picture = with_segments(&parts);
            assert_eq!(
                pictures(&[&picture, PICTURE].concat()),
                [picture.as_slice(), PICTURE],
                "{marker:02x}"
            );
        }
        for thumbnail in [
            segment(0xe0, &[b"JFXX\0\x10", PREVIEW].concat()),
            segment(
                0xed,
                &[
                    b"Photoshop 3.0\x008BIM\x04\x0c\0\0\0\0\0\x2b",
                    [0; 28].as_slice(),
                    PREVIEW,
                ]
                .concat(),
            ),
        ] {
            // Cut off after the thumbnail: the next frame follows.
            let end = thumbnail.len() + 2 - 3;
            let picture = with_segments(&thumbnail);
            let expected = [&picture[..end], PICTURE, PICTURE];
            assert_eq!(pictures(&expected.concat()), expected);
        }
    }

    /// Pictures that a frame's own index names are not frames.
    #[test]
    fn multi_picture_parts_are_skipped() {
        // The first has the offset of the second; padding lies between them.
        let first = multi_picture::tests::with_index(PICTURE, 3, PICTURE.len() as u32);
        let stream = [&first, b"pad".as_slice(), PICTURE, PICTURE].concat();
        assert_eq!(pictures(&stream), [first.as_slice(), PICTURE]);
        // If the second is missing, the next frame is not lost.
        let stream = [&first, PICTURE].concat();
        assert_eq!(pictures(&stream), [first.as_slice(), PICTURE]);
    }

    /// Stray bytes or lost data do not split a multi-picture file into frames, and a frame that is
    /// cut off loses no other frame.
    #[test]
    fn damaged_multi_picture_is_one_frame() {
        let second = [&PICTURE[..PICTURE.len() - 2], b"second\xff\xd9"].concat();
        let first = multi_picture::tests::with_index(PICTURE, 0, second.len() as u32);
        let stray = [&first[..2], b"\0", &first[2..]].concat();
        let lossy = [&first[..first.len() - 6], &first[first.len() - 3..]].concat();
        let cut = first[..first.len() - 3].to_vec();
        for first in [&stray, &lossy, &cut] {
            let stream = [first, second.as_slice(), PICTURE, first, &second, PICTURE].concat();
            assert_eq!(
                pictures(&stream),
                [first.as_slice(), PICTURE, first, PICTURE]
            );
        }
        let stream = [cut.as_slice(), PICTURE, &cut, &first, &second, PICTURE].concat();
        assert_eq!(
            pictures(&stream),
            [cut.as_slice(), PICTURE, &cut, &first, PICTURE]
        );
    }

    /// A stream without pictures has no frames, also if it has start markers.
    #[test]
    fn stream_without_pictures_is_empty() {
        assert!(split(b"no pictures here").is_empty());
        assert!(split(b"\xff\xd8\xff\xd8\xff\xd9").is_empty());
        let noise = [b"\xff\xd8 noise ".as_slice(), b"\xff\xd8\xff\x20 noise"].concat();
        assert_eq!(
            pictures(&[&noise, PICTURE, &noise, PICTURE, &noise].concat()),
            [PICTURE, PICTURE]
        );
        let noisy = [&PICTURE[..PICTURE.len() - 2], &noise, b"\xff\xd9"].concat();
        assert_eq!(
            pictures(&[&noisy, PICTURE].concat()),
            [noisy.as_slice(), PICTURE]
        );
    }

    /// Strategy for an arriving frame, with a flag that is true if it is undamaged.
    fn arrived() -> impl Strategy<Value = (Vec<u8>, bool)> {
        let preview = |marker, name: &[u8]| segment(marker, &[name, PREVIEW].concat());
        let previews = vec![
            Vec::new(),
            preview(0xe2, b"VENDOR\0\0"),
            preview(0xe1, b"XMP\0\0"),
            segment(0xfe, b"comment"),
        ];
        // Real frames are larger than a segment. A small one could be a preview in a segment.
        let data = prop::collection::vec(0..=0xfe_u8, 256..400);
        (
            prop::sample::select(previews),
            data,
            any::<prop::sample::Index>(),
            0..7,
        )
            .prop_map(|(preview, data, at, way)| {
                let (mut picture, end) = (with_segments(&preview), b"\xff\xd9");
                picture.truncate(picture.len() - end.len());
                picture.extend(data);
                match way {
                    0 => picture.truncate(5 + at.index(picture.len() - 5)),
                    1 => picture.truncate(5 + at.index(120)),
                    2 => picture.extend(b"\xff\xe1\xff\xff"),
                    3 => picture.extend(b"\xff\xc4\xff\xff"),
                    _ => {}
                }
                if way > 1 {
                    picture.extend(end);
                }
                (picture, way > 3)
            })
    }

    proptest! {
        /// Undamaged frames are read whole and in order, also between damaged ones.
        #[test]
        fn damaged_frames_swallow_no_others(frames in prop::collection::vec(arrived(), 1..8)) {
            let stream: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes.clone()).chain(PICTURE.to_vec()).collect();
            let mut found = split(&stream).into_iter();
            for (picture, _) in frames.iter().filter(|(_, is_whole)| *is_whole) {
                prop_assert!(found.any(|frame| frame == Frame::Picture(picture.clone())), "{picture:02x?}");
            }
        }

        /// Reading any stream ends and does not panic.
        #[test]
        fn any_stream_ends(bytes in prop::collection::vec(prop_oneof![Just(0xff_u8), Just(0xd8), Just(0xe1), Just(0), any::<u8>()], 0..400)) {
            split(&bytes);
            split(&[PICTURE, &bytes, PICTURE].concat());
        }
    }
}
