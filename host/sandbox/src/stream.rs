//! What a pipeline keeps between the frames of a stream: a state for vision, one for the policy, and
//! the last embedding of each track.
//!
//! It lives in memory only. The states are the guests' own bytes, which the host never reads.

use std::collections::{BTreeMap, BTreeSet};

/// Tracks with an embedding at most: as many as an analysis may have faces.
pub(crate) const TRACKS: usize = 1024;

/// Memory of one stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamMemory {
    /// State of the vision component; empty at first.
    pub(crate) vision: Vec<u8>,
    /// State of the component that decides; empty at first.
    pub(crate) policy: Vec<u8>,
    tracks: TrackEmbeddings,
}

/// Last embedding of each track.
#[derive(Clone, Debug, Default, PartialEq)]
struct TrackEmbeddings {
    by_track: BTreeMap<u32, LastEmbedding>,
    /// Number of frames so far.
    frames: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct LastEmbedding {
    embedding: Vec<f32>,
    /// Number of the last frame with the track.
    frame: u64,
}

impl StreamMemory {
    /// Returns the bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let embeddings = self.tracks.by_track.values();
        let numbers: usize = embeddings.map(|last| last.embedding.len()).sum();
        self.vision.len() + self.policy.len() + numbers * size_of::<f32>()
    }

    /// Drops states that are longer than a limit.
    pub(crate) fn with_states_within(mut self, limit: usize) -> Self {
        for state in [&mut self.vision, &mut self.policy] {
            if state.len() > limit {
                state.clear();
            }
        }
        self
    }

    /// Returns the last embedding of a track.
    pub(crate) fn embedding(&self, track: u32) -> Option<&[f32]> {
        let last = self.tracks.by_track.get(&track)?;
        Some(&last.embedding)
    }

    /// Records the tracks of a frame with the embeddings that stand for them. Beyond [`TRACKS`], it
    /// drops those that were not seen for the longest time.
    pub(crate) fn record<'a>(&mut self, tracks: impl Iterator<Item = (u32, &'a [f32])>) {
        let TrackEmbeddings { by_track, frames } = &mut self.tracks;
        *frames += 1;
        for (track, embedding) in tracks {
            let last = by_track.entry(track).or_insert_with(|| LastEmbedding {
                embedding: Vec::new(),
                frame: 0,
            });
            if last.embedding != embedding {
                last.embedding = embedding.to_vec();
            }
            last.frame = *frames;
        }
        if let Some(excess) = by_track
            .len()
            .checked_sub(TRACKS)
            .filter(|excess| *excess > 0)
        {
            let by_age: BTreeSet<(u64, u32)> = by_track
                .iter()
                .map(|(track, last)| (last.frame, *track))
                .collect();
            for (_, track) in by_age.into_iter().take(excess) {
                by_track.remove(&track);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_tracks_are_dropped() {
        let mut memory = StreamMemory::default();
        let embedding = [1.0, 2.0];
        memory.record((0..1000).map(|track| (track, embedding.as_slice())));
        memory.record((500..1500).map(|track| (track, embedding.as_slice())));
        assert_eq!(memory.bytes(), TRACKS * 2 * 4);
        assert_eq!(memory.embedding(475), None);
        assert_eq!(memory.embedding(476), Some(embedding.as_slice()));
        assert_eq!(memory.embedding(1499), Some(embedding.as_slice()));
        memory.record([(476, [3.0].as_slice())].into_iter());
        assert_eq!(memory.embedding(476), Some([3.0].as_slice()));
    }
}
