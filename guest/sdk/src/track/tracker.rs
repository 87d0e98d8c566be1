//! Tracks of a stream, from frame to frame.

use serde::{Deserialize, Serialize};

use super::appearance::Appearance;
use super::associate::{Observation, Origin, Prediction, associate};
use super::embedding::QuantizedEmbedding;
use super::motion::Motion;
use super::schedule::{Doubt, History};
use super::state::{decode, encode_within};
use super::verify::{Claim, Holder, KnownTrack, Verdict, Verification, verify};
use crate::image::geometry::Rect;

/// The largest number of tracks in a state, as many as the host keeps embeddings of.
pub const MAX_TRACKS: usize = 1_024;

/// Time in milliseconds for which a hidden person is expected near their last place.
const EXPECTED: u32 = 3_000;

/// Time in milliseconds for which a hidden person is recognised by their embedding.
const REMEMBERED: u32 = 60_000;

/// Time in milliseconds from which a person who was hidden is doubtful.
const SHORT: u32 = 300;

/// Version of the bytes.
const VERSION: u8 = 2;

/// The tracks of one stream. [The module](super) has an example.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tracker {
    /// Number of the last track.
    last: u32,
    /// Time of the last frame in milliseconds.
    time: Option<u64>,
    tracks: Vec<Track>,
    /// The faces of the current frame.
    faces: Vec<FaceInFrame>,
}

/// A face of the current frame and its track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackedFace {
    /// Index of its observation.
    pub observation: usize,
    /// Number of its track, from 1.
    pub track: u32,
    /// True if the track begins in this frame.
    pub is_new: bool,
    /// True if its embedding of this frame replaces the track's last one. The embedding of a poor
    /// face only verifies the track, and should not be handed on.
    pub is_fresh: bool,
}

#[derive(Clone, Debug, PartialEq)]
struct Track {
    place: Place,
    reference: Option<Reference>,
}

/// The embedding of a track, and how the face looked that was embedded last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reference {
    embedding: QuantizedEmbedding,
    appearance: Option<Appearance>,
}

/// The part of a track that has a fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    id: u32,
    motion: Motion,
    /// Time since the last observation, in milliseconds.
    unseen: u32,
    history: History,
}

#[derive(Clone, Debug, PartialEq)]
struct FaceInFrame {
    tracked: TrackedFace,
    bounds: Rect,
    quality: f32,
    appearance: Option<Appearance>,
    embedding: Embedding,
}

/// The embedding of a face in the current frame.
#[derive(Clone, Debug, PartialEq)]
enum Embedding {
    /// Not asked for.
    None,
    /// Asked for, and not given.
    Asked,
    /// Computed, and not verified.
    Computed(QuantizedEmbedding),
    /// Verified.
    Verified,
}

/// The state as it is stored; `R` is an owned or borrowed reference.
#[derive(Serialize, Deserialize)]
struct Stored<R> {
    last: u32,
    time: Option<u64>,
    tracks: Vec<(Place, Option<R>)>,
}

impl Tracker {
    /// Reads the tracks of the last frame. Without tracks if the bytes are empty, damaged or of
    /// another version.
    #[must_use]
    pub fn from_bytes(state: &[u8]) -> Self {
        let stored: Option<Stored<Reference>> = decode(VERSION, state);
        stored
            .filter(Stored::is_valid)
            .map(|stored| Self {
                last: stored.last,
                time: stored.time,
                tracks: stored
                    .tracks
                    .into_iter()
                    .map(|(place, reference)| Track { place, reference })
                    .collect(),
                faces: Vec::new(),
            })
            .unwrap_or_default()
    }

