//! The 8-bit variant of a recogniser: made by the command, used for frames alone.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};
use ureq::http::Method;

use crate::harness::{Client, Options, Server, file, refusal, root, rostro, shared};

/// Copies the pack `mobile` into a folder of packs.
fn copy_mobile(models: &Path) {
    let (from, to) = (
        root().join("models/installed/mobile"),
        models.join("mobile"),
    );
    std::fs::create_dir_all(&to).unwrap();
    for name in ["manifest.toml", "det_500m.onnx", "mobilefacenet.onnx"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// Returns the command that makes the variant, with the environment of `cargo xtask test`.
fn quantize(models: &Path, photos: &Path) -> Command {
    let mut command = rostro();
    command
        .args(["models", "quantize", "mobile", "--models"])
        .arg(models)
        .arg("--photos")
        .arg(photos)
        .arg("--python")
        .arg(root().join("target/python/quantize/bin/python"));
    command
}

fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    text
}

fn start(models: &Path, precision: &str) -> Server {
    Options::real()
        .arg("--models", models)
        .arg("--precision", precision)
        .start()
}

/// Returns the text of `int8.toml` for a variant of the recogniser.
fn spec(file: &str, variant: &[u8], original: &[u8]) -> String {
    let sha256 = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    format!(
        "[recognizer]\nfile = '{file}'\nsha256 = '{}'\nsize = {}\noriginal = '{}'\n",
        sha256(variant),
        variant.len(),
        sha256(original)
    )
}

fn photo(student: &str, name: &str) -> Vec<u8> {
    std::fs::read(shared("faces/students").join(student).join(name)).unwrap()
}

/// Returns the ids of the students with photos, in order.
fn students() -> Vec<String> {
    let entries = shared("faces/students").read_dir().unwrap();
    let mut ids: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    ids.sort();
    ids
}

/// Returns the number of images that the recogniser computed in 8-bit integers.
fn int8_images(server: &Server) -> u64 {
    let answer = Client::new(&server.admin)
        .send(Method::GET, "/metrics", &[], &[])
        .unwrap();
    let text = answer.json.as_str().unwrap().to_owned();
    text.lines()
        .find_map(|line| {
            line.strip_prefix("rostro_inference_int8_images_total{model=\"recognizer\"} ")
        })
        .unwrap()
        .parse()
        .unwrap()
}

fn enroll_all(server: &Server) {
    for student in students() {
        let photos = ["front.jpg", "left.jpg", "right.jpg"].map(|name| photo(&student, name));
        server.enroll(&student, photos).ok();
    }
}

/// Frames are computed in 8-bit integers, and all students are still recognised.
/// Embeddings that are stored or handed out stay those of the floats to the last digit.
#[test]
fn int8_serves_frames_alone() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path();
    copy_mobile(models);
    let refused = Options::real()
        .arg("--models", models)
        .arg("--precision", "int8")
        .refuse();
    assert!(
        refused.contains("`rostro models quantize mobile --photos DIR`"),
        "{refused}"
    );

    let made = run(quantize(models, &shared("faces/students")));
    assert!(made.contains("1st percentile 0.9"), "{made}");
    let again = run(quantize(models, &shared("faces/students")));
    assert!(again.contains("has a whole variant"), "{again}");

    let (float, int8) = (start(models, "float"), start(models, "int8"));
    for server in [&float, &int8] {
        enroll_all(server);
    }
    for student in students() {
        let csv = |server: &Server| {
            let text = std::fs::read_to_string(server.gallery.join(format!("{student}.csv")));
            text.unwrap()
                .lines()
                .map(|row| row.split(',').nth(1).unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(csv(&float), csv(&int8), "{student}");
    }
    let pair = [
        file("a", "a.jpg", photo("s102", "front.jpg")),
        file("b", "b.jpg", photo("s102", "left.jpg")),
    ];
    let compared = |server: &Server| server.form("/v1/compare", &pair).ok()["similarities"].clone();
    assert_eq!(compared(&float), compared(&int8));
    assert_eq!(int8_images(&int8), 0);

    let mut faces = 0;
    for student in students() {
        for (server, precision) in [(&float, "float"), (&int8, "int8")] {
            let answer = server.recognize(photo(&student, "test.jpg")).ok();
            assert_eq!(answer["pipeline"]["precision"], precision, "{answer}");
            let found = answer["recognized_faces"].as_array().unwrap();
            assert_eq!(found[0]["identity"], Value::from(student.as_str()));
            if precision == "int8" {
                faces += found.len() as u64;
            }
        }
    }
    assert_eq!((int8_images(&float), int8_images(&int8)), (0, faces));
}

/// A damaged variant is a warning, unless every run is to use it.
#[test]
fn damaged_variant_leaves_floats() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path();
    copy_mobile(models);
    let variants = models.join("mobile/int8.toml");
    let recognizer = std::fs::read(models.join("mobile/mobilefacenet.onnx")).unwrap();
    let detector = std::fs::read(models.join("mobile/det_500m.onnx")).unwrap();
    // Bytes that are no model, and a model with other inputs and outputs. The digests are right.
    let unusable = [b"no model".to_vec(), detector].map(|bytes| {
        let file = format!("variant-{}.onnx", bytes.len());
        let spec = spec(&file, &bytes, &recognizer);
        std::fs::write(models.join("mobile").join(file), bytes).unwrap();
        spec
    });
    for text in ["[recognizer]\nfile = 1".to_owned()]
        .iter()
        .chain(&unusable)
    {
        std::fs::write(&variants, text).unwrap();
        let server = start(models, "auto");
        assert!(server.log().contains("frames are computed in floats"));
        assert_eq!(
            server.recognize(photo("s102", "test.jpg")).ok()["pipeline"]["precision"],
            "float"
        );
    }
    assert!(!start(models, "float").log().contains("int8.toml"));
    let refused = Options::real()
        .arg("--models", models)
        .arg("--precision", "int8")
        .refuse();
    for remedy in ["models quantize --force`", "start with --precision auto"] {
        assert!(refused.contains(remedy), "{refused}");
    }
}

/// A variant that cannot be made leaves the pack as it was.
#[test]
fn quantize_failure_keeps_pack() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path();
    copy_mobile(models);
    let empty = tempfile::tempdir().unwrap();
    let missing = refusal(quantize(models, &empty.path().join("missing")));
    assert!(
        missing.contains("name another one with --photos"),
        "{missing}"
    );
    let without = refusal(quantize(models, empty.path()));
    assert!(without.contains("has no photos"), "{without}");
    let mut names: Vec<_> = models
        .join("mobile")
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["det_500m.onnx", "manifest.toml", "mobilefacenet.onnx"]
    );
    assert_eq!(models.read_dir().unwrap().count(), 1);
}
