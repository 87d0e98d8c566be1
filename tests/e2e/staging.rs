//! Limits of revisions, refusals during staging, and the metrics of both.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rostro_evil::modes::{hidden, image};

use crate::hammer::Hammer;
use crate::harness::{Answer, Options, Server, component, drawn, eventually, refusal};
use crate::operator::{again, bytes, metrics};

/// Sends a request to the canary, regardless of its share.
fn ask_canary(server: &Server, image: &[u8]) -> Answer {
    server.post_with(
        "/process_frame",
        &[("content-type", "image/png"), ("x-rostro-canary", "always")],
        image,
    )
}

/// A revision may have tighter limits than the service, never looser ones.
#[test]
fn revision_limits_only_tighten() {
    let (gallery, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = || {
        Options::drawn()
            .gallery(gallery.path())
            .state(state.path())
            .arg("--limit", "memory-mib=256")
    };
    let mut server = options().start();
    let evil = bytes(component("evil"));
    for (limits, message) in [
        (
            "memory-mib=257",
            "the limit memory-mib of a revision is `257`; the service's own is 256, which no revision exceeds",
        ),
        ("memory-mib=1", "it must be a number from 16 to 4095"),
        ("memory=64", "there is no limit `memory`"),
        ("memory-mib", "not NAME=VALUE"),
    ] {
        let error = server
            .push(&evil, &format!("limits={limits}"))
            .error(400, "invalid_limit");
        assert!(error.contains(message), "{error}");
    }
    let wide = server.staged(&evil, "");
    let tight = server.staged(&evil, "limits=memory-mib=0064,time-ms=700");
    assert_ne!(wide, tight, "other limits are another revision");
    assert_eq!(
        server.staged(&evil, "limits=time-ms=700,memory-mib=64"),
        tight,
        "equal limits in other words are the same revision"
    );
    let limits = server.admin_get(&format!("/v1/revisions/{tight}"))["limits"].clone();
    assert_eq!(
        limits,
        serde_json::json!({"memory-mib": "64", "time-ms": "700"})
    );

    // The limits persist over a restart.
    server.kill();
    let server = options().start();
    eventually("the revision", || server.state(&tight) == "staged");
    for (id, memory) in [(&wide, 256), (&tight, 64)] {
        server
            .admin_post(&format!(
                "/v1/revisions/{id}/canary?share=0&allow_contract_change=true"
            ))
            .ok();
        let answer = ask_canary(&server, &image("memory", b""));
        answer.error(500, "pipeline_failed");
        let log = server.log_of(&answer);
        assert!(
            log.contains(&format!("limit `memory-mib` of {memory} reached")),
            "{log}"
        );
    }
    let answer = ask_canary(&server, &image("spin", b""));
    answer.error(500, "pipeline_failed");
    let log = server.log_of(&answer);
    assert!(
        log.contains("limit `time-ms` of 700 reached: it was still at work"),
        "{log}"
    );
}

#[test]
fn revision_limits_are_enforced() {
    let server = Options::drawn().start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let (active, component) = (server.active(), bytes(component("insightface")));
    for (limit, value, asked) in [
        ("instances", 1, "in use, "),
        ("table-elements", 100, "in use, "),
        ("transfer-mib", 1, "one call or answer has more bytes"),
        ("handles", 8, "8 in use, 9 wanted"),
        ("tensors", 2, "in use, "),
        ("faces", 1, "returned"),
    ] {
        let failed = server.stage(&component, &format!("limits={limit}={value}"));
        let reason = failed["reason"]
            .as_str()
            .unwrap_or_else(|| panic!("{limit}: {failed}"));
        assert!(
            reason.contains(&format!("hit the limit `{limit}` of {value} reached: "))
                && reason.contains(asked),
            "{reason}"
        );
    }
    assert_eq!(server.active(), active);
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

/// The limit on time applies to requests, not to staging.
#[test]
fn time_limit_exempts_staging() {
    let server = Options::drawn().arg("--breaker", "1000000").start();
    // Shorter than the self-test, and than making all templates on a busy machine.
    let limited = server.staged(&bytes(component("insightface")), "limits=time-ms=10");
    server
        .admin_post(&format!("/v1/revisions/{limited}/canary?share=0"))
        .ok();
    let answer = ask_canary(&server, &drawn("group.png"));
    answer.error(500, "pipeline_failed");
    assert!(
        server
            .log_of(&answer)
            .contains("limit `time-ms` of 10 reached: it was still at work")
    );
}

/// A revision is either the canary or the shadow, never both.
#[test]
fn canary_cannot_be_shadow() {
    let server = Options::drawn().start();
    let other = server.staged(&again(&bytes(component("insightface")), 1), "");
    server
        .admin_post(&format!("/v1/revisions/{other}/canary?share=0.5"))
        .ok();
    let error = server
        .admin_post(&format!("/v1/revisions/{other}/shadow?share=1"))
        .error(409, "other_part");
    assert!(error.contains("is the canary; end that first"), "{error}");
    server
        .admin_delete(&format!("/v1/revisions/{other}/canary"))
        .ok();
    server
        .admin_post(&format!("/v1/revisions/{other}/shadow?share=1"))
        .ok();
    server
        .admin_post(&format!("/v1/revisions/{other}/canary?share=1"))
        .error(409, "other_part");
}

/// A policy pushed alone inherits the limits of the active revision.
#[test]
fn policy_inherits_active_limits() {
    let server = Options::drawn().start();
    let limited = server.staged(
        &again(&bytes(component("insightface")), 1),
        "limits=tensors=12,faces=100",
    );
    server.activate(&limited);
    let policy = server.staged(&bytes(component("attendance-policy")), "limits=faces=50");
    let limits = server.admin_get(&format!("/v1/revisions/{policy}"))["limits"].clone();
    assert_eq!(limits, serde_json::json!({"faces": "50", "tensors": "12"}));
}

/// Revisions with one policy and different limits know the same people.
#[test]
fn views_do_not_share_limits() {
    let server = Options::drawn().start();
    let component = bytes(component("evil"));
    let allow = "allow_contract_change=true";
    let tight = server.staged(&component, "limits=memory-mib=16");
    let wide = server.staged(&component, "");
    server
        .admin_post(&format!("/v1/revisions/{wide}/activate?{allow}"))
        .ok();
    server.enroll("mallory", [drawn("bob-1.png")]).ok();
    for id in [&tight, &wide] {
        let status = server.admin_get(&format!("/v1/revisions/{id}"));
        assert_eq!(
            (status["known"].as_u64(), status["need_enrolment"].as_u64()),
            (Some(1), Some(0)),
            "{status}"
        );
    }
    // The wide revision makes templates within its own limits, although the tight one was staged
    // first.
    server
        .enroll("eve", [image("template-many", b"")])
        .error(500, "pipeline_failed");
}

#[test]
fn tighter_service_limits_its_revisions() {
    let (gallery, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = |memory: u32| {
        Options::drawn()
            .gallery(gallery.path())
            .state(state.path())
            .arg("--limit", format!("memory-mib={memory}"))
            .start()
    };
    let mut server = options(256);
    let evil = server.staged(&bytes(component("evil")), "limits=memory-mib=200");
    server
        .admin_post(&format!(
            "/v1/revisions/{evil}/activate?allow_contract_change=true"
        ))
        .ok();
    server.kill();
    let server = options(128);
    assert_eq!(server.active(), evil);
    assert_eq!(
        server.admin_get(&format!("/v1/revisions/{evil}"))["limits"]["memory-mib"],
        "128"
    );
    // A policy without limits gets the limit of the active revision, and the audit log records
    // this.
    let policy = server.staged(&bytes(component("attendance-policy")), "");
    assert_eq!(
        server.admin_get(&format!("/v1/revisions/{policy}"))["limits"]["memory-mib"],
        "128"
    );
    let audit = fs::read_to_string(state.path().join("audit.jsonl")).unwrap();
    let pushed = audit
        .lines()
        .rfind(|line| line.contains("\"action\":\"push\""))
        .unwrap();
    assert!(pushed.contains("held to memory-mib=128"), "{pushed}");
    let answer = server.post_with(
        "/process_frame",
        &[("content-type", "image/png")],
        &image("memory", b""),
    );
    answer.error(500, "pipeline_failed");
    assert!(
        server
            .log_of(&answer)
            .contains("limit `memory-mib` of 128 reached")
    );
}

#[test]
fn exceeded_component_limit_is_named() {
    let refused = |limit: &str| Options::drawn().arg("--limit", limit).refuse();
    let error = refused("table-elements=100");
    assert!(
        error.contains("the component hits the limit `table-elements` of 100 reached: 0 in use, ")
            && error.contains(" wanted"),
        "{error}"
    );
    let error = refused("instances=1");
    assert!(
        error.contains("the component hits the limit `instances` of 1 reached: 0 in use, 3 wanted"),
        "{error}"
    );
    // A component with 1 GiB of initial memory.
    let text = r#"(component (core module $large (memory 16384)) (core instance (instantiate $large))
        (instance $vision) (export "rostro:pipeline/vision@0.1.0" (instance $vision)))"#;
    let failed = Options::drawn()
        .start()
        .stage(&wat::parse_str(text).unwrap(), "");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("the component hits the limit `memory-mib` of 512 reached: 0 bytes in use, 1073741824 wanted"), "{reason}");
}

/// The forbidden imports of a pushed component are all named at once.
#[test]
fn pushed_imports_are_refused_together() {
    let server = Options::drawn().start();
    let active = server.active();
    let text = r#"(component
        (import "wasi:sockets/tcp@0.2.0" (instance))
        (import "wasi:http/outgoing-handler@0.2.0" (instance))
        (import "wasi:random/random@0.2.0" (instance))
        (import "rostro:pipeline/gallery@0.1.0" (instance))
        (instance $vision)
        (export "rostro:pipeline/vision@0.1.0" (instance $vision)))"#;
    let component = wat::parse_str(text).unwrap();
    let failed = server.stage(&component, "");
    let reason = failed["reason"].as_str().unwrap();
    assert!(
        reason.contains("imports rostro:pipeline/gallery@0.1.0, wasi:http/outgoing-handler@0.2.0, wasi:sockets/tcp@0.2.0, which"),
        "{reason}"
    );
    // A pipeline for an interface version that this host does not support.
    let other = wat::parse_str(r#"(component (instance $vision) (export "rostro:pipeline/vision@0.9.0" (instance $vision)))"#).unwrap();
    let error = server.push(&other, "").error(400, "invalid_component");
    assert!(
        error.contains(
            "was built for rostro:pipeline@0.9.0, and this host has 0.1.0 to 0.1.2 or 0.2.0: build it against"
        ),
        "{error}"
    );
    assert_eq!(server.active(), active);
}

#[test]
fn oversized_component_is_not_kept() {
    let state = tempfile::tempdir().unwrap();
    let server = Options::drawn().state(state.path()).start();
    let large = vec![0; (64 << 20) + 1];
    let error = server.push(&large, "").error(413, "component_too_large");
    assert!(
        error.contains("bytes or more; at most 67108864 are taken"),
        "{error}"
    );
    assert_eq!(
        fs::read_dir(state.path().join("components"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn compiled_code_reused_unless_damaged() {
    let (gallery, compiled) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = || {
        Options::drawn()
            .gallery(gallery.path())
            .arg("--compiled", compiled.path())
    };
    let entries = || files(compiled.path());
    drop(options().start());
    let first = entries();
    assert!(!first.is_empty());
    let modified = |paths: &[std::path::PathBuf]| -> Vec<_> {
        paths
            .iter()
            .map(|path| path.metadata().unwrap().modified().unwrap())
            .collect()
    };
    let before = modified(&first);
    drop(options().start());
    assert_eq!(entries(), first);
    assert_eq!(modified(&first), before, "it was compiled again");
    for path in &first {
        fs::write(path, b"damaged").unwrap();
    }
    let server = options().start();
    server.recognize(drawn("alice-1.png")).ok();
    assert!(
        first
            .iter()
            .any(|path| fs::read(path).unwrap() != b"damaged"),
        "it was not compiled again"
    );
}

/// Returns the compiled components below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_none() {
            // Files with an extension are statistics of their use.
            found.push(path);
        }
    }
    found.sort();
    found
}

/// A self-test with an operator's photos fails if its expectations are not met.
#[test]
fn self_test_checks_expectations() {
    let photos = tempfile::tempdir().unwrap();
    for name in ["alice-1.png", "alice-2.png", "bob-1.png"] {
        fs::write(photos.path().join(name), drawn(name)).unwrap();
    }
    let expect = |text: &str| fs::write(photos.path().join("expectations.toml"), text).unwrap();
    let options = || Options::drawn().arg("--self-test", photos.path());
    expect("same = [['alice-1.png', 'alice-2.png']]\ndifferent = [['alice-1.png', 'bob-1.png']]");
    options().start().recognize(drawn("alice-1.png")).ok();
    for (text, wanted) in [
        (
            "same = [['alice-1.png', 'bob-1.png']]",
            ["self-test failed", "alice-1.png", "bob-1.png"],
        ),
        (
            "different = [['alice-1.png', 'alice-2.png']]",
            ["self-test failed", "alice-1.png", "alice-2.png"],
        ),
    ] {
        expect(text);
        let error = options().refuse();
        assert!(wanted.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn policy_swap_keeps_vision() {
    let server = Options::drawn().start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let before = server.admin_get(&format!("/v1/revisions/{}", server.active()));
    let policy = server.staged(&again(&bytes(component("variant")), 1), "policy_only=true");
    server.activate(&policy);
    let after = server.admin_get(&format!("/v1/revisions/{policy}"));
    assert_eq!(after["vision_sha256"], before["vision_sha256"]);
    assert_ne!(after["policy_sha256"], before["policy_sha256"]);
    // The policy of the variant recognises no person.
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    // A whole pipeline replaces the policy, too.
    let vision = server.staged(&again(&bytes(component("insightface")), 2), "");
    server.activate(&vision);
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

/// A retired revision drains until its last request is answered.
#[test]
fn retired_revision_drains() {
    let server = Options::drawn().arg("--deadline", "8").start();
    let evil = server.staged(&bytes(component("evil")), "");
    server
        .admin_post(&format!(
            "/v1/revisions/{evil}/canary?share=0&allow_contract_change=true"
        ))
        .ok();
    std::thread::scope(|scope| {
        let spinning = scope.spawn(|| ask_canary(&server, &image("spin", b"")));
        std::thread::sleep(Duration::from_millis(500));
        server.admin_delete(&format!("/v1/revisions/{evil}")).ok();
        assert_eq!(server.state(&evil), "draining");
        spinning.join().unwrap().error(504, "deadline_exceeded");
    });
    eventually("its end", || server.state(&evil) == "retired");
}

/// A failing shadow on the only worker costs no request.
#[test]
fn failing_shadow_costs_no_request() {
    let server = Options::drawn()
        .arg("--workers", "1")
        .arg("--breaker", "1000000")
        .start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let evil = server.staged(&bytes(component("evil")), "");
    server
        .admin_post(&format!("/v1/revisions/{evil}/shadow?share=1"))
        .ok();
    let failed = || {
        server.admin_get(&format!("/v1/revisions/{evil}"))["agreement"]["failed"]
            .as_u64()
            .unwrap()
    };
    for mode in ["panic", "memory", "nan", "spin"] {
        let (picture, before) = (hidden(&drawn("alice-probe.png"), mode), failed());
        let hammer = Hammer::begin(&server.url, &picture, 2);
        hammer.wait_for(10);
        let shots = hammer.end();
        assert!(
            shots
                .iter()
                .all(|shot| shot.status == Some(200) && shot.identity == "alice"),
            "{mode}: {shots:?}"
        );
        // The shadow runs only while no request waits for the worker.
        eventually("the shadow to fail", || {
            assert_eq!(server.names(picture.as_slice()), ["alice"], "{mode}");
            failed() > before
        });
    }
}

/// Metrics show states, requests, and the revisions that the breaker removed.
#[test]
fn metrics_show_states_and_breaker() {
    let server = Options::drawn().arg("--breaker", "2").start();
    let (active, evil) = (
        server.active(),
        server.staged(&bytes(component("evil")), ""),
    );
    server
        .admin_post(&format!(
            "/v1/revisions/{evil}/canary?share=0&allow_contract_change=true"
        ))
        .ok();
    server.recognize(drawn("alice-1.png")).ok();
    let seen = metrics(&server);
    let has = |seen: &str, line: &str| {
        assert!(
            seen.lines().any(|known| known == line),
            "`{line}` is not in:\n{seen}"
        )
    };
    has(&seen, "rostro_revisions_broken_total 0");
    has(
        &seen,
        &format!("rostro_revision_requests_total{{revision=\"{active}\"}} 1"),
    );
    assert!(
        seen.contains(&format!(
            "rostro_revision{{revision=\"{active}\",state=\"active\",name=\"insightface\""
        )),
        "{seen}"
    );
    for _ in 0..2 {
        ask_canary(&server, &image("panic", b"")).error(500, "pipeline_failed");
    }
    eventually("the breaker", || server.state(&evil) == "failed");
    let seen = metrics(&server);
    has(&seen, "rostro_revisions_broken_total 1");
    assert!(
        seen.contains(&format!(
            "rostro_revision{{revision=\"{evil}\",state=\"failed\""
        )),
        "{seen}"
    );
    assert!(seen.ends_with("# EOF\n"));
}

#[test]
fn push_accepts_limits() {
    let server = Options::drawn().start();
    let file = component("variant");
    let push = |limit: &str| {
        server.pipeline(&[
            "push",
            file.to_str().unwrap(),
            "--json",
            "--limit",
            limit,
            "--limit",
            "tensors=12",
        ])
    };
    assert!(refusal(push("memory-mib=100000")).contains(
        "refused: the limit memory-mib is `100000`; it must be a number from 16 to 4095"
    ));
    let output = push("memory-mib=200").output().unwrap();
    let revision: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        revision["limits"],
        serde_json::json!({"memory-mib": "200", "tensors": "12"}),
        "{revision}"
    );
}
