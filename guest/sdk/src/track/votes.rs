//! Identity of a track by votes.
//!
//! Each fresh embedding of a track votes with its similarities to people, weighted by the quality of
//! the face. A track's similarity to a person is the weighted mean of its votes, in which each vote
//! weighs 0.8 times as much as the next: about the last nine count. [`decide::assign`] then gives
//! each person one track, with the rule's threshold and margin to rivals.
//!
//! One embedding names only a person who is clear: 0.1 above the threshold. Each further one takes a
//! fifth from that margin, because strangers resemble people in single frames.
//!
//! A person who leads the next one by less than 0.2 needs the missing lead in addition, up to 0.1,
//! after any number of votes. A stranger whose mean is above the threshold would otherwise have the
//! wrong name for as long as the track lasts. Such a stranger mostly resembles several people.
//!
//! A name that was given is held until the mean falls to 0.05 under the threshold.
//!
//! A mean is used instead of a count of winners, because a count of frames that all narrowly miss
//! the threshold says less than they do.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

use super::state::{decode, encode_within};
use crate::policy::decide::{self, CLEAR, Rule, assign};
use crate::policy::{Candidate, Decision};

/// The weight of a vote relative to that of the next one.
const DECAY: f32 = 0.8;

/// The least weight of a vote, so that a face without quality is not without a vote.
const LEAST_WEIGHT: f32 = 0.01;

/// The number of votes from which the threshold alone counts, and a name is held fully.
const SETTLED: u8 = 6;

/// The similarity that a name has in addition once it was given.
const HELD: f32 = 0.05;

/// The lead over the next person of a track, in mean similarity, from which no margin is added. In the
/// streams of `docs/performance.md` it separates strangers from people whose mean is as low.
const CLEAR_LEAD: f32 = 0.2;

/// The difference in similarity under which two people of a track are tied.
const TIE: f32 = 0.001;

/// Time in milliseconds after which the votes of a track that is not seen are dropped.
const REMEMBERED: u32 = 60_000;

/// The largest number of people a track, as many as the host reports for a face.
const MAX_PEOPLE: usize = 8;

/// The largest number of tracks.
const MAX_TRACKS: usize = 1_024;

/// Version of the bytes.
const VERSION: u8 = 1;

/// A face of a frame, as a vote for the people that it resembles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ballot<'a> {
    /// Number of the face's track.
    pub track: u32,
    /// True if the candidates are those of an embedding of this frame. Others do not vote again.
    pub is_fresh: bool,
    /// Weight of the vote: the face's [quality](super::quality::quality_of), 0 to 1.
    pub weight: f32,
    /// The face's [candidates](crate::policy::Probe::candidates): the people nearest to the track's
    /// last embedding.
    pub candidates: &'a [Candidate],
}

/// The votes of a stream's tracks. [The module](super) has an example.
///
/// Ids of people are kept as hashes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Votes {
    /// Time of the last frame in milliseconds.
    time: Option<u64>,
    tallies: Vec<Tally>,
}

/// The votes of one track.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tally {
    track: u32,
    /// Time since the track was seen, in milliseconds.
    unseen: u32,
    /// Number of votes, at most 255.
    votes: u8,
    /// Sum of the weights.
    weight: f32,
    /// Weighted sum of the lowest similarity of each vote: the most that a person who was no
    /// candidate can have.
    floor: f32,
    people: Vec<Support>,
    /// Hash of the person that the track is named after.
    named: Option<u64>,
}

/// The votes for one person.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Support {
    /// Hash of the person's id.
    person: u64,
    /// Weighted sum of similarities.
    sum: f32,
}

impl Votes {
    /// Reads the votes of the last frame. Without votes if the bytes are empty, damaged or of
    /// another version.
    #[must_use]
    pub fn from_bytes(state: &[u8]) -> Self {
        decode(VERSION, state)
            .filter(|(_, tallies): &(_, Vec<Tally>)| {
                tallies.len() <= MAX_TRACKS && tallies.iter().all(Tally::is_valid)
            })
            .map(|(time, tallies)| Self { time, tallies })
            .unwrap_or_default()
    }

    /// Returns the votes as at most `limit` bytes, for [`Self::from_bytes`] at the next frame. A
    /// track takes up to 150 bytes. If the limit is too low, tracks that were not seen for the
    /// longest time are left out.
    #[must_use]
    pub fn to_bytes(&self, limit: usize) -> Vec<u8> {
        let mut tallies: Vec<&Tally> = self.tallies.iter().collect();
        tallies.sort_by_key(|tally| tally.unseen);
        tallies.truncate(MAX_TRACKS);
        encode_within(VERSION, limit, tallies.len(), |size| {
            let kept: Vec<&Tally> = tallies.iter().take(size).copied().collect();
            (self.time, kept)
        })
    }

