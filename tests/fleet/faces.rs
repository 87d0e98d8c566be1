//! Drawn people: any id has a face of its own, which the models of the pack `testing` tell apart.
//!
//! `models/testing/make.py` draws such faces with more care. A face is five landmark dots on a skin
//! with six coloured regions, and the colours make the person.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};

/// Landmark dots of the template, in pixels of the aligned crop, with their colours.
const LANDMARKS: [([f32; 2], [u8; 3]); 5] = [
    ([38.2946, 51.6963], [0, 0, 255]),
    ([73.5318, 51.5014], [0, 255, 0]),
    ([56.0252, 71.7366], [255, 0, 0]),
    ([41.5493, 92.3655], [255, 0, 255]),
    ([70.7299, 92.2041], [0, 255, 255]),
];

/// Radius of a dot in the crop.
const DOT: f32 = 4.2;

/// Left, upper, right and lower edge of each region in the crop.
const REGIONS: [[f32; 4]; 6] = [
    [32.0, 16.0, 56.0, 42.0],
    [56.0, 16.0, 80.0, 42.0],
    [18.0, 58.0, 38.0, 84.0],
    [74.0, 58.0, 94.0, 84.0],
    [45.0, 97.0, 67.0, 109.0],
    [48.0, 42.0, 64.0, 64.0],
];

const SKIN: [u8; 3] = [176, 150, 128];
const GROUND: [u8; 3] = [120, 130, 140];

/// Pixels of the picture for each pixel of the crop.
const SCALE: f32 = 1.25;

/// Place of the crop's upper left corner in the picture.
const ORIGIN: [f32; 2] = [80.0, 30.0];

/// Draws a person's face, as PNG.
pub(crate) fn picture(person: &str) -> Vec<u8> {
    let colours = colours(person);
    let drawn = RgbImage::from_fn(320, 240, |x, y| {
        let [x, y] = [(x, ORIGIN[0]), (y, ORIGIN[1])]
            .map(|(pixel, origin)| (pixel as f32 + 0.5 - origin) / SCALE);
        Rgb(colour_at(&colours, x, y))
    });
    let mut bytes = Cursor::new(Vec::new());
    drawn.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn colour_at(colours: &[[u8; 3]; 6], x: f32, y: f32) -> [u8; 3] {
    let dot = LANDMARKS
        .iter()
        .find(|([left, top], _)| (x - left).hypot(y - top) <= DOT);
    if let Some((_, colour)) = dot {
        return *colour;
    }
    let region = REGIONS.iter().zip(colours).rev().find(|(region, _)| {
        let [left, upper, right, lower] = **region;
        (left..right).contains(&x) && (upper..lower).contains(&y)
    });
    let is_skin = ((x - 56.0) / 37.0).hypot((y - 60.0) / 49.0) <= 1.0;
    match region {
        Some((_, colour)) => *colour,
        None if is_skin => SKIN,
        None => GROUND,
    }
}

/// Returns the colours of a person's regions, which depend on the id alone.
fn colours(person: &str) -> [[u8; 3]; 6] {
    let seed = person.bytes().fold(2026_u64, |seed, byte| {
        seed.wrapping_mul(1_000_003) ^ u64::from(byte)
    });
    let mut rng = fastrand::Rng::with_seed(seed);
    [[(); 3]; 6].map(|region| region.map(|()| rng.u8(70..186)))
}
