//! The projects that `rostro pipeline new` makes: what their generated files do.

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

/// The policy whose review is the SDK's.
struct DefaultReview;

impl Policy for DefaultReview {
    fn identity() -> Identity {
        Identity::new("default", "0.1.0")
    }
}

/// Judges cases with JavaScript's generated file.
const JS: &str = "
import { readFileSync } from 'node:fs';
import { review } from './review.js';
const judge = ({ faces, level, threshold }) => {
  const { tag, val } = review(faces, level, threshold);
  return tag === 'accept' ? val : val.map(({ code, message, value, limit }) => [code, message, value ?? null, limit ?? null]);
};
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(judge)));
";

/// Judges cases with Python's generated file.
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

/// A project, and what a program in it says to these cases.
fn judged(folder: &Path, language: &str, program: &str, args: &[&str], cases: &str) -> Vec<Value> {
    let name = format!("{language}-policy");
    let made = rostro()
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
    assert!(made.status.success(), "{made:?}");
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

/// Photos on both sides of each limit, alone and together, with and without measures and
/// companions.
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

/// The generated review of each language's scaffold gives the SDK's answer, reason by reason and
/// number by number.
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
    let js = judged(
        folder.path(),
        "js",
        "node",
        &["--input-type=module", "-e", JS],
        &text,
    );
    let python = judged(folder.path(), "python", "python3", &["-c", PYTHON], &text);
    assert!(wanted.len() > 1000 && js.len() == wanted.len() && python.len() == wanted.len());
    let plain = |answer: &Value| -> Value {
        // 1 and 1.0 are one number to JavaScript.
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

/// The example policy in JavaScript and Python judges photos and reports exceptions with the files
/// that a new project gets.
#[test]
fn examples_have_the_generated_files() {
    let folder = tempfile::tempdir().unwrap();
    for (language, ending) in [("js", "js"), ("python", "py")] {
        let project = folder.path().join(language).join("attendance-policy");
        let made = rostro()
            .args(["pipeline", "new", "--lang", language, "--policy-only"])
            .arg(&project)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        for name in ["review", "told"] {
            let file = format!("{name}.{ending}");
            let example = root()
                .join("guest/examples/attendance-policy")
                .join(language)
                .join(&file);
            let [wanted, is] =
                [project.join(&file), example].map(|path| std::fs::read_to_string(path).unwrap());
            assert!(
                is == wanted,
                "guest/examples/attendance-policy/{language}/{file} is not what `rostro pipeline new` makes; copy it"
            );
        }
    }
}

/// A check says which poor photos a component would enrol.
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
    // Its policy takes any face.
    let lax = checked("evil");
    assert!(
        lax.contains("blurred accepted") && lax.contains("poor photos are enrolled"),
        "{lax}"
    );
}

/// A failing guest's log lines name its revision and half, and authors see what it wrote.
#[test]
fn guest_lines_name_revision_and_half() {
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

/// An exception of a policy in Python or JavaScript is logged with text, file and line, and what it
/// printed is, too.
#[test]
fn scaffold_logs_exceptions_with_line() {
    let folder = tempfile::tempdir().unwrap();
    for language in ["js", "python"] {
        let name = format!("{language}-policy");
        let made = rostro()
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
        assert!(made.status.success(), "{made:?}");
    }
    let said = |language: &str, program: &str, args: &[&str]| {
        let project = folder.path().join(format!("{language}-policy"));
        let output = Command::new(program)
            .args(args)
            .current_dir(project)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let python = folder.path().join("python-policy");
    std::fs::create_dir_all(python.join("wit_world/imports")).unwrap();
    std::fs::write(python.join("wit_world/__init__.py"), "").unwrap();
    std::fs::write(python.join("wit_world/imports/__init__.py"), "").unwrap();
    let telemetry = "import enum, os\nclass Level(enum.Enum):\n    INFO = 1\n    WARN = 2\ndef log(level, text):\n    os.write(1, f'{level.name} {text}\\n'.encode())\n";
    std::fs::write(python.join("wit_world/imports/telemetry.py"), telemetry).unwrap();
    std::fs::write(python.join("broken.py"), "import sys\nclass Odd(Exception):\n    def __str__(self):\n        raise RuntimeError\ndef decide():\n    print('about to fail')\n    sys.stderr.writelines(['half ', 'a line'])\n    try:\n        raise Odd\n    except Odd as odd:\n        raise ValueError('thirteen') from odd\n").unwrap();
    let program = "from told import told\nimport broken\n@told\ndef decide():\n    return broken.decide()\ntry:\n    decide()\nexcept ValueError:\n    print('raised')\n";
    let said_by_python = said("python", "python3", &["-c", program]);
    assert!(
        said_by_python.contains("INFO about to fail\n"),
        "{said_by_python}"
    );
    assert!(
        said_by_python.contains("WARN ValueError: thirteen (")
            && said_by_python.contains("broken.py:11 in decide"),
        "{said_by_python}"
    );
    assert!(
        said_by_python.contains("; caused by Odd\n"),
        "{said_by_python}"
    );
    let (half, cause) = (
        said_by_python.find("WARN half a line\n"),
        said_by_python.find("WARN ValueError"),
    );
    assert!(
        half.is_some() && half < cause,
        "the exception comes last: {said_by_python}"
    );
    assert!(
        said_by_python.contains("INFO raised"),
        "the exception goes on: {said_by_python}"
    );

    std::fs::write(
        folder.path().join("js-policy/broken.js"),
        "export function decide() {\n  const circular = { big: 5n };\n  console.log('about to fail', 1, 5n, { big: 5n });\n  circular.self = circular;\n  console.log(circular);\n  console.error('failed:', new TypeError('twelve'));\n  throw new Error('thirteen');\n}\nexport function template() {\n  throw { code: 1 };\n}\n",
    )
    .unwrap();
    let program = "import { told } from './told.js'; import { decide, template } from './broken.js'; const out = process.stdout;
        const policy = told((level, text) => out.write(`${level} ${text}\\n`), { decide, template });
        try { policy.template(); } catch (thrown) { out.write(`thrown ${thrown.code}\\n`); }
        try { policy.decide(); } catch { out.write('raised\\n'); }";
    let said_by_js = said("js", "node", &["--input-type=module", "-e", program]);
    assert!(
        said_by_js.contains("warn exception: {\"code\":1}\nthrown 1\n"),
        "{said_by_js}"
    );
    assert!(
        said_by_js.contains("warn failed: TypeError: twelve (")
            && said_by_js.contains("info [object Object]\n"),
        "{said_by_js}"
    );
    assert!(
        said_by_js.contains("info about to fail 1 5 {\"big\":\"5\"}\n")
            && said_by_js.ends_with("raised\n"),
        "{said_by_js}"
    );
    assert!(
        said_by_js.contains("warn Error: thirteen (") && said_by_js.contains("broken.js:7:"),
        "{said_by_js}"
    );
}
