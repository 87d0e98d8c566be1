//! Comparison with insightface 2.1 on the same images and models; prints the figures.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_common::cores::Cores;
use rostro_inference::OnnxRuntime;
use rostro_models::Pack;
use rostro_sandbox::bindings::Purpose;
use rostro_sandbox::component::CompiledComponent;
use rostro_sandbox::engine::Engine;
use rostro_sandbox::limits::Limits;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::stage::{StageRequest, Tuning};
use rostro_sandbox::types::{Analysis, AnalyzedFace};
use serde_json::Value;

use crate::harness::{Options, component, root, shared};

/// Stages the pipeline as the reference was made: insightface's square letterbox of 640 and its
/// detection threshold.
fn revision() -> Arc<Revision> {
    let library = rostro_models::runtime::locate(None, &root().join("models/runtime")).unwrap();
    let onnx = OnnxRuntime::load(&library, Cores::new(NonZeroUsize::MIN)).unwrap();
    let pack = Pack::open(&root().join("models/installed"), "mobile").unwrap();
    let engine = Engine::new(Limits::default(), 1).unwrap();
    let plugin =
        CompiledComponent::load(&engine, &std::fs::read(component("insightface")).unwrap())
            .unwrap();
    let own = [("letterbox".to_owned(), "square".to_owned())].into();
    let tuning = Tuning {
        detection: Some(0.5),
        similarity: None,
        max_pixels: 40_000_000,
        own,
    };
    let request = StageRequest {
        runtime: &onnx,
        pack: &pack,
        vision: plugin,
        policy: None,
        limits: &BTreeMap::new(),
        settings: &BTreeMap::new(),
        tuning: &tuning,
    };
    Revision::stage(request, || {
        (Instant::now() + Duration::from_secs(60)).into()
    })
    .unwrap()
}

fn analyze(revision: &Arc<Revision>, image: &str) -> Analysis {
    let bytes = std::fs::read(shared(image)).unwrap();
    revision
        .begin(Instant::now() + Duration::from_secs(60))
        .analyze(&bytes, Purpose::Recognize)
        .unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap() as f32)
        .collect()
}

fn bounds(face: &AnalyzedFace) -> [f32; 4] {
    let bounds = face.face.bounds;
    [bounds.x1, bounds.y1, bounds.x2, bounds.y2]
}

