//! The state of revisions after the service is killed at any moment.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Options, component, drawn, eventually};
use crate::operator::{again, bytes};
use crate::revisions::with_alice;

#[test]
fn revision_roles_survive_kill() {
    let (gallery, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = || Options::drawn().gallery(gallery.path()).state(state.path());
    let (mut server, [first, second]) = with_alice(options());
    let configured = server.active();
    let variant = server.staged(&second, "");
    let canary = server.staged(&again(&first, 1), "");
    let shadow = server.staged(&bytes(component("attendance-policy")), "");
    server.activate(&variant);
    server
        .admin_post(&format!("/v1/revisions/{canary}/canary?share=0.25"))
        .ok();
    server
        .admin_post(&format!("/v1/revisions/{shadow}/shadow?share=1"))
        .ok();
    server.kill();
    let server = options().start();
    assert_eq!(
        server.active(),
        variant,
        "the variant does not serve from the first request"
    );
    let states = [
        (&configured, "previous"),
        (&variant, "active"),
        (&canary, "canary"),
        (&shadow, "shadow"),
    ];
    eventually("the previous states", || {
        states.iter().all(|(id, state)| server.state(id) == **state)
    });
    assert_eq!(
        server.admin_get(&format!("/v1/revisions/{canary}"))["share"],
        0.25
    );
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    assert_eq!(
        server.admin_post("/v1/rollback").ok()["revision"]["id"],
        configured.as_str()
    );
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

/// Returns the state that a restart must restore: the state and share of each revision.
fn parts(statuses: &Value) -> Value {
    let revisions = statuses["revisions"].as_array().unwrap().iter();
    // After a restart, staging has finished and drained revisions are retired.
    let state = |revision: &Value| match revision["state"].as_str().unwrap() {
        "staging" => "staged".to_owned(),
        "draining" => "retired".to_owned(),
        other => other.to_owned(),
    };
    let parts: Vec<Value> = revisions
        .map(|revision| serde_json::json!([revision["id"], state(revision), revision["share"]]))
        .collect();
    serde_json::json!({ "active": statuses["active"], "previous": statuses["previous"], "revisions": parts })
}

/// A kill leaves the state from before or after the change that was under way.
#[test]
fn kill_during_change_is_atomic() {
    let (gallery, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = || Options::drawn().gallery(gallery.path()).state(state.path());
    let (mut server, [component, variant]) = with_alice(options());
    let first = server.active();
    let second = server.staged(&variant, "");
    let third = server.staged(&again(&component, 1), "");
    for round in 0..12_u64 {
        let (admin, ids) = (
            server.admin.clone(),
            [first.clone(), second.clone(), third.clone()],
        );
        let bytes = component.clone();
        // Returns the state after the last answered change, and the change that was under way.
        let changing = std::thread::spawn(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .build()
                .into();
            let statuses = || -> Option<Value> {
                let mut answer = agent.get(format!("{admin}/v1/revisions")).call().ok()?;
                serde_json::from_str(&answer.body_mut().read_to_string().ok()?).ok()
            };
            let mut last = statuses().map(|statuses| parts(&statuses))?;
            for change in usize::try_from(round).unwrap() * 5.. {
                let [one, other, third] =
                    [change % 3, (change + 1) % 3, (change + 2) % 3].map(|index| &ids[index]);
                let (method, path, body) = match change % 8 {
                    0 | 4 => ("POST", format!("/v1/revisions/{one}/activate"), Vec::new()),
                    1 => (
                        "POST",
                        format!("/v1/revisions/{other}/canary?share=0.{}1", change % 9),
                        Vec::new(),
                    ),
                    2 => (
                        "POST",
                        format!("/v1/revisions/{third}/shadow?share=0.{}1", change % 9),
                        Vec::new(),
                    ),
                    3 => ("POST", "/v1/rollback".to_owned(), Vec::new()),
                    5 => (
                        "DELETE",
                        format!("/v1/revisions/{third}/shadow"),
                        Vec::new(),
                    ),
                    6 => ("DELETE", format!("/v1/revisions/{}", ids[2]), Vec::new()),
                    _ => ("POST", "/v1/revisions".to_owned(), again(&bytes, 1)),
                };
                let request = ureq::http::Request::builder()
                    .method(method)
                    .uri(format!("{admin}{path}"))
                    .body(body.clone())
                    .unwrap();
                match agent.run(request).ok().and_then(|_| statuses()) {
                    Some(statuses) => last = parts(&statuses),
                    // The service was killed.
                    None => return Some((last, method, path, body)),
                }
            }
            None
        });
        // The kills are spread over the few milliseconds that a change takes.
        std::thread::sleep(Duration::from_micros(20_000 + round * 1_300));
        server.kill();
        let (last, method, path, body) = changing.join().unwrap().unwrap();
        server = options().start();
        eventually("the end of staging", || {
            server.admin_get("/v1/revisions")["revisions"]
                .as_array()
                .unwrap()
                .iter()
                .all(|r| r["state"] != "staging")
        });
        let found = parts(&server.admin_get("/v1/revisions"));
        if found != last {
            // The change under way was applied, so repeating it changes nothing.
            let again = server.ask_admin(&method.parse().unwrap(), &path, &body, &[]);
            assert_eq!(
                again.json["changed"], false,
                "{method} {path}: {last} became {found}; {}",
                again.json
            );
        }
        let wanted = if server.active() == second {
            "Unknown"
        } else {
            "alice"
        };
        assert_eq!(server.names(drawn("alice-probe.png")), [wanted]);
        // The next round starts with all three revisions.
        for (bytes, id) in [
            (&component, &first),
            (&variant, &second),
            (&again(&component, 1), &third),
        ] {
            assert_eq!(server.staged(bytes, ""), *id);
        }
    }
    assert_eq!(
        std::fs::read_dir(state.path().join("components"))
            .unwrap()
            .count(),
        3,
        "unfinished components remain"
    );
}

#[test]
fn killed_staging_starts_again() {
    let (gallery, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // A separate cache makes the service compile each component, so that staging takes a while.
    let options = || {
        Options::drawn()
            .gallery(gallery.path())
            .state(state.path())
            .arg("--compiled", state.path().join("compiled"))
    };
    let (mut server, [component, _]) = with_alice(options());
    let active = server.active();
    for round in 0..4 {
        let pushed = server.push(&again(&component, round), "");
        let id = pushed.json["revision"]["id"].as_str().unwrap().to_owned();
        assert_eq!(pushed.json["revision"]["state"], "staging");
        std::thread::sleep(Duration::from_millis(150 * u64::from(round)));
        server.kill();
        server = options().start();
        assert_eq!(server.active(), active);
        eventually("the staged revision", || server.state(&id) == "staged");
        server.admin_delete(&format!("/v1/revisions/{id}")).ok();
    }
}
