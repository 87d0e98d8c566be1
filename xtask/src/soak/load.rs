//! The load: what callers and the operator send, mixed by chance, and what must come of it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use ureq::http::Method;

use super::client::{Answer, Client, FORM, Part, form};
use super::people::{self, Claim, People};
use super::tally::{Outcome, Tally};
use super::{bad, roll};
use crate::steps::root;

/// Whose faces are drawn, and of each these photos.
const FACES: [&str; 4] = ["alice", "bob", "carol", "dave"];
const PHOTOS: [&str; 4] = ["1", "2", "3", "probe"];

/// Groups; a bit stands for each.
pub(super) const GROUPS: usize = 4;

/// Somebody who is in every group from the beginning, so that each is there.
const ANCHOR: &str = "anchor";

/// Ids that are changed without a claim, by several at a time. What is left of them at the end is
/// chance; that nothing fails is not.
const CONTESTED: usize = 3;

/// How long a thread waits that was turned away: less than the service asks for, so that it is kept
/// at its limit.
const REST: Duration = Duration::from_millis(250);

/// Numbers by chance: a load is repeated by its seed, and needs nothing better than xorshift for
/// that.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    /// Numbers of a thread's own.
    pub(super) fn new(seed: u64, thread: u64) -> Self {
        // Neighbouring seeds must not begin alike, and zero would stay zero.
        Self((seed ^ (thread + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1))
    }

    /// A number below that.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }

    /// One of these.
    pub(super) fn one_of<'t, T>(&mut self, these: &'t [T]) -> Result<&'t T> {
        these
            .get(self.below(these.len()))
            .context("nothing to choose from")
    }
}

/// A frame, and what the service saw in it before the load: it must see the same under load,
/// whoever asks beside.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) picture: Vec<u8>,
    seen: Seen,
}

/// The frame's size, how many faces, and the left edge of the first in whole pixels.
type Seen = (Option<u64>, Option<u64>, usize, Option<i64>);

/// What all threads share.
#[derive(Debug)]
pub(super) struct Load {
    frames: Vec<Frame>,
    photos: Vec<Vec<Vec<u8>>>,
    pub(super) people: People,
    pub(super) tally: Tally,
}

impl Load {
    /// Reads the pictures, has each seen once, and makes the groups.
    pub(super) fn prepare(client: &Client) -> Result<Self> {
        let folder = root().join("models/testing/frames");
        let read = |name: String| {
            fs::read(folder.join(&name)).with_context(|| format!("cannot read {name}"))
        };
        let of_face = |face: &str| {
            PHOTOS
                .iter()
                .map(|photo| read(format!("{face}-{photo}.png")))
                .collect::<Result<Vec<_>>>()
        };
        let photos = FACES
            .iter()
            .map(|face| of_face(face))
            .collect::<Result<Vec<_>>>()?;
        let others = ["empty", "faint", "group", "one-pixel", "stranger"]
            .map(|name| read(format!("{name}.png")));
        let pictures = photos.iter().flatten().cloned().map(Ok).chain(others);
        let frames = pictures.map(|picture| {
            let picture = picture?;
            let answer = client.post("/process_frame", "image/png", &picture)?;
            ensure!(answer.status == 200, "a frame before the load: {answer:?}");
            Ok(Frame {
                seen: seen(&answer.json, "recognized_faces"),
                picture,
            })
        });
        let load = Self {
            frames: frames.collect::<Result<_>>()?,
            photos,
            people: People::new(),
            tally: Tally::default(),
        };
        let answer = client.post("/process-images", FORM, &load.photos_of(Some(ANCHOR), 0, 1))?;
        ensure!(
            answer.status == 200,
            "an enrolment before the load: {answer:?}"
        );
        for group in 0..GROUPS {
            let answer = client.admin(
                Method::PUT,
                &format!("/v1/groups/{}/people/{ANCHOR}", roll::group(group)),
            )?;
            ensure!(answer.status == 200, "a group before the load: {answer:?}");
        }
        Ok(load)
    }

    /// Sends until then.
    pub(super) fn send(&self, client: &Client, chance: &mut Chance, until: Instant) -> Result<()> {
        while Instant::now() < until && !self.tally.is_hopeless() {
            match chance.below(100) {
                0..66 => self.frame(client, chance)?,
                66..68 => self.look_up(client, chance),
                68..70 => self.group(client, chance),
                70..82 => self.enrol(client, chance),
                82..87 => self.delete(client, chance),
                87..92 => self.add_photo(client, chance),
                92..95 => self.faces(client, chance)?,
                _ => bad::send(client, chance, &self.tally, self.photo(0, 0))?,
            }
        }
        Ok(())
    }

    /// A photo of somebody's face.
    pub(super) fn photo_of(&self, person: usize, photo: usize) -> &[u8] {
        self.photo(person % FACES.len(), photo)
    }

    fn photo(&self, face: usize, photo: usize) -> &[u8] {
        self.photos
            .get(face)
            .and_then(|photos| photos.get(photo))
            .map_or(&[], Vec::as_slice)
    }

