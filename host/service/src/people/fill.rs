//! Filling a view with the people of the store.

use std::sync::{Arc, PoisonError};

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::digest::Sha256Digest;
use rostro_common::ids::CaseKeys;
use rostro_common::parallel;
use rostro_gallery::{
    GalleryContents, KeptTemplates, PersonRecord, Problem, SampleFileError, SharedChange,
};
use rostro_sandbox::error::RunError;
use rostro_sandbox::pipeline::revision::Revision;

use super::view::{View, ViewKey};
use super::{People, PeopleError, ViewReport};

/// Number of people in a step: their templates are made, then added to the view. It bounds the
/// memory of samples and templates that exist twice, and the work after a failure.
const CHUNK: usize = 512;

/// Circumstances in which a view is filled.
#[derive(Clone, Copy, Debug)]
pub enum FillMode<'c> {
    /// No request is served: idle cores help, each with an instance of the policy.
    AtStart(&'c Cores),
    /// Requests are served, and need the other cores.
    WhileServing,
}

impl FillMode<'_> {
    fn cores(self) -> Cores {
        match self {
            Self::AtStart(cores) => cores.clone(),
            Self::WhileServing => Cores::single(),
        }
    }

    fn is_at_start(self) -> bool {
        matches!(self, Self::AtStart(_))
    }
}

/// A view that is being filled.
struct Filling<'v> {
    view: &'v View,
    mode: FillMode<'v>,
    scope: &'v CancelScope,
    /// Templates of an earlier start that were not used yet.
    kept: KeptTemplates,
    /// Templates to keep for later starts.
    templates: KeptTemplates,
    /// Numbers of people with kept templates, and with new ones.
    kept_count: usize,
    made_count: usize,
    /// People for whom no templates can be made.
    problems: Vec<Problem>,
}

/// Templates of a person before they are added to a view.
enum PersonTemplates {
    /// The person has no samples of the view's contract.
    None,
    /// The store has read them with the person.
    Stored,
    /// The store has these templates of samples with this digest.
    Kept(Sha256Digest, Vec<Vec<f32>>),
    /// The policy made them of these samples.
    Made(Sha256Digest, Vec<Vec<f32>>),
}

impl Filling<'_> {
    fn templates_of(&self, person: &PersonRecord) -> Result<PersonTemplates, PeopleError> {
        if person.templates.is_some() {
            return Ok(PersonTemplates::Stored);
        }
        let Some(embeddings) = self.view.embeddings_of(&person.samples) else {
            return Ok(PersonTemplates::None);
        };
        let samples = KeptTemplates::digest(&embeddings);
        // The templates may be used already, for another person with equal samples.
        let kept = self.kept.get(&samples);
        if let Some(kept) = kept.or_else(|| self.templates.get(&samples)) {
            return Ok(PersonTemplates::Kept(samples, kept.clone()));
        }
        let templates = self.view.make_templates(&embeddings, self.scope)?;
        Ok(PersonTemplates::Made(samples, templates))
    }
}

