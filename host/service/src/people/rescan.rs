//! People whose files another program writes while the service runs, such as a restored backup.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rostro_gallery::{ChangeNumber, StoreChanges};

use super::templates::{TEMPLATE_TIMEOUT, TemplatesByView};
use super::views::Change;
use super::{People, PeopleError, PersonLock};
use rostro_common::person::PersonId;

/// Time to wait for a person whom a request changes; the next rescan tries again.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// People whom an earlier rescan could not read yet.
#[derive(Debug, Default)]
pub struct PendingPeople {
    waiting: BTreeSet<PersonId>,
}

impl People {
    /// Reads people whose files were written by another program since the last rescan into every
    /// view. Returns their number.
    ///
    /// # Errors
    ///
    /// If the gallery as a whole cannot be read.
    pub fn rescan(&self, pending: &mut PendingPeople) -> Result<usize, PeopleError> {
        let StoreChanges {
            number,
            people,
            problems,
            groups,
        } = self.store.rescan()?;
        if let Ok(groups @ 1..) = groups {
            tracing::info!(
                groups,
                "taken in from files that another program wrote into the gallery"
            );
        }
        for problem in problems {
            tracing::warn!("{}", problem.to_string().escape_debug());
        }
        let mut refreshed = 0;
        let before = std::mem::take(&mut pending.waiting);
        for id in before.union(&people) {
            let result = self
                .locks
                .wait(id, Instant::now() + LOCK_TIMEOUT)
                .and_then(|lock| self.refresh(number, &lock));
            let Err(error) = result else {
                refreshed += 1;
                continue;
            };
            // A file that cannot be read may be repaired or quarantined; its person would be lost
            // otherwise.
            if is_transient(&error) || matches!(error, PeopleError::Gallery(_)) {
                pending.waiting.insert(id.clone());
            }
            if !is_transient(&error) && !before.contains(id) {
                tracing::warn!(
                    "a person whose file was copied into the gallery cannot be taken in: {error}"
                );
            }
        }
        groups?;
        Ok(refreshed)
    }

    /// Applies the samples that the store has of a person to every view. The lock keeps the person
    /// from being deleted meanwhile.
    fn refresh(&self, number: ChangeNumber, lock: &PersonLock) -> Result<(), PeopleError> {
        let id = lock.id();
        let Some(samples) = self.store.read(id)? else {
            return Ok(());
        };
        let mut made = TemplatesByView::new(Vec::new());
        for view in self.views.in_use() {
            let scope = (Instant::now() + TEMPLATE_TIMEOUT).into();
            let templates = match view.templates_of(&samples, &scope) {
                Err(error) if is_transient(&error) => return Err(error),
                // The policy fails at a file of unknown origin; at others it may not.
                Err(_) => None,
                Ok(templates) => templates,
            };
            made = made.with(&view, templates.as_deref());
        }
        self.with_stored(|stored| stored.insert(id));
        self.views.apply(number, &Change::Replaced(id, &made))?;
        Ok(())
    }

    /// Counts the files of the gallery that cannot be used by reasons, which are words for metrics.
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
