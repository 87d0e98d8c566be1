//! Heads cut out of photos, drawn at any place, turned, blurred and covered.

use anyhow::{Context as _, Result};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use rostro_sdk::geometry::Rect;

use crate::picture::{blend, jpeg, open, sample};
use crate::service::{LocalService, student};

/// Steps of blur.
const BLURS: usize = 4;

/// Standard deviation of a step's blur, in sides of the face.
const BLUR: f32 = 0.022;

/// Distance from a face's centre to the end of its head, in sides of the face.
const REACH: f32 = 1.3;

/// A photo of one person and their face in it.
#[derive(Clone)]
pub(crate) struct Portrait {
    pub(crate) id: String,
    photo: RgbImage,
    bounds: Rect,
    landmarks: Vec<[f32; 2]>,
}

/// A head of one size.
pub(crate) struct Head {
    /// From sharp to blurred.
    pictures: Vec<RgbImage>,
    /// Centre of the face in them.
    center: [f32; 2],
    /// Width and height of the face.
    pub(crate) size: [f32; 2],
}

/// Where and how a head is drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pose {
    /// Centre of the face.
    pub(crate) center: [f32; 2],
    /// Angle in radians.
    pub(crate) angle: f32,
    /// 0 for sharp to 1.
    pub(crate) blur: f32,
    /// A bar before the face: its centre and half of its height, from the face's centre in heights
    /// of the face.
    pub(crate) bar: Option<[f32; 2]>,
}

impl Portrait {
    /// Opens the photo of a student that is not enrolled.
    pub(crate) fn of(service: &LocalService, id: &str) -> Result<Self> {
        let photo = open(&student(id, "test"))?;
        let faces = service.faces(jpeg(&photo)?)?;
        let face = faces.into_iter().next();
        let face = face.with_context(|| format!("no face in the photo of {id}"))?;
        Ok(Self {
            id: id.to_owned(),
            photo,
            bounds: face.bounds,
            landmarks: face.landmarks,
        })
    }

    /// Returns a stranger: this face with a share of another one, landmark on landmark.
    pub(crate) fn blended(&self, other: &Self, share: f32) -> Self {
        // The least squares of rotation, scale and offset, as one complex factor.
        let mean = |points: &[[f32; 2]]| {
            let count = points.len() as f32;
            [0, 1].map(|axis| points.iter().map(|point| point[axis]).sum::<f32>() / count)
        };
        let (from, to) = (mean(&self.landmarks), mean(&other.landmarks));
        let (mut real, mut imaginary, mut square) = (0.0, 0.0, 0.0);
        for (a, b) in self.landmarks.iter().zip(&other.landmarks) {
            let (a, b) = (
                [a[0] - from[0], a[1] - from[1]],
                [b[0] - to[0], b[1] - to[1]],
            );
            real += a[0] * b[0] + a[1] * b[1];
            imaginary += a[0] * b[1] - a[1] * b[0];
            square += a[0] * a[0] + a[1] * a[1];
        }
        let factor = [real / square, imaginary / square];
        let mut photo = self.photo.clone();
        let (center, [width, height]) = center_and_size(&self.bounds);
        let side = (width * height).sqrt();
        for (x, y, pixel) in photo.enumerate_pixels_mut() {
            let offset = [x as f32 - center[0], y as f32 - center[1]];
            let alpha = share * edge(offset[0] / side, offset[1] / side);
            let place = [x as f32 - from[0], y as f32 - from[1]];
            let source = [
                to[0] + factor[0] * place[0] - factor[1] * place[1],
                to[1] + factor[1] * place[0] + factor[0] * place[1],
            ];
            if alpha > 0.0
                && let Some(color) = sample(&other.photo, source[0], source[1])
            {
                blend(pixel, color, alpha);
            }
        }
        Self {
            id: format!("{} like {}", self.id, other.id),
            photo,
            bounds: self.bounds,
            landmarks: self.landmarks.clone(),
        }
    }