impl People {
    /// Returns the people as `revision` sees them: a view in use, or a new one with every person
    /// that the revision can recognise. Concurrent enrolments are applied to it.
    ///
    /// A person is matched by the samples of the revision's contract. Samples without one, written
    /// by the replaced service, belong to the contract of the first revision that read them. A
    /// person without usable samples is a [`Problem`], like an unreadable file. Damaged files are
    /// quarantined.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be read, or the scope ends.
    pub fn view(
        &self,
        revision: &Arc<Revision>,
        scope: &CancelScope,
        mode: FillMode<'_>,
    ) -> Result<(Arc<View>, ViewReport), PeopleError> {
        let key = ViewKey::of(revision);
        let contract = revision.contract();
        self.store
            .adopt_legacy(&contract.id, Some(contract.dimension));
        if let Some(view) = self.views.find(&key) {
            let report = view.report();
            return Ok((view, report));
        }
        // Registered before the store is read, so that no change is missed.
        let view = Arc::new(View::new(key, revision, self.method, self.cores.clone()));
        self.views.add(&view);
        let key = view.key().digest();
        // A folder keeps one view's templates, and removes them at every change.
        let keeps = mode.is_at_start() || self.store.is_shared();
        let kept = keeps.then(|| self.store.kept_templates(key));
        let kept = kept.unwrap_or_else(|| KeptTemplates::new(0, SharedChange::default()));
        let had_templates = !kept.is_empty();
        let GalleryContents {
            people,
            mut problems,
            unknown_age,
            ..
        } = self
            .store
            .load_for(key, contract.dimension, &mode.cores())?;
        self.note_stored(&people);
        let mut filling = Filling {
            view: &view,
            mode,
            scope,
            templates: kept.successor(),
            kept,
            kept_count: 0,
            made_count: 0,
            problems: Vec::new(),
        };
        let mut people = people.into_iter().peekable();
        while people.peek().is_some() {
            let people: Vec<PersonRecord> = people.by_ref().take(CHUNK).collect();
            self.fill(&mut filling, people)?;
        }
        let Filling {
            kept,
            templates,
            kept_count,
            made_count,
            problems: unusable,
            ..
        } = filling;
        self.views.finish(&view);
        let is_unchanged = had_templates && kept.is_empty() && made_count == 0;
        if keeps && !is_unchanged {
            self.store.keep_templates(key, &templates);
        }
        problems.extend(unusable);
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        let problems = problems
            .into_iter()
            .map(|problem| self.store.quarantine(problem))
            .collect();
        let report = ViewReport {
            problems,
            kept_templates: kept_count,
            unknown_age,
            ..view.report()
        };
        Ok((view, report))
    }

    /// Adds people to a view in the order of their ids, so that people of equal similarity keep
    /// their order.
    fn fill(
        &self,
        filling: &mut Filling<'_>,
        people: Vec<PersonRecord>,
    ) -> Result<(), PeopleError> {
        let made = parallel::map(&filling.mode.cores(), &people, |person| {
            filling.templates_of(person)
        });
        for (person, made) in people.into_iter().zip(made) {
            let made = match made {
                // Instances on several cores need more memory than one.
                Err(PeopleError::Run(RunError::OutOfCapacity(_))) => filling.templates_of(&person),
                made => made,
            };
            match made.and_then(|made| self.add(filling, &person, made)) {
                Ok(()) => {}
                // The cause is not this file, for example the deadline of the start: every later
                // person would fail, too.
                Err(PeopleError::Run(error)) if error.is_transient() => return Err(error.into()),
                Err(error) => {
                    self.views.fill(filling.view, &person.id, None)?;
                    let cause = SampleFileError::Unusable(error.into());
                    filling.problems.push(Problem::new(person.path, cause));
                }
            }
        }
        Ok(())
    }

    /// Adds a person to a view, and the templates to those that are kept.
    fn add(
        &self,
        filling: &mut Filling<'_>,
        person: &PersonRecord,
        made: PersonTemplates,
    ) -> Result<(), PeopleError> {
        let id = &person.id;
        match made {
            PersonTemplates::None => {
                self.views.fill(filling.view, id, None)?;
                filling.templates.insert_without(id.clone());
            }
            PersonTemplates::Stored => {
                let templates = person.templates.as_deref();
                let templates = templates.filter(|templates| !templates.is_empty());
                filling.kept_count += usize::from(templates.is_some());
                self.views.fill(filling.view, id, templates)?;
            }
            PersonTemplates::Made(samples, templates) => {
                filling.made_count += 1;
                self.views.fill(filling.view, id, Some(&templates))?;
                filling
                    .templates
                    .insert_made(id.clone(), samples, templates);
            }
            PersonTemplates::Kept(samples, templates) => {
                filling.kept_count += 1;
                filling.kept.take(&samples);
                self.views.fill(filling.view, id, Some(&templates))?;
                filling.templates.insert(samples, templates);
            }
        }
        Ok(())
    }

    /// Records the stored ids when the store is first loaded. Later changes are recorded one by
    /// one.
    fn note_stored(&self, people: &[PersonRecord]) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.get_or_insert_with(|| {
            let mut keys = CaseKeys::default();
            for person in people {
                keys.insert(&person.id);
            }
            keys
        });
    }
}
