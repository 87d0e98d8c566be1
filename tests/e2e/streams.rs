//! Frames of a stream on a revision in this process: tracks, states, and what must not use them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rostro_common::cores::Cores;
use rostro_inference::OnnxRuntime;
use rostro_models::Pack;
use rostro_sandbox::bindings::{Candidate, Decision, GuestContext, Probe, Purpose, Ruling};
use rostro_sandbox::component::CompiledComponent;
use rostro_sandbox::engine::Engine;
use rostro_sandbox::limits::Limits;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::stage::{StageRequest, Tuning};
use rostro_sandbox::stream::StreamMemory;
use rostro_sandbox::types::{Analysis, AnalyzedFace, Decisions};

use crate::harness::{component, drawn, root};

/// Stages a pipeline on the drawn models, with limits and settings of its own.
fn revision(
    vision: &str,
    policy: Option<&str>,
    limits: &[(&str, &str)],
    own: &[(&str, &str)],
) -> Arc<Revision> {
    // A process has one runtime.
    static ONNX: LazyLock<OnnxRuntime> = LazyLock::new(|| {
        let library = rostro_models::runtime::locate(None, &root().join("models/runtime")).unwrap();
        OnnxRuntime::load(&library, Cores::new(NonZeroUsize::MIN)).unwrap()
    });
    let pack = Pack::open(&root().join("models"), "testing").unwrap();
    // Compiled components are shared with the servers of other tests.
    let cache = root().join("target/tmp/compiled");
    std::fs::create_dir_all(&cache).unwrap();
    let engine = Engine::with_cache(Limits::default(), 1, Some(&cache)).unwrap();
    let load = |name: &str| {
        CompiledComponent::load(&engine, &std::fs::read(component(name)).unwrap()).unwrap()
    };
    let texts = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let tuning = Tuning {
        detection: None,
        similarity: None,
        max_pixels: 40_000_000,
        own: texts(own),
    };
    let request = StageRequest {
        runtime: &ONNX,
        pack: &pack,
        vision: load(vision),
        policy: policy.map(load),
        limits: &texts(limits),
        settings: &BTreeMap::new(),
        tuning: &tuning,
    };
    Revision::stage(request, || {
        (Instant::now() + Duration::from_secs(60)).into()
    })
    .unwrap()
}

/// One stream on a revision.
struct Feed {
    revision: Arc<Revision>,
    memory: StreamMemory,
    time: u64,
}

impl Feed {
    fn new(revision: Arc<Revision>) -> Self {
        Self {
            revision,
            memory: StreamMemory::default(),
            time: 1_700_000_000_000,
        }
    }

    /// Recognises a frame 200 ms after the last one. Each face has two candidates.
    fn frame(&mut self, picture: &[u8]) -> (Analysis, Decisions) {
        self.frame_after(200, picture)
    }

    /// Recognises a frame some milliseconds after the last one.
    fn frame_after(&mut self, milliseconds: u64, picture: &[u8]) -> (Analysis, Decisions) {
        self.time += milliseconds;
        let context = GuestContext {
            stream: Some("door".to_owned()),
            group: None,
            time: self.time,
            context: String::new(),
        };
        let mut run = self
            .revision
            .begin(Instant::now() + Duration::from_secs(60))
            .with_context(context)
            .with_stream(self.memory.clone());
        let analysis = run.analyze(picture, Purpose::Recognize).unwrap();
        let decisions = run.decide(&probes(&analysis)).unwrap();
        if let Some(memory) = run.take_stream() {
            self.memory = memory;
        }
        (analysis, decisions)
    }
}

/// Returns the faces with two candidates each.
fn probes(analysis: &Analysis) -> Vec<Probe> {
    let probe = |(index, face): (usize, &AnalyzedFace)| Probe {
        face: face.face.clone(),
        track: face.track,
        is_fresh: face.is_fresh,
        candidates: [("a", 0.9), ("b", 0.1)]
            .map(|(name, similarity)| Candidate {
                id: format!("{name}{index}"),
                similarity,
            })
            .into(),
    };
    analysis.faces.iter().enumerate().map(probe).collect()
}

fn tracks(analysis: &Analysis) -> BTreeSet<u32> {
    let tracks = analysis.faces.iter().map(|face| face.track.unwrap());
    tracks.collect()
}

fn fresh(analysis: &Analysis) -> usize {
    analysis.faces.iter().filter(|face| face.is_fresh).count()
}

/// Faces that stay are embedded in few frames, and keep their embedding, track and name.
#[test]
fn staying_faces_are_rarely_embedded() {
    let mut feed = Feed::new(revision("insightface", None, &[], &[]));
    let picture = drawn("group.png");
    let (first, _) = feed.frame(&picture);
    assert!(first.faces.len() > 1, "{first:?}");
    assert_eq!(fresh(&first), first.faces.len());
    let (mut embedded, frames) = (0, 25);
    for _ in 0..frames {
        let (next, decisions) = feed.frame(&picture);
        assert_eq!(tracks(&next), tracks(&first));
        embedded += fresh(&next);
        // The picture is the same, so the embedding that stands for a face is, too.
        for (one, other) in first.faces.iter().zip(&next.faces) {
            assert_eq!(one.embedding, other.embedding);
        }
        assert!(
            decisions
                .rulings
                .iter()
                .all(|ruling| matches!(ruling.decision, Decision::Known(_))),
            "{decisions:?}"
        );
    }
    assert!(feed.memory.bytes() > 0);
    let share = embedded as f64 / (frames * first.faces.len()) as f64;
    println!("{share:.2} of the faces of 5 s at 5 frames a second were embedded");
    assert!(share < 0.5, "{share}");
}

