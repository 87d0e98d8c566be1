//! Self-test of a revision before it serves, with drawn frames and an operator's pictures.
//!
//! Each picture passes through every export, twice, and both answers must agree. Answers are
//! validated as those of a request. Landmarks must be in their box, in order. A file in the
//! operator's folder states further expectations.

mod checks;
mod folder;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_common::shutdown::Shutdown;
use rostro_common::vector::cosine;

use super::revision::Revision;
use super::run::Run;
use crate::bindings::{Candidate, Face, Probe, Purpose};
use crate::error::RunError;
use crate::limits::Usage;
use crate::stream::StreamMemory;
use crate::types::{Analysis, AnalyzedFace};
use checks::{check_landmarks, check_people_once, check_stable};
use folder::Expectations;

pub use folder::{SelfTestFolderError, is_picture};

/// Frames of drawn faces that are part of the program: one face, several, none.
pub const DRAWN: [(&str, &[u8]); 3] = [
    (
        "alice-1.png",
        include_bytes!("../../../../../models/testing/frames/alice-1.png"),
    ),
    (
        "group.png",
        include_bytes!("../../../../../models/testing/frames/group.png"),
    ),
    (
        "empty.png",
        include_bytes!("../../../../../models/testing/frames/empty.png"),
    ),
];

/// Drawn frames of a self-test, in addition to the operator's pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrawnFrames {
    /// All of them.
    All,
    /// The first, for a revision that passed with all of them before.
    First,
}

impl DrawnFrames {
    fn frames(self) -> &'static [(&'static str, &'static [u8])] {
        let [first, ..] = &DRAWN;
        match self {
            Self::All => &DRAWN,
            Self::First => std::slice::from_ref(first),
        }
    }
}

/// Lowest score of a face for the check of its landmarks, because thresholds near zero accept
/// regions that are not faces.
const CERTAIN_FACE: f32 = 0.5;

/// Shortest time for each call, because the deadline of requests may be shorter.
const SHORTEST_DEADLINE: Duration = Duration::from_secs(5);

/// Pictures of a self-test, and the expectations of them.
#[derive(Clone, Debug, Default)]
pub struct SelfTest {
    own: Vec<(String, Vec<u8>)>,
    expectations: Expectations,
    /// Time for each call.
    pub deadline: Duration,
}

/// Failure of a self-test.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// A call failed.
    #[error("{call} on {picture}: {cause}")]
    Run {
        /// Called export.
        call: &'static str,
        /// Name of the picture.
        picture: String,
        /// Failure of the call.
        cause: RunError,
    },
    /// An answer is wrong.
    #[error("{picture}: {what}")]
    Answer {
        /// Name of the picture.
        picture: String,
        /// Description of the fault.
        what: String,
    },
}

impl SelfTestError {
    /// Returns the error of a failed call.
    pub fn run(&self) -> Option<&RunError> {
        match self {
            Self::Run { cause, .. } => Some(cause),
            Self::Answer { .. } => None,
        }
    }
}

impl SelfTest {
    /// Reads the pictures of a folder, in addition to the drawn frames. `deadline` is the time for
    /// each call, or a few seconds if that is more.
    ///
    /// # Errors
    ///
    /// If the folder or its expectations cannot be read.
    pub fn new(path: Option<&Path>, deadline: Duration) -> Result<Self, SelfTestFolderError> {
        let (own, expectations) = path.map(folder::read).transpose()?.unwrap_or_default();
        Ok(Self {
            own,
            expectations,
            deadline: deadline.max(SHORTEST_DEADLINE),
        })
    }

    /// Returns a self-test with the drawn frames only.
    pub fn drawn() -> Self {
        Self {
            deadline: SHORTEST_DEADLINE,
            ..Self::default()
        }
    }

    /// Tests a revision with drawn frames and the operator's pictures, unless the process stops.
    /// Returns the highest usage of its guests.
    ///
    /// # Errors
    ///
    /// [`SelfTestError`] names the failed call or the wrong answer.
    pub fn run(
        &self,
        revision: &Arc<Revision>,
        drawn: DrawnFrames,
        shutdown: &Shutdown,
    ) -> Result<Usage, SelfTestError> {
        let mut usage = Usage::default();
        let mut largest_faces: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        let own = self
            .own
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        for (name, bytes) in drawn.frames().iter().copied().chain(own) {
            let (analysis, picture_usage) = self.test_picture(revision, shutdown, name, bytes)?;
            usage = usage.max(picture_usage);
            if let Some(expected) = self.expectations.faces.get(name)
                && analysis.faces.len() != *expected
            {
                return Err(wrong(
                    name,
                    format!("{} faces, not {expected}", analysis.faces.len()),
                ));
            }
            if let Some(face) = analysis.faces.into_iter().next() {
                largest_faces.insert(name, face.embedding);
            }
        }
        self.compare_pairs(&largest_faces, revision.thresholds().similarity)?;
        Ok(usage)
    }

