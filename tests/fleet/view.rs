//! Reading of what each node says after all faults are healed.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checker::{Fact, View};
use super::cluster::{Cluster, Node};
use super::history::{History, Span};
use super::load::Caller;
use super::people::Person;

/// People on a page of a list.
const PAGE: usize = 1000;

/// Reads the lists of people and groups of all nodes. Returns `None` if a node does not answer.
pub(crate) fn lists(cluster: &Cluster, history: &History) -> Option<Vec<BTreeSet<Fact>>> {
    let callers = callers(cluster, history)?;
    callers.iter().map(facts).collect()
}

/// Reads what all nodes say, and has each listed person recognised by each node.
pub(crate) fn read(cluster: &Cluster, history: &History) -> Option<Vec<View>> {
    let callers = callers(cluster, history)?;
    callers.iter().map(|caller| view(caller, history)).collect()
}

fn callers<'h>(cluster: &Cluster, history: &'h History) -> Option<Vec<Caller<'h>>> {
    let caller = |node: &Node| {
        Some(Caller {
            history,
            node: node.number,
            addresses: node.addresses()?,
        })
    };
    cluster.nodes.iter().map(caller).collect()
}

fn view(caller: &Caller<'_>, history: &History) -> Option<View> {
    let begin = history.now();
    let facts = facts(caller)?;
    let end = history.now();
    let people = facts.iter().filter_map(|fact| match fact {
        Fact::Enrolled { person } => Some(Person::new(person.clone())),
        Fact::Member { .. } => None,
    });
    let recognized = people
        .filter(|person| caller.recognizes(person))
        .map(|person| person.id)
        .collect();
    Some(View {
        node: caller.node,
        span: Span { begin, end },
        facts,
        recognized,
    })
}

fn facts(caller: &Caller<'_>) -> Option<BTreeSet<Fact>> {
    let mut facts = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page = caller.read(&format!("/v1/people?limit={PAGE}{cursor}"))?;
        for person in page.pointer("/people")?.as_array()? {
            facts.insert(Fact::Enrolled {
                person: person.pointer("/id")?.as_str()?.to_owned(),
            });
        }
        match page.pointer("/next_cursor").and_then(Value::as_str) {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let groups = caller.read("/v1/groups")?;
    for group in groups.pointer("/groups")?.as_array()? {
        let group = group.pointer("/group")?.as_str()?;
        let members = caller.read(&format!("/v1/groups/{group}"))?;
        for person in members.pointer("/people")?.as_array()? {
            facts.insert(Fact::Member {
                person: person.as_str()?.to_owned(),
                group: group.to_owned(),
            });
        }
    }
    Some(facts)
}
