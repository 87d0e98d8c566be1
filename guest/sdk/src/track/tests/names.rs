//! Names of tracks over simulated streams.

use fastrand::Rng;

use super::world::{LIMIT, Seen, Stream, normal, square};
use crate::policy::decide::Rule;
use crate::policy::{Candidate, Decision};
use crate::track::{Ballot, Observation, Votes};

/// Similarities of one face to the people `a` and `b` of the gallery, for each embedding.
type Similarities = fn(&mut Rng) -> [f32; 2];

/// Returns the decisions on one face that stays for fifteen seconds, by an id of a candidate or a
/// code.
fn decisions(seed: u64, frames_per_second: u64, similarities: Similarities) -> Vec<String> {
    let mut random = Rng::with_seed(seed);
    let mut stream = Stream::new(1, &mut random);
    let (mut state, mut candidates) = (Vec::new(), Vec::new());
    let mut found = Vec::new();
    for frame in 0..15 * frames_per_second {
        let time = frame * 1_000 / frames_per_second;
        let seen = Seen {
            person: 0,
            observation: Observation {
                bounds: square(300.0, 300.0, 80.0, 0.03, &mut random),
                score: 0.9,
                quality: 0.5,
                appearance: None,
            },
            noise: 0.8,
        };
        let answer = stream.frame(time, vec![seen], &mut random);
        let face = answer.faces[0].1;
        if face.is_fresh {
            let [a, b] = similarities(&mut random);
            candidates = [("a", a), ("b", b)]
                .map(|(id, similarity)| Candidate {
                    id: id.to_owned(),
                    similarity,
                })
                .into();
            candidates.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
        }
        let mut votes = Votes::from_bytes(&state);
        let ballot = Ballot {
            track: face.track,
            is_fresh: face.is_fresh,
            weight: 0.5,
            candidates: &candidates,
        };
        let decision = votes.decide(time, Rule::against_rivals(0.5), &[ballot]);
        state = votes.to_bytes(LIMIT);
        found.extend(decision.into_iter().map(|decision| match decision {
            Decision::Known { candidate, .. } => candidates[candidate].id.clone(),
            Decision::Unknown(code) => code.into_owned(),
        }));
    }
    found
}

/// Returns the length of the longest run of frames with this decision.
fn longest(decisions: &[String], wanted: &str) -> usize {
    decisions
        .chunk_by(|a, b| a == b)
        .filter(|run| run[0] == wanted)
        .map(<[String]>::len)
        .max()
        .unwrap_or(0)
}

/// A stranger who is like a person in a tenth of the frames has the name for a second at most.
#[test]
fn stranger_keeps_no_name() {
    let similarities: Similarities = |random| {
        let is_alike = random.f32() < 0.1;
        let like = if is_alike {
            0.5 + 0.1 * random.f32()
        } else {
            0.3 + 0.08 * normal(random)
        };
        [like, 0.1]
    };
    for seed in 0..50 {
        for rate in [1, 2, 10] {
            let found = decisions(seed, rate, similarities);
            let named = longest(&found, "a");
            assert!(
                named as u64 <= rate,
                "seed {seed}, {rate} a second: {named}"
            );
        }
    }
}

/// A person has a name in more frames than by single embeddings, and never another's.
#[test]
fn person_keeps_name() {
    let similarities: Similarities =
        |random| [0.6 + 0.1 * normal(random), 0.3 + 0.08 * normal(random)];
    let (mut named, mut all, mut wrong) = (0, 0, 0);
    for seed in 0..50 {
        let found = decisions(seed, 10, similarities);
        all += found.len();
        named += found.iter().filter(|name| *name == "a").count();
        wrong += found.iter().filter(|name| *name == "b").count();
    }
    // A single similarity of 0.6 ± 0.1 is above 0.5 in 84 % of cases.
    assert!(
        wrong == 0 && named as f32 / all as f32 > 0.97,
        "{named} of {all}, {wrong} wrong"
    );
}
