//! Pictures of each format and kind of damage.

use image::{
    ExtendedColorType, ImageEncoder, codecs::jpeg::JpegEncoder, codecs::png::PngEncoder,
    codecs::webp::WebPEncoder,
};

use super::*;

mod budget;
mod damaged;
mod tiff;

const PIXELS: u64 = 1 << 20;

fn png(width: u32, height: u32, colour: ExtendedColorType, samples: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(samples, width, height, colour)
        .unwrap();
    bytes
}

/// A JPEG, left half black and right half white.
fn jpeg(width: u32, height: u32) -> Vec<u8> {
    let samples: Vec<u8> = (0..width * height)
        .flat_map(|index| [if index % width < width / 2 { 0 } else { 255 }; 3])
        .collect();
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 95)
        .write_image(&samples, width, height, ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

/// The JPEG with an EXIF segment that holds an orientation.
fn oriented(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let tiff = [
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
        &[orientation],
        b"\0\0\0\0\0\0",
    ]
    .concat();
    let length = u16::try_from(tiff.len() + 8).unwrap().to_be_bytes();
    [
        &jpeg[..2],
        &[0xff, 0xe1],
        &length,
        b"Exif\0\0",
        &tiff,
        &jpeg[2..],
    ]
    .concat()
}

#[test]
fn png_colour_types_become_rgb() {
    for (colour, samples, wanted) in [
        (ExtendedColorType::L8, vec![7], [7, 7, 7]),
        (ExtendedColorType::La8, vec![7, 0], [7, 7, 7]),
        (ExtendedColorType::Rgb8, vec![1, 2, 3], [1, 2, 3]),
        (ExtendedColorType::Rgba8, vec![1, 2, 3, 0], [1, 2, 3]),
        (
            ExtendedColorType::L16,
            0x0707_u16.to_ne_bytes().to_vec(),
            [7, 7, 7],
        ),
        (
            ExtendedColorType::Rgb16,
            [0x0101_u16, 0x0202, 0x0303]
                .iter()
                .flat_map(|v| v.to_ne_bytes())
                .collect(),
            [1, 2, 3],
        ),
    ] {
        let picture = decode(&png(1, 1, colour, &samples), PIXELS).unwrap();
        assert_eq!(
            (picture.width, picture.height, picture.pixels.as_slice()),
            (1, 1, wanted.as_slice()),
            "{colour:?}"
        );
    }
}

#[test]
fn webp_is_decoded() {
    let mut bytes = Vec::new();
    WebPEncoder::new_lossless(&mut bytes)
        .write_image(&[9, 8, 7], 1, 1, ExtendedColorType::Rgb8)
        .unwrap();
    assert_eq!(decode(&bytes, PIXELS).unwrap().pixels, [9, 8, 7]);
}

#[test]
fn pictures_are_turned_upright() {
    let brightness =
        |picture: &Rgb, x: u32, y: u32| picture.pixels[((y * picture.width + x) * 3) as usize];
    // The white half after each orientation of the EXIF standard: right, left, left, right, then
    // lower or upper.
    for (orientation, size, white) in [
        (1, (32, 16), (28, 8)),
        (2, (32, 16), (4, 8)),
        (3, (32, 16), (4, 8)),
        (4, (32, 16), (28, 8)),
        (5, (16, 32), (8, 28)),
        (6, (16, 32), (8, 28)),
        (7, (16, 32), (8, 4)),
        (8, (16, 32), (8, 4)),
    ] {
        let picture = decode(&oriented(&jpeg(32, 16), orientation), PIXELS).unwrap();
        assert_eq!(
            (picture.width, picture.height),
            size,
            "orientation {orientation}"
        );
        assert!(
            brightness(&picture, white.0, white.1) > 200,
            "orientation {orientation}"
        );
        let black = (size.0 - 1 - white.0, size.1 - 1 - white.1);
        assert!(
            brightness(&picture, black.0, black.1) < 50,
            "orientation {orientation}"
        );
    }
}

/// A JPEG with a width or height of zero in its header is refused.
#[test]
fn jpeg_without_pixels_is_undecodable() {
    let whole = jpeg(64, 32);
    let header = whole
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    // After the marker: the length, the bits of a sample, then the height and the width.
    for side in [header + 5, header + 7] {
        let mut empty = whole.clone();
        empty[side..side + 2].fill(0);
        assert!(matches!(
            decode(&empty, PIXELS),
            Err(DecodeError::Undecodable(_))
        ));
    }
}

#[test]
fn other_files_are_undecodable() {
    for bytes in [
        b"".as_slice(),
        b"text",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a\x01\0\x01\0",
        b"RIFF\0\0\0\0WEBPVP8 ",
        b"BM",
        b"II*\0\x08\0\0\0",
        b"\xff\xd8",
    ] {
        assert!(
            matches!(decode(bytes, PIXELS), Err(DecodeError::Undecodable(_))),
            "{bytes:?}"
        );
    }
}

#[test]
fn oversize_is_refused_by_header() {
    let bytes = png(64, 64, ExtendedColorType::L8, &[0; 4096]);
    assert!(decode(&bytes, 4096).is_ok());
    // The header alone is sufficient for a refusal.
    let error = decode(&png(70_000, 1, ExtendedColorType::L8, &[0; 70_000]), PIXELS).unwrap_err();
    assert_eq!(
        error,
        DecodeError::Undecodable("a side of 70000 pixels; at most 65535 are decoded".to_owned())
    );
    let error = decode(&bytes[..60], 4095).unwrap_err();
    assert_eq!(
        error,
        DecodeError::TooLarge {
            width: 64,
            height: 64,
            max_pixels: 4095
        }
    );
}

/// A coloured JPEG with colour of half the width and half the height.
fn subsampled(width: usize, height: usize) -> Vec<u8> {
    use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};
    let samples: Vec<u8> = (0..3 * width * height)
        .map(|index| (index * index / 7 + index * 31) as u8)
        .collect();
    compress(
        &samples,
        width,
        height,
        PixelFormat::Rgb,
        90,
        Subsampling::S420,
    )
    .unwrap()
}

