//! What the author of a pipeline does without a service: `rostro pipeline check`, `try`, `diff` and `bench`.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::harness::{Options, component, drawn, root, rostro};
use crate::operator::{again, bytes};

fn pipeline(command: &str, args: &[&str]) -> Output {
    let mut pipeline = rostro();
    pipeline.args(["pipeline", command]).args(args).arg("--compiled").arg(root().join("target/tmp/compiled"));
    pipeline.output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What `check --json` says of a component that is no usable one: its findings, each as `code: what; fix`.
fn findings(component: &[u8], more: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it.wasm");
    std::fs::write(&file, component).unwrap();
    let beside = crate::harness::component("insightface");
    let output = pipeline("check", &[&[text(&file), "--json", "--beside", text(&beside)], more].concat());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let part = |finding: &Value, part: &str| finding[part].as_str().unwrap().to_owned();
    let found: Vec<String> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| format!("{}: {}; fix: {}", part(finding, "code"), part(finding, "what"), part(finding, "fix")))
        .collect();
    assert_eq!(output.status.code(), Some(i32::from(!found.is_empty())), "{output:?}");
    assert_eq!(report["usable"], found.is_empty());
    found
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn a_usable_component_has_no_findings() {
    for name in ["insightface", "minimal", "attendance-policy"] {
        assert_eq!(findings(&bytes(component(name)), &[]), Vec::<String>::new(), "{name}");
    }
    let output = pipeline("check", &[text(&component("minimal"))]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for words in [
        "rostro-minimal 0.1.0",
        "a whole pipeline",
        "detector, recognizer",
        "self-test  passed on the pack testing",
        " of 512 MiB of memory",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn everything_that_is_wrong_is_found_at_once_with_what_to_do() {
    let found = findings(
        &wat(r#"(component
            (import "wasi:sockets/tcp@0.2.0" (instance))
            (import "wasi:filesystem/watch@0.2.0" (instance))
            (import "rostro:pipeline/settings@0.9.0" (instance))
            (instance $it)
            (export "rostro:pipeline/vision@0.9.0" (instance $it)))"#),
        &[],
    );
    assert_eq!(
        found,
        [
            "forbidden_import: it imports wasi:sockets/tcp@0.2.0, which this host does not offer; fix: a pipeline has no network: remove what \
             opens connections; with componentize-js pass `--disable http --disable fetch-event`, with componentize-py `--stub-wasi`",
            "forbidden_import: it imports wasi:filesystem/watch@0.2.0, which this host does not offer; fix: remove what needs it; a pipeline \
             gets of WASI 0.2 clocks, random and stdio, which docs/sandbox.md lists",
            "forbidden_import: it imports rostro:pipeline/settings@0.9.0, which this host does not offer; fix: build it against this host's \
             wit/rostro.wit, rostro:pipeline@0.1.0, which has other interfaces",
            "wrong_world: it exports rostro:pipeline/vision of version 0.9.0; this host has 0.1.0; fix: build it against a rostro-sdk (or \
             wit/rostro.wit) of version 0.1.0, or run it on a host that has 0.9.0",
        ]
    );
}

#[test]
fn a_component_without_an_export_is_told_which() {
    let found = findings(&wat("(component)"), &[]);
    assert_eq!(
        found,
        [
            "missing_export: the component does not export rostro:pipeline/vision@0.1.0 or rostro:pipeline/policy@0.1.0; it exports nothing; \
          fix: export a pipeline with `rostro_sdk::export!(Mine)`, or a policy with `rostro_sdk::export!(policy: Mine)`"
        ]
    );
}

#[test]
fn what_is_no_component_is_named() {
    let found = findings(b"\0asm\x01\0\0\0", &[]);
    assert_eq!(
        found,
        [
            "not_a_component: this is a core WebAssembly module, not a component; build it for the target wasm32-wasip2; fix: give the .wasm of \
          a build for the target wasm32-wasip2; a core module becomes a component with `wasm-tools component new`"
        ]
    );
    let found = findings(&vec![0; (64 << 20) + 1], &[]);
    assert_eq!(
        found,
        [
            "too_large: the component has 67108865 bytes or more; at most 67108864 are taken; fix: build it with optimisation for size and without \
          debugging information (opt-level = \"s\", strip = true)"
        ]
    );
}

/// Has the evil component misbehave on the self-test's pictures, as its setting says.
fn misbehaving(mode: &str, more: &[&str]) -> String {
    let setting = format!("evil-always={mode}");
    let found = findings(&bytes(component("evil")), &[&["--setting", &setting], more].concat());
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn an_unknown_model_is_named_with_those_that_there_are() {
    let found = misbehaving("model-unknown", &[]);
    assert_eq!(
        found,
        "missing_model: it wants a model for the role `liveness`, and the pack testing has detector, recognizer; fix: check it on a pack that \
         has one (--pack), or add one to a pack's manifest: docs/plugins.md"
    );
}

#[test]
fn a_wrong_tensor_shape_is_told() {
    let found = misbehaving("tensor-shape", &[]);
    assert!(found.starts_with("not_staged: the pipeline fails on a picture of one pixel: the pipeline's model failed: "), "{found}");
    assert!(found.ends_with("; fix: compare the tensor's shape, type and bytes with what settings.get-model says of the model"), "{found}");
}

#[test]
fn a_vector_that_is_no_number_is_told() {
    assert_eq!(
        misbehaving("nan", &[]),
        "not_staged: the pipeline fails on a picture of one pixel: the pipeline's answer is refused: `vision.analyze` returned face 0 with an \
         embedding that contains NaN; fix: keep to what wit/rostro.wit says of this function; docs/sandbox.md lists the bounds"
    );
}

#[test]
fn a_panic_is_told_with_its_words() {
    let found = misbehaving("panic", &[]);
    assert!(found.contains("it wrote: ") && found.contains("evil vision panics"), "{found}");
    assert!(found.ends_with("fix: it panicked: what it wrote to standard error says where; give back an error instead"), "{found}");
}

#[test]
fn who_is_too_slow_or_wants_too_much_is_told_where_to_look() {
    let found = misbehaving("spin", &["--limit", "time-ms=300"]);
    // A clock's granularity: 299 or 300 ms.
    assert!(found.contains("fails on a picture of one pixel: the pipeline did not finish before the deadline: it had "), "{found}");
    assert!(found.ends_with("; fix: make it faster: `rostro pipeline bench` shows where its time goes"), "{found}");
    let found = misbehaving("memory", &["--limit", "memory-mib=64"]);
    assert!(found.contains("hit the limit `memory-mib` of 64 reached: ") && found.contains("; fix: free what is not needed"), "{found}");
}

/// A gallery with alice and bob.
fn gallery() -> tempfile::TempDir {
    let gallery = tempfile::tempdir().unwrap();
    let server = Options::drawn().gallery(gallery.path()).start();
    for person in ["alice", "bob"] {
        server.enroll(person, [drawn(&format!("{person}-1.png"))]).ok();
    }
    gallery
}

/// A folder with some drawn pictures, one of them in a folder of its own.
fn pictures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("more")).unwrap();
    for (name, place) in [("alice-probe.png", "a.png"), ("group.png", "more/group.png"), ("empty.png", "none.png")] {
        std::fs::write(folder.path().join(place), drawn(name)).unwrap();
    }
    folder
}

#[test]
fn a_pipeline_is_tried_on_photos_and_what_it_sees_is_drawn() {
    let (gallery, pictures, out) = (gallery(), pictures(), tempfile::tempdir().unwrap());
    let file = component("insightface");
    let common = [text(&file), "--images", text(pictures.path()), "--gallery", text(gallery.path())];
    let output = pipeline("try", &[&common[..], &["--out", text(out.path())]].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let row =
        |name: &str| said.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("{name}: {said}")).to_owned();
    assert!(row("a.png").contains("alice ") && row("more/group.png").contains("bob "), "{said}");
    assert_eq!(row("none.png").split_whitespace().nth(2), Some("0"), "{said}");
    // Boxes in the colour of somebody known, on a picture of the same size.
    let drawing = image::open(out.path().join("a.png.png")).unwrap().into_rgb8();
    let picture = image::load_from_memory(&drawn("alice-probe.png")).unwrap().into_rgb8();
    assert_eq!(drawing.dimensions(), picture.dimensions());
    assert!(drawing.pixels().filter(|pixel| pixel.0 == [0, 200, 80]).count() > 100);
    assert!(out.path().join("more-group.png.png").is_file());

    let output = pipeline("try", &[&common[..], &["--json"]].concat());
    let outcomes: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcomes[0]["faces"][0]["identity"], "alice");
    assert_eq!(outcomes[0]["faces"][0]["bounds"].as_array().unwrap().len(), 4);
    // What it fails on is named, and the others are shown all the same.
    std::fs::write(pictures.path().join("damaged.jpg"), b"\xff\xd8\xff").unwrap();
    let output = pipeline("try", &common);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 of 4 photos failed; the table says why"), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("alice "));
}

#[test]
fn two_pipelines_are_compared_and_the_worst_is_drawn() {
    let (gallery, pictures, out) = (gallery(), pictures(), tempfile::tempdir().unwrap());
    let common = ["--images", text(pictures.path()), "--gallery", text(gallery.path()), "--exit-code"];
    let (own, variant) = (component("insightface"), component("variant"));
    let output = pipeline("diff", &[&[text(&own), text(&variant), "--out", text(out.path())], &common[..]].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("alice → unknown") && said.contains("2 of 3 photos differ"), "{said}");
    // Both answers side by side.
    let (drawing, picture) =
        (image::open(out.path().join("a.png.png")).unwrap(), image::load_from_memory(&drawn("alice-probe.png")).unwrap());
    assert_eq!((drawing.width(), drawing.height()), (2 * picture.width(), picture.height()));

    let folder = tempfile::tempdir().unwrap();
    let same = folder.path().join("same.wasm");
    std::fs::write(&same, again(&bytes(&own), 1)).unwrap();
    let output = pipeline("diff", &[&[text(&own), text(&same), "--json"], &common[..]].concat());
    assert!(output.status.success());
    let differences: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        differences.as_array().unwrap().iter().all(|difference| difference["only_a"] == 0 && difference["vectors"] == 0),
        "{differences}"
    );
}

#[test]
fn a_pipeline_is_timed_beside_the_default_one() {
    let own = component("insightface");
    let output = pipeline("bench", &[text(&component("minimal")), "--against", text(&own), "--seconds", "1"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for stage in ["decode", "detect", "embed", "decide", "total", "used"] {
        assert!(said.lines().any(|line| line.trim_start().starts_with(stage)), "{stage}: {said}");
    }
}

#[test]
fn what_is_not_there_is_named_with_what_to_do() {
    let (own, folder) = (component("insightface"), tempfile::tempdir().unwrap());
    let refused = |args: &[&str]| {
        let output = pipeline("try", &[&[text(&own)], args].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--images", text(folder.path())]).contains("there is no picture (*.jpg, *.png, *.webp) in"));
    std::fs::write(folder.path().join("a.png"), drawn("alice-1.png")).unwrap();
    assert!(refused(&["--images", text(folder.path()), "--gallery", "/nowhere"]).contains("there is no gallery at /nowhere; enrol people"));
    assert!(refused(&["--images", text(folder.path()), "--pack", "nowhere"]).contains("nowhere"));
    let error = refused(&["--images", text(folder.path()), "--limit", "memory=1"]);
    assert!(error.contains("there is no limit `memory`"), "{error}");
}
