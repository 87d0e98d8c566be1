//! Analysis of a frame of a stream: faces are tracked, and few of them are embedded.

use rostro_sdk::analysis::{Analysis, AnalyzeError, AnalyzedFace, Purpose};
use rostro_sdk::faces::{DetectedFaces, FaceCrop, crop, detect_faces};
use rostro_sdk::host::{Host, Settings};
use rostro_sdk::policy::{Outcome, Probe};
use rostro_sdk::recognizer::{RECOGNIZER, embed};
use rostro_sdk::track::quality::quality_of;
use rostro_sdk::track::{Appearance, Ballot, Observation, TrackedFace, Tracker, Votes};
use rostro_sdk::types::Face;

use crate::rule;

/// Finds the faces of a frame, and embeds those that are new, got clearly better, look different, or
/// are due for a check ([`Tracker`]). `state` is the tracker's after the last frame.
///
/// # Errors
///
/// As of [`crate::analyze::analyze`].
pub fn analyze_frame<H: Host>(
    host: &H,
    image: Vec<u8>,
    state: &[u8],
) -> Result<Analysis, AnalyzeError> {
    let DetectedFaces {
        reduced,
        detections,
    } = detect_faces(host, &image, Purpose::Recognize)?;
    drop(image);
    let crops = host.timed("align", || crop(&reduced, detections));
    let faces: Vec<AnalyzedFace> = host.timed("measure", || {
        let faces = crops.iter();
        faces.map(|face| face.analyzed(Vec::new())).collect()
    });
    let mut tracker = host.timed("track", || Tracker::from_bytes(state));
    let mut embeddings = vec![Vec::new(); faces.len()];
    let mut due = host.timed("track", || {
        let faces = faces.iter().zip(&crops);
        let observations: Vec<Observation> = faces.map(observation).collect();
        tracker.update(
            host.context().time,
            host.thresholds().detection,
            &observations,
        )
    });
    while !due.is_empty() {
        let made = embed_some(host, &crops, &due)?;
        due = host.timed("track", || tracker.embedded(&made));
        for (index, embedding) in made {
            if let Some(slot) = embeddings.get_mut(index) {
                *slot = embedding;
            }
        }
    }
    let faces = tracked(faces, embeddings, &tracker.faces());
    let (width, height) = reduced.full;
    let state = host.timed("track", || tracker.to_bytes(host.state_limit()));
    Ok(Analysis::new(width, height, faces).with_state(state))
}

/// Returns what the tracker needs of a face.
fn observation((face, crop): (&AnalyzedFace, &FaceCrop)) -> Observation {
    let known = Face {
        bounds: face.bounds,
        score: face.score,
        landmarks: Vec::new(),
        measures: face.measures.clone(),
    };
    Observation {
        bounds: face.bounds,
        score: face.score,
        quality: quality_of(&known),
        appearance: Appearance::of(&crop.aligned),
    }
}

/// Returns the embeddings of the faces with these indices.
fn embed_some<H: Host>(
    host: &H,
    crops: &[FaceCrop],
    due: &[usize],
) -> Result<Vec<(usize, Vec<f32>)>, String> {
    let chosen: Vec<(usize, &FaceCrop)> = due
        .iter()
        .filter_map(|&index| Some((index, crops.get(index)?)))
        .collect();
    let aligned = chosen.iter().map(|(_, face)| &face.aligned);
    let made = embed(host, RECOGNIZER, aligned)?;
    Ok(chosen
        .into_iter()
        .map(|(index, _)| index)
        .zip(made)
        .collect())
}

/// Returns the faces that have a track, with their fresh embeddings.
fn tracked(
    faces: Vec<AnalyzedFace>,
    embeddings: Vec<Vec<f32>>,
    tracks: &[TrackedFace],
) -> Vec<AnalyzedFace> {
    let mut answer = Vec::with_capacity(faces.len());
    for (index, (face, embedding)) in faces.into_iter().zip(embeddings).enumerate() {
        let Some(tracked) = tracks.iter().find(|track| track.observation == index) else {
            continue;
        };
        answer.push(AnalyzedFace {
            track: Some(tracked.track),
            embedding: if tracked.is_fresh {
                embedding
            } else {
                Vec::new()
            },
            ..face
        });
    }
    answer
}

/// Decides by the votes of the tracks. `state` is that of the votes after the last frame.
pub fn decide_frame(
    settings: &impl Settings,
    probes: &[Probe],
    tracks: &[u32],
    state: &[u8],
) -> Outcome {
    let ballots: Vec<Ballot<'_>> = probes
        .iter()
        .zip(tracks)
        .map(|(probe, &track)| Ballot {
            track,
            is_fresh: probe.is_fresh,
            weight: quality_of(&probe.face),
            candidates: &probe.candidates,
        })
        .collect();
    let mut votes = Votes::from_bytes(state);
    let decisions = votes.decide(settings.context().time, rule(settings), &ballots);
    Outcome::new(decisions, probes).with_state(votes.to_bytes(settings.state_limit()))
}
