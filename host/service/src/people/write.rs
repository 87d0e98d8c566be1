//! Storing and deleting one person.

use std::sync::{Arc, PoisonError};

use jiff::Timestamp;

use rostro_common::ids::{CaseKeys, PersonId};
use rostro_common::sample::Sample;
use rostro_gallery::ChangeNumber;
use rostro_sessions::SessionStoreError;

use super::templates::TemplatesByView;
use super::views::ViewChange;
use super::{Deletion, People, PeopleError, PersonLock, PersonWrite, SampleLocation, View};

impl People {
    /// Replaces all samples of a person, of every contract. On return the person is recognised: in
    /// `own_view` by `templates`, in other views by the templates that their policies make of
    /// `samples`. A view without samples of its contract no longer recognises them.
    ///
    /// `samples` may have several contracts. Those of the first one's contract go into the person's
    /// own file, and only those with its enrolment are matched. Without `templates` the person is
    /// not recognised in `own_view`.
    ///
    /// # Errors
    ///
    /// If the store cannot be written. The person then is unchanged, or has only the samples of the
    /// first one's contract.
    pub(crate) fn replace(
        &self,
        id: &PersonId,
        samples: &[Sample],
        own_view: &Arc<View>,
        templates: &[Vec<f32>],
    ) -> Result<PersonWrite, PeopleError> {
        let enrolment = samples.first().and_then(|sample| sample.enrolment.clone());
        let contract = samples.first().and_then(|sample| sample.contract.clone());
        let is_matched = |sample: &&Sample| {
            sample.contract == contract || (enrolment.is_some() && sample.enrolment == enrolment)
        };
        let matched = samples.iter().filter(is_matched).cloned().collect();
        let templates = Some(templates).filter(|templates| !templates.is_empty());
        let mut by_view = self.templates_by_view(matched, own_view, templates);
        let reserved = self.reserve(id)?;
        let written = self.store.replace(id, samples)?;
        reserved.keep();
        by_view.make_missing(self.views.in_use());
        self.apply_own(written.number, &ViewChange::Replaced(id, &by_view))?;
        Ok(written)
    }

    /// Replaces a person's samples of one contract. Samples and views of other contracts stay. On
    /// return the person is recognised in `own_view` by `templates`.
    ///
    /// # Errors
    ///
    /// If the store cannot be written. The person is then unchanged.
    pub(crate) fn put(
        &self,
        id: &PersonId,
        samples: &[Sample],
        location: SampleLocation,
        own_view: &Arc<View>,
        templates: &[Vec<f32>],
    ) -> Result<PersonWrite, PeopleError> {
        let mut by_view = self.templates_by_view(samples.to_vec(), own_view, Some(templates));
        self.check_seen(id)?;
        let reserved = self.reserve(id)?;
        let written = self.store.put(id, samples, location)?;
        reserved.keep();
        by_view.make_missing(self.views.in_use());
        self.apply_own(written.number, &ViewChange::Added(id, &by_view))?;
        Ok(written)
    }

    /// Deletes a person from the groups, from the store, and from every view of any contract. A
    /// running enrolment of theirs ends first, because the caller holds the lock.
    ///
    /// # Errors
    ///
    /// If a group or the store cannot be written. The person may then still be recognised, unless
    /// the removal took effect and only the sync failed.
    pub(crate) fn delete(&self, lock: &PersonLock) -> Result<Deletion, PeopleError> {
        let id = lock.id();
        let deletion = self.store.delete_person(id)?;
        self.with_stored(|stored| stored.remove(id));
        self.apply_own(deletion.number, &ViewChange::Deleted(id))?;
        // An import adds people to a group without their locks, and may have added this one before
        // the views changed. From now on it sees that the person is gone.
        for group in self.store.groups().groups_of(id) {
            self.store.remove_from_group(&group, id)?;
        }
        let durable = deletion.durability.into_result()?;
        Ok(Deletion {
            durability: durable.into(),
            ..deletion
        })
    }

