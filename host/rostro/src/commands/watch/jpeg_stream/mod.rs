//! Splits a stream of JPEGs, one after the other as cameras and `ffmpeg -f mjpeg` write them, into
//! frames.
//!
//! Walks the markers of ITU-T T.81 (annex B): segments are skipped by their length, so that a
//! thumbnail inside one does not end the picture, and in entropy-coded data every 0xFF that is data
//! is followed by 0x00. A damaged picture ends where the next one starts, and is a frame like any
//! other: what is left of it is the service's to judge.

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

/// The largest picture that is taken, in bytes.
const LARGEST: usize = 128 << 20;

/// Bytes after a segment that tell whether the picture goes on there.
const AFTER_SEGMENT: usize = 64;

/// A frame of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A picture, up to its end marker or to the start of the next one.
    Picture(Vec<u8>),
    /// A picture that has begun when the stream ends: whether all of it is there, its pixels tell.
    Unfinished(Vec<u8>),
    /// A picture that cannot be taken, for this reason.
    Refused(String),
}

/// The frames of a stream.
#[derive(Debug)]
pub(crate) struct JpegStream<R> {
    stream: R,
    /// Bytes that were read too far, to be read again, the last first.
    again: Vec<u8>,
    /// How many bytes were read, without those that are to be read again.
    position: u64,
    /// Where pictures begin that belong to a frame that was given: parts of a multi-picture file.
    /// Offsets count from the start of the stream.
    parts: Vec<Part>,
}

/// How a picture ended.
enum End {
    /// With its end marker.
    Marker,
    /// Where the next one starts.
    NextStart,
    /// With the stream.
    Stream,
    /// It is too large.
    TooLarge,
}

