//! Splits a stream of JPEGs, one after the other as cameras and `ffmpeg -f mjpeg` write them, into frames.
//!
//! Walks the markers of ITU-T T.81 (annex B): segments are skipped by their length, so that a thumbnail inside one does not end the
//! picture, and in entropy-coded data every 0xFF that is data is followed by 0x00. A damaged picture ends where the next one starts, and is a
//! frame like any other: what is left of it is the service's to judge.

use std::io::{self, ErrorKind, Read};

mod multi_picture;

/// The largest picture that is taken, in bytes.
const LARGEST: usize = 128 << 20;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

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
    parts: Vec<u64>,
}

/// How a picture ended.
enum End {
    /// With its end marker, or where the next one starts.
    Marker,
    /// With the stream.
    Stream,
    /// It is too large.
    TooLarge,
}

impl<R: Read> JpegStream<R> {
    /// The stream should be buffered: it is read byte by byte.
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, again: Vec::new(), position: 0, parts: Vec::new() }
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

    /// Skips to the start of the next picture; whether there is one.
    fn find_start(&mut self) -> io::Result<bool> {
        let mut last = 0;
        while let Some(byte) = self.byte()? {
            if last == 0xff && byte == START_OF_IMAGE {
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
            // In coded data stuffed zeros, restart markers and fill bytes belong to it; between segments they mean nothing.
            let Some(marker) = self.marker(picture)? else { return Ok(End::Stream) };
            if picture.len() > LARGEST {
                return Ok(End::TooLarge);
            }
            match marker {
                END_OF_IMAGE => return Ok(End::Marker),
                START_OF_IMAGE => {
                    picture.truncate(picture.len() - 2);
                    self.read_again(&[0xff, START_OF_IMAGE]);
                    return Ok(End::Marker);
                }
                // A lost byte, not a segment with a length.
                0x01..=0xbf if is_coded => {}
                _ => {
                    if !self.segment(marker, is_coded, picture)? {
                        return Ok(End::Stream);
                    }
                    is_coded |= marker == START_OF_SCAN;
                }
            }
        }
    }

    /// Copies bytes up to the next marker and answers it; None at the end of the stream, or of what is taken.
    fn marker(&mut self, picture: &mut Vec<u8>) -> io::Result<Option<u8>> {
        let mut last = 0;
        while let Some(byte) = self.byte()? {
            picture.push(byte);
            let is_marker = last == 0xff && !matches!(byte, 0x00 | 0x01 | 0xd0..=0xd7 | 0xff);
            if is_marker || picture.len() > LARGEST {
                return Ok(Some(byte));
            }
            last = byte;
        }
        Ok(None)
    }

    /// Copies a segment, which begins with its own length; false if the stream ends in it. `is_coded` says that coded data came before it.
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
        // At least an end marker follows a whole one.
        let mut next = Vec::new();
        while is_whole && next.len() < 2 {
            let Some(byte) = self.byte()? else { break };
            next.push(byte);
        }
        self.read_again(&next);
        // A marker follows a segment, unless data of a scan does.
        let is_doubtful = is_coded || marker == START_OF_SCAN || next.first() != Some(&0xff);
        // Where data was lost the length covers the start of the next picture. Thumbnails are no such: they are in EXIF data and the like.
        let may_hold_pictures =
            matches!(marker, 0xe1 | 0xed) || marker == 0xe0 && body.get(2..).is_some_and(|body| body.starts_with(b"JFXX"));
        let with_next = [body, &next].concat();
        match with_next.windows(3).position(|bytes| bytes == [0xff, START_OF_IMAGE, 0xff]) {
            Some(start) if is_doubtful && !may_hold_pictures => {
                let rest = picture.split_off(begin + start);
                self.read_again(&rest);
                Ok(true)
            }
            _ => Ok(is_whole),
        }
    }

    fn frame(&mut self) -> io::Result<Option<Frame>> {
        while self.find_start()? {
            let begin = self.position - 2;
            let mut picture = vec![0xff, START_OF_IMAGE];
            let end = self.picture(&mut picture)?;
            // Of the pictures of one frame the first is shown.
            self.parts.retain(|part| *part >= begin);
            if self.parts.contains(&begin) {
                continue;
            }
            self.parts.extend(multi_picture::offsets(&picture).into_iter().map(|offset| begin + offset));
            match end {
                // Start markers that follow each other begin no picture.
                End::Marker if picture.len() <= 4 => {}
                End::Marker => return Ok(Some(Frame::Picture(picture))),
                End::Stream => return Ok(Some(Frame::Unfinished(picture))),
                End::TooLarge => {
                    return Ok(Some(Frame::Refused(format!("a JPEG of more than {} MiB, or one without an end", LARGEST >> 20))));
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
    use super::*;

    /// A picture with a thumbnail in its first segment, stuffed bytes and a restart marker in its data.
    const PICTURE: &[u8] = &[
        0xff, 0xd8, // start
        0xff, 0xe1, 0x00, 0x06, 0xff, 0xd8, 0xff, 0xd9, // a segment that holds a start and an end
        0xff, 0xda, 0x00, 0x03, 0x01, // a scan's header
        0x12, 0xff, 0x00, 0x34, 0xff, 0xd1, 0x56, // data
        0xff, 0xd9, // end
    ];

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
            let wanted = [Frame::Picture(PICTURE.to_vec()), Frame::Unfinished(PICTURE[..end].to_vec())];
            assert_eq!(split(&stream), wanted, "cut after {end} bytes");
        }
    }

    /// A picture that is cut off anywhere ends where the next one starts, which is read whole.
    #[test]
    fn start_marker_begins_next_picture() {
        // In its first segment, which may hold a thumbnail, a cut is not told from one.
        for end in (2..PICTURE.len()).filter(|end| !(4..10).contains(end)) {
            let found = pictures(&[&PICTURE[..end], PICTURE, PICTURE].concat());
            // A start marker alone is no picture.
            let cut = Some(PICTURE[..end].to_vec()).filter(|cut| cut.len() > 4);
            assert_eq!(found, Vec::from_iter(cut.into_iter().chain([PICTURE.to_vec(), PICTURE.to_vec()])), "cut after {end} bytes");
        }
    }

    /// Bytes between segments and padding after the data belong to the picture.
    #[test]
    fn stray_bytes_end_no_picture() {
        for at in [2, 10] {
            for stray in [b"\0".as_slice(), b"abc", b"\xff", b"\xff\0", b"\xff\xd3"] {
                let odd = [&PICTURE[..at], stray, &PICTURE[at..]].concat();
                assert_eq!(pictures(&[&odd, PICTURE].concat()), [odd.as_slice(), PICTURE], "{stray:02x?} at {at}");
            }
        }
        let padded = [&PICTURE[..PICTURE.len() - 2], &[0; 100]].concat();
        assert_eq!(pictures(&[&padded, PICTURE].concat()), [padded.as_slice(), PICTURE]);
    }

    /// Pictures that a frame's own index names are no frames.
    #[test]
    fn parts_of_multi_picture_file_are_skipped() {
        // Where the first ends and the second begins is written in the first; a little stands between them.
        let first = multi_picture::tests::with_index(PICTURE, 3);
        let stream = [&first, b"pad".as_slice(), PICTURE, PICTURE].concat();
        assert_eq!(pictures(&stream), [first.as_slice(), PICTURE]);
        // Without the second one nothing that follows is lost.
        let stream = [&first, PICTURE].concat();
        assert_eq!(pictures(&stream), [first.as_slice(), PICTURE]);
    }

    /// A stream without pictures has no frames.
    #[test]
    fn stream_without_pictures_is_empty() {
        assert!(split(b"no pictures here").is_empty());
        assert!(split(b"\xff\xd8\xff\xd8\xff\xd9").is_empty());
    }
}
