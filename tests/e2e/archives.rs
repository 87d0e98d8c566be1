//! Gallery archives: tombstones, `replace`, deletions during an import, and size limits.

use std::collections::BTreeMap;
use std::io::{Cursor, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::Method;
use zip::write::SimpleFileOptions;

use crate::harness::{Answer, Options, Server, drawn};

fn export(server: &Server) -> Vec<u8> {
    ureq::get(format!("{}/v1/gallery", server.admin))
        .call()
        .unwrap()
        .body_mut()
        .with_config()
        .limit(1 << 32)
        .read_to_vec()
        .unwrap()
}

fn import(server: &Server, query: &str, archive: &[u8]) -> Answer {
    server.ask_admin(
        &Method::POST,
        &format!("/v1/gallery{query}"),
        archive,
        &[("content-type", "application/zip")],
    )
}

fn delete(server: &Server, id: &str) -> Value {
    server.admin_delete(&format!("/v1/people/{id}")).ok()
}

fn enroll(server: &Server, people: &[&str]) {
    for id in people {
        server
            .enroll(
                id,
                [drawn(&format!("{id}-1.png")), drawn(&format!("{id}-2.png"))],
            )
            .ok();
    }
}

fn put_into(server: &Server, group: &str, id: &str) {
    server
        .ask_admin(
            &Method::PUT,
            &format!("/v1/groups/{group}/people/{id}"),
            &[],
            &[],
        )
        .ok();
}

/// Returns the identity that is recognised in a person's probe picture.
fn probe_identity(server: &Server, id: &str) -> String {
    server.names(drawn(&format!("{id}-probe.png"))).remove(0)
}

/// Rebuilds an archive. Each entry passes through `change`, which may drop it.
fn map_entries(archive: &[u8], change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut from = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
    let mut to = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..from.len() {
        let mut entry = from.by_index(index).unwrap();
        let (name, time, mut bytes) = (
            entry.name().unwrap().into_owned(),
            entry.last_modified().unwrap(),
            Vec::new(),
        );
        entry.read_to_end(&mut bytes).unwrap();
        if let Some(bytes) = change(&name, bytes) {
            to.start_file(name, SimpleFileOptions::default().last_modified_time(time))
                .unwrap();
            to.write_all(&bytes).unwrap();
        }
    }
    to.finish().unwrap().into_inner()
}

/// Builds an archive of random people as the previous release wrote it: without number or time.
fn random_archive(
    server: &Server,
    like: &str,
    people: std::ops::Range<usize>,
    photos: usize,
) -> Vec<u8> {
    let embedding = server.admin_get(&format!("/v1/people/{like}/embedding"));
    let (contract, dimension) = (
        embedding["contract"].as_str().unwrap(),
        usize::try_from(embedding["dimension"].as_u64().unwrap()).unwrap(),
    );
    let mut to = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut random = fastrand::Rng::with_seed(1);
    for person in people {
        to.start_file(
            format!("people/{contract}/p{person:05}.csv"),
            SimpleFileOptions::default(),
        )
        .unwrap();
        let mut text = "image_number,embedding,contract,det_score\n".to_owned();
        for photo in 1..=photos {
            let embedding = (0..dimension)
                .map(|_| (random.f32() - 0.5).to_string())
                .collect::<Vec<_>>()
                .join(";");
            text.push_str(&format!("{photo},{embedding},{contract},0.9\n"));
        }
        to.write_all(text.as_bytes()).unwrap();
    }
    to.finish().unwrap().into_inner()
}

fn names(answer: &Value, field: &str) -> Vec<String> {
    answer[field]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

/// Collects every file below a folder with its bytes.
fn files(folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in folder.read_dir().unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path(), found),
            false => drop(found.insert(
                entry.path().display().to_string(),
                std::fs::read(entry.path()).unwrap(),
            )),
        }
    }
}

