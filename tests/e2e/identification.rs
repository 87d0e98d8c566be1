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
fn people_enrolled_before_a_restart_are_known_after_it() {
    let gallery = tempfile::tempdir().unwrap();
    let mut server = Options::real().gallery(gallery.path()).start();
    server.enroll("s6", ["front", "left", "right"].map(|name| photo("s6", name))).ok();
    server.kill();
    let server = Options::real().gallery(gallery.path()).start();
    assert_eq!(server.names(photo("s6", "test")), ["s6"]);
}
