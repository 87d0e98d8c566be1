//! The people as one contract and one policy see them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::{ContractId, PersonId};
use rostro_common::sample::Sample;
use rostro_index::{AlikePair, Candidate, Index, IndexError, Method};
use rostro_sandbox::limits::Limits;
use rostro_sandbox::pipeline::revision::{Contract, Revision, Templates};

use super::{PeopleError, ViewReport};

/// What two revisions must have in common to share a view: embeddings that can be compared, and the
/// rule that makes templates of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ViewKey {
    contract: ContractId,
    policy: Sha256Digest,
    /// What the policy may read: it may make templates by it.
    settings: Sha256Digest,
    /// What the policy is held to but for time, which templates are not: under other limits it may
    /// fail, or be allowed less.
    limits: Limits,
}

impl ViewKey {
    pub(super) fn of(revision: &Revision) -> Self {
        let (policy, _) = revision.deciding();
        Self {
            contract: revision.contract().id.clone(),
            policy: policy.digest(),
            settings: revision.settings_digest(),
            limits: policy.limits().without_time_limit(),
        }
    }
}

/// Templates of everybody whom a contract knows, as one policy makes them.
pub struct View {
    key: ViewKey,
    contract: Contract,
    templates: Templates,
    index: Index,
    members: Mutex<ViewMembers>,
    /// Whether the policy failed at somebody's templates while another was active.
    failed: AtomicBool,
}

/// Who is in a view beside those whom its index knows.
#[derive(Debug, Default)]
struct ViewMembers {
    /// Stored, and not to be recognised before they are enrolled with this contract.
    missing: HashSet<PersonId>,
    /// While the view is filled from the gallery: who was written since, which is newer than what
    /// is read.
    written: Option<HashSet<PersonId>>,
}

impl View {
    /// A view without anybody, to be filled.
    pub(super) fn new(
        key: ViewKey,
        revision: &Arc<Revision>,
        method: Method,
        cores: Cores,
    ) -> Self {
        let contract = revision.contract().clone();
        let index = Index::new(contract.dimension, method, cores);
        let members = Mutex::new(ViewMembers {
            written: Some(HashSet::new()),
            ..ViewMembers::default()
        });
        Self {
            key,
            contract,
            templates: revision.templates(),
            index,
            members,
            failed: AtomicBool::new(false),
        }
    }

    pub(super) fn key(&self) -> &ViewKey {
        &self.key
    }

    /// What its embeddings mean.
    pub(crate) fn contract(&self) -> &Contract {
        &self.contract
    }

    /// For each face the `k` people nearest to it, most similar first.
    ///
    /// # Errors
    ///
    /// If an embedding does not fit the index.
    pub(crate) fn nearest(
        &self,
        embeddings: &[Vec<f32>],
        k: usize,
    ) -> Result<Vec<Vec<Candidate>>, IndexError> {
        self.index.nearest(embeddings, k)
    }

    /// The same of these people alone.
    ///
    /// # Errors
    ///
    /// If an embedding does not fit the index.
    pub(crate) fn nearest_among(
        &self,
        embeddings: &[Vec<f32>],
        k: usize,
        people: &HashSet<PersonId>,
    ) -> Result<Vec<Vec<Candidate>>, IndexError> {
        self.index.nearest_among(embeddings, k, people)
    }

    /// Returns everybody whom searches find, in the order of their ids.
    pub(crate) fn known_ids(&self) -> Vec<PersonId> {
        let mut ids = self.index.ids();
        ids.sort();
        ids
    }

    /// Returns the people who are alike to these, see [`Index::alike`].
    pub(crate) fn alike(&self, ids: &[PersonId], most: usize, threshold: f32) -> Vec<AlikePair> {
        self.index.alike(ids, most, threshold)
    }

    /// Whether a person is stored, and then whether they must be enrolled again before they are
    /// recognised.
    pub(crate) fn knows(&self, id: &PersonId) -> Option<bool> {
        let needs_enrolment = self.members().missing.contains(id);
        (needs_enrolment || self.index.contains(id)).then_some(needs_enrolment)
    }

    /// How many people can be recognised, and how many cannot before they are enrolled again.
    pub fn counts(&self) -> (usize, usize) {
        (self.index.people(), self.members().missing.len())
    }

