//! Enrolment and the CSV gallery, with the models of the drawn faces.

use serde_json::json;

use crate::harness::{Options, Server, drawn, file, text};

fn alice(numbers: &[u32]) -> Vec<Vec<u8>> {
    numbers
        .iter()
        .map(|number| drawn(&format!("alice-{number}.png")))
        .collect()
}

/// Returns the header and the rows of a person's file.
fn rows(server: &Server, id: &str) -> (csv::StringRecord, Vec<csv::StringRecord>) {
    let mut reader = csv::Reader::from_path(server.gallery.join(format!("{id}.csv"))).unwrap();
    let header = reader.headers().unwrap().clone();
    (header, reader.records().map(Result::unwrap).collect())
}

/// The answer lists accepted and rejected photos, and the file holds the accepted ones.
#[test]
fn answer_reports_each_photo() {
    let server = Options::drawn().start();
    let answer = server.form(
        "/process-images",
        &[
            text("student_id", "alice"),
            file("images", "good.png", drawn("alice-1.png")),
            file("images", "nobody.png", drawn("empty.png")),
            file("other", "ignored.png", drawn("bob-1.png")),
            file("images", "broken.png", b"broken".to_vec()),
            file("images", "also good.png", drawn("alice-2.png")),
        ],
    );
    let answer = answer.ok();
    assert_eq!(answer["status"], "success");
    assert_eq!(
        answer["message"],
        "Embeddings for 'alice' saved successfully."
    );
    assert_eq!(
        answer["filepath"],
        server.gallery.join("alice.csv").to_str().unwrap()
    );
    let names = |list: &str| -> Vec<(u64, String)> {
        let list = answer[list].as_array().unwrap();
        list.iter()
            .map(|photo| {
                (
                    photo["image"].as_u64().unwrap(),
                    photo["file_name"].as_str().unwrap().to_owned(),
                )
            })
            .collect()
    };
    assert_eq!(
        names("accepted"),
        [(0, "good.png".to_owned()), (3, "also good.png".to_owned())]
    );
    assert_eq!(
        names("rejected"),
        [(1, "nobody.png".to_owned()), (2, "broken.png".to_owned())]
    );
    let reason = |photo: usize| answer["rejected"][photo]["reasons"][0]["code"].clone();
    assert_eq!(
        (reason(0), reason(1)),
        (json!("no_face"), json!("undecodable"))
    );

    let (header, rows) = rows(&server, "alice");
    assert_eq!(
        header.iter().collect::<Vec<_>>(),
        [
            "image_number",
            "embedding",
            "contract",
            "det_score",
            "template_embedding"
        ]
    );
    assert_eq!(
        rows.iter().map(|row| row[0].to_owned()).collect::<Vec<_>>(),
        ["1", "2"]
    );
    for row in rows {
        let embedding: Vec<f32> = row[1]
            .split(';')
            .map(|number| number.parse().unwrap())
            .collect();
        let norm = embedding
            .iter()
            .map(|value| value * value)
            .sum::<f32>()
            .sqrt();
        assert_eq!(embedding.len(), 32);
        assert!((norm - 1.0).abs() > 0.1, "raw, not normalised: {norm}");
    }
}

#[test]
fn reenrolment_replaces_person() {
    let server = Options::drawn().start();
    server.enroll("alice", alice(&[1, 2, 3])).ok();
    assert_eq!(rows(&server, "alice").1.len(), 3);
    // bob is enrolled under alice's id.
    server.enroll("alice", [drawn("bob-1.png")]).ok();
    assert_eq!(rows(&server, "alice").1.len(), 1);
    assert_eq!(server.names(drawn("bob-probe.png")), ["alice"]);
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
}