/// People deleted after an archive was made are left out and listed, unless `deleted=restore`.
#[test]
fn older_archive_omits_deleted_people() {
    let gallery = tempfile::tempdir().unwrap();
    let mut server = Options::drawn().gallery(gallery.path()).start();
    enroll(&server, &["alice", "bob"]);
    put_into(&server, "maths", "alice");
    put_into(&server, "maths", "bob");
    let older = export(&server);
    let deleted = delete(&server, "alice");
    assert_eq!(
        (&deleted["deleted"], &deleted["tombstone"]),
        (&json!(true), &json!(true)),
        "{deleted}"
    );

    for start in ["while it runs", "after a kill"] {
        if start == "after a kill" {
            server.kill();
            server = Options::drawn().gallery(gallery.path()).start();
        }
        let answer = import(&server, "", &older).ok();
        assert_eq!(answer["people"], 1, "{answer}");
        assert_eq!(answer["deleted"], json!(["alice"]), "{answer}");
        assert_eq!(answer["deleted_count"], 1, "{answer}");
        assert!(
            answer["left_out"][0]["entry"]
                .as_str()
                .unwrap()
                .ends_with("/alice.csv"),
            "{answer}"
        );
        assert!(
            answer["left_out"][0]["reason"]
                .as_str()
                .unwrap()
                .contains("deleted=restore"),
            "{answer}"
        );
        assert_eq!(
            (
                probe_identity(&server, "alice"),
                probe_identity(&server, "bob")
            ),
            ("Unknown".to_owned(), "bob".to_owned()),
            "{start}"
        );
        assert_eq!(
            server.admin_get("/v1/groups/maths")["people"],
            json!(["bob"])
        );
        let mut found = BTreeMap::new();
        files(gallery.path(), &mut found);
        let with_id = found.iter().filter(|(path, bytes)| {
            path.contains("alice") || bytes.windows(5).any(|window| window == b"alice")
        });
        assert_eq!(
            with_id.map(|(path, _)| path).collect::<Vec<_>>(),
            Vec::<&String>::new()
        );
    }

    // A re-enrolled person is newer than the old archive and part of a new one.
    enroll(&server, &["alice"]);
    let file = std::fs::read(server.gallery.join("alice.csv")).unwrap();
    let newer = export(&server);
    assert_eq!(
        import(&server, "", &older).ok()["deleted"],
        json!(["alice"])
    );
    assert_eq!(
        std::fs::read(server.gallery.join("alice.csv")).unwrap(),
        file
    );
    assert_eq!(
        server.admin_get("/v1/people/alice")["groups"],
        json!([]),
        "an old group membership came back"
    );
    assert_eq!(import(&server, "", &newer).ok()["deleted_count"], 0);

    // `deleted=restore` brings back the person and the memberships.
    delete(&server, "alice");
    let answer = import(&server, "?deleted=restore", &older).ok();
    assert_eq!(
        (&answer["people"], &answer["deleted_count"]),
        (&json!(2), &json!(0)),
        "{answer}"
    );
    assert_eq!(probe_identity(&server, "alice"), "alice");
    assert_eq!(
        server.admin_get("/v1/people/alice")["groups"],
        json!(["maths"])
    );
    import(&server, "?deleted=sometimes", &older).error(400, "invalid_query");
}