    /// How many people `active` can recognise whom this cannot.
    pub(crate) fn people_lost_by_switching_from(&self, active: &Self) -> usize {
        self.members()
            .missing
            .iter()
            .filter(|id| active.index.contains(id))
            .count()
    }

    /// Up to `most` people in the order of their ids, from the first after `after` on; each with
    /// whether they must be enrolled again.
    pub(crate) fn list(&self, after: Option<&PersonId>, most: usize) -> Vec<(PersonId, bool)> {
        let is_next = |id: &PersonId| after.is_none_or(|after| id > after);
        let known = self.index.ids().into_iter().map(|id| (id, false));
        let missing = self
            .members()
            .missing
            .clone()
            .into_iter()
            .map(|id| (id, true));
        let mut people: Vec<(PersonId, bool)> =
            known.chain(missing).filter(|(id, _)| is_next(id)).collect();
        people.sort();
        people.truncate(most);
        people
    }

    /// The templates that the policy makes of those samples that are of the contract; none if none
    /// are.
    pub(crate) fn templates_of(
        &self,
        samples: &[Sample],
        scope: &CancelScope,
    ) -> Result<Option<Vec<Vec<f32>>>, PeopleError> {
        let embeddings = matched(samples, &self.contract);
        if embeddings.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.templates.of(&embeddings, scope)?))
    }

    /// Whether the policy may be asked for templates while another is active.
    pub(super) fn is_complete(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    /// Does not ask the policy any more while another is active.
    pub(super) fn mark_incomplete(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Takes a person up who was read from the gallery, unless they were written since.
    pub(super) fn fill(
        &self,
        id: &PersonId,
        templates: Option<Vec<Vec<f32>>>,
    ) -> Result<(), IndexError> {
        if self
            .members()
            .written
            .as_ref()
            .is_some_and(|written| written.contains(id))
        {
            return Ok(());
        }
        match templates {
            Some(templates) => {
                self.index.upsert(id, &templates)?;
                self.members().missing.remove(id);
                Ok(())
            }
            None => {
                self.note_missing(id);
                Ok(())
            }
        }
    }

    pub(super) fn filled(&self) {
        self.members().written = None;
    }

    pub(super) fn is_filled(&self) -> bool {
        self.members().written.is_none()
    }

    /// Sets the templates of a person who was written.
    pub(super) fn upsert(&self, id: &PersonId, templates: &[Vec<f32>]) -> Result<(), IndexError> {
        self.index.upsert(id, templates)?;
        let mut members = self.members();
        members.missing.remove(id);
        members.note_written(id);
        Ok(())
    }

    /// Takes note of a person who was written, or read, without samples of this contract. Who is
    /// known by older ones stays so.
    pub(super) fn note_missing(&self, id: &PersonId) {
        if !self.index.contains(id) {
            self.members().missing.insert(id.clone());
        }
    }

    /// No longer recognises a person who is stored.
    pub(super) fn forget(&self, id: &PersonId) -> Result<(), IndexError> {
        self.index.upsert(id, &[])?;
        let mut members = self.members();
        members.missing.insert(id.clone());
        members.note_written(id);
        Ok(())
    }

    /// Takes out a person who is no longer stored.
    pub(super) fn remove(&self, id: &PersonId) -> Result<(), IndexError> {
        self.index.upsert(id, &[])?;
        let mut members = self.members();
        members.missing.remove(id);
        members.note_written(id);
        Ok(())
    }

    pub(super) fn report(&self) -> ViewReport {
        let (known, need_enrolment) = self.counts();
        ViewReport {
            known,
            need_enrolment,
            ..ViewReport::default()
        }
    }

    fn members(&self) -> MutexGuard<'_, ViewMembers> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ViewMembers {
    fn note_written(&mut self, id: &PersonId) {
        if let Some(written) = &mut self.written {
            written.insert(id.clone());
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// The embeddings of a contract among samples.
pub(super) fn matched(samples: &[Sample], contract: &Contract) -> Vec<Vec<f32>> {
    samples
        .iter()
        .filter(|sample| sample.embedding.len() == contract.dimension)
        .filter(|sample| sample.contract.as_ref() == Some(&contract.id))
        .map(|sample| sample.embedding.clone())
        .collect()
}