    /// A form with the photos of a face for which there is a bit.
    fn photos_of(&self, id: Option<&str>, face: usize, bits: u8) -> Vec<u8> {
        let photos = (0..PHOTOS.len())
            .filter(|photo| bits & 1 << photo != 0)
            .map(|photo| Part::File("images", self.photo(face, photo)));
        form(
            &id.map(|id| Part::Text("student_id", id))
                .into_iter()
                .chain(photos)
                .collect::<Vec<_>>(),
        )
    }

    /// Judges an answer to a good request.
    fn good(&self, kind: &'static str, answer: Result<Answer>, wanted: u16) -> Outcome {
        let outcome = self.tally.judge(kind, answer, wanted);
        if matches!(outcome, Outcome::TurnedAway) {
            std::thread::sleep(REST);
        }
        outcome
    }

    /// The answer to a change of a claimed person, if it was done.
    fn changed(
        &self,
        claim: &mut Claim<'_>,
        kind: &'static str,
        answer: Result<Answer>,
        wanted: u16,
    ) -> Option<Value> {
        match self.good(kind, answer, wanted) {
            Outcome::Done(json) => Some(json),
            Outcome::TurnedAway => None,
            Outcome::Failed => {
                claim.known.doubtful = true;
                None
            }
        }
    }

    /// Asks who is in a frame, among everybody or a group.
    fn frame(&self, client: &Client, chance: &mut Chance) -> Result<()> {
        let frame = chance.one_of(&self.frames)?;
        let group = (chance.below(8) == 0).then(|| chance.below(GROUPS));
        let (begun, image) = (Instant::now(), Part::File("image", &frame.picture));
        let answer = match group {
            Some(group) => client.post(
                "/process_frame",
                FORM,
                &form(&[Part::Text("group", &roll::group(group)), image]),
            ),
            None if chance.below(2) == 0 => client.post("/process_frame", FORM, &form(&[image])),
            None => client.post("/process_frame", "image/png", &frame.picture),
        };
        let took = begun.elapsed();
        if let Outcome::Done(json) = self.good("frame", answer, 200) {
            self.tally.took(took);
            if seen(&json, "recognized_faces") != frame.seen {
                self.tally.fail(format!(
                    "frame: not what was seen before the load, {:?}: {json}",
                    frame.seen
                ));
            }
            for id in names(&json) {
                if people::index(id)
                    .is_some_and(|index| self.people.is_out_since(index, group, begun))
                {
                    self.tally.fail(format!("frame: {id} was deleted, or not in group {group:?}, before it was asked: {json}"));
                }
            }
        }
        Ok(())
    }

    /// Asks for faces without storing.
    fn faces(&self, client: &Client, chance: &mut Chance) -> Result<()> {
        let [a, b] = [chance.one_of(&self.frames)?, chance.one_of(&self.frames)?];
        let kind = "faces without storing";
        let (answer, at) = match chance.below(3) {
            0 => (client.post("/v1/detect", "image/png", &a.picture), ""),
            1 => (
                client.post(
                    "/v1/embeddings",
                    FORM,
                    &form(&[Part::File("image", &a.picture)]),
                ),
                "",
            ),
            _ => (
                client.post(
                    "/v1/compare",
                    FORM,
                    &form(&[Part::File("a", &a.picture), Part::File("b", &b.picture)]),
                ),
                "/a",
            ),
        };
        if let Outcome::Done(json) = self.good(kind, answer, 200)
            && seen(json.pointer(at).unwrap_or(&Value::Null), "faces") != a.seen
        {
            self.tally.fail(format!(
                "{kind}: not what was seen before the load, {:?}: {json}",
                a.seen
            ));
        }
        Ok(())
    }

    /// Enrols somebody anew, whoever was there under the id.
    fn enrol(&self, client: &Client, chance: &mut Chance) {
        let bits = 1 + chance.below(15) as u8;
        if chance.below(20) == 0 {
            let id = format!("contested-{}", chance.below(CONTESTED));
            self.good(
                "enrolment",
                client.post("/process-images", FORM, &self.photos_of(Some(&id), 0, bits)),
                200,
            );
            return;
        }
        let Some(mut claim) = self.people.claim(chance.below(people::PEOPLE), false) else {
            return;
        };
        let body = self.photos_of(
            Some(&people::id(claim.index)),
            claim.index % FACES.len(),
            bits,
        );
        let answer = client.post("/process-images", FORM, &body);
        if let Some(json) = self.changed(&mut claim, "enrolment", answer, 200) {
            claim.known.photos = bits;
            self.accepted("enrolment", &json, bits.count_ones() as usize);
        }
    }

