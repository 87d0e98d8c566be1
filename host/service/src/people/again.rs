//! People whose files another program writes while the service runs, such as a backup that is
//! copied into the gallery.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;

use super::{People, PeopleError, PersonLock, TEMPLATE, View};

/// How long to wait for somebody who is being changed by a request; they are looked at again after
/// it.
const PATIENCE: Duration = Duration::from_millis(500);

/// People whom an earlier look could not take in yet.
#[derive(Debug, Default)]
pub struct PendingPeople {
    waiting: BTreeSet<PersonId>,
}

impl People {
    /// Takes in people whose files were written by another program since the last look, in every
    /// view. Returns how many.
    ///
    /// # Errors
    ///
    /// If the gallery as a whole cannot be read.
    pub fn rescan(&self, looks: &mut PendingPeople) -> Result<usize, PeopleError> {
        let groups = self.groups.rescan();
        if let Ok(groups @ 1..) = groups {
            tracing::info!(
                groups,
                "taken in from files that another program wrote into the gallery"
            );
        }
        let again = self.gallery.rescan()?;
        for problem in again.problems {
            tracing::warn!("{}", problem.to_string().escape_debug());
        }
        let mut taken = 0;
        let before = std::mem::take(&mut looks.waiting);
        for id in before.union(&again.people) {
            let refreshed = self
                .locks
                .wait(id, Instant::now() + PATIENCE)
                .and_then(|lock| self.refresh(&lock));
            let Err(error) = refreshed else {
                taken += 1;
                continue;
            };
            // A file that cannot be read may be mended, or set aside; its person would be lost
            // otherwise.
            let is_waiting = is_transient(&error) || matches!(error, PeopleError::Gallery(_));
            if is_waiting {
                looks.waiting.insert(id.clone());
            }
            if !is_transient(&error) && !before.contains(id) {
                tracing::warn!(
                    "a person whose file was copied into the gallery cannot be taken in: {error}"
                );
            }
        }
        groups?;
        Ok(taken)
    }

    /// Has every view see a person as the gallery has them. Their turn is held, so that nobody
    /// deletes them meanwhile.
    fn refresh(&self, lock: &PersonLock) -> Result<(), PeopleError> {
        let id = lock.id();
        let Some(samples) = self.gallery.read(id)? else {
            return Ok(());
        };
        // Policies are asked before anybody has to wait for it.
        let views: Vec<_> = self.locked().iter().filter_map(Weak::upgrade).collect();
        let mut made = Vec::new();
        for view in views {
            let templates = templates(&view, &samples)?;
            made.push((view, templates));
        }
        let views = self.locked();
        self.ledger.note_written(id);
        self.with_stored(|stored| stored.insert(id));
        for view in views.iter().filter_map(Weak::upgrade) {
            let known = made
                .iter()
                .find(|(other, _)| Arc::ptr_eq(other, &view))
                .map(|(_, templates)| templates.clone());
            // A view that is new since is filled from the gallery.
            match known {
                Some(Some(templates)) => view.upsert(id, &templates)?,
                Some(None) => view.forget(id)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Counts the files of the gallery that cannot be used by reasons, which are words for metrics.
    pub fn left_alone(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = self.gallery.left_alone();
        let groups = self.groups.left_alone();
        if groups > 0 {
            counts.insert("group", groups);
        }
        counts
    }
}

/// The templates by which a view knows a person; none if it cannot.
fn templates(view: &View, samples: &[Sample]) -> Result<Option<Vec<Vec<f32>>>, PeopleError> {
    match view.templates_of(samples, &(Instant::now() + TEMPLATE).into()) {
        Err(error) if is_transient(&error) => Err(error),
        // The policy fails at a file that came from anywhere; at others it may not.
        Err(_) => Ok(None),
        made => made,
    }
}

fn is_transient(error: &PeopleError) -> bool {
    match error {
        PeopleError::Busy => true,
        PeopleError::Run(error) => error.is_transient(),
        _ => false,
    }
}
