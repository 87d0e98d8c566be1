//! The people of the shared photos: enrolled students, and pictures of many.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use crate::picture::{backdrop, blend, jpeg, open};
use crate::service::{FoundFace, LocalService, student};

/// Photos of a student that are enrolled. The fourth, `test`, appears in streams.
const ENROLLED: [&str; 3] = ["front", "left", "right"];

/// Places of portraits in a picture: columns and rows.
const SEATS: (u32, u32) = (6, 5);

/// Enrols every student, and returns their ids.
pub(crate) fn enroll_students(service: &LocalService) -> Result<Vec<String>> {
    let mut students = Vec::new();
    for folder in fs::read_dir(crate::harness::shared("faces/students"))? {
        let id = folder?.file_name().to_string_lossy().into_owned();
        let photos: std::io::Result<_> = ENROLLED
            .iter()
            .map(|photo| fs::read(student(&id, photo)))
            .collect();
        service.enroll(&id, photos?)?;
        students.push(id);
    }
    students.sort();
    Ok(students)
}

/// Enrols the people of a picture who are no students, each from its own part. Returns the picture.
pub(crate) fn enrolled_room(service: &LocalService, room: &RgbImage) -> Result<RgbImage> {
    let faces = service.faces(jpeg(room)?)?;
    for (number, face) in faces.iter().enumerate() {
        if face.name.is_none() {
            let photo = cut(room, face);
            service.enroll(&format!("room-{number}"), vec![jpeg(&photo)?.to_vec()])?;
        }
    }
    Ok(room.clone())
}

/// Returns the part of a picture around a face, three times as large, in a frame of grey.
fn cut(picture: &RgbImage, face: &FoundFace) -> RgbImage {
    let (width, height) = (
        face.bounds.x2 - face.bounds.x1,
        face.bounds.y2 - face.bounds.y1,
    );
    let [left, top] = [
        face.bounds.x1 - 0.3 * width,
        face.bounds.y1 - 0.3 * height,
    ]
    .map(|edge| edge.max(0.0) as u32);
    let part = imageops::crop_imm(
        picture,
        left,
        top,
        (1.6 * width) as u32,
        (1.6 * height) as u32,
    );
    let (columns, rows) = (3 * (1.6 * width) as u32, 3 * (1.6 * height) as u32);
    let large = imageops::resize(&part.to_image(), columns, rows, FilterType::CatmullRom);
    let mut photo = RgbImage::from_pixel(2 * columns, 2 * rows, Rgb([128; 3]));
    imageops::replace(
        &mut photo,
        &large,
        i64::from(columns / 2),
        i64::from(rows / 2),
    );
    photo
}

/// Returns a picture of all students, by photos that are not enrolled, in front of a room.
pub(crate) fn portraits(service: &LocalService, students: &[String]) -> Result<RgbImage> {
    let room = open(&crate::harness::shared(
        "faces/classrooms/classroom_030_faces.jpg",
    ))?;
    let mut picture = backdrop(&room, 1920, 1080);
    let (columns, rows) = SEATS;
    let (width, height) = (1920 / columns, 1080 / rows);
    ensure!(students.len() <= (columns * rows) as usize);
    for (seat, id) in students.iter().enumerate() {
        let (row, column) = (seat as u32 / columns, seat as u32 % columns);
        // The back rows are further away.
        let side = 60.0 + 15.0 * row as f32;
        let portrait = Portrait::of(service, id, side)?;
        let center = [
            (column * width + width / 2) as f32,
            (row * height + height / 2) as f32,
        ];
        portrait.place(&mut picture, center);
    }
    Ok(picture)
}

/// A student's photo, scaled.
struct Portrait {
    photo: RgbImage,
    /// Centre of the face.
    center: [f32; 2],
    side: f32,
}

impl Portrait {
    /// Returns a photo whose face has this side.
    fn of(service: &LocalService, id: &str, side: f32) -> Result<Self> {
        let file = student(id, "test");
        let faces = service.faces(fs::read(&file)?.into())?;
        let bounds = faces.first().with_context(|| format!("a face of {id}"))?.bounds;
        let photo = open(&file)?;
        let found = ((bounds.x2 - bounds.x1) * (bounds.y2 - bounds.y1)).sqrt();
        let scale = side / found;
        let length = |pixels: u32| (pixels as f32 * scale) as u32;
        Ok(Self {
            photo: imageops::resize(
                &photo,
                length(photo.width()),
                length(photo.height()),
                FilterType::Triangle,
            ),
            center: [
                scale * (bounds.x1 + bounds.x2) / 2.0,
                scale * (bounds.y1 + bounds.y2) / 2.0,
            ],
            side,
        })
    }

    /// Draws the head with its face at this place.
    fn place(&self, picture: &mut RgbImage, center: [f32; 2]) {
        for (x, y, color) in self.photo.enumerate_pixels() {
            let [dx, dy] = [x as f32 - self.center[0], y as f32 - self.center[1]];
            let (column, row) = ((center[0] + dx) as i64, (center[1] + dy) as i64);
            let alpha = edge(dx / self.side, dy / self.side);
            let is_inside = (0..i64::from(picture.width())).contains(&column)
                && (0..i64::from(picture.height())).contains(&row);
            if alpha > 0.0 && is_inside {
                let pixel = picture.get_pixel_mut(column as u32, row as u32);
                blend(pixel, color.0.map(f32::from), alpha);
            }
        }
    }
}

/// Returns the opacity of a head at a distance from its face's centre, in sides of the face: an
/// ellipse with a soft edge.
pub(crate) fn edge(x: f32, y: f32) -> f32 {
    let distance = (x / 0.95).hypot((y + 0.1) / 1.1);
    ((1.0 - distance) / 0.15).clamp(0.0, 1.0)
}
