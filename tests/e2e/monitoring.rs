//! Metrics of guests, models and instances, and the dashboard that reads them.

use std::collections::BTreeSet;

use rostro_evil::modes::image;
use serde_json::Value;

use crate::database::migrated;
use crate::harness::{Options, Server, component, drawn, eventually, root};
use crate::operator::{bytes, metrics};

/// Returns the value of a sample, which is named with its labels.
fn value(server: &Server, sample: &str) -> f64 {
    let text = metrics(server);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("`{sample}` is not in:\n{text}"))
        .parse()
        .unwrap()
}

/// Waits until every instance is dropped and its memory is free.
fn until_idle(server: &Server) {
    for half in ["vision", "policy"] {
        let [memory, made, gone] = ["memory_bytes", "instances_total", "peak_memory_bytes_count"]
            .map(|name| format!("rostro_guest_{name}{{guest=\"{half}\"}}"));
        eventually("the end of all instances", || value(server, &memory) == 0.0);
        assert_eq!(value(server, &made), value(server, &gone), "{half}");
    }
}

/// Each frame raises the metrics of models, instances, memory and guest time.
#[test]
fn frames_raise_guest_metrics() {
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
    let (active, seconds) = (
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
    let revision_seconds = of_revision();
    for _ in 0..FRAMES {
        assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    }
    until_idle(&server);
    for (sample, before) in COUNTED.into_iter().zip(before) {
        let grown = value(&server, sample) - before;
        assert!(grown >= f64::from(FRAMES), "{sample} grew by {grown}");
    }
    assert!(value(&server, "rostro_inference_seconds_sum{model=\"detector\"}") > seconds[1]);
    // A clock with a resolution of 10 ms may have missed these frames.
    eventually("time of the policy", || {
        assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
        spent("vision") > seconds[0] && spent("policy") > 0.0
    });
    assert!(of_revision() > revision_seconds && of_revision() <= spent("vision"));
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

/// A separate policy component has its own metrics of instances and time.
#[test]
fn separate_policy_is_counted() {
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
    eventually("time of the policy", || {
        server.recognize(drawn("alice-probe.png")).ok();
        value(
            &server,
            &format!(
                "rostro_revision_guest_seconds_total{{revision=\"{active}\",guest=\"policy\"}}"
            ),
        ) > 0.0
    });
}

/// Failed guests release their memory, and metrics still count their time and peak memory.
#[test]
fn failed_guests_release_memory() {
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
    // The memory of one guest, and the tensors that the host held for another one.
    assert_eq!(large(), 2.0);

    // Time until the deadline.
    let before = spent();
    assert_eq!(server.recognize(image("spin", b"")).status, 504);
    until_idle(&server);
    assert!(spent() - before > 0.5, "{} s", spent() - before);

    // A refused tensor.
    let refused = "rostro_inference_failures_total{model=\"detector\",reason=\"refused\"}";
    assert_eq!(value(&server, refused), 0.0);
    server
        .recognize(image("tensor-length", b""))
        .error(500, "pipeline_failed");
    assert!(value(&server, refused) > 0.0);
}

/// Returns the names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'));
    words
        .filter(|word| word.starts_with("rostro_"))
        .map(str::to_owned)
        .collect()
}

/// Returns every string in a value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// A service with a database writes all metrics of the dashboard, and docs/admin.md describes each
/// metric.
#[test]
fn metrics_match_dashboard_and_docs() {
    let database = migrated();
    let server = Options::drawn().arg("--database", database.url()).start();
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
    // The dashboard.
    let dashboard: Value =
        serde_json::from_slice(&bytes(root().join("docs/deploy/grafana.json"))).unwrap();
    let read: BTreeSet<String> = texts(&dashboard).into_iter().flat_map(names).collect();
    assert!(read.len() > 20, "{read:?}");
    let missing: Vec<&String> = read.difference(&written).collect();
    assert!(
        missing.is_empty(),
        "the dashboard reads {missing:?}, which are not in:\n{text}"
    );

    // The page.
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
        // The page shortens names with a common prefix to `…suffix`.
        let is_described = page.contains(&format!("`{name}`"))
            || name.match_indices('_').any(|(at, _)| {
                at > "rostro".len() && page.contains(&format!("`…{}`", &name[at..]))
            });
        assert!(is_described, "docs/admin.md does not describe {name}");
    }
}
