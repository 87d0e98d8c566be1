//! The people who are stored: who they are, what they are matched by, their groups, and their end.

use std::sync::Arc;

use rostro_common::cancel::CancelScope;
use rostro_common::ids::{ContractId, PersonId};
use rostro_common::sample::Sample;
use rostro_gallery::Removal;
use rostro_gallery::groups::{Change, GroupId, Groups};
use rostro_sandbox::pipeline::revision::Revision;

use super::{Service, ServiceError};
use crate::audit::{Action, ActionOutcome};
use crate::deployment::Actor;
use crate::executor::RequestContext;
use crate::people::PersonLock;

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

    /// The groups of people.
    pub fn groups(&self) -> &Groups {
        self.people.groups()
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
            groups: self.groups().of(id),
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

    /// Records a change of a person's groups.
    pub fn note_membership<E>(
        &self,
        actor: &Actor,
        action: Action,
        change: &Result<Option<Change>, E>,
        id: &PersonId,
    ) {
        let is_changed = |change: &Option<Change>| change.is_some_and(|change| change.changed);
        self.people
            .ledger()
            .note_changes(u64::from(change.as_ref().is_ok_and(is_changed)));
        let ending = change.as_ref().map_or(ActionOutcome::Failed, |change| {
            ActionOutcome::of_change(is_changed(change))
        });
        self.deployment.note_person(actor, action, ending, id);
    }

    /// Records the deletion of a group.
    pub fn note_group<E>(&self, actor: &Actor, change: &Result<Change, E>) {
        self.people.ledger().note_changes(u64::from(
            change.as_ref().is_ok_and(|change| change.changed),
        ));
        let ending = change.as_ref().map_or(ActionOutcome::Failed, |change| {
            ActionOutcome::of_change(change.changed)
        });
        self.deployment
            .note_gallery(actor, Action::DeleteGroup, ending);
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
    pub fn delete(&self, lock: &PersonLock, actor: &Actor) -> Result<Removal, ServiceError> {
        Ok(self.deployment.delete_person(lock, actor)?)
    }

    /// Puts a person into a group, which is made if there is none; nothing if there is no such
    /// person. Nobody is deleted meanwhile, and then in a group all the same: their turn is held.
    ///
    /// # Errors
    ///
    /// If the group cannot be written.
    pub fn add_to_group(
        &self,
        group: &GroupId,
        lock: &PersonLock,
    ) -> Result<Option<Change>, ServiceError> {
        let id = lock.id();
        if self.deployment.active().view.knows(id).is_none() {
            return Ok(None);
        }
        Ok(Some(
            self.groups()
                .add(group, id)
                .map_err(crate::people::PeopleError::from)?,
        ))
    }
}
