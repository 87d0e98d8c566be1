//! Management of stored people: listing, templates, groups and deletion.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_common::cancel::CancelScope;
use rostro_common::ids::{ContractId, PersonId};
use rostro_common::sample::Sample;
use rostro_gallery::groups::{GroupId, GroupIndex, GroupsError, Members};
use rostro_gallery::{Deletion, GroupChange, Lease, SharedChange};
use rostro_sandbox::pipeline::revision::Revision;

use crate::audit::{Action, ActionOutcome};
use crate::deployment::Actor;
use crate::executor::{ReplySender, RequestContext};
use crate::people::{PeopleError, PersonLock};
use crate::{Service, ServiceError};

/// A stored person.
#[derive(Debug)]
pub struct StoredPerson {
    /// The samples of all contracts.
    pub samples: Vec<Sample>,
    /// Whether the person must be enrolled again before the active revision recognises them.
    pub needs_enrolment: bool,
    /// The groups that have the person as a member.
    pub groups: Vec<GroupId>,
}

/// The templates by which the active revision matches a person.
#[derive(Debug)]
pub struct PersonTemplates {
    /// The contract of the vectors.
    pub contract: ContractId,
    /// The length of each vector.
    pub dimension: usize,
    /// The vectors; empty if the person has no samples of this contract.
    pub vectors: Vec<Vec<f32>>,
}

/// Permission to recognise people from memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Permission {
    Leased(Lease),
    /// Without a lease, because an operator allows it. The last renewal was this long ago.
    Stale(Duration),
}

impl Service {
    /// Returns the revision that serves.
    pub fn active(&self) -> Arc<Revision> {
        Arc::clone(&self.deployment.active().revision)
    }

    /// Returns the groups as the last change left them.
    pub fn groups(&self) -> &GroupIndex {
        self.people.store().groups()
    }

    /// Returns up to `most` people after `after` in the order of their ids, each with whether they
    /// must be enrolled again.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoLease`].
    pub fn people_after(
        &self,
        after: Option<&PersonId>,
        most: usize,
    ) -> Result<Vec<(PersonId, bool)>, ServiceError> {
        let lease = self.take_lease()?;
        let people = self.deployment.active().view.list(after, most);
        self.check_lease(lease)?;
        Ok(people)
    }

    /// Returns every group with the number of its members.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoLease`].
    pub fn list_groups(&self) -> Result<Vec<(GroupId, usize)>, ServiceError> {
        let lease = self.take_lease()?;
        let groups = self.groups().list();
        self.check_lease(lease)?;
        Ok(groups)
    }

    /// Returns the members of a group, or none if the group does not exist.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoLease`].
    pub fn group_members(&self, group: &GroupId) -> Result<Option<Members>, ServiceError> {
        let lease = self.take_lease()?;
        let members = self.groups().members(group);
        self.check_lease(lease)?;
        Ok(members)
    }

    /// Returns the lease under which this node may answer from memory. A request takes it before it
    /// takes a view.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoLease`].
    pub(crate) fn take_lease(&self) -> Result<Lease, ServiceError> {
        self.deployment.lease().ok_or(ServiceError::NoLease)
    }

    /// Checks after the work that the lease is still valid.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoLease`]: the answer may be outdated.
    pub(crate) fn check_lease(&self, lease: Lease) -> Result<(), ServiceError> {
        match self.people.store().lease() {
            Some(current) if current == lease => Ok(()),
            _ => Err(ServiceError::NoLease),
        }
    }

    /// Returns the permission to recognise people from memory. A request takes it before it takes a
    /// view.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoLease`].
    pub(crate) fn take_permission(&self) -> Result<Permission, ServiceError> {
        match self.deployment.lease() {
            Some(lease) => Ok(Permission::Leased(lease)),
            None => self
                .deployment
                .stale_age()
                .map(Permission::Stale)
                .ok_or(ServiceError::NoLease),
        }
    }

    /// Checks after the work that this node may still answer. Returns the age of the answer if no
    /// lease covers it.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NoLease`]: the answer may be outdated.
    pub(crate) fn check_permission(
        &self,
        permission: Permission,
    ) -> Result<Option<Duration>, ServiceError> {
        let store = self.people.store();
        let (current, stale) = (store.lease(), store.stale_age());
        let age = match (permission, current, stale) {
            (Permission::Leased(lease), Some(current), _) if lease == current => return Ok(None),
            (Permission::Leased(_), _, Some(age)) => age,
            (Permission::Stale(begun), _, Some(age)) => age.max(begun),
            // Stale reads ended meanwhile, and the request began before.
            (Permission::Stale(begun), Some(_), None) => begun,
            (Permission::Leased(_) | Permission::Stale(_), _, None) => {
                return Err(ServiceError::NoLease);
            }
        };
        self.deployment.count_stale_answer();
        Ok(Some(age))
    }