    /// Counts the votes of a frame and identifies its faces: one decision a face, in their order,
    /// and no person for two. `time_ms` is the frame's time in milliseconds since any fixed moment.
    ///
    /// A track that has no votes yet, for example because the state was dropped, takes those of its
    /// last embedding. The confidence is the mean similarity, at least 0.
    ///
    /// Unknown faces have one of the codes of [`assigned`](crate::policy::assigned), or
    /// `unconfirmed`: there are too few votes for a name, or for a stranger, which takes two. A tie,
    /// or too small a lead, is `ambiguous`. A name is held through frames without fresh embeddings, as
    /// long as the person is a candidate.
    pub fn decide(&mut self, time_ms: u64, rule: Rule, ballots: &[Ballot<'_>]) -> Vec<Decision> {
        self.wait(time_ms);
        let mut tallies: Vec<Tally> = ballots
            .iter()
            .map(|ballot| self.take(ballot.track))
            .collect();
        for (tally, ballot) in tallies.iter_mut().zip(ballots) {
            tally.count(ballot);
        }
        let standings: Vec<Vec<Standing<'_>>> = tallies
            .iter()
            .zip(ballots)
            .map(|(tally, ballot)| tally.standings(ballot))
            .collect();
        let faces: Vec<Vec<decide::Candidate<'_>>> = standings
            .iter()
            .map(|standings| standings.iter().map(Standing::candidate).collect())
            .collect();
        let assigned = assign(&faces, rule);
        let decisions = tallies
            .iter_mut()
            .zip(&standings)
            .zip(assigned)
            .map(|((tally, standings), decision)| tally.judge(standings, decision, rule.threshold))
            .collect();
        for tally in tallies {
            // A frame that has a track twice is wrong; the first face keeps the votes.
            if self.tallies.iter().all(|other| other.track != tally.track) {
                self.tallies.push(tally);
            }
        }
        decisions
    }

    /// Lets time pass, and drops the votes of tracks that ended.
    fn wait(&mut self, time_ms: u64) {
        let last = self.time.unwrap_or(time_ms);
        self.time = Some(time_ms.max(last));
        let elapsed = time_ms.saturating_sub(last);
        let elapsed = u32::try_from(elapsed).unwrap_or(u32::MAX);
        // Judged before this frame, because frames may be far apart.
        self.tallies.retain(|tally| tally.unseen <= REMEMBERED);
        for tally in &mut self.tallies {
            tally.unseen = tally.unseen.saturating_add(elapsed);
        }
    }

    /// Takes the votes of a track out, or begins with none.
    fn take(&mut self, track: u32) -> Tally {
        let mut tallies = self.tallies.iter();
        let position = tallies.position(|tally| tally.track == track);
        let mut tally = position.map_or_else(Tally::default, |at| self.tallies.swap_remove(at));
        (tally.track, tally.unseen) = (track, 0);
        tally
    }
}

/// A person's standing in a track.
struct Standing<'a> {
    id: &'a str,
    person: u64,
    /// Mean similarity.
    mean: f32,
    /// The mean, less after few votes, and more for the track's name.
    by_votes: f32,
    /// The similarity by which the track is assigned: `by_votes` without what lacks of a lead.
    effective: f32,
}

impl Standing<'_> {
    fn candidate(&self) -> decide::Candidate<'_> {
        decide::Candidate {
            id: self.id,
            similarity: self.effective,
        }
    }
}

impl Tally {
    /// Counts the vote of a fresh embedding, or of the last one if there was none.
    fn count(&mut self, ballot: &Ballot<'_>) {
        if !ballot.is_fresh && self.votes > 0 || ballot.candidates.is_empty() {
            return;
        }
        let weight = if ballot.weight.is_finite() {
            ballot.weight.clamp(LEAST_WEIGHT, 1.0)
        } else {
            LEAST_WEIGHT
        };
        let similarities = ballot.candidates.iter().map(similarity);
        let lowest = similarities.reduce(f32::min).unwrap_or(0.0);
        self.weight *= DECAY;
        self.floor *= DECAY;
        let (before, mut people) = (self.floor, std::mem::take(&mut self.people));
        for support in &mut people {
            support.sum *= DECAY;
        }
        let mut counted: Vec<Support> = Vec::with_capacity(ballot.candidates.len());
        for candidate in ballot.candidates {
            let person = hash(&candidate.id);
            let known = people.iter().position(|support| support.person == person);
            // A person without an earlier vote was at most as similar as its last candidate.
            let sum = known.map_or(before, |at| people.swap_remove(at).sum);
            let sum = sum + weight * similarity(candidate);
            counted.push(Support { person, sum });
        }
        counted.extend(people.into_iter().map(|support| Support {
            sum: support.sum + weight * lowest,
            ..support
        }));
        counted.sort_by(|a, b| b.sum.total_cmp(&a.sum));
        counted.truncate(MAX_PEOPLE);
        self.people = counted;
        self.weight += weight;
        self.floor += weight * lowest;
        self.votes = self.votes.saturating_add(1);
    }

