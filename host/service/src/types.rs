//! Plain data of other crates that callers of the service use.

pub use rostro_delivery::{ReceiverKind, ReceiverState, ReceiverStatus};
pub use rostro_gallery::groups::{GroupId, GroupIndex, GroupsError, Members};
pub use rostro_gallery::{
    DatabaseFailure, FleetStatus, GalleryError, GroupChange, PendingCause, PendingChange, REASONS,
};
pub use rostro_inference::precision::Precision;
pub use rostro_sandbox::bindings::{
    Candidate, Event, GuestContext, Identity, Measure, Purpose, Reason,
};
pub use rostro_sandbox::component::error::ComponentError;
pub use rostro_sandbox::error::RunError;
pub use rostro_sandbox::guest::report::Warning;
pub use rostro_sandbox::half::Half;
pub use rostro_sandbox::pipeline::revision::Revision;
pub use rostro_sandbox::review::Review;
pub use rostro_sandbox::types::{Analysis, AnalyzedFace};
pub use rostro_sessions::{
    Attendance, CorrectedStatus, Correction, CorrectionRequest, EventId, FramePosition,
    PresenceRule, PresenceStatus, RemovalMark, SessionError, SessionEvent, SessionId,
    SessionStoreError, SessionSummary, SessionView, StreamName, UncertainReason, attendance_csv,
};
