//! Gallery files: names in any script, files of other programs, and two processes on one folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::Method;

use crate::harness::{BOUNDARY, Options, Server, component, drawn, file, multipart, rostro, text};
use crate::operator::{again, bytes, metrics};

/// Percent-encodes every byte of a part of a path.
fn encoded(part: &str) -> String {
    part.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn person(id: &str) -> String {
    format!("/v1/people/{}", encoded(id))
}

/// Returns a person's file as the service writes it.
fn csv_of(person: &str) -> String {
    let server = Options::drawn().start();
    server
        .enroll(
            "who",
            [1, 2].map(|number| drawn(&format!("{person}-{number}.png"))),
        )
        .ok();
    fs::read_to_string(server.gallery.join("who.csv")).unwrap()
}

/// Reduces a file to the two columns of the replaced service.
fn legacy_csv(csv: &str) -> String {
    csv.lines()
        .map(|line| line.split(',').take(2).collect::<Vec<_>>().join(",") + "\r\n")
        .collect()
}

fn wait(event: &str, seconds: u64, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(
            begun.elapsed() < Duration::from_secs(seconds),
            "timeout: {event}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn ids_allow_any_script() {
    let server = Options::drawn().start();
    // An id that is sent decomposed and padded is returned composed and trimmed.
    let answer = server
        .enroll(" Jose\u{301} Nu\u{301}n\u{303}ez ", [drawn("alice-1.png")])
        .ok();
    assert_eq!(answer["durable"], true);
    assert_eq!(
        answer["filepath"],
        json!(server.gallery.join("José Núñez.csv"))
    );
    server.enroll("李雷", [drawn("bob-1.png")]).ok();
    server.enroll("می\u{200c}رود", [drawn("carol-1.png")]).ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["José Núñez"]);
    assert_eq!(server.names(drawn("bob-probe.png")), ["李雷"]);
    let people = server.admin_get("/v1/people?limit=2");
    assert_eq!(
        people["people"],
        json!([{"id": "José Núñez", "needs_enrolment": false}, {"id": "می\u{200c}رود", "needs_enrolment": false}])
    );
    let rest = server.admin_get(&format!(
        "/v1/people?cursor={}",
        people["next_cursor"].as_str().unwrap()
    ));
    assert_eq!(rest["people"][0]["id"], "李雷");

    // Group names are normalised likewise.
    let member = format!(
        "/v1/groups/{}/people/{}",
        encoded("Gru\u{308}n (5b)"),
        encoded("Jose\u{301} Núñez")
    );
    let added = server.ask_admin(&Method::PUT, &member, &[], &[]).ok();
    assert_eq!(added, json!({"changed": true, "durable": true}));
    let group = server.admin_get(&format!("/v1/groups/{}", encoded("Gru\u{308}n (5b)")));
    assert_eq!(
        group,
        json!({"group": "Grün (5b)", "people": ["José Núñez"]})
    );
    let frame = |group: &str| {
        server.form(
            "/process_frame",
            &[
                text("group", group),
                file("image", "a.png", drawn("bob-probe.png")),
            ],
        )
    };
    assert_eq!(
        frame("Gru\u{308}n (5b)").ok()["recognized_faces"][0]["identity"],
        "Unknown"
    );

    // An id that differs only in case is taken.
    for taken in ["JOSÉ NÚÑEZ", "jose\u{301} núñez"] {
        server
            .enroll(taken, [drawn("dave-1.png")])
            .error(409, "id_taken");
    }
    let other = format!(
        "/v1/groups/{}/people/{}",
        encoded("GRÜN (5B)"),
        encoded("李雷")
    );
    server
        .ask_admin(&Method::PUT, &other, &[], &[])
        .error(409, "id_taken");
    // Invalid ids are refused.
    for invalid in [
        "unknown",
        "a/b",
        ".hidden",
        "a\u{202e}b",
        "a\u{200b}b",
        &"é".repeat(101),
    ] {
        server
            .enroll(invalid, [drawn("dave-1.png")])
            .error(400, "invalid_student_id");
        server
            .ask_admin(&Method::DELETE, &person(invalid), &[], &[])
            .error(400, "invalid_id");
    }
    server
        .enroll("  ", [drawn("dave-1.png")])
        .error(400, "student_id_missing");

    // An archive keeps the ids.
    let archive = ureq::get(format!("{}/v1/gallery", server.admin))
        .call()
        .unwrap()
        .body_mut()
        .read_to_vec()
        .unwrap();
    let other = Options::drawn().start();
    other.enroll("josé núñez", [drawn("dave-1.png")]).ok();
    let imported = other
        .ask_admin(
            &Method::POST,
            "/v1/gallery",
            &archive,
            &[("content-type", "application/zip")],
        )
        .ok();
    assert_eq!(
        (&imported["people"], other.names(drawn("bob-probe.png"))),
        (&json!(2), vec!["李雷".to_owned()]),
        "{imported}"
    );

    // A deletion accepts the decomposed id.
    let deleted = server.admin_delete(&person("Jose\u{301} Núñez")).ok();
    assert_eq!(
        deleted,
        json!({"deleted": true, "left_alone": [], "durable": true, "tombstone": true})
    );
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    assert_eq!(
        server.admin_get(&format!("/v1/groups/{}", encoded("Grün (5b)")))["people"],
        json!([])
    );
    assert!(!server.gallery.join("José Núñez.csv").exists());
}

#[test]
fn legacy_gallery_loads() {
    let gallery = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str| fs::write(gallery.path().join(name), text).unwrap();
    let [alice, bob, carol, dave] =
        ["alice", "bob", "carol", "dave"].map(|person| legacy_csv(&csv_of(person)));
    put("Jose\u{301} Núñez.csv", &alice);
    put("BOB.CSV", &bob);
    // These are saved by a German Excel: one opened with the separator given, one by double click.
    let excel: String = carol
        .lines()
        .map(|line| line.split_once(',').unwrap())
        .map(|(number, numbers)| format!("{number};\"{numbers}\"\r\n"))
        .collect();
    put(
        "李雷.csv",
        &format!("\u{feff}{}", excel.replace("\"embedding\"", "embedding")),
    );
    put(
        "Anna Maria.csv",
        &dave.replacen("embedding", "embedding;;;;;", 1),
    );
    put("marks.csv", "name,marks\nalice,1\n");
    put("marks.CSV", "name,marks\nalice,1\n");
    put("no;id.csv", &alice);
    put("notes.txt", "not a person's");
    put("changed.csv", "image_number;embedding\n1;01. Mai;2\n");

    let server = Options::drawn().gallery(gallery.path()).start();
    for (probe, id) in [
        ("alice", "José Núñez"),
        ("bob", "BOB"),
        ("carol", "李雷"),
        ("dave", "Anna Maria"),
    ] {
        assert_eq!(server.names(drawn(&format!("{probe}-probe.png"))), [id]);
    }
    assert_eq!(
        server.admin_get("/v1/people")["people"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
    let log = server.log();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{log}");
    assert!(
        errors[0].contains("4 files of the gallery cannot be used")
            && errors[0].contains("rostro gallery check --gallery"),
        "{log}"
    );
    let count = |reason: &str, count: usize| {
        let line = format!("rostro_gallery_files_left_alone{{reason=\"{reason}\"}} {count}");
        assert!(
            metrics(&server).lines().any(|other| other == line),
            "{line} is not in {}",
            metrics(&server)
        );
    };
    for (reason, files) in [
        ("header", 2),
        ("name", 1),
        ("spreadsheet", 1),
        ("damaged", 0),
    ] {
        count(reason, files);
    }

    let left_alone = server.admin_get("/readyz")["files_left_alone"].clone();
    assert_eq!(
        left_alone,
        json!({"header": 2, "name": 1, "spreadsheet": 1})
    );

    // A deletion removes the person's files and lists files of that name that it leaves alone.
    for id in ["José Núñez", "BOB", "李雷", "Anna Maria", "changed"] {
        assert_eq!(
            server.admin_delete(&person(id)).ok()["deleted"],
            true,
            "{id}"
        );
    }
    count("spreadsheet", 0);
    let unknown = server.admin_delete("/v1/people/marks").ok();
    assert_eq!(unknown["deleted"], false);
    let named: Vec<&Value> = unknown["left_alone"]
        .as_array()
        .unwrap()
        .iter()
        .map(|left| &left["file"])
        .collect();
    assert_eq!(
        named,
        [
            &json!(gallery.path().join("marks.csv")),
            &json!(gallery.path().join("marks.CSV"))
        ]
    );
    let mut left = server.people_files();
    left.sort();
    assert_eq!(left, ["marks.CSV", "marks.csv", "no;id.csv", "notes.txt"]);
}

#[test]
fn copied_people_are_recognised() {
    let gallery = tempfile::tempdir().unwrap();
    let [alice, bob] = ["alice", "bob"].map(csv_of);
    let (half, rest) = alice.split_at(alice.len() / 3);
    fs::write(gallery.path().join("alice.csv"), half).unwrap();
    let server = Options::drawn().gallery(gallery.path()).start();
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    assert!(gallery.path().join("alice.csv").exists() && !gallery.path().join(".damaged").exists());
    // The copy finishes with the original's time stamp, and a further file arrives after the start.
    let copy = fs::File::options()
        .append(true)
        .open(gallery.path().join("alice.csv"))
        .unwrap();
    std::io::Write::write_all(&mut &copy, rest.as_bytes()).unwrap();
    copy.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    fs::write(gallery.path().join("bob.csv"), &bob).unwrap();
    for id in ["alice", "bob"] {
        wait(&format!("{id} is taken in"), 60, || {
            server.names(drawn(&format!("{id}-probe.png"))) == [id]
        });
    }
    assert_eq!(
        server.admin_get("/v1/people")["people"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    server
        .enroll("BOB", [drawn("carol-1.png")])
        .error(409, "id_taken");
    // A deleted person stays deleted.
    assert_eq!(server.admin_delete("/v1/people/bob").ok()["deleted"], true);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(server.names(drawn("bob-probe.png")), ["Unknown"]);
}

/// People whose files are copied during staging are known to every revision.
#[test]
fn copies_during_staging_are_known() {
    const COPIED: usize = 25;
    let gallery = tempfile::tempdir().unwrap();
    let [alice, bob] = ["alice", "bob"].map(csv_of);
    let path = |name: &str| gallery.path().join(format!("{name}.csv"));
    fs::write(path("bob"), &bob[..bob.len() / 3]).unwrap();
    let server = Options::drawn().gallery(gallery.path()).start();
    let policy = bytes(component("attendance-policy"));
    let mut staged = String::new();
    std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            for number in 0..COPIED {
                fs::write(path(&format!("p{number:02}")), &alice).unwrap();
                if number == COPIED / 2 {
                    fs::write(path("bob"), &bob).unwrap();
                }
                std::thread::sleep(Duration::from_millis(400));
            }
        });
        // As many revisions are staged as are kept ready.
        for which in 0..4 {
            staged = server.staged(&again(&policy, which), "");
        }
        assert!(!copying.is_finished());
    });
    let all_are_known = || {
        server.admin_get("/v1/people")["people"]
            .as_array()
            .unwrap()
            .len()
            == COPIED + 1
    };
    wait("all people are taken in", 60, all_are_known);
    wait("bob is known", 60, || {
        server.names(drawn("bob-probe.png")) == ["bob"]
    });
    server.activate(&staged);
    assert!(all_are_known() && server.names(drawn("bob-probe.png")) == ["bob"]);
}

/// A file that another program overwrites replaces the person. Photos are refused until it is read.
#[test]
fn overwritten_file_replaces_person() {
    let dave = csv_of("dave");
    let gallery = tempfile::tempdir().unwrap();
    let server = Options::drawn().gallery(gallery.path()).start();
    let path = gallery.path().join("alice.csv");
    let add = |photo: &str| {
        let body = multipart(&[file("images", "1.png", drawn(photo))]);
        let form = format!("multipart/form-data; boundary={BOUNDARY}");
        server.ask(
            &Method::POST,
            "/v1/people/alice/photos",
            &body,
            &[("content-type", &form)],
        )
    };
    let copy = gallery.path().join("copy");
    for by_rename in [false, true] {
        server.enroll("alice", [drawn("alice-1.png")]).ok();
        add("alice-2.png").ok();
        match by_rename {
            true => {
                fs::write(&copy, &dave).unwrap();
                fs::rename(&copy, &path).unwrap();
            }
            false => fs::write(&path, &dave).unwrap(),
        }
        add("alice-3.png").error(503, "person_busy");
        assert_eq!(fs::read_to_string(&path).unwrap(), dave);
        wait("the file is taken in", 60, || {
            server.names(drawn("dave-probe.png")) == ["alice"]
        });
        assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    }
    add("dave-3.png").ok();
}

/// A backup restored into the folders of a running service replaces the lock files.
#[test]
fn replaced_locks_are_reacquired() {
    let (state, gallery) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Options::drawn()
        .state(state.path())
        .gallery(gallery.path())
        .start();
    let locks = [gallery.path().join(".lock"), state.path().join("lock")];
    for lock in &locks {
        fs::rename(lock, lock.with_extension("old")).unwrap();
        fs::write(lock, "").unwrap();
    }
    let error = Options::drawn().gallery(gallery.path()).refuse();
    assert!(
        error.contains("the gallery") && error.contains("is used by another running service"),
        "{error}"
    );
    let error = Options::drawn().state(state.path()).refuse();
    assert!(
        error.contains("the state folder") && error.contains("is used by another running service"),
        "{error}"
    );
    // Earlier releases lock only the file.
    for lock in &locks {
        wait("the lock is taken again", 20, || {
            fs::File::open(lock).unwrap().try_lock().is_err()
        });
    }
    // An earlier release takes the lock first.
    fs::remove_file(&locks[0]).unwrap();
    fs::write(&locks[0], "").unwrap();
    let other = fs::File::open(&locks[0]).unwrap();
    other.try_lock().unwrap();
    server.wait_for_log("another process uses the gallery");
    drop(other);
    wait("the lock is taken again", 20, || {
        fs::File::open(&locks[0]).unwrap().try_lock().is_err()
    });
}

fn gallery_check(gallery: &Path, args: &[&str]) -> Output {
    rostro()
        .args(["gallery", "check", "--gallery"])
        .arg(gallery)
        .args(args)
        .output()
        .unwrap()
}

fn stdout_of(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn gallery_check_restores_whole_files() {
    let gallery = tempfile::tempdir().unwrap();
    fs::create_dir(gallery.path().join(".damaged")).unwrap();
    fs::write(gallery.path().join(".damaged/alice.csv"), csv_of("alice")).unwrap();
    fs::write(
        gallery.path().join(".damaged/bob.csv"),
        "image_number,embedding\n1,",
    )
    .unwrap();
    fs::write(gallery.path().join("marks.csv"), "name,marks\n").unwrap();
    let mut server = Options::drawn().gallery(gallery.path()).start();
    assert!(
        server
            .log()
            .contains(".damaged/alice.csv was set aside as damaged and is whole"),
        "{}",
        server.log()
    );
    // A running service allows a check, but no restore.
    let text = stdout_of(&gallery_check(gallery.path(), &[]));
    for part in [
        "marks.csv: the header does not begin",
        "alice.csv: whole, 2 photos; move it back with --restore",
        "bob.csv: row 1",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let refused = gallery_check(gallery.path(), &["--restore"]);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success()
            && error.contains("is used by another running service")
            && error.contains("--wait-for-lock"),
        "{error}"
    );
    assert_eq!(server.terminate(), Some(0));
    let text = stdout_of(&gallery_check(gallery.path(), &["--restore"]));
    assert!(
        text.contains("restored") && text.contains(": 1 people"),
        "{text}"
    );
    let server = Options::drawn().gallery(gallery.path()).start();
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    let missing = gallery_check(&gallery.path().join("none"), &[]);
    assert!(
        String::from_utf8_lossy(&missing.stderr).contains("no such folder; name it with --gallery")
    );
}

#[test]
fn second_process_is_refused() {
    let gallery = tempfile::tempdir().unwrap();
    let mut first = Options::drawn().gallery(gallery.path()).start();
    let error = Options::drawn().gallery(gallery.path()).refuse();
    let folder = gallery.path().display().to_string();
    assert!(
        error.contains(&folder)
            && error.contains("is used by another running service")
            && error.contains("--wait-for-lock"),
        "{error}"
    );
    let begun = Instant::now();
    Options::drawn()
        .gallery(gallery.path())
        .arg("--wait-for-lock", "1.5")
        .refuse();
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    // A waiting process starts when the first one ends, whether by exit or by kill.
    for end in ["TERM", "KILL"] {
        let waiting = {
            let folder = gallery.path().to_owned();
            std::thread::spawn(move || {
                Options::drawn()
                    .gallery(&folder)
                    .arg("--wait-for-lock", "100")
                    .start()
            })
        };
        std::thread::sleep(Duration::from_secs(1));
        assert!(!waiting.is_finished());
        first.signal(end);
        first = waiting.join().unwrap();
    }
}

/// One `--wait-for-lock` covers both folders, as a rolling update needs.
#[test]
fn lock_wait_covers_state_folder() {
    let (state, gallery) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = || Options::drawn().state(state.path()).gallery(gallery.path());
    let first = options().start();
    let error = Options::drawn().state(state.path()).refuse();
    assert!(
        error.contains("the state folder") && error.contains("--wait-for-lock SECONDS"),
        "{error}"
    );
    let waiting = {
        let options = options().arg("--wait-for-lock", "100");
        std::thread::spawn(move || options.start())
    };
    std::thread::sleep(Duration::from_secs(1));
    drop(first);
    waiting
        .join()
        .unwrap()
        .recognize(drawn("alice-probe.png"))
        .ok();
}

/// Builds a library that fails every folder sync, like a file system without that operation.
fn without_folder_sync(folder: &Path, error: &str) -> PathBuf {
    let text = format!(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <errno.h>\n#include <sys/stat.h>\n\
         int fsync(int file) {{\n  struct stat about;\n  int (*real)(int) = (int (*)(int)) dlsym(RTLD_NEXT, \"fsync\");\n  \
         if (fstat(file, &about) == 0 && S_ISDIR(about.st_mode)) {{ errno = {error}; return -1; }}\n  return real(file);\n}}\n"
    );
    library(folder, "nosync", &text)
}

/// Builds a library that fails every lock, as NFS does without its lock server.
///
/// Locks of read-only files fail with another error, also as on NFS.
fn without_locks(folder: &Path) -> PathBuf {
    let text = "#define _GNU_SOURCE\n#include <errno.h>\n#include <fcntl.h>\n\
                int flock(int file, int how) {\n  (void) how;\n  int is_read_only = (fcntl(file, F_GETFL) & O_ACCMODE) == O_RDONLY;\n  \
                errno = is_read_only ? EBADF : ENOLCK;\n  return -1;\n}\n";
    library(folder, "nolock", text)
}

/// Compiles a library for `LD_PRELOAD`.
fn library(folder: &Path, name: &str, text: &str) -> PathBuf {
    let (source, library) = (
        folder.join(format!("{name}.c")),
        folder.join(format!("{name}.so")),
    );
    fs::write(&source, text).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status();
    assert!(built.expect("there is a C compiler").success());
    library
}

#[test]
fn disk_without_locks_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let server = Options::drawn()
        .variable("LD_PRELOAD", without_locks(folder.path()))
        .start();
    let log = server.log();
    for place in [
        format!("the gallery {}", server.gallery.display()),
        "the state folder".to_owned(),
    ] {
        assert!(
            log.contains(&format!("the file system of {place}")) && log.contains("has no locks"),
            "{log}"
        );
    }
    server.enroll("alice", [drawn("alice-1.png")]).ok();
}

#[test]
fn disk_without_folder_sync_serves() {
    let folder = tempfile::tempdir().unwrap();
    for (error, durable) in [("EINVAL", true), ("ENOTSUP", true), ("EIO", false)] {
        let server: Server = Options::drawn()
            .variable("LD_PRELOAD", without_folder_sync(folder.path(), error))
            .start();
        let enrolled = server.enroll("alice", [drawn("alice-1.png")]);
        if durable {
            assert_eq!(enrolled.ok()["durable"], false);
        } else {
            let message = enrolled.error(500, "gallery_failed");
            assert!(message.contains("was changed"), "{message}");
        }
        assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
        let group = || server.ask_admin(&Method::PUT, "/v1/groups/maths/people/alice", &[], &[]);
        let is_gone = || {
            server.names(drawn("alice-probe.png")) == ["Unknown"]
                && server.people_files().is_empty()
        };
        if durable {
            assert_eq!(group().ok(), json!({"changed": true, "durable": false}));
            assert_eq!(
                server.admin_delete("/v1/groups/maths").ok(),
                json!({"changed": true, "durable": false})
            );
            let deleted = server.admin_delete("/v1/people/alice").ok();
            assert_eq!(
                (&deleted["deleted"], &deleted["durable"]),
                (&json!(true), &json!(false))
            );
            assert!(
                server.log().contains("cannot sync folders"),
                "{}",
                server.log()
            );
        } else {
            // Any other error fails the request, and its message does not claim that nothing was
            // changed.
            let message = group().error(500, "groups_failed");
            assert!(
                message.contains("were changed") && !message.contains("nothing"),
                "{message}"
            );
            assert_eq!(
                server.admin_get("/v1/groups/maths")["people"],
                json!(["alice"])
            );
            server
                .admin_delete("/v1/people/alice")
                .error(500, "deletion_failed");
        }
        assert!(is_gone(), "{error}");
    }
}
