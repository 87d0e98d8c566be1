//! Initial pictures, and checksums.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, imageops::FilterType};

use crate::seed;

/// Limit of pixels: low, so that runs are fast and oversized pictures are found soon.
pub const PIXELS: u64 = 1 << 16;

/// Writes a small drawn face in every format and its variants.
pub fn seeds() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/testing/frames/alice-1.png");
    let drawn =
        image::open(path)
            .expect("the repository's picture")
            .resize(52, 52, FilterType::Triangle);
    let encoded = |picture: &DynamicImage, format| {
        let mut bytes = Cursor::new(Vec::new());
        picture
            .write_to(&mut bytes, format)
            .expect("memory takes it");
        bytes.into_inner()
    };
    let (colour, grey) = (
        DynamicImage::from(drawn.to_rgb8()),
        DynamicImage::from(drawn.to_luma8()),
    );
    let formats = [
        ("png", ImageFormat::Png),
        ("jpg", ImageFormat::Jpeg),
        ("webp", ImageFormat::WebP),
        ("bmp", ImageFormat::Bmp),
        ("gif", ImageFormat::Gif),
        ("tiff", ImageFormat::Tiff),
    ];
    for (extension, format) in formats {
        seed(&format!("colour.{extension}"), &encoded(&colour, format));
        // GIF has no grey pictures.
        if format != ImageFormat::Gif {
            seed(&format!("grey.{extension}"), &encoded(&grey, format));
        }
    }
    seed(
        "alpha.png",
        &encoded(
            &DynamicImage::from(drawn.to_luma_alpha8()),
            ImageFormat::Png,
        ),
    );
    seed(
        "deep.png",
        &encoded(&DynamicImage::from(drawn.to_rgba16()), ImageFormat::Png),
    );
    // As cameras write: rotated, with subsampled colour, and in several scans.
    let jpeg = encoded(&colour, ImageFormat::Jpeg);
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let length = (exif.len() as u16 + 2).to_be_bytes();
    seed(
        "turned.jpg",
        &[&jpeg[..2], &[0xff, 0xe1], &length, exif, &jpeg[2..]].concat(),
    );
    let pixels = colour.to_rgb8();
    let encoder = || {
        libjpeg_turbo_rs::Encoder::new(
            &pixels,
            colour.width() as usize,
            colour.height() as usize,
            libjpeg_turbo_rs::PixelFormat::Rgb,
        )
        .subsampling(libjpeg_turbo_rs::Subsampling::S420)
    };
    // Damage of cameras and networks.
    seed("stray.jpg", &[&jpeg[..2], b"\0stray", &jpeg[2..]].concat());
    seed("cut-off.jpg", &jpeg[..jpeg.len() * 2 / 3]);
    seed("padded.jpg", &[&jpeg[..jpeg.len() - 2], &[0; 64]].concat());
    let restarts = encoder().restart_rows(1).encode().expect("a picture");
    let middle = restarts.len() * 2 / 3;
    seed("restarts.jpg", &restarts);
    seed(
        "lost-packet.jpg",
        &[&restarts[..middle], &restarts[middle + 40..]].concat(),
    );
    seed("subsampled.jpg", &encoder().encode().expect("a picture"));
    let half_width = encoder().subsampling(libjpeg_turbo_rs::Subsampling::S422);
    seed("half-width.jpg", &half_width.encode().expect("a picture"));
    seed(
        "progressive.jpg",
        &encoder().progressive(true).encode().expect("a picture"),
    );
    seed(
        "arithmetic.jpg",
        &encoder().arithmetic(true).encode().expect("a picture"),
    );
}

/// Returns a PNG with correct checksums of its chunks, and any other input unchanged. The crate
/// `png` ignores checksums when it is built for fuzzing. Other programs would refuse such inputs
/// before they read them.
pub fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
    let mut mended = bytes.to_vec();
    let mut rest = if bytes.starts_with(SIGNATURE) {
        &mut mended[SIGNATURE.len()..]
    } else {
        &mut []
    };
    while let Some((length, after)) = rest.split_first_chunk_mut() {
        // The checksum also covers the name of the chunk.
        let covered = (u32::from_be_bytes(*length) as usize).saturating_add(4);
        let Some((covered, after)) = after.split_at_mut_checked(covered) else {
            break;
        };
        let Some((checksum, after)) = after.split_first_chunk_mut() else {
            break;
        };
        *checksum = crc32fast::hash(covered).to_be_bytes();
        rest = after;
    }
    mended
}