    /// Applies a change of this process to every view.
    pub(super) fn apply_own(
        &self,
        number: ChangeNumber,
        change: &ViewChange<'_>,
    ) -> Result<(), PeopleError> {
        self.apply(number, change)?;
        self.store.acknowledge(number);
        Ok(())
    }

    /// Applies a change to every view, and a deletion to the sessions.
    pub(super) fn apply(
        &self,
        number: ChangeNumber,
        change: &ViewChange<'_>,
    ) -> Result<(), PeopleError> {
        let applied = self.views.apply(number, change);
        // After the views, so that no later frame names the person.
        if let ViewChange::Deleted(id) = change {
            self.remove_from_sessions(id)?;
        }
        Ok(applied?)
    }

    /// Removes a person from the sessions.
    pub(super) fn remove_from_sessions(&self, id: &PersonId) -> Result<(), PeopleError> {
        if let Some(sessions) = &self.sessions {
            sessions
                .remove_person(id, Timestamp::now())
                .map_err(PeopleError::Sessions)?;
        }
        Ok(())
    }

    /// Removes people from the sessions who were deleted before this start: a crash interrupted the
    /// deletion, or another node deleted them. Returns their number.
    ///
    /// Only a tombstone counts, because a person of a damaged file, or of a folder that is not
    /// mounted, may come back.
    ///
    /// # Errors
    ///
    /// If the sessions cannot be written.
    pub fn remove_deleted_from_sessions(&self) -> Result<usize, PeopleError> {
        let Some(sessions) = &self.sessions else {
            return Ok(0);
        };
        let mut people = sessions.people();
        if people.is_empty() {
            return Ok(0);
        }
        let tombstones = self
            .store
            .tombstones()
            .map_err(|error| PeopleError::Sessions(SessionStoreError::Tombstones(error)))?;
        people.retain(|id| tombstones.has(id));
        let (stored, _) = self.ids()?;
        people.retain(|id| !stored.contains(id));
        for id in &people {
            sessions
                .remove_person(id, Timestamp::now())
                .map_err(PeopleError::Sessions)?;
        }
        Ok(people.len())
    }

    /// Makes a person's templates in all views but `own_view`, before any lock is taken.
    pub(super) fn templates_by_view(
        &self,
        samples: Vec<Sample>,
        own_view: &Arc<View>,
        templates: Option<&[Vec<f32>]>,
    ) -> TemplatesByView {
        let mut by_view = TemplatesByView::new(samples).with(own_view, templates);
        by_view.make_missing(self.views.in_use());
        by_view
    }

    /// Reserves an id for a write, so that no other person gets it in other case meanwhile.
    ///
    /// # Errors
    ///
    /// [`PeopleError::IdTaken`] if another person has it in other case.
    fn reserve<'p>(&'p self, id: &'p PersonId) -> Result<IdReservation<'p>, PeopleError> {
        let is_new = self.with_stored(|stored| {
            if stored.is_taken(id) {
                Err(PeopleError::IdTaken)
            } else {
                Ok(stored.insert(id))
            }
        });
        Ok(IdReservation {
            people: self,
            id,
            is_released: is_new.transpose()?.unwrap_or(false),
        })
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

    /// Calls `work` on the stored ids; does nothing before the store was loaded.
    pub(super) fn with_stored<T>(&self, work: impl FnOnce(&mut CaseKeys) -> T) -> Option<T> {
        self.stored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
            .map(work)
    }
}

/// A reserved id. Dropping it releases a new id, because the write has failed.
struct IdReservation<'p> {
    people: &'p People,
    id: &'p PersonId,
    is_released: bool,
}

impl IdReservation<'_> {
    /// Keeps the id, because the person is written.
    fn keep(mut self) {
        self.is_released = false;
    }
}

impl Drop for IdReservation<'_> {
    fn drop(&mut self) {
        if self.is_released {
            self.people.with_stored(|stored| stored.remove(self.id));
        }
    }
}
