//! Load: a random mix of the requests of clients and operators, with a check of every answer.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use serde_json::Value;
use ureq::http::Method;

use crate::clients::Clients;
use crate::harness::{Answer, Part, file, root, text};
use crate::people::{self, Claim, GROUPS, PEOPLE, People};
use crate::stats::{Outcome, Stats};
use crate::{audit, bad_input};

/// Names of the drawn faces and of the photos of each.
const FACES: [&str; 4] = ["alice", "bob", "carol", "dave"];
const PHOTOS: [&str; 4] = ["1", "2", "3", "probe"];

/// Member of every group from the start, so that each group exists.
const ANCHOR: &str = "anchor";

/// Number of people that several threads change at a time without a claim. Their final state is
/// random, but no request may fail.
const CONTESTED: usize = 3;

/// Pause after a rejection. It is shorter than the server asks for, so that the server stays at its
/// limit.
const PAUSE: Duration = Duration::from_millis(250);

/// A picture and what the server detected in it before the load. Under load, it must detect the
/// same.
#[derive(Debug)]
pub(crate) struct Frame {
    picture: Vec<u8>,
    detected: Detected,
}

/// Width and height of a frame, the number of faces, and the left edge of the first in whole
/// pixels.
type Detected = (Option<u64>, Option<u64>, usize, Option<i64>);

/// State that all threads share.
#[derive(Debug)]
pub(crate) struct Load {
    frames: Vec<Frame>,
    photos: Vec<Vec<Vec<u8>>>,
    pub(crate) people: People,
    pub(crate) stats: Stats,
}

impl Load {
    /// Reads the pictures, sends each once, and creates the groups.
    pub(crate) fn prepare(clients: &Clients) -> Result<Self> {
        let folder = root().join("models/testing/frames");
        let read = |name: String| {
            fs::read(folder.join(&name)).with_context(|| format!("cannot read {name}"))
        };
        let photos_of = |face: &&str| -> Result<Vec<_>> {
            PHOTOS
                .iter()
                .map(|photo| read(format!("{face}-{photo}.png")))
                .collect()
        };
        let photos: Vec<Vec<Vec<u8>>> = FACES.iter().map(photos_of).collect::<Result<_>>()?;
        let others = ["empty", "faint", "group", "one-pixel", "stranger"]
            .map(|name| read(format!("{name}.png")));
        let pictures = photos.iter().flatten().cloned().map(Ok).chain(others);
        let frames = pictures.map(|picture| {
            let picture = picture?;
            let answer = clients.post("/process_frame", "image/png", &picture)?;
            ensure!(
                answer.status == 200,
                "cannot recognise before the load: {answer:?}"
            );
            let detected = detected(&answer.json, "recognized_faces");
            Ok(Frame { picture, detected })
        });
        let load = Self {
            frames: frames.collect::<Result<_>>()?,
            photos,
            people: People::new(),
            stats: Stats::default(),
        };
        let answer = clients.form("/process-images", &load.enrolment(ANCHOR, 0, 1))?;
        ensure!(
            answer.status == 200,
            "cannot enrol before the load: {answer:?}"
        );
        for group in (0..GROUPS).map(people::group) {
            let path = format!("/v1/groups/{group}/people/{ANCHOR}");
            let answer = clients.admin(Method::PUT, &path)?;
            ensure!(answer.status == 200, "cannot create a group: {answer:?}");
        }
        Ok(load)
    }

    /// Sends requests until `until`.
    pub(crate) fn send(&self, clients: &Clients, rng: &mut Rng, until: Instant) -> Result<()> {
        while Instant::now() < until && !self.stats.must_stop() {
            match rng.usize(..100) {
                0..66 => self.recognize(clients, rng)?,
                66..68 => self.look_up(clients, rng),
                68..70 => self.change_group(clients, rng),
                70..82 => self.enrol(clients, rng),
                82..87 => self.delete(clients, rng),
                87..92 => self.add_photo(clients, rng),
                92..95 => self.detect(clients, rng)?,
                _ => bad_input::send(clients, rng, &self.stats, self.photo(0, 0))?,
            }
        }
        Ok(())
    }

    /// Returns a photo of a person's face.
    pub(crate) fn photo_of(&self, person: usize, photo: usize) -> &[u8] {
        self.photo(person % FACES.len(), photo)
    }

    fn photo(&self, face: usize, photo: usize) -> &[u8] {
        let photos = self.photos.get(face);
        photos
            .and_then(|photos| photos.get(photo))
            .map_or(&[], Vec::as_slice)
    }

    /// Returns the photos of a face with set bits, as parts of a form.
    fn parts(&self, face: usize, bits: u8) -> Vec<Part> {
        (0..PHOTOS.len())
            .filter(|photo| bits & 1 << photo != 0)
            .map(|photo| file("images", "photo.png", self.photo(face, photo)))
            .collect()
    }

    fn enrolment(&self, id: &str, face: usize, bits: u8) -> Vec<Part> {
        let mut parts = vec![text("student_id", id)];
        parts.extend(self.parts(face, bits));
        parts
    }

