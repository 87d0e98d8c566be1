//! The people who are stored: who they are, what they are matched by, their groups, and their end.

use std::sync::Arc;

use rostro_common::cancel::CancelScope;
use rostro_common::person::{ContractId, PersonId, Sample};
use rostro_gallery::groups::{GroupId, GroupIndex, GroupsError};
use rostro_gallery::{Deletion, GroupChange};
use rostro_sandbox::pipeline::revision::Revision;

use super::{Service, ServiceError};
use crate::audit::{Action, ActionOutcome};
use crate::deployment::Actor;
use crate::executor::RequestContext;
use crate::people::{PeopleError, PersonLock};

/// A person who is stored.
#[derive(Debug)]
pub struct StoredPerson {
    /// What is kept of their photos, of every contract.
    pub samples: Vec<Sample>,
    /// Whether they must be enrolled again before the active revision recognises them.
    pub needs_enrolment: bool,
    pub groups: Vec<GroupId>,
}

/// What a person is matched by.
#[derive(Debug)]
pub struct PersonTemplates {
    pub contract: ContractId,
    pub dimension: usize,
    /// None where their samples are of another contract.
    pub vectors: Vec<Vec<f32>>,
}

impl Service {
    /// The revision that serves.
    pub fn active(&self) -> Arc<Revision> {
        Arc::clone(&self.deployment.active().revision)
    }

    /// Returns the groups as the last change left them.
    pub fn groups(&self) -> &GroupIndex {
        self.people.store().groups()
    }

    /// Up to `most` people in the order of their ids, from the first after `after` on; each with
    /// whether they must be enrolled again.
    pub fn people_after(&self, after: Option<&PersonId>, most: usize) -> Vec<(PersonId, bool)> {
        self.deployment.active().view.list(after, most)
    }

    /// A person; nothing if there is no such person.
    ///
    /// # Errors
    ///
    /// If what is stored cannot be read.
    pub fn person(&self, id: &PersonId) -> Result<Option<StoredPerson>, ServiceError> {
        let Some(samples) = self.people.samples(id)? else {
            return Ok(None);
        };
        let needs_enrolment = self.deployment.active().view.knows(id).unwrap_or(true);
        Ok(Some(StoredPerson {
            samples,
            needs_enrolment,
            groups: self.groups().groups_of(id),
        }))
    }

    /// What the active revision matches a person by; nothing if there is no such person.
    ///
    /// # Errors
    ///
    /// If what is stored cannot be read, or the policy cannot make templates of it.
    pub async fn templates(
        self: &Arc<Self>,
        id: PersonId,
        context: &RequestContext,
    ) -> Result<Option<PersonTemplates>, ServiceError> {
        let service = Arc::clone(self);
        let make = move |wanted: CancelScope| {
            let Some(samples) = service.people.samples(&id)? else {
                return Ok(None);
            };
            let live = service.deployment.active();
            let vectors = live
                .view
                .templates_of(&samples, &wanted)?
                .unwrap_or_default();
            let contract = live.revision.contract();
            Ok(Some(PersonTemplates {
                contract: contract.id.clone(),
                dimension: contract.dimension,
                vectors,
            }))
        };
        // A policy makes them, which is work for a worker.
        self.executor
            .run(context, move |wanted| (make(wanted), ()))
            .await?
    }

    /// The right to change a person, waited for without a thread.
    ///
    /// # Errors
    ///
    /// If it does not come before the deadline.
    pub async fn lock(&self, id: &PersonId) -> Result<PersonLock, ServiceError> {
        Ok(self.people.locks().take(id, self.deadline()).await?)
    }

    /// Records that somebody read, or was refused, what a person is matched by.
    pub fn note_embedding(
        &self,
        actor: &Actor,
        read: &Result<Option<PersonTemplates>, ServiceError>,
        id: &PersonId,
    ) {
        let ending = match read {
            Ok(Some(templates)) if !templates.vectors.is_empty() => ActionOutcome::Done,
            Ok(_) => ActionOutcome::Refused,
            Err(_) => ActionOutcome::Failed,
        };
        self.deployment
            .note_person(actor, Action::ReadEmbedding, ending, id);
    }

    /// Deletes a person.
    ///
    /// # Errors
    ///
    /// If the gallery or a group cannot be written.
    pub fn delete(&self, lock: &PersonLock, actor: &Actor) -> Result<Deletion, ServiceError> {
        Ok(self.deployment.delete_person(lock, actor)?)
    }

    /// Adds a person to a group, which is made if it does not exist; none for an unknown person.
    /// The lock keeps them from being deleted meanwhile.
    ///
    /// # Errors
    ///
    /// If the group cannot be written.
    pub fn add_to_group(
        &self,
        group: &GroupId,
        lock: &PersonLock,
        actor: &Actor,
    ) -> Result<Option<GroupChange>, ServiceError> {
        let id = lock.id();
        let change = match self.deployment.active().view.knows(id) {
            Some(_) => self
                .people
                .store()
                .add_to_group(group, std::slice::from_ref(id))
                .map(Some),
            None => Ok(None),
        };
        self.note_membership(actor, Action::AddToGroup, &change, id);
        Ok(change.map_err(PeopleError::from)?)
    }

    /// Removes a person from a group; none if the group does not exist.
    ///
    /// # Errors
    ///
    /// If the group cannot be written.
    pub fn remove_from_group(
        &self,
        group: &GroupId,
        id: &PersonId,
        actor: &Actor,
    ) -> Result<Option<GroupChange>, ServiceError> {
        let change = self.people.store().remove_from_group(group, id);
        self.note_membership(actor, Action::RemoveFromGroup, &change, id);
        Ok(change.map_err(PeopleError::from)?)
    }

    /// Deletes a group, and no person in it.
    ///
    /// # Errors
    ///
    /// If the group cannot be removed.
    pub fn delete_group(
        &self,
        group: &GroupId,
        actor: &Actor,
    ) -> Result<GroupChange, ServiceError> {
        let change = self.people.store().delete_group(group);
        let outcome = match &change {
            Ok(change) => ActionOutcome::of_change(change.is_changed()),
            Err(_) => ActionOutcome::Failed,
        };
        self.deployment
            .note_gallery(actor, Action::DeleteGroup, outcome);
        Ok(change.map_err(PeopleError::from)?)
    }

    /// Records a change of a person's groups in the audit log.
    fn note_membership(
        &self,
        actor: &Actor,
        action: Action,
        change: &Result<Option<GroupChange>, GroupsError>,
        id: &PersonId,
    ) {
        let outcome = match change {
            Ok(change) => {
                ActionOutcome::of_change(change.is_some_and(|change| change.is_changed()))
            }
            Err(_) => ActionOutcome::Failed,
        };
        self.deployment.note_person(actor, action, outcome, id);
    }
}
