//! Slot for the newest frame of a stream, so that a slow service causes no lag.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Picture with the time at which it was whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TimedFrame {
    /// JPEG.
    pub(super) picture: Vec<u8>,
    /// Time of the last byte.
    pub(super) at: SystemTime,
}

/// Result of a wait for a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The newest frame, and the number of older ones that it replaced.
    Frame(TimedFrame, u64),
    /// The stream ended.
    Ended,
    /// No frame arrived in time.
    TimedOut,
}

/// Slot that one thread fills and another one empties. A newer frame replaces an older one.
#[derive(Debug, Default)]
pub(super) struct LatestFrame {
    state: Mutex<SlotState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct SlotState {
    frame: Option<TimedFrame>,
    replaced: u64,
    has_ended: bool,
}

impl LatestFrame {
    /// Stores a frame.
    pub(super) fn put(&self, frame: TimedFrame) {
        let mut state = self.lock();
        if state.frame.replace(frame).is_some() {
            state.replaced += 1;
        }
        self.changed.notify_one();
    }

    /// Records the end of the stream. The last frame can still be taken.
    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        self.changed.notify_one();
    }

    /// Waits at most `limit` for a frame and takes it.
    pub(super) fn take(&self, limit: Duration) -> Next {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(frame) = state.frame.take() {
                return Next::Frame(frame, std::mem::take(&mut state.replaced));
            }
            if state.has_ended {
                return Next::Ended;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::TimedOut;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(number: u8) -> TimedFrame {
        TimedFrame {
            picture: vec![number],
            at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn newest_frame_replaces_older() {
        let slot = LatestFrame::default();
        for number in 1..=3 {
            slot.put(frame(number));
        }
        slot.end();
        assert_eq!(slot.take(Duration::ZERO), Next::Frame(frame(3), 2));
        assert_eq!(slot.take(Duration::ZERO), Next::Ended);
    }

    #[test]
    fn wait_ends_by_frame_or_time() {
        let slot = LatestFrame::default();
        assert_eq!(slot.take(Duration::from_millis(1)), Next::TimedOut);
        std::thread::scope(|scope| {
            scope.spawn(|| slot.put(frame(7)));
            assert_eq!(slot.take(Duration::from_secs(60)), Next::Frame(frame(7), 0));
        });
    }
}