    /// Records the answer to a valid request.
    fn record(&self, kind: &'static str, answer: Result<Answer>, wanted: u16) -> Outcome {
        let outcome = self.stats.record(kind, answer, wanted);
        if matches!(outcome, Outcome::Rejected) {
            std::thread::sleep(PAUSE);
        }
        outcome
    }

    /// Records the answer to a change of a claimed person. Returns it if the change succeeded.
    fn record_change(
        &self,
        claim: &mut Claim<'_>,
        kind: &'static str,
        answer: Result<Answer>,
        wanted: u16,
    ) -> Option<Value> {
        match self.record(kind, answer, wanted) {
            Outcome::Done(json) => Some(json),
            Outcome::Rejected => None,
            Outcome::Failed => {
                claim.expected.is_unknown = true;
                None
            }
        }
    }

    /// Recognises the faces of a frame, among all people or in a group.
    fn recognize(&self, clients: &Clients, rng: &mut Rng) -> Result<()> {
        let frame = self.frame(rng)?;
        let group = (rng.u8(..8) == 0).then(|| rng.usize(..GROUPS));
        let begun = Instant::now();
        let image = || file("image", "photo.png", frame.picture.as_slice());
        let answer = match group {
            Some(group) => {
                let group = text("group", &people::group(group));
                clients.form("/process_frame", &[group, image()])
            }
            None if rng.bool() => clients.form("/process_frame", &[image()]),
            None => clients.post("/process_frame", "image/png", &frame.picture),
        };
        let time = begun.elapsed();
        let Outcome::Done(json) = self.record("frame", answer, 200) else {
            return Ok(());
        };
        self.stats.record_time(time);
        self.compare("frame", frame, detected(&json, "recognized_faces"), &json);
        for id in identities(&json) {
            let is_absent = |person| self.people.is_absent_since(person, group, begun);
            if people::index(id).is_some_and(is_absent) {
                self.stats.fail(format!(
                    "frame: {id} was deleted, or left group {group:?}, before the request: {json}"
                ));
            }
        }
        Ok(())
    }

    fn frame(&self, rng: &mut Rng) -> Result<&Frame> {
        rng.choice(&self.frames).context("there are no frames")
    }

    fn compare(&self, kind: &str, frame: &Frame, detected: Detected, json: &Value) {
        if detected != frame.detected {
            let before = frame.detected;
            self.stats.fail(format!(
                "{kind}: expected {before:?} as before the load: {json}"
            ));
        }
    }

    /// Detects, embeds or compares faces without storing them.
    fn detect(&self, clients: &Clients, rng: &mut Rng) -> Result<()> {
        let (first, second) = (self.frame(rng)?, self.frame(rng)?);
        let part = |name, frame: &Frame| file(name, "photo.png", frame.picture.as_slice());
        let kind = "faces without storing";
        let (answer, result) = match rng.u8(..3) {
            0 => (clients.post("/v1/detect", "image/png", &first.picture), ""),
            1 => (clients.form("/v1/embeddings", &[part("image", first)]), ""),
            _ => {
                let parts = [part("a", first), part("b", second)];
                (clients.form("/v1/compare", &parts), "/a")
            }
        };
        if let Outcome::Done(json) = self.record(kind, answer, 200) {
            let faces = json.pointer(result).unwrap_or(&Value::Null);
            self.compare(kind, first, detected(faces, "faces"), &json);
        }
        Ok(())
    }

    /// Enrols a person, replacing earlier photos.
    fn enrol(&self, clients: &Clients, rng: &mut Rng) {
        let bits = rng.u8(1..16);
        if rng.u8(..20) == 0 {
            let parts = self.enrolment(&contested(rng), 0, bits);
            self.record("enrolment", clients.form("/process-images", &parts), 200);
            return;
        }
        let Some(mut claim) = self.people.claim(rng.usize(..PEOPLE), false) else {
            return;
        };
        let parts = self.enrolment(&people::id(claim.index), claim.index % FACES.len(), bits);
        let answer = clients.form("/process-images", &parts);
        if let Some(json) = self.record_change(&mut claim, "enrolment", answer, 200) {
            claim.expected.photos = bits;
            self.expect_accepted("enrolment", &json, bits.count_ones() as usize);
        }
    }

    /// Adds a photo to a person. A photo that the person already has must be rejected.
    fn add_photo(&self, clients: &Clients, rng: &mut Rng) {
        let Some(mut claim) = self.people.claim(rng.usize(..PEOPLE), true) else {
            return self.enrol(clients, rng);
        };
        let bit = 1 << rng.usize(..PHOTOS.len());
        let is_new = claim.expected.photos & bit == 0;
        let (kind, wanted) = ("more photos", if is_new { 200 } else { 400 });
        let path = format!("/v1/people/{}/photos", people::id(claim.index));
        let answer = clients.form(&path, &self.parts(claim.index % FACES.len(), bit));
        let json = self.record_change(&mut claim, kind, answer, wanted);
        if let Some(json) = json.filter(|_| is_new) {
            claim.expected.photos |= bit;
            self.expect_accepted(kind, &json, 1);
        }
    }