/// Archives carry tombstones. Archives without a change number of this gallery compare by time.
#[test]
fn foreign_archives_compare_by_time() {
    let one = Options::drawn().start();
    enroll(&one, &["alice", "bob"]);
    let older = export(&one);
    delete(&one, "alice");
    let newer = export(&one);

    // A new service imports the newer archive and with it alice's tombstone.
    let two = Options::drawn().start();
    assert_eq!(import(&two, "", &newer).ok()["people"], 1);
    assert_eq!(import(&two, "", &older).ok()["deleted"], json!(["alice"]));
    assert_eq!(
        import(&Options::drawn().start(), "", &older).ok()["people"],
        2
    );

    // A deletion on the second service compares by time with archives of the first.
    delete(&two, "bob");
    assert_eq!(
        names(&import(&two, "", &older).ok(), "deleted"),
        ["alice", "bob"]
    );
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(import(&two, "", &export(&one)).ok()["deleted_count"], 0);
    assert_eq!(probe_identity(&two, "bob"), "bob");

    // Archives of a release without change numbers compare by entry time.
    delete(&two, "bob");
    let unnumbered = map_entries(&older, |name, bytes| {
        name.starts_with("people/").then_some(bytes)
    });
    assert_eq!(
        names(&import(&two, "", &unnumbered).ok(), "deleted"),
        ["alice", "bob"]
    );
    let three = Options::drawn().start();
    assert_eq!(import(&three, "", &unnumbered).ok()["people"], 2);
    // ZIP times have a resolution of two seconds.
    delete(&three, "bob");
    std::thread::sleep(Duration::from_millis(2100));
    let later = map_entries(&export(&one), |name, bytes| {
        name.starts_with("people/").then_some(bytes)
    });
    assert_eq!(
        (
            import(&three, "", &later).ok()["people"].clone(),
            probe_identity(&three, "bob")
        ),
        (json!(1), "bob".to_owned())
    );
    // An entry without a time is older than any deletion.
    let dateless = random_archive(&three, "bob", 0..1, 1);
    delete(&three, "p00000");
    assert_eq!(
        names(&import(&three, "", &dateless).ok(), "deleted"),
        ["p00000"],
        "the deletion of an unknown person leaves no tombstone"
    );
}

/// `replace` removes people that the archive lacks. A dry run lists them.
#[test]
fn replace_removes_missing_people() {
    let state = tempfile::tempdir().unwrap();
    let server = Options::drawn().state(state.path()).start();
    enroll(&server, &["alice", "bob"]);
    let archive = export(&server);
    enroll(&server, &["carol", "dave"]);
    put_into(&server, "maths", "carol");
    put_into(&server, "maths", "alice");
    let later = export(&server);

    let dry = import(&server, "?replace=true&dry_run=true", &archive).ok();
    assert_eq!(dry["people"], 2, "{dry}");
    assert_eq!(dry["removed"], json!(["carol", "dave"]), "{dry}");
    assert_eq!(dry["dry_run"], true, "{dry}");
    assert_eq!(
        (
            probe_identity(&server, "carol"),
            probe_identity(&server, "dave")
        ),
        ("carol".to_owned(), "dave".to_owned())
    );

    // `replace` refuses an archive that may lack people for another reason.
    let unnumbered = map_entries(&archive, |name, bytes| {
        (name != "gallery.json").then_some(bytes)
    });
    import(&server, "?replace=true", &unnumbered).error(400, "archive_not_numbered");
    let damaged = map_entries(&archive, |name, bytes| {
        Some(if name.ends_with("bob.csv") {
            b"nonsense".to_vec()
        } else {
            bytes
        })
    });
    let error = import(&server, "?replace=true", &damaged);
    error.error(400, "archive_unusable_entries");
    assert!(
        error.json["details"]["left_out"][0]["entry"]
            .as_str()
            .unwrap()
            .ends_with("/bob.csv"),
        "{}",
        error.json
    );
    for id in ["alice", "bob", "carol", "dave"] {
        assert_eq!(probe_identity(&server, id), id);
    }

    let answer = import(&server, "?replace=true", &archive).ok();
    assert_eq!(answer["people"], 2, "{answer}");
    assert_eq!(answer["removed"], json!(["carol", "dave"]), "{answer}");
    assert_eq!(answer["removed_count"], 2, "{answer}");
    assert_eq!(
        ["alice", "bob", "carol", "dave"].map(|id| probe_identity(&server, id)),
        ["alice", "bob", "Unknown", "Unknown"]
    );
    assert_eq!(
        server.admin_get("/v1/groups/maths")["people"],
        json!(["alice"])
    );
    // Each removal is audited and leaves a tombstone.
    let audit = std::fs::read_to_string(state.path().join("audit.jsonl")).unwrap();
    assert_eq!(audit.matches("\"delete-person\"").count(), 2, "{audit}");
    assert_eq!(
        names(&import(&server, "", &later).ok(), "deleted"),
        ["carol", "dave"]
    );
}

