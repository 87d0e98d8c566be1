//! Projects of `rostro pipeline new`: behaviour of their generated files.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use rostro_sdk::analysis::Measure;
use rostro_sdk::geometry::Rect;
use rostro_sdk::host::{ReviewLevel, Thresholds};
use rostro_sdk::policy::{Face, Identity, Policy, Review};
use rostro_sdk::testing::Fixed;
use serde_json::{Value, json};

use crate::harness::{Options, component, root, rostro};

/// Policy with the review of the SDK.
struct DefaultReview;

impl Policy for DefaultReview {
    fn identity() -> Identity {
        Identity::new("default", "0.1.0")
    }
}

/// Program that reviews cases with the generated file of JavaScript.
const JS: &str = "
import { readFileSync } from 'node:fs';
import { review } from './review.js';
const judge = ({ faces, level, threshold }) => {
  const { tag, val } = review(faces, level, threshold);
  return tag === 'accept' ? val : val.map(({ code, message, value, limit }) => [code, message, value ?? null, limit ?? null]);
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(judge)));
";

/// Program that reviews cases with the generated file of Python.
const PYTHON: &str = "
import json, sys
from types import SimpleNamespace
from review import review
cases = json.load(sys.stdin, object_hook=lambda fields: SimpleNamespace(**fields))
def judge(case):
    best, reasons = review(case.faces, case.level, case.threshold)
    return reasons if reasons else best
print(json.dumps([judge(case) for case in cases]))
";

