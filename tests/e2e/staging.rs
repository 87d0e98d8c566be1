//! What a revision is held to, what is refused before it could serve, and what monitoring sees of
//! it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rostro_evil::modes::{hidden, image};

use crate::evil::until;
use crate::hammer::Hammer;
use crate::harness::{Answer, Options, Server, component, drawn, refusal};
use crate::operator::{again, bytes, metrics};

/// Asks the canary, whatever its share.
fn ask_canary(server: &Server, image: &[u8]) -> Answer {
    server.post_with(
        "/process_frame",
        &[("content-type", "image/png"), ("x-rostro-canary", "always")],
        image,
    )
}

#[test]
fn a_revision_may_be_held_tighter_than_the_service_and_never_looser() {
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
        "the same limits in other words are not"
    );
    let limits = server.admin_get(&format!("/v1/revisions/{tight}"))["limits"].clone();
    assert_eq!(
        limits,
        serde_json::json!({"memory-mib": "64", "time-ms": "700"})
    );

    // They come back with it.
    server.kill();
    let server = options().start();
    until("the revision", || server.state(&tight) == "staged");
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
fn every_limit_of_its_own_holds_a_revision() {
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

#[test]
fn a_limit_on_time_is_of_requests_and_not_of_staging() {
    let server = Options::drawn().arg("--breaker", "1000000").start();
    // Less than the self-test takes, and than everybody's templates on a busy machine.
    let held = server.staged(&bytes(component("insightface")), "limits=time-ms=10");
    server
        .admin_post(&format!("/v1/revisions/{held}/canary?share=0"))
        .ok();
    let answer = ask_canary(&server, &drawn("group.png"));
    answer.error(500, "pipeline_failed");
    assert!(
        server
            .log_of(&answer)
            .contains("limit `time-ms` of 10 reached: it was still at work")
    );
}

#[test]
fn a_revision_plays_one_part_beside_the_active_one() {
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

#[test]
fn half_a_pipeline_is_held_as_the_active_one_is() {
    let server = Options::drawn().start();
    let held = server.staged(
        &again(&bytes(component("insightface")), 1),
        "limits=tensors=12,faces=100",
    );
    server.activate(&held);
    let policy = server.staged(&bytes(component("attendance-policy")), "limits=faces=50");
    let limits = server.admin_get(&format!("/v1/revisions/{policy}"))["limits"].clone();
    assert_eq!(limits, serde_json::json!({"faces": "50", "tensors": "12"}));
}

#[test]
fn people_are_known_to_a_revision_whatever_another_one_of_the_same_policy_is_held_to() {
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
    // Templates of the wide one are made within its own limits, though the tight one was there
    // first.
    server
        .enroll("eve", [image("template-many", b"")])
        .error(500, "pipeline_failed");
}

#[test]
fn a_service_that_became_tighter_holds_its_revisions_to_that() {
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
    // Half a pipeline that names no limit is held as tightly, and so it is written down.
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
fn what_a_component_wants_too_much_of_is_named() {
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
    // Memory that it has from its beginning: 1 GiB.
    let text = r#"(component (core module $large (memory 16384)) (core instance (instantiate $large))
        (instance $vision) (export "rostro:pipeline/vision@0.1.0" (instance $vision)))"#;
    let failed = Options::drawn()
        .start()
        .stage(&wat::parse_str(text).unwrap(), "");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains("the component hits the limit `memory-mib` of 512 reached: 0 bytes in use, 1073741824 wanted"), "{reason}");
}

#[test]
fn a_component_that_wants_more_than_guests_get_is_told_all_of_it_at_once() {
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
    // A pipeline for a world that this host lacks.
    let other = wat::parse_str(r#"(component (instance $vision) (export "rostro:pipeline/vision@0.9.0" (instance $vision)))"#).unwrap();
    let error = server.push(&other, "").error(400, "invalid_component");
    assert!(
        error.contains(
            "was built for rostro:pipeline@0.9.0, and this host has 0.1.2: build it against"
        ),
        "{error}"
    );
    assert_eq!(server.active(), active);
}

#[test]
fn a_component_that_is_too_large_is_refused_and_nothing_of_it_is_kept() {
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
fn what_was_compiled_is_used_again_and_made_anew_where_it_is_damaged() {
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
        "it was not made anew"
    );
}

/// The compiled components in a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_none() {
            // Beside each are statistics of its use.
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn an_operators_own_photos_must_be_of_whom_they_say() {
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
fn a_policy_is_swapped_alone_and_vision_stays() {
    let server = Options::drawn().start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let before = server.admin_get(&format!("/v1/revisions/{}", server.active()));
    let policy = server.staged(&again(&bytes(component("variant")), 1), "policy_only=true");
    server.activate(&policy);
    let after = server.admin_get(&format!("/v1/revisions/{policy}"));
    assert_eq!(after["vision_sha256"], before["vision_sha256"]);
    assert_ne!(after["policy_sha256"], before["policy_sha256"]);
    // The variant's policy names nobody.
    assert_eq!(server.names(drawn("alice-probe.png")), ["Unknown"]);
    // And vision alone, with the policy that is in force.
    let vision = server.staged(&again(&bytes(component("insightface")), 2), "");
    server.activate(&vision);
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
}

#[test]
fn a_retired_revision_drains_until_its_last_request_is_answered() {
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
    until("its end", || server.state(&evil) == "retired");
}

#[test]
fn a_shadow_that_misbehaves_costs_the_only_worker_nothing_that_is_lost() {
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
        // It looks on only where nobody waits for the worker.
        until("the shadow to fail", || {
            assert_eq!(server.names(picture.as_slice()), ["alice"], "{mode}");
            failed() > before
        });
    }
}

#[test]
fn monitoring_sees_states_failures_and_what_the_breaker_took_out() {
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
    until("the breaker", || server.state(&evil) == "failed");
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
fn the_command_line_holds_a_revision_to_limits() {
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
