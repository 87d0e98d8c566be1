//! Disks that are full, or cannot be written: nothing is lost, everybody is recognised, and the log
//! says what to do.
//!
//! The disks are real: file systems in memory, mounted where nobody but the test and its server
//! sees them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use ureq::http::Method;

use crate::harness::{Answer, Options, Server, drawn, file};

/// Changes of each kind that are tried on a full disk.
const TRIES: usize = 40;

/// A disk of a few MiB in a mount namespace of its own, which ends with the test, however that
/// ends.
#[derive(Debug)]
struct Disk {
    /// Who holds the namespace, until its input ends.
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

    /// Runs a program where the disk is mounted.
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

    /// Where the server that is inside finds it.
    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Where the test, which is outside, finds it.
    fn seen(&self, path: &Path) -> PathBuf {
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

    /// Writes until there is no room for one byte more.
    fn fill(&self) {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.seen(&self.path().join("ballast")))
            .unwrap();
        while let Ok(written) = ballast.write(&[b'x'; 4096]) {
            assert!(written > 0);
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.seen(&self.path().join("ballast"))).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Every file of a folder and those in it, with what is in it, without the lock.
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

/// How many of these are recognised in their probes.
fn recognised(server: &Server, people: &[&str]) -> usize {
    people
        .iter()
        .filter(|id| server.names(drawn(&format!("{id}-probe.png"))) == [**id])
        .count()
}

#[test]
fn a_full_disk_refuses_what_is_new_harms_nobody_and_lets_people_be_deleted() {
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
    let folder = disk.seen(&gallery);
    let before = files(&folder);
    let is_of_the_ledger =
        |path: &&PathBuf| path.components().any(|part| part.as_os_str() == ".ledger");
    assert_eq!(
        before.keys().filter(|path| !is_of_the_ledger(path)).count(),
        4,
        "three people and a group: {:?}",
        before.keys()
    );

    disk.fill();
    let (mut refused, mut answered) = (0, 0);
    let mut refuse = |answer: Answer, told: &str| {
        let error = answer.error(507, "storage_full");
        assert!(error.contains(told), "{error}");
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
        "nothing is lost, changed, half-written or left over: {:?}",
        files(&folder).keys()
    );
    let log = server.log();
    assert!(
        log.contains("No space left on device") && log.contains("; make room on its disk"),
        "{log}"
    );
    assert!(log.contains("the audit log cannot be written"), "{log}");

    // What makes room needs none.
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

    // And a start needs none.
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

    disk.make_room();
    for id in ["bob", "dave"] {
        server.enroll(id, [drawn(&format!("{id}-1.png"))]).ok();
    }
    change_group(&server, &Method::PUT, "maths", "dave").ok();
    server.kill();
    server = options().start();
    let log = server.log();
    assert!(
        !log.contains("left alone") && !log.contains("set aside"),
        "{log}"
    );
    assert_eq!(recognised(&server, &["alice", "bob", "carol", "dave"]), 4);
    assert_eq!(
        server.admin_get("/v1/groups/maths")["people"],
        serde_json::json!(["alice", "dave"])
    );
    let there = files(&folder);
    assert!(
        there.keys().all(|path| !path
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with(".unfinished")),
        "{:?}",
        there.keys()
    );
    let audit = fs::read_to_string(disk.seen(&state.join("audit.jsonl"))).unwrap();
    let whole = audit
        .lines()
        .filter(|line| serde_json::from_str::<Value>(line).is_ok())
        .count();
    println!(
        "disk full: {refused} changes refused with 507 (enrolments, photos, groups, imports), {answered} frames answered beside them, nobody \
         lost or half-written; a person deleted and a restart survived on the full disk; {whole} of {} audit lines whole",
        audit.lines().count()
    );
    assert!(
        serde_json::from_str::<Value>(audit.lines().next_back().unwrap()).is_ok(),
        "what a full disk cut short swallows no line after it"
    );
}

#[test]
fn a_gallery_that_turns_read_only_recognises_and_says_how_to_mend_it() {
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
    let folder = disk.seen(&gallery);
    fs::write(folder.join("eve.csv"), "image_number,embedding\n1,0.5;").unwrap();
    let mut before = files(&folder);

    let (mut refused, mut answered) = (0, 0);
    for begun in ["while it runs", "at the start"] {
        disk.remount("ro");
        if begun == "at the start" {
            server.kill();
            server = options().start();
            let log = server.log();
            assert!(
                log.contains("nobody can be enrolled")
                    && log.contains("left alone")
                    && log.contains("eve.csv"),
                "{log}"
            );
            // Where nothing can be changed nothing is locked: others may read it, too.
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
            "{begun}: {:?}",
            files(&folder).keys()
        );
        disk.remount("rw");
        server.enroll("carol", [drawn("carol-1.png")]).ok();
        assert_eq!(recognised(&server, &["carol"]), 1, "it needs no restart");
        assert_eq!(
            server.admin_delete("/v1/people/carol").ok()["deleted"],
            true
        );
        // The deletion left a tombstone.
        before = files(&folder);
    }
    assert_eq!(answered, 2 * 2 * TRIES);
    println!(
        "read-only gallery: {refused} changes refused with 500, {answered} frames answered beside them, nothing changed on the disk"
    );
}

/// Tombstones have preallocated room: after deletions on a full disk an older archive brings nobody
/// back.
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

/// Archives leave the last tenth of the state folder's disk alone; a small gallery can be exported
/// nevertheless.
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
    // 58 of 64 MiB: less than a tenth is left, and more than the archive has.
    let used = 58 << 20;
    fs::write(disk.seen(&disk.path().join("ballast")), vec![0; used]).unwrap();
    assert_eq!(import(&server, &small).ok()["people"], 1);
    assert!(!export(&server).is_empty());
    let large = vec![0; 5 << 20];
    let error = import(&server, &large).error(507, "storage_full");
    assert!(error.contains("no room for the archive"), "{error}");
    assert!(
        server.log().contains("the last tenth of the disk"),
        "{}",
        server.log()
    );
    disk.make_room();
    import(&server, &large).error(400, "invalid_archive");
}
