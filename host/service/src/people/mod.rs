//! The people who are known: the durable gallery, and for each way of seeing them that is in use an
//! index in step with it.

mod again;
mod batch;
mod locks;
mod view;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::ids::{CaseKeys, ContractId, PersonId};
use rostro_common::sample::Sample;
use rostro_gallery::groups::{Groups, GroupsError};
use rostro_gallery::ledger::{ArchiveNumber, Ledger};
use rostro_index::{IndexError, Method};
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::run::RunError;

use view::{ViewKey, matched};

pub use again::PendingPeople;
pub(crate) use batch::Replacement;
pub(crate) use locks::{PersonLock, PersonLocks};
pub use rostro_gallery::{
    Gallery, GalleryContents, GalleryError, PersonRecord, Problem, Removal, SampleFileError,
    SampleLocation,
};
pub use view::View;

/// How long a policy that is not the active one may take for the templates of a person: whoever
/// enrols waits for it.
const TEMPLATE: Duration = Duration::from_millis(500);

/// How often it is asked, if it is for no fault of its own that it does not answer: a machine that
/// stands still for a while takes its time, too.
const ATTEMPTS: usize = 3;

/// Everybody enrolled.
pub struct People {
    gallery: Box<dyn Gallery>,
    method: Method,
    cores: Cores,
    /// Held while a person is written, so that the gallery and the indices change in the same
    /// order. What it holds are the views that some revision uses.
    views: Mutex<Vec<Weak<View>>>,
    /// Who adds to what is stored, or takes it away, has a turn of their own.
    locks: Arc<PersonLocks>,
    groups: Groups,
    /// The ids of everybody who is stored, once the gallery was loaded.
    stored: Mutex<Option<CaseKeys>>,
    ledger: Arc<Ledger>,
}

/// What was found in the gallery for a revision.
#[derive(Debug, Default)]
pub struct ViewReport {
    /// People who can be recognised.
    pub known: usize,
    /// People whose embeddings are of another contract: still stored, not matched.
    pub need_enrolment: usize,
    /// Files that cannot be used, each with its cause and what became of it.
    pub problems: Vec<Problem>,
    /// Files of other contracts that may be older than their person's last enrolment, and so are
    /// not matched.
    pub unknown_age: usize,
}

/// Why a person cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// The gallery cannot be written or read.
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The templates do not fit the index.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The policy cannot make templates.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The groups cannot be read or written.
    #[error(transparent)]
    Groups(#[from] GroupsError),
    /// Somebody else is changing the person, and did not end in time.
    #[error("the person is being changed by another request or program")]
    Busy,
    /// A new id differs only in case from one that is stored.
    #[error(
        "another person is stored under this id with other upper and lower case; choose another id"
    )]
    IdTaken,
}

impl People {
    /// The people of a gallery, to be searched by `method` on idle `cores`.
    pub fn new(gallery: Box<dyn Gallery>, groups: Groups, method: Method, cores: Cores) -> Self {
        let ledger = Arc::new(Ledger::none());
        Self {
            gallery,
            method,
            cores,
            views: Mutex::default(),
            locks: Arc::default(),
            groups,
            stored: Mutex::default(),
            ledger,
        }
    }

    /// Records changes in this ledger.
    pub fn with_ledger(self, ledger: Ledger) -> Self {
        Self {
            ledger: Arc::new(ledger),
            ..self
        }
    }

    /// The gallery's ledger.
    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Returns the id and the number for an archive that begins now. Of each deletion that has a
    /// number up to it nothing is left to read.
    pub(crate) fn numbered(&self) -> Option<ArchiveNumber> {
        // A deletion gets its number and removes the files under this lock.
        let _order = self.locked();
        self.ledger.numbered()
    }

    /// The groups that people are in.
    pub(crate) fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Returns whether the last person who was written survives a crash of the machine.
    ///
    /// # Errors
    ///
    /// If the disk failed after the write, which took effect.
    pub fn is_durable(&self) -> Result<bool, PeopleError> {
        Ok(self.gallery.is_durable()?)
    }

