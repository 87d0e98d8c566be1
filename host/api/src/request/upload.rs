//! Extractor of requests with a body: reads it within the limits and the client's share of memory.

use std::time::{Duration, Instant};

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Uri};

use rostro_service::executor::{Client, RequestContext};

use crate::error::ApiError;
use crate::request::form::{Form, FormFields, FormLimits};
use crate::request::frame::{self, FrameRequest};
use crate::state::App;

/// Request before its body is read, so that a handler can check the head first.
#[derive(Debug)]
pub(crate) struct Upload {
    app: App,
    client: Client,
    begun: Instant,
    request: Request,
}

/// Content of a body, and the context of the work on it.
#[derive(Debug)]
pub(crate) struct Received<T> {
    pub(crate) content: T,
    /// Context with a deadline that counts from the end of the body.
    pub(crate) context: RequestContext,
    /// Time from the end of the head to the end of the body.
    pub(crate) receive_time: Duration,
}

impl FromRequest<App> for Upload {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let client = request.extensions().get::<Client>().cloned();
        Ok(Self {
            app: app.clone(),
            client: client.ok_or_else(|| ApiError::unexpected("the request has no client"))?,
            begun: Instant::now(),
            request,
        })
    }
}

impl Upload {
    pub(crate) fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    pub(crate) fn uri(&self) -> &Uri {
        self.request.uri()
    }

    /// Reads one image.
    pub(crate) async fn frame(
        self,
        fields: FormFields,
    ) -> Result<Received<FrameRequest>, ApiError> {
        let limits = self.limits();
        let content = frame::read(self.request, fields, &limits).await;
        received(&self.app, self.client, self.begun, content)
    }

    /// Reads a form.
    pub(crate) async fn form(self, fields: FormFields) -> Result<Received<Form>, ApiError> {
        let limits = self.limits();
        let content = Form::read_any(self.request, fields, &limits).await;
        received(&self.app, self.client, self.begun, content)
    }

    fn limits(&self) -> FormLimits {
        self.app.limits.of(&self.client)
    }
}

fn received<T>(
    app: &App,
    client: Client,
    begun: Instant,
    content: Result<T, ApiError>,
) -> Result<Received<T>, ApiError> {
    match content {
        Ok(content) => Ok(Received {
            content,
            context: app.service.context(client),
            receive_time: begun.elapsed(),
        }),
        // Memory is free again when the requests that wait now are done.
        Err(error) if error.code == "overloaded" => {
            Err(error.retrying_after(app.service.expected_wait()))
        }
        Err(error) => Err(error),
    }
}
