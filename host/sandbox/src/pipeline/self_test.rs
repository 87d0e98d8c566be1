//! What a revision must show before it serves: drawn frames, and an operator's own photos, through
//! every export.
//!
//! Each picture is looked at twice, and both answers must agree; each answer is checked as a
//! request's would be; landmarks must lie in their box, in order. What an operator expects of their
//! own pictures is in a file beside them ([`Expectations`]).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;

use rostro_common::fs::read_text;
use rostro_common::shutdown::Shutdown;
use rostro_common::vector::cosine;

use crate::bindings::{Analysis, Candidate, Decision, Face, Match, Probe, Purpose};
use crate::limits::Usage;
use crate::pipeline::revision::Revision;
use crate::pipeline::run::{Run, RunError};

/// Pictures of drawn faces, which are part of the program: one face, several, none.
pub const DRAWN: [(&str, &[u8]); 3] = [
    (
        "alice-1.png",
        include_bytes!("../../../../models/testing/frames/alice-1.png"),
    ),
    (
        "group.png",
        include_bytes!("../../../../models/testing/frames/group.png"),
    ),
    (
        "empty.png",
        include_bytes!("../../../../models/testing/frames/empty.png"),
    ),
];

/// The file with what is expected of the pictures in its folder.
const EXPECTATIONS: &str = "expectations.toml";

/// The largest picture that is read.
const LARGEST: u64 = 32 << 20;

/// Two runs on one picture must agree to this cosine: the same model on other cores may round
/// otherwise.
const STABLE: f32 = 0.999;

/// How far, in parts of its side, a landmark may lie outside of its face's box.
const MARGIN: f32 = 0.1;

/// Faces with a lower score are not asked for landmarks: thresholds near zero let through what is
/// none.
const SURE: f32 = 0.5;

/// The least time for each call, however short requests may be.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an operator expects of their own pictures: `expectations.toml` in the folder.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Expectations {
    /// How many faces each picture has.
    faces: BTreeMap<String, usize>,
    /// Pictures whose largest faces are one person's.
    same: Vec<[String; 2]>,
    /// Pictures whose largest faces are two people's.
    different: Vec<[String; 2]>,
}

/// The pictures, and what is expected of them.
#[derive(Clone, Debug, Default)]
pub struct SelfTest {
    own: Vec<(String, Vec<u8>)>,
    expectations: Expectations,
    /// Time for each call.
    pub deadline: Duration,
}

/// Why the operator's pictures cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the self-test folder {folder}: {cause}", folder = folder.display())]
pub struct SelfTestFolderError {
    folder: PathBuf,
    cause: String,
}

/// Why a revision did not pass.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// A call failed.
    #[error("{call} on {picture}: {cause}")]
    Run {
        /// Which export.
        call: &'static str,
        /// On which picture.
        picture: String,
        /// Why.
        cause: RunError,
    },
    /// An answer is not what it must be.
    #[error("{picture}: {what}")]
    Answer {
        /// Of which picture.
        picture: String,
        /// What is wrong with it.
        what: String,
    },
}

impl SelfTestError {
    /// The call that failed, if it was one.
    pub fn run(&self) -> Option<&RunError> {
        match self {
            Self::Run { cause, .. } => Some(cause),
            Self::Answer { .. } => None,
        }
    }
}