/// Planes become the pixels that the decoder itself would return.
#[test]
fn planes_match_decoder_pixels() {
    for (width, height) in (1..40).flat_map(|width| [1, 2, 3, 16, 33].map(|height| (width, height)))
    {
        let bytes = subsampled(width, height);
        let wanted =
            libjpeg_turbo_rs::decompress_to(&bytes, libjpeg_turbo_rs::PixelFormat::Rgb).unwrap();
        assert_eq!(
            decode(&bytes, PIXELS).unwrap().pixels,
            wanted.data,
            "{width}×{height}"
        );
    }
}

/// A JPEG is decoded at the smallest sufficient size.
#[test]
fn jpeg_is_decoded_at_sufficient_size() {
    let bytes = subsampled(203, 101);
    for (least, divisor, size) in [
        (204, 1, (203, 101)),
        (203, 1, (203, 101)),
        (102, 2, (102, 51)),
        (51, 4, (51, 26)),
        (26, 8, (26, 13)),
        (0, 8, (26, 13)),
    ] {
        let reduced = decode_at_least(&bytes, PIXELS, least).unwrap();
        assert_eq!(
            (
                reduced.divisor,
                (reduced.picture.width, reduced.picture.height)
            ),
            (divisor, size),
            "at least {least}"
        );
        assert_eq!(
            (reduced.full, reduced.picture.pixels.len()),
            ((203, 101), (3 * size.0 * size.1) as usize)
        );
    }
    let turned = decode_at_least(&oriented(&bytes, 6), PIXELS, 102).unwrap();
    assert_eq!(
        (turned.full, turned.picture.width, turned.picture.height),
        ((101, 203), 51, 102)
    );
    // Other formats have no smaller sizes.
    assert_eq!(
        decode_at_least(&png(64, 64, ExtendedColorType::L8, &[0; 4096]), PIXELS, 8)
            .unwrap()
            .divisor,
        1
    );
}

/// The codes of a picture's flaws.
fn codes(reduced: &Reduced) -> Vec<&'static str> {
    let mut codes: Vec<_> = reduced.flaws.iter().map(|flaw| flaw.code()).collect();
    codes.sort_unstable();
    codes
}

/// Returns the positions of a JPEG's segments up to its first scan's, and of the coded data.
fn places(jpeg: &[u8]) -> (Vec<usize>, usize) {
    let mut places = vec![2];
    loop {
        let at = *places.last().unwrap();
        let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        if jpeg[at + 1] == 0xda {
            return (places, end);
        }
        places.push(end);
    }
}

