//! People, groups and faces without storage: the interface next to the two endpoints of the
//! replaced service.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::Method;

use crate::faults::peak_mib;
use crate::harness::{Answer, BOUNDARY, Options, Server, drawn, file, multipart, text};

const CAMERA: (&str, &str) = ("authorization", "Bearer camera-0123456789");
const OFFICE: (&str, &str) = ("x-api-key", "office-0123456789abc");
const KEYS: &str = "camera:recognise:camera-0123456789\noffice:enrol,manage:office-0123456789abc\n";

/// Starts a server with API keys, and returns it with the folder of the key file.
fn with_keys() -> (Server, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, KEYS).unwrap();
    (Options::drawn().arg("--api-keys", &file).start(), folder)
}

fn alice_and_bob() -> Server {
    let server = Options::drawn().start();
    for person in ["alice", "bob"] {
        server
            .enroll(
                person,
                [1, 2].map(|number| drawn(&format!("{person}-{number}.png"))),
            )
            .ok();
    }
    server
}

fn admin(server: &Server, method: Method, path: &str) -> Answer {
    server.ask_admin(&method, path, &[], &[])
}

/// Returns the content type of a form.
fn form_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

/// Detection, embedding and comparison of faces store nothing.
#[test]
fn face_endpoints_store_nothing() {
    let server = Options::drawn().start();
    // Detection.
    let detected = server
        .form("/v1/detect", &[file("image", "a.png", drawn("group.png"))])
        .ok();
    let faces = detected["faces"].as_array().unwrap();
    assert!(
        faces.len() >= 3 && faces[0]["landmarks"].as_array().unwrap().len() == 5,
        "{detected}"
    );
    assert!(
        faces[0]["measures"]["sharpness"].is_number()
            && faces[0].get("embedding").is_none()
            && detected.get("contract").is_none()
    );

    // Embedding.
    let embedded = server
        .post("/v1/embeddings", Some("image/png"), &drawn("alice-1.png"))
        .ok();
    let embedding: Vec<f64> =
        serde_json::from_value(embedded["faces"][0]["embedding"].clone()).unwrap();
    assert_eq!(embedding.len(), 32);
    assert_eq!(embedded["contract"].as_str().unwrap().len(), 16);

    // Comparison.
    let compare = |a: &str, b: &str| {
        server
            .form(
                "/v1/compare",
                &[file("b", "b.png", drawn(b)), file("a", "a.png", drawn(a))],
            )
            .ok()
    };
    let same = compare("alice-1.png", "alice-2.png");
    assert_eq!(
        same["best"],
        json!({ "a": 0, "b": 0, "similarity": same["similarities"][0][0], "same_person": true }),
        "{same}"
    );
    let other = compare("alice-1.png", "bob-1.png");
    assert!(
        other["best"]["similarity"].as_f64() < same["best"]["similarity"].as_f64(),
        "{other}"
    );
    let many = compare("group.png", "alice-1.png");
    assert_eq!(
        many["similarities"].as_array().unwrap().len(),
        many["a"]["faces"].as_array().unwrap().len()
    );
    let without_face = compare("empty.png", "alice-1.png");
    assert_eq!(
        (&without_face["best"], &without_face["similarities"]),
        (&Value::Null, &json!([]))
    );

    // Invalid requests.
    server
        .form("/v1/compare", &[file("a", "a.png", drawn("alice-1.png"))])
        .error(400, "image_missing");
    server
        .form("/v1/detect", &[file("image", "a.png", b"broken".to_vec())])
        .error(400, "undecodable_image");
    server
        .post("/v1/embeddings", Some("text/plain"), b"x")
        .error(415, "unsupported_content_type");
    assert_eq!(server.people_files().len(), 0);
}

