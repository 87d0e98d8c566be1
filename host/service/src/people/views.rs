//! Views in use, and the single way to change them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rostro_common::ids::PersonId;
use rostro_gallery::ChangeNumber;
use rostro_index::IndexError;

use super::templates::{TemplateOutcome, TemplatesByView};
use super::view::{View, ViewKey};

/// Views that a revision uses.
#[derive(Debug, Default)]
pub(super) struct Views {
    list: Mutex<Vec<Weak<View>>>,
    deletions: AtomicU64,
}

/// Durable change of one person, as the views see it.
#[derive(Debug)]
pub(super) enum ViewChange<'c> {
    /// All samples were replaced. A view without samples of its contract forgets the person.
    Replaced(&'c PersonId, &'c TemplatesByView),
    /// The samples of one contract were stored. A view of another contract keeps what it has.
    Added(&'c PersonId, &'c TemplatesByView),
    /// The person was deleted.
    Deleted(&'c PersonId),
}

impl Views {
    /// Returns the filled view with this key, if one is in use.
    pub(super) fn find(&self, key: &ViewKey) -> Option<Arc<View>> {
        self.in_use()
            .into_iter()
            .find(|view| view.key() == key && view.is_filled())
    }

    /// Adds a view, which receives every later change.
    pub(super) fn add(&self, view: &Arc<View>) {
        let mut list = self.locked();
        list.retain(|view| view.strong_count() > 0);
        list.push(Arc::downgrade(view));
    }

    /// Returns the views in use.
    pub(super) fn in_use(&self) -> Vec<Arc<View>> {
        let list = self.locked();
        list.iter().filter_map(Weak::upgrade).collect()
    }

    /// Adds a person that was read from the store to a view that is being filled, unless a later
    /// change was applied.
    pub(super) fn fill(
        &self,
        view: &View,
        id: &PersonId,
        templates: Option<&[Vec<f32>]>,
    ) -> Result<(), IndexError> {
        let _order = self.locked();
        view.fill(id, templates)
    }

    /// Marks a view as filled.
    pub(super) fn finish(&self, view: &View) {
        let _order = self.locked();
        view.finish();
    }

    /// Applies a change to every view. The store has written it. The caller holds the person's
    /// lock, so that the changes of one person arrive in the order of their numbers.
    ///
    /// A view without an entry in the templates was added after the write, and reads the change
    /// from the store. A view that cannot use the templates forgets the person.
    ///
    /// # Errors
    ///
    /// The first error of a view. The other views have the change.
    pub(super) fn apply(
        &self,
        number: ChangeNumber,
        change: &ViewChange<'_>,
    ) -> Result<(), IndexError> {
        let list = self.locked();
        if matches!(change, ViewChange::Deleted(_)) {
            self.deletions.fetch_add(1, Ordering::SeqCst);
        }
        let mut result = Ok(());
        for view in list.iter().filter_map(Weak::upgrade) {
            let applied = match change {
                ViewChange::Replaced(id, templates) => match templates.of(&view) {
                    Some(TemplateOutcome::Made(templates)) => upsert(&view, id, templates),
                    Some(TemplateOutcome::NoSamples | TemplateOutcome::Failed) => view.forget(id),
                    None => Ok(()),
                },
                ViewChange::Added(id, templates) => match templates.of(&view) {
                    Some(TemplateOutcome::Made(templates)) => upsert(&view, id, templates),
                    Some(TemplateOutcome::NoSamples) => {
                        view.note_missing(id);
                        Ok(())
                    }
                    Some(TemplateOutcome::Failed) => view.forget(id),
                    None => Ok(()),
                },
                ViewChange::Deleted(id) => view.remove(id),
            };
            result = result.and(applied);
        }
        // Counted again, because what was derived meanwhile may have the person still.
        if matches!(change, ViewChange::Deleted(_)) {
            self.deletions.fetch_add(1, Ordering::SeqCst);
        }
        tracing::trace!(change = number.0, "applied to the views");
        result
    }

    /// Returns a number that changes before and after each deletion is applied.
    pub(super) fn deletions(&self) -> u64 {
        self.deletions.load(Ordering::SeqCst)
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Weak<View>>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces a person's templates. A person of unusable ones is forgotten, because the old ones are of
/// samples that are no longer stored.
fn upsert(view: &View, id: &PersonId, templates: &[Vec<f32>]) -> Result<(), IndexError> {
    let upserted = view.upsert(id, templates);
    if upserted.is_err() {
        view.forget(id)?;
    }
    upserted
}
