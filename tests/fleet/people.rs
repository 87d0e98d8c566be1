//! People that the load enrols and deletes.

use std::sync::{Arc, Mutex};

use super::faces;

/// A person with a picture of their face.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) picture: Arc<[u8]>,
}

impl Person {
    /// Returns the person with an id.
    pub(crate) fn new(id: String) -> Self {
        Self {
            picture: faces::picture(&id).into(),
            id,
        }
    }
}

/// A place for one person at a time.
#[derive(Clone, Debug)]
struct Place {
    person: Person,
    generation: usize,
    /// Set after an unclear change. The checker can conclude little about such a person.
    is_spent: bool,
}

/// The current person of each place. A person is replaced after a deletion, because the checker
/// can conclude most about people with few changes, all of them answered.
#[derive(Debug)]
pub(crate) struct People(Mutex<Vec<Place>>);

/// A person who was chosen for an operation.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) person: Person,
    pub(crate) is_spent: bool,
    place: usize,
    generation: usize,
}

impl People {
    /// Returns the first people of this number of places.
    pub(crate) fn new(places: usize) -> Self {
        let place = |place| Place {
            person: Person::new(id(place, 0)),
            generation: 0,
            is_spent: false,
        };
        Self(Mutex::new((0..places).map(place).collect()))
    }

    /// Chooses a person at random.
    pub(crate) fn choose(&self, rng: &mut fastrand::Rng) -> Choice {
        let places = self.0.lock().unwrap();
        let index = rng.usize(..places.len());
        let place = places[index].clone();
        Choice {
            person: place.person,
            is_spent: place.is_spent,
            place: index,
            generation: place.generation,
        }
    }

    /// Records that a change of a person is unclear.
    pub(crate) fn spend(&self, choice: &Choice) {
        let place = &mut self.0.lock().unwrap()[choice.place];
        place.is_spent |= place.generation == choice.generation;
    }

    /// Replaces a person, unless another client did.
    pub(crate) fn replace(&self, choice: &Choice) {
        // Drawing takes a while.
        let generation = choice.generation + 1;
        let person = Person::new(id(choice.place, generation));
        let place = &mut self.0.lock().unwrap()[choice.place];
        if place.generation == choice.generation {
            *place = Place {
                person,
                generation,
                is_spent: false,
            };
        }
    }
}

fn id(place: usize, generation: usize) -> String {
    format!("person-{place}-{generation}")
}