/// A deletion overrides a running import. Other requests are served meanwhile.
#[test]
fn deletion_during_import_holds() {
    const PEOPLE: usize = 6000;
    let server = Options::drawn().start();
    enroll(&server, &["alice"]);
    let archive = random_archive(&server, "alice", 0..PEOPLE, 1);
    let last = format!("p{:05}", PEOPLE - 1);
    let is_there = |id: &str| {
        server
            .ask_admin(&Method::GET, &format!("/v1/people/{id}"), &[], &[])
            .status
            == 200
    };
    let (mut during, mut slowest) = (0, Duration::ZERO);
    std::thread::scope(|scope| {
        let importing = scope.spawn(|| import(&server, "?deleted=restore", &archive).ok());
        while !is_there("p00000") {
            std::thread::sleep(Duration::from_millis(2));
        }
        // The first of the two is not imported yet; the second is.
        delete(&server, &last);
        delete(&server, "p00000");
        import(&server, "", &archive).error(503, "archive_under_way");
        while !importing.is_finished() {
            let begun = Instant::now();
            assert_eq!(probe_identity(&server, "alice"), "alice");
            enroll(&server, &["bob"]);
            delete(&server, "bob");
            slowest = slowest.max(begun.elapsed());
            during += 1;
        }
        let answer = importing.join().unwrap();
        assert!(
            answer["people"].as_u64().unwrap() >= PEOPLE as u64 - 1,
            "{answer}"
        );
    });
    println!(
        "{during} rounds of recognising, enrolling and deleting during the import of {PEOPLE}; the slowest took {slowest:?}"
    );
    assert!(
        during > 0 && slowest < Duration::from_secs(10),
        "{during} {slowest:?}"
    );
    assert!(!is_there(&last) && !is_there("p00000") && is_there("p00001"));
    assert!(!server.gallery.join(format!("{last}.csv")).exists());
}

/// `replace` keeps people enrolled during the upload and reports those deleted meanwhile.
#[test]
fn enrolment_during_upload_survives_replace() {
    let server = Options::drawn().start();
    enroll(&server, &["alice", "bob"]);
    let archive = export(&server);
    enroll(&server, &["carol", "dave"]);
    let mut connection = TcpStream::connect(server.admin.strip_prefix("http://").unwrap()).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    write!(
        connection,
        "POST /v1/gallery?replace=true&deleted=restore HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\
         content-type: application/zip\r\ncontent-length: {}\r\n\r\n",
        archive.len()
    )
    .unwrap();
    let (half, rest) = archive.split_at(archive.len() / 2);
    connection.write_all(half).unwrap();
    // Waits without polling, because a poll could take the archive lock first.
    std::thread::sleep(Duration::from_secs(2));
    import(&server, "?dry_run=true", &archive).error(503, "archive_under_way");
    // One person is new, one is re-enrolled, one is deleted.
    server.enroll("eve", [drawn("bob-3.png")]).ok();
    enroll(&server, &["carol"]);
    delete(&server, "bob");
    connection.write_all(rest).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let answer: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (names(&answer, "removed"), names(&answer, "deleted")),
        (vec!["dave".to_owned()], vec!["bob".to_owned()]),
        "{answer}"
    );
    assert_eq!(
        answer["left_out"][0]["reason"],
        "the person was deleted while the import was running"
    );
    // eve was enrolled with bob's face.
    assert_eq!(
        ["alice", "bob", "carol", "dave"].map(|id| probe_identity(&server, id)),
        ["alice", "eve", "carol", "Unknown"]
    );
}

