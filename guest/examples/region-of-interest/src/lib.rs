//! A policy with a region of interest for each camera: it names no one outside, not even as a
//! candidate. It only decides; review and templates are those of the vision component.
//!
//! The setting `regions` has the regions, by the name of the stream in the request context:
//!
//! ```text
//! door=320,180,1280,900; yard=0,0,960,1080; *=0,0,1920,1080
//! ```
//!
//! The numbers are the left, upper, right and lower edge in pixels of the upright frame, because a
//! policy does not know the size of a frame. A camera that sends another size needs another region.
//! `*` is for every other frame, also outside a stream. A face counts if the middle of its box is
//! inside. Faces outside are unknown, with the code `outside_region`.

mod regions;

use rostro_sdk::decide::Rule;
use rostro_sdk::host::{Setting, Settings};
use rostro_sdk::policy::{Decision, Identity, Outcome, Policy, Probe, Ruling, assigned};
use rostro_sdk::track::quality::quality_of;
use rostro_sdk::track::{Ballot, Votes};

use crate::regions::Regions;

/// The component.
#[derive(Debug)]
pub struct RegionOfInterest;

rostro_sdk::export!(decide: RegionOfInterest);

impl Policy for RegionOfInterest {
    fn identity() -> Identity {
        Identity::new("region-of-interest", env!("CARGO_PKG_VERSION"))
    }

    fn settings() -> Vec<Setting> {
        vec![regions::setting()]
    }

    fn check_settings(settings: &impl Settings) {
        // The refusal alone stops the staging.
        let _refused = Regions::read(settings);
    }

    /// Version of the votes.
    const STATE_VERSION: u32 = 1;

    fn decide_frame(settings: &impl Settings, probes: &[Probe], state: Option<&[u8]>) -> Outcome {
        let stream = settings.context().stream;
        // Invalid regions do not pass the staging. If they did, no face would count.
        let regions = Regions::read(settings).ok();
        let is_inside = |probe: &&Probe| {
            let regions = regions.as_ref();
            regions.is_some_and(|regions| regions.has(stream.as_deref(), &probe.face.bounds))
        };
        // Faces outside are no rivals of those inside, so they are left out before the decision.
        let inside: Vec<Probe> = probes.iter().filter(is_inside).cloned().collect();
        let mut decided = decide_inside(settings, &inside, state);
        let mut rulings = std::mem::take(&mut decided.rulings).into_iter();
        let outside = || Ruling {
            decision: Decision::unknown("outside_region"),
            shown: Vec::new(),
        };
        let ruling = |probe: &Probe| {
            let inside = is_inside(&probe).then(|| rulings.next()).flatten();
            inside.unwrap_or_else(outside)
        };
        Outcome {
            rulings: probes.iter().map(ruling).collect(),
            ..decided
        }
    }
}

/// Decides as the default pipeline: by the votes of tracks in a stream, else by this frame alone.
fn decide_inside(settings: &impl Settings, probes: &[Probe], state: Option<&[u8]>) -> Outcome {
    let rule = Rule::against_rivals(settings.thresholds().similarity);
    let ballots: Option<Vec<Ballot<'_>>> = probes.iter().map(ballot).collect();
    match (state, ballots) {
        (Some(state), Some(ballots)) => {
            let mut votes = Votes::from_bytes(state);
            let decisions = votes.decide(settings.context().time, rule, &ballots);
            Outcome::new(decisions, probes).with_state(votes.to_bytes(settings.state_limit()))
        }
        _ => Outcome::new(assigned(probes, rule), probes),
    }
}

/// Returns the vote of a face. None without a track.
fn ballot(probe: &Probe) -> Option<Ballot<'_>> {
    Some(Ballot {
        track: probe.track?,
        is_fresh: probe.is_fresh,
        weight: quality_of(&probe.face),
        candidates: &probe.candidates,
    })
}

#[cfg(test)]
mod tests {
    use rostro_sdk::geometry::Rect;
    use rostro_sdk::host::Context;
    use rostro_sdk::policy::{Candidate, Face};
    use rostro_sdk::testing::Fixed;

    use super::*;

    /// Returns a face of 100 pixels with its left edge at `x`, as similar to alice as said.
    fn probe(x: f32, similarity: f32) -> Probe {
        let bounds = Rect {
            x1: x,
            y1: 0.0,
            x2: x + 100.0,
            y2: 100.0,
        };
        let face = Face {
            bounds,
            score: 0.9,
            landmarks: Vec::new(),
            measures: Vec::new(),
        };
        let id = "alice".to_owned();
        Probe::new(face, vec![Candidate { id, similarity }])
    }

    fn host(stream: Option<&str>) -> Fixed {
        let mut host = Fixed::default();
        let regions = "door=0,0,200,200".to_owned();
        host.settings.insert("regions".to_owned(), regions);
        host.context = Context {
            stream: stream.map(str::to_owned),
            ..Context::default()
        };
        host
    }

    fn outside() -> Ruling {
        Ruling {
            decision: Decision::unknown("outside_region"),
            shown: Vec::new(),
        }
    }

    fn known(confidence: f32) -> Ruling {
        Ruling {
            decision: Decision::Known {
                candidate: 0,
                confidence,
            },
            shown: vec![0],
        }
    }

    /// A face outside does not take a person from a less similar face inside.
    #[test]
    fn faces_outside_are_no_rivals() {
        let probes = [probe(500.0, 0.9), probe(50.0, 0.7), probe(300.0, 0.8)];
        let outcome = RegionOfInterest::decide_frame(&host(Some("door")), &probes, None);
        assert_eq!(outcome.rulings, [outside(), known(0.7), outside()]);
        assert_eq!(outcome.state, None);
    }

    #[test]
    fn other_streams_count_whole() {
        for stream in [Some("yard"), None] {
            let outcome = RegionOfInterest::decide_frame(&host(stream), &[probe(500.0, 0.9)], None);
            assert_eq!(outcome.rulings, [known(0.9)]);
        }
    }

    /// The votes of a track count only while it is inside.
    #[test]
    fn tracks_are_named_inside_only() {
        let host = host(Some("door"));
        let mut state = Vec::new();
        for (x, wanted) in [(500.0, outside()), (50.0, known(0.75)), (500.0, outside())] {
            let probes = [Probe {
                track: Some(7),
                ..probe(x, 0.75)
            }];
            let outcome = RegionOfInterest::decide_frame(&host, &probes, Some(&state));
            assert_eq!(outcome.rulings, [wanted]);
            state = outcome.state.unwrap();
        }
    }

    #[test]
    fn bad_regions_are_refused() {
        let mut host = host(None);
        RegionOfInterest::check_settings(&host);
        assert_eq!(host.refusals(), []);
        let regions = "door=0.2,0.1".to_owned();
        host.settings.insert("regions".to_owned(), regions);
        RegionOfInterest::check_settings(&host);
        let (name, message) = host.refusals().remove(0);
        assert_eq!(name, "regions");
        assert!(message.contains("`door=0.2,0.1` is not"), "{message}");
        let outcome = RegionOfInterest::decide_frame(&host, &[probe(50.0, 0.9)], None);
        assert_eq!(outcome.rulings, [outside()]);
    }
}
