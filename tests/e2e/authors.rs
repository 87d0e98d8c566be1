//! What the author of a pipeline does without a service: `rostro pipeline check`, `try`, `diff` and
//! `bench`.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::harness::{Options, component, drawn, root, rostro};
use crate::operator::{again, bytes};

fn pipeline(command: &str, args: &[&str]) -> Output {
    let mut pipeline = rostro();
    pipeline
        .args(["pipeline", command])
        .args(args)
        .arg("--compiled")
        .arg(root().join("target/tmp/compiled"));
    pipeline.output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What `check --json` says of a component that is no usable one: each finding with its fix.
fn findings(component: &[u8], more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it.wasm");
    std::fs::write(&file, component).unwrap();
    let beside = crate::harness::component("insightface");
    let output = pipeline(
        "check",
        &[&[text(&file), "--json", "--beside", text(&beside)], more].concat(),
    );
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let part = |finding: &Value, part: &str| finding[part].as_str().unwrap().to_owned();
    let found: Vec<String> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| {
            format!(
                "{}: {}\n  fix: {}",
                part(finding, "code"),
                part(finding, "what"),
                part(finding, "fix")
            )
        })
        .collect();
    assert_eq!(
        output.status.code(),
        Some(i32::from(!found.is_empty())),
        "{output:?}"
    );
    assert_eq!(report["usable"], found.is_empty());
    found.join("\n")
}

fn wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[test]
fn a_usable_component_has_no_findings() {
    for name in ["insightface", "minimal", "attendance-policy"] {
        assert_eq!(findings(&bytes(component(name)), &[]), "", "{name}");
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

/// Messages are kept as they are in `snapshots/`, so that whoever changes one reads it; `cargo
/// insta review` takes new ones.
macro_rules! assert_told {
    ($name:literal, $said:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, filters => vec![
            (r"it had \d+(\.\d+)? ?m?s", "it had [time]"),
            (r"\d+ milliseconds", "[time]"),
            // Which functions are left depends on the compiler.
            (r"\(in .*\); it wrote", "(in [functions]); it wrote"),
        ] }, { insta::assert_snapshot!($name, $said) });
    };
}

#[test]
fn everything_that_is_wrong_is_found_at_once_with_what_to_do() {
    let found = findings(
        &wat(r#"(component
            (import "wasi:sockets/tcp@0.2.0" (instance))
            (import "wasi:filesystem/watch@0.2.0" (instance))
            (import "rostro:pipeline/gallery@0.1.0" (instance))
            (import "rostro:pipeline/settings@0.9.0" (instance))
            (instance $it)
            (export "rostro:pipeline/vision@0.9.0" (instance $it)))"#),
        &[],
    );
    assert_told!("wrong_world_and_forbidden_imports", found);
}

#[test]
fn a_component_without_an_export_is_told_which() {
    assert_told!("missing_export", findings(&wat("(component)"), &[]));
}

#[test]
fn an_export_of_another_type_is_told() {
    let text =
        r#"(component (instance $it) (export "rostro:pipeline/policy@0.1.0" (instance $it)))"#;
    assert_told!("wrong_interface", findings(&wat(text), &[]));
}

#[test]
fn what_is_no_component_is_named() {
    assert_told!("core_module", findings(b"\0asm\x01\0\0\0", &[]));
    assert_told!("native_file", findings(b"\x7fELF\x02\x01\x01\0", &[]));
}

#[test]
fn a_component_that_is_too_large_is_told_how_to_make_it_smaller() {
    assert_told!("too_large", findings(&vec![0; (64 << 20) + 1], &[]));
}

/// Has the evil component misbehave on the self-test's pictures, as its setting says.
fn misbehaving(mode: &str, more: &[&str]) -> String {
    let setting = format!("evil-always={mode}");
    findings(
        &bytes(component("evil")),
        &[&["--setting", &setting], more].concat(),
    )
}

#[test]
fn an_unknown_model_is_named_with_those_that_there_are() {
    assert_told!("unknown_model", misbehaving("model-unknown", &[]));
}

