//! Sessions: who is present in the frames of a stream, since when, and who came late.
//!
//! | module | content |
//! | --- | --- |
//! | `ids` | ids of sessions and names of streams |
//! | `rule` | the rule by which a person is present |
//! | [`presence`] | counting of one person, and corrections |
//! | `event` | events of a session, with stable ids, and their JSON |
//! | `session` | the state machine of a session, without files |
//! | `journal` | a session's file: synced lines, repair, atomic rewrites |
//! | [`shared`] | seam for sessions of several nodes, which `rostro-database` implements |
//! | `store` | the sessions of a host: limits, removal of people, retention |
//! | `attendance` | the attendance as CSV |
//!
//! [`Session`] is pure: an operation returns a [`SessionChange`], which a store writes and then
//! applies. [`SessionStore`] keeps changes in files, or in the rows of a database that several nodes
//! share.
//! The crate sees no pixels and decides no identity: it counts what the policy answered.
//!
//! Place in the host: rostro → api → service → sessions → common. It knows neither HTTP nor guests.

mod attendance;
mod error;
mod event;
mod ids;
mod journal;
pub mod presence;
mod rule;
mod session;
pub mod shared;
mod store;
#[cfg(test)]
mod testing;

pub use attendance::attendance_csv;
pub use error::SessionStoreError;
pub use event::{EventId, EventKind, InvalidEventId, PolicyEvent, SessionEvent};
pub use ids::{InvalidSessionId, InvalidStreamName, SessionId, StreamName};
pub use presence::{CorrectedStatus, Correction, PresenceStatus};
pub use rule::{InvalidRule, PresenceRule};
pub use session::{
    Attendance, FramePosition, InvalidChange, NamedPerson, ObservedFrame, Session, SessionChange,
    SessionError, SessionHead, SessionState, SessionSummary, SessionView, UncertainReason,
};
pub use store::{
    CorrectionRequest, DamagedJournal, NewSession, RemovalMark, SESSIONS, SessionLimits,
    SessionPosition, SessionStore,
};