impl SelfTest {
    /// The drawn frames, and the pictures of a folder; `deadline` is the time for each call, or a
    /// few seconds if that is more.
    ///
    /// # Errors
    ///
    /// If the folder or what is expected of it cannot be read.
    pub fn new(folder: Option<&Path>, deadline: Duration) -> Result<Self, SelfTestFolderError> {
        let deadline = deadline.max(PATIENCE);
        let Some(folder) = folder else {
            return Ok(Self {
                deadline,
                ..Self::default()
            });
        };
        let failed = |cause: String| SelfTestFolderError {
            folder: folder.to_owned(),
            cause,
        };
        let mut own = Vec::new();
        let mut expectations = Expectations::default();
        for entry in fs::read_dir(folder).map_err(|error| failed(error.to_string()))? {
            let entry = entry.map_err(|error| failed(error.to_string()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == EXPECTATIONS {
                let text =
                    read_text(&entry.path()).map_err(|error| failed(format!("{name}: {error}")))?;
                expectations =
                    toml::from_str(&text).map_err(|error| failed(format!("{name}: {error}")))?;
            } else if is_picture(&name) {
                let size = entry
                    .metadata()
                    .map_err(|error| failed(format!("{name}: {error}")))?
                    .len();
                if size > LARGEST {
                    return Err(failed(format!(
                        "{name} has {size} bytes; at most {LARGEST} are read"
                    )));
                }
                own.push((
                    name,
                    fs::read(entry.path()).map_err(|error| failed(error.to_string()))?,
                ));
            }
        }
        own.sort();
        let named = expectations
            .faces
            .keys()
            .chain(expectations.same.iter().flatten())
            .chain(expectations.different.iter().flatten());
        if let Some(missing) = named
            .into_iter()
            .find(|name| own.iter().all(|(known, _)| known != *name))
        {
            return Err(failed(format!(
                "{EXPECTATIONS} speaks of {missing}, which is not there"
            )));
        }
        if own.is_empty() {
            return Err(failed(
                "there is no picture in it (*.jpg, *.png, *.webp)".to_owned(),
            ));
        }
        Ok(Self {
            own,
            expectations,
            deadline,
        })
    }

    /// The drawn frames alone.
    pub fn drawn() -> Self {
        Self {
            deadline: PATIENCE,
            ..Self::default()
        }
    }

    /// Puts a revision through its paces, unless the process stops meanwhile; the most that its
    /// guests used.
    ///
    /// # Errors
    ///
    /// [`SelfTestError`] says at what it failed.
    pub fn run(
        &self,
        revision: &Arc<Revision>,
        shutdown: &Shutdown,
    ) -> Result<Usage, SelfTestError> {
        let mut used = Usage::default();
        let mut largest: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        let own = self
            .own
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
        for (name, bytes) in DRAWN.into_iter().chain(own) {
            let (analysis, more) = self.picture(revision, shutdown, name, bytes)?;
            used = used.most(more);
            if let Some(wanted) = self.expectations.faces.get(name)
                && analysis.faces.len() != *wanted
            {
                return Err(wrong(
                    name,
                    format!("{} faces, not {wanted}", analysis.faces.len()),
                ));
            }
            if let Some(face) = analysis.faces.into_iter().next() {
                largest.insert(name, face.embedding);
            }
        }
        let threshold = revision.thresholds().similarity;
        for (pairs, same) in [
            (&self.expectations.same, true),
            (&self.expectations.different, false),
        ] {
            for [a, b] in pairs {
                let (Some(one), Some(other)) = (largest.get(a.as_str()), largest.get(b.as_str()))
                else {
                    return Err(wrong(
                        a,
                        format!("no face in it or in {b}, so that they cannot be compared"),
                    ));
                };
                let similarity = cosine(one, other);
                if (similarity > threshold) != same {
                    let wanted = if same {
                        "one person, above"
                    } else {
                        "two people, at most"
                    };
                    return Err(wrong(
                        a,
                        format!(
                            "a similarity to {b} of {similarity:.3}; it should be {wanted} {threshold}"
                        ),
                    ));
                }
            }
        }
        Ok(used)
    }

    /// One picture through every export; what recognition saw in it, and the most that guests used.
    fn picture(
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
        let look = |purpose| -> Result<(Run, Analysis), SelfTestError> {
            let mut run = revision
                .begin(shutdown.scope(Instant::now() + self.deadline))
                .without_time_limit();
            let analysis = run
                .analyze(bytes, purpose)
                .map_err(failed("vision.analyze"))?;
            Ok((run, analysis))
        };
        let (_, detected) = look(Purpose::Detect)?;
        let (mut run, first) = look(Purpose::Recognize)?;
        let (_, second) = look(Purpose::Recognize)?;
        agree(&first, &second).map_err(|what| wrong(name, what))?;
        for face in detected
            .faces
            .iter()
            .chain(&first.faces)
            .filter(|face| face.face.score >= SURE)
        {
            landmarks(&face.face).map_err(|what| wrong(name, what))?;
        }
        let probes: Vec<Probe> = first.faces.iter().map(|face| probe(&face.face)).collect();
        let decisions = run.decide(&probes).map_err(failed("policy.decide"))?;
        let again = run.decide(&probes).map_err(failed("policy.decide"))?;
        if format!("{decisions:?}") != format!("{again:?}") {
            return Err(wrong(
                name,
                "policy.decide answers the same question in two ways".to_owned(),
            ));
        }
        one_face_each(&probes, &decisions).map_err(|what| wrong(name, what))?;
        let used = run.usage();
        // Its place in the pool is needed for the next.
        drop(run);
        let (mut run, enrolled) = look(Purpose::Enroll)?;
        run.review(&enrolled).map_err(failed("policy.review"))?;
        let samples: Vec<Vec<f32>> = enrolled
            .faces
            .into_iter()
            .map(|face| face.embedding)
            .filter(|vector| !vector.is_empty())
            .collect();
        let samples = if samples.is_empty() {
            vec![made_up(revision.contract().dimension)]
        } else {
            samples
        };
        let templates = run.template(&samples).map_err(failed("policy.template"))?;
        if run.template(&samples).map_err(failed("policy.template"))? != templates {
            return Err(wrong(
                name,
                "policy.template makes different templates of the same samples".to_owned(),
            ));
        }
        Ok((first, used.most(run.usage())))
    }
}

fn wrong(picture: &str, what: String) -> SelfTestError {
    SelfTestError::Answer {
        picture: picture.to_owned(),
        what,
    }
}

/// Returns true if a file's name has the extension of a photo, and the file is not hidden.
pub fn is_picture(name: &str) -> bool {
    let extension = Path::new(name)
        .extension()
        .map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|extension| ["jpg", "jpeg", "png", "webp"].contains(&extension.as_str()))
        && !name.starts_with('.')
}

/// Whether two answers to one question are the same, but for rounding.
fn agree(first: &Analysis, second: &Analysis) -> Result<(), String> {
    if first.faces.len() != second.faces.len() {
        return Err(format!(
            "{} faces at first and {} when asked again",
            first.faces.len(),
            second.faces.len()
        ));
    }
    for (index, (a, b)) in first.faces.iter().zip(&second.faces).enumerate() {
        let similarity = cosine(&a.embedding, &b.embedding);
        if similarity < STABLE {
            return Err(format!(
                "face {index} has another embedding when asked again (cosine {similarity:.4})"
            ));
        }
        let edges = |face: &Face| {
            [
                face.bounds.x1,
                face.bounds.y1,
                face.bounds.x2,
                face.bounds.y2,
            ]
        };
        let points = |face: &Face| {
            face.landmarks
                .iter()
                .flat_map(|point| [point.x, point.y])
                .collect::<Vec<f32>>()
        };
        let (there, here) = (points(&a.face), points(&b.face));
        let mut moved = edges(&a.face)
            .into_iter()
            .zip(edges(&b.face))
            .chain(there.iter().copied().zip(here.iter().copied()));
        if there.len() != here.len() || moved.any(|(a, b)| (a - b).abs() > 1.0) {
            return Err(format!("face {index} is elsewhere when asked again"));
        }
    }
    Ok(())
}

/// Whether landmarks lie in their box, eyes above the mouth, and left to the left of right.
fn landmarks(face: &Face) -> Result<(), String> {
    let [left_eye, right_eye, _, left_mouth, right_mouth] = face.landmarks.as_slice() else {
        return Ok(());
    };
    let bounds = &face.bounds;
    let margin = MARGIN * (bounds.x2 - bounds.x1).max(bounds.y2 - bounds.y1);
    let is_inside = |x: f32, y: f32| {
        (bounds.x1 - margin..=bounds.x2 + margin).contains(&x)
            && (bounds.y1 - margin..=bounds.y2 + margin).contains(&y)
    };
    if face
        .landmarks
        .iter()
        .any(|point| !is_inside(point.x, point.y))
    {
        return Err("a landmark lies outside of its face".to_owned());
    }
    // Of a face that is turned on its side, left and right are above and below: measured along the
    // line from the mouth to the eyes.
    let (up_x, up_y) = (
        left_eye.x + right_eye.x - left_mouth.x - right_mouth.x,
        left_eye.y + right_eye.y - left_mouth.y - right_mouth.y,
    );
    let rightwards = |x: f32, y: f32| x * -up_y + y * up_x;
    let eyes = rightwards(right_eye.x - left_eye.x, right_eye.y - left_eye.y);
    let mouth = rightwards(right_mouth.x - left_mouth.x, right_mouth.y - left_mouth.y);
    if eyes < 0.0 || mouth < 0.0 {
        return Err("landmarks are not in the order left eye, right eye, nose, left and right corner of the mouth".to_owned());
    }
    Ok(())
}

/// A face with two people near to it.
fn probe(face: &Face) -> Probe {
    let candidate = |id: &str, similarity| Candidate {
        id: id.to_owned(),
        similarity,
    };
    Probe {
        face: face.clone(),
        candidates: vec![candidate("self-test-a", 0.9), candidate("self-test-b", 0.1)],
    }
}

/// Whether nobody is in a frame twice.
fn one_face_each(probes: &[Probe], decisions: &[Decision]) -> Result<(), String> {
    let chosen = |(probe, decision): (&Probe, &Decision)| match decision {
        Decision::Known(Match { candidate, .. }) => probe
            .candidates
            .get(*candidate as usize)
            .map(|candidate| candidate.id.clone()),
        Decision::Unknown(_) => None,
    };
    let mut people: Vec<String> = probes.iter().zip(decisions).filter_map(chosen).collect();
    people.sort();
    match people.windows(2).any(|pair| pair.first() == pair.last()) {
        true => Err("policy.decide gives one person to two faces of a frame".to_owned()),
        false => Ok(()),
    }
}

/// A sample, where no picture gives one.
fn made_up(dimension: usize) -> Vec<f32> {
    (0..dimension)
        .map(|index| ((index % 7) as f32 - 3.0) / 3.0)
        .map(|value| if value == 0.0 { 0.5 } else { value })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::{BoundingBox, Point};

    fn face(landmarks: [(f32, f32); 5]) -> Face {
        let landmarks = landmarks.into_iter().map(|(x, y)| Point { x, y }).collect();
        Face {
            bounds: BoundingBox {
                x1: 0.0,
                y1: 0.0,
                x2: 100.0,
                y2: 100.0,
            },
            score: 0.9,
            landmarks,
            measures: Vec::new(),
        }
    }

    #[test]
    fn landmarks_must_be_in_order_and_inside() {
        let upright = [
            (30.0, 30.0),
            (70.0, 30.0),
            (50.0, 50.0),
            (35.0, 75.0),
            (65.0, 75.0),
        ];
        landmarks(&face(upright)).unwrap();
        // Lying on its side, and upside down: turned as a whole, it is in order still.
        landmarks(&face(upright.map(|(x, y)| (100.0 - y, x)))).unwrap();
        landmarks(&face(upright.map(|(x, y)| (100.0 - x, 100.0 - y)))).unwrap();
        let mut swapped = upright;
        swapped.swap(0, 1);
        assert!(landmarks(&face(swapped)).unwrap_err().contains("order"));
        let mut outside = upright;
        outside[2] = (150.0, 50.0);
        assert!(landmarks(&face(outside)).unwrap_err().contains("outside"));
    }

    #[test]
    fn one_person_has_one_face() {
        let probes = [probe(&face([(0.0, 0.0); 5])), probe(&face([(0.0, 0.0); 5]))];
        let known = |candidate| {
            Decision::Known(Match {
                candidate,
                confidence: 0.9,
            })
        };
        one_face_each(&probes, &[known(0), known(1)]).unwrap();
        one_face_each(
            &probes,
            &[known(0), Decision::Unknown("ambiguous".to_owned())],
        )
        .unwrap();
        one_face_each(&probes, &[known(0), known(0)]).unwrap_err();
    }

    #[test]
    fn an_operators_folder_must_have_what_is_expected_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let read = || {
            SelfTest::new(Some(folder.path()), Duration::from_secs(1))
                .map_err(|error| error.to_string())
        };
        assert!(read().unwrap_err().contains("no picture"));
        fs::write(folder.path().join("a.jpg"), b"a").unwrap();
        assert_eq!(read().unwrap().own.len(), 1);
        fs::write(
            folder.path().join(EXPECTATIONS),
            "same = [['a.jpg', 'b.jpg']]",
        )
        .unwrap();
        assert!(
            read()
                .unwrap_err()
                .contains("speaks of b.jpg, which is not there")
        );
        fs::write(folder.path().join(EXPECTATIONS), "face = 1").unwrap();
        assert!(read().unwrap_err().contains("unknown field `face`"));
    }
}
