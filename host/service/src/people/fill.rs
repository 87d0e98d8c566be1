//! Filling a view with the people of the store.

use std::sync::{Arc, PoisonError};

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::ids::CaseKeys;
use rostro_common::parallel;
use rostro_gallery::{GalleryContents, KeptTemplates, PersonRecord, Problem, SampleFileError};
use rostro_sandbox::pipeline::revision::Revision;

use super::view::{MadeTemplates, View, ViewKey};
use super::{People, PeopleError, ViewReport};

/// Number of people whose templates are made before they are added to a view. It bounds the memory
/// of templates that exist twice, and the work after a failure.
const CHUNK: usize = 512;

/// Circumstances in which a view is filled.
#[derive(Clone, Copy, Debug)]
pub enum Filling<'c> {
    /// No request is served: idle cores help, each with an instance of the policy. Templates that
    /// an earlier start kept are used, and kept for the next one.
    AtStart(&'c Cores),
    /// Requests are served, and need the other cores.
    BesideRequests,
}

impl Filling<'_> {
    fn cores(self) -> Cores {
        match self {
            Self::AtStart(cores) => cores.clone(),
            Self::BesideRequests => Cores::single(),
        }
    }

    fn is_at_start(self) -> bool {
        matches!(self, Self::AtStart(_))
    }
}

/// Result of filling a view with people.
struct Filled {
    /// Templates to keep for the next start.
    templates: KeptTemplates,
    /// Number of people whose templates were kept.
    kept: usize,
    /// People whose templates cannot be made.
    problems: Vec<Problem>,
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
        filling: Filling<'_>,
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
        let GalleryContents {
            people,
            mut problems,
            unknown_age,
            ..
        } = self.store.load(&filling.cores())?;
        self.note_stored(&people);
        let templates_key = view.key().digest();
        let kept = match filling.is_at_start() {
            true => self.store.kept_templates(templates_key),
            false => KeptTemplates::default(),
        };
        let filled = self.fill(&view, &people, &kept, filling, scope)?;
        self.views.finish(&view);
        if filling.is_at_start() && !filled.templates.has_same_samples(&kept) {
            self.store.keep_templates(templates_key, &filled.templates);
        }
        problems.extend(filled.problems);
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        let problems = problems
            .into_iter()
            .map(|problem| self.store.quarantine(problem))
            .collect();
        let report = ViewReport {
            problems,
            kept_templates: filled.kept,
            unknown_age,
            ..view.report()
        };
        Ok((view, report))
    }

    /// Adds people to a view in the order of their ids, so that people of equal similarity keep
    /// their order.
    fn fill(
        &self,
        view: &View,
        people: &[PersonRecord],
        kept: &KeptTemplates,
        filling: Filling<'_>,
        scope: &CancelScope,
    ) -> Result<Filled, PeopleError> {
        let cores = filling.cores();
        let mut filled = Filled {
            templates: KeptTemplates::default(),
            kept: 0,
            problems: Vec::new(),
        };
        for people in people.chunks(CHUNK) {
            let made = parallel::map(&cores, people, |person| {
                view.templates_or_kept(&person.samples, kept, scope)
            });
            for (PersonRecord { id, path, .. }, made) in people.iter().zip(made) {
                let result = made.and_then(|made| {
                    if let Some(MadeTemplates { samples, templates }) = &made
                        && filling.is_at_start()
                    {
                        filled.kept += usize::from(kept.get(samples).is_some());
                        filled.templates.insert(*samples, templates.clone());
                    }
                    let templates = made.map(|made| made.templates);
                    Ok(self.views.fill(view, id, templates)?)
                });
                match result {
                    Ok(()) => {}
                    // The cause is not this file, for example the deadline of the start: every
                    // later person would fail, too.
                    Err(PeopleError::Run(error)) if error.is_transient() => {
                        return Err(error.into());
                    }
                    Err(error) => {
                        self.views.fill(view, id, None)?;
                        let cause = SampleFileError::Unusable(error.into());
                        filled.problems.push(Problem::new(path.clone(), cause));
                    }
                }
            }
        }
        Ok(filled)
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
