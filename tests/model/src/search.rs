//! Breadth-first search over all states.
//!
//! The crate `stateright` does the same, but its explorer's web server cannot be left out, and it
//! would bring further versions of four crates, which `deny.toml` forbids.

use std::hash::{BuildHasher, BuildHasherDefault, Hasher};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::action::Action;
use crate::protocol::Protocol;
use crate::state::State;
use crate::successors::Successors;

/// Result of a search.
#[derive(Debug)]
pub struct Search {
    /// Number of distinct states that were found.
    pub states: usize,
    /// A shortest path to the goal; `None` if no path leads there.
    pub path: Option<Vec<Action>>,
}

/// Searches all states that a protocol can reach for the first that is a goal.
pub fn search(protocol: &Protocol, is_goal: impl Fn(&State) -> bool) -> Search {
    let hasher = BuildHasherDefault::<StateHasher>::default();
    let mut states = vec![State::initial(protocol)];
    let mut origins: Vec<Option<(u32, Action)>> = vec![None];
    let mut known = HashTable::new();
    let mut successors = Successors::new(protocol);
    let mut next = 0;
    while let Some(state) = states.get(next).copied() {
        if is_goal(&state) {
            let path = Some(path(&origins, next));
            let states = states.len();
            return Search { states, path };
        }
        successors.expand(state);
        for (action, state) in successors.found.drain(..) {
            let entry = known.entry(
                hasher.hash_one(state),
                |index: &u32| states.get(*index as usize) == Some(&state),
                |index: &u32| {
                    states
                        .get(*index as usize)
                        .map_or(0, |state| hasher.hash_one(state))
                },
            );
            if let Entry::Vacant(entry) = entry {
                entry.insert(states.len() as u32);
                states.push(state);
                origins.push(Some((next as u32, action)));
            }
        }
        next += 1;
    }
    let states = states.len();
    Search { states, path: None }
}

/// Returns the actions that led to a state.
fn path(origins: &[Option<(u32, Action)>], mut state: usize) -> Vec<Action> {
    let mut actions = Vec::new();
    while let Some(Some((before, action))) = origins.get(state) {
        actions.push(*action);
        state = *before as usize;
    }
    actions.reverse();
    actions
}

/// Fast hash of the few bytes of a state. Its input is not hostile.
#[derive(Default)]
struct StateHasher {
    /// Two halves, which the processor mixes at once.
    halves: (u64, u64),
}

impl StateHasher {
    fn mix(&mut self, value: u64) {
        // The odd number is 2^64 divided by the golden ratio.
        let mixed = (self.halves.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.halves = (self.halves.1, mixed);
    }
}

impl Hasher for StateHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.mix(u64::from(*byte)));
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        let hash = self.halves.0.rotate_left(32) ^ self.halves.1;
        hash ^ (hash >> 29)
    }
}