/// A change number far above the gallery's is left out. Own archives still import after it.
#[test]
fn far_change_number_is_ignored() {
    let server = Options::drawn().start();
    enroll(&server, &["alice"]);
    let far = |archive: &[u8]| {
        map_entries(archive, |name, bytes| {
            if name != "gallery.json" {
                return Some(bytes);
            }
            let mut origin: Value = serde_json::from_slice(&bytes).unwrap();
            origin["number"] = json!(1_u64 << 53);
            Some(serde_json::to_vec(&origin).unwrap())
        })
    };
    let answer = import(&server, "", &far(&export(&server))).ok();
    assert_eq!(
        (&answer["people"], &answer["left_out"][0]["entry"]),
        (&json!(1), &json!("gallery.json")),
        "{answer}"
    );
    assert!(
        answer["left_out"][0]["reason"]
            .as_str()
            .unwrap()
            .contains("far above"),
        "{answer}"
    );
    import(&server, "?replace=true", &far(&export(&server))).error(400, "archive_unusable_entries");
    enroll(&server, &["bob"]);
    let answer = import(&server, "?replace=true", &export(&server)).ok();
    assert_eq!(
        (&answer["people"], &answer["left_out_count"]),
        (&json!(2), &json!(0)),
        "{answer}"
    );
}

/// Thousands of people import with few disk syncs from an archive above `--max-body-mib`.
#[test]
fn large_archive_streams_quickly() {
    let people: usize = std::env::var("ROSTRO_TEST_PEOPLE")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3000);
    let (state, nowhere) = (tempfile::tempdir().unwrap(), "/nonexistent");
    let server = Options::drawn()
        .state(state.path())
        .arg("--max-body-mib", "1")
        .variable("TMPDIR", nowhere)
        .start();
    enroll(&server, &["alice"]);
    let archive = random_archive(&server, "alice", 0..people, 10);
    assert!(archive.len() > 4 << 20, "{}", archive.len());
    let begun = Instant::now();
    let answer = import(&server, "", &archive).ok();
    let taken = begun.elapsed();
    assert_eq!(
        (answer["people"].as_u64(), answer["left_out_count"].as_u64()),
        (Some(people as u64), Some(0)),
        "{answer}"
    );
    let begun = Instant::now();
    let exported = export(&server);
    println!(
        "{people} people imported in {taken:?} ({} MB), exported in {:?} ({} MB)",
        archive.len() >> 20,
        begun.elapsed(),
        exported.len() >> 20
    );
    assert!(
        taken < Duration::from_secs(5) + Duration::from_millis(10) * u32::try_from(people).unwrap(),
        "{taken:?}"
    );
    // Another service imports the export.
    assert_eq!(
        import(&Options::drawn().start(), "", &exported).ok()["people"].as_u64(),
        Some(people as u64 + 1)
    );
    let left = state
        .path()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    assert!(left.into_iter().all(|name| !name.starts_with(".tmp")));
}

/// Archives have their own size limit.
#[test]
fn archive_limits_are_kept() {
    let server = Options::drawn().arg("--max-archive-gib", "0.001").start();
    enroll(&server, &["alice"]);
    let large = random_archive(&server, "alice", 0..4000, 4);
    assert!(large.len() > 2 << 20, "{}", large.len());
    let error = import(&server, "", &large).error(413, "body_too_large");
    assert!(error.contains("--max-archive-gib"), "{error}");
    for first in [0, 2000, 4000] {
        assert_eq!(
            import(
                &server,
                "",
                &random_archive(&server, "alice", first..first + 2000, 1)
            )
            .ok()["people"],
            2000
        );
    }
    server
        .ask_admin(&Method::GET, "/v1/gallery", &[], &[])
        .error(507, "archive_too_large");
}

/// A stalled upload is answered with 408 and frees the archive lock.
#[test]
fn stalled_archive_times_out() {
    let server = Options::drawn().start();
    enroll(&server, &["alice"]);
    let address = server.admin.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    write!(connection, "POST /v1/gallery HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/zip\r\ncontent-length: 500000\r\n\r\nPK")
        .unwrap();
    let begun = Instant::now();
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(
        (&answer, begun.elapsed() > Duration::from_secs(20)),
        (b"HTTP/1.1 408", true)
    );
    assert_eq!(
        import(
            &server,
            "?dry_run=true",
            &random_archive(&server, "alice", 0..1, 1)
        )
        .ok()["dry_run"],
        true,
        "the stalled upload still holds the archive lock"
    );
}
