//! People: the durable store, and the views that follow it.
//!
//! A write goes to the store first, then to the views. Views change only by `Views::apply`, which
//! takes a change with its number. A write returns once its change is applied. No lock is held
//! while the store writes, except that of the written person.

mod batch;
mod fill;
mod locks;
mod rescan;
mod templates;
mod view;
mod views;
mod write;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rostro_common::cancel::CancelScope;
use rostro_common::cores::Cores;
use rostro_common::ids::{CaseKeys, ContractId, PersonId};
use rostro_common::sample::Sample;
use rostro_gallery::groups::GroupsError;
use rostro_index::{IndexError, Method};
use rostro_sandbox::error::RunError;
use rostro_sessions::{SessionStore, SessionStoreError};

use self::views::Views;

pub(crate) use batch::Replacement;
pub use fill::FillMode;
pub(crate) use locks::{PersonLock, PersonLocks};
pub use rescan::PendingPeople;
pub use rostro_gallery::{
    Deletion, GalleryContents, GalleryError, KeptTemplates, PersonRecord, PersonWrite, Problem,
    SampleFileError, SampleLocation, Store, StoreError,
};
pub use view::View;

/// Enrolled people.
#[derive(Debug)]
pub struct People {
    store: Arc<dyn Store>,
    method: Method,
    cores: Cores,
    views: Views,
    /// Sessions, which forget deleted people.
    sessions: Option<Arc<SessionStore>>,
    /// Serialises the changes of one person.
    locks: Arc<PersonLocks>,
    /// Ids of all stored people, once the store was loaded.
    stored: Mutex<Option<CaseKeys>>,
}

/// Result of filling a view.
#[derive(Debug, Default)]
pub struct ViewReport {
    /// Number of recognisable people.
    pub known: usize,
    /// Number of people with embeddings of other contracts only: stored, but not matched.
    pub need_enrolment: usize,
    /// Unusable files, each with its cause.
    pub problems: Vec<Problem>,
    /// Number of people with templates that an earlier start kept.
    pub kept_templates: usize,
    /// Number of files of other contracts that may be older than their person's last enrolment, and
    /// so are not matched.
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
    /// The person is deleted, and their attendance is not.
    #[error("{0}; the person's attendance may be kept still")]
    Sessions(#[source] SessionStoreError),
    /// Another request or program was still changing the person at the deadline.
    #[error("the person is being changed by another request or program")]
    Busy,
    /// A new id differs only in case from one that is stored.
    #[error(
        "another person is stored under this id with other upper and lower case; choose another id"
    )]
    IdTaken,
}

impl From<StoreError> for PeopleError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Gallery(error) => Self::Gallery(error),
            StoreError::Groups(error) => Self::Groups(error),
        }
    }
}

impl People {
    /// Creates the people of a store, searched by `method` on idle `cores`.
    pub fn new(store: Arc<dyn Store>, method: Method, cores: Cores) -> Self {
        Self {
            store,
            method,
            cores,
            views: Views::default(),
            sessions: None,
            locks: Arc::default(),
            stored: Mutex::default(),
        }
    }

    /// Lets a deletion reach these sessions.
    #[must_use]
    pub fn with_sessions(self, sessions: Arc<SessionStore>) -> Self {
        Self {
            sessions: Some(sessions),
            ..self
        }
    }

    /// Returns the store, for reads and for changes that no view sees.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Returns a number that changes before and after this process applies a deletion. What was
    /// derived from people under another number must not be used.
    pub(crate) fn deletions(&self) -> u64 {
        self.views.deletions()
    }

    /// Returns the locks of people.
    pub(crate) fn locks(&self) -> &Arc<PersonLocks> {
        &self.locks
    }

    /// Blocks until another program may have made a change, at most for `period`.
    pub fn wait_for_changes(&self, period: Duration) {
        self.store.wait_for_changes(period);
    }

    /// Waits until this node may answer from memory.
    ///
    /// # Errors
    ///
    /// If it may not when `scope` ends.
    pub fn join(&self, scope: &CancelScope) -> Result<(), PeopleError> {
        Ok(self.store.join(scope)?)
    }

    /// Removes this node from the fleet, because it answers nothing any more.
    pub fn leave(&self) {
        self.store.leave();
    }

    /// Returns the samples in force of a person, of every contract; none for an unknown person.
    ///
    /// # Errors
    ///
    /// If the samples cannot be read.
    pub(crate) fn samples(&self, id: &PersonId) -> Result<Option<Vec<Sample>>, PeopleError> {
        Ok(self.store.read(id)?)
    }

    /// Returns the ids of all stored people, and the files that belong to no person or are not in
    /// use.
    ///
    /// # Errors
    ///
    /// If the gallery as a whole cannot be read.
    pub(crate) fn ids(&self) -> Result<(BTreeSet<PersonId>, Vec<Problem>), PeopleError> {
        Ok(self.store.ids()?)
    }

    /// Refuses to add to samples that another program wrote and no view has read yet, because they
    /// may be another person's.
    ///
    /// # Errors
    ///
    /// [`PeopleError::Busy`] until the files are read.
    pub(crate) fn check_seen(&self, id: &PersonId) -> Result<(), PeopleError> {
        if self.store.has_unseen_files(id) {
            Err(PeopleError::Busy)
        } else {
            Ok(())
        }
    }

    /// Sets the contract of samples that name none, if it is known from an earlier run.
    pub(crate) fn adopt_legacy(&self, contract: &ContractId) {
        self.store.adopt_legacy(contract, None);
    }
}