    /// Returns the tracks as at most `limit` bytes, for [`Self::from_bytes`] at the next frame.
    ///
    /// A track takes some 60 bytes, its embedding D, and its appearance 64. If the limit is too low,
    /// embeddings and appearances are left out first, then tracks: those that were not seen for the
    /// longest time.
    #[must_use]
    pub fn to_bytes(&self, limit: usize) -> Vec<u8> {
        let mut tracks: Vec<&Track> = self.tracks.iter().collect();
        tracks.sort_by_key(|track| track.place.unseen);
        tracks.truncate(MAX_TRACKS);
        let count = tracks.len();
        // Sizes up to the count leave out tracks, those above it only embeddings.
        encode_within(VERSION, limit, 2 * count, |size| Stored {
            last: self.last,
            time: self.time,
            tracks: tracks
                .iter()
                .take(size)
                .enumerate()
                .map(|(index, track)| {
                    let has_room = index < size.saturating_sub(count);
                    (track.place, track.reference.as_ref().filter(|_| has_room))
                })
                .collect(),
        })
    }

    /// Associates the faces of the next frame with tracks, and returns the observations to embed.
    ///
    /// `time_ms` is the frame's time in milliseconds since any fixed moment. A time before the last
    /// frame's counts as the same. Observations with a score under `threshold` continue tracks, but
    /// begin none.
    pub fn update(
        &mut self,
        time_ms: u64,
        threshold: f32,
        observations: &[Observation],
    ) -> Vec<usize> {
        let last = self.time.unwrap_or(time_ms);
        let elapsed = u32::try_from(time_ms.saturating_sub(last)).unwrap_or(u32::MAX);
        self.time = Some(time_ms.max(last));
        let (mut candidates, mut predictions) = (Vec::new(), Vec::new());
        for (index, Track { place, .. }) in self.tracks.iter_mut().enumerate() {
            let was_visible = place.unseen == 0;
            place.wait(elapsed);
            if was_visible || place.unseen <= EXPECTED {
                candidates.push(index);
                predictions.push(Prediction {
                    motion: place.motion,
                    was_visible,
                });
            }
        }
        let association = associate(&predictions, observations, threshold);
        for (&index, &doubt) in candidates.iter().zip(&association.doubts) {
            if let Some(track) = self.tracks.get_mut(index) {
                track.place.history.doubt = track.place.history.doubt.max(doubt);
            }
        }
        self.faces.clear();
        for (observation, (face, origin)) in
            observations.iter().zip(association.origins).enumerate()
        {
            let (id, is_new) = match origin {
                Origin::Track(candidate) => {
                    let track = candidates.get(candidate);
                    let Some(track) = track.and_then(|&index| self.tracks.get_mut(index)) else {
                        continue;
                    };
                    let was_visible = predictions
                        .get(candidate)
                        .is_some_and(|prediction| prediction.was_visible);
                    track.see(face, was_visible);
                    (track.place.id, false)
                }
                Origin::New => (self.begin(&face.bounds), true),
                Origin::Background => continue,
            };
            self.faces.push(FaceInFrame {
                tracked: TrackedFace {
                    observation,
                    track: id,
                    is_new,
                    is_fresh: false,
                },
                bounds: face.bounds,
                quality: finite(face.quality).clamp(0.0, 1.0),
                appearance: face.appearance,
                embedding: Embedding::None,
            });
        }
        self.forget();
        self.due()
    }

    /// Takes the embeddings of observations, raw or normalised, and returns further observations to
    /// embed: those of a person who turned out to be another face. In most frames there are none, and
    /// no observation is returned twice.
    ///
    /// The embeddings of a frame are verified together once none is left to embed. Until then
    /// [`Self::faces`] has the tracks by association.
    pub fn embedded(&mut self, embeddings: &[(usize, Vec<f32>)]) -> Vec<usize> {
        for (observation, embedding) in embeddings {
            let mut faces = self.faces.iter_mut();
            if let Some(face) = faces.find(|face| face.tracked.observation == *observation)
                && face.embedding != Embedding::Verified
            {
                face.embedding =
                    QuantizedEmbedding::of(embedding).map_or(Embedding::Asked, Embedding::Computed);
            }
        }
        match self.verification() {
            Verification::Contested(tracks) => {
                let contested = self
                    .faces
                    .iter_mut()
                    .filter(|face| tracks.contains(&face.tracked.track));
                let ask = |face: &mut FaceInFrame| {
                    face.embedding = Embedding::Asked;
                    face.tracked.observation
                };
                contested.map(ask).collect()
            }
            Verification::Verdicts(verdicts) => {
                self.apply(verdicts);
                Vec::new()
            }
        }
    }

