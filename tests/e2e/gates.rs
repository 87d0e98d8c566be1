//! Review of enrolment photos: which are refused, and by which measure.

use image::RgbImage;
use image::imageops::{self, FilterType};
use serde_json::Value;

use crate::harness::{Answer, Options, Server, file, shared, text};
use crate::identification::{photo, students};

impl Server {
    /// Enrols with a strictness that the caller chooses.
    fn enroll_with(
        &self,
        id: &str,
        review: &str,
        photos: impl IntoIterator<Item = Vec<u8>>,
    ) -> Answer {
        let mut parts = vec![text("student_id", id), text("review", review)];
        parts.extend(
            photos
                .into_iter()
                .enumerate()
                .map(|(index, photo)| file("images", &format!("{index}.jpg"), photo)),
        );
        self.form("/process-images", &parts)
    }
}

fn decoded(jpeg: &[u8]) -> RgbImage {
    image::load_from_memory(jpeg).unwrap().into_rgb8()
}

fn encoded(picture: &RgbImage, quality: u8) -> Vec<u8> {
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, quality)
        .encode_image(picture)
        .unwrap();
    jpeg
}

/// Squeezes the picture left of `middle` (a share of its width) to a fifth.
///
/// The nose then comes near one eye, as in a face that is turned away.
fn turned(picture: &RgbImage, middle: f32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let cut = (width as f32 * middle) as u32;
    let left = imageops::crop_imm(picture, 0, 0, cut, height).to_image();
    let right = imageops::crop_imm(picture, cut, 0, width - cut, height).to_image();
    let narrow = imageops::resize(&left, cut / 5, height, FilterType::Triangle);
    let mut both = RgbImage::new(cut / 5 + right.width(), height);
    imageops::replace(&mut both, &narrow, 0, 0);
    imageops::replace(&mut both, &right, i64::from(cut / 5), 0);
    both
}

/// Returns the reasons of the only photo of a refused enrolment.
fn reasons(answer: &Answer) -> Vec<Value> {
    answer.error(400, "no_usable_image");
    answer.json["details"]["rejected"][0]["reasons"]
        .as_array()
        .unwrap()
        .clone()
}

/// Returns the value and limit of a reason, which must exist.
fn measured(reasons: &[Value], code: &str) -> (f64, f64) {
    let reason = reasons
        .iter()
        .find(|reason| reason["code"] == code)
        .unwrap_or_else(|| panic!("{code}: {reasons:?}"));
    assert!(reason["message"].as_str().unwrap().len() > 20, "{reason}");
    (
        reason["value"].as_f64().unwrap(),
        reason["limit"].as_f64().unwrap(),
    )
}

#[test]
fn each_gate_reports_its_measure() {
    let server = Options::real().start();
    let good = decoded(&photo("s36", "front"));
    let refused = |picture: &RgbImage| reasons(&server.enroll("s36", [encoded(picture, 95)]));

    let (value, limit) = measured(&refused(&imageops::blur(&good, 6.0)), "blurred");
    assert!(value < limit && limit == 50.0, "{value} {limit}");

    let mut dark = good.clone();
    dark.pixels_mut()
        .for_each(|pixel| pixel.0 = pixel.0.map(|value| value / 4));
    let (value, limit) = measured(&refused(&dark), "too_dark");
    assert!(value < limit && limit == 40.0, "{value} {limit}");

    let mut bright = good.clone();
    bright
        .pixels_mut()
        .for_each(|pixel| pixel.0 = pixel.0.map(|value| 215 + value / 7));
    let (value, limit) = measured(&refused(&bright), "too_bright");
    assert!(value > limit && limit == 220.0, "{value} {limit}");

    let small = imageops::resize(
        &good,
        good.width() / 6,
        good.height() / 6,
        FilterType::Triangle,
    );
    let (value, limit) = measured(&refused(&small), "face_too_small");
    assert!(value < limit && limit == 50.0, "{value} {limit}");

    // The face already looks aside and is cut at the nose that the service detects.
    let side = photo("s108", "right");
    let face = server.recognize(side.clone()).ok()["recognized_faces"][0].clone();
    let side = decoded(&side);
    let nose = face["landmarks"][2][0].as_f64().unwrap() as f32 / side.width() as f32;
    let (value, limit) = measured(&refused(&turned(&side, nose)), "face_turned");
    assert!(
        value > limit && (limit - 0.85).abs() < 1e-6,
        "{value} {limit}"
    );

    let crowd = std::fs::read(shared("faces/groups/friends.jpg")).unwrap();
    let (value, limit) = measured(&reasons(&server.enroll("s36", [crowd])), "several_people");
    assert!(value > 1.0 && limit == 1.0, "{value} {limit}");

    // None of these photos was enrolled.
    assert_eq!(server.names(photo("s36", "test")), ["Unknown"]);
    // With the gates off, every face is accepted.
    let off = Options::real().arg("--review", "off").start();
    for picture in [dark, bright] {
        off.enroll("s36", [encoded(&picture, 95)]).ok();
    }
}

