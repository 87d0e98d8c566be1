//! Events of a session in the OpenAPI document.

use utoipa::ToSchema;

use rostro_service::types::CorrectedStatus;

/// Event of a session. `kind` tells which of the other fields it has.
#[derive(ToSchema)]
#[schema(as = SessionEvent)]
#[expect(
    dead_code,
    reason = "only described: the sessions write their events themselves"
)]
pub(super) struct EventSchema {
    /// Stable id: the session's id, a hyphen and the number. Who receives an event twice drops the
    /// second by it.
    id: String,
    /// Number of the event in its session. Numbers ascend from 1, and deleted people leave gaps.
    number: u64,
    /// Time of the frame, or else of the operation, RFC 3339.
    #[schema(format = DateTime)]
    at: String,
    kind: EventKindSchema,
    /// The person.
    person: Option<String>,
    /// Best similarity up to then.
    similarity: Option<f32>,
    /// Corrected status; null if the correction was withdrawn.
    status: Option<CorrectedStatus>,
    /// Name of the API key that corrected the attendance.
    by: Option<String>,
    /// Code of the policy's event.
    code: Option<String>,
    /// Number that belongs to the policy's event.
    value: Option<f32>,
    /// Sentence of the policy's event.
    message: Option<String>,
}

/// Kind of an event.
#[derive(ToSchema)]
#[schema(as = SessionEventKind, rename_all = "snake_case")]
#[expect(dead_code, reason = "only described")]
enum EventKindSchema {
    Started,
    Arrived,
    Late,
    Corrected,
    Policy,
    PersonRemoved,
    TooManyEvents,
    Ended,
}