/// Formats that OpenCV accepted in the replaced service are decoded, or refused by their header if
/// too large.
#[test]
fn bmp_gif_and_tiff_are_decoded() {
    use image::ImageFormat::{Bmp, Gif, Tiff};
    let picture = RgbImage::from_fn(40, 20, |x, _| {
        image::Rgb(if x < 20 { [0, 0, 0] } else { [255, 255, 255] })
    });
    for format in [Bmp, Gif, Tiff] {
        let mut bytes = std::io::Cursor::new(Vec::new());
        DynamicImage::from(picture.clone())
            .write_to(&mut bytes, format)
            .unwrap();
        let bytes = bytes.into_inner();
        let decoded = decode(&bytes, PIXELS).unwrap();
        assert_eq!(
            (decoded.width, decoded.height, decoded.pixels.as_slice()),
            (40, 20, picture.as_raw().as_slice()),
            "{format:?}"
        );
        let error = decode(&bytes, 799).unwrap_err();
        assert_eq!(
            error,
            DecodeError::TooLarge {
                width: 40,
                height: 20,
                max_pixels: 799
            },
            "{format:?}"
        );
        for end in 0..bytes.len() {
            let _ = decode(&bytes[..end], PIXELS);
        }
    }
}

/// The orientation tag of a TIFF may have any integer type.
#[test]
fn tiff_is_turned_upright() {
    let mut bytes = std::io::Cursor::new(Vec::new());
    DynamicImage::from(RgbImage::new(40, 20))
        .write_to(&mut bytes, ImageFormat::Tiff)
        .unwrap();
    let mut bytes = bytes.into_inner();
    // The orientation replaces a tag without effect, in the order of tags.
    let directory = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
    let entries = usize::from(u16::from_le_bytes(
        bytes[directory..directory + 2].try_into().unwrap(),
    ));
    let at = |index: usize| directory + 2 + 12 * index;
    let tag = |bytes: &[u8], index: usize| {
        u16::from_le_bytes(bytes[at(index)..at(index) + 2].try_into().unwrap())
    };
    let resolution = (0..entries)
        .find(|index| tag(&bytes, *index) == 0x11a)
        .unwrap();
    let strips = (0..entries)
        .find(|index| tag(&bytes, *index) == 0x111)
        .unwrap();
    let moved = bytes[at(strips + 1)..at(resolution)].to_vec();
    for kind in [3_u16, 4] {
        let entry = [
            &0x112_u16.to_le_bytes()[..],
            &kind.to_le_bytes(),
            &1_u32.to_le_bytes(),
            &6_u32.to_le_bytes(),
        ]
        .concat();
        bytes.splice(
            at(strips + 1)..at(resolution + 1),
            [entry, moved.clone()].concat(),
        );
        let picture = decode(&bytes, PIXELS).unwrap();
        assert_eq!((picture.width, picture.height), (20, 40), "type {kind}");
    }
}

/// Some writers put the prefix of JPEG's EXIF segment into the chunk of a WebP, and others store
/// the orientation as LONG.
#[test]
fn webp_is_turned_upright() {
    let mut plain = Vec::new();
    WebPEncoder::new_lossless(&mut plain)
        .write_image(&[7; 40 * 20 * 3], 40, 20, ExtendedColorType::Rgb8)
        .unwrap();
    for (prefix, kind, value) in [
        (b"".as_slice(), 3, b"\x06\0\0\0"),
        (b"Exif\0\0", 3, b"\x06\0\0\0"),
        (b"Exif\0\0", 4, b"\x06\0\0\0"),
    ] {
        let exif = [
            prefix,
            b"II*\0\x08\0\0\0\x01\0\x12\x01",
            &[kind, 0],
            b"\x01\0\0\0",
            value,
            &[0; 4],
        ]
        .concat();
        let chunk = |name: &[u8], body: &[u8]| {
            [
                name,
                &(body.len() as u32).to_le_bytes(),
                body,
                &[0][..body.len() % 2],
            ]
            .concat()
        };
        let extended = chunk(b"VP8X", &[8, 0, 0, 0, 39, 0, 0, 19, 0, 0]);
        let body = [
            b"WEBP".as_slice(),
            &extended,
            &plain[12..],
            &chunk(b"EXIF", &exif),
        ]
        .concat();
        let picture = decode(&chunk(b"RIFF", &body), PIXELS).unwrap();
        assert_eq!((picture.width, picture.height), (20, 40), "{exif:02x?}");
    }
}

/// A JPEG as large as phones make them: `rows` times the same row of blocks, `width` pixels wide.
fn tall(width: usize, rows: usize) -> Vec<u8> {
    use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
    let samples: Vec<u8> = (0..16 * width)
        .flat_map(|index| [(index % width / 64) as u8; 3])
        .collect();
    let one = Encoder::new(&samples, width, 16, PixelFormat::Rgb)
        .subsampling(Subsampling::S420)
        .restart_rows(1)
        .encode()
        .unwrap();
    let (places, data) = places(&one);
    let frame = *places.iter().find(|at| one[**at + 1] == 0xc0).unwrap();
    let mut bytes = one[..data].to_vec();
    bytes[frame + 5..frame + 7].copy_from_slice(&(16 * rows as u16).to_be_bytes());
    for row in 0..rows {
        bytes.extend(&one[data..one.len() - 2]);
        bytes.extend([
            0xff,
            if row + 1 == rows {
                0xd9
            } else {
                0xd0 | (row % 8) as u8
            },
        ]);
    }
    bytes
}