#[test]
fn a_wrong_tensor_shape_is_told() {
    assert_told!("wrong_tensor_shape", misbehaving("tensor-shape", &[]));
}

#[test]
fn a_vector_that_is_no_number_is_told() {
    assert_told!("nan_vector", misbehaving("nan", &[]));
}

#[test]
fn a_panic_is_told_with_its_words() {
    assert_told!("panic", misbehaving("panic", &[]));
}

#[test]
fn who_is_too_slow_is_told_where_to_look() {
    assert_told!("too_slow", misbehaving("spin", &["--limit", "time-ms=300"]));
}

#[test]
fn who_wants_too_much_memory_is_told_what_counts() {
    assert_told!(
        "too_much_memory",
        misbehaving("memory", &["--limit", "memory-mib=64"])
    );
}

#[test]
fn a_component_of_the_first_version_of_the_interface_is_run() {
    runs_frozen("0.1.0");
}

#[test]
fn frozen_0_1_1_component_runs() {
    runs_frozen("0.1.1");
}

/// Serves with a component that was built for an earlier version of the interface.
fn runs_frozen(version: &str) {
    let file = component(&format!("compat-{version}"));
    assert_eq!(findings(&bytes(&file), &[]), "");
    let server = Options::drawn().pipeline(file).start();
    for person in ["alice", "bob"] {
        server
            .enroll(person, [drawn(&format!("{person}-1.png"))])
            .ok();
        // The whole picture is its face, so that the same picture is the same face.
        let answer = server.recognize(drawn(&format!("{person}-1.png"))).ok();
        assert_eq!(
            answer["recognized_faces"][0]["identity"], person,
            "{answer}"
        );
        assert_eq!(
            answer["pipeline"]["name"],
            format!("compat-{}", version.replace('.', "-"))
        );
        assert!(
            answer["timings_ms"]["embed"].as_f64().unwrap() > 0.0,
            "{answer}"
        );
        assert_eq!(answer["warnings"], serde_json::json!([]));
    }
}

/// A gallery with alice and bob.
fn gallery() -> tempfile::TempDir {
    let gallery = tempfile::tempdir().unwrap();
    let server = Options::drawn().gallery(gallery.path()).start();
    for person in ["alice", "bob"] {
        server
            .enroll(person, [drawn(&format!("{person}-1.png"))])
            .ok();
    }
    gallery
}

/// A folder with some drawn pictures, one of them in a folder of its own.
fn pictures() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("more")).unwrap();
    for (name, place) in [
        ("alice-probe.png", "a.png"),
        ("group.png", "more/group.png"),
        ("empty.png", "none.png"),
    ] {
        std::fs::write(folder.path().join(place), drawn(name)).unwrap();
    }
    folder
}

#[test]
fn a_pipeline_is_tried_on_photos_and_what_it_sees_is_drawn() {
    let (gallery, pictures, out) = (gallery(), pictures(), tempfile::tempdir().unwrap());
    let file = component("insightface");
    let common = [
        text(&file),
        "--images",
        text(pictures.path()),
        "--gallery",
        text(gallery.path()),
    ];
    let output = pipeline("try", &[&common[..], &["--out", text(out.path())]].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let row = |name: &str| {
        said.lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {said}"))
            .to_owned()
    };
    assert!(
        row("a.png").contains("alice ") && row("more/group.png").contains("bob "),
        "{said}"
    );
    assert_eq!(
        row("none.png").split_whitespace().nth(2),
        Some("0"),
        "{said}"
    );
    // Boxes in the colour of somebody known, on a picture of the same size.
    let drawing = image::open(out.path().join("a.png.png"))
        .unwrap()
        .into_rgb8();
    let picture = image::load_from_memory(&drawn("alice-probe.png"))
        .unwrap()
        .into_rgb8();
    assert_eq!(drawing.dimensions(), picture.dimensions());
    assert!(
        drawing
            .pixels()
            .filter(|pixel| pixel.0 == [0, 200, 80])
            .count()
            > 100
    );
    assert!(out.path().join("more/group.png.png").is_file());

    let output = pipeline("try", &[&common[..], &["--json"]].concat());
    let outcomes: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcomes[0]["faces"][0]["identity"], "alice");
    assert_eq!(
        outcomes[0]["faces"][0]["bounds"].as_array().unwrap().len(),
        4
    );
    // What it fails on is named, and the others are shown all the same.
    std::fs::write(pictures.path().join("damaged.jpg"), b"\xff\xd8\xff").unwrap();
    let output = pipeline("try", &common);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("1 of 4 photos failed; the table says why"),
        "{output:?}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("alice "));
}

