//! The people of the shared photos: enrolled students, and pictures of many.

use std::fs;

use anyhow::{Result, ensure};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use crate::heads::{Portrait, Pose};
use crate::picture::{backdrop, jpeg, open};
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
    let [left, top] = [face.bounds.x1 - 0.3 * width, face.bounds.y1 - 0.3 * height]
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
        let pose = Pose {
            center: [
                (column * width + width / 2) as f32,
                (row * height + height / 2) as f32,
            ],
            ..Pose::default()
        };
        Portrait::of(service, id)?
            .head(side)
            .draw(&mut picture, &pose);
    }
    Ok(picture)
}