/// Pictures of many megapixels are decoded at the largest size within the limit, and report their
/// full size.
#[test]
fn jpeg_above_limit_is_reduced() {
    let bytes = tall(320, 20);
    for (max_pixels, divisor) in [
        (102_400, 1),
        (102_399, 2),
        (25_600, 2),
        (25_599, 4),
        (6_399, 8),
        (1_600, 8),
    ] {
        let reduced = decode_at_least(&bytes, max_pixels, u32::MAX).unwrap();
        assert_eq!(
            (reduced.full, reduced.divisor, reduced.least_divisor),
            ((320, 320), divisor, divisor),
            "{max_pixels}"
        );
        assert_eq!(
            (reduced.picture.width, reduced.flaws),
            (320 / divisor, vec![]),
            "{max_pixels}"
        );
        // A caller that needs fewer pixels gets fewer.
        assert_eq!(decode_at_least(&bytes, max_pixels, 1).unwrap().divisor, 8);
    }
    let error = decode_at_least(&bytes, 1_599, 1).unwrap_err();
    assert_eq!(
        error,
        DecodeError::TooLarge {
            width: 320,
            height: 320,
            max_pixels: 64 * 1_599
        }
    );
    assert!(matches!(
        decode(&bytes, 102_399),
        Err(DecodeError::TooLarge {
            max_pixels: 102_399,
            ..
        })
    ));
    // More pixels than the decoder reads at all.
    let mut huge = bytes.clone();
    let frame = *places(&bytes)
        .0
        .iter()
        .find(|at| bytes[**at + 1] == 0xc0)
        .unwrap();
    huge[frame + 5..frame + 9].copy_from_slice(&[0x40, 0, 0x40, 0]);
    let error = decode_at_least(&huge, 40_000_000, 1).unwrap_err();
    assert_eq!(
        error,
        DecodeError::TooLarge {
            width: 16384,
            height: 16384,
            max_pixels: 250_000_000
        }
    );
}

/// The largest pictures of phones fit the memory of a guest.
#[test]
fn two_hundred_megapixels_are_decoded() {
    let bytes = tall(16_320, 764);
    let reduced = decode_at_least(&bytes, 40_000_000, u32::MAX).unwrap();
    assert_eq!((reduced.full, reduced.divisor), ((16_320, 12_224), 4));
    assert_eq!(
        (reduced.picture.width, reduced.picture.height),
        (4_080, 3_056)
    );
}

/// A progressive picture needs memory for all its coefficients, and is refused without it.
#[test]
fn progressive_jpeg_must_fit_memory() {
    use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
    let samples = vec![90; 3 * 1024 * 1024];
    let bytes = Encoder::new(&samples, 1024, 1024, PixelFormat::Rgb)
        .subsampling(Subsampling::S420)
        .progressive(true)
        .encode()
        .unwrap();
    let within = |memory: u64| {
        decode_within(
            &bytes,
            Budget {
                max_pixels: 40_000_000,
                memory: memory << 20,
            },
            u32::MAX,
        )
    };
    for (memory, divisor) in [(64, 1), (19, 1), (14, 2), (13, 4)] {
        assert_eq!(within(memory).unwrap().divisor, divisor, "{memory} MiB");
    }
    let error = within(12).unwrap_err().to_string();
    assert!(
        error.contains("progressive JPEG of 1024×1024 pixels")
            && error.contains("the limit memory-mib of 12"),
        "{error}"
    );
}

/// Adobe's CMYK becomes RGB.
#[test]
fn cmyk_becomes_rgb() {
    use libjpeg_turbo_rs::{Encoder, PixelFormat};
    let samples: Vec<u8> = (0..64 * 64).flat_map(|_| [200, 100, 50, 255]).collect();
    let bytes = Encoder::new(&samples, 64, 64, PixelFormat::Cmyk)
        .encode()
        .unwrap();
    let reduced = decode_at_least(&bytes, PIXELS, 32).unwrap();
    assert_eq!(reduced.divisor, 2);
    for (value, wanted) in reduced.picture.pixels[..3].iter().zip([200_u8, 100, 50]) {
        assert!(
            value.abs_diff(wanted) < 4,
            "{:?}",
            &reduced.picture.pixels[..3]
        );
    }
}
