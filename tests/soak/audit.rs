//! Audit: compares the people on the server with the expected ones.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use ureq::http::Method;

use crate::clients::Clients;
use crate::harness::{file, text};
use crate::load::Load;
use crate::people::{self, Expected, GROUPS};

/// People on a page, few enough that the list has several pages.
const PAGE: usize = 50;

/// Result of an audit.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) expected: usize,
    /// Number of expected people that exist.
    pub(crate) found: usize,
    pub(crate) errors: Vec<String>,
}

/// Lists everyone on the server and has each expected person recognised.
pub(crate) fn audit(clients: &Clients, load: &Load) -> Result<Audit> {
    let listed = listed(clients)?;
    let mut audit = Audit::default();
    let people = load.people.all().into_iter().enumerate();
    for (index, expected) in people.filter(|(_, person)| !person.is_unknown) {
        let id = people::id(index);
        let exists = listed.contains(&id);
        let must_exist = expected.photos > 0;
        audit.expected += usize::from(must_exist);
        audit.found += usize::from(must_exist && exists);
        match (must_exist, exists) {
            (true, false) => audit
                .errors
                .push(format!("{id} was enrolled and is missing")),
            (false, true) => audit
                .errors
                .push(format!("{id} was deleted and still exists")),
            (true, true) => {
                let answer = clients.admin(Method::GET, &format!("/v1/people/{id}"))?;
                audit.errors.extend(difference(&answer.json, &expected));
                let photo = load.photo_of(index, expected.photos.trailing_zeros() as usize);
                audit.errors.extend(unrecognised(clients, &id, photo)?);
            }
            (false, false) => {}
        }
    }
    let is_known =
        |id: &String| id == "anchor" || id.starts_with("contested-") || people::index(id).is_some();
    let others = listed.iter().filter(|id| !is_known(id));
    audit
        .errors
        .extend(others.map(|id| format!("{id} exists and was never enrolled")));
    Ok(audit)
}

/// Returns an error unless a person is recognised by one of their photos. The load enrols the same
/// faces under many ids, so the search is limited to a group with only this person.
fn unrecognised(clients: &Clients, id: &str, photo: &[u8]) -> Result<Option<String>> {
    let path = format!("/v1/groups/audit/people/{id}");
    let answers = [
        clients.admin(Method::PUT, &path)?,
        clients.form(
            "/process_frame",
            &[text("group", "audit"), file("image", "photo.png", photo)],
        )?,
        clients.admin(Method::DELETE, &path)?,
    ];
    let identity = answers
        .iter()
        .find_map(|answer| answer.json.pointer("/recognized_faces/0/identity"));
    let is_recognised = answers.iter().all(|answer| answer.status == 200)
        && identity.and_then(Value::as_str) == Some(id);
    Ok((!is_recognised).then(|| format!("{id} is not recognised: {answers:?}")))
}

/// Returns all ids of the list, read page by page.
fn listed(clients: &Clients) -> Result<BTreeSet<String>> {
    let (mut ids, mut cursor) = (BTreeSet::new(), String::new());
    loop {
        let answer = clients.admin(Method::GET, &format!("/v1/people?limit={PAGE}{cursor}"))?;
        ensure!(answer.status == 200, "cannot list people: {answer:?}");
        let page = answer.json.pointer("/people").and_then(Value::as_array);
        for person in page.context("the list has no field `people`")? {
            let id = person.pointer("/id").and_then(Value::as_str);
            let id = id.context("a listed person has no id")?;
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

/// Compares a person on the server with the expected state.
pub(crate) fn difference(json: &Value, expected: &Expected) -> Option<String> {
    let list = |path| json.pointer(path).and_then(Value::as_array);
    let groups: Vec<String> = (0..GROUPS)
        .filter(|bit| expected.groups & 1 << bit != 0)
        .map(people::group)
        .collect();
    let photos = expected.photos.count_ones() as usize;
    let listed = list("/groups")
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let is_equal = list("/photos").map(Vec::len) == Some(photos) && listed.eq(groups.iter());
    (!is_equal).then(|| format!("expected {photos} photos and groups {groups:?}: {json}"))
}