#[test]
fn failed_enrolment_keeps_person() {
    let server = Options::drawn().start();
    server.enroll("alice", alice(&[1])).ok();
    let before = std::fs::read(server.gallery.join("alice.csv")).unwrap();
    let answer = server.enroll("alice", [drawn("empty.png")]);
    answer.error(400, "no_usable_image");
    assert_eq!(
        answer.json["details"]["rejected"][0]["reasons"][0]["code"],
        "no_face"
    );
    assert_eq!(
        std::fs::read(server.gallery.join("alice.csv")).unwrap(),
        before
    );
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

/// The reason has the detection score and its limit.
#[test]
fn faint_face_is_not_enrolled() {
    let server = Options::drawn().arg("--detection-threshold", "0.7").start();
    let answer = server.enroll("dave", [drawn("faint.png")]);
    answer.error(400, "no_usable_image");
    let reason = &answer.json["details"]["rejected"][0]["reasons"][0];
    assert_eq!(reason["code"], "low_detection_score");
    let number = |name: &str| reason[name].as_f64().unwrap();
    assert!(
        (0.5..0.7).contains(&number("value")) && (number("limit") - 0.7).abs() < 1e-6,
        "{reason}"
    );
    assert_eq!(server.people_files().len(), 0);
}

/// The file is whole and holds the person that is matched.
#[test]
fn concurrent_enrolments_leave_one_file() {
    let mut server = Options::drawn().start();
    std::thread::scope(|scope| {
        for person in ["alice", "bob", "carol", "dave"].iter().cycle().take(16) {
            let server = &server;
            scope.spawn(move || {
                server
                    .enroll(
                        "who",
                        [1, 2, 3].map(|number| drawn(&format!("{person}-{number}.png"))),
                    )
                    .ok()
            });
        }
    });
    assert_eq!(server.people_files().len(), 1);
    assert_eq!(rows(&server, "who").1.len(), 3);
    let known = |server: &Server| -> Vec<&str> {
        let is_known =
            |person: &&str| server.names(drawn(&format!("{person}-probe.png"))) == ["who"];
        ["alice", "bob", "carol", "dave"]
            .into_iter()
            .filter(is_known)
            .collect()
    };
    let (matched, gallery) = (known(&server), server.gallery.clone());
    assert_eq!(matched.len(), 1, "one of them is `who`: {matched:?}");
    server.kill();
    let again = Options::drawn().gallery(&gallery).start();
    assert_eq!(known(&again), matched, "the file holds another person");
}

/// Unusable files are left in place, and the other people are recognised.
#[test]
fn damaged_file_is_quarantined() {
    let gallery = tempfile::tempdir().unwrap();
    let mut server = Options::drawn().gallery(gallery.path()).start();
    server.enroll("alice", alice(&[1, 2, 3])).ok();
    server.kill();
    let damaged = gallery.path().join("bob.csv");
    std::fs::write(&damaged, "image_number,embedding\n1,not;a;number\n").unwrap();
    // A file of the replaced service has two columns. Its embedding has this pack's dimension.
    let numbers = (0..32)
        .map(|i| format!("{}", i % 5 - 2))
        .collect::<Vec<_>>()
        .join(";");
    std::fs::write(
        gallery.path().join("old.csv"),
        format!("image_number,embedding\r\n1,{numbers}\r\n"),
    )
    .unwrap();
    // Embeddings of another recogniser are stored but not matched.
    std::fs::write(
        gallery.path().join("other.csv"),
        "image_number,embedding,contract\n1,1;2;3,0123456789abcdef\n",
    )
    .unwrap();
    // The policy cannot make a template from these finite numbers.
    let row = |number: &str| vec![number; 32].join(";");
    std::fs::write(
        gallery.path().join("cancelled.csv"),
        format!("image_number,embedding\n1,{}\n2,{}\n", row("1"), row("-1")),
    )
    .unwrap();
    std::fs::write(
        gallery.path().join("huge.csv"),
        format!("image_number,embedding\n1,{}\n", row("1e30")),
    )
    .unwrap();

    let mut server = Options::drawn().gallery(gallery.path()).start();
    let (from, to) = (damaged.display(), gallery.path().join(".damaged/bob.csv"));
    // The file may still be being copied, so it stays until it was unchanged for a minute.
    server.wait_for_log(&format!("in the middle of being copied: {from}: row 1: number 1 of the embedding is not a finite number"));
    let quarantined = format!(
        "quarantined as {}: {from}: row 1: number 1 of the embedding is not a finite number",
        to.display()
    );
    assert!(damaged.exists() && !server.log().contains(&quarantined));
    let begun = std::time::Instant::now();
    while !server.log().contains(&quarantined) {
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(120),
            "{}",
            server.log()
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let log = server.log();
    for file in ["cancelled.csv", "huge.csv"] {
        let path = gallery.path().join(file);
        assert!(
            log.contains(&format!(
                "left alone: {}: no templates can be made of it: ",
                path.display()
            )) && path.exists(),
            "{log}"
        );
    }
    assert!(log.contains("people=2"), "{log}");
    assert!(
        log.contains("people=1 enrolled") || log.contains("enrolled with another recogniser"),
        "{log}"
    );
    assert!(!damaged.exists());
    let has_damaged_copy =
        || std::fs::read_to_string(&to).is_ok_and(|text| text.contains("not;a;number"));
    assert!(has_damaged_copy());
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    let candidates =
        server.recognize(drawn("alice-probe.png")).ok()["recognized_faces"][0]["candidates"]
            .clone();
    let ids: Vec<&str> = candidates
        .as_array()
        .unwrap()
        .iter()
        .map(|candidate| candidate["identity"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["alice", "old"]);

    // A new enrolment keeps the damaged copy, and a deletion removes both.
    server.enroll("bob", [drawn("bob-1.png")]).ok();
    assert!(damaged.exists() && has_damaged_copy());
    server.kill();
    let server = Options::drawn().gallery(gallery.path()).start();
    assert!(!server.log().contains("bob.csv"), "{}", server.log());
    assert_eq!(server.names(drawn("bob-probe.png")), ["bob"]);
    for deleted in [true, false] {
        assert_eq!(
            server.admin_delete("/v1/people/bob").ok()["deleted"],
            deleted
        );
        assert!(!damaged.exists() && !to.exists());
    }
}
