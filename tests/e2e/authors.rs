//! Commands of pipeline authors that need no service: `rostro pipeline check`, `try`, `diff` and
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

/// Returns the findings of `check --json`, each with its fix.
fn findings(component: &[u8], more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("it.wasm");
    std::fs::write(&file, component).unwrap();
    let other_half = crate::harness::component("insightface");
    let output = pipeline(
        "check",
        &[
            &[text(&file), "--json", "--beside", text(&other_half)],
            more,
        ]
        .concat(),
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
fn usable_component_has_no_findings() {
    for name in [
        "insightface",
        "minimal",
        "attendance-policy",
        "region-of-interest",
        "seen-twice",
    ] {
        assert_eq!(findings(&bytes(component(name)), &[]), "", "{name}");
    }
    let output = pipeline("check", &[text(&component("minimal"))]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for words in [
        "rostro-minimal 0.1.0",
        "a whole pipeline",
        "detector, recognizer",
        "self-test  passed on the pack testing",
        " of 512 MiB of memory",
    ] {
        assert!(stdout.contains(words), "{words}: {stdout}");
    }
}

/// Compares a report with `snapshots/`, so that changed messages are reviewed by `cargo insta
/// review`.
macro_rules! assert_report {
    ($name:literal, $report:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, filters => vec![
            (r"it had \d+(\.\d+)? ?m?s", "it had [time]"),
            (r"\d+ milliseconds", "[time]"),
            // The functions in a trace depend on the compiler.
            (r"\(in .*\); it wrote", "(in [functions]); it wrote"),
        ] }, { insta::assert_snapshot!($name, $report) });
    };
}

#[test]
fn check_reports_all_problems() {
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
    assert_report!("wrong_world_and_forbidden_imports", found);
}

#[test]
fn check_reports_missing_export() {
    assert_report!("missing_export", findings(&wat("(component)"), &[]));
}

#[test]
fn check_reports_wrong_interface() {
    let text =
        r#"(component (instance $it) (export "rostro:pipeline/policy@0.1.0" (instance $it)))"#;
    assert_report!("wrong_interface", findings(&wat(text), &[]));
}

#[test]
fn check_reports_other_file_type() {
    assert_report!("core_module", findings(b"\0asm\x01\0\0\0", &[]));
    assert_report!("native_file", findings(b"\x7fELF\x02\x01\x01\0", &[]));
}

#[test]
fn check_reports_oversized_component() {
    assert_report!("too_large", findings(&vec![0; (64 << 20) + 1], &[]));
}

/// Returns the findings for the evil component, which misbehaves in the self-test.
fn evil_findings(mode: &str, more: &[&str]) -> String {
    let setting = format!("evil-always={mode}");
    findings(
        &bytes(component("evil")),
        &[&["--setting", &setting], more].concat(),
    )
}

#[test]
fn check_reports_unknown_model() {
    assert_report!("unknown_model", evil_findings("model-unknown", &[]));
}

#[test]
fn check_reports_wrong_tensor_shape() {
    assert_report!("wrong_tensor_shape", evil_findings("tensor-shape", &[]));
}

#[test]
fn check_reports_nan_vector() {
    assert_report!("nan_vector", evil_findings("nan", &[]));
}

#[test]
fn check_reports_panic_message() {
    assert_report!("panic", evil_findings("panic", &[]));
}

#[test]
fn check_reports_slow_component() {
    assert_report!(
        "too_slow",
        evil_findings("spin", &["--limit", "time-ms=300"])
    );
}

#[test]
fn check_reports_memory_limit() {
    assert_report!(
        "too_much_memory",
        evil_findings("memory", &["--limit", "memory-mib=64"])
    );
}

#[test]
fn frozen_0_1_0_component_runs() {
    assert_frozen_runs("0.1.0", &[]);
}

#[test]
fn frozen_0_1_1_component_runs() {
    assert_frozen_runs("0.1.1", &[]);
}

#[test]
fn frozen_0_1_2_component_runs() {
    assert_frozen_runs("0.1.2", &["whole_picture"]);
}

/// Asserts that a component built for an earlier version of the interface serves, with the codes of
/// its warnings.
fn assert_frozen_runs(version: &str, warnings: &[&str]) {
    let file = component(&format!("compat-{version}"));
    assert_eq!(findings(&bytes(&file), &[]), "");
    let server = Options::drawn().pipeline(file).start();
    for person in ["alice", "bob"] {
        server
            .enroll(person, [drawn(&format!("{person}-1.png"))])
            .ok();
        // This component takes the whole picture as the face, so equal pictures match.
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
        let codes: Vec<&str> = answer["warnings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|warning| warning["code"].as_str().unwrap())
            .collect();
        assert_eq!(codes, warnings);
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

/// A folder with three drawn pictures, one of them in a subfolder.
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
fn try_recognises_and_draws_faces() {
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
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let row = |name: &str| {
        stdout
            .lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap_or_else(|| panic!("{name}: {stdout}"))
            .to_owned()
    };
    assert!(
        row("a.png").contains("alice ") && row("more/group.png").contains("bob "),
        "{stdout}"
    );
    assert_eq!(
        row("none.png").split_whitespace().nth(2),
        Some("0"),
        "{stdout}"
    );
    // The drawing has the picture's size and boxes in the colour of recognised people.
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

    // The outcome is also available as JSON.
    let output = pipeline("try", &[&common[..], &["--json"]].concat());
    let outcomes: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(outcomes[0]["faces"][0]["identity"], "alice");
    assert_eq!(
        outcomes[0]["faces"][0]["bounds"].as_array().unwrap().len(),
        4
    );
    // A photo that fails is counted, and the others are still shown.
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
fn diff_finds_and_draws_differences() {
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
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stdout}");
    assert!(
        stdout.contains("alice → unknown") && stdout.contains("2 of 3 photos differ"),
        "{stdout}"
    );
    // The drawing shows both answers side by side.
    let (drawing, picture) = (
        image::open(out.path().join("a.png.png")).unwrap(),
        image::load_from_memory(&drawn("alice-probe.png")).unwrap(),
    );
    assert_eq!(
        (drawing.width(), drawing.height()),
        (2 * picture.width(), picture.height())
    );

    let folder = tempfile::tempdir().unwrap();
    // A component with equal behaviour has no differences.
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
fn bench_reports_each_stage() {
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
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for stage in ["decode", "detect", "embed", "decide", "total", "used"] {
        assert!(
            stdout
                .lines()
                .any(|line| line.trim_start().starts_with(stage)),
            "{stage}: {stdout}"
        );
    }
}

#[test]
fn untested_component_is_not_usable() {
    let file = component("minimal");
    for (missing, args) in [
        ("the pack", ["--pack", "nowhere"]),
        ("ONNX Runtime", ["--onnxruntime", "/nowhere"]),
    ] {
        let output = pipeline("check", &[&[text(&file)], &args[..]].concat());
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{missing}: {stdout}");
        assert!(
            stdout.contains("not_tried: the self-test could not be run: ")
                && !stdout.contains("this host can run it"),
            "{stdout}"
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

/// Names of a component cannot send control characters to the terminal.
#[test]
fn component_names_are_escaped() {
    // An export name may be any text in the binary form. The text form would escape it.
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
        for printed in [output.stdout, output.stderr] {
            let printed = String::from_utf8(printed).unwrap();
            assert!(
                printed.chars().all(|c| c == '\n' || !c.is_control()),
                "{command}: {printed:?}"
            );
            assert!(
                !printed
                    .lines()
                    .any(|line| line.starts_with("; this host") || line.starts_with(" (instance")),
                "{printed:?}"
            );
        }
    }
}

#[test]
fn device_files_are_refused() {
    let output = pipeline("check", &["/dev/zero"]);
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("cannot read /dev/zero: it is not a regular file"),
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
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        stdout.contains("it is not a regular file")
            && String::from_utf8_lossy(&output.stderr).contains("1 of 4 photos failed"),
        "{stdout}"
    );
    // A photo on which both fail is not an agreement.
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
fn try_json_accepts_non_utf8_name() {
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
fn new_refuses_reserved_project_names() {
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
        String::from_utf8_lossy(&output.stderr).contains("it exists and is not an empty folder"),
        "{output:?}"
    );
}

#[test]
fn try_reports_missing_inputs() {
    let (own, folder) = (component("insightface"), tempfile::tempdir().unwrap());
    let refusal = |args: &[&str]| {
        let output = pipeline("try", &[&[text(&own)], args].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        refusal(&["--images", text(folder.path())])
            .contains("there is no picture (*.jpg, *.png, *.webp) in")
    );
    std::fs::write(folder.path().join("a.png"), drawn("alice-1.png")).unwrap();
    assert!(
        refusal(&["--images", text(folder.path()), "--gallery", "/nowhere"])
            .contains("there is no gallery at /nowhere; enrol people")
    );
    assert!(refusal(&["--images", text(folder.path()), "--pack", "nowhere"]).contains("nowhere"));
    let error = refusal(&["--images", text(folder.path()), "--limit", "memory=1"]);
    assert!(error.contains("there is no limit `memory`"), "{error}");
}
