//! Recognition of file formats by their first bytes, because names and content types of uploads are
//! often wrong.

use image::ImageFormat;

/// Format of a file by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An image format that is decoded here.
    Decoded(ImageFormat),
    /// A known format that is not decoded: its name with an article, and advice for the sender.
    Known(&'static str, &'static str),
    /// An unknown format.
    Unknown,
}

/// The advice for photos in a format of which every device can make a JPEG.
pub(super) const SEND_JPEG: &str = "send it as JPEG, PNG or WebP";

/// The advice for videos.
const SEND_FRAME: &str = "send a single frame as JPEG";

/// The advice for archives.
const UNPACK: &str = "send the images in it one by one";

const HEIC: Kind = Kind::Known(
    "a HEIC photo",
    "send it as JPEG: on an iPhone choose Settings > Camera > Formats > Most Compatible, or convert the photo when you share it",
);

impl Kind {
    /// Recognises a file by its first bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0xff, 0xd8, ..] => Self::Decoded(ImageFormat::Jpeg),
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Self::Decoded(ImageFormat::WebP),
            [b'R', b'I', b'F', b'F', ..] => Self::Known("a video or sound file", SEND_FRAME),
            [_, _, _, _, b'f', b't', b'y', b'p', brands @ ..] => Self::of_brands(bytes, brands),
            [b'B', b'M', ..] if is_bmp(bytes) => Self::Decoded(ImageFormat::Bmp),
            // QuickTime's own files begin with one of these atoms.
            [_, _, _, _, b'm', b'o', b'o', b'v', ..]
            | [_, _, _, _, b'm', b'd', b'a', b't', ..]
            | [_, _, _, _, b'w', b'i', b'd', b'e', ..]
            | [_, _, _, _, b'f', b'r', b'e', b'e', ..]
            | [_, _, _, _, b's', b'k', b'i', b'p', ..]
            | [_, _, _, _, b'p', b'n', b'o', b't', ..] => Self::Known("a video", SEND_FRAME),
            [b'P', b'1'..=b'7', b'\n' | b'\r' | b' ' | b'\t' | b'#', ..] => {
                Self::Known("a PNM or PAM image", SEND_JPEG)
            }
            // Packets of 188 bytes, on disks after a timestamp of four.
            _ if [0, 4].iter().any(|at| {
                [0, 188 + at]
                    .iter()
                    .all(|packet| bytes.get(at + packet) == Some(&0x47))
            }) =>
            {
                Self::Known("a video (MPEG transport stream)", SEND_FRAME)
            }
            _ => {
                let kind =
                    |(start, kind): &(&[u8], Self)| bytes.starts_with(start).then_some(*kind);
                STARTS
                    .iter()
                    .find_map(kind)
                    .unwrap_or_else(|| Self::of_text(bytes))
            }
        }
    }

    /// Recognises a file of ISO 14496-12 by the brands in its first box: the major one, a version,
    /// and those that it is compatible with.
    fn of_brands(bytes: &[u8], brands: &[u8]) -> Self {
        let length = bytes
            .first_chunk()
            .map_or(0, |length| u32::from_be_bytes(*length) as usize)
            .saturating_sub(8);
        let brands = brands.get(..length).unwrap_or(brands);
        let brands: Vec<&[u8; 4]> = brands
            .as_chunks()
            .0
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != 1)
            .map(|(_, brand)| brand)
            .collect();
        let has = |names: &[&[u8; 4]]| brands.iter().any(|brand| names.contains(brand));
        // HEIC and AVIF are both compatible with `mif1`.
        if has(&[b"avif", b"avis"]) {
            Self::Known("an AVIF image", SEND_JPEG)
        } else if has(&[
            b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1",
            b"msf1",
        ]) {
            HEIC
        } else if has(&[b"jxl "]) {
            Self::Known("a JPEG XL image", SEND_JPEG)
        } else if has(&[b"crx "]) {
            Self::Known("a raw photo of a camera (CR3)", SEND_JPEG)
        } else {
            Self::Known("a video", SEND_FRAME)
        }
    }

    /// Recognises formats that are text, after white space and a byte order mark.
    fn of_text(bytes: &[u8]) -> Self {
        let text = bytes
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(bytes)
            .trim_ascii_start();
        let starts = |start: &[u8]| {
            text.get(..start.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(start))
        };
        if starts(b"<svg")
            || (starts(b"<?xml") && text.windows(4).take(1024).any(|part| part == b"<svg"))
        {
            Self::Known("an SVG drawing", SEND_JPEG)
        } else if starts(b"<!doctype html") || starts(b"<html") {
            Self::Known(
                "a web page",
                "check the address that the image was fetched from",
            )
        } else if starts(b"data:image/") || starts(b"/9j/") || starts(b"iVBORw0KGgo") {
            Self::Known("an image as base64 text", "send its bytes")
        } else {
            Self::Unknown
        }
    }
}