/// Creates a project, runs a program in it, and returns its verdicts on the cases.
fn verdicts(
    folder: &Path,
    language: &str,
    program: &str,
    args: &[&str],
    cases: &str,
) -> Vec<Value> {
    let name = format!("{language}-policy");
    let created = rostro()
        .args([
            "pipeline",
            "new",
            &name,
            "--lang",
            language,
            "--policy-only",
        ])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(created.status.success(), "{created:?}");
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(folder.join(&name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(cases.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns photos on both sides of each limit, with and without measures and companions.
fn photos() -> Vec<Vec<Face>> {
    let face = |side: f32, score: f32, measures: &[(&'static str, f32)]| Face {
        bounds: Rect {
            x1: 10.25,
            y1: 20.5,
            x2: 10.25 + side,
            y2: 20.5 + 1.25 * side,
        },
        score,
        landmarks: Vec::new(),
        measures: measures
            .iter()
            .map(|&(name, value)| Measure::new(name, value))
            .collect(),
    };
    let mut photos = vec![Vec::new()];
    for side in [49.9, 50.0, 111.9, 112.0, 200.0] {
        for (yaw, brightness, outside, sharpness) in [
            (0.1, 100.0, 0.0, 300.0),
            (-0.85, 40.0, 0.25, 50.0),
            (0.850_001, 39.9, 0.250_001, 49.9),
            (0.78, 50.0, 0.5, 100.0),
            (-0.780_001, 220.1, 0.500_001, 99.9),
            (2.0, 200.0, 1.0, 7.0),
        ] {
            let measures = [
                ("yaw", yaw),
                ("brightness", brightness),
                ("outside", outside),
                ("sharpness", sharpness),
            ];
            for score in [0.499, 0.5, 0.9] {
                let chosen = face(side, score, &measures);
                photos.push(vec![chosen.clone()]);
                for (companion, score) in [
                    (0.5 * side, 0.5),
                    (0.499 * side, 0.7),
                    (side, 0.4),
                    (side, score),
                ] {
                    photos.push(vec![face(companion, score, &[]), chosen.clone()]);
                }
            }
        }
        photos.push(vec![face(side, 0.9, &[])]);
    }
    photos
}

/// The generated review of each language gives the answers of the SDK, with equal reasons and
/// numbers.
#[test]
fn generated_reviews_agree_across_languages() {
    let levels = [
        ("off", ReviewLevel::Off),
        ("standard", ReviewLevel::Standard),
        ("strict", ReviewLevel::Strict),
    ];
    let (mut cases, mut wanted) = (Vec::new(), Vec::new());
    for photo in photos() {
        for (name, level) in levels {
            let thresholds = Thresholds {
                detection: 0.5,
                similarity: 0.5,
            };
            let host = Fixed {
                thresholds,
                review_level: level,
                ..Fixed::default()
            };
            let faces = photo.iter().map(|face| {
                let measures = face.measures.iter().map(|measure| json!({"name": measure.name, "value": measure.value}));
                let Rect { x1, y1, x2, y2 } = face.bounds;
                json!({"score": face.score, "bounds": {"x1": x1, "y1": y1, "x2": x2, "y2": y2}, "measures": measures.collect::<Vec<_>>()})
            });
            cases.push(json!({"faces": faces.collect::<Vec<_>>(), "level": name, "threshold": thresholds.detection}));
            wanted.push(match DefaultReview::review(&host, &photo) {
                Review::Accept(index) => json!(index),
                Review::Reject(reasons) => reasons
                    .iter()
                    .map(|reason| {
                        let (value, limit) = reason.measured.unzip();
                        json!([reason.code, reason.message, value, limit])
                    })
                    .collect(),
            });
        }
    }
    let text = Value::from(cases.clone()).to_string();
    let folder = tempfile::tempdir().unwrap();
    let js = verdicts(
        folder.path(),
        "js",
        "node",
        &["--input-type=module", "-e", JS],
        &text,
    );
    let python = verdicts(folder.path(), "python", "python3", &["-c", PYTHON], &text);
    assert!(wanted.len() > 1000 && js.len() == wanted.len() && python.len() == wanted.len());
    let plain = |answer: &Value| -> Value {
        // JavaScript does not distinguish 1 and 1.0.
        serde_json::from_str(&answer.to_string().replace(".0,", ",").replace(".0]", "]")).unwrap()
    };
    for (index, case) in cases.iter().enumerate() {
        let wanted = plain(&wanted[index]);
        assert_eq!(
            (plain(&js[index]), plain(&python[index])),
            (wanted.clone(), wanted),
            "{case}"
        );
    }
}

/// The example policies in JavaScript and Python have the generated files of a new project.
#[test]
fn examples_match_generated_files() {
    let folder = tempfile::tempdir().unwrap();
    for (language, example, names) in [
        (
            "js",
            "attendance-policy/js",
            &["review.js", "host_log.js"][..],
        ),
        (
            "python",
            "attendance-policy/python",
            &["review.py", "host_log.py"],
        ),
        ("python", "seen-twice", &["host_log.py"]),
    ] {
        let project = folder.path().join(example);
        let created = rostro()
            .args(["pipeline", "new", "--lang", language, "--policy-only"])
            .arg(project.join("policy"))
            .output()
            .unwrap();
        assert!(created.status.success(), "{created:?}");
        for name in names {
            let example = root().join("guest/examples").join(example).join(name);
            let [wanted, actual] = [project.join("policy").join(name), example.clone()]
                .map(|path| std::fs::read_to_string(path).unwrap());
            assert!(
                actual == wanted,
                "{} differs from the file of `rostro pipeline new`; copy it",
                example.display()
            );
        }
    }
}

/// A check reports which poor photos a component would enrol.
#[test]
fn check_reports_poor_photos() {
    let checked = |name: &str| {
        let output = rostro()
            .args(["pipeline", "check", "--pack", "testing"])
            .arg(component(name))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let strict = checked("insightface");
    assert!(
        strict.contains(
            "  review     clear accepted, blurred refused (blurred), dark refused (too_dark)\n"
        ),
        "{strict}"
    );
    assert!(!strict.contains("poor photos are enrolled"), "{strict}");
    // Its policy accepts any face.
    let lax = checked("evil");
    assert!(
        lax.contains("blurred accepted") && lax.contains("poor photos are enrolled"),
        "{lax}"
    );
}

/// Log lines of a failing guest name its revision and half, and a check shows the output of the
/// guest.
#[test]
fn guest_log_names_revision() {
    let server = Options::drawn()
        .pipeline(component("evil"))
        .arg("--breaker", "1000000")
        .start();
    let answer = server.recognize(rostro_evil::modes::image("log-flood", b""));
    let log = server.log_of(&answer);
    let line = log
        .lines()
        .find(|line| line.contains("forged by a guest"))
        .unwrap();
    let id = server.active();
    assert!(
        line.contains(&id[..12]) && line.contains("half=\"vision\""),
        "{line}"
    );

    let output = rostro()
        .args([
            "pipeline",
            "check",
            "--pack",
            "testing",
            "--setting",
            "evil-always=panic",
        ])
        .arg(component("evil"))
        .output()
        .unwrap();
    let written = String::from_utf8(output.stderr).unwrap();
    assert!(
        written.contains("guest wrote: evil vision") || written.contains("panics"),
        "{written}"
    );
}

/// An exception of a policy in Python or JavaScript is logged with text, file and line. Its output
/// is logged, too.
#[test]
fn scaffold_logs_exceptions_with_line() {
    let folder = tempfile::tempdir().unwrap();
    for language in ["js", "python"] {
        let name = format!("{language}-policy");
        let created = rostro()
            .args([
                "pipeline",
                "new",
                &name,
                "--lang",
                language,
                "--policy-only",
            ])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(created.status.success(), "{created:?}");
    }
    let output_of = |language: &str, program: &str, args: &[&str]| {
        let project = folder.path().join(format!("{language}-policy"));
        let output = Command::new(program)
            .args(args)
            .current_dir(project)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    // Python.
    let python = folder.path().join("python-policy");
    std::fs::create_dir_all(python.join("wit_world/imports")).unwrap();
    std::fs::write(python.join("wit_world/__init__.py"), "").unwrap();
    std::fs::write(python.join("wit_world/imports/__init__.py"), "").unwrap();
    let telemetry = "import enum, os\nclass Level(enum.Enum):\n    INFO = 1\n    WARN = 2\ndef log(level, text):\n    os.write(1, f'{level.name} {text}\\n'.encode())\n";
    std::fs::write(python.join("wit_world/imports/telemetry.py"), telemetry).unwrap();
    std::fs::write(python.join("broken.py"), "import sys\nclass Odd(Exception):\n    def __str__(self):\n        raise RuntimeError\ndef decide():\n    print('about to fail')\n    sys.stderr.writelines(['half ', 'a line'])\n    try:\n        raise Odd\n    except Odd as odd:\n        raise ValueError('thirteen') from odd\n").unwrap();
    let program = "from host_log import log_errors\nimport broken\n@log_errors\ndef decide():\n    return broken.decide()\ntry:\n    decide()\nexcept ValueError:\n    print('raised')\n";
    let python_output = output_of("python", "python3", &["-c", program]);
    assert!(
        python_output.contains("INFO about to fail\n"),
        "{python_output}"
    );
    assert!(
        python_output.contains("WARN ValueError: thirteen (")
            && python_output.contains("broken.py:11 in decide"),
        "{python_output}"
    );
    assert!(
        python_output.contains("; caused by Odd\n"),
        "{python_output}"
    );
    let (half, cause) = (
        python_output.find("WARN half a line\n"),
        python_output.find("WARN ValueError"),
    );
    assert!(
        half.is_some() && half < cause,
        "the exception comes last: {python_output}"
    );
    assert!(
        python_output.contains("INFO raised"),
        "the exception propagates: {python_output}"
    );

    // JavaScript.
    std::fs::write(
        folder.path().join("js-policy/broken.js"),
        "export function decide() {\n  const circular = { big: 5n };\n  console.log('about to fail', 1, 5n, { big: 5n });\n  circular.self = circular;\n  console.log(circular);\n  console.error('failed:', new TypeError('twelve'));\n  throw new Error('thirteen');\n}\nexport function template() {\n  throw { code: 1 };\n}\n",
    )
    .unwrap();
    let program = "import { logErrors } from './host_log.js'; import { decide, template } from './broken.js'; const out = process.stdout;
        const policy = logErrors((level, text) => out.write(`${level} ${text}\\n`), { decide, template });
        try { policy.template(); } catch (thrown) { out.write(`thrown ${thrown.code}\\n`); }
        try { policy.decide(); } catch { out.write('raised\\n'); }";
    let js_output = output_of("js", "node", &["--input-type=module", "-e", program]);
    assert!(
        js_output.contains("warn exception: {\"code\":1}\nthrown 1\n"),
        "{js_output}"
    );
    assert!(
        js_output.contains("warn failed: TypeError: twelve (")
            && js_output.contains("info [object Object]\n"),
        "{js_output}"
    );
    assert!(
        js_output.contains("info about to fail 1 5 {\"big\":\"5\"}\n")
            && js_output.ends_with("raised\n"),
        "{js_output}"
    );
    assert!(
        js_output.contains("warn Error: thirteen (") && js_output.contains("broken.js:7:"),
        "{js_output}"
    );
}
