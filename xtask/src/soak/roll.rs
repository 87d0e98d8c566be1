//! The roll call: whether everybody is there who must be, as they must be, and nobody else.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use ureq::http::Method;

use super::client::{Client, FORM, Part, form};
use super::load::{GROUPS, Load};
use super::people::{self, Known};

/// People on a page: so few that the list has several.
const PAGE: usize = 50;

/// What a roll call found.
#[derive(Debug)]
pub(super) struct Roll {
    pub(super) expected: usize,
    /// Of those who were expected.
    pub(super) found: usize,
    pub(super) wrong: Vec<String>,
}

/// A group's name.
pub(super) fn group(group: usize) -> String {
    format!("door-{group}")
}

/// Asks the service for everybody, and has each of them recognised.
pub(super) fn call(client: &Client, load: &Load) -> Result<Roll> {
    let listed = listed(client)?;
    let mut roll = Roll {
        expected: 0,
        found: 0,
        wrong: Vec::new(),
    };
    for (index, known) in load
        .people
        .all()
        .into_iter()
        .enumerate()
        .filter(|(_, known)| !known.doubtful)
    {
        let id = people::id(index);
        let is_there = listed.contains(&id);
        let must_be = known.photos > 0;
        roll.expected += usize::from(must_be);
        roll.found += usize::from(must_be && is_there);
        match (must_be, is_there) {
            (true, false) => roll
                .wrong
                .push(format!("{id} was enrolled and is not there")),
            (false, true) => roll.wrong.push(format!("{id} was deleted and is there")),
            (true, true) => {
                roll.wrong.extend(differs(
                    &client.admin(Method::GET, &format!("/v1/people/{id}"))?.json,
                    &known,
                ));
                let photo = load.photo_of(index, known.photos.trailing_zeros() as usize);
                roll.wrong.extend(is_recognised(client, &id, photo)?.err());
            }
            (false, false) => {}
        }
    }
    let ours =
        |id: &String| id == "anchor" || id.starts_with("contested-") || people::index(id).is_some();
    roll.wrong.extend(
        listed
            .iter()
            .filter(|id| !ours(id))
            .map(|id| format!("{id} is there, whom nobody enrolled")),
    );
    Ok(roll)
}

/// Whether the search finds somebody by their own photo. The same faces are enrolled under many
/// ids, so they are asked for in a group of their own.
fn is_recognised(client: &Client, id: &str, photo: &[u8]) -> Result<Result<(), String>> {
    let path = format!("/v1/groups/roll/people/{id}");
    let answers = [
        client.admin(Method::PUT, &path)?,
        client.post(
            "/process_frame",
            FORM,
            &form(&[Part::Text("group", "roll"), Part::File("image", photo)]),
        )?,
        client.admin(Method::DELETE, &path)?,
    ];
    let named = answers
        .iter()
        .find_map(|answer| answer.json.pointer("/recognized_faces/0/identity"));
    let is_right = answers.iter().all(|answer| answer.status == 200)
        && named.and_then(Value::as_str) == Some(id);
    Ok(if is_right {
        Ok(())
    } else {
        Err(format!("{id} is not recognised: {answers:?}"))
    })
}

/// Every id of the list, page by page.
fn listed(client: &Client) -> Result<BTreeSet<String>> {
    let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let answer = client.admin(Method::GET, &format!("/v1/people?limit={PAGE}{cursor}"))?;
        ensure!(answer.status == 200, "the list of people: {answer:?}");
        let page = answer
            .json
            .pointer("/people")
            .and_then(Value::as_array)
            .context("no people in the list")?;
        for person in page {
            let id = person
                .pointer("/id")
                .and_then(Value::as_str)
                .context("a person without an id")?;
            ensure!(
                ids.insert(id.to_owned()),
                "{id} is on two pages of the list"
            );
        }
        match answer.json.pointer("/next_cursor").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(ids),
        }
    }
}

/// How a person is other than what is known of them.
pub(super) fn differs(json: &Value, known: &Known) -> Option<String> {
    let photos = json
        .pointer("/photos")
        .and_then(Value::as_array)
        .map(Vec::len);
    let groups = json
        .pointer("/groups")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let wanted: Vec<String> = (0..GROUPS)
        .filter(|bit| known.groups & 1 << bit != 0)
        .map(group)
        .collect();
    let is_right = photos == Some(known.photos.count_ones() as usize)
        && groups.eq(wanted.iter().map(String::as_str));
    (!is_right).then(|| {
        format!(
            "not {} photos and the groups {wanted:?}: {json}",
            known.photos.count_ones()
        )
    })
}
