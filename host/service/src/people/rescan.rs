//! Reading people from files that another program writes while the service runs, such as a restored
//! backup.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rostro_gallery::{ChangeNumber, StoreChanges};

use super::templates::{TEMPLATE_TIMEOUT, TemplatesByView};
use super::views::ViewChange;
use super::{People, PeopleError};
use rostro_common::ids::PersonId;

/// Timeout for the lock of a person that a request changes; the next rescan tries again.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// People that an earlier rescan could not read yet.
#[derive(Debug, Default)]
pub struct PendingPeople {
    waiting: BTreeSet<PersonId>,
}

/// Result of a rescan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rescan {
    /// Number of people that were read.
    pub people: usize,
    /// Whether every change of people was applied.
    pub is_complete: bool,
    /// Whether another node may have written the record of revisions.
    pub revisions: bool,
}

impl People {
    /// Applies people that other programs stored since the last rescan to every view.
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
                log_failure(&error);
            }
        }
        let mut refreshed = 0;
        let retried = std::mem::take(&mut pending.waiting);
        for id in retried.union(&people) {
            let Err(error) = self.refresh(number, id, false) else {
                refreshed += 1;
                continue;
            };
            is_complete = false;
            // An unreadable file may be repaired or quarantined, so its person is retried.
            if is_transient(&error) || matches!(error, PeopleError::Gallery(_)) {
                pending.waiting.insert(id.clone());
            }
            if !retried.contains(id) {
                log_failure(&error);
            }
        }
        groups?;
        Ok(Rescan {
            people: refreshed,
            is_complete,
            revisions,
        })
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
            return Ok(self.views.apply(number, &ViewChange::Deleted(id))?);
        };
        let mut templates_by_view = TemplatesByView::new(Vec::new());
        for view in self.views.in_use() {
            let scope = (Instant::now() + TEMPLATE_TIMEOUT).into();
            let templates = match view.templates_of(&samples, &scope) {
                Err(error) if is_transient(&error) => return Err(error),
                // The policy cannot use this file of unknown origin, but may work on others.
                Err(_) => None,
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

fn log_failure(error: &PeopleError) {
    if !is_transient(error) {
        tracing::warn!("cannot load a person that another program stored: {error}");
    }
}

fn is_transient(error: &PeopleError) -> bool {
    match error {
        PeopleError::Busy => true,
        PeopleError::Run(error) => error.is_transient(),
        _ => false,
    }
}