    /// Compares the largest faces of the expected pairs.
    fn compare_pairs(
        &self,
        largest_faces: &BTreeMap<&str, Vec<f32>>,
        threshold: f32,
    ) -> Result<(), SelfTestError> {
        for (pairs, is_same) in [
            (&self.expectations.same, true),
            (&self.expectations.different, false),
        ] {
            for [a, b] in pairs {
                let embedding = |name: &String| largest_faces.get(name.as_str());
                let (Some(one), Some(other)) = (embedding(a), embedding(b)) else {
                    return Err(wrong(
                        a,
                        format!("cannot be compared with {b}, because one of them has no face"),
                    ));
                };
                let similarity = cosine(one, other);
                if (similarity > threshold) != is_same {
                    let expected = if is_same {
                        "one person, above"
                    } else {
                        "two people, at most"
                    };
                    return Err(wrong(
                        a,
                        format!(
                            "a similarity to {b} of {similarity:.3}; it should be {expected} \
                             {threshold}"
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Passes a picture through every export. Returns the analysis for recognition, and the
    /// highest usage of the guests.
    fn test_picture(
        &self,
        revision: &Arc<Revision>,
        shutdown: &Shutdown,
        name: &str,
        bytes: &[u8],
    ) -> Result<(Analysis, Usage), SelfTestError> {
        let failed = |call| {
            move |cause| SelfTestError::Run {
                call,
                picture: name.to_owned(),
                cause,
            }
        };
        let begin = || {
            revision
                .begin(shutdown.scope(Instant::now() + self.deadline))
                .without_time_limit()
        };
        let analyze = |purpose| -> Result<(Run, Analysis), SelfTestError> {
            let mut run = begin();
            let analysis = run
                .analyze(bytes, purpose)
                .map_err(failed("vision.analyze"))?;
            Ok((run, analysis))
        };
        let (_, detected) = analyze(Purpose::Detect)?;
        let (mut run, first) = analyze(Purpose::Recognize)?;
        let (_, second) = analyze(Purpose::Recognize)?;
        check_stable(&first, &second).map_err(|what| wrong(name, what))?;
        for face in detected
            .faces
            .iter()
            .chain(&first.faces)
            .filter(|face| face.face.score >= CERTAIN_FACE)
        {
            check_landmarks(&face.face).map_err(|what| wrong(name, what))?;
        }
        let probes: Vec<Probe> = first.faces.iter().map(|face| probe(&face.face)).collect();
        let decisions = run.decide(&probes).map_err(failed("decide"))?;
        // No number is NaN, which would differ from itself: validation refuses such confidences.
        if run.decide(&probes).map_err(failed("decide"))? != decisions {
            return Err(wrong(
                name,
                "decide returned different decisions on the same probes".to_owned(),
            ));
        }
        check_people_once(&probes, &decisions.rulings).map_err(|what| wrong(name, what))?;
        let usage = run.usage();
        // Frees the run's slots in the pool for the next one.
        drop(run);
        let mut memory = StreamMemory::default();
        for _ in 0..2 {
            let mut run = begin().with_stream(memory);
            let analysis = run
                .analyze(bytes, Purpose::Recognize)
                .map_err(failed("analyze in a stream"))?;
            let probes: Vec<Probe> = analysis.faces.iter().map(tracked_probe).collect();
            run.decide(&probes).map_err(failed("decide in a stream"))?;
            memory = run.take_stream().unwrap_or_default();
        }
        let (mut run, enrolled) = analyze(Purpose::Enroll)?;
        run.review(&enrolled).map_err(failed("review"))?;
        let samples: Vec<Vec<f32>> = enrolled
            .faces
            .into_iter()
            .map(|face| face.embedding)
            .filter(|vector| !vector.is_empty())
            .collect();
        let samples = if samples.is_empty() {
            vec![arbitrary_sample(revision.contract().dimension)]
        } else {
            samples
        };
        let templates = run.template(&samples).map_err(failed("template"))?;
        if run.template(&samples).map_err(failed("template"))? != templates {
            return Err(wrong(
                name,
                "template returned different templates for the same samples".to_owned(),
            ));
        }
        Ok((first, usage.max(run.usage())))
    }
}

fn wrong(picture: &str, what: String) -> SelfTestError {
    SelfTestError::Answer {
        picture: picture.to_owned(),
        what,
    }
}

/// Returns a probe with two candidates.
fn probe(face: &Face) -> Probe {
    let candidate = |id: &str, similarity| Candidate {
        id: id.to_owned(),
        similarity,
    };
    Probe {
        face: face.clone(),
        track: None,
        is_fresh: true,
        candidates: vec![candidate("self-test-a", 0.9), candidate("self-test-b", 0.1)],
    }
}

/// Returns a probe with two candidates of a face in a stream.
fn tracked_probe(analyzed: &AnalyzedFace) -> Probe {
    Probe {
        track: analyzed.track,
        is_fresh: analyzed.is_fresh,
        ..probe(&analyzed.face)
    }
}

/// Returns a sample for a picture without a face.
fn arbitrary_sample(dimension: usize) -> Vec<f32> {
    (0..dimension)
        .map(|index| ((index % 7) as f32 - 3.0) / 3.0)
        .map(|value| if value == 0.0 { 0.5 } else { value })
        .collect()
}
