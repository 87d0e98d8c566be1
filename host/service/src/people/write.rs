//! Storing and deleting one person.

use std::sync::{Arc, PoisonError};

use rostro_common::person::{CaseKeys, PersonId, Sample};

use super::templates::TemplatesByView;
use super::views::Change;
use super::{Deletion, People, PeopleError, PersonLock, SampleLocation, View, Written};

impl People {
    /// Stores a person in place of all samples under that id, of every contract. They are
    /// recognised from the return on: in `own` by `templates`, in other views by what their
    /// policies make of `samples`, and in a view without samples of its contract not at all.
    ///
    /// `samples` may be of several contracts. Those of the first one's contract go into the
    /// person's own file, and only those with its enrolment are matched. Without `templates` the
    /// person is not recognised in `own`.
    ///
    /// # Errors
    ///
    /// If the store cannot be written; the person is then as before, or has the samples of the
    /// first one's contract alone.
    pub(crate) fn replace(
        &self,
        id: &PersonId,
        samples: &[Sample],
        own: &Arc<View>,
        templates: &[Vec<f32>],
    ) -> Result<Written, PeopleError> {
        let enrolment = samples.first().and_then(|sample| sample.enrolment.clone());
        let contract = samples.first().and_then(|sample| sample.contract.clone());
        let is_matched = |sample: &&Sample| {
            sample.contract == contract || (enrolment.is_some() && sample.enrolment == enrolment)
        };
        let matched = samples.iter().filter(is_matched).cloned().collect();
        let templates = Some(templates).filter(|templates| !templates.is_empty());
        let mut made = self.templates_by_view(matched, own, templates);
        let written = self.write_as(id, || Ok(self.store.replace(id, samples)?))?;
        made.make_missing(self.views.in_use());
        self.views
            .apply(written.number, &Change::Replaced(id, &made))?;
        Ok(written)
    }

    /// Stores samples of one contract in place of the person's samples of that contract. Samples
    /// and views of other contracts stay as they are. The person is recognised from the return on,
    /// in `own` by `templates`.
    ///
    /// # Errors
    ///
    /// If the store cannot be written; the person is then as before.
    pub(crate) fn put(
        &self,
        id: &PersonId,
        samples: &[Sample],
        location: SampleLocation,
        own: &Arc<View>,
        templates: &[Vec<f32>],
    ) -> Result<Written, PeopleError> {
        let mut made = self.templates_by_view(samples.to_vec(), own, Some(templates));
        self.check_seen(id)?;
        let written = self.write_as(id, || Ok(self.store.put(id, samples, location)?))?;
        made.make_missing(self.views.in_use());
        self.views
            .apply(written.number, &Change::Added(id, &made))?;
        Ok(written)
    }

    /// Deletes a person: from the groups, from the store, and from every search before the return,
    /// whatever contract they are known by. An enrolment of theirs that is running ends first,
    /// because the lock is held.
    ///
    /// # Errors
    ///
    /// If a group or the store cannot be written; the person may be recognised as before then,
    /// unless they are gone and the disk failed.
    pub(crate) fn delete(&self, lock: &PersonLock) -> Result<Deletion, PeopleError> {
        let id = lock.id();
        let deletion = self.store.delete_person(id)?;
        self.with_stored(|stored| stored.remove(id));
        self.views.apply(deletion.number, &Change::Deleted(id))?;
        let durable = deletion.durability.into_result()?;
        Ok(Deletion {
            durability: durable.into(),
            ..deletion
        })
    }

    /// Asks the policies of all views but `own` for a person's templates, before any lock is taken.
    pub(super) fn templates_by_view(
        &self,
        samples: Vec<Sample>,
        own: &Arc<View>,
        templates: Option<&[Vec<f32>]>,
    ) -> TemplatesByView {
        let mut made = TemplatesByView::new(samples).with(own, templates);
        made.make_missing(self.views.in_use());
        made
    }

    /// Writes a person under an id that no other person has with other upper and lower case. A new
    /// id is reserved before the write, and released if that fails.
    fn write_as(
        &self,
        id: &PersonId,
        write: impl FnOnce() -> Result<Written, PeopleError>,
    ) -> Result<Written, PeopleError> {
        let is_new = self.reserve(id)?;
        let written = write();
        if written.is_err() && is_new {
            self.with_stored(|stored| stored.remove(id));
        }
        written
    }

    /// Reserves an id. Returns true if it is new.
    fn reserve(&self, id: &PersonId) -> Result<bool, PeopleError> {
        self.with_stored(|stored| {
            if stored.is_taken(id) {
                return Err(PeopleError::IdTaken);
            }
            Ok(stored.insert(id))
        })
        .unwrap_or(Ok(false))
    }

    /// Refuses a new id that differs only in case from one that is stored.
    ///
    /// # Errors
    ///
    /// [`PeopleError::IdTaken`].
    pub(crate) fn check_new(&self, id: &PersonId) -> Result<(), PeopleError> {
        match self.with_stored(|stored| stored.is_taken(id)) {
            Some(true) => Err(PeopleError::IdTaken),
            _ => Ok(()),
        }
    }

    /// Works on the stored ids; nothing before the store was loaded.
    pub(super) fn with_stored<T>(&self, work: impl FnOnce(&mut CaseKeys) -> T) -> Option<T> {
        self.stored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .map(work)
    }
}
