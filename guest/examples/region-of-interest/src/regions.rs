//! Setting `regions`: the part of the frame that counts, for each camera.

use rostro_sdk::geometry::Rect;
use rostro_sdk::host::{Setting, SettingKind, Settings, refused};

/// Name of the setting.
const NAME: &str = "regions";

/// Camera of an entry for all frames without one of their own.
const OTHERS: &str = "*";

/// Returns the declaration of the setting.
pub(crate) fn setting() -> Setting {
    Setting::new(
        NAME,
        SettingKind::Text,
        "",
        "Parts of the frames in which faces count, as door=320,180,1280,900; yard=0,0,960,1080: left, \
         upper, right and lower edge in pixels for each stream; * is every other frame.",
    )
}

/// Regions of all cameras.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Regions(Vec<(String, Rect)>);

impl Regions {
    /// Reads the setting, and reports a value that cannot be used to the host.
    ///
    /// # Errors
    ///
    /// If it is not a list of regions; the text names the entry.
    pub(crate) fn read(settings: &impl Settings) -> Result<Self, String> {
        let text = settings.setting(NAME).unwrap_or_default();
        Self::parse(&text).map_err(|must| refused(settings, NAME, &text, &must))
    }

    /// Reads entries such as `door=320,180,1280,900`, separated by `;`.
    fn parse(text: &str) -> Result<Self, String> {
        let mut regions: Vec<(String, Rect)> = Vec::new();
        for entry in text.split(';').map(str::trim) {
            if entry.is_empty() {
                continue;
            }
            let (camera, region) = parse_entry(entry).ok_or_else(|| {
                format!("must have entries as door=320,180,1280,900, which `{entry}` is not")
            })?;
            if regions.iter().any(|(other, _)| other == camera) {
                return Err(format!("must have `{camera}` only once"));
            }
            regions.push((camera.to_owned(), region));
        }
        Ok(Self(regions))
    }

    /// Returns true if a face counts in a frame of this stream: the middle of its box is inside the
    /// region. Without a region for the stream, every face counts.
    pub(crate) fn has(&self, stream: Option<&str>, bounds: &Rect) -> bool {
        let (x, y) = (
            f32::midpoint(bounds.x1, bounds.x2),
            f32::midpoint(bounds.y1, bounds.y2),
        );
        self.region(stream).is_none_or(|region| {
            (region.x1..region.x2).contains(&x) && (region.y1..region.y2).contains(&y)
        })
    }

    fn region(&self, stream: Option<&str>) -> Option<&Rect> {
        let of = |name: &str| self.0.iter().find(|(camera, _)| camera == name);
        let entry = stream.and_then(of).or_else(|| of(OTHERS))?;
        Some(&entry.1)
    }
}

/// Reads one entry. None if its name is empty, or if its numbers are not those of a box.
fn parse_entry(entry: &str) -> Option<(&str, Rect)> {
    let (camera, edges) = entry.split_once('=')?;
    let edges: Result<Vec<f32>, _> = edges.split(',').map(|edge| edge.trim().parse()).collect();
    let [x1, y1, x2, y2] = edges.ok()?.try_into().ok()?;
    let camera = camera.trim();
    let is_box = x1 >= 0.0 && y1 >= 0.0 && x1 < x2 && y1 < y2 && x2.is_finite() && y2.is_finite();
    (is_box && !camera.is_empty()).then_some((camera, Rect { x1, y1, x2, y2 }))
}

#[cfg(test)]
mod tests {
    use rostro_sdk::testing::Fixed;

    use super::*;

    fn face(x: f32, y: f32) -> Rect {
        Rect {
            x1: x - 20.0,
            y1: y - 30.0,
            x2: x + 20.0,
            y2: y + 30.0,
        }
    }

    #[test]
    fn middle_of_face_decides() {
        let regions = Regions::parse("door=100,0,200,150; *=0,0,50,50").unwrap();
        let cases = [
            (Some("door"), 150.0, 100.0, true),
            (Some("door"), 100.0, 149.9, true),
            (Some("door"), 99.9, 100.0, false),
            (Some("door"), 200.0, 100.0, false),
            (Some("door"), 150.0, 150.0, false),
            (Some("yard"), 40.0, 40.0, true),
            (Some("yard"), 150.0, 100.0, false),
            (None, 40.0, 40.0, true),
            (None, 150.0, 100.0, false),
        ];
        for (stream, x, y, wanted) in cases {
            assert_eq!(
                regions.has(stream, &face(x, y)),
                wanted,
                "{stream:?} {x} {y}"
            );
        }
    }

    #[test]
    fn frames_without_region_count_whole() {
        for text in ["", " ; ", "door=0,0,1,1;"] {
            let regions = Regions::parse(text).unwrap();
            assert!(regions.has(Some("yard"), &face(500.0, 500.0)), "{text}");
            assert!(regions.has(None, &face(500.0, 500.0)), "{text}");
        }
    }

    #[test]
    fn bad_settings_are_refused() {
        let cases = [
            ("door", "which `door` is not"),
            ("a=0,0,9,9; door=1,2,3", "which `door=1,2,3` is not"),
            ("door=1,2,3,4,5", "which `door=1,2,3,4,5` is not"),
            ("door=1,2,x,4", "which `door=1,2,x,4` is not"),
            ("=0,0,9,9", "which `=0,0,9,9` is not"),
            ("door=9,0,9,9", "which `door=9,0,9,9` is not"),
            ("door=-1,0,9,9", "which `door=-1,0,9,9` is not"),
            ("door=0,0,inf,9", "which `door=0,0,inf,9` is not"),
            ("door=0,0,NaN,9", "which `door=0,0,NaN,9` is not"),
            ("a=0,0,9,9;a=0,0,9,9", "must have `a` only once"),
        ];
        for (text, words) in cases {
            let mut host = Fixed::default();
            host.settings.insert(NAME.to_owned(), text.to_owned());
            let error = Regions::read(&host).unwrap_err();
            assert!(error.contains(words), "{error}");
            assert_eq!(host.refusals(), [(NAME.to_owned(), error)]);
        }
    }
}
