//! Durable data in PostgreSQL, for services that share one database.
//!
//! | module | content |
//! | --- | --- |
//! | [`connection`] | the address of a database, TLS, the pool, and errors with their remedies |
//! | [`schema`] | versioned migrations, and which versions this program runs with |
//! | [`copy()`] | all people, groups and deletions from one store to another |
//! | [`nodes`] | the nodes of a database, for operators |
//! | `fleet` | leases of the nodes, and waiting until all applied a change |
//! | `sessions` | sessions of all nodes, which [`PostgresStore::sessions`] returns |
//! | `store` | [`PostgresStore`], the [`Store`](rostro_gallery::Store) in a database |
//!
//! Calls block, as those of the store in a folder. Connections run on a thread of their own
//! ([`Database`]).
//!
//! Place in the host: rostro → {service, database} → {gallery, sessions}, all → common. This crate uses
//! `rostro-gallery` and `rostro-sessions`, for the types that it stores, and `rostro-common`.

pub mod connection;
mod copy;
mod fleet;
pub mod nodes;
pub mod schema;
mod sessions;
mod store;

pub use connection::{Database, DatabaseError, DatabaseOptions};
pub use copy::{CopyError, CopyReport, check_target, copy};
pub use fleet::FleetOptions;
pub use fleet::settings::{self, NodeSettings};
pub use fleet::stale;
pub use store::{
    AuditLineOf, DamagedRow, Node, PostgresStore, Restored, StoredRevisions, append_audit_lines,
    begin_epoch, find_components, find_damage, read_audit_keys, read_audit_lines,
};