/// Without states, and with components for an earlier interface, each frame is recognised alone.
#[test]
fn frames_without_tracks_stand_alone() {
    for revision in [
        revision("insightface", None, &[("state-kib", "0")], &[]),
        revision("insightface", None, &[], &[("tracking", "off")]),
        revision("compat-0.1.0", None, &[], &[]),
    ] {
        let mut feed = Feed::new(revision);
        for _ in 0..2 {
            let (analysis, decisions) = feed.frame(&drawn("group.png"));
            assert!(
                analysis
                    .faces
                    .iter()
                    .all(|face| face.track.is_none() && face.is_fresh)
            );
            assert_eq!(decisions.rulings.len(), analysis.faces.len());
        }
        assert_eq!(feed.memory.bytes(), 0);
    }
}

/// A policy for an earlier interface gets the candidates of tracks as of any face.
#[test]
fn earlier_policy_decides_on_tracks() {
    let mut feed = Feed::new(revision(
        "insightface",
        Some("attendance-policy-python"),
        &[],
        &[],
    ));
    for _ in 0..2 {
        let (_, decisions) = feed.frame(&drawn("group.png"));
        assert!(
            decisions
                .rulings
                .iter()
                .all(|ruling| matches!(ruling.decision, Decision::Known(_))),
            "{decisions:?}"
        );
    }
}

/// Returns `known` or the reason of each face, and asserts that only known faces show candidates.
fn reasons(decisions: &Decisions) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for ruling in &decisions.rulings {
        let (reason, shown) = match &ruling.decision {
            Decision::Known(_) => ("known", 2),
            Decision::Unknown(reason) => (reason.as_str(), 0),
        };
        assert_eq!(ruling.candidates.len(), shown, "{reason}");
        found.insert(reason);
    }
    found
}

/// The example policy names faces from their second sighting within five seconds.
#[test]
fn second_sighting_names_face() {
    let mut feed = Feed::new(revision("insightface", Some("seen-twice"), &[], &[]));
    let picture = drawn("group.png");
    let frames = [
        (0, "seen_once", 0),
        (1_000, "known", 5),
        (200, "known", 0),
        (4_900, "known", 0),
        (5_100, "seen_once", 0),
        (1_000, "known", 5),
    ];
    for (milliseconds, wanted, confirmed) in frames {
        let (analysis, decisions) = feed.frame_after(milliseconds, &picture);
        assert_eq!(analysis.faces.len(), 5);
        assert_eq!(reasons(&decisions), [wanted].into());
        let events = decisions.events.iter();
        let faces: BTreeSet<u32> = events.filter_map(|event| event.face).collect();
        assert_eq!(
            (faces.len(), decisions.events.len()),
            (confirmed, confirmed)
        );
    }
}

/// The time is a setting of the revision. Without a state no face can be seen twice, and outside a
/// stream each picture is decided alone.
#[test]
fn sightings_need_stream_and_time() {
    let picture = drawn("group.png");
    for (limits, own) in [
        (&[][..], &[("within-s", "0.5")][..]),
        (&[("state-kib", "0")][..], &[][..]),
    ] {
        let mut feed = Feed::new(revision("insightface", Some("seen-twice"), limits, own));
        for _ in 0..2 {
            let (_, decisions) = feed.frame_after(1_000, &picture);
            assert_eq!(reasons(&decisions), ["seen_once"].into(), "{limits:?}");
        }
    }
    let revision = revision("insightface", Some("seen-twice"), &[], &[]);
    let mut run = revision.begin(Instant::now() + Duration::from_secs(60));
    let analysis = run.analyze(&picture, Purpose::Recognize).unwrap();
    let decisions = run.decide(&probes(&analysis)).unwrap();
    assert_eq!(reasons(&decisions), ["known"].into());
}

/// The example policy follows the region of the stream that the request context names.
#[test]
fn faces_outside_region_are_unknown() {
    let picture = drawn("group.png");
    for (regions, inside) in [
        ("door=0,0,500,720", 2),
        ("yard=0,0,500,720", 5),
        ("yard=0,0,9,9; *=300,0,800,720", 2),
        ("door=0,0,1280,720; *=0,0,9,9", 5),
    ] {
        let own = [("regions", regions)];
        let revision = revision("insightface", Some("region-of-interest"), &[], &own);
        let mut feed = Feed::new(revision);
        for _ in 0..2 {
            let (analysis, decisions) = feed.frame(&picture);
            let known = |ruling: &&Ruling| matches!(ruling.decision, Decision::Known(_));
            let count = decisions.rulings.iter().filter(known).count();
            assert_eq!((analysis.faces.len(), count), (5, inside), "{regions}");
            let reasons = reasons(&decisions);
            assert_eq!(reasons.contains("outside_region"), inside < 5, "{regions}");
        }
    }
}
