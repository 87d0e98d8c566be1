//! Storing many people at once.

use std::sync::Arc;

use rostro_common::ids::{ContractId, PersonId};
use rostro_common::sample::Sample;
use rostro_gallery::{BatchOutcome, BatchWrite, ChangeNumber, Durability, PersonSamples};

use super::view::View;
use super::views::ViewChange;
use super::{People, PeopleError};

/// Replacement of all samples of a person.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub id: PersonId,
    /// Samples by contract. Other readers of the folder see the first contract.
    pub contracts: Vec<(ContractId, Vec<Sample>)>,
    /// Templates in the view of the import; none without samples of its contract.
    pub templates: Option<Vec<Vec<f32>>>,
}

/// Result of replacing many people.
#[derive(Debug)]
pub(crate) struct ReplacedPeople {
    /// Outcome of each person, in their order.
    pub outcomes: Vec<BatchOutcome>,
    /// Whether the changes survive a crash.
    pub durability: Durability,
    /// The first failure of the store or of a view.
    pub failure: Option<PeopleError>,
}

impl People {
    /// Replaces all samples of people, of every contract. On return they are recognised: in
    /// `own_view` by their templates, in other views by the templates of those policies. The caller
    /// holds each person's lock.
    ///
    /// The outcomes say who is stored, also after a failure.
    pub(crate) fn replace_all(
        &self,
        people: &[Replacement],
        own_view: &Arc<View>,
    ) -> ReplacedPeople {
        let samples: Vec<Vec<Sample>> = people.iter().map(Replacement::samples).collect();
        let writes: Vec<PersonSamples<'_>> = people
            .iter()
            .zip(&samples)
            .map(|(person, samples)| (&person.id, samples.as_slice()))
            .collect();
        let BatchWrite {
            outcomes,
            durability,
            failure,
        } = self.store.replace_all(&writes);
        let mut failure = failure.map(PeopleError::from);
        for (person, outcome) in people.iter().zip(&outcomes) {
            if let BatchOutcome::Stored(number) = outcome
                && let Err(error) = self.apply_replacement(*number, person, own_view)
            {
                failure.get_or_insert(error);
            }
        }
        ReplacedPeople {
            outcomes,
            durability,
            failure,
        }
    }

    /// Applies the replacement of one person to every view.
    fn apply_replacement(
        &self,
        number: ChangeNumber,
        person: &Replacement,
        own_view: &Arc<View>,
    ) -> Result<(), PeopleError> {
        let templates =
            self.templates_by_view(person.in_force(), own_view, person.templates.as_deref());
        self.with_stored(|stored| stored.insert(&person.id));
        self.apply_own(number, &ViewChange::Replaced(&person.id, &templates))
    }
}

impl Replacement {
    /// Returns all samples, each with its contract.
    fn samples(&self) -> Vec<Sample> {
        let with_contract = |(contract, samples): &(ContractId, Vec<Sample>)| {
            let contract = Some(contract.clone());
            let set = move |sample: &Sample| Sample {
                contract: contract.clone(),
                ..sample.clone()
            };
            samples.iter().map(set).collect::<Vec<_>>()
        };
        self.contracts.iter().flat_map(with_contract).collect()
    }

    /// Returns the samples that are matched: those of the first contract, and those of others with
    /// the same enrolment.
    fn in_force(&self) -> Vec<Sample> {
        let Some(((_, first), others)) = self.contracts.split_first() else {
            return Vec::new();
        };
        let enrolment = first.first().and_then(|sample| sample.enrolment.as_ref());
        let others = others.iter().flat_map(|(_, samples)| samples);
        let is_matched =
            |sample: &&Sample| enrolment.is_some() && sample.enrolment.as_ref() == enrolment;
        first
            .iter()
            .chain(others.filter(is_matched))
            .cloned()
            .collect()
    }
}
