//! Reading people from files that another program writes while the service runs, such as a restored
//! backup.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rostro_gallery::{ChangeNumber, GalleryError, StoreChanges};

use super::templates::{TEMPLATE_TIMEOUT, TemplatesByView};
use super::views::ViewChange;
use super::{People, PeopleError};
use rostro_common::ids::PersonId;

/// Timeout for the lock of a person that a request changes; the next rescan tries again.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// Shortest and longest pause between two attempts to load a person.
const MIN_PAUSE: Duration = Duration::from_millis(250);
const MAX_PAUSE: Duration = Duration::from_secs(8);

/// Time for attempts to load people again, because other changes wait meanwhile.
const RETRY_TIME: Duration = Duration::from_millis(500);

/// People that an earlier rescan could not load yet.
#[derive(Debug, Default)]
pub struct PendingPeople {
    waiting: BTreeMap<PersonId, Retry>,
}

/// Next attempt to load a person.
#[derive(Clone, Copy, Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl PendingPeople {
    /// Plans the next attempt for a person. Returns true when the pause gets its full length.
    fn postpone(&mut self, id: &PersonId) -> bool {
        let before = self.waiting.get(id).map(|retry| retry.pause);
        let pause = before.map_or(Duration::ZERO, |pause| {
            (2 * pause).clamp(MIN_PAUSE, MAX_PAUSE)
        });
        let at = Instant::now() + pause;
        self.waiting.insert(id.clone(), Retry { at, pause });
        pause == MAX_PAUSE && before != Some(MAX_PAUSE)
    }

    /// Returns the people whose next attempt is due.
    fn due(&self) -> Vec<PersonId> {
        let now = Instant::now();
        let due = self.waiting.iter().filter(|(_, retry)| retry.at <= now);
        due.map(|(id, _)| id.clone()).collect()
    }
}

/// Result of a rescan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rescan {
    /// Number of the latest change.
    pub number: ChangeNumber,
    /// Number of people that were read.
    pub people: usize,
    /// Whether every change was applied, except those of people who were set aside.
    pub is_complete: bool,
    /// Whether another node may have written the record of revisions.
    pub revisions: bool,
}

impl People {
    /// Applies people that other programs stored since the last rescan to every view. People who
    /// cannot be loaded are set aside, because the changes of others must not wait for them.
    ///
    /// # Errors
    ///
    /// If the gallery as a whole cannot be read.
    pub(crate) fn rescan(&self, pending: &mut PendingPeople) -> Result<Rescan, PeopleError> {
        let StoreChanges {
            number,
            people,
            deleted,
            problems,
            groups,
            revisions,
        } = self.store.rescan()?;
        if let Ok(groups @ 1..) = groups {
            tracing::info!(
                groups,
                "reloaded from files that another program wrote into the gallery"
            );
        }
        for problem in problems {
            tracing::warn!("{}", problem.to_string().escape_debug());
        }
        let mut is_complete = true;
        for id in &deleted {
            if let Err(error) = self.refresh(number, id, true) {
                is_complete = false;
                if !is_transient(&error) {
                    self.log_failure(id, &error);
                }
            }
        }
        let mut refreshed = 0;
        for id in &people {
            match self.load_or_postpone(number, id, pending) {
                Ok(is_loaded) => refreshed += usize::from(is_loaded),
                // It concerns every person, and the next rescan finds the same changes.
                Err(_) => is_complete = false,
            }
        }
        groups?;
        Ok(Rescan {
            number,
            people: refreshed,
            is_complete,
            revisions,
        })
    }

    /// Loads people that an earlier rescan set aside, for a short time. Returns their number.
    pub(crate) fn retry_pending(&self, number: ChangeNumber, pending: &mut PendingPeople) -> usize {
        let begun = Instant::now();
        let mut loaded = 0;
        for id in pending.due() {
            if begun.elapsed() > RETRY_TIME {
                break;
            }
            let result = self.load_or_postpone(number, &id, pending);
            loaded += usize::from(result.unwrap_or(false));
        }
        loaded
    }

    /// Loads a person, or sets the person aside. Returns true if the person was loaded.
    ///
    /// # Errors
    ///
    /// If the store does not answer, which concerns every person.
    fn load_or_postpone(
        &self,
        number: ChangeNumber,
        id: &PersonId,
        pending: &mut PendingPeople,
    ) -> Result<bool, PeopleError> {
        let error = match self.refresh(number, id, false) {
            Ok(()) => {
                pending.waiting.remove(id);
                return Ok(true);
            }
            Err(PeopleError::Gallery(GalleryError::Database(failure))) if failure.is_transient => {
                return Err(GalleryError::Database(failure).into());
            }
            Err(error) => error,
        };
        let was_pending = pending.waiting.contains_key(id);
        // An unreadable file may be repaired or quarantined, so its person is retried.
        if is_transient(&error) {
            if pending.postpone(id) {
                self.log_failure(id, &error);
            }
        } else {
            if !was_pending {
                self.log_failure(id, &error);
            }
            match error {
                PeopleError::Gallery(_) => drop(pending.postpone(id)),
                _ => drop(pending.waiting.remove(id)),
            }
        }
        Ok(false)
    }

    fn log_failure(&self, id: &PersonId, error: &PeopleError) {
        match self.store.log_name(id) {
            Some(name) => tracing::warn!("cannot load {name}, which another node stored: {error}"),
            None => tracing::warn!("cannot load a person that another program stored: {error}"),
        }
    }

    /// Applies what is stored of a person to every view. The lock prevents concurrent changes of
    /// this process. A person who is not stored is forgotten only if they were `deleted`, because
    /// another program may have moved the file away.
    fn refresh(
        &self,
        number: ChangeNumber,
        id: &PersonId,
        deleted: bool,
    ) -> Result<(), PeopleError> {
        let _lock = self.locks.wait(id, Instant::now() + LOCK_TIMEOUT)?;
        let samples = self.store.read(id)?;
        self.store.follow(id, samples.as_deref())?;
        let Some(samples) = samples else {
            if !deleted {
                return Ok(());
            }
            self.with_stored(|stored| stored.remove(id));
            return self.apply(number, &ViewChange::Deleted(id));
        };
        // Deleted and enrolled again: the former attendance is another person's.
        if deleted && self.store.is_shared() {
            self.remove_from_sessions(id)?;
        }
        let mut templates_by_view = TemplatesByView::new(Vec::new());
        for view in self.views.in_use() {
            let scope = (Instant::now() + TEMPLATE_TIMEOUT).into();
            let templates = match view.templates_of(&samples, &scope) {
                Err(error) if is_transient(&error) => return Err(error),
                // The policy cannot use these samples of unknown origin, but may work on others.
                Err(error) => {
                    self.log_failure(id, &error);
                    None
                }
                Ok(templates) => templates,
            };
            templates_by_view = templates_by_view.with(&view, templates.as_deref());
        }
        self.with_stored(|stored| stored.insert(id));
        self.views
            .apply(number, &ViewChange::Replaced(id, &templates_by_view))?;
        Ok(())
    }

    /// Counts the unusable files of the gallery by reason, as words for metrics.
    pub fn left_alone(&self) -> BTreeMap<&'static str, usize> {
        self.store.left_alone()
    }
}

fn is_transient(error: &PeopleError) -> bool {
    match error {
        PeopleError::Busy => true,
        PeopleError::Run(error) => error.is_transient(),
        _ => false,
    }
}
