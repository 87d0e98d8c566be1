//! Storing many people at once.

use std::sync::Arc;

use rostro_common::ids::{ContractId, PersonId};
use rostro_common::sample::Sample;
use rostro_gallery::{BatchOutcome, ByContract};

use super::view::View;
use super::{People, PeopleError, TemplateOutcome};

/// A person to be stored in place of all that is stored under the id.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub id: PersonId,
    /// Samples by contract; readers of the folder see those of the first.
    pub contracts: Vec<(ContractId, Vec<Sample>)>,
    /// What the view that they are stored by matches them by; none if it has none of the samples.
    pub templates: Option<Vec<Vec<f32>>>,
}

impl People {
    /// Stores people, each in place of all that was stored of them, of every contract; recognised
    /// from the return on, in `own` by their templates, in other views by those that their policies
    /// make. The turn of each is held. Returns what became of each.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be written; those who are not [`BatchOutcome::Stored`] are then as before.
    pub(crate) fn replace_all(
        &self,
        people: &[Replacement],
        own: &Arc<View>,
    ) -> (Vec<BatchOutcome>, Result<(), PeopleError>) {
        let files: Vec<ByContract<'_>> = people
            .iter()
            .map(|person| (&person.id, person.contracts.as_slice()))
            .collect();
        let (outcomes, written) = self.gallery.replace_all(&files);
        let stored = || {
            people
                .iter()
                .zip(&outcomes)
                .filter(|(_, outcome)| **outcome == BatchOutcome::Stored)
                .map(|(person, _)| person)
        };
        let shown = stored().try_for_each(|person| self.show(person, own));
        self.ledger.note_changes(stored().count() as u64);
        (outcomes, written.map_err(PeopleError::from).and(shown))
    }

    /// Changes a person who was written in every view.
    fn show(&self, person: &Replacement, own: &Arc<View>) -> Result<(), PeopleError> {
        let Replacement {
            id,
            contracts,
            templates,
        } = person;
        // Of another enrolment than the first contract's, samples are stored and not in force.
        let enrolment = contracts
            .first()
            .and_then(|(_, samples)| samples.first())
            .and_then(|sample| sample.enrolment.clone());
        let in_force = |sample: &&Sample| enrolment.is_some() && sample.enrolment == enrolment;
        let mut samples: Vec<Sample> = contracts
            .first()
            .map(|(_, samples)| samples.clone())
            .unwrap_or_default();
        samples.extend(
            contracts
                .iter()
                .skip(1)
                .flat_map(|(_, samples)| samples)
                .filter(in_force)
                .cloned(),
        );
        // Other policies are asked before the lock is taken.
        let made = self.made_by_others(&samples, own);
        let views = self.locked();
        self.with_stored(|stored| stored.insert(id));
        match templates {
            Some(templates) => own.upsert(id, templates)?,
            None => own.forget(id)?,
        }
        for (view, seen) in made.in_all(&views, &samples) {
            match seen {
                TemplateOutcome::As(templates) => view.upsert(id, &templates)?,
                // Samples of its contract were removed with the rest.
                TemplateOutcome::NotAtAll | TemplateOutcome::Wrongly => view.forget(id)?,
            }
        }
        Ok(())
    }
}
