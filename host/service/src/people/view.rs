//! People as one contract and one policy see them.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::{ContractId, PersonId};
use rostro_common::sample::Sample;
use rostro_index::{AlikePair, Candidate, Index, IndexError, Method};
use rostro_sandbox::component::Function;
use rostro_sandbox::limits::Limits;
use rostro_sandbox::pipeline::revision::{Contract, Revision};
use rostro_sandbox::pipeline::templates::Templates;

use super::{PeopleError, ViewReport};

/// Key of a view. Two revisions share a view if their embeddings are comparable and the same rule
/// makes templates of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ViewKey {
    contract: ContractId,
    policy: Sha256Digest,
    /// Settings of the policy, which may affect templates.
    settings: Sha256Digest,
    /// Limits of the policy that may make it fail: neither time nor the state of streams, which
    /// templates have not.
    limits: Limits,
}

impl ViewKey {
    pub(super) fn of(revision: &Revision) -> Self {
        let (policy, _) = revision.component(Function::Template);
        Self {
            contract: revision.contract().id.clone(),
            policy: policy.digest(),
            settings: revision.template_settings_digest(),
            limits: policy.limits().of_templates(),
        }
    }

    /// Returns the digest under which the templates of such a view are kept.
    pub(super) fn digest(&self) -> Sha256Digest {
        let Self {
            contract,
            policy,
            settings,
            limits,
        } = self;
        let mut text = format!("{contract}\n{policy}\n{settings}\n");
        for (name, value) in limits.values() {
            text.push_str(&format!("{name}={value}\n"));
        }
        Sha256Digest::of(text.as_bytes())
    }
}

/// Templates of every person with samples of one contract, as one policy makes them.
pub struct View {
    key: ViewKey,
    contract: Contract,
    templates: Templates,
    index: Index,
    members: Mutex<ViewMembers>,
    /// Whether the policy failed on a person's templates while it was not active.
    failed: AtomicBool,
}

/// Members of a view other than the people in its index.
#[derive(Debug, Default)]
struct ViewMembers {
    /// Stored people that must be enrolled with this contract before they are recognised.
    missing: HashSet<PersonId>,
    /// People that were written since the filling began, and so are newer than the stored samples;
    /// none once the view is filled.
    written: Option<HashSet<PersonId>>,
}

impl View {
    /// Creates an empty view, to be filled.
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

    /// Returns the contract of its embeddings.
    pub(crate) fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Returns the `k` nearest people to each face, most similar first.
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

    /// Returns the `k` nearest of `people` to each face, most similar first.
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

    /// Returns the ids of all searchable people, sorted.
    pub(crate) fn known_ids(&self) -> Vec<PersonId> {
        let mut ids = self.index.ids();
        ids.sort();
        ids
    }

    /// Returns the people that are similar to these, see [`Index::alike`].
    pub(crate) fn alike(&self, ids: &[PersonId], limit: usize, threshold: f32) -> Vec<AlikePair> {
        self.index.alike(ids, limit, threshold)
    }

    /// Returns true if a stored person must be enrolled again before they are recognised; none if
    /// the person is not stored.
    pub(crate) fn knows(&self, id: &PersonId) -> Option<bool> {
        let needs_enrolment = self.members().missing.contains(id);
        (needs_enrolment || self.index.contains(id)).then_some(needs_enrolment)
    }

    /// Returns the number of recognisable people, and the number that must be enrolled again.
    pub fn counts(&self) -> (usize, usize) {
        (self.index.people(), self.members().missing.len())
    }

    /// Returns the number of people that `active` recognises and this view does not.
    pub(crate) fn people_lost_by_switching_from(&self, active: &Self) -> usize {
        self.members()
            .missing
            .iter()
            .filter(|id| active.index.contains(id))
            .count()
    }

    /// Returns up to `limit` people after the id `after`, sorted; each with true if they must be
    /// enrolled again.
    pub(crate) fn list(&self, after: Option<&PersonId>, limit: usize) -> Vec<(PersonId, bool)> {
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
        people.truncate(limit);
        people
    }

    /// Returns the templates that the policy makes of the samples of the contract; none without
    /// such samples.
    pub(crate) fn templates_of(
        &self,
        samples: &[Sample],
        scope: &CancelScope,
    ) -> Result<Option<Vec<Vec<f32>>>, PeopleError> {
        let embeddings = self.embeddings_of(samples);
        embeddings
            .map(|embeddings| self.make_templates(&embeddings, scope))
            .transpose()
    }

    /// Returns the embeddings of the contract; none without such samples.
    pub(super) fn embeddings_of(&self, samples: &[Sample]) -> Option<Vec<Vec<f32>>> {
        Some(matching_embeddings(samples, &self.contract)).filter(|found| !found.is_empty())
    }

    /// Returns the templates that the policy makes of embeddings, at least one.
    pub(super) fn make_templates(
        &self,
        embeddings: &[Vec<f32>],
        scope: &CancelScope,
    ) -> Result<Vec<Vec<f32>>, PeopleError> {
        Ok(self.templates.make(embeddings, scope)?)
    }

    /// Returns true if the policy may be asked for templates while it is not active.
    pub(super) fn is_complete(&self) -> bool {
        !self.failed.load(Ordering::Relaxed)
    }

    /// Excludes the policy from making templates while it is not active.
    pub(super) fn mark_incomplete(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Adds a person that was read from the gallery, unless they were written since.
    pub(super) fn fill(
        &self,
        id: &PersonId,
        templates: Option<&[Vec<f32>]>,
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
                self.index.upsert(id, templates)?;
                self.members().missing.remove(id);
                Ok(())
            }
            None => {
                self.note_missing(id);
                Ok(())
            }
        }
    }

    /// Marks the view as filled.
    pub(super) fn finish(&self) {
        self.members().written = None;
    }

    pub(super) fn is_filled(&self) -> bool {
        self.members().written.is_none()
    }

    /// Sets the templates of a person that was written.
    pub(super) fn upsert(&self, id: &PersonId, templates: &[Vec<f32>]) -> Result<(), IndexError> {
        self.index.upsert(id, templates)?;
        let mut members = self.members();
        members.missing.remove(id);
        members.note_written(id);
        Ok(())
    }

    /// Records a person that was written, or read, without samples of this contract. A person with
    /// older samples of it stays recognisable.
    pub(super) fn note_missing(&self, id: &PersonId) {
        if !self.index.contains(id) {
            self.members().missing.insert(id.clone());
        }
    }

    /// Stops recognising a stored person.
    pub(super) fn forget(&self, id: &PersonId) -> Result<(), IndexError> {
        self.index.upsert(id, &[])?;
        let mut members = self.members();
        members.missing.insert(id.clone());
        members.note_written(id);
        Ok(())
    }

    /// Removes a person that is no longer stored.
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

/// Returns the embeddings of a contract among samples.
pub(super) fn matching_embeddings(samples: &[Sample], contract: &Contract) -> Vec<Vec<f32>> {
    samples
        .iter()
        .filter(|sample| sample.embedding.len() == contract.dimension)
        .filter(|sample| sample.contract.as_ref() == Some(&contract.id))
        .map(|sample| sample.embedding.clone())
        .collect()
}