    /// Turns at changing one person.
    pub(crate) fn locks(&self) -> &Arc<PersonLocks> {
        &self.locks
    }

    /// What is in force of a person, of every contract; nothing if there is no such person.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(crate) fn samples(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, PeopleError> {
        Ok(self.gallery.read(id)?)
    }

    /// Refuses to add to samples that another program wrote and the views do not know yet: they may
    /// be another person's.
    ///
    /// # Errors
    ///
    /// [`PeopleError::Busy`], until they are taken in.
    pub(crate) fn check_seen(&self, id: &PersonId) -> Result<(), PeopleError> {
        if self.gallery.has_unseen_files(id) {
            Err(PeopleError::Busy)
        } else {
            Ok(())
        }
    }

    /// Says of what contract samples are that state none, if that is known from before.
    pub(crate) fn adopt_legacy(&self, contract: &ContractId) {
        self.gallery.adopt_legacy(contract, None);
    }

    /// The people as `revision` sees them: a view that is in use if there is one, else a new one,
    /// with everybody in it whom the revision can recognise. Enrolments go on meanwhile, and are in
    /// it.
    ///
    /// A person is matched by the samples of the revision's contract. Samples without one (written
    /// by the replaced service) are of the contract that the first revision had which ever saw
    /// them. A person of whose samples no templates can be made is a [`Problem`], like a file that
    /// cannot be read. Damaged files are set aside.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be read, or if the scope ends.
    pub fn view(
        &self,
        revision: &Arc<Revision>,
        scope: &CancelScope,
    ) -> Result<(Arc<View>, ViewReport), PeopleError> {
        let key = ViewKey::of(revision);
        let contract = revision.contract();
        self.gallery
            .adopt_legacy(&contract.id, Some(contract.dimension));
        let view = {
            let mut views = self.locked();
            views.retain(|view| view.strong_count() > 0);
            if let Some(view) = views
                .iter()
                .filter_map(Weak::upgrade)
                .find(|view| *view.key() == key && view.is_filled())
            {
                let report = view.report();
                return Ok((view, report));
            }
            // From here on enrolments go into it, too.
            let view = Arc::new(View::new(key, revision, self.method, self.cores.clone()));
            views.push(Arc::downgrade(&view));
            view
        };
        let GalleryContents {
            people,
            mut problems,
            unknown_age,
            ..
        } = self.gallery.load()?;
        self.note_stored(&people);
        for PersonRecord { id, samples, path } in people {
            let templates = view.templates_of(&samples, scope);
            let _order = self.locked();
            match templates.and_then(|templates| Ok(view.fill(&id, templates)?)) {
                Ok(()) => {}
                // No fault of this file, such as the time of the start as a whole: each after it
                // would fail alike.
                Err(PeopleError::Run(error)) if error.is_transient() => {
                    return Err(error.into());
                }
                Err(error) => {
                    view.note_missing(&id);
                    problems.push(Problem::new(path, SampleFileError::Unusable(error.into())));
                }
            }
        }
        view.filled();
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        let problems = problems
            .into_iter()
            .map(|problem| self.gallery.set_aside(problem))
            .collect();
        let report = ViewReport {
            problems,
            unknown_age,
            ..view.report()
        };
        Ok((view, report))
    }

    /// Stores a person in place of all that was stored under that id, of every contract. They are
    /// recognised from the return on: in `own` by `templates`, in other views by what their
    /// policies make of `samples`, and in a view without samples of its contract not at all.
    ///
    /// `samples` may be of several contracts. Those of the first one's go into the person's own
    /// file, and only those with its enrolment are matched. Without `templates` the person is not
    /// recognised in `own`.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be written; the person is then as before, or has the samples of the
    /// first one's contract alone.
    pub(crate) fn replace(
        &self,
        id: &PersonId,
        samples: &[Sample],
        own: &Arc<View>,
        templates: &[Vec<f32>],
    ) -> Result<PathBuf, PeopleError> {
        let enrolment = samples.first().and_then(|sample| sample.enrolment.clone());
        let contract = samples.first().and_then(|sample| sample.contract.clone());
        let is_matched = |sample: &&Sample| {
            sample.contract == contract || (enrolment.is_some() && sample.enrolment == enrolment)
        };
        let matched: Vec<Sample> = samples.iter().filter(is_matched).cloned().collect();
        let made = self.made_by_others(&matched, own);
        let views = self.locked();
        self.check_new(id)?;
        self.ledger.note_written(id);
        let path = self.gallery.replace(id, samples)?;
        self.with_stored(|stored| stored.insert(id));
        match templates {
            [] => own.forget(id)?,
            templates => own.upsert(id, templates)?,
        }
        for (view, seen) in made.in_all(&views, &matched) {
            match seen {
                TemplateOutcome::As(templates) => view.upsert(id, &templates)?,
                TemplateOutcome::NotAtAll | TemplateOutcome::Wrongly => view.forget(id)?,
            }
        }
        self.ledger.note_changes(1);
        Ok(path)
    }

    /// Stores samples of one contract in place of the person's samples of that contract. Samples
    /// and views of other contracts stay as they are. The person is recognised from the return on,
    /// in `own` by `templates`.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be written; the person is then as before.
    pub(crate) fn put(
        &self,
        id: &PersonId,
        samples: &[Sample],
        place: SampleLocation,
        own: &Arc<View>,
        templates: &[Vec<f32>],
    ) -> Result<PathBuf, PeopleError> {
        let made = self.made_by_others(samples, own);
        let views = self.locked();
        self.check_new(id)?;
        self.check_seen(id)?;
        self.ledger.note_written(id);
        let path = self.gallery.put(id, samples, place)?;
        self.with_stored(|stored| stored.insert(id));
        own.upsert(id, templates)?;
        for (view, seen) in made.in_all(&views, samples) {
            match seen {
                TemplateOutcome::As(templates) => view.upsert(id, &templates)?,
                TemplateOutcome::NotAtAll => view.note_missing(id),
                TemplateOutcome::Wrongly => view.forget(id)?,
            }
        }
        self.ledger.note_changes(1);
        Ok(path)
    }

    /// Asks the policies of all views but `own` for a person's templates, before anybody has to
    /// wait for it.
    fn made_by_others(&self, samples: &[Sample], own: &Arc<View>) -> OtherTemplates {
        let others: Vec<Arc<View>> = self
            .locked()
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|view| !Arc::ptr_eq(view, own))
            .collect();
        let made = others
            .into_iter()
            .map(|view| (Arc::clone(&view), seen_by(&view, samples)))
            .collect();
        OtherTemplates {
            own: Arc::clone(own),
            made,
        }
    }

    /// Returns the ids of all stored people, and the files that belong to no person or are not in
    /// use.
    ///
    /// # Errors
    ///
    /// If the gallery as a whole cannot be read.
    pub(crate) fn ids(&self) -> Result<(BTreeSet<PersonId>, Vec<Problem>), PeopleError> {
        Ok(self.gallery.ids()?)
    }

    /// Removes a person: from every search before the return, from every group, and from the disk,
    /// whatever contract they are known by. The turn at them is held meanwhile, so that an
    /// enrolment of theirs that is under way ends first. The deletion leaves a tombstone, also of a
    /// person who is not stored: an older archive may have them.
    ///
    /// # Errors
    ///
    /// If a group or the gallery cannot be written; the person may be recognised as before then,
    /// unless they are gone and the disk failed.
    pub(crate) fn remove(&self, lock: &PersonLock) -> Result<Removal, PeopleError> {
        let id = lock.id();
        let (mut durable, mut unsynced) = (true, None);
        let mut leave_groups = || match self.groups.forget(id) {
            Ok(synced) => {
                durable &= synced;
                Ok(())
            }
            // The person is out of the groups, so that the deletion goes on.
            Err(error @ GroupsError::Unsynced { .. }) => {
                unsynced = Some(PeopleError::from(error));
                Ok(())
            }
            Err(error) => Err(error),
        };
        // First, so that whoever asks again after a failure is told the truth of whether there was
        // somebody.
        leave_groups()?;
        let views = self.locked();
        let has_tombstone = self.ledger.note_deletion(id);
        let mut removed = Removal {
            has_tombstone,
            ..self.gallery.remove(id)?
        };
        self.with_stored(|stored| stored.remove(id));
        for view in views.iter().filter_map(Weak::upgrade) {
            view.remove(id)?;
        }
        drop(views);
        // Who puts many people into a group at a time holds no turn, and may have done so in
        // between. From now on it sees that they are gone.
        leave_groups()?;
        removed.durable &= durable;
        match removed.unsynced.take().map(PeopleError::from).or(unsynced) {
            Some(error) => Err(error),
            None => Ok(removed),
        }
    }

    /// Refuses a new id that differs only in case from one that is stored.
    ///
    /// # Errors
    ///
    /// [`PeopleError::IdTaken`].
    pub(crate) fn check_new(&self, id: &PersonId) -> Result<(), PeopleError> {
        let mut is_taken = false;
        self.with_stored(|stored| is_taken = stored.is_taken(id));
        if is_taken {
            Err(PeopleError::IdTaken)
        } else {
            Ok(())
        }
    }

    /// Records who is stored when the gallery is loaded for the first time. Later changes are
    /// recorded one by one.
    fn note_stored(&self, people: &[PersonRecord]) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.get_or_insert_with(|| {
            let mut keys = CaseKeys::default();
            people.iter().for_each(|person| keys.insert(&person.id));
            keys
        });
    }

    fn with_stored(&self, work: impl FnOnce(&mut CaseKeys)) {
        if let Some(stored) = self
            .stored
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            work(stored);
        }
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Weak<View>>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the policies of all views but one made of a person's samples.
struct OtherTemplates {
    own: Arc<View>,
    made: Vec<(Arc<View>, TemplateOutcome)>,
}

