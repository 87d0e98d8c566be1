//! Table of who is there, from the answers to frames.

use std::collections::HashMap;

use jiff::Zoned;

use rostro_common::text::sanitize;

use super::client::Face;
use crate::terminal::{new_table, render};

/// Identity of a face that belongs to no known person.
const UNKNOWN: &str = "Unknown";
/// Upper bound of people in the table.
const MAX_ENTRIES: usize = 10_000;

/// One person in front of one camera.
#[derive(Clone, Debug)]
struct Entry {
    camera: usize,
    identity: String,
    first_seen: Zoned,
    last_seen: Zoned,
    count: u64,
    /// None for unknown faces.
    best: Option<f32>,
}

/// Everyone who was seen, in the order of arrival, and the state of each camera.
#[derive(Debug)]
pub(super) struct PresenceTable {
    cameras: Vec<CameraState>,
    entries: Vec<Entry>,
    /// Position of an entry by camera and identity.
    index: HashMap<(usize, String), usize>,
}

#[derive(Clone, Debug, Default)]
struct CameraState {
    name: String,
    frames: u64,
    skipped: u64,
    notice: Option<String>,
}

impl PresenceTable {
    /// Creates the table of cameras with these names, which are empty for a single camera.
    pub(super) fn new(names: Vec<String>) -> Self {
        let state = |name| CameraState {
            name,
            ..CameraState::default()
        };
        Self {
            cameras: names.into_iter().map(state).collect(),
            entries: Vec::new(),
            index: HashMap::new(),
        }
    }

    /// Records the faces of a frame. Several faces with one identity count once.
    pub(super) fn record(&mut self, camera: usize, faces: &[Face], now: &Zoned) {
        if let Some(state) = self.cameras.get_mut(camera) {
            state.frames += 1;
            state.notice = None;
        }
        let mut seen: HashMap<&str, Option<f32>> = HashMap::new();
        for face in faces {
            let similarity: Option<f32> = face.confidence.parse().ok();
            let best = seen.entry(&face.identity).or_default();
            *best = best.max_by_value(similarity);
        }
        for (identity, similarity) in seen {
            self.record_face(camera, identity, similarity, now);
        }
    }

    fn record_face(&mut self, camera: usize, identity: &str, best: Option<f32>, now: &Zoned) {
        let key = (camera, identity.to_owned());
        if let Some(entry) = self
            .index
            .get(&key)
            .and_then(|position| self.entries.get_mut(*position))
        {
            entry.last_seen = now.clone();
            entry.count += 1;
            entry.best = entry.best.max_by_value(best);
        } else if self.entries.len() < MAX_ENTRIES {
            self.index.insert(key, self.entries.len());
            self.entries.push(Entry {
                camera,
                identity: identity.to_owned(),
                first_seen: now.clone(),
                last_seen: now.clone(),
                count: 1,
                best,
            });
        }
    }

    /// Records frames that newer ones replaced.
    pub(super) fn skip(&mut self, camera: usize, count: u64) {
        if let Some(state) = self.cameras.get_mut(camera) {
            state.skipped += count;
        }
    }

    /// Shows a text next to a camera until its next frame.
    pub(super) fn notice(&mut self, camera: usize, text: &str) {
        if let Some(state) = self.cameras.get_mut(camera) {
            state.notice = Some(sanitize(text));
        }
    }

    /// Returns the lines, at most `height` of them. Those who were seen last are kept.
    pub(super) fn lines(&self, height: usize) -> Vec<String> {
        let mut lines: Vec<String> = self.cameras.iter().map(CameraState::line).collect();
        lines.truncate(height.saturating_sub(4).max(1));
        if self.entries.is_empty() {
            return lines;
        }
        let room = height.saturating_sub(lines.len() + 2).max(1);
        let mut shown: Vec<&Entry> = self.entries.iter().collect();
        let hidden = shown.len().saturating_sub(room);
        if hidden > 0 {
            shown.sort_by(|a, b| b.last_seen.cmp(&a.last_seen));
            shown.truncate(room);
        }
        shown.sort_by_key(|entry| (entry.identity == UNKNOWN, entry.first_seen.clone()));
        lines.extend(self.rows(&shown).lines().map(str::to_owned));
        if hidden > 0 {
            lines.push(format!("and {hidden} more"));
        }
        lines
    }