impl<R: Read> JpegStream<R> {
    /// The stream should be buffered: it is read byte by byte.
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            again: Vec::new(),
            position: 0,
            parts: Vec::new(),
        }
    }

    /// Reads a byte; None at the end of the stream.
    fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = match self.again.pop() {
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

    /// Has bytes that were read last read again.
    fn read_again(&mut self, bytes: &[u8]) {
        self.position -= bytes.len() as u64;
        self.again.extend(bytes.iter().rev());
    }

    /// Reads bytes ahead, as many as this or all that the stream has.
    fn ahead(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            let Some(byte) = self.byte()? else { break };
            bytes.push(byte);
        }
        self.read_again(&bytes);
        Ok(bytes)
    }

    /// Returns true if a picture begins with the start marker that was just read.
    fn is_at_start(&mut self) -> io::Result<bool> {
        self.ahead(AFTER_START).map(|after| is_start(&after))
    }

    /// Skips to the start of the next picture; whether there is one.
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
            if picture.len() > LARGEST {
                return Ok(End::TooLarge);
            }
            match marker {
                END_OF_IMAGE => return Ok(End::Marker),
                START_OF_IMAGE => {
                    picture.truncate(picture.len() - 2);
                    self.read_again(&[0xff, START_OF_IMAGE]);
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

    /// Copies bytes up to the next marker and answers it; None at the end of the stream, or of what
    /// is taken.
    fn marker(&mut self, picture: &mut Vec<u8>) -> io::Result<Option<u8>> {
        let mut last = 0;
        while let Some(byte) = self.byte()? {
            picture.push(byte);
            let has_marker = last == 0xff
                && is_marker(byte)
                && (byte != START_OF_IMAGE || self.is_at_start()?);
            if has_marker || picture.len() > LARGEST {
                return Ok(Some(byte));
            }
            last = byte;
        }
        Ok(None)
    }

    /// Copies a segment, which begins with its own length, or what the next picture leaves of it;
    /// false if the stream ends in it. `is_coded` says that coded data came before it.
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
        // Where data was lost the length covers the start of the next picture, maybe not all of its
        // first bytes.
        let straddling = if body.iter().rev().take(3).any(|byte| *byte == 0xff) {
            3
        } else {
            0
        };
        let bytes = [body, &self.ahead(straddling)?].concat();
        let start = (0..body.len()).find(|at| bytes.get(*at..).is_some_and(is_plain_start));
        let next = match start {
            Some(_) if may_hold_pictures(marker) && !is_coded => {
                embedded::next_frame(marker, body, &self.ahead(AFTER_SEGMENT)?)
            }
            start => start,
        };
        if let Some(start) = next {
            let rest = picture.split_off(begin + start);
            self.read_again(&rest);
        }
        Ok(is_whole || next.is_some())
    }

    /// Returns true if a picture belongs to a frame that was given. Of the pictures of one frame
    /// the first is shown.
    fn is_part(&mut self, begin: u64, picture: &[u8]) -> bool {
        self.parts.retain(|part| part.offset >= begin);
        let length = picture.len() as u64;
        let fits = |part: &Part| match &part.lengths {
            None => true,
            // Another frame may be there, whose own index tells it from a part.
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
                // Start markers that follow each other begin no picture.
                End::Marker | End::NextStart if picture.len() <= 4 => {}
                End::Marker | End::NextStart => return Ok(Some(Frame::Picture(picture))),
                End::Stream => return Ok(Some(Frame::Unfinished(picture))),
                End::TooLarge => {
                    return Ok(Some(Frame::Refused(format!(
                        "a JPEG of more than {} MiB, or one without an end",
                        LARGEST >> 20
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

    /// A picture with a thumbnail in EXIF data, stuffed bytes and a restart marker in its data.
    const PICTURE: &[u8] = b"\xff\xd8\
        \xff\xe1\0\x31Exif\0\0II*\0\x08\0\0\0\x01\0\x01\x02\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0\xff\xd8\xff\xdb\0\x03\x01\xff\xda\0\x02\x11\x22\xff\xd9\
        \xff\xdb\0\x04\x01\x02\
        \xff\xda\0\x03\x01\x12\xff\0\x34\xff\xd1\x56\xff\xd9";

    /// Where its EXIF data ends.
    const HEADER: usize = 53;

    /// A picture within another one.
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

    /// The picture with more segments behind its start marker.
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

    /// A picture that the stream ends in is told from a whole one.
    #[test]
    fn picture_at_stream_end_is_unfinished() {
        for end in 2..PICTURE.len() {
            let stream = [PICTURE, &PICTURE[..end]].concat();
            let wanted = [
                Frame::Picture(PICTURE.to_vec()),
                Frame::Unfinished(PICTURE[..end].to_vec()),
            ];
            assert_eq!(split(&stream), wanted, "cut after {end} bytes");
        }
    }

    /// A picture that is cut off anywhere, in its EXIF data or its thumbnail too, ends where the
    /// next one starts, which is read whole.
    #[test]
    fn start_marker_begins_next_picture() {
        let plain = [&PICTURE[..2], &PICTURE[HEADER..]].concat();
        for next in [PICTURE, &plain] {
            for end in 2..PICTURE.len() {
                let found = pictures(&[&PICTURE[..end], next, next, next, next].concat());
                // A start marker alone is no picture.
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

    /// Previews in the segments of makers are no frames, with stray bytes behind them too, and one
    /// over several segments.
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
            // Cut off behind the thumbnail: what follows is the next frame.
            let end = thumbnail.len() + 2 - 3;
            let picture = with_segments(&thumbnail);
            let wanted = [&picture[..end], PICTURE, PICTURE];
            assert_eq!(pictures(&wanted.concat()), wanted);
        }
    }

    /// Pictures that a frame's own index names are no frames.
    #[test]
    fn parts_of_multi_picture_file_are_skipped() {
        // Where the first ends and the second begins is written in the first; a little stands
        // between them.
        let first = multi_picture::tests::with_index(PICTURE, 3, PICTURE.len() as u32);
        let stream = [&first, b"pad".as_slice(), PICTURE, PICTURE].concat();
        assert_eq!(pictures(&stream), [first.as_slice(), PICTURE]);
        // Without the second one nothing that follows is lost.
        let stream = [&first, PICTURE].concat();
        assert_eq!(pictures(&stream), [first.as_slice(), PICTURE]);
    }

    /// A stray byte, or data that was lost, makes no frames of the pictures of one; a frame that is
    /// cut off takes no other with it.
    #[test]
    fn damaged_multi_picture_file_is_one_frame() {
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

    /// A stream without pictures has no frames, and two bytes of it make none.
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

    /// A frame as it arrives, and whether it is undamaged.
    fn arrived() -> impl Strategy<Value = (Vec<u8>, bool)> {
        let preview = |marker, name: &[u8]| segment(marker, &[name, PREVIEW].concat());
        let previews = vec![
            Vec::new(),
            preview(0xe2, b"VENDOR\0\0"),
            preview(0xe1, b"XMP\0\0"),
            segment(0xfe, b"comment"),
        ];
        // More than a segment covers, as of real frames: what small ones are nested in could be a
        // segment of previews.
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
        /// However frames between them are damaged, undamaged ones are read whole and in their
        /// order.
        #[test]
        fn damaged_frames_swallow_no_others(frames in prop::collection::vec(arrived(), 1..8)) {
            let stream: Vec<u8> = frames.iter().flat_map(|(bytes, _)| bytes.clone()).chain(PICTURE.to_vec()).collect();
            let mut found = split(&stream).into_iter();
            for (picture, _) in frames.iter().filter(|(_, is_whole)| *is_whole) {
                prop_assert!(found.any(|frame| frame == Frame::Picture(picture.clone())), "{picture:02x?}");
            }
        }

        /// No stream is read for ever or makes reading it panic.
        #[test]
        fn any_stream_ends(bytes in prop::collection::vec(prop_oneof![Just(0xff_u8), Just(0xd8), Just(0xe1), Just(0), any::<u8>()], 0..400)) {
            split(&bytes);
            split(&[PICTURE, &bytes, PICTURE].concat());
        }
    }
}