    /// Returns the head with a face of this side.
    pub(crate) fn head(&self, side: f32) -> Head {
        let (center, [width, height]) = center_and_size(&self.bounds);
        let scale = side / (width * height).sqrt();
        let length = |pixels: u32| ((pixels as f32 * scale) as u32).max(1);
        let photo = imageops::resize(
            &self.photo,
            length(self.photo.width()),
            length(self.photo.height()),
            FilterType::Triangle,
        );
        let corner = center.map(|place| ((place * scale - 1.5 * side).max(0.0)) as u32);
        let length = (3.0 * side) as u32;
        let sharp = imageops::crop_imm(&photo, corner[0], corner[1], length, length).to_image();
        let blurred = (1..BLURS).map(|step| imageops::blur(&sharp, BLUR * step as f32 * side));
        let pictures = std::iter::once(sharp.clone()).chain(blurred).collect();
        Head {
            pictures,
            center: [0, 1].map(|axis| center[axis] * scale - corner[axis] as f32),
            size: [width * scale, height * scale],
        }
    }
}

impl Head {
    /// Returns the side of the face.
    pub(crate) fn side(&self) -> f32 {
        (self.size[0] * self.size[1]).sqrt()
    }

    /// Returns the face's box in a pose.
    pub(crate) fn bounds(&self, pose: &Pose) -> Rect {
        let [width, height] = self.size.map(|length| length / 2.0);
        let [x, y] = pose.center;
        Rect {
            x1: x - width,
            y1: y - height,
            x2: x + width,
            y2: y + height,
        }
    }

    /// Draws the head.
    pub(crate) fn draw(&self, frame: &mut RgbImage, pose: &Pose) {
        let side = self.side();
        let (sin, cos) = pose.angle.sin_cos();
        let step = (pose.blur.clamp(0.0, 1.0) * (BLURS - 1) as f32).round() as usize;
        let picture = &self.pictures[step];
        let [x, y] = pose.center;
        for_pixels(frame, pose.center, REACH * side, |column, row, pixel| {
            let (dx, dy) = (column as f32 - x, row as f32 - y);
            let (dx, dy) = (cos * dx + sin * dy, cos * dy - sin * dx);
            let alpha = edge(dx / side, dy / side);
            let is_barred = pose
                .bar
                .is_some_and(|[center, half]| (dy / self.size[1] - center).abs() < half);
            if is_barred && dx.abs() < 0.8 * self.size[0] {
                *pixel = Rgb([70, 60, 55]);
            } else if alpha > 0.0
                && let Some(color) = sample(picture, self.center[0] + dx, self.center[1] + dy)
            {
                blend(pixel, color, alpha);
            }
        });
    }
}

/// Calls a function for the pixels of a frame within a distance of a place.
fn for_pixels(
    frame: &mut RgbImage,
    center: [f32; 2],
    reach: f32,
    mut each: impl FnMut(u32, u32, &mut Rgb<u8>),
) {
    let limit = |value: f32, length: u32| (value.max(0.0) as u32).min(length);
    let (width, height) = frame.dimensions();
    let [x, y] = center;
    for row in limit(y - reach, height)..limit(y + reach, height) {
        for column in limit(x - reach, width)..limit(x + reach, width) {
            each(column, row, frame.get_pixel_mut(column, row));
        }
    }
}

/// Returns the opacity of a head at a distance from its face's centre, in sides of the face: an
/// ellipse with a soft edge.
fn edge(x: f32, y: f32) -> f32 {
    let distance = (x / 0.95).hypot((y + 0.1) / 1.1);
    ((1.0 - distance) / 0.15).clamp(0.0, 1.0)
}

fn center_and_size(bounds: &Rect) -> ([f32; 2], [f32; 2]) {
    (
        [(bounds.x1 + bounds.x2) / 2.0, (bounds.y1 + bounds.y2) / 2.0],
        [bounds.x2 - bounds.x1, bounds.y2 - bounds.y1],
    )
}
