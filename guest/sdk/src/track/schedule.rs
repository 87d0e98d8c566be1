//! Schedule of embeddings: the frames in which the face of a track is embedded.
//!
//! Embeddings are most of a frame's time, and the next frame of a face says little new. So a face is
//! embedded when its track is young, when the face got clearly better, when its track may have been
//! confused with another, and every few seconds to check.

use serde::{Deserialize, Serialize};

/// The number of embeddings after which a track is no longer young. Two tell a stranger from a bad
/// frame, the third is in reserve.
const YOUNG: u8 = 3;

/// The least time between embeddings of a young track, in milliseconds.
const YOUNG_INTERVAL: u32 = 250;

/// The least time between any other embeddings, in milliseconds. A confusion that an overlap
/// causes lasts no longer.
const INTERVAL: u32 = 500;

/// The mean time between checks, in milliseconds.
const CHECK_INTERVAL: u32 = 5_000;

/// The ratio of quality from which a face is clearly better than the one that was embedded.
const BETTER: f32 = 1.3;

/// The ratio of quality under which a face is poor. Its embedding would say less than the last one.
const POOR: f32 = 0.5;

/// The reason to doubt that a track is still of one person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Doubt {
    /// There is none.
    #[default]
    None,
    /// Its box overlapped with another's, so the two may have been confused.
    Overlap,
    /// It jumped, was hidden, or the frames were far apart.
    Gap,
}

/// The embeddings that a track had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// How many were kept.
    pub kept: u8,
    /// Quality of the face whose embedding was kept last, 0 to 1.
    pub quality: f32,
    /// Time since then, in milliseconds.
    pub since_kept: u32,
    /// Time since the last embedding, kept or not, in milliseconds.
    pub since_last: u32,
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
            || self.doubt == Doubt::Gap
            || (self.doubt == Doubt::Overlap && waited(INTERVAL))
            || (self.kept < YOUNG && waited(YOUNG_INTERVAL) && !is_poor)
            || (quality > BETTER * self.quality && waited(INTERVAL))
            || (self.since_kept >= check_interval(track) && waited(INTERVAL) && !is_poor)
    }

    /// Returns true if an embedding of this quality would only replace a better one. After twice
    /// the time of a check any is taken, because the person may have moved away.
    #[must_use]
    pub fn is_poor(&self, track: u32, quality: f32) -> bool {
        quality < POOR * self.quality && self.since_kept < 2 * check_interval(track)
    }

    /// Records an embedding of this quality.
    pub fn record(&mut self, quality: f32, is_kept: bool) {
        self.since_last = 0;
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
    }
}

/// Returns the time between checks of a track: from half to one and a half of the mean. Multiples of
/// the golden ratio spread consecutive numbers evenly (D. E. Knuth, "The Art of Computer
/// Programming", volume 3, 6.4).
fn check_interval(track: u32) -> u32 {
    const GOLDEN: u32 = 0x9E37_79B9;
    let fraction = u64::from(track.wrapping_mul(GOLDEN)) * u64::from(CHECK_INTERVAL) >> 32;
    CHECK_INTERVAL / 2 + fraction as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_follows_each_reason() {
        let settled = History {
            kept: 3,
            quality: 0.4,
            since_kept: 1_000,
            since_last: 1_000,
            doubt: Doubt::None,
        };
        let young = History { kept: 1, ..settled };
        let overlap = History {
            doubt: Doubt::Overlap,
            ..settled
        };
        let gap = History {
            doubt: Doubt::Gap,
            ..settled
        };
        let old = History {
            since_kept: 7_500,
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
            ("a gap", gap, 0.4, true),
            ("a gap of a poor face, at once", just(gap), 0.0, true),
            ("a check", old, 0.4, true),
            ("a check of a poor face", old, 0.1, false),
            (
                "a late check of a poor face",
                History {
                    since_kept: 15_000,
                    ..settled
                },
                0.1,
                true,
            ),
        ];
        for (case, history, quality, wanted) in cases {
            assert_eq!(history.is_due(1, quality), wanted, "{case}");
        }
    }

    #[test]
    fn checks_spread_over_frames() {
        let mut intervals: Vec<u32> = (1..=30).map(check_interval).collect();
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
            doubt: Doubt::None,
        };
        assert_eq!(history, wanted);
    }
}