    /// Returns the faces of the current frame with their tracks, without observations that are not
    /// faces ([`Origin::Background`]).
    #[must_use]
    pub fn faces(&self) -> Vec<TrackedFace> {
        self.faces.iter().map(|face| face.tracked).collect()
    }

    /// Returns the numbers of all tracks, also of people who are hidden. A track ends a minute after
    /// its last observation.
    pub fn tracks(&self) -> impl Iterator<Item = u32> {
        self.tracks.iter().map(|track| track.place.id)
    }

    /// Begins a track and returns its number.
    fn begin(&mut self, bounds: &Rect) -> u32 {
        // Numbers start again after four billion tracks.
        self.last = self.last.wrapping_add(1).max(1);
        self.tracks.push(Track {
            place: Place {
                id: self.last,
                motion: Motion::new(bounds),
                unseen: 0,
                history: History::default(),
            },
            reference: None,
        });
        self.last
    }

    /// Returns the observations to embed, and marks their faces.
    fn due(&mut self) -> Vec<usize> {
        let mut due = Vec::new();
        for face in &mut self.faces {
            let id = face.tracked.track;
            let mut tracks = self.tracks.iter().map(|track| track.place);
            if tracks.any(|place| place.id == id && place.history.is_due(id, face.quality)) {
                face.embedding = Embedding::Asked;
                due.push(face.tracked.observation);
            }
        }
        due
    }

    /// Ends tracks of people who are away.
    fn forget(&mut self) {
        self.tracks.retain(|track| {
            let most = if track.reference.is_some() {
                REMEMBERED
            } else {
                EXPECTED
            };
            track.place.unseen <= most
        });
        if self.tracks.len() > MAX_TRACKS {
            self.tracks.sort_by_key(|track| track.place.unseen);
            self.tracks.truncate(MAX_TRACKS.max(self.faces.len()));
        }
    }

    fn verification(&self) -> Verification {
        let claims: Vec<Claim<'_>> = self.faces.iter().filter_map(FaceInFrame::claim).collect();
        let holder = |track: u32| {
            let mut faces = self.faces.iter();
            let face = faces.find(|face| face.tracked.track == track);
            face.map_or(Holder::Hidden, |face| match face.embedding {
                Embedding::None => Holder::Unverified,
                Embedding::Computed(_) => Holder::Claim,
                Embedding::Asked | Embedding::Verified => Holder::Settled,
            })
        };
        let known: Vec<KnownTrack<'_>> = self
            .tracks
            .iter()
            .filter_map(|track| {
                Some(KnownTrack {
                    track: track.place.id,
                    reference: &track.reference.as_ref()?.embedding,
                    holder: holder(track.place.id),
                })
            })
            .collect();
        verify(&claims, &known)
    }

    /// Gives the faces of claims their verified tracks.
    fn apply(&mut self, verdicts: Vec<Verdict>) {
        let given = |face: &usize| {
            let face = self.faces.get(*face);
            face.is_some_and(|face| matches!(face.embedding, Embedding::Computed(_)))
        };
        let claims: Vec<usize> = (0..self.faces.len()).filter(given).collect();
        let verdicts: Vec<(usize, Verdict)> = claims.into_iter().zip(verdicts).collect();
        // Faces leave their tracks before others take them.
        for (index, verdict) in &verdicts {
            if let Some(face) = self.faces.get(*index)
                && *verdict != Verdict::Same
            {
                let id = face.tracked.track;
                self.tracks
                    .retain(|track| track.place.id != id || track.reference.is_some());
                if let Some(track) = find(&mut self.tracks, id) {
                    track.place.leave();
                }
            }
        }
        for (index, verdict) in verdicts {
            let Some(face) = self.faces.get(index) else {
                continue;
            };
            let bounds = face.bounds;
            let begun = (verdict == Verdict::New).then(|| self.begin(&bounds));
            let Some(face) = self.faces.get_mut(index) else {
                continue;
            };
            match verdict {
                Verdict::Same => {}
                Verdict::Other(id) => {
                    (face.tracked.track, face.tracked.is_new) = (id, false);
                    if let Some(track) = find(&mut self.tracks, id) {
                        track.place.arrive(&bounds);
                    }
                }
                Verdict::New => {
                    face.tracked.track = begun.unwrap_or_default();
                    face.tracked.is_new = true;
                }
            }
            let embedding = std::mem::replace(&mut face.embedding, Embedding::Verified);
            if let Embedding::Computed(embedding) = embedding
                && let Some(track) = find(&mut self.tracks, face.tracked.track)
            {
                face.tracked.is_fresh = track.take(embedding, face.quality, face.appearance);
            }
        }
    }
}

