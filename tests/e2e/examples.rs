//! The example policies on a server.

use serde_json::Value;

use crate::harness::{Options, component, drawn, output_of};

/// An operator pushes the region of interest and configures it. Faces outside are unknown, and show
/// no candidates.
#[test]
fn configured_region_hides_faces_outside() {
    let server = Options::drawn().start();
    for person in ["alice", "bob", "carol", "dave"] {
        let photos = [1, 2].map(|number| drawn(&format!("{person}-{number}.png")));
        server.enroll(person, photos).ok();
    }
    let mut push = server.pipeline(&["push", "--json"]);
    let pushed = output_of(push.arg(component("region-of-interest")));
    let pushed: Value = serde_json::from_str(&pushed).unwrap();
    let id = pushed["id"].as_str().unwrap();
    server.activate(id);
    assert_eq!(faces(&server.recognize(drawn("group.png")).ok()).len(), 5);

    let configure = |regions: &str| {
        let setting = format!("regions={regions}");
        let mut command = server.pipeline(&["configure", id, "--setting", &setting, "--activate"]);
        command.output().unwrap()
    };
    let output = configure("door=0.1,0.2,0.3");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    let words = "the setting regions is `door=0.1,0.2,0.3`; it must have entries as \
                 door=320,180,1280,900, which `door=0.1,0.2,0.3` is not";
    assert!(text.contains(words), "{text}");
    assert_eq!(server.active(), id);

    let output = configure("door=0,0,9,9; *=0,0,500,720");
    assert!(output.status.success(), "{output:?}");
    assert_ne!(server.active(), id);
    let answer = server.recognize(drawn("group.png")).ok();
    assert_eq!(answer["pipeline"]["policy"]["name"], "region-of-interest");
    let outside = ("Unknown".to_owned(), Some("outside_region".to_owned()), 0);
    assert_eq!(
        faces(&answer),
        [
            outside.clone(),
            outside.clone(),
            outside,
            ("bob".to_owned(), None, 3),
            ("alice".to_owned(), None, 3),
        ]
    );
}

/// Returns identity, reason and number of candidates of each face, the largest first.
fn faces(answer: &Value) -> Vec<(String, Option<String>, usize)> {
    let face = |face: &Value| {
        (
            face["identity"].as_str().unwrap().to_owned(),
            face["reason"].as_str().map(str::to_owned),
            face["candidates"].as_array().unwrap().len(),
        )
    };
    let faces = answer["recognized_faces"].as_array().unwrap();
    faces.iter().map(face).collect()
}
