//! Results of `analyze`: the honest one, and those that break a rule of the interface.

use crate::memory;
use rostro_sdk::bindings::exports::rostro::pipeline::vision::{
    Analysis, AnalyzedFace, VisionError,
};
use rostro_sdk::bindings::rostro::pipeline::settings;
use rostro_sdk::bindings::rostro::pipeline::types::{BoundingBox, Face, Measure, Point};

/// Width and height of every image in a result.
const SIZE: u32 = 100;

/// The result of `analyze`.
pub(crate) type Answer = Result<Analysis, VisionError>;

/// Returns one face with this score.
pub(crate) fn scored(score: f32) -> Answer {
    let mut analysis = one();
    change_face(&mut analysis, |analyzed| analyzed.face.score = score);
    Ok(analysis)
}

/// Returns one face.
pub(crate) fn honest() -> Answer {
    Ok(one())
}

/// Returns the result that breaks the mode's rule; None for modes of other modules.
pub(crate) fn broken(mode: &str) -> Option<Analysis> {
    let mut analysis = one();
    let bounds = |x1, y1, x2, y2| {
        move |analyzed: &mut AnalyzedFace| analyzed.face.bounds = BoundingBox { x1, y1, x2, y2 }
    };
    let number = |number: f32| {
        move |analyzed: &mut AnalyzedFace| fill_first(&mut analyzed.embedding, number)
    };
    match mode {
        // Without embeddings, because they would exceed the guest's own memory.
        "faces-many" => {
            analysis.faces = (0..1_000_000)
                .map(|_| AnalyzedFace {
                    face: face(),
                    track: None,
                    embedding: Vec::new(),
                })
                .collect()
        }
        "faces-2000" => analysis.faces = (0..2000).map(|_| one_face()).collect(),
        "embeddings-shared" => {
            let embedding = vec![1.0_f32; 4 << 20];
            let shared = |_| AnalyzedFace {
                face: face(),
                track: None,
                embedding: memory::alias(&embedding),
            };
            analysis.faces = (0..1024).map(shared).collect();
            std::mem::forget(embedding);
        }
        "measures-many" => change_face(&mut analysis, |analyzed| {
            analyzed.face.measures = (0..100_000)
                .map(|index| Measure {
                    name: format!("m{index}"),
                    value: 0.0,
                })
                .collect();
        }),
        "name-long" => change_face(&mut analysis, |analyzed| {
            analyzed.face.measures = measure("m".repeat(10_000_000))
        }),
        "landmarks-many" => change_face(&mut analysis, |analyzed| {
            analyzed.face.landmarks = vec![Point { x: 50.0, y: 50.0 }; 100_000]
        }),
        "nan" => change_face(&mut analysis, number(f32::NAN)),
        "infinite" => change_face(&mut analysis, number(f32::INFINITY)),
        "zero-vector" => change_face(&mut analysis, |analyzed| analyzed.embedding.fill(0.0)),
        "dimension" => change_face(&mut analysis, |analyzed| analyzed.embedding.push(0.5)),
        "box-outside" => change_face(&mut analysis, bounds(20.0, 20.0, 100.5, 80.0)),
        "box-inverted" => change_face(&mut analysis, bounds(80.0, 20.0, 20.0, 80.0)),
        "box-nan" => change_face(&mut analysis, bounds(20.0, f32::NAN, 80.0, 80.0)),
        "score-out-of-range" => change_face(&mut analysis, |analyzed| analyzed.face.score = 1.5),
        "track-outside" => change_face(&mut analysis, |analyzed| analyzed.track = Some(7)),
        "state-large" => analysis.state = Some(vec![1; 300 << 10]),
        "state-huge" => analysis.state = Some(vec![1; 300 << 20]),
        "size-lie" => (analysis.width, analysis.height) = (0, 0),
        "utf8" => change_face(&mut analysis, |analyzed| {
            analyzed.face.measures = measure(memory::not_utf8())
        }),
        "text-length" => change_face(&mut analysis, |analyzed| {
            analyzed.face.measures = measure(memory::text_outside())
        }),
        "list-length" => change_face(&mut analysis, |analyzed| {
            analyzed.embedding = memory::list_outside()
        }),
        _ => return None,
    }
    Some(analysis)
}

fn one() -> Analysis {
    Analysis {
        width: SIZE,
        height: SIZE,
        faces: vec![one_face()],
        state: None,
    }
}

fn one_face() -> AnalyzedFace {
    AnalyzedFace {
        face: face(),
        track: None,
        embedding: embedding(),
    }
}

fn face() -> Face {
    let point = |x, y| Point { x, y };
    Face {
        bounds: BoundingBox {
            x1: 20.0,
            y1: 20.0,
            x2: 80.0,
            y2: 80.0,
        },
        score: 0.9,
        landmarks: vec![
            point(40.0, 40.0),
            point(60.0, 40.0),
            point(50.0, 50.0),
            point(42.0, 62.0),
            point(58.0, 62.0),
        ],
        measures: Vec::new(),
    }
}

/// Returns a vector of length one with the recogniser's dimension.
fn embedding() -> Vec<f32> {
    let dimension = settings::get_model("recognizer")
        .and_then(|model| model.dimension)
        .unwrap_or(1);
    let number = 1.0 / (dimension as f32).sqrt();
    (0..dimension)
        .map(|index| if index % 2 == 0 { number } else { -number })
        .collect()
}

fn measure(name: String) -> Vec<Measure> {
    vec![Measure { name, value: 0.0 }]
}

fn fill_first(numbers: &mut [f32], number: f32) {
    if let Some(first) = numbers.first_mut() {
        *first = number;
    }
}

fn change_face(analysis: &mut Analysis, change: impl FnOnce(&mut AnalyzedFace)) {
    if let Some(face) = analysis.faces.first_mut() {
        change(face);
    }
}