/// Returns the number, or 0 if it is not finite.
fn finite(number: f32) -> f32 {
    if number.is_finite() { number } else { 0.0 }
}

fn find(tracks: &mut [Track], id: u32) -> Option<&mut Track> {
    tracks.iter_mut().find(|track| track.place.id == id)
}

impl Place {
    /// Lets time pass, until the person is seen.
    fn wait(&mut self, milliseconds: u32) {
        self.motion.predict(f64::from(milliseconds) / 1_000.0);
        self.unseen = self.unseen.saturating_add(milliseconds.max(1));
        self.history.wait(milliseconds);
    }

    /// Records an observation.
    fn see(&mut self, bounds: &Rect, was_visible: bool) {
        let most = if was_visible { EXPECTED } else { SHORT };
        if self.unseen > most {
            self.history.doubt = Doubt::Change;
        }
        self.motion.correct(bounds);
        self.unseen = 0;
    }

    /// Records that the face belongs to another person. The place of this one is not known.
    fn leave(&mut self) {
        self.unseen = EXPECTED + 1;
    }

    /// Records that the person is here, after they were elsewhere.
    fn arrive(&mut self, bounds: &Rect) {
        self.motion = Motion::new(bounds);
        self.unseen = 0;
    }
}

impl Track {
    /// Records an observation.
    fn see(&mut self, face: &Observation, was_visible: bool) {
        self.place.see(&face.bounds, was_visible);
        let known = self.reference.as_ref().and_then(|known| known.appearance);
        let is_alike = known
            .zip(face.appearance)
            .is_none_or(|(known, now)| now.is_alike(&known));
        if is_alike {
            self.place.history.since_alike = 0;
        }
    }

    /// Takes the embedding of a face of the track's person, and returns true if it replaces the last
    /// one.
    fn take(
        &mut self,
        embedding: QuantizedEmbedding,
        quality: f32,
        appearance: Option<Appearance>,
    ) -> bool {
        let history = &mut self.place.history;
        let before = self.reference.take();
        let is_kept = before.is_none() || !history.is_poor(self.place.id, quality);
        let embedding = match before {
            // A mean of several is more similar to the next one than each is.
            Some(before) if is_kept => {
                before
                    .embedding
                    .blended(history.quality, &embedding, quality)
            }
            Some(before) => before.embedding,
            None => embedding,
        };
        self.reference = Some(Reference {
            embedding,
            appearance,
        });
        history.record(quality, is_kept);
        history.doubt = Doubt::None;
        is_kept
    }
}

impl FaceInFrame {
    fn claim(&self) -> Option<Claim<'_>> {
        match &self.embedding {
            Embedding::Computed(embedding) => Some(Claim {
                track: self.tracked.track,
                embedding,
            }),
            Embedding::None | Embedding::Asked | Embedding::Verified => None,
        }
    }
}

impl Stored<Reference> {
    /// Returns true if the tracks are possible.
    fn is_valid(&self) -> bool {
        let ids: std::collections::BTreeSet<u32> =
            self.tracks.iter().map(|(place, _)| place.id).collect();
        let are_finite = self
            .tracks
            .iter()
            .all(|(place, _)| place.motion.is_valid() && place.history.quality.is_finite());
        are_finite && ids.len() == self.tracks.len() && ids.len() <= MAX_TRACKS
    }
}
