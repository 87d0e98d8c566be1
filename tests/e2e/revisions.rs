//! Revisions: swaps under load, commands of operators, and components from untrusted people.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;
use ureq::http::Method;

use crate::hammer::{Activation, Hammer, p99};
use crate::harness::{Options, Server, component, drawn, eventually, file, refusal};
use crate::operator::{again, bytes};

/// Swaps of the test; `cargo xtask bench revisions` stages each of its hundred anew.
const SWAPS: usize = 100;

/// Connections that send requests during the swaps.
const CONNECTIONS: usize = 8;

/// Starts a server with alice enrolled. Returns it with two components, of which the second
/// recognises no person.
pub(crate) fn with_alice(options: Options) -> (Server, [Vec<u8>; 2]) {
    let server = options.start();
    server
        .enroll("alice", [drawn("alice-1.png"), drawn("alice-2.png")])
        .ok();
    (
        server,
        [bytes(component("insightface")), bytes(component("variant"))],
    )
}

/// A hundred swaps under load lose no request, and each answer comes from the revision that it
/// names.
#[test]
fn swaps_under_load_lose_nothing() {
    let (server, [first, second]) = with_alice(Options::drawn());
    let names = HashMap::from([
        (server.active(), "alice"),
        (server.staged(&second, ""), "Unknown"),
    ]);
    let ids: Vec<String> = names.keys().cloned().collect();
    let hammer = Hammer::begin(&server.url, &drawn("alice-probe.png"), CONNECTIONS);
    hammer.wait_for(50);
    let mut activations: Vec<Activation> = Vec::new();
    let mut clear = 0;
    for swap in 0..SWAPS {
        let active = server.active();
        let next = ids.iter().find(|id| **id != active).unwrap();
        // Every 20th swap retires the other revision and stages it anew, under the same load.
        if swap % 20 == 19 {
            server.admin_delete(&format!("/v1/revisions/{next}")).ok();
            eventually("the end of the retired revision", || {
                server.state(next) == "retired"
            });
            let component = if names[next] == "alice" {
                &first
            } else {
                &second
            };
            assert_eq!(server.staged(component, ""), *next);
        }
        let asked = Instant::now();
        server.activate(next);
        activations.push(Activation {
            asked,
            answered: Instant::now(),
            revision: next.clone(),
        });
        // Waits for requests that begin after this activation and end before the next one.
        hammer.wait_for(2 * CONNECTIONS);
    }
    let shots = hammer.end();
    println!("{} requests, p99 {:?}", shots.len(), p99(&shots));
    for shot in &shots {
        assert_eq!(shot.status, Some(200), "{shot:?}");
        assert_eq!(
            Some(shot.identity.as_str()),
            names.get(&shot.revision).copied(),
            "an answer is not of the revision that it names: {shot:?}"
        );
        if let Some(allowed) = shot.may_be_served_by(&activations) {
            assert!(
                allowed.contains(&shot.revision.as_str()),
                "a request after an activation was served by an earlier revision: {shot:?}"
            );
            clear += usize::from(allowed.len() == 1);
        }
    }
    println!("{clear} of them between two activations");
    assert!(
        clear > shots.len() / 10,
        "{clear}: too few requests between two activations"
    );
    let served: std::collections::HashSet<&String> =
        shots.iter().map(|shot| &shot.revision).collect();
    assert_eq!(served.len(), 2, "both revisions serve");
}