    /// Returns true if this node may recognise people from memory.
    pub fn can_recognize(&self) -> bool {
        self.deployment.can_recognize()
    }

    /// Returns true if the circuit breaker tripped on this node of a fleet alone.
    pub fn is_tripped(&self) -> bool {
        self.deployment.is_tripped()
    }

    /// Returns true if an operator drains this node.
    pub fn is_draining(&self) -> bool {
        self.deployment.is_draining()
    }

    /// Returns a person, or none if the person does not exist.
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

    /// Returns a person's templates, or none if the person does not exist. The policy makes them on
    /// a worker.
    ///
    /// # Errors
    ///
    /// If what is stored cannot be read, or the policy cannot make templates of it.
    pub async fn templates(
        self: &Arc<Self>,
        id: PersonId,
        context: &RequestContext,
    ) -> Result<Option<PersonTemplates>, ServiceError> {
        let work = {
            let service = Arc::clone(self);
            move |scope: CancelScope, reply: ReplySender<Option<PersonTemplates>, ServiceError>| {
                reply.send(service.make_templates(&id, &scope));
            }
        };
        self.executor.run(context, work).await
    }

    fn make_templates(
        &self,
        id: &PersonId,
        scope: &CancelScope,
    ) -> Result<Option<PersonTemplates>, ServiceError> {
        let Some(samples) = self.people.samples(id)? else {
            return Ok(None);
        };
        let active = self.deployment.active();
        let vectors = active.view.templates_of(&samples, scope)?;
        let contract = active.revision.contract();
        Ok(Some(PersonTemplates {
            contract: contract.id.clone(),
            dimension: contract.dimension,
            vectors: vectors.unwrap_or_default(),
        }))
    }

    /// Locks a person for a change. The wait occupies no thread.
    ///
    /// # Errors
    ///
    /// If the lock is not free before the deadline.
    pub async fn lock(&self, id: &PersonId) -> Result<PersonLock, ServiceError> {
        Ok(self.people.locks().take(id, self.deadline()).await?)
    }

    /// Records that a caller read a person's templates, or was refused.
    pub fn record_embedding(
        &self,
        actor: &Actor,
        read: &Result<Option<PersonTemplates>, ServiceError>,
        id: &PersonId,
    ) {
        let outcome = match read {
            Ok(Some(templates)) if !templates.vectors.is_empty() => ActionOutcome::Done,
            Ok(_) => ActionOutcome::Refused,
            Err(_) => ActionOutcome::Failed,
        };
        self.deployment
            .record_person(actor, Action::ReadEmbedding, outcome, id);
    }

    /// Deletes a person, and waits until no node recognises them any more.
    ///
    /// # Errors
    ///
    /// If the gallery or a group cannot be written. [`ServiceError::Pending`] if the person is
    /// deleted and another node may still recognise them.
    pub fn delete(&self, lock: PersonLock, actor: &Actor) -> Result<Deletion, ServiceError> {
        let deletion = self.deployment.delete_person(&lock, actor)?;
        self.drop_outdated_streams();
        // This node follows the feed as the others do, and must not wait for this lock.
        drop(lock);
        self.wait_applied(&deletion.shared, self.deadline())?;
        Ok(deletion)
    }

    /// Waits until every node has applied a change.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Pending`] if a node may answer from before it.
    pub(crate) fn wait_applied(
        &self,
        change: &SharedChange,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        let store = self.people.store();
        Ok(store.wait_applied(change, deadline)?)
    }

    /// Adds a person to a group, and creates the group if it does not exist. Returns none if the
    /// person does not exist. The lock keeps the person from being deleted meanwhile.
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
        let store = self.people.store();
        let change = match self.deployment.active().view.knows(id) {
            Some(_) => store
                .add_to_group(group, std::slice::from_ref(id))
                .map(Some),
            None => Ok(None),
        };
        self.record_membership(actor, Action::AddToGroup, &change, id);
        let change = change.map_err(PeopleError::from)?;
        // The lock does not keep another node from deleting the person.
        if change.is_some() && store.is_shared() && self.people.samples(id)?.is_none() {
            let removed = store.remove_from_group(group, id);
            removed.map_err(PeopleError::from)?;
            return Ok(None);
        }
        Ok(change)
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
        self.record_membership(actor, Action::RemoveFromGroup, &change, id);
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
            .record_gallery(actor, Action::DeleteGroup, outcome);
        Ok(change.map_err(PeopleError::from)?)
    }

    /// Records a change of a person's groups in the audit log.
    fn record_membership(
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
        self.deployment.record_person(actor, action, outcome, id);
    }
}
