//! Real people, enrolled and recognised over HTTP.

use std::collections::BTreeSet;

use crate::harness::{Options, Server, shared};

fn students() -> Vec<String> {
    let folder = shared("faces/students");
    let mut names: Vec<String> = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names.len(), 30);
    names
}

fn photo(student: &str, name: &str) -> Vec<u8> {
    std::fs::read(shared(&format!("faces/students/{student}/{name}.jpg"))).unwrap()
}

fn enroll_everybody(server: &Server) {
    for student in students() {
        let answer = server.enroll(&student, ["front", "left", "right"].map(|name| photo(&student, name))).ok();
        assert_eq!(answer["accepted"].as_array().unwrap().len(), 3, "{student}: {answer}");
    }
}

#[test]
fn thirty_students_are_named_strangers_are_not_and_a_class_is_seen() {
    let server = Options::real().start();
    enroll_everybody(&server);

    let mut wrong = Vec::new();
    for student in students() {
        let names = server.names(photo(&student, "test"));
        if names != [student.as_str()] {
            wrong.push(format!("{student}: {names:?}"));
        }
    }
    println!("probes named: {} of 30", 30 - wrong.len());
    assert!(wrong.is_empty(), "{wrong:?}");

    let friends = server.names(std::fs::read(shared("faces/groups/friends.jpg")).unwrap());
    println!("friends.jpg: {friends:?}");
    assert_eq!(friends, ["Unknown"; 6]);

    let class = server.names(std::fs::read(shared("faces/classrooms/classroom_030_faces.jpg")).unwrap());
    println!("classroom_030: {} faces", class.len());
    assert!(class.len() >= 29, "{} faces", class.len());
    let named: Vec<&String> = class.iter().filter(|name| *name != "Unknown").collect();
    assert_eq!(named.len(), named.iter().collect::<BTreeSet<_>>().len(), "one person, one face: {named:?}");
}

#[test]
fn everybody_in_the_room_is_seen_near_and_far() {
    let server = Options::real().start();
    for (room, least) in [("005", 5), ("010", 10), ("100", 100), ("200", 200)] {
        let frame = std::fs::read(shared(&format!("faces/classrooms/classroom_{room}_faces.jpg"))).unwrap();
        let found = server.names(frame).len();
        println!("classroom_{room}: {found} faces");
        assert_eq!(found, least, "classroom_{room}");
    }
}

#[test]
fn a_face_that_fills_the_frame_is_found_and_named() {
    let server = Options::real().start();
    server.enroll("s6", ["front", "left", "right"].map(|name| photo("s6", name))).ok();
    let whole = photo("s6", "test");
    let bounds: Vec<u32> = serde_json::from_value::<Vec<f32>>(server.recognize(whole.clone()).ok()["recognized_faces"][0]["bbox"].clone())
        .unwrap()
        .into_iter()
        .map(|edge| edge as u32)
        .collect();
    let [x1, y1, x2, y2] = bounds[..] else { panic!("{bounds:?}") };
    let face = image::load_from_memory(&whole).unwrap().crop_imm(x1, y1, x2 - x1, y2 - y1);
    let mut jpeg = Vec::new();
    face.write_with_encoder(image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 95)).unwrap();
    assert_eq!(server.names(jpeg), ["s6"]);
}

#[test]
fn people_enrolled_before_a_restart_are_known_after_it() {
    let gallery = tempfile::tempdir().unwrap();
    let mut server = Options::real().gallery(gallery.path()).start();
    server.enroll("s6", ["front", "left", "right"].map(|name| photo("s6", name))).ok();
    server.kill();
    let server = Options::real().gallery(gallery.path()).start();
    assert_eq!(server.names(photo("s6", "test")), ["s6"]);
}