    fn expect_accepted(&self, kind: &str, json: &Value, wanted: usize) {
        let accepted = json.pointer("/accepted").and_then(Value::as_array);
        if accepted.map(Vec::len) != Some(wanted) {
            self.stats
                .fail(format!("{kind}: expected {wanted} accepted photos: {json}"));
        }
    }

    /// Deletes a person, in most cases an enrolled one.
    fn delete(&self, clients: &Clients, rng: &mut Rng) {
        if rng.u8(..20) == 0 {
            let path = format!("/v1/people/{}", contested(rng));
            self.record("deletion", clients.admin(Method::DELETE, &path), 200);
            return;
        }
        let must_be_enrolled = rng.u8(..5) > 0;
        let Some(mut claim) = self.people.claim(rng.usize(..PEOPLE), must_be_enrolled) else {
            return self.enrol(clients, rng);
        };
        let path = format!("/v1/people/{}", people::id(claim.index));
        let answer = clients.admin(Method::DELETE, &path);
        if let Some(json) = self.record_change(&mut claim, "deletion", answer, 200) {
            self.expect("deletion", &json, "/deleted", claim.expected.photos > 0);
            (claim.expected.photos, claim.expected.groups) = (0, 0);
        }
    }

    /// Adds a person to a group, or removes one.
    fn change_group(&self, clients: &Clients, rng: &mut Rng) {
        let must_be_enrolled = rng.u8(..5) > 0;
        let Some(mut claim) = self.people.claim(rng.usize(..PEOPLE), must_be_enrolled) else {
            return self.enrol(clients, rng);
        };
        let (group, is_enrolled) = (rng.usize(..GROUPS), claim.expected.photos > 0);
        let (name, id) = (people::group(group), people::id(claim.index));
        let path = format!("/v1/groups/{name}/people/{id}");
        let (bit, kind) = (1 << group, "groups");
        let was_member = claim.expected.groups & bit != 0;
        if rng.u8(..3) == 0 {
            let answer = clients.admin(Method::DELETE, &path);
            if let Some(json) = self.record_change(&mut claim, kind, answer, 200) {
                claim.expected.groups &= !bit;
                self.expect(kind, &json, "/changed", was_member);
            }
            return;
        }
        let wanted = if is_enrolled { 200 } else { 404 };
        let answer = clients.admin(Method::PUT, &path);
        if let Some(json) = self.record_change(&mut claim, kind, answer, wanted)
            && is_enrolled
        {
            claim.expected.groups |= bit;
            self.expect(kind, &json, "/changed", !was_member);
        }
    }

    /// Reads a person, a list or the metrics.
    fn look_up(&self, clients: &Clients, rng: &mut Rng) {
        let kind = "look-ups";
        if rng.u8(..4) == 0 {
            let paths = ["/metrics", "/v1/groups", "/v1/people?limit=1000"];
            let path = rng.choice(paths).unwrap_or("/v1/revisions");
            self.record(kind, clients.admin(Method::GET, path), 200);
            return;
        }
        let Some(claim) = self.people.claim(rng.usize(..PEOPLE), true) else {
            return self.enrol(clients, rng);
        };
        let path = format!("/v1/people/{}", people::id(claim.index));
        if let Outcome::Done(json) = self.record(kind, clients.admin(Method::GET, &path), 200)
            && let Some(difference) = audit::difference(&json, &claim.expected)
        {
            self.stats.fail(format!("{kind}: {difference}"));
        }
    }

    fn expect(&self, kind: &str, json: &Value, field: &str, wanted: bool) {
        if json.pointer(field) != Some(&Value::Bool(wanted)) {
            self.stats
                .fail(format!("{kind}: expected {field} to be {wanted}: {json}"));
        }
    }
}

fn contested(rng: &mut Rng) -> String {
    format!("contested-{}", rng.usize(..CONTESTED))
}

fn detected(json: &Value, faces: &str) -> Detected {
    let number = |path: &str| json.pointer(path).and_then(Value::as_u64);
    let list = json.pointer(&format!("/{faces}")).and_then(Value::as_array);
    let left = json
        .pointer(&format!("/{faces}/0/bbox/0"))
        .and_then(Value::as_f64);
    (
        number("/frame/width"),
        number("/frame/height"),
        list.map_or(usize::MAX, Vec::len),
        left.map(|left| left.round() as i64),
    )
}

/// Returns every id that the answer to a frame names, including candidates.
fn identities(json: &Value) -> impl Iterator<Item = &str> {
    let faces = || {
        let faces = json.pointer("/recognized_faces").and_then(Value::as_array);
        faces.into_iter().flatten()
    };
    let candidates = faces()
        .filter_map(|face| face.pointer("/candidates")?.as_array())
        .flatten();
    faces()
        .chain(candidates)
        .filter_map(|face| face.pointer("/identity")?.as_str())
}
