//! Clients of the server's two listeners.

use anyhow::Result;
use ureq::http::Method;

use crate::harness::{Answer, Client, FORM, Part, Server, multipart};

/// A client of the service and one of the admin interface.
#[derive(Debug)]
pub(crate) struct Clients {
    service: Client,
    admin: Client,
    /// The service's address, without scheme.
    pub(crate) address: String,
}

impl Clients {
    pub(crate) fn new(server: &Server) -> Self {
        Self {
            service: Client::new(&server.url),
            admin: Client::new(&server.admin),
            address: server.url.trim_start_matches("http://").to_owned(),
        }
    }

    /// Posts a body to the service.
    pub(crate) fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Result<Answer> {
        self.post_with(path, &[("content-type", content_type)], body)
    }

    /// Posts a form to the service.
    pub(crate) fn form(&self, path: &str, parts: &[Part]) -> Result<Answer> {
        self.post(path, FORM, &multipart(parts))
    }

    /// Posts a body with these headers to the service.
    pub(crate) fn post_with(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        Ok(self.service.send(Method::POST, path, headers, body)?)
    }

    /// Gets a path of the service.
    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        Ok(self.service.send(Method::GET, path, &[], &[])?)
    }

    /// Sends a request without a body to the admin interface.
    pub(crate) fn admin(&self, method: Method, path: &str) -> Result<Answer> {
        Ok(self.admin.send(method, path, &[], &[])?)
    }
}
