//! Clips of people who stay: they sway, the light changes, and the sensor is noisy.

use std::f32::consts::TAU;

use anyhow::Result;
use bytes::Bytes;
use fastrand::Rng;
use image::RgbImage;
use rostro_sdk::geometry::Rect;

use crate::picture::{Noise, jpeg, sample};

/// Number of different frames.
pub(crate) const FRAMES: usize = 48;

/// Standard deviation of the noise, of 255.
const NOISE: f32 = 2.0;

/// Largest change of the light.
const LIGHT: f32 = 0.12;

/// Movement of a face in sides of it, to each side.
const SWAY: f32 = 0.12;

/// Frames of a movement to and fro.
const PERIOD: (f32, f32) = (20.0, 50.0);

/// A face that sways around its place.
struct Sway {
    center: [f32; 2],
    side: f32,
    phases: [f32; 2],
    periods: [f32; 2],
}

impl Sway {
    fn new(face: &Rect, random: &mut Rng) -> Self {
        let (from, to) = PERIOD;
        Self {
            center: [(face.x1 + face.x2) / 2.0, (face.y1 + face.y2) / 2.0],
            side: ((face.x2 - face.x1) * (face.y2 - face.y1)).sqrt(),
            phases: [0, 1].map(|_| TAU * random.f32()),
            periods: [0, 1].map(|_| from + (to - from) * random.f32()),
        }
    }

    /// Returns how far the face is from its place, in pixels.
    fn offset(&self, frame: usize) -> [f32; 2] {
        [0, 1].map(|axis| {
            let angle = TAU * frame as f32 / self.periods[axis] + self.phases[axis];
            SWAY * self.side * angle.sin() / (1 + axis) as f32
        })
    }

    /// Adds to each pixel how far it moves, less with each pixel from the face's centre.
    fn move_pixels(&self, movement: &mut Movement, number: usize) {
        let offset = self.offset(number);
        let reach = 1.5 * self.side;
        let limit = |value: f32, length: usize| (value.max(0.0) as usize).min(length);
        let [x, y] = self.center;
        for row in limit(y - reach, movement.height)..limit(y + reach, movement.height) {
            for column in limit(x - reach, movement.width)..limit(x + reach, movement.width) {
                let distance = ((column as f32 - x).hypot(row as f32 - y) / reach).min(1.0);
                // The whole face moves alike, and the edge stays.
                let share = (2.0 - 2.0 * distance).min(1.0);
                let pixel = &mut movement.pixels[row * movement.width + column];
                pixel[0] += share * offset[0];
                pixel[1] += share * offset[1];
                pixel[2] += share;
            }
        }
    }
}

/// How far each pixel of a frame moves.
struct Movement {
    width: usize,
    height: usize,
    /// Sums of weighted offsets, and of the weights.
    pixels: Vec<[f32; 3]>,
}

impl Movement {
    fn draw(&self, picture: &RgbImage) -> RgbImage {
        let mut frame = picture.clone();
        for (index, [x, y, weight]) in self.pixels.iter().enumerate() {
            if *weight > 0.0 {
                let (row, column) = (index / self.width, index % self.width);
                let weight = weight.max(1.0);
                let (x, y) = (column as f32 - x / weight, row as f32 - y / weight);
                if let Some(color) = sample(picture, x, y) {
                    let pixel = frame.get_pixel_mut(column as u32, row as u32);
                    pixel.0 = color.map(|value| value.round() as u8);
                }
            }
        }
        frame
    }
}

/// Returns the frames of a picture with swaying faces.
pub(crate) fn staying(picture: &RgbImage, faces: &[Rect], random: &mut Rng) -> Result<Vec<Bytes>> {
    let noise = Noise::new(random);
    let sways: Vec<Sway> = faces.iter().map(|face| Sway::new(face, random)).collect();
    let mut clip = Vec::with_capacity(FRAMES);
    for number in 0..FRAMES {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let mut movement = Movement {
            width,
            height,
            pixels: vec![[0.0; 3]; width * height],
        };
        for sway in &sways {
            sway.move_pixels(&mut movement, number);
        }
        let mut frame = movement.draw(picture);
        let light = 1.0 + LIGHT * (TAU * number as f32 / FRAMES as f32).sin();
        noise.apply(&mut frame, light, NOISE, random);
        clip.push(jpeg(&frame)?);
    }
    Ok(clip)
}

/// Returns the frame of a clip that is played to its end and back, for ever.
pub(crate) fn to_and_fro(clip: &[Bytes], number: usize) -> Bytes {
    let turn = 2 * clip.len() - 2;
    let place = number % turn;
    clip[place.min(turn - place)].clone()
}