impl OtherTemplates {
    /// Returns each view but the one with how it sees the person. A view that came since is asked
    /// now; a policy that failed is not asked again.
    fn in_all(
        &self,
        views: &[Weak<View>],
        samples: &[Sample],
    ) -> Vec<(Arc<View>, TemplateOutcome)> {
        let views = views
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|view| !Arc::ptr_eq(view, &self.own));
        let seen = |view: Arc<View>| {
            let known = self
                .made
                .iter()
                .find(|(other, _)| Arc::ptr_eq(other, &view))
                .map(|(_, seen)| seen.clone());
            let seen = known.unwrap_or_else(|| seen_by(&view, samples));
            (view, seen)
        };
        views.map(seen).collect()
    }
}

/// How a view sees a person who is being written.
#[derive(Clone, Debug)]
enum TemplateOutcome {
    /// By these templates.
    As(Vec<Vec<f32>>),
    /// It has no samples of its contract.
    NotAtAll,
    /// Its policy makes no templates of them.
    Wrongly,
}

fn seen_by(view: &View, samples: &[Sample]) -> TemplateOutcome {
    if matched(samples, view.contract()).is_empty() {
        return TemplateOutcome::NotAtAll;
    }
    if !view.is_complete() {
        return TemplateOutcome::Wrongly;
    }
    let attempt = || view.templates_of(samples, &(Instant::now() + TEMPLATE).into());
    let is_transient = |made: &Result<_, PeopleError>| matches!(made, Err(PeopleError::Run(error)) if error.is_transient());
    let mut made = attempt();
    for _ in 1..ATTEMPTS {
        if !is_transient(&made) {
            break;
        }
        made = attempt();
    }
    match made {
        Ok(templates) => TemplateOutcome::As(templates.unwrap_or_default()),
        Err(error) => {
            tracing::warn!(
                "a policy that is not active fails at somebody's templates and is not asked again; it will not recognise them: {error}"
            );
            view.mark_incomplete();
            TemplateOutcome::Wrongly
        }
    }
}

impl std::fmt::Debug for People {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("People").finish_non_exhaustive()
    }
}
