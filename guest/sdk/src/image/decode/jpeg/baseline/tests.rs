//! Every file has the pixels of `libjpeg-turbo-rs`, or is left to it.

use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
use proptest::prelude::*;

use super::property::holds;

/// Smooth colours with some noise, as photos have.
fn photo(width: usize, height: usize) -> Vec<u8> {
    (0..width * height)
        .flat_map(|index| {
            let (x, y) = (index % width, index / width);
            let noise = ((index as u32).wrapping_mul(2_654_435_761) >> 28) as u8;
            [
                (3 * x) as u8 ^ (noise >> 1),
                (2 * y) as u8 ^ noise,
                (x + y) as u8,
            ]
        })
        .collect()
}

fn encoder(pixels: &[u8], width: usize, height: usize, subsampling: Subsampling) -> Encoder<'_> {
    Encoder::new(pixels, width, height, PixelFormat::Rgb).subsampling(subsampling)
}

const USUAL: [Subsampling; 3] = [Subsampling::S420, Subsampling::S422, Subsampling::S444];

#[test]
fn pixels_equal_plain_decode() {
    for (width, height) in [
        (1, 1),
        (2, 2),
        (3, 5),
        (5, 40),
        (8, 8),
        (15, 16),
        (16, 17),
        (33, 31),
        (130, 67),
        (200, 150),
    ] {
        let pixels = photo(width, height);
        for subsampling in USUAL {
            for quality in [30, 75, 90, 100] {
                for is_optimized in [false, true] {
                    let bytes = encoder(&pixels, width, height, subsampling)
                        .quality(quality)
                        .optimize_huffman(is_optimized)
                        .encode()
                        .unwrap();
                    let what = format!("{width}×{height} {subsampling:?} {quality} {is_optimized}");
                    assert!(holds(&bytes), "{what}");
                }
            }
        }
    }
}

/// Pictures without any smoothness have the largest coefficients and the longest codes.
#[test]
fn noise_equals_plain_decode() {
    let (width, height) = (96, 80);
    let noise = |index: usize| ((index as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
    let black_white = |index: usize| if noise(index) < 128 { 0 } else { 255 };
    let (all, extremes): (Vec<u8>, Vec<u8>) = (0..3 * width * height)
        .map(|index| (noise(index), black_white(index)))
        .unzip();
    for pixels in [all, extremes] {
        for subsampling in USUAL {
            for quality in [30, 50, 98, 100] {
                let bytes = encoder(&pixels, width, height, subsampling)
                    .quality(quality)
                    .encode()
                    .unwrap();
                assert!(holds(&bytes), "{subsampling:?} {quality}");
            }
        }
    }
}

#[test]
fn restart_markers_are_read() {
    let (width, height) = (100, 80);
    let pixels = photo(width, height);
    for subsampling in USUAL {
        for interval in [1, 3, 7] {
            let bytes = encoder(&pixels, width, height, subsampling)
                .restart_blocks(interval)
                .encode()
                .unwrap();
            assert!(holds(&bytes), "{subsampling:?} {interval}");
            // Another number, a missing marker, and stray bytes before one.
            let at = bytes
                .windows(2)
                .position(|pair| pair == [0xff, 0xd0])
                .unwrap();
            let mut renumbered = bytes.clone();
            renumbered[at + 1] = 0xd1;
            let missing = [&bytes[..at], &bytes[at + 2..]].concat();
            let stray = [&bytes[..at], &[0x12, 0x34], &bytes[at..]].concat();
            for broken in [renumbered, missing, stray] {
                assert!(!holds(&broken));
            }
        }
    }
}

#[test]
fn other_kinds_are_left_out() {
    let (width, height) = (64, 48);
    let pixels = photo(width, height);
    let encoder = |subsampling| encoder(&pixels, width, height, subsampling);
    let usual = encoder(Subsampling::S420).encode().unwrap();
    assert!(holds(&usual));
    let grey = vec![90; width * height];
    let grey = Encoder::new(&grey, width, height, PixelFormat::Grayscale);
    let cmyk = vec![90; 4 * width * height];
    let cmyk = Encoder::new(&cmyk, width, height, PixelFormat::Cmyk);
    for (what, encoder) in [
        ("grey", grey),
        ("cmyk", cmyk),
        ("half height", encoder(Subsampling::S440)),
        ("quarter", encoder(Subsampling::S411)),
        ("progressive", encoder(Subsampling::S420).progressive(true)),
        ("arithmetic", encoder(Subsampling::S420).arithmetic(true)),
    ] {
        assert!(!holds(&encoder.encode().unwrap()), "{what}");
    }
    let end = usual.len() - 2;
    for (what, bytes) in [
        ("no end", usual[..end].to_vec()),
        ("cut off", usual[..end - 100].to_vec()),
        (
            "a byte before the end",
            [&usual[..end], &[0x5a], &usual[end..]].concat(),
        ),
        (
            "a byte before the tables",
            [&usual[..2], &[0x5a], &usual[2..]].concat(),
        ),
        ("no JPEG", b"GIF89a".to_vec()),
        ("empty", Vec::new()),
    ] {
        assert!(!holds(&bytes), "{what}");
    }
    // Cameras write notes and previews after the end.
    assert!(holds(&[&usual[..], b"notes"].concat()));
}

proptest! {
    /// Damage gives the same pixels, flaws or errors.
    #[test]
    fn damage_is_handled_equally(
        changes in prop::collection::vec((0.0..1.0, any::<u8>()), 1..4),
        mode in 0_usize..3,
    ) {
        let bytes = encoder(&photo(70, 50), 70, 50, USUAL[mode]).encode().unwrap();
        let mut damaged = bytes.clone();
        for (place, value) in changes {
            damaged[(place * bytes.len() as f64) as usize] = value;
        }
        holds(&damaged);
    }
}