#[test]
fn good_photos_pass_strict_gates() {
    let server = Options::real().arg("--review", "strict").start();
    for student in students() {
        let answer = server
            .enroll(
                &student,
                ["front", "left", "right"].map(|name| photo(&student, name)),
            )
            .ok();
        assert_eq!(
            (
                answer["accepted"].as_array().unwrap().len(),
                &answer["review"]
            ),
            (3, &Value::from("strict")),
            "{student}: {answer}"
        );
    }
    for student in students() {
        assert_eq!(server.names(photo(&student, "test")), [student.as_str()]);
    }
}

#[test]
fn repeated_photo_counts_once() {
    let server = Options::real().start();
    let front = photo("s6", "front");
    let again = encoded(&decoded(&front), 90);
    let answer = server
        .enroll(
            "s6",
            [front.clone(), front.clone(), again, photo("s6", "left")],
        )
        .ok();
    let accepted: Vec<u64> = answer["accepted"]
        .as_array()
        .unwrap()
        .iter()
        .map(|photo| photo["image"].as_u64().unwrap())
        .collect();
    assert_eq!(accepted, [0, 3], "{answer}");
    for rejected in answer["rejected"].as_array().unwrap() {
        let (value, limit) = measured(rejected["reasons"].as_array().unwrap(), "duplicate_photo");
        assert!(value > limit, "{rejected}");
    }
    assert_eq!(
        std::fs::read_to_string(server.gallery.join("s6.csv"))
            .unwrap()
            .lines()
            .count(),
        3,
        "a header and two photos"
    );
    // With the gates off, repeated photos are accepted.
    let server = Options::real().arg("--review", "off").start();
    assert_eq!(
        server.enroll("s6", [front.clone(), front]).ok()["accepted"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

/// The standard review warns of another person's face, and the strict review refuses it.
#[test]
fn another_persons_face_is_reported() {
    let server = Options::real().start();
    server
        .enroll("s6", [photo("s6", "front"), photo("s6", "left")])
        .ok();
    // Re-enrolling the same person gives no warning.
    assert_eq!(
        server.enroll("s6", [photo("s6", "right")]).ok()["accepted"][0]["warnings"],
        serde_json::json!([])
    );
    server
        .enroll("s6", [photo("s6", "front"), photo("s6", "left")])
        .ok();

    let strict = reasons(&server.enroll_with("impostor", "strict", [photo("s6", "right")]));
    let (value, limit) = measured(&strict, "another_person");
    assert!(
        value > limit && !strict[0]["message"].as_str().unwrap().contains("s6"),
        "{strict:?}"
    );
    let standard = server
        .enroll_with("impostor", "standard", [photo("s6", "right")])
        .ok();
    measured(
        standard["accepted"][0]["warnings"].as_array().unwrap(),
        "another_person",
    );
    assert_eq!(
        server.enroll("s36", [photo("s36", "right")]).ok()["accepted"][0]["warnings"],
        serde_json::json!([])
    );
}

#[test]
fn caller_can_only_raise_strictness() {
    let server = Options::real().arg("--review", "strict").start();
    let small = decoded(&photo("s36", "front"));
    let small = encoded(
        &imageops::resize(
            &small,
            small.width() / 2,
            small.height() / 2,
            FilterType::Triangle,
        ),
        95,
    );
    measured(
        &reasons(&server.enroll_with("s36", "off", [small.clone()])),
        "face_too_small",
    );
    let server = Options::real().start();
    assert_eq!(
        server.enroll("s36", [small.clone()]).ok()["review"],
        "standard"
    );
    measured(
        &reasons(&server.enroll_with("s36", "strict", [small.clone()])),
        "face_too_small",
    );
    let error = server
        .enroll_with("s36", "lax", [small])
        .error(400, "invalid_review");
    assert!(error.contains("'off', 'standard' or 'strict'"), "{error}");
}