    /// Returns the standing of each candidate, in their order.
    fn standings<'a>(&self, ballot: &Ballot<'a>) -> Vec<Standing<'a>> {
        let share = f32::from(self.votes.clamp(1, SETTLED) - 1) / f32::from(SETTLED - 1);
        let standing = |candidate: &'a Candidate| {
            let person = hash(&candidate.id);
            let (mean, lead) = self.mean_and_lead(person);
            let (by_votes, missing_lead) = if self.named == Some(person) {
                (mean + HELD * share, 0.0)
            } else {
                let missing_lead = (CLEAR_LEAD - lead).clamp(0.0, CLEAR);
                (mean - CLEAR * (1.0 - share), missing_lead)
            };
            Standing {
                id: &candidate.id,
                person,
                mean,
                by_votes,
                effective: by_votes - missing_lead,
            }
        };
        ballot.candidates.iter().map(standing).collect()
    }

    /// Returns the mean similarity to a person, and its lead over that to the next one:
    /// [`CLEAR_LEAD`] if the votes have no other person.
    fn mean_and_lead(&self, person: u64) -> (f32, f32) {
        if self.weight <= 0.0 {
            return (0.0, CLEAR_LEAD);
        }
        let (mut own, mut next) = (self.floor, None);
        for support in &self.people {
            if support.person == person {
                own = support.sum;
            } else {
                next = Some(next.map_or(support.sum, |next: f32| next.max(support.sum)));
            }
        }
        let lead = next.map_or(CLEAR_LEAD, |next| (own - next) / self.weight);
        (own / self.weight, lead)
    }

    /// Returns the decision for the track, and records its name.
    fn judge(
        &mut self,
        standings: &[Standing<'_>],
        decision: decide::Decision,
        threshold: f32,
    ) -> Decision {
        self.named = None;
        let is_near = || standings.iter().any(|person| person.mean > threshold);
        let lacks_lead = || standings.iter().any(|person| person.by_votes > threshold);
        let code = match decision {
            decide::Decision::Known(candidate) => {
                if let Some(winner) = standings.get(candidate)
                    && !is_tied(winner, standings)
                {
                    self.named = Some(winner.person);
                    let confidence = winner.mean.clamp(0.0, 1.0);
                    return Decision::Known {
                        candidate,
                        confidence,
                    };
                }
                "ambiguous"
            }
            decide::Decision::BelowThreshold if lacks_lead() => "ambiguous",
            decide::Decision::BelowThreshold if self.votes < 2 || is_near() => "unconfirmed",
            decide::Decision::BelowThreshold => "below_threshold",
            decide::Decision::NoCandidates => "no_candidates",
            decide::Decision::Ambiguous => "ambiguous",
            decide::Decision::AlreadyMatched => "already_matched",
        };
        Decision::unknown(code)
    }

    /// Returns true if all numbers are possible.
    fn is_valid(&self) -> bool {
        let sums = self.people.iter().map(|support| support.sum);
        sums.chain([self.weight, self.floor]).all(f32::is_finite)
            && self.weight >= 0.0
            && self.people.len() <= MAX_PEOPLE
    }
}

/// Returns true if another person of the track has as many votes. One with more is another face's.
fn is_tied(winner: &Standing<'_>, standings: &[Standing<'_>]) -> bool {
    standings
        .iter()
        .filter(|other| other.person != winner.person)
        .any(|other| (winner.effective - other.effective).abs() < TIE)
}

/// Returns the similarity, which the host checked.
fn similarity(candidate: &Candidate) -> f32 {
    let similarity = candidate.similarity;
    if similarity.is_finite() {
        similarity.clamp(-1.0, 1.0)
    } else {
        -1.0
    }
}

/// Returns the hash of an id. Another version of Rust may have another hash; then votes begin anew.
fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