#[test]
fn two_pipelines_are_compared_and_the_worst_is_drawn() {
    let (gallery, pictures, out) = (gallery(), pictures(), tempfile::tempdir().unwrap());
    let common = [
        "--images",
        text(pictures.path()),
        "--gallery",
        text(gallery.path()),
        "--exit-code",
    ];
    let (own, variant) = (component("insightface"), component("variant"));
    let output = pipeline(
        "diff",
        &[
            &[text(&own), text(&variant), "--out", text(out.path())],
            &common[..],
        ]
        .concat(),
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("alice → unknown") && said.contains("2 of 3 photos differ"),
        "{said}"
    );
    // Both answers side by side.
    let (drawing, picture) = (
        image::open(out.path().join("a.png.png")).unwrap(),
        image::load_from_memory(&drawn("alice-probe.png")).unwrap(),
    );
    assert_eq!(
        (drawing.width(), drawing.height()),
        (2 * picture.width(), picture.height())
    );

    let folder = tempfile::tempdir().unwrap();
    let same = folder.path().join("same.wasm");
    std::fs::write(&same, again(&bytes(&own), 1)).unwrap();
    let output = pipeline(
        "diff",
        &[&[text(&own), text(&same), "--json"], &common[..]].concat(),
    );
    assert!(output.status.success());
    let differences: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        differences
            .as_array()
            .unwrap()
            .iter()
            .all(|difference| difference["only_a"] == 0 && difference["vectors"] == 0),
        "{differences}"
    );
}

#[test]
fn a_pipeline_is_timed_beside_the_default_one() {
    let own = component("insightface");
    let output = pipeline(
        "bench",
        &[
            text(&component("minimal")),
            "--against",
            text(&own),
            "--seconds",
            "1",
        ],
    );
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for stage in ["decode", "detect", "embed", "decide", "total", "used"] {
        assert!(
            said.lines()
                .any(|line| line.trim_start().starts_with(stage)),
            "{stage}: {said}"
        );
    }
}

#[test]
fn a_component_that_could_not_be_tried_is_not_called_usable() {
    let file = component("minimal");
    for (what, args) in [
        ("the pack", ["--pack", "nowhere"]),
        ("ONNX Runtime", ["--onnxruntime", "/nowhere"]),
    ] {
        let output = pipeline("check", &[&[text(&file)], &args[..]].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{what}: {said}");
        assert!(
            said.contains("not_tried: the self-test could not be run: ")
                && !said.contains("this host can run it"),
            "{said}"
        );
    }
    let policy = component("attendance-policy");
    let output = pipeline("check", &[text(&policy), "--beside", text(&policy)]);
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("cannot be the pipeline's other half"),
        "{output:?}"
    );
    let output = pipeline(
        "check",
        &[text(&file), "--pack", "nowhere", "--no-self-test"],
    );
    assert!(
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("not tried"),
        "{output:?}"
    );
}

