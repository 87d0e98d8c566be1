//! Full and read-only disks: no data is lost, recognition continues, and the log names the remedy.
//!
//! Each disk is an in-memory file system in a mount namespace of the test and its server.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use ureq::http::Method;

use crate::database::{migrated, on};
use crate::harness::{Answer, Options, Server, drawn, file};

/// Attempts of each kind of change on a full or read-only disk.
const TRIES: usize = 40;

/// A disk of a few MiB in its own mount namespace, which ends with the test.
#[derive(Debug)]
struct Disk {
    /// The process that keeps the namespace until its input ends.
    holder: Child,
    folder: TempDir,
}

impl Disk {
    fn new(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script =
            "mount -t tmpfs -o mode=700,size=\"$1\" tmpfs \"$2\" && echo mounted && exec cat";
        let mut command = Command::new("unshare");
        command
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                script,
                "sh",
                size,
            ])
            .arg(folder.path());
        let mut holder = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("util-linux has `unshare`");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(
            line.trim(),
            "mounted",
            "no disk can be mounted for this test: the kernel must allow user namespaces (user.max_user_namespaces, \
             kernel.apparmor_restrict_unprivileged_userns; in a container, a seccomp profile without that restriction)"
        );
        Self { holder, folder }
    }

    /// Returns the command prefix that runs a program in the namespace.
    fn enter(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        [
            "nsenter",
            "--target",
            &target,
            "--user",
            "--mount",
            "--preserve-credentials",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Returns the mount point inside the namespace.
    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Returns the path by which the test, outside the namespace, reaches `path`.
    fn path_outside(&self, path: &Path) -> PathBuf {
        Path::new("/proc")
            .join(self.holder.id().to_string())
            .join("root")
            .join(path.strip_prefix("/").unwrap())
    }

    fn remount(&self, how: &str) {
        let enter = self.enter();
        let mut command = Command::new(&enter[0]);
        let status = command
            .args(&enter[1..])
            .args(["mount", "-o", &format!("remount,{how}")])
            .arg(self.path())
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
    }

    /// Fills the disk to the last byte.
    fn fill(&self) {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.path_outside(&self.path().join("ballast")))
            .unwrap();
        while let Ok(written) = ballast.write(&[b'x'; 4096]) {
            assert!(written > 0);
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.path_outside(&self.path().join("ballast"))).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Returns all files below a folder with their bytes, without the lock.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in folder
        .read_dir()
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_name() != ".lock")
    {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => drop(found.insert(entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
    found
}

fn add_photo(server: &Server, id: &str) -> Answer {
    server.form(
        &format!("/v1/people/{id}/photos"),
        &[file("images", "more.png", drawn("bob-3.png"))],
    )
}

fn change_group(server: &Server, method: &Method, group: &str, id: &str) -> Answer {
    server.ask_admin(method, &format!("/v1/groups/{group}/people/{id}"), &[], &[])
}

fn export(server: &Server) -> Vec<u8> {
    ureq::get(format!("{}/v1/gallery", server.admin))
        .call()
        .unwrap()
        .body_mut()
        .read_to_vec()
        .unwrap()
}

fn import(server: &Server, archive: &[u8]) -> Answer {
    server.ask_admin(
        &Method::POST,
        "/v1/gallery",
        archive,
        &[("content-type", "application/zip")],
    )
}

/// Returns how many of these people are recognised in their probe pictures.
fn recognised(server: &Server, people: &[&str]) -> usize {
    people
        .iter()
        .filter(|id| server.names(drawn(&format!("{id}-probe.png"))) == [**id])
        .count()
}

/// A full disk refuses additions. Recognition, deletions and restarts still work.
#[test]
fn full_disk_refuses_additions_only() {
    let disk = Disk::new("16m");
    let (gallery, state) = (disk.path().join("gallery"), disk.path().join("state"));
    let options = || {
        Options::drawn()
            .gallery(&gallery)
            .state(&state)
            .within(disk.enter())
    };
    let mut server = options().start();
    for id in ["alice", "bob", "carol"] {
        server
            .enroll(
                id,
                [drawn(&format!("{id}-1.png")), drawn(&format!("{id}-2.png"))],
            )
            .ok();
    }
    for id in ["alice", "bob", "carol"] {
        change_group(&server, &Method::PUT, "maths", id).ok();
    }
    let archive = export(&server);
    let folder = disk.path_outside(&gallery);
    let before = files(&folder);
    let is_ledger_file =
        |path: &&PathBuf| path.components().any(|part| part.as_os_str() == ".ledger");
    assert_eq!(
        before.keys().filter(|path| !is_ledger_file(path)).count(),
        4,
        "three people and a group: {:?}",
        before.keys()
    );

    // The full disk refuses additions, and none of its files changes.
    disk.fill();
    let (mut refused, mut answered) = (0, 0);
    let mut refuse = |answer: Answer, reason: &str| {
        let error = answer.error(507, "storage_full");
        assert!(error.contains(reason), "{error}");
        refused += 1;
    };
    let nothing = "nothing was changed";
    for number in 0..TRIES {
        refuse(
            server.enroll(
                &format!("new-{number}"),
                [drawn("dave-1.png"), drawn("dave-2.png")],
            ),
            nothing,
        );
        refuse(server.enroll("alice", [drawn("dave-1.png")]), nothing);
        refuse(add_photo(&server, "bob"), nothing);
        refuse(
            change_group(&server, &Method::PUT, "physics", "alice"),
            nothing,
        );
        refuse(import(&server, &archive), "what was stored so far stays");
        answered += recognised(&server, &["alice", "bob", "carol"]);
        assert_eq!(server.names(drawn("dave-probe.png")), ["Unknown"]);
    }
    assert_eq!(answered, 3 * TRIES);
    assert!(
        files(&folder) == before,
        "files changed on the full disk: {:?}",
        files(&folder).keys()
    );
    let log = server.log();
    assert!(
        log.contains("No space left on device") && log.contains("; make room on its disk"),
        "{log}"
    );
    assert!(log.contains("the audit log cannot be written"), "{log}");

    // Deletions need no room.
    assert_eq!(
        change_group(&server, &Method::DELETE, "maths", "carol").ok()["changed"],
        true
    );
    disk.fill();
    let deleted = server.admin_delete("/v1/people/bob").ok();
    assert_eq!(
        (&deleted["deleted"], &deleted["tombstone"]),
        (&Value::Bool(true), &Value::Bool(true)),
        "{deleted}"
    );
    assert_eq!(
        server.admin_get("/v1/groups/maths")["people"],
        serde_json::json!(["alice"])
    );
    for (path, bytes) in files(&folder) {
        assert!(
            !path.ends_with("bob.csv") && !String::from_utf8(bytes).unwrap().contains("bob"),
            "bob is in {}",
            path.display()
        );
    }

    // A start needs no room.
    disk.fill();
    server.kill();
    server = options().start();
    assert_eq!(recognised(&server, &["alice", "carol"]), 2);
    assert_eq!(server.names(drawn("bob-probe.png")), ["Unknown"]);
    assert_eq!(
        server.admin_get("/v1/groups/maths")["people"],
        serde_json::json!(["alice"])
    );
    server
        .enroll("dave", [drawn("dave-1.png")])
        .error(507, "storage_full");
    assert_eq!(
        server.admin_delete("/v1/people/nobody").ok()["deleted"],
        false
    );

    // With room again, people can be enrolled and every file is whole.
    disk.make_room();
    for id in ["bob", "dave"] {
        server.enroll(id, [drawn(&format!("{id}-1.png"))]).ok();
    }
    change_group(&server, &Method::PUT, "maths", "dave").ok();
    server.kill();
    server = options().start();
    let log = server.log();
    assert!(
        !log.contains("left alone") && !log.contains("quarantined"),
        "{log}"
    );
    assert_eq!(recognised(&server, &["alice", "bob", "carol", "dave"]), 4);
    assert_eq!(
        server.admin_get("/v1/groups/maths")["people"],
        serde_json::json!(["alice", "dave"])
    );
    let remaining = files(&folder);
    assert!(
        remaining.keys().all(|path| !path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(".unfinished")),
        "{:?}",
        remaining.keys()
    );
    let audit = fs::read_to_string(disk.path_outside(&state.join("audit.jsonl"))).unwrap();
    let whole = audit
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line).is_ok())
        .count();
    println!(
        "disk full: {refused} changes refused with 507 (enrolments, photos, groups, imports), {answered} frames answered meanwhile, no \
         file lost or half-written; a person deleted and a restart survived on the full disk; {whole} of {} audit lines whole",
        audit.lines().count()
    );
    assert!(
        serde_json::from_str::<Value>(audit.lines().next_back().unwrap()).is_ok(),
        "a line cut short by the full disk damaged the next one"
    );
}

/// A read-only gallery refuses changes, and the log names the remedy.
#[test]
fn read_only_gallery_still_recognises() {
    let disk = Disk::new("4m");
    let gallery = disk.path().join("gallery");
    let options = || Options::drawn().gallery(&gallery).within(disk.enter());
    let mut server = options().start();
    for id in ["alice", "bob"] {
        server
            .enroll(
                id,
                [drawn(&format!("{id}-1.png")), drawn(&format!("{id}-2.png"))],
            )
            .ok();
    }
    change_group(&server, &Method::PUT, "maths", "alice").ok();
    let archive = export(&server);
    let folder = disk.path_outside(&gallery);
    fs::write(folder.join("eve.csv"), "image_number,embedding\n1,0.5;").unwrap();
    let mut before = files(&folder);

    let (mut refused, mut answered) = (0, 0);
    for moment in ["while it runs", "at the start"] {
        disk.remount("ro");
        if moment == "at the start" {
            server.kill();
            server = options().start();
            let log = server.log();
            assert!(
                log.contains("enrolment is disabled")
                    && log.contains("left alone")
                    && log.contains("eve.csv"),
                "{log}"
            );
            // A read-only gallery is not locked, so that other services can read it.
            assert_eq!(recognised(&options().start(), &["alice", "bob"]), 2);
        }
        for number in 0..TRIES {
            for (answer, code) in [
                (
                    server.enroll(&format!("new-{number}"), [drawn("dave-1.png")]),
                    "gallery_failed",
                ),
                (
                    server.enroll("alice", [drawn("dave-1.png")]),
                    "gallery_failed",
                ),
                (add_photo(&server, "bob"), "gallery_failed"),
                (
                    change_group(&server, &Method::PUT, "maths", "bob"),
                    "groups_failed",
                ),
                (
                    change_group(&server, &Method::DELETE, "maths", "alice"),
                    "groups_failed",
                ),
                (import(&server, &archive), "gallery_failed"),
            ] {
                let error = answer.error(500, code);
                assert!(
                    error.contains("nothing was changed")
                        || error.contains("what was stored so far stays"),
                    "{error}"
                );
                refused += 1;
            }
            server
                .admin_delete("/v1/people/bob")
                .error(500, "deletion_failed");
            refused += 1;
            answered += recognised(&server, &["alice", "bob"]);
        }
        let log = server.log();
        assert!(
            log.contains("Read-only file system")
                && log.contains("; mount it so that it can be written"),
            "{log}"
        );
        assert!(
            files(&folder) == before,
            "{moment}: {:?}",
            files(&folder).keys()
        );
        disk.remount("rw");
        server.enroll("carol", [drawn("carol-1.png")]).ok();
        assert_eq!(
            recognised(&server, &["carol"]),
            1,
            "the gallery stays read-only without a restart"
        );
        assert_eq!(
            server.admin_delete("/v1/people/carol").ok()["deleted"],
            true
        );
        // The deletion left a tombstone.
        before = files(&folder);
    }
    assert_eq!(answered, 2 * 2 * TRIES);
    println!(
        "read-only gallery: {refused} changes refused with 500, {answered} frames answered meanwhile, nothing changed on the disk"
    );
}

/// Tombstones have preallocated room, so deletions on a full disk outlive an older archive.
#[test]
fn deletions_on_full_disk_hold() {
    let disk = Disk::new("16m");
    let options = || {
        Options::drawn()
            .gallery(&disk.path().join("gallery"))
            .state(&disk.path().join("state"))
            .within(disk.enter())
    };
    let mut server = options().start();
    let people = ["alice", "bob", "carol"];
    for id in people {
        server.enroll(id, [drawn(&format!("{id}-1.png"))]).ok();
    }
    let archive = export(&server);
    for id in ["alice", "bob"] {
        disk.fill();
        assert_eq!(
            server.admin_delete(&format!("/v1/people/{id}")).ok()["tombstone"],
            true
        );
    }
    server.kill();
    server = options().start();
    disk.make_room();
    let answer = import(&server, &archive).ok();
    assert_eq!(
        (&answer["people"], &answer["deleted"]),
        (&serde_json::json!(1), &serde_json::json!(["alice", "bob"])),
        "{answer}"
    );
    assert_eq!(recognised(&server, &people), 1);
}

/// With a database a person's file is a copy: an enrolment succeeds without room for it, and the log
/// says so.
#[test]
fn full_gallery_disk_keeps_database() {
    let (database, disk) = (migrated(), Disk::new("4m"));
    let gallery = disk.path().join("gallery");
    let server = on(&database).gallery(&gallery).within(disk.enter()).start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let copies = || {
        let files = files(&disk.path_outside(&gallery));
        let people = files.into_keys();
        let people = people.filter(|path| path.extension().is_some_and(|end| end == "csv"));
        people.count()
    };
    assert_eq!(copies(), 1);
    disk.fill();
    server.enroll("bob", [drawn("bob-1.png")]).ok();
    server.wait_for_log("stored in the database, but not in this node's files");
    assert!(
        server.log().contains("make room on its disk"),
        "{}",
        server.log()
    );
    assert_eq!(copies(), 1);
    assert_eq!(recognised(&server, &["alice", "bob"]), 2);
    // A deletion needs no room.
    server.admin_delete("/v1/people/alice").ok();
    assert_eq!(copies(), 0);
    disk.make_room();
    server.enroll("bob", [drawn("bob-2.png")]).ok();
    assert_eq!(copies(), 1);
}

/// Archives keep a tenth of a small disk free. A small gallery can still be exported.
#[test]
fn archives_leave_room_on_disk() {
    let disk = Disk::new("64m");
    let state = disk.path().join("state");
    let own = tempfile::tempdir().unwrap();
    let server = Options::drawn()
        .gallery(own.path())
        .state(&state)
        .within(disk.enter())
        .start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let small = export(&server);
    // 58 of 64 MiB are used: less than a tenth is free, but more than the archive needs.
    let used = 58 << 20;
    fs::write(
        disk.path_outside(&disk.path().join("ballast")),
        vec![0; used],
    )
    .unwrap();
    assert_eq!(import(&server, &small).ok()["people"], 1);
    assert!(!export(&server).is_empty());
    let large = vec![0; 5 << 20];
    let error = import(&server, &large).error(507, "storage_full");
    assert!(error.contains("no room for the archive"), "{error}");
    assert!(
        server.log().contains("would leave less than 6 MiB free"),
        "{}",
        server.log()
    );
    disk.make_room();
    import(&server, &large).error(400, "invalid_archive");
}