/// Returns true for a BMP with a header of a known length: a text can begin with its two letters.
fn is_bmp(bytes: &[u8]) -> bool {
    let length = bytes
        .get(14..18)
        .and_then(<[u8]>::first_chunk)
        .map(|length| u32::from_le_bytes(*length));
    matches!(length, Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124))
}

/// First bytes that identify a format.
const STARTS: &[(&[u8], Kind)] = &[
    (b"\x89PNG\r\n\x1a\n", Kind::Decoded(ImageFormat::Png)),
    (b"GIF87a", Kind::Decoded(ImageFormat::Gif)),
    (b"GIF89a", Kind::Decoded(ImageFormat::Gif)),
    // A raw photo in a TIFF with its own encoding of pixels.
    (
        b"II*\0\x10\0\0\0CR",
        Kind::Known("a raw photo of a camera (CR2)", SEND_JPEG),
    ),
    (
        b"II\x1a\0\0\0HEAPCCDR",
        Kind::Known("a raw photo of a camera (CRW)", SEND_JPEG),
    ),
    (
        b"IIU\0",
        Kind::Known("a raw photo of a camera (RW2)", SEND_JPEG),
    ),
    (
        b"IIRO",
        Kind::Known("a raw photo of a camera (ORF)", SEND_JPEG),
    ),
    (
        b"IIRS",
        Kind::Known("a raw photo of a camera (ORF)", SEND_JPEG),
    ),
    (
        b"MMOR",
        Kind::Known("a raw photo of a camera (ORF)", SEND_JPEG),
    ),
    (
        b"FUJIFILMCCD-RAW",
        Kind::Known("a raw photo of a camera (RAF)", SEND_JPEG),
    ),
    (
        b"\0MRM",
        Kind::Known("a raw photo of a camera (MRW)", SEND_JPEG),
    ),
    (
        b"FOVb",
        Kind::Known("a raw photo of a camera (X3F)", SEND_JPEG),
    ),
    (b"II*\0", Kind::Decoded(ImageFormat::Tiff)),
    (b"MM\0*", Kind::Decoded(ImageFormat::Tiff)),
    (b"II+\0", Kind::Decoded(ImageFormat::Tiff)),
    (b"MM\0+", Kind::Decoded(ImageFormat::Tiff)),
    (b"II\xbc", Kind::Known("a JPEG XR image", SEND_JPEG)),
    (b"\xff\x0a", Kind::Known("a JPEG XL image", SEND_JPEG)),
    (
        b"\0\0\0\x0cJXL \r\n\x87\n",
        Kind::Known("a JPEG XL image", SEND_JPEG),
    ),
    (
        b"\0\0\0\x0cjP  \r\n\x87\n",
        Kind::Known("a JPEG 2000 image", SEND_JPEG),
    ),
    (
        b"\xff\x4f\xff\x51",
        Kind::Known("a JPEG 2000 image", SEND_JPEG),
    ),
    (
        b"8BPS",
        Kind::Known("a Photoshop document (PSD)", SEND_JPEG),
    ),
    (b"\0\0\x01\0", Kind::Known("an icon (ICO)", SEND_JPEG)),
    (
        b"\x76\x2f\x31\x01",
        Kind::Known("an OpenEXR image", SEND_JPEG),
    ),
    (
        b"%PDF-",
        Kind::Known(
            "a PDF document",
            "send the photo in it as JPEG, PNG or WebP",
        ),
    ),
    (b"%!PS", Kind::Known("a PostScript document", SEND_JPEG)),
    (b"PK\x03\x04", Kind::Known("a ZIP archive", UNPACK)),
    (b"\x1f\x8b", Kind::Known("a gzip archive", UNPACK)),
    (
        b"7z\xbc\xaf\x27\x1c",
        Kind::Known("a 7-Zip archive", UNPACK),
    ),
    (b"Rar!\x1a\x07", Kind::Known("a RAR archive", UNPACK)),
    (
        b"\x1a\x45\xdf\xa3",
        Kind::Known("a video (Matroska or WebM)", SEND_FRAME),
    ),
    (b"\0\0\x01\xba", Kind::Known("a video (MPEG)", SEND_FRAME)),
    (b"\0\0\x01\xb3", Kind::Known("a video (MPEG)", SEND_FRAME)),
    (
        b"\0\0\0\x01\x67",
        Kind::Known("a video (H.264)", SEND_FRAME),
    ),
    (
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        Kind::Known("a video (Windows Media)", SEND_FRAME),
    ),
    (b"FLV\x01", Kind::Known("a video (FLV)", SEND_FRAME)),
    // Stored next to a photo that was copied to another system: `._photo.jpg`.
    (
        b"\0\x05\x16\x07",
        Kind::Known(
            "what macOS stores next to a file (AppleDouble)",
            "send the file whose name lacks the leading ._",
        ),
    ),
    (
        b"\0\x05\x16\0",
        Kind::Known(
            "a file in a container of macOS (AppleSingle)",
            "send the file itself",
        ),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn name(bytes: &[u8]) -> &'static str {
        match Kind::of(bytes) {
            Kind::Known(name, advice) => {
                assert!(!advice.is_empty() && !advice.ends_with('.'), "{advice}");
                name
            }
            Kind::Decoded(_) => "decoded",
            Kind::Unknown => "unknown",
        }
    }

    /// Files of phones and cameras are recognised by any of their brands.
    #[test]
    fn kinds_follow_first_bytes() {
        for (bytes, wanted) in [
            (b"\xff\xd8\xff".as_slice(), "decoded"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "decoded"),
            (b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "decoded"),
            (b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x0c\0\0\0", "decoded"),
            (b"BMW is a maker of cars in Munich", "unknown"),
            (b"MM\0*\0\0\0\x08", "decoded"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "a HEIC photo"),
            (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "a HEIC photo"),
            (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "an AVIF image"),
            (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", "an AVIF image"),
            (b"\0\0\0\x14ftypisom\0\0\x02\0mp41", "a video"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
            (b"II*\0\x10\0\0\0CR\x02\0", "a raw photo of a camera (CR2)"),
            (b"%PDF-1.7", "a PDF document"),
            (b"8BPS\0\x01", "a Photoshop document (PSD)"),
            (b"\0\0\x01\0\x01\0\x20\x20", "an icon (ICO)"),
            (b"II\xbc\x01\x20\0\0\0", "a JPEG XR image"),
            (b"P6\n640 480\n255\n", "a PNM or PAM image"),
            (b"P7\nWIDTH 4\n", "a PNM or PAM image"),
            (b"P45 is a form", "unknown"),
            (b"\x1a\x45\xdf\xa3\x01", "a video (Matroska or WebM)"),
            (
                &[&[0x47; 1][..], &[0; 187], &[0x47]].concat(),
                "a video (MPEG transport stream)",
            ),
            (
                &[&[0; 4][..], &[0x47], &[0; 191], &[0x47]].concat(),
                "a video (MPEG transport stream)",
            ),
            (b"\0\0\0\x08wide\0\0\x10\0mdat", "a video"),
            (b"\0\0\x10\0moov\0\0\0\x6cmvhd", "a video"),
            (b"\x1f\x8b\x08\0", "a gzip archive"),
            (
                b"\0\x05\x16\x07\0\x02\0\0Mac OS X",
                "what macOS stores next to a file (AppleDouble)",
            ),
            (b"\n<!DOCTYPE html><p>", "a web page"),
            (b"<?xml version=\"1.0\"?><svg>", "an SVG drawing"),
            (
                b"data:image/jpeg;base64,/9j/4AAQ",
                "an image as base64 text",
            ),
            (b"text", "unknown"),
            (b"", "unknown"),
            (b"\0\0\0\x04ftyp", "a video"),
        ] {
            assert_eq!(name(bytes), wanted, "{bytes:02x?}");
        }
    }
}
