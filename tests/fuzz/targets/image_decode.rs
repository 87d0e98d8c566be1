//! A picture, decoded by the code that decodes it in the sandbox: whole, as for enrolment, and at less than its size, as for recognition.
#![no_main]

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, imageops::FilterType};
use libfuzzer_sys::fuzz_target;
use rostro_fuzz::seed;
use rostro_sdk::decode::{DecodeError, Reduced, decode_at_least};

/// The most pixels: few, so that runs are quick and what is too large is found soon.
const PIXELS: u64 = 1 << 16;

/// The longest side of any picture.
const LONGEST_SIDE: u32 = 65_535;

/// A drawn face, small, in each format and in forms of each.
fn seeds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/testing/frames/alice-1.png");
    let drawn = image::open(path).expect("the repository's picture").resize(52, 52, FilterType::Triangle);
    let encoded = |picture: &DynamicImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).expect("memory takes it");
        bytes.into_inner()
    };
    let (colour, grey) = (DynamicImage::from(drawn.to_rgb8()), DynamicImage::from(drawn.to_luma8()));
    for (extension, format) in [("png", ImageFormat::Png), ("jpg", ImageFormat::Jpeg), ("webp", ImageFormat::WebP)] {
        seed(&format!("colour.{extension}"), &encoded(&colour, format));
        seed(&format!("grey.{extension}"), &encoded(&grey, format));
    }
    seed("alpha.png", &encoded(&DynamicImage::from(drawn.to_luma_alpha8()), ImageFormat::Png));
    seed("deep.png", &encoded(&DynamicImage::from(drawn.to_rgba16()), ImageFormat::Png));
    // As cameras write: turned, its colour at half the size, and in several scans.
    let jpeg = encoded(&colour, ImageFormat::Jpeg);
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let length = (exif.len() as u16 + 2).to_be_bytes();
    seed("turned.jpg", &[&jpeg[..2], &[0xff, 0xe1], &length, exif, &jpeg[2..]].concat());
    let pixels = colour.to_rgb8();
    let encoder = || {
        libjpeg_turbo_rs::Encoder::new(&pixels, colour.width() as usize, colour.height() as usize, libjpeg_turbo_rs::PixelFormat::Rgb)
            .subsampling(libjpeg_turbo_rs::Subsampling::S420)
    };
    seed("subsampled.jpg", &encoder().encode().expect("a picture"));
    seed("progressive.jpg", &encoder().progressive(true).encode().expect("a picture"));
    seed("arithmetic.jpg", &encoder().arithmetic(true).encode().expect("a picture"));
}

fn check(decoded: &Reduced, least: u32) {
    let (width, height) = decoded.full;
    assert!(width > 0 && height > 0 && width.max(height) <= LONGEST_SIDE && u64::from(width) * u64::from(height) <= PIXELS);
    assert!([1, 2, 4, 8].contains(&decoded.divisor));
    let picture = &decoded.picture;
    assert_eq!((picture.width, picture.height), (width.div_ceil(decoded.divisor), height.div_ceil(decoded.divisor)));
    assert_eq!(picture.pixels.len() as u64, 3 * u64::from(picture.width) * u64::from(picture.height));
    assert!(decoded.divisor == 1 || picture.width.max(picture.height) >= least);
}

fuzz_target!(init: seeds(), |bytes: &[u8]| {
    let whole = match decode_at_least(bytes, PIXELS, u32::MAX) {
        Ok(whole) => whole,
        Err(DecodeError::TooLarge { width, height, max_pixels }) => {
            assert!(max_pixels == PIXELS && u64::from(width) * u64::from(height) > PIXELS);
            return;
        }
        // Of its own fault: a scan that cannot be decoded whole need not be decoded smaller.
        Err(DecodeError::Undecodable(why)) => {
            assert!(!why.is_empty());
            return;
        }
    };
    assert_eq!(whole.divisor, 1);
    check(&whole, u32::MAX);
    let (width, height) = whole.full;
    let divisor = [2, 4, 8, 16][bytes.len() % 4];
    let least = width.max(height).div_ceil(divisor);
    if let Ok(smaller) = decode_at_least(bytes, PIXELS, least) {
        assert_eq!(smaller.full, whole.full);
        check(&smaller, least);
    }
    // The limit is the picture's own size and not less.
    let pixels = u64::from(width) * u64::from(height);
    assert!(matches!(decode_at_least(bytes, pixels - 1, u32::MAX), Err(DecodeError::TooLarge { .. } | DecodeError::Undecodable(_))));
});
