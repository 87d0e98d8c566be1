//! Storing many people at once.

use std::sync::Arc;

use rostro_common::person::{ContractId, PersonId, Sample};
use rostro_gallery::{BatchOutcome, BatchWritten, ByContract, ChangeNumber};

use super::view::View;
use super::views::Change;
use super::{People, PeopleError};

/// A person to be stored in place of all samples under the id.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub id: PersonId,
    /// Samples by contract; readers of the folder see those of the first.
    pub contracts: Vec<(ContractId, Vec<Sample>)>,
    /// The templates in the view of the import; none without samples of its contract.
    pub templates: Option<Vec<Vec<f32>>>,
}

impl People {
    /// Stores people, each in place of all samples under their id, of every contract. They are
    /// recognised from the return on, in `own` by their templates, in other views by those that
    /// their policies make. The lock of each is held.
    ///
    /// # Errors
    ///
    /// If templates do not fit an index. A failure of the store is in the outcome.
    pub(crate) fn replace_all(
        &self,
        people: &[Replacement],
        own: &Arc<View>,
    ) -> Result<BatchWritten, PeopleError> {
        let files: Vec<ByContract<'_>> = people
            .iter()
            .map(|person| (&person.id, person.contracts.as_slice()))
            .collect();
        let written = self.store.replace_all(&files);
        for (person, outcome) in people.iter().zip(&written.outcomes) {
            if let BatchOutcome::Stored(number) = outcome {
                self.show(*number, person, own)?;
            }
        }
        Ok(written)
    }

    /// Applies the change of one person to every view.
    fn show(
        &self,
        number: ChangeNumber,
        person: &Replacement,
        own: &Arc<View>,
    ) -> Result<(), PeopleError> {
        let made = self.templates_by_view(person.in_force(), own, person.templates.as_deref());
        self.with_stored(|stored| stored.insert(&person.id));
        self.views
            .apply(number, &Change::Replaced(&person.id, &made))?;
        Ok(())
    }
}

impl Replacement {
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