#[test]
fn names_in_a_component_cannot_speak_to_the_terminal() {
    // A name of a plain export may be any text in the binary form, which the text form escapes.
    let text =
        r#"(component (instance $it) (export "rostro:pipeline/vision@9.9.0-x" (instance $it)))"#;
    let hostile = wat(text);
    let at = hostile
        .windows(7)
        .position(|window| window == b"9.9.0-x")
        .unwrap();
    let mut hostile = hostile;
    hostile[at..at + 7].copy_from_slice(b"9\x1b[31m\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it.wasm");
    std::fs::write(&file, hostile).unwrap();
    let pictures = pictures();
    for (command, more) in [
        ("check", vec![]),
        ("try", vec!["--images", pictures.path().to_str().unwrap()]),
    ] {
        let output = pipeline(command, &[&[file.to_str().unwrap()], &more[..]].concat());
        assert_eq!(output.status.code(), Some(1));
        for said in [output.stdout, output.stderr] {
            let said = String::from_utf8(said).unwrap();
            assert!(
                said.chars().all(|c| c == '\n' || !c.is_control()),
                "{command}: {said:?}"
            );
            assert!(
                !said
                    .lines()
                    .any(|line| line.starts_with("; this host") || line.starts_with(" (instance")),
                "{said:?}"
            );
        }
    }
}

#[test]
fn a_device_is_no_photo_and_no_component() {
    let output = pipeline("check", &["/dev/zero"]);
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("cannot read /dev/zero: it is no regular file"),
        "{output:?}"
    );
    let photos = pictures();
    std::os::unix::fs::symlink("/dev/zero", photos.path().join("endless.png")).unwrap();
    let output = pipeline(
        "try",
        &[
            text(&component("insightface")),
            "--images",
            text(photos.path()),
        ],
    );
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        said.contains("it is no regular file")
            && String::from_utf8_lossy(&output.stderr).contains("1 of 4 photos failed"),
        "{said}"
    );
    // What both fail on is no agreement.
    let own = component("insightface");
    let output = pipeline(
        "diff",
        &[text(&own), text(&own), "--images", text(photos.path())],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("on 1 photos both fail"),
        "{output:?}"
    );
}

#[test]
fn a_photo_whose_name_is_no_text_is_answered_as_json() {
    use std::os::unix::ffi::OsStrExt;
    let photos = tempfile::tempdir().unwrap();
    std::fs::write(
        photos
            .path()
            .join(std::ffi::OsStr::from_bytes(b"a\xff.png")),
        drawn("alice-1.png"),
    )
    .unwrap();
    let output = pipeline(
        "try",
        &[
            text(&component("insightface")),
            "--images",
            text(photos.path()),
            "--json",
        ],
    );
    let outcomes: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        outcomes[0]["image"]
            .as_str()
            .unwrap()
            .ends_with("a\u{fffd}.png"),
        "{outcomes}"
    );
}

#[test]
fn a_project_is_not_called_what_rust_means_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["std", "fn", "rostro-sdk", "Upper", "", "1st"] {
        let output = rostro()
            .args(["pipeline", "new"])
            .arg(folder.path().join("x").join(name).as_path())
            .output()
            .unwrap();
        // An empty name is the folder itself.
        assert_eq!(
            output.status.code(),
            Some(i32::from(!name.is_empty())),
            "{name}: {output:?}"
        );
        let _ = std::fs::remove_dir_all(folder.path().join("x"));
    }
    std::fs::write(folder.path().join("file"), "").unwrap();
    let output = rostro()
        .args(["pipeline", "new"])
        .arg(folder.path().join("file"))
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("is there already and is not an empty folder"),
        "{output:?}"
    );
}

#[test]
fn what_is_not_there_is_named_with_what_to_do() {
    let (own, folder) = (component("insightface"), tempfile::tempdir().unwrap());
    let refused = |args: &[&str]| {
        let output = pipeline("try", &[&[text(&own)], args].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        refused(&["--images", text(folder.path())])
            .contains("there is no picture (*.jpg, *.png, *.webp) in")
    );
    std::fs::write(folder.path().join("a.png"), drawn("alice-1.png")).unwrap();
    assert!(
        refused(&["--images", text(folder.path()), "--gallery", "/nowhere"])
            .contains("there is no gallery at /nowhere; enrol people")
    );
    assert!(refused(&["--images", text(folder.path()), "--pack", "nowhere"]).contains("nowhere"));
    let error = refused(&["--images", text(folder.path()), "--limit", "memory=1"]);
    assert!(error.contains("there is no limit `memory`"), "{error}");
}