/// A component that cannot be staged is refused with the reason, and changes nothing.
#[test]
fn unusable_component_changes_nothing() {
    let models = tempfile::tempdir().unwrap();
    pack(
        models.path(),
        "blind",
        &[("recognizer", model("recognizer"))],
    );
    let photos = tempfile::tempdir().unwrap();
    std::fs::write(photos.path().join("group.png"), drawn("group.png")).unwrap();
    std::fs::write(
        photos.path().join("expectations.toml"),
        "[faces]\n'group.png' = 3\n",
    )
    .unwrap();
    let count = Options::drawn().start().recognize(drawn("group.png")).ok()["recognized_faces"]
        .as_array()
        .unwrap()
        .len();
    std::fs::write(
        photos.path().join("expectations.toml"),
        format!("[faces]\n'group.png' = {count}\n"),
    )
    .unwrap();
    let (server, [first, _]) = with_alice(
        Options::drawn()
            .arg("--models", models.path())
            .arg("--self-test", photos.path()),
    );
    let active = server.active();
    let evil = bytes(component("evil"));

    // Refused by the push.
    let compiled = [b"\x7fELF\x02\x01\x01\0".as_slice(), &[0; 100]].concat();
    for (case, component, query, code, wanted) in [
        (
            "no component",
            b"not a component".to_vec(),
            "",
            "invalid_component",
            "not a WebAssembly component",
        ),
        (
            "nothing",
            Vec::new(),
            "",
            "invalid_component",
            "not a WebAssembly component",
        ),
        (
            "a core module",
            b"\0asm\x01\0\0\0".to_vec(),
            "",
            "invalid_component",
            "a core WebAssembly module, not a component",
        ),
        (
            "a compiled artefact",
            compiled,
            "",
            "invalid_component",
            "native or precompiled",
        ),
        (
            "another world",
            b"\0asm\x0d\0\x01\0".to_vec(),
            "",
            "invalid_component",
            "does not export rostro:pipeline/about@0.2.0 with",
        ),
        (
            "a damaged component",
            again(&first, 0)[..first.len() / 2].to_vec(),
            "",
            "invalid_component",
            "not valid",
        ),
        (
            "a pack that is not there",
            first.clone(),
            "pack=nowhere",
            "pack_unusable",
            "nowhere",
        ),
        (
            "other bytes than were meant",
            first.clone(),
            &format!("sha256={}", "0".repeat(64)),
            "digest_mismatch",
            "send it again",
        ),
        (
            "an unknown parameter",
            first.clone(),
            "pakc=testing",
            "invalid_query",
            "pakc",
        ),
    ] {
        let error = server.push(&component, query).error(400, code);
        assert!(error.contains(wanted), "{case}: {error}");
    }
    // A truncated upload: the connection ends before the body.
    let address = server.admin.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).unwrap();
    write!(
        connection,
        "POST /v1/revisions HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n",
        first.len()
    )
    .unwrap();
    connection.write_all(&first[..1000]).unwrap();
    connection.shutdown(std::net::Shutdown::Write).unwrap();
    let mut response = String::new();
    let _ = connection.read_to_string(&mut response);
    assert!(
        response.contains("400") && response.contains("upload_cut_off"),
        "{response}"
    );
    assert_eq!(
        server.admin_get("/v1/revisions")["revisions"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    // Refused by staging.
    let mut damaged = again(&first, 1);
    let middle = damaged.len() / 3;
    damaged[middle..middle + 64].fill(0xff);
    for (case, component, query, wanted) in [
        ("code that does not compile", damaged, "", "not valid"),
        (
            "a missing model",
            again(&first, 2),
            "pack=blind",
            "needs a model for the role `detector`, and the pack `blind` has only",
        ),
        (
            "answers that are not expected",
            evil,
            "",
            "the self-test failed: group.png: 1 faces, not",
        ),
    ] {
        let pushed = server.push(&component, query);
        let reason = match pushed.status {
            400 => pushed.json["error"].as_str().unwrap().to_owned(),
            _ => server.stage(&component, query)["reason"]
                .as_str()
                .map(str::to_owned)
                .unwrap_or_else(|| panic!("{case} was staged")),
        };
        assert!(reason.contains(wanted), "{case}: {reason}");
    }
    assert_eq!(server.active(), active);
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    // A failed revision cannot be activated.
    let evil = server.admin_get("/v1/revisions")["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["state"] == "failed")
        .cloned();
    server
        .admin_post(&format!(
            "/v1/revisions/{}/activate",
            evil.unwrap()["id"].as_str().unwrap()
        ))
        .error(409, "not_ready");
}

/// A newly configured pipeline serves after a restart, and a roll-back restores the previous one.
#[test]
fn configured_pipeline_serves_after_restart() {
    let (gallery, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = || Options::drawn().gallery(gallery.path()).state(state.path());
    let (mut server, _) = with_alice(options());
    let before = server.active();
    server.kill();
    let server = options().pipeline(component("variant")).start();
    assert_ne!(server.active(), before);
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    eventually("the one before", || server.state(&before) == "previous");
    server.admin_post("/v1/rollback").ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

/// Settings belong to a revision: another one of the same component has them, also after a restart.
#[test]
fn revision_settings_survive_restart() {
    let (gallery, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = || {
        let options = Options::drawn().gallery(gallery.path()).state(state.path());
        options.arg("--setting", "rivals=on")
    };
    let (mut server, _) = with_alice(options());
    let first = server.active();
    let configure = |server: &Server, args: &[&str]| {
        let output = server.pipeline(&[&["configure"], args].concat()).output();
        let output = output.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), text)
    };
    for (setting, words) in [
        (
            "rivals=maybe",
            "the setting rivals is `maybe`; it must be `on` or `off`",
        ),
        ("rivls=off", "the setting `rivls` (did you mean `rivals`?)"),
    ] {
        let (is_done, text) = configure(&server, &[&first, "--setting", setting]);
        assert!(!is_done && text.contains(words), "{text}");
    }
    let (is_done, text) = configure(&server, &[&first, "--unset", "rivals"]);
    assert!(
        !is_done && text.contains("has no setting `rivals` of its own"),
        "{text}"
    );
    let (is_done, text) = configure(&server, &[&first, "--setting", "rivals=off", "--activate"]);
    assert!(is_done, "{text}");
    let second = server.active();
    assert_ne!(first, second);
    server.kill();
    let server = options().start();
    assert_eq!(server.active(), second);
    let revision = server.admin_get(&format!("/v1/revisions/{second}"));
    assert_eq!(revision["settings"], serde_json::json!({ "rivals": "off" }));
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    // Without the setting, it is the first revision again.
    let (is_done, text) = configure(&server, &[&second, "--unset", "rivals", "--activate"]);
    assert!(is_done, "{text}");
    assert_eq!(server.active(), first);
}

/// Another recogniser needs permission, and a roll-back restores all people.
#[test]
fn recogniser_change_needs_permission() {
    let models = tempfile::tempdir().unwrap();
    // The models have an additional unused field: other bytes, so another contract.
    let [detector, recognizer] = ["detector", "recognizer"]
        .map(|role| (role, [model(role), vec![0xc0, 0x3e, 0x01]].concat()));
    pack(models.path(), "other", &[detector, recognizer]);
    let (server, [first, _]) = with_alice(Options::drawn().arg("--models", models.path()));
    let before = server.active();
    let other = server.staged(&first, "pack=other");
    assert_eq!(
        server.admin_get(&format!("/v1/revisions/{other}"))["need_enrolment"],
        1
    );
    let activate = format!("/v1/revisions/{other}/activate");
    let refused = server.admin_post(&activate);
    refused.error(409, "contract_change");
    assert_eq!(refused.json["details"]["people"], 1);
    assert_eq!(server.active(), before);

    server
        .admin_post(&format!("{activate}?allow_contract_change=true"))
        .ok();
    assert_eq!(
        server.names(drawn("alice-probe.png")),
        ["Unknown"],
        "embeddings of two recognisers are not compared"
    );
    let people = |server: &Server| -> Vec<(String, bool)> {
        let people = server.admin_get("/v1/people")["people"]
            .as_array()
            .unwrap()
            .clone();
        people
            .iter()
            .map(|p| {
                (
                    p["id"].as_str().unwrap().to_owned(),
                    p["needs_enrolment"].as_bool().unwrap(),
                )
            })
            .collect()
    };
    assert_eq!(people(&server), [("alice".to_owned(), true)]);
    // An enrolment with the new recogniser holds for the previous one, too.
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    server.enroll("bob", [drawn("bob-1.png")]).ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    assert_eq!(
        people(&server),
        [("alice".to_owned(), false), ("bob".to_owned(), false)]
    );
    // After the roll-back all people are known. From now on the other revision is only staged, so
    // new enrolments do not reach its contract.
    server.admin_post("/v1/rollback").ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    assert_eq!(server.names(drawn("bob-probe.png")), ["bob"]);
    assert_eq!(
        people(&server),
        [("alice".to_owned(), false), ("bob".to_owned(), false)]
    );
    // A deletion holds for both.
    for id in ["alice", "bob"] {
        assert_eq!(
            server.admin_delete(&format!("/v1/people/{id}")).ok()["deleted"],
            true
        );
    }
    assert_eq!(
        server.admin_delete("/v1/people/alice").ok()["deleted"],
        false
    );
    server
        .admin_post(&format!("{activate}?allow_contract_change=true"))
        .ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    assert!(people(&server).is_empty());
}

/// A canary gets its share of the requests, and those with the header for it.
#[test]
fn canary_serves_share_and_header() {
    let (server, [_, second]) = with_alice(Options::drawn());
    let active = server.active();
    let canary = server.staged(&second, "");
    server
        .admin_post(&format!("/v1/revisions/{canary}/canary?share=0.25"))
        .ok();
    let ask = |preference: Option<&str>| {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let mut request = agent
            .post(format!("{}/process_frame", server.url))
            .header("content-type", "image/png");
        if let Some(preference) = preference {
            request = request.header("x-rostro-canary", preference);
        }
        let answer = request.send(&drawn("alice-probe.png")).unwrap();
        let revision = answer
            .headers()
            .get("x-rostro-pipeline")
            .map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), revision)
    };
    // The share.
    let answers: Vec<Option<String>> = (0..12).map(|_| ask(None).1).collect();
    assert_eq!(
        answers
            .iter()
            .filter(|revision| revision.as_ref() == Some(&canary))
            .count(),
        3,
        "{answers:?}"
    );
    // The header.
    assert_eq!(ask(Some("always")), (200, Some(canary.clone())));
    for _ in 0..4 {
        assert_eq!(ask(Some("never")), (200, Some(active.clone())));
    }
    assert_eq!(ask(Some("perhaps")).0, 400);
    server
        .admin_delete(&format!("/v1/revisions/{canary}/canary"))
        .ok();
    assert_eq!(
        ask(Some("always")),
        (200, Some(active)),
        "the canary has ended"
    );
    assert_eq!(server.state(&canary), "staged");
}

/// A shadow sees requests, but its answers are only compared.
#[test]
fn shadow_compares_without_answering() {
    let (server, [first, second]) = with_alice(Options::drawn());
    let shadow = server.staged(&second, "");
    let agreement =
        |id: &str| server.admin_get(&format!("/v1/revisions/{id}"))["agreement"].clone();
    server
        .admin_post(&format!("/v1/revisions/{shadow}/shadow?share=1"))
        .ok();
    for frames in 1..=5 {
        assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
        eventually("the shadow", || agreement(&shadow)["frames"] == frames);
    }
    let counts = agreement(&shadow);
    assert_eq!(
        (
            counts["same_face"].as_u64(),
            counts["same_identity"].as_u64()
        ),
        (Some(5), Some(0)),
        "{counts}"
    );
    // A shadow with equal answers agrees.
    let same = server.staged(&again(&first, 1), "");
    server
        .admin_post(&format!("/v1/revisions/{same}/shadow?share=1"))
        .ok();
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    eventually("the shadow", || agreement(&same)["frames"] == 1);
    assert_eq!(agreement(&same)["same_identity"], 1);
    assert!(agreement(&shadow).is_null(), "only one shadow exists");
}

/// Changes need a suitable state, repeat without effect, and are in the audit log.
#[test]
fn changes_are_checked_and_audited() {
    let state = tempfile::tempdir().unwrap();
    let (server, [_, second]) = with_alice(Options::drawn().state(state.path()));
    let first = server.active();
    server.admin_post("/v1/rollback").error(409, "no_previous");
    let variant = server.staged(&second, "");
    assert_eq!(
        server.push(&second, "").ok()["changed"],
        false,
        "the revision is staged already"
    );
    // Activation and roll-back.
    let changed = |answer: Value| answer["changed"].as_bool().unwrap();
    assert!(changed(server.activate(&variant)));
    assert!(!changed(server.activate(&variant)));
    server
        .admin_delete(&format!("/v1/revisions/{variant}"))
        .error(409, "active");
    assert!(changed(server.admin_post("/v1/rollback").ok()));
    assert!(
        !changed(server.admin_post("/v1/rollback").ok()),
        "a repeated rollback does not flip back"
    );
    assert_eq!(server.active(), first);
    // Retirement.
    assert!(changed(
        server
            .admin_delete(&format!("/v1/revisions/{variant}"))
            .ok()
    ));
    assert!(!changed(
        server
            .admin_delete(&format!("/v1/revisions/{variant}"))
            .ok()
    ));
    // Refused changes.
    server
        .admin_post(&format!("/v1/revisions/{variant}/activate"))
        .error(409, "not_ready");
    server
        .admin_post("/v1/revisions/ffffffff/activate")
        .error(404, "unknown_revision");
    server
        .admin_post(&format!("/v1/revisions/{first}/canary?share=2"))
        .error(400, "invalid_share");

    // The audit log.
    let log = std::fs::read_to_string(state.path().join("audit.jsonl")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |action: &str| -> Vec<&str> {
        lines
            .iter()
            .filter(|line| line["action"] == action)
            .map(|line| line["outcome"].as_str().unwrap())
            .collect()
    };
    assert_eq!(
        of("activate"),
        ["configured", "done", "unchanged", "refused"]
    );
    assert_eq!(of("rollback"), ["refused", "done", "unchanged"]);
    assert_eq!(of("retire"), ["refused", "done", "unchanged"]);
    assert_eq!(of("stage"), ["staged"]);
    let push = lines.iter().find(|line| line["action"] == "push").unwrap();
    assert_eq!(
        (push["who"].as_str(), push["revision"].as_str()),
        (Some("local"), Some(variant.as_str()))
    );
    assert!(
        push["from"].as_str().unwrap().starts_with("127.0.0.1:")
            && push["time"].as_str().unwrap().starts_with("20"),
        "{push}"
    );
}

#[test]
fn admin_interface_needs_authorization() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(
        &tokens,
        "alice:0123456789abcdef-a\nbob:0123456789abcdef-b\n",
    )
    .unwrap();
    // A public address needs tokens.
    let refused = Options::drawn().arg("--admin", "0.0.0.0:0").refuse();
    assert!(refused.contains("--admin-token-file"), "{refused}");

    let server = Options::drawn().arg("--admin-token-file", &tokens).start();
    let ask =
        |headers: &[(&str, &str)]| server.ask_admin(&Method::GET, "/v1/revisions", &[], headers);
    ask(&[]).error(401, "unauthorized");
    ask(&[("authorization", "Bearer 0123456789abcdef")]).error(401, "unauthorized");
    ask(&[("authorization", "Bearer 0123456789abcdef-b")]).ok();
    ask(&[
        ("authorization", "Bearer 0123456789abcdef-b"),
        ("origin", "http://evil.example"),
    ])
    .error(403, "browser_refused");
    let mut list = server.pipeline(&["list"]);
    assert!(refusal(list_of(&server)).contains("needs a token"));
    let output = list
        .arg("--admin-token-file")
        .arg(&tokens)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");

    // Without tokens only its own host name is accepted, which prevents DNS rebinding by web pages.
    let server = Options::drawn().start();
    server
        .ask_admin(
            &Method::GET,
            "/v1/revisions",
            &[],
            &[("host", "evil.example")],
        )
        .error(403, "host_refused");
    // The port of the service has no admin routes.
    assert_eq!(server.post("/v1/rollback", None, &[]).status, 404);
}

fn list_of(server: &Server) -> std::process::Command {
    server.pipeline(&["list"])
}

#[test]
fn watched_component_is_activated() {
    let folder = tempfile::tempdir().unwrap();
    let (server, [first, second]) = with_alice(Options::drawn().arg("--pipelines", folder.path()));
    let before = server.active();
    // Incomplete and other files are ignored: a component is renamed once it is complete.
    std::fs::write(folder.path().join(".half.wasm"), &second[..1000]).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no component").unwrap();
    std::fs::write(folder.path().join(".variant.wasm"), &second).unwrap();
    std::fs::rename(
        folder.path().join(".variant.wasm"),
        folder.path().join("variant.wasm"),
    )
    .unwrap();
    eventually("the other pipeline", || server.active() != before);
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    // An invalid component changes nothing, and the next valid one serves.
    std::fs::write(folder.path().join("broken.wasm"), b"not a component").unwrap();
    std::fs::write(folder.path().join("variant.wasm"), again(&first, 7)).unwrap();
    eventually("the third pipeline", || {
        server.names(drawn("alice-probe.png")) == ["alice"]
    });
    assert!(
        server.log().contains("not a WebAssembly component"),
        "{}",
        server.log()
    );
    let revisions = server.admin_get("/v1/revisions")["revisions"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(revisions, 3, "an invalid component is not a revision");
}

#[test]
fn pipeline_commands_drive_service() {
    let (server, _) = with_alice(Options::drawn());
    let says = |args: &[&str]| {
        let output = server.pipeline(args).output().unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let variant = component("variant");
    let pushed: Value =
        serde_json::from_str(&says(&["push", variant.to_str().unwrap(), "--json"])).unwrap();
    let id = &pushed["id"].as_str().unwrap()[..12];
    assert_eq!(pushed["state"], "staged");
    assert_eq!(
        says(&["shadow", id]),
        format!("{id} (insightface 0.1.0 on testing): shadow\n")
    );
    assert_eq!(
        says(&["shadow", id, "--off"]),
        format!("{id} (insightface 0.1.0 on testing): staged\n")
    );
    assert_eq!(
        says(&["canary", id, "--share", "0.5"]),
        format!("{id} (insightface 0.1.0 on testing): canary\n")
    );
    let table = says(&["list"]);
    let row = table.lines().find(|line| line.contains(id)).unwrap();
    assert!(
        row.contains("canary") && row.contains("50% of the requests"),
        "{table}"
    );
    assert_eq!(
        says(&["activate", id]),
        format!("{id} (insightface 0.1.0 on testing): active\n")
    );
    assert_eq!(
        says(&["activate", id]),
        format!("{id} (insightface 0.1.0 on testing): active (unchanged)\n")
    );
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    assert!(says(&["rollback"]).ends_with(": active\n"));
    assert_eq!(
        says(&["retire", id]),
        format!("{id} (insightface 0.1.0 on testing): retired\n")
    );
    let listed: Value = serde_json::from_str(&says(&["list", "--json"])).unwrap();
    assert_eq!(listed["revisions"].as_array().unwrap().len(), 2);

    // A push that activates, and refused commands.
    let policy = component("attendance-policy");
    assert!(says(&["push", policy.to_str().unwrap(), "--activate"]).ends_with(": active\n"));
    let refused = refusal(server.pipeline(&["retire", &server.active()]));
    assert!(
        refused.contains("refused: the revision")
            && refused.contains("is active; activate another first"),
        "{refused}"
    );
    let mut nowhere = crate::harness::rostro();
    nowhere.args(["pipeline", "list", "--admin", "http://127.0.0.1:9"]);
    assert!(refusal(nowhere).contains("--admin"));
}

/// Reads a model of the folder of the pack `testing`.
pub(crate) fn model(name: &str) -> Vec<u8> {
    bytes(crate::harness::root().join(format!("models/testing/{name}.onnx")))
}

/// Writes a pack like `testing` with these models by role.
pub(crate) fn pack(models: &Path, name: &str, files: &[(&str, Vec<u8>)]) {
    use sha2::{Digest, Sha256};
    let folder = models.join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let manifest =
        std::fs::read_to_string(crate::harness::root().join("models/testing.toml")).unwrap();
    let mut manifest: toml::Table = manifest.parse().unwrap();
    manifest.insert("name".to_owned(), name.into());
    let wanted = manifest.get_mut("models").unwrap().as_table_mut().unwrap();
    wanted.retain(|role, _| files.iter().any(|(known, _)| *role == **known));
    for (role, model) in files {
        let spec = wanted.get_mut(*role).unwrap().as_table_mut().unwrap();
        let digest = hex::encode(Sha256::digest(model));
        spec.insert("sha256".to_owned(), digest.into());
        spec.insert(
            "max_size".to_owned(),
            i64::try_from(model.len()).unwrap().into(),
        );
        std::fs::write(folder.join(spec["file"].as_str().unwrap()), model).unwrap();
    }
    std::fs::write(folder.join("manifest.toml"), manifest.to_string()).unwrap();
}

/// Enrolments and deletions hold for every revision that can serve.
#[test]
fn people_changes_reach_every_revision() {
    let (server, [first, _]) = with_alice(Options::drawn());
    let other = server.staged(&again(&first, 1), "");
    // Enrols while the revision that is asked later is not active yet.
    server
        .form(
            "/process-images",
            &[
                crate::harness::text("student_id", "bob"),
                file("images", "bob.png", drawn("bob-1.png")),
            ],
        )
        .ok();
    server.activate(&other);
    assert_eq!(server.names(drawn("bob-probe.png")), ["bob"]);
    server.admin_delete("/v1/people/bob").ok();
    server.admin_post("/v1/rollback").ok();
    assert_eq!(server.names(drawn("bob-probe.png")), ["Unknown"]);
}