#[test]
fn people_listed_shown_and_deleted() {
    let server = alice_and_bob();
    server.enroll("carol", [drawn("carol-1.png")]).ok();
    // Pages of the list.
    let page = |query: &str| server.admin_get(&format!("/v1/people?{query}"));
    let ids = |page: &Value| -> Vec<String> {
        page["people"]
            .as_array()
            .unwrap()
            .iter()
            .map(|person| person["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = page("limit=2");
    assert_eq!(ids(&first), ["alice", "bob"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    assert!(!cursor.contains("bob"));
    let second = page(&format!("limit=2&cursor={cursor}"));
    assert_eq!(
        (ids(&second), &second["next_cursor"]),
        (vec!["carol".to_owned()], &Value::Null)
    );
    admin(&server, Method::GET, "/v1/people?cursor=nonsense").error(400, "invalid_cursor");
    admin(&server, Method::GET, "/v1/people?limit=0").error(400, "invalid_limit");

    // One person.
    let alice = server.admin_get("/v1/people/alice");
    assert_eq!(alice["photos"].as_array().unwrap().len(), 2);
    assert_eq!(alice["needs_enrolment"], false);
    assert_eq!(alice["groups"], json!([]));
    let embedding = server.admin_get("/v1/people/alice/embedding");
    assert_eq!(
        (
            embedding["dimension"].as_u64(),
            embedding["templates"][0].as_array().unwrap().len()
        ),
        (Some(32), 32)
    );
    for path in ["/v1/people/nobody", "/v1/people/nobody/embedding"] {
        admin(&server, Method::GET, path).error(404, "unknown_person");
    }
    admin(&server, Method::GET, "/v1/people/a%2Fb").error(400, "invalid_id");

    // Deletion.
    assert_eq!(
        admin(&server, Method::DELETE, "/v1/people/alice").ok()["deleted"],
        true
    );
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    assert_eq!(
        admin(&server, Method::DELETE, "/v1/people/alice").ok()["deleted"],
        false
    );
}

#[test]
fn added_photos_keep_existing() {
    let (server, _keys) = with_keys();
    let send = |path: &str, parts: &[_]| {
        let headers = [OFFICE, ("content-type", &*form_type())];
        server.ask(&Method::POST, path, &multipart(parts), &headers)
    };
    send(
        "/v1/people/alice/photos",
        &[file("images", "1.png", drawn("alice-1.png"))],
    )
    .error(404, "unknown_person");
    send(
        "/process-images",
        &[
            text("id", "alice"),
            file("images", "1.png", drawn("alice-1.png")),
        ],
    )
    .ok();
    let added = send(
        "/v1/people/alice/photos",
        &[
            file("images", "2.png", drawn("alice-2.png")),
            file("images", "3.png", drawn("alice-3.png")),
        ],
    );
    assert_eq!(added.ok()["accepted"].as_array().unwrap().len(), 2);
    let lines = || {
        std::fs::read_to_string(server.gallery.join("alice.csv"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(lines(), 4, "a header and three photos");
    // A duplicate photo adds nothing.
    let again = send(
        "/v1/people/alice/photos",
        &[file("images", "2.png", drawn("alice-2.png"))],
    );
    again.error(400, "no_usable_image");
    assert_eq!(
        again.json["details"]["rejected"][0]["reasons"][0]["code"],
        "duplicate_photo"
    );
    send("/v1/people/alice/photos", &[]).error(400, "images_missing");
    assert_eq!(lines(), 4);
    // Enrolling replaces.
    send(
        "/process-images",
        &[
            text("id", "alice"),
            file("images", "1.png", drawn("alice-1.png")),
        ],
    )
    .ok();
    assert_eq!(lines(), 2);
}

#[test]
fn concurrent_photos_are_all_kept() {
    let (server, _keys) = with_keys();
    let send = |path: &str, parts: &[_]| {
        server.ask(
            &Method::POST,
            path,
            &multipart(parts),
            &[OFFICE, ("content-type", &*form_type())],
        )
    };
    send(
        "/process-images",
        &[
            text("id", "alice"),
            file("images", "1.png", drawn("alice-1.png")),
        ],
    )
    .ok();
    let names = ["alice-2", "alice-3", "alice-probe"];
    std::thread::scope(|scope| {
        for name in names {
            scope.spawn(move || {
                send(
                    "/v1/people/alice/photos",
                    &[file("images", "x.png", drawn(&format!("{name}.png")))],
                )
                .ok()
            });
        }
    });
    let lines = std::fs::read_to_string(server.gallery.join("alice.csv"))
        .unwrap()
        .lines()
        .count();
    assert_eq!(lines, 2 + names.len());
}

#[test]
fn group_restricts_search() {
    let server = alice_and_bob();
    let ask = |field: &'static str, group: &str| {
        server.form(
            "/process_frame",
            &[
                text(field, group),
                file("image", "a.png", drawn("alice-probe.png")),
            ],
        )
    };
    let first_face = |answer: Answer| answer.ok()["recognized_faces"][0].clone();
    // Old clients send `schedule_id`, which has no effect while no group exists.
    assert_eq!(first_face(ask("schedule_id", "42"))["identity"], "alice");
    ask("group", "maths").error(404, "unknown_group");

    // Members.
    admin(&server, Method::PUT, "/v1/groups/maths/people/nobody").error(404, "unknown_person");
    assert_eq!(
        admin(&server, Method::PUT, "/v1/groups/maths/people/bob").ok()["changed"],
        true
    );
    assert_eq!(
        admin(&server, Method::PUT, "/v1/groups/maths/people/bob").ok()["changed"],
        false
    );
    let face = first_face(ask("group", "maths"));
    assert_eq!(face["identity"], "Unknown", "alice is not in it: {face}");
    assert!(
        face["candidates"]
            .as_array()
            .unwrap()
            .iter()
            .all(|candidate| candidate["identity"] == "bob"),
        "{face}"
    );
    ask("schedule_id", "42").error(404, "unknown_group");
    admin(&server, Method::PUT, "/v1/groups/maths/people/alice").ok();
    assert_eq!(first_face(ask("schedule_id", "maths"))["identity"], "alice");
    assert_eq!(
        server.admin_get("/v1/groups/maths")["people"],
        json!(["alice", "bob"])
    );
    assert_eq!(
        server.admin_get("/v1/groups")["groups"],
        json!([{ "group": "maths", "people": 2 }])
    );
    assert_eq!(
        server.admin_get("/v1/people/alice")["groups"],
        json!(["maths"])
    );

    // Deletion removes a person from all groups.
    admin(&server, Method::DELETE, "/v1/people/alice").ok();
    assert_eq!(
        server.admin_get("/v1/groups/maths")["people"],
        json!(["bob"])
    );
    assert_eq!(
        admin(&server, Method::DELETE, "/v1/groups/maths/people/bob").ok()["changed"],
        true
    );
    assert_eq!(first_face(ask("group", "maths"))["reason"], "no_candidates");
    admin(&server, Method::DELETE, "/v1/groups/physics/people/bob").error(404, "unknown_group");
    assert_eq!(
        admin(&server, Method::DELETE, "/v1/groups/maths").ok()["changed"],
        true
    );
    ask("group", "maths").error(404, "unknown_group");
    admin(&server, Method::PUT, "/v1/groups/.hidden/people/bob").error(400, "invalid_group");
}

#[test]
fn groups_survive_restart() {
    let gallery = tempfile::tempdir().unwrap();
    let server = Options::drawn().gallery(gallery.path()).start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    admin(&server, Method::PUT, "/v1/groups/door/people/alice").ok();
    drop(server);
    let server = Options::drawn().gallery(gallery.path()).start();
    assert_eq!(
        server.admin_get("/v1/groups/door")["people"],
        json!(["alice"])
    );
}

#[test]
fn keys_grant_only_their_scopes() {
    let (server, folder) = with_keys();
    // Scopes.
    let frame = drawn("alice-probe.png");
    let recognise = |headers: &[(&str, &str)]| {
        let headers = [headers, &[("content-type", "image/png")]].concat();
        server.ask(&Method::POST, "/process_frame", &frame, &headers)
    };
    recognise(&[]).error(401, "unauthorized");
    recognise(&[("authorization", "Bearer wrong-0123456789")]).error(401, "unauthorized");
    recognise(&[OFFICE]).error(403, "scope_missing");
    recognise(&[CAMERA]).ok();
    for (method, path, key, code) in [
        (
            Method::GET,
            "/v1/people",
            Some(CAMERA),
            Err((403, "scope_missing")),
        ),
        (Method::GET, "/v1/people", None, Err((401, "unauthorized"))),
        (Method::GET, "/v1/people", Some(OFFICE), Ok(())),
        (Method::GET, "/v1/groups", Some(OFFICE), Ok(())),
        (
            Method::DELETE,
            "/v1/people/alice",
            Some(CAMERA),
            Err((403, "scope_missing")),
        ),
        (
            Method::POST,
            "/process-images",
            Some(CAMERA),
            Err((403, "scope_missing")),
        ),
        (
            Method::POST,
            "/v1/detect",
            Some(OFFICE),
            Err((403, "scope_missing")),
        ),
        (
            Method::POST,
            "/v1/people/alice/photos",
            Some(CAMERA),
            Err((403, "scope_missing")),
        ),
    ] {
        let answer = server.ask(&method, path, &[], &Vec::from_iter(key));
        match code {
            Ok(()) => drop(answer.ok()),
            Err((status, code)) => drop(answer.error(status, code)),
        }
    }
    let answer = recognise(&[CAMERA]);
    let log = server.log_of(&answer);
    assert!(log.contains("key camera"), "{log}");

    // A changed key is in force without a restart.
    std::fs::write(
        folder.path().join("keys"),
        "camera:recognise:another-0123456789\n",
    )
    .unwrap();
    server.signal("HUP");
    let begun = Instant::now();
    while recognise(&[CAMERA]).status == 200 {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "the keys were not reloaded"
        );
    }
    recognise(&[("x-api-key", "another-0123456789")]).ok();
    // An unusable file changes nothing.
    std::fs::write(folder.path().join("keys"), "nonsense").unwrap();
    server.signal("HUP");
    server.wait_for_log("the API keys stay as they were");
    recognise(&[("x-api-key", "another-0123456789")]).ok();
    let log = server.log();
    for secret in ["0123456789", "nonsense"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// Without API keys the port of the service refuses to manage people.
#[test]
fn keyless_service_refuses_management() {
    let server = Options::drawn().start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    for (method, path) in [
        (Method::GET, "/v1/people"),
        (Method::DELETE, "/v1/people/alice"),
        (Method::PUT, "/v1/groups/a/people/alice"),
    ] {
        server
            .ask(&method, path, &[], &[])
            .error(403, "keys_required");
    }
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

#[test]
fn invalid_key_files_stop_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, "camera:everything:camera-0123456789\n").unwrap();
    let error = Options::drawn().arg("--api-keys", &file).refuse();
    assert!(
        error.contains("line 1: a scope is not known; write a line NAME:SCOPES:KEY")
            && !error.contains("0123456789"),
        "{error}"
    );
    let error = Options::drawn()
        .arg("--api-keys", folder.path().join("none"))
        .refuse();
    assert!(error.contains("cannot read the API keys in"), "{error}");
}

#[test]
fn unauthenticated_bodies_use_no_memory() {
    let (server, _keys) = with_keys();
    let before = peak_mib(&server);
    let body = vec![0x55; 60 << 20];
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let address = server.url.strip_prefix("http://").unwrap();
                let mut connection = TcpStream::connect(address).unwrap();
                let head =
                    format!("POST /process_frame HTTP/1.1\r\nhost: x\r\ncontent-type: image/png\r\ncontent-length: {}\r\n\r\n", body.len());
                connection.write_all(head.as_bytes()).unwrap();
                // The server may disconnect before the whole body is sent.
                let _ = connection.write_all(&body);
                let mut answer = [0; 12];
                if connection.read_exact(&mut answer).is_ok() {
                    assert_eq!(&answer, b"HTTP/1.1 401");
                }
            });
        }
    });
    let grown = peak_mib(&server) - before;
    println!(
        "sixteen bodies of 60 MB without a key: {} MB at the peak, {} MB more than before",
        peak_mib(&server),
        grown
    );
    assert!(grown < 32 && peak_mib(&server) < 600, "{grown} MiB");
    server
        .ask(
            &Method::POST,
            "/process_frame",
            &drawn("alice-probe.png"),
            &[CAMERA, ("content-type", "image/png")],
        )
        .ok();
}

/// Collects the files below a folder that have a text in their name or content.
fn files_with(folder: &Path, text: &str, found: &mut Vec<String>) {
    for entry in folder.read_dir().unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.file_name().unwrap().to_string_lossy().contains(text) {
            found.push(path.display().to_string());
        }
        if path.is_dir() {
            files_with(&path, text, found);
        } else if std::fs::read(&path)
            .unwrap()
            .windows(text.len())
            .any(|window| window == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
}

/// A deleted person is in no file, index, metric label or log.
#[test]
fn deletion_leaves_no_trace() {
    const ID: &str = "zenobia.of.palmyra";
    let (gallery, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = Options::drawn()
        .gallery(gallery.path())
        .state(state.path())
        .start();
    server.enroll(ID, [drawn("alice-1.png")]).ok();
    server.enroll(ID, [drawn("alice-2.png")]).ok();
    admin(
        &server,
        Method::PUT,
        &format!("/v1/groups/maths/people/{ID}"),
    )
    .ok();
    assert_eq!(server.names(drawn("alice-probe.png")), [ID]);
    let mut found = Vec::new();
    files_with(gallery.path(), ID, &mut found);
    assert!(found.len() >= 2, "the person and the group: {found:?}");

    assert_eq!(
        admin(&server, Method::DELETE, &format!("/v1/people/{ID}")).ok()["deleted"],
        true
    );
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    let metrics = ureq::get(format!("{}/metrics", server.admin))
        .call()
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    assert!(!metrics.contains(ID));
    assert_eq!(server.terminate(), Some(0));
    for folder in [gallery.path(), state.path()] {
        let mut found = Vec::new();
        files_with(folder, ID, &mut found);
        assert_eq!(found, Vec::<String>::new());
    }
    assert!(!server.log().contains(ID), "{}", server.log());
    let audit = std::fs::read_to_string(state.path().join("audit.jsonl")).unwrap();
    for action in ["enrol", "delete-person"] {
        assert!(
            audit.contains(&format!("\"action\":\"{action}\"")),
            "{audit}"
        );
    }
    let server = Options::drawn()
        .gallery(gallery.path())
        .state(state.path())
        .start();
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
}

#[test]
fn exported_gallery_can_be_imported() {
    // Export.
    let server = alice_and_bob();
    admin(&server, Method::PUT, "/v1/groups/maths/people/bob").ok();
    let mut response = ureq::get(format!("{}/v1/gallery", server.admin))
        .call()
        .unwrap();
    assert_eq!(response.headers()["content-type"], "application/zip");
    let archive = response.body_mut().read_to_vec().unwrap();

    // Import into another gallery.
    let other = Options::drawn().start();
    other.enroll("carol", [drawn("carol-1.png")]).ok();
    let import = |bytes: &[u8]| {
        other.ask_admin(
            &Method::POST,
            "/v1/gallery",
            bytes,
            &[("content-type", "application/zip")],
        )
    };
    let answer = import(&archive).ok();
    assert_eq!(answer["people"], 2, "{answer}");
    assert_eq!(answer["groups"], 1, "{answer}");
    assert_eq!(answer["left_out_count"], 0, "{answer}");
    for person in ["alice", "bob", "carol"] {
        assert_eq!(other.names(drawn(&format!("{person}-probe.png"))), [person]);
    }
    assert_eq!(
        other.admin_get("/v1/groups/maths")["people"],
        json!(["bob"])
    );
    let (one, two) = (
        server.gallery.join("alice.csv"),
        other.gallery.join("alice.csv"),
    );
    assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());

    // A foreign archive: usable entries are imported, and the others are reported.
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let contract = other.admin_get("/v1/people/carol/embedding")["contract"]
        .as_str()
        .unwrap()
        .to_owned();
    let rows = |length: usize, contract: &str| {
        format!(
            "image_number,embedding,contract\n1,{},{contract}\n",
            vec!["0.5"; length].join(";")
        )
    };
    let (row, short, own) = (rows(32, &contract), rows(3, &contract), |name: &str| {
        format!("people/{contract}/{name}.csv")
    });
    let before = std::fs::read(other.gallery.join("bob.csv")).unwrap();
    let large = " ".repeat(5 << 20);
    for (name, content) in [
        (own("dave").as_str(), row.as_str()),
        (own("bob").as_str(), short.as_str()),
        ("people/unmarked/../../evil.csv", row.as_str()),
        (own("nonsense").as_str(), "nonsense"),
        (own("large").as_str(), large.as_str()),
        ("people/1111111111111111/eve.csv", row.as_str()),
        ("groups/physics", "dave\nnobody\n../x\n"),
        ("readme.txt", "hello"),
    ] {
        zip.start_file(name, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    let answer = import(&zip.finish().unwrap().into_inner()).ok();
    assert_eq!(answer["people"], 1, "{answer}");
    let left: Vec<&str> = answer["left_out"]
        .as_array()
        .unwrap()
        .iter()
        .map(|left| left["entry"].as_str().unwrap())
        .collect();
    for name in [
        "people/unmarked/../../evil.csv",
        &own("nonsense"),
        &own("large"),
        &own("bob"),
        "people/1111111111111111/eve.csv",
        "readme.txt",
    ] {
        assert!(left.contains(&name), "{name}: {answer}");
    }
    assert_eq!(
        std::fs::read(other.gallery.join("bob.csv")).unwrap(),
        before,
        "a row of another length replaces no person"
    );
    assert_eq!(
        other.admin_get("/v1/groups/physics")["people"],
        json!(["dave"])
    );
    import(b"no archive").error(400, "invalid_archive");
    other
        .ask_admin(&Method::POST, "/v1/gallery", b"x", &[])
        .error(415, "unsupported_content_type");
}
