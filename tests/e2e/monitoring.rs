//! What monitoring reads of guests, models and instances, and the dashboard that is shown with it.

use std::collections::BTreeSet;

use rostro_evil::modes::image;
use serde_json::Value;

use crate::evil::until;
use crate::harness::{Options, Server, component, drawn, root};
use crate::operator::{bytes, metrics};

/// The value of a sample, as it is written with its labels.
fn value(server: &Server, sample: &str) -> f64 {
    let text = metrics(server);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("`{sample}` is not in:\n{text}"))
        .parse()
        .unwrap()
}

/// Waits until every instance is cleared away, and its memory with it.
fn until_idle(server: &Server) {
    for half in ["vision", "policy"] {
        let [memory, made, gone] = ["memory_bytes", "instances_total", "peak_memory_bytes_count"]
            .map(|name| format!("rostro_guest_{name}{{guest=\"{half}\"}}"));
        until("the end of all instances", || value(server, &memory) == 0.0);
        assert_eq!(value(server, &made), value(server, &gone), "{half}");
    }
}

#[test]
fn monitoring_sees_what_guests_and_models_take() {
    const FRAMES: u16 = 10;
    const COUNTED: [&str; 9] = [
        "rostro_inference_seconds_count{model=\"detector\"}",
        "rostro_inference_seconds_count{model=\"recognizer\"}",
        "rostro_inference_wait_seconds_count{model=\"detector\"}",
        "rostro_inference_wait_seconds_count{model=\"recognizer\"}",
        "rostro_inference_images_total{model=\"detector\"}",
        "rostro_inference_images_total{model=\"recognizer\"}",
        "rostro_guest_instances_total{guest=\"vision\"}",
        "rostro_guest_peak_memory_bytes_count{guest=\"vision\"}",
        "rostro_guest_peak_memory_bytes_bucket{le=\"+Inf\",guest=\"vision\"}",
    ];
    let server = Options::drawn().start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    until_idle(&server);
    let before = COUNTED.map(|sample| value(&server, sample));
    let spent = |half: &str| {
        value(
            &server,
            &format!("rostro_guest_seconds_total{{guest=\"{half}\"}}"),
        )
    };
    let (active, taken) = (
        server.active(),
        [
            spent("vision"),
            value(&server, "rostro_inference_seconds_sum{model=\"detector\"}"),
        ],
    );
    let of_revision = || {
        value(
            &server,
            &format!(
                "rostro_revision_guest_seconds_total{{revision=\"{active}\",guest=\"vision\"}}"
            ),
        )
    };
    let taken_by_it = of_revision();
    for _ in 0..FRAMES {
        assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    }
    until_idle(&server);
    for (sample, before) in COUNTED.into_iter().zip(before) {
        let grown = value(&server, sample) - before;
        assert!(grown >= f64::from(FRAMES), "{sample} grew by {grown}");
    }
    assert!(value(&server, "rostro_inference_seconds_sum{model=\"detector\"}") > taken[1]);
    // A clock that tells hundredths of a second may not have seen those.
    until("time of the policy", || {
        assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
        spent("vision") > taken[0] && spent("policy") > 0.0
    });
    assert!(of_revision() > taken_by_it && of_revision() <= spent("vision"));
    for model in ["detector", "recognizer"] {
        for reason in ["refused", "late", "failed"] {
            assert_eq!(
                value(
                    &server,
                    &format!(
                        "rostro_inference_failures_total{{model=\"{model}\",reason=\"{reason}\"}}"
                    )
                ),
                0.0
            );
        }
    }
}

#[test]
fn a_policy_of_its_own_is_counted_beside_vision() {
    let server = Options::drawn()
        .arg("--policy", component("attendance-policy"))
        .start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    until_idle(&server);
    let made = || {
        ["vision", "policy"].map(|half| {
            value(
                &server,
                &format!("rostro_guest_instances_total{{guest=\"{half}\"}}"),
            )
        })
    };
    let before = made();
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    until_idle(&server);
    assert_eq!(made(), before.map(|count| count + 1.0));
    let active = server.active();
    until("time of the policy", || {
        server.recognize(drawn("alice-probe.png")).ok();
        value(
            &server,
            &format!(
                "rostro_revision_guest_seconds_total{{revision=\"{active}\",guest=\"policy\"}}"
            ),
        ) > 0.0
    });
}

#[test]
fn guests_that_end_badly_give_their_memory_back_and_are_charged_for_what_they_took() {
    let server = Options::drawn()
        .pipeline(component("evil"))
        .arg("--deadline", "3")
        .arg("--limit", "memory-mib=128")
        .start();
    let spent = || value(&server, "rostro_guest_seconds_total{guest=\"vision\"}");
    let large = || {
        let smaller = value(
            &server,
            "rostro_guest_peak_memory_bytes_bucket{le=\"67108864.0\",guest=\"vision\"}",
        );
        value(
            &server,
            "rostro_guest_peak_memory_bytes_count{guest=\"vision\"}",
        ) - smaller
    };
    until_idle(&server);
    assert_eq!(large(), 0.0);
    for (mode, status) in [
        ("panic", 500),
        ("memory", 500),
        ("tensor-bytes", 500),
        ("exit", 500),
        ("unreachable", 500),
    ] {
        assert_eq!(server.recognize(image(mode, b"")).status, status, "{mode}");
    }
    until_idle(&server);
    // Memory of its own, and tensors that the host held for it.
    assert_eq!(large(), 2.0);

    let before = spent();
    assert_eq!(server.recognize(image("spin", b"")).status, 504);
    until_idle(&server);
    assert!(spent() - before > 0.5, "{} s", spent() - before);

    let refused = "rostro_inference_failures_total{model=\"detector\",reason=\"refused\"}";
    assert_eq!(value(&server, refused), 0.0);
    server
        .recognize(image("tensor-length", b""))
        .error(500, "pipeline_failed");
    assert!(value(&server, refused) > 0.0);
}

/// The names that begin with ours in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words
        .filter(|word| word.starts_with("rostro_"))
        .map(str::to_owned)
        .collect()
}

/// All texts of a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn the_dashboard_reads_what_is_written_and_the_page_describes_all_of_it() {
    let server = Options::drawn().start();
    let shadow = server.staged(&bytes(component("variant")), "");
    server
        .admin_post(&format!("/v1/revisions/{shadow}/shadow?share=1"))
        .ok();
    server.recognize(drawn("alice-probe.png")).ok();
    let text = metrics(&server);
    let written: BTreeSet<String> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(names)
        .collect();
    let dashboard: Value =
        serde_json::from_slice(&bytes(root().join("docs/deploy/grafana.json"))).unwrap();
    let read: BTreeSet<String> = texts(&dashboard).into_iter().flat_map(names).collect();
    assert!(read.len() > 20, "{read:?}");
    let missing: Vec<&String> = read.difference(&written).collect();
    assert!(
        missing.is_empty(),
        "the dashboard reads {missing:?}, which are not in:\n{text}"
    );

    let page = std::fs::read_to_string(root().join("docs/admin.md")).unwrap();
    let families = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for (family, kind) in families {
        let name = if kind == "counter" {
            format!("{family}_total")
        } else {
            family.to_owned()
        };
        // Some share the beginning of their names: the page has it once.
        let is_there = page.contains(&format!("`{name}`"))
            || name.match_indices('_').any(|(at, _)| {
                at > "rostro".len() && page.contains(&format!("`…{}`", &name[at..]))
            });
        assert!(is_there, "docs/admin.md says nothing of {name}");
    }
}
