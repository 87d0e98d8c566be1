//! Schedule of embeddings: the frames in which the face of a track is embedded.
//!
//! Embeddings are most of a frame's time, and the next frame of a face says little new. So a face is
//! embedded when its track is young, when the face got clearly better, when its track may have been
//! confused with another, when it [looks](super::appearance) different for a while, and several times
//! a minute to check.

use serde::{Deserialize, Serialize};

/// The number of embeddings after which a track is no longer young: as many as a narrow name needs
/// ([`votes`](super::votes)).
const YOUNG: u8 = 6;

/// The mean time between embeddings of a young track, in milliseconds. It doubles with each later
/// one.
const YOUNG_INTERVAL: u32 = 250;

/// The least time before an embedding for an overlap or a better face, in milliseconds. A confusion
/// that an overlap causes lasts no longer.
const INTERVAL: u32 = 500;

/// The mean time between checks, in milliseconds. They find who took the place of a person unnoticed:
/// neither by the boxes nor by the appearance.
const CHECK_INTERVAL: u32 = 15_000;

/// The time in milliseconds for which a face must look different. A hand before the face is gone by
/// then, and its embedding would be of little use.
const CHANGED: u32 = 700;

/// The ratio of quality from which a face is clearly better than the one that was embedded.
const BETTER: f32 = 1.3;

/// The ratio of quality under which a face is poor. Its embedding would say less than the last one.
const POOR: f32 = 0.5;

/// The reason to doubt that a track is still of one person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Doubt {
    /// No doubt.
    #[default]
    None,
    /// Its box overlapped with another's, so the two may have been confused.
    Overlap,
    /// It jumped, was hidden, begins to hide another, or the frames were far apart.
    Change,
}

/// The embeddings that a track had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// How many were kept.
    pub kept: u8,
    /// Quality of the face of the last kept embedding, 0 to 1.
    pub quality: f32,
    /// Time since then, in milliseconds.
    pub since_kept: u32,
    /// Time since the last embedding, kept or not, in milliseconds.
    pub since_last: u32,
    /// Time since the face looked as it did in the last embedding, in milliseconds.
    pub since_alike: u32,
    /// The doubt that an embedding must resolve.
    pub doubt: Doubt,
}

impl History {
    /// Returns true if a face of this quality is embedded now. `track` is the track's number.
    ///
    /// Doubts are resolved even by a poor face. Checks of different tracks fall into different
    /// frames.
    #[must_use]
    pub fn is_due(&self, track: u32, quality: f32) -> bool {
        let waited = |interval| self.since_last >= interval;
        let is_poor = self.is_poor(track, quality);
        self.kept == 0
            || self.doubt == Doubt::Change
            || (self.doubt == Doubt::Overlap && waited(INTERVAL))
            || (quality > BETTER * self.quality && waited(INTERVAL))
            || ((waited(self.interval(track)) || self.since_alike >= CHANGED) && !is_poor)
    }

    /// Returns the time from the last embedding to the next one, in milliseconds, if nothing
    /// happens.
    fn interval(&self, track: u32) -> u32 {
        let doublings = u32::from(self.kept.saturating_sub(YOUNG - 1)).min(16);
        spread((YOUNG_INTERVAL << doublings).min(CHECK_INTERVAL), track)
    }

    /// Returns true if an embedding of this quality would only replace a better one. After twice
    /// the time of a check any is taken, because the person may have moved away.
    #[must_use]
    pub fn is_poor(&self, track: u32, quality: f32) -> bool {
        quality < POOR * self.quality && self.since_kept < 2 * spread(CHECK_INTERVAL, track)
    }

    /// Records an embedding of this quality.
    pub fn record(&mut self, quality: f32, is_kept: bool) {
        (self.since_last, self.since_alike) = (0, 0);
        if is_kept {
            self.kept = self.kept.saturating_add(1);
            self.quality = quality;
            self.since_kept = 0;
        }
    }

    /// Lets time pass.
    pub fn wait(&mut self, milliseconds: u32) {
        self.since_kept = self.since_kept.saturating_add(milliseconds);
        self.since_last = self.since_last.saturating_add(milliseconds);
        self.since_alike = self.since_alike.saturating_add(milliseconds);
    }
}