    fn rows(&self, entries: &[&Entry]) -> String {
        let has_names = self.cameras.iter().any(|camera| !camera.name.is_empty());
        let mut headings = vec!["identity", "first seen", "last seen", "times", "best"];
        if has_names {
            headings.insert(1, "camera");
        }
        let mut table = new_table(headings);
        for entry in entries {
            let time = |time: &Zoned| time.strftime("%H:%M:%S").to_string();
            let mut row = vec![
                sanitize(&entry.identity),
                time(&entry.first_seen),
                time(&entry.last_seen),
                entry.count.to_string(),
                entry
                    .best
                    .map_or_else(|| "–".to_owned(), |best| format!("{best:.2}")),
            ];
            if has_names {
                let camera = self.cameras.get(entry.camera);
                row.insert(
                    1,
                    camera.map_or_else(String::new, |camera| camera.name.clone()),
                );
            }
            table.add_row(row);
        }
        render(&table)
    }
}

impl CameraState {
    fn line(&self) -> String {
        let mut line = match self.name.as_str() {
            "" => String::new(),
            name => format!("{name}  "),
        };
        line.push_str(&format!("frames: {}", self.frames));
        if self.skipped > 0 {
            line.push_str(&format!(", skipped: {}", self.skipped));
        }
        if let Some(notice) = &self.notice {
            line.push_str(&format!("; {notice}"));
        }
        line
    }
}

/// Maximum of optional numbers, where a number is above none.
trait MaxByValue {
    fn max_by_value(self, other: Self) -> Self;
}

impl MaxByValue for Option<f32> {
    fn max_by_value(self, other: Self) -> Self {
        match (self, other) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};

    use super::*;

    fn at(second: i64) -> Zoned {
        Timestamp::from_second(second)
            .unwrap()
            .to_zoned(TimeZone::UTC)
    }

    fn face(identity: &str, confidence: &str) -> Face {
        Face {
            identity: identity.to_owned(),
            confidence: confidence.to_owned(),
        }
    }

    #[test]
    fn table_counts_each_person() {
        let mut table = PresenceTable::new(vec![String::new()]);
        table.record(0, &[face("Unknown", "N/A"), face("Unknown", "N/A")], &at(0));
        table.record(0, &[face("s\u{1b}6", "0.71")], &at(1));
        table.record(0, &[face("s\u{1b}6", "0.86"), face("s7", "0.60")], &at(2));
        table.record(0, &[face("s\u{1b}6", "0.80")], &at(63));
        table.skip(0, 3);
        table.notice(0, "no\nanswer");
        assert_eq!(
            table.lines(24),
            [
                "frames: 4, skipped: 3; no answer",
                " identity  first seen  last seen  times  best",
                " s 6       00:00:01    00:01:03   3      0.86",
                " s7        00:00:02    00:00:02   1      0.60",
                " Unknown   00:00:00    00:00:00   1      –",
            ]
        );
    }

    #[test]
    fn table_names_cameras() {
        let mut table = PresenceTable::new(vec!["front".to_owned(), "back".to_owned()]);
        table.record(1, &[face("s6", "0.71")], &at(0));
        table.record(0, &[face("s6", "0.75")], &at(1));
        assert_eq!(
            table.lines(24),
            [
                "front  frames: 1",
                "back  frames: 1",
                " identity  camera  first seen  last seen  times  best",
                " s6        back    00:00:00    00:00:00   1      0.71",
                " s6        front   00:00:01    00:00:01   1      0.75",
            ]
        );
    }

    #[test]
    fn table_fits_height() {
        let mut table = PresenceTable::new(vec![String::new()]);
        for second in 0..30 {
            table.record(0, &[face(&format!("s{second}"), "0.71")], &at(second));
        }
        let lines = table.lines(8);
        assert_eq!(lines.len(), 8, "{lines:?}");
        assert!(
            lines[6].contains("s29") && lines[7] == "and 25 more",
            "{lines:?}"
        );
    }
}
