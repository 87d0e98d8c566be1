//! `POST /v1/sessions/{id}/frames`: frames of a session.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::Uri;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use rostro_service::types::{SessionEvent, SessionId};
use rostro_service::{SessionFrame, SessionRecognition};

use super::answers::EventSchema;
use super::parse_session;
use crate::auth::api_keys::SessionCaller;
use crate::error::ApiError;
use crate::public::openapi::{AuthErrors, BodyErrors, Image, SessionFrameErrors, SessionFrameForm};
use crate::public::recognize::FrameAnswer;
use crate::public::responses::{PipelineHeader, StaleHeader, run_blocking};
use crate::request::extract::PathParams;
use crate::request::form::{Form, FormFields};
use crate::request::frame::{self, FrameRequest};
use crate::request::frame_options::FrameOptions;
use crate::request::query::pairs;
use crate::request::trace::RequestId;
use crate::request::upload::{Received, Upload};
use crate::state::App;

/// Fields of the form.
const FIELDS: FormFields = FormFields {
    texts: &["seq", "at", "closeness", "context", "group", "schedule_id"],
    files: &["image"],
    refuses_misspelt: true,
    example: "curl -F image=@photo.jpg",
    accepted: frame::ACCEPTED,
};

/// Faces of a frame of a session, and what the session made of them.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::public) struct SessionFrameAnswer {
    #[serde(flatten)]
    frame: FrameAnswer,
    session: FrameOfSession,
}

/// Place of a frame in its session.
#[derive(Debug, Serialize, ToSchema)]
struct FrameOfSession {
    #[schema(value_type = String)]
    id: SessionId,
    /// Time of the frame, RFC 3339.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Events that the frame made. They are durable.
    #[schema(value_type = Vec<EventSchema>)]
    events: Vec<SessionEvent>,
}

/// Place of a frame, from query and form.
#[derive(Debug, Default, PartialEq, Eq)]
struct FramePlace {
    seq: Option<u64>,
    at: Option<Timestamp>,
}

/// Send a frame of a session.
#[utoipa::path(
    post,
    path = "/v1/sessions/{id}/frames",
    operation_id = "process_session_frame",
    tag = "sessions",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("seq" = Option<u64>, Query, description = "Number of the frame, above that of the frame before; as in the form"),
        ("at" = Option<String>, Query, description = "Time at which the frame was taken, RFC 3339, no earlier than that of the \
            frame before; the time of its arrival if it is left out; as in the form"),
        ("closeness" = Option<String>, Query, description = "How closely the detector looks: `coarse`, `auto` or `fine`, \
            if the pipeline lets requests choose; as in the form"),
        ("context" = Option<String>, Query, description = "Text for the pipeline, at most 1,024 bytes; as in the form")
    ),
    request_body(content(
        (SessionFrameForm = "multipart/form-data"),
        (Image = "image/jpeg"),
        (Image = "image/png"),
        (Image = "image/webp")
    )),
    responses(
        (
            status = 200,
            description = "Every face, largest first, with its track, and the events of the frame",
            body = SessionFrameAnswer
        ),
        AuthErrors, SessionFrameErrors, BodyErrors
    )
)]
pub(in crate::public) async fn take(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    caller: SessionCaller,
    PathParams(session): PathParams<String>,
    upload: Upload,
) -> Result<(PipelineHeader, StaleHeader, Json<SessionFrameAnswer>), ApiError> {
    let session = parse_session(&session)?;
    let mut place = FramePlace::of_query(upload.uri())?;
    let mut options = FrameOptions::of_query(upload.uri())?;
    // Before the body, which another node would need as well.
    if !app.service.sessions().is_open(session) {
        let service = Arc::clone(&app.service);
        run_blocking(move || service.find_session(session).map_err(ApiError::of_session)).await?;
    }
    let Received {
        content: FrameRequest { image, form },
        context,
        receive_time,
    } = upload.frame(FIELDS).await?;
    place.add_form(&form)?;
    options.add_form(&form)?;
    let frame = SessionFrame {
        image,
        seq: place.seq,
        at: place.at,
        closeness: options.closeness,
        context: options.context.unwrap_or_default(),
        owner: caller.name,
        arrived: Instant::now(),
    };
    let SessionRecognition {
        mut recognition,
        at,
        events,
    } = app
        .service
        .recognize_in_session(session, frame, &context)
        .await
        .map_err(ApiError::of_session)?;
    recognition
        .stages
        .insert(0, ("receive".to_owned(), receive_time));
    app.traffic.record_stages(&recognition.stages);
    Ok((
        PipelineHeader::of(&recognition.revision),
        StaleHeader(recognition.stale),
        Json(SessionFrameAnswer {
            frame: FrameAnswer::of(recognition, &id),
            session: FrameOfSession {
                id: session,
                at,
                events,
            },
        }),
    ))
}

impl FramePlace {
    /// Names of the fields and parameters.
    const NAMES: [&str; 4] = ["seq", "at", "group", "schedule_id"];

    /// Reads a query.
    fn of_query(uri: &Uri) -> Result<Self, ApiError> {
        let mut place = Self::default();
        pairs(uri).try_for_each(|(name, value)| place.add(&name, &value))?;
        Ok(place)
    }

    /// Adds the fields of a form.
    fn add_form(&mut self, form: &Form) -> Result<(), ApiError> {
        for name in Self::NAMES {
            form.values(name)
                .try_for_each(|value| self.add(name, value))?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), ApiError> {
        let is_repeated = match name {
            "seq" => {
                let seq = value
                    .parse()
                    .map_err(|_| invalid(name, "'seq' must be a whole number from 0 on."))?;
                self.seq.replace(seq).is_some_and(|first| first != seq)
            }
            "at" => {
                let at = value.parse().map_err(|_| {
                    let message = "'at' must be a time of RFC 3339, as 2026-12-02T08:00:00Z.";
                    invalid(name, message)
                })?;
                self.at.replace(at).is_some_and(|first| first != at)
            }
            "group" | "schedule_id" => {
                let message = "a session has its own group, which is chosen when it is created.";
                return Err(invalid(name, message));
            }
            _ => false,
        };
        match is_repeated {
            true => Err(invalid(
                name,
                "it is given twice, with different values; send one.",
            )),
            false => Ok(()),
        }
    }
}

fn invalid(parameter: &str, message: &str) -> ApiError {
    ApiError::bad_request("invalid_option", message).with("parameter", parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(query: &str) -> Result<FramePlace, ApiError> {
        FramePlace::of_query(&format!("/v1/sessions/x/frames?{query}").parse().unwrap())
    }

    #[test]
    fn place_is_read_or_refused() {
        let both = place("seq=7&at=2026-12-02T09:00:00%2B01:00&closeness=fine").unwrap();
        assert_eq!(
            (both.seq, both.at),
            (Some(7), "2026-12-02T08:00:00Z".parse().ok())
        );
        assert_eq!(place("").unwrap(), FramePlace::default());
        assert!(place("seq=7&seq=7").is_ok());
        for query in [
            "seq=-1",
            "seq=1.5",
            "seq=",
            "seq=1&seq=2",
            "at=8:00",
            "group=a",
        ] {
            let error = place(query).unwrap_err();
            assert_eq!(error.code, "invalid_option", "{query}");
        }
    }
}
