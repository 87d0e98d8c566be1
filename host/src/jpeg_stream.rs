//! Splits a stream of JPEGs, one after the other as cameras and `ffmpeg -f mjpeg` write them, into pictures.
//!
//! Walks the markers of ITU-T T.81 (annex B): segments are skipped by their length, so that a thumbnail inside one does not end the
//! picture, and in entropy-coded data every 0xFF that is data is followed by 0x00.

use std::io::{self, ErrorKind, Read};

/// The largest picture that is taken, in bytes.
const LARGEST: usize = 64 << 20;

const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;

/// The pictures of a stream.
#[derive(Debug)]
pub(crate) struct JpegStream<R> {
    stream: R,
}

impl<R: Read> JpegStream<R> {
    /// The stream should be buffered: it is read byte by byte.
    pub(crate) fn new(stream: R) -> Self {
        Self { stream }
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// Skips to the start of the next picture; whether there is one.
    fn find_start(&mut self) -> io::Result<bool> {
        let mut last = 0;
        loop {
            match self.byte() {
                Ok(START_OF_IMAGE) if last == 0xff => return Ok(true),
                Ok(byte) => last = byte,
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// The rest of a picture after its start.
    fn picture(&mut self) -> io::Result<Vec<u8>> {
        let mut picture = vec![0xff, START_OF_IMAGE];
        let mut marker = self.marker(&mut picture)?;
        while marker != END_OF_IMAGE {
            self.segment(&mut picture)?;
            // After the header of a scan comes coded data, up to the next marker that is not part of it.
            marker = if marker == START_OF_SCAN { self.coded_data(&mut picture)? } else { self.marker(&mut picture)? };
            if picture.len() > LARGEST {
                return Err(io::Error::new(ErrorKind::InvalidData, format!("a JPEG of more than {LARGEST} bytes")));
            }
        }
        Ok(picture)
    }

    /// Reads a marker, before which any number of fill bytes may stand.
    fn marker(&mut self, picture: &mut Vec<u8>) -> io::Result<u8> {
        if self.byte()? != 0xff {
            return Err(io::Error::new(ErrorKind::InvalidData, "a damaged JPEG: no marker where one must be"));
        }
        picture.push(0xff);
        loop {
            let byte = self.byte()?;
            picture.push(byte);
            if byte != 0xff {
                return Ok(byte);
            }
        }
    }

    /// Copies a segment, which begins with its own length.
    fn segment(&mut self, picture: &mut Vec<u8>) -> io::Result<()> {
        let length = [self.byte()?, self.byte()?];
        picture.extend(length);
        let rest = u64::from(u16::from_be_bytes(length)).saturating_sub(2);
        let copied = self.stream.by_ref().take(rest).read_to_end(picture)?;
        if copied as u64 == rest { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }

    /// Copies coded data; answers the marker that ends it.
    fn coded_data(&mut self, picture: &mut Vec<u8>) -> io::Result<u8> {
        let mut last = 0;
        loop {
            let byte = self.byte()?;
            picture.push(byte);
            // Stuffed zeros, restart markers and fill bytes belong to the data.
            let is_marker = last == 0xff && !matches!(byte, 0x00 | 0xd0..=0xd7 | 0xff);
            if is_marker {
                return Ok(byte);
            }
            if picture.len() > LARGEST {
                return Err(io::Error::new(ErrorKind::InvalidData, format!("a JPEG of more than {LARGEST} bytes")));
            }
            last = byte;
        }
    }
}

impl<R: Read> Iterator for JpegStream<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.find_start() {
            Ok(true) => match self.picture() {
                // A camera that is switched off ends in the middle of a picture.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => None,
                picture => Some(picture),
            },
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
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

    fn split(stream: &[u8]) -> Vec<Vec<u8>> {
        JpegStream::new(stream).collect::<io::Result<_>>().unwrap()
    }

    #[test]
    fn pictures_are_split_where_they_end_and_not_at_their_thumbnails() {
        let boundary = b"\r\n--frame\r\n".as_slice();
        let stream = [boundary, PICTURE, boundary, PICTURE].concat();
        assert_eq!(split(&stream), [PICTURE, PICTURE]);
    }

    #[test]
    fn a_picture_that_is_cut_off_is_left_out() {
        for end in 2..PICTURE.len() {
            let stream = [PICTURE, &PICTURE[..end]].concat();
            assert_eq!(split(&stream), [PICTURE], "cut after {end} bytes");
        }
    }

    #[test]
    fn a_stream_without_pictures_has_none() {
        assert!(split(b"no pictures here").is_empty());
    }
}