fn iou(a: &[f32], b: &[f32]) -> f32 {
    let face_matching = |low: usize| (a[low + 2].min(b[low + 2]) - a[low].max(b[low])).max(0.0);
    let area = |r: &[f32]| (r[2] - r[0]) * (r[3] - r[1]);
    let both = face_matching(0) * face_matching(1);
    both / (area(a) + area(b) - both)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Differences between one face and the reference.
struct Comparison {
    image: String,
    iou: f32,
    score: f32,
    landmark: f32,
    cosine: f32,
}

fn compare(image: &str, ours: &Analysis, theirs: &Value) -> Comparison {
    let their_bounds = numbers(&theirs["bbox"]);
    let face_matching = |face: &&AnalyzedFace| iou(&bounds(face), &their_bounds);
    let face = ours
        .faces
        .iter()
        .max_by(|a, b| face_matching(a).total_cmp(&face_matching(b)))
        .unwrap_or_else(|| panic!("{image}: no face"));
    let points = theirs["kps"].as_array().unwrap().iter().map(numbers);
    let distance = |(point, theirs): (&rostro_sandbox::bindings::Point, Vec<f32>)| {
        (point.x - theirs[0]).hypot(point.y - theirs[1])
    };
    Comparison {
        image: image.to_owned(),
        iou: face_matching(&face),
        score: (face.face.score - theirs["det_score"].as_f64().unwrap() as f32).abs(),
        landmark: face
            .face
            .landmarks
            .iter()
            .zip(points)
            .map(distance)
            .fold(0.0, f32::max),
        cosine: cosine(&face.embedding, &numbers(&theirs["embedding"])),
    }
}

/// The embedding in a person's CSV file is insightface's embedding of the photo, at the default
/// settings of the service.
#[test]
fn csv_embedding_matches_insightface() {
    let reference: Value = serde_json::from_slice(
        &std::fs::read(shared("reference/insightface-2.1-det640.json")).unwrap(),
    )
    .unwrap();
    let server = Options::real().arg("--review", "off").start();
    let mut cosines = Vec::new();
    let mut differ = 0;
    for (image, theirs) in reference["images"].as_object().unwrap() {
        if !image.starts_with("faces/students/") {
            continue;
        }
        server
            .enroll("student", [std::fs::read(shared(image)).unwrap()])
            .ok();
        let text = std::fs::read_to_string(server.gallery.join("student.csv")).unwrap();
        let mut rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let header = rows.next().unwrap();
        assert_eq!(
            header,
            [
                "image_number",
                "embedding",
                "contract",
                "det_score",
                "template_embedding"
            ]
        );
        let row = rows.next().unwrap();
        let vector = |text: &str| {
            text.split(';')
                .map(|number| number.parse().unwrap())
                .collect::<Vec<f32>>()
        };
        let (raw, template) = (vector(row[1]), vector(row[4]));
        differ += usize::from(cosine(&raw, &template) < 0.999);
        let of_theirs = |face: &Value| cosine(&raw, &numbers(&face["embedding"]));
        cosines.push(
            theirs["faces"]
                .as_array()
                .unwrap()
                .iter()
                .map(of_theirs)
                .fold(-1.0, f32::max),
        );
    }
    cosines.sort_by(f32::total_cmp);
    let median = cosines[cosines.len() / 2];
    println!(
        "{} photos: median cosine {median:.4}, smallest {:.4}; {differ} with another template",
        cosines.len(),
        cosines[0]
    );
    assert!(
        cosines.len() >= 30 && median >= 0.995,
        "median cosine {median} of {}",
        cosines.len()
    );
    assert!(
        differ * 2 > cosines.len(),
        "{differ} of {} have a template embedding of its own",
        cosines.len()
    );
}

/// Every face agrees with insightface in box, score, landmarks and embedding.
#[test]
fn faces_match_insightface() {
    let reference: Value = serde_json::from_slice(
        &std::fs::read(shared("reference/insightface-2.1-det640.json")).unwrap(),
    )
    .unwrap();
    let revision = revision();
    let mut faces = Vec::new();
    for (image, theirs) in reference["images"].as_object().unwrap() {
        let ours = analyze(&revision, image);
        assert_eq!(
            (u64::from(ours.width), u64::from(ours.height)),
            (
                theirs["width"].as_u64().unwrap(),
                theirs["height"].as_u64().unwrap()
            )
        );
        let theirs = theirs["faces"].as_array().unwrap();
        assert_eq!(ours.faces.len(), theirs.len(), "{image}: number of faces");
        faces.extend(theirs.iter().map(|theirs| compare(image, &ours, theirs)));
    }
    assert!(
        faces.len() > 100,
        "only {} faces in the reference",
        faces.len()
    );
    let mut cosines: Vec<f32> = faces.iter().map(|face| face.cosine).collect();
    cosines.sort_by(f32::total_cmp);
    let median = cosines[cosines.len() / 2];
    let worst = |value: fn(&Comparison) -> f32| {
        faces
            .iter()
            .max_by(|a, b| value(a).total_cmp(&value(b)))
            .unwrap()
    };
    println!("{} faces of insightface 2.1", faces.len());
    println!(
        "  smallest IoU             {:.4} (at least 0.9)",
        worst(|face| -face.iou).iou
    );
    println!(
        "  largest score difference {:.4} (at most 0.02)",
        worst(|face| face.score).score
    );
    println!(
        "  largest landmark shift   {:.3} px (at most 1.5)",
        worst(|face| face.landmark).landmark
    );
    println!(
        "  smallest cosine          {:.5} (at least 0.99), {}",
        cosines[0],
        worst(|face| -face.cosine).image
    );
    println!("  median cosine            {median:.5} (at least 0.998)");
    for face in &faces {
        let good =
            face.iou >= 0.9 && face.score <= 0.02 && face.landmark <= 1.5 && face.cosine >= 0.99;
        let Comparison {
            image,
            iou,
            score,
            landmark,
            cosine,
        } = face;
        assert!(
            good,
            "{image}: IoU {iou}, score off by {score}, landmark off by {landmark} px, cosine {cosine}"
        );
    }
    assert!(median >= 0.998, "median cosine {median}");
}