    /// Adds a photo to those of somebody, or one that they have already, which is refused.
    fn add_photo(&self, client: &Client, chance: &mut Chance) {
        let Some(mut claim) = self.people.claim(chance.below(people::PEOPLE), true) else {
            return self.enrol(client, chance);
        };
        let bit = 1 << chance.below(PHOTOS.len());
        let is_new = claim.known.photos & bit == 0;
        let body = self.photos_of(None, claim.index % FACES.len(), bit);
        let answer = client.post(
            &format!("/v1/people/{}/photos", people::id(claim.index)),
            FORM,
            &body,
        );
        let kind = "more photos";
        let json = self.changed(&mut claim, kind, answer, if is_new { 200 } else { 400 });
        if let Some(json) = json.filter(|_| is_new) {
            claim.known.photos |= bit;
            self.accepted(kind, &json, 1);
        }
    }

    fn accepted(&self, kind: &str, json: &Value, wanted: usize) {
        if json
            .pointer("/accepted")
            .and_then(Value::as_array)
            .map(Vec::len)
            != Some(wanted)
        {
            self.tally.fail(format!(
                "{kind}: not the {wanted} photos that were sent: {json}"
            ));
        }
    }

    /// Deletes somebody, who is most often there.
    fn delete(&self, client: &Client, chance: &mut Chance) {
        if chance.below(20) == 0 {
            let id = format!("contested-{}", chance.below(CONTESTED));
            self.good(
                "deletion",
                client.admin(Method::DELETE, &format!("/v1/people/{id}")),
                200,
            );
            return;
        }
        let there = chance.below(5) > 0;
        let Some(mut claim) = self.people.claim(chance.below(people::PEOPLE), there) else {
            return self.enrol(client, chance);
        };
        let answer = client.admin(
            Method::DELETE,
            &format!("/v1/people/{}", people::id(claim.index)),
        );
        if let Some(json) = self.changed(&mut claim, "deletion", answer, 200) {
            self.says("deletion", &json, "/deleted", claim.known.photos > 0);
            (claim.known.photos, claim.known.groups) = (0, 0);
        }
    }

    /// Puts somebody into a group, or takes them out.
    fn group(&self, client: &Client, chance: &mut Chance) {
        let there = chance.below(5) > 0;
        let Some(mut claim) = self.people.claim(chance.below(people::PEOPLE), there) else {
            return self.enrol(client, chance);
        };
        let (group, is_in) = (chance.below(GROUPS), claim.known.photos > 0);
        let path = format!(
            "/v1/groups/{}/people/{}",
            roll::group(group),
            people::id(claim.index)
        );
        let (bit, kind) = (1 << group, "groups");
        let was_member = claim.known.groups & bit != 0;
        if chance.below(3) == 0 {
            if let Some(json) =
                self.changed(&mut claim, kind, client.admin(Method::DELETE, &path), 200)
            {
                claim.known.groups &= !bit;
                self.says(kind, &json, "/changed", was_member);
            }
        } else if let Some(json) = self.changed(
            &mut claim,
            kind,
            client.admin(Method::PUT, &path),
            if is_in { 200 } else { 404 },
        ) && is_in
        {
            claim.known.groups |= bit;
            self.says(kind, &json, "/changed", !was_member);
        }
    }

    /// Asks the operator's questions.
    fn look_up(&self, client: &Client, chance: &mut Chance) {
        let kind = "look-ups";
        if chance.below(4) == 0 {
            let path = chance.below(3);
            let path = ["/metrics", "/v1/groups", "/v1/people?limit=1000"]
                .get(path)
                .copied()
                .unwrap_or("/v1/revisions");
            self.good(kind, client.admin(Method::GET, path), 200);
            return;
        }
        let Some(claim) = self.people.claim(chance.below(people::PEOPLE), true) else {
            return self.enrol(client, chance);
        };
        let answer = client.admin(
            Method::GET,
            &format!("/v1/people/{}", people::id(claim.index)),
        );
        if let Outcome::Done(json) = self.good(kind, answer, 200)
            && let Some(wrong) = roll::differs(&json, &claim.known)
        {
            self.tally.fail(format!("{kind}: {wrong}"));
        }
    }

    fn says(&self, kind: &str, json: &Value, field: &str, wanted: bool) {
        if json.pointer(field) != Some(&Value::Bool(wanted)) {
            self.tally
                .fail(format!("{kind}: {field} is not {wanted}: {json}"));
        }
    }
}

fn seen(json: &Value, faces: &str) -> Seen {
    let number = |path: &str| json.pointer(path).and_then(Value::as_u64);
    let count = json
        .pointer(&format!("/{faces}"))
        .and_then(Value::as_array)
        .map_or(usize::MAX, Vec::len);
    let left = json
        .pointer(&format!("/{faces}/0/bbox/0"))
        .and_then(Value::as_f64);
    (
        number("/frame/width"),
        number("/frame/height"),
        count,
        left.map(|left| left.round() as i64),
    )
}

/// Everybody who is named in a frame's answer, also as a candidate.
fn names(json: &Value) -> impl Iterator<Item = &str> {
    let faces = || {
        json.pointer("/recognized_faces")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let candidates = faces()
        .filter_map(|face| face.pointer("/candidates")?.as_array())
        .flatten();
    faces()
        .chain(candidates)
        .filter_map(|one| one.pointer("/identity")?.as_str())
}
