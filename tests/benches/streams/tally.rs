//! Counts of names and tracks against the truth.

use std::collections::BTreeMap;

use crate::scenes::{RATE, Scene, TrueFace};
use crate::service::FoundFace;

/// Visible share from which a face counts.
const COUNTS: f32 = 0.5;

/// Least overlap of a found face with a true one.
const OVERLAP: f32 = 0.35;

/// Names of all faces of some scenes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) right: usize,
    pub(crate) wrong: usize,
    /// Found and not named.
    pub(crate) unknown: usize,
    /// Not found.
    pub(crate) missed: usize,
    /// Longest time in seconds for which one person had one wrong name.
    pub(crate) longest_wrong: f32,
}

/// A recogniser's answers to one scene.
pub(crate) struct Tally<'s> {
    scene: &'s Scene,
    pub(crate) names: Names,
    /// The wrong name of each person, and its first frame.
    spells: BTreeMap<usize, (String, usize)>,
    /// The person who had each track first.
    owners: BTreeMap<u32, usize>,
    /// Tracks of each person, in order.
    pub(crate) tracks: BTreeMap<usize, Vec<u32>>,
    /// Face-frames in which a person had another's track.
    pub(crate) foreign: usize,
    /// Of each person, whether the last track was another's.
    pub(crate) is_foreign: BTreeMap<usize, bool>,
    /// Highest similarities of strangers, in all of their faces.
    pub(crate) strangers: Vec<f32>,
}

impl<'s> Tally<'s> {
    pub(crate) fn new(scene: &'s Scene) -> Self {
        Self {
            scene,
            names: Names::default(),
            spells: BTreeMap::new(),
            owners: BTreeMap::new(),
            tracks: BTreeMap::new(),
            foreign: 0,
            is_foreign: BTreeMap::new(),
            strangers: Vec::new(),
        }
    }

    /// Counts the answer to a frame.
    pub(crate) fn count(&mut self, frame: usize, truth: &[TrueFace], found: &[FoundFace]) {
        let matched = matched(truth, found);
        for face in truth.iter().filter(|face| face.visible >= COUNTS) {
            let name = self.scene.actors[face.actor].id.clone();
            let Some(found) = matched.get(&face.actor).map(|&index| &found[index]) else {
                self.names.missed += 1;
                continue;
            };
            if let Some(track) = found.track {
                let owner = *self.owners.entry(track).or_insert(face.actor);
                let is_foreign = owner != face.actor;
                self.foreign += usize::from(is_foreign);
                self.is_foreign.insert(face.actor, is_foreign);
                let tracks = self.tracks.entry(face.actor).or_default();
                if tracks.last() != Some(&track) {
                    tracks.push(track);
                }
            }
            if name.is_none() {
                self.strangers.push(found.similarity);
            }
            match &found.name {
                None => self.names.unknown += 1,
                right if *right == name => self.names.right += 1,
                Some(_) => self.names.wrong += 1,
            }
            let wrong = found.name.clone().filter(|_| found.name != name);
            match (wrong, self.spells.get(&face.actor)) {
                (None, _) => drop(self.spells.remove(&face.actor)),
                (Some(wrong), Some((before, since))) if wrong == *before => {
                    let seconds = (frame - since + 1) as f32 / RATE as f32;
                    self.names.longest_wrong = self.names.longest_wrong.max(seconds);
                }
                (Some(wrong), _) => {
                    self.spells.insert(face.actor, (wrong, frame));
                    self.names.longest_wrong = self.names.longest_wrong.max(1.0 / RATE as f32);
                }
            }
        }
    }
}

impl Names {
    pub(crate) fn add(&mut self, other: &Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.unknown += other.unknown;
        self.missed += other.missed;
        self.longest_wrong = self.longest_wrong.max(other.longest_wrong);
    }
}

/// Returns the found face of each person: the pairs that overlap most first.
fn matched(truth: &[TrueFace], found: &[FoundFace]) -> BTreeMap<usize, usize> {
    let mut pairs = Vec::new();
    for face in truth.iter().filter(|face| face.visible >= COUNTS) {
        for (index, found) in found.iter().enumerate() {
            let overlap = face.bounds.iou_of_pixels(&found.bounds);
            if overlap >= OVERLAP {
                pairs.push((overlap, face.actor, index));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut matched: BTreeMap<usize, usize> = BTreeMap::new();
    for (_, actor, index) in pairs {
        if !matched.contains_key(&actor) && matched.values().all(|taken| *taken != index) {
            matched.insert(actor, index);
        }
    }
    matched
}