/// Returns half to one and a half of an interval, so that tracks that began together are embedded in
/// different frames. Multiples of the golden ratio spread consecutive numbers evenly (D. E. Knuth,
/// "The Art of Computer Programming", volume 3, 6.4).
fn spread(interval: u32, track: u32) -> u32 {
    const GOLDEN: u32 = 0x9E37_79B9;
    let fraction = (u64::from(track.wrapping_mul(GOLDEN)) * u64::from(interval)) >> 32;
    interval / 2 + fraction as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_follows_each_reason() {
        let settled = History {
            kept: 20,
            quality: 0.4,
            since_kept: 1_000,
            since_last: 1_000,
            since_alike: 0,
            doubt: Doubt::None,
        };
        let young = History { kept: 1, ..settled };
        let overlap = History {
            doubt: Doubt::Overlap,
            ..settled
        };
        let change = History {
            doubt: Doubt::Change,
            ..settled
        };
        let different = |milliseconds| History {
            since_alike: milliseconds,
            ..settled
        };
        let late = |milliseconds| History {
            since_kept: milliseconds,
            since_last: milliseconds,
            ..settled
        };
        let just = |history| History {
            since_last: 100,
            ..history
        };
        let cases = [
            ("a new track", History::default(), 0.0, true),
            ("a settled one", settled, 0.4, false),
            ("a better face", settled, 0.53, true),
            ("a better face, too soon", just(settled), 0.53, false),
            ("a slightly better face", settled, 0.51, false),
            ("a young track", young, 0.4, true),
            ("a young track, too soon", just(young), 0.4, false),
            ("a young track of a poor face", young, 0.1, false),
            ("an overlap", overlap, 0.4, true),
            ("an overlap, too soon", just(overlap), 0.4, false),
            ("an overlap of a poor face", overlap, 0.1, true),
            ("a change", change, 0.4, true),
            ("a change of a poor face, at once", just(change), 0.0, true),
            ("a face that looks different", different(700), 0.4, true),
            (
                "one that looks different, too soon",
                different(600),
                0.4,
                false,
            ),
            (
                "a poor one that looks different",
                different(700),
                0.1,
                false,
            ),
            ("a check", late(22_500), 0.4, true),
            ("a check, too soon", late(7_400), 0.4, false),
            ("a check of a poor face", late(22_500), 0.1, false),
            ("a late check of a poor face", late(45_000), 0.1, true),
        ];
        for (case, history, quality, wanted) in cases {
            assert_eq!(history.is_due(1, quality), wanted, "{case}");
        }
    }

    /// Six in the first second and a half, then each after twice the time, up to that of checks. The
    /// number 0 has half the mean interval.
    #[test]
    fn intervals_grow_with_embeddings() {
        let intervals: Vec<u32> = [1, 5, 6, 7, 8, 9, 10, 11, 12, 255]
            .map(|kept| {
                History {
                    kept,
                    ..History::default()
                }
                .interval(0)
                    * 2
            })
            .into();
        assert_eq!(
            intervals,
            [
                250, 250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000
            ]
        );
    }

    #[test]
    fn checks_spread_over_frames() {
        let mut intervals: Vec<u32> = (1..=30).map(|track| spread(5_000, track)).collect();
        intervals.sort_unstable();
        assert!((2_500..2_700).contains(&intervals[0]), "{intervals:?}");
        assert!((7_300..7_500).contains(&intervals[29]), "{intervals:?}");
        assert!(intervals.windows(2).all(|pair| pair[1] - pair[0] < 400));
    }

    #[test]
    fn record_keeps_only_replacements() {
        let mut history = History::default();
        history.record(0.8, true);
        history.wait(300);
        history.record(0.2, false);
        history.wait(u32::MAX);
        history.wait(1);
        let wanted = History {
            kept: 1,
            quality: 0.8,
            since_kept: u32::MAX,
            since_last: u32::MAX,
            since_alike: u32::MAX,
            doubt: Doubt::None,
        };
        assert_eq!(history, wanted);
    }
}
