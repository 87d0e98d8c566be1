//! Durable data on disk: people and groups, the record of revisions, and the audit log.
//!
//! [`Store`] is the interface that the rest of the host uses. [`FolderStore`] implements it on a
//! folder, from four parts that each own some of the folder's files:
//!
//! - [`CsvGallery`] (`folder`, `csv_file`): a CSV file of samples for each person and embedding
//!   contract. [`enrolment`] decides which of them are in force, `quarantine` holds the damaged files, and `file_names` the names;
//! - [`groups`]: a file of members for each group;
//! - [`ledger`]: the change number, and the tombstones of deleted people;
//! - [`StateFiles`]: the record of revisions, the audit log and kept templates, in the state folder.
//!
//! `file_watch` detects the files that other programs change while the service runs. Writes are
//! atomic: a temporary file is written, synced and renamed, and its folder is synced. Damaged files
//! are quarantined, never deleted.
//!
//! Place in the host: rostro → api → service → sandbox → {inference, models}, service → {gallery,
//! index}, all → common. This crate uses `rostro-common` alone, and knows neither HTTP nor guests.

pub mod audit;
pub mod csv_file;
pub mod enrolment;
mod error;
mod file_names;
mod file_watch;
mod fleet;
mod folder;
mod folder_store;
pub mod groups;
pub mod ledger;
mod quarantine;
mod state_files;
mod store;
mod templates;

pub use audit::{UNSENT_LINES, UnsentLines};
pub use csv_file::{
    MAX_BYTES as MAX_PERSON_BYTES, REASONS, SampleFileError, parse as parse_samples,
    write as write_samples,
};
pub use error::{DatabaseFailure, GalleryError, Problem};
pub use fleet::{DatabaseUsage, FleetStatus};
pub use folder::{CsvGallery, QuarantinedFile, Removal};
pub use folder_store::{DATABASE_MARKER, FolderStore};
pub use ledger::ChangeNumber;
pub use state_files::{AUDIT_LOG, REVISIONS, StateFiles};
pub use store::{
    AuditAppend, AuditKey, BatchOutcome, BatchWrite, Deletion, Durability, GalleryContents,
    GroupChange, Lease, NodeHealth, NodeRevisions, PendingCause, PendingChange, PersonRecord,
    PersonSamples, PersonWrite, RevisionsError, RevisionsWrite, SampleLocation, SharedChange,
    Store, StoreChanges, StoreError,
};
pub use templates::{KeptTemplates, TEMPLATES, remove_templates};
