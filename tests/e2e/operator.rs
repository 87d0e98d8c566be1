//! Client of the admin interface.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::http::Method;

use crate::harness::{Answer, Server, rostro};

/// Time limit of staging on a busy machine.
const STAGING: Duration = Duration::from_secs(120);

fn ask(server: &str, method: &Method, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(STAGING))
        .build()
        .into();
    let mut request = ureq::http::Request::builder()
        .method(method.clone())
        .uri(format!("{server}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = agent
        .run(request.body(body).unwrap())
        .expect("the server answers");
    let text = response.body_mut().read_to_string().unwrap();
    let json = serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"));
    Answer {
        status: response.status().as_u16(),
        json,
        headers: response.headers().clone(),
    }
}

impl Server {
    /// Sends a request with extra headers to the admin interface.
    pub(crate) fn ask_admin(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> Answer {
        ask(&self.admin, method, path, body, headers)
    }

    /// Sends a request with any method and headers to the service.
    pub(crate) fn ask(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> Answer {
        ask(&self.url, method, path, body, headers)
    }

    pub(crate) fn admin_get(&self, path: &str) -> Value {
        self.ask_admin(&Method::GET, path, &[], &[]).ok()
    }

    pub(crate) fn admin_post(&self, path: &str) -> Answer {
        self.ask_admin(&Method::POST, path, &[], &[])
    }

    pub(crate) fn admin_delete(&self, path: &str) -> Answer {
        self.ask_admin(&Method::DELETE, path, &[], &[])
    }

    /// Pushes a component.
    pub(crate) fn push(&self, component: &[u8], query: &str) -> Answer {
        self.ask_admin(
            &Method::POST,
            &format!("/v1/revisions?{query}"),
            component,
            &[],
        )
    }

    /// Pushes a component, waits until it is staged or failed, and returns its status. Panics if
    /// the push is refused.
    pub(crate) fn stage(&self, component: &[u8], query: &str) -> Value {
        let pushed = self.push(component, query);
        assert!(matches!(pushed.status, 200 | 202), "{}", pushed.json);
        let id = pushed.json["revision"]["id"].as_str().unwrap().to_owned();
        let begun = Instant::now();
        loop {
            let revision = self.admin_get(&format!("/v1/revisions/{id}"));
            if revision["state"] != "staging" {
                return revision;
            }
            assert!(begun.elapsed() < STAGING, "still staging: {revision}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Pushes a component, asserts that it is staged, and returns its id.
    pub(crate) fn staged(&self, component: &[u8], query: &str) -> String {
        let revision = self.stage(component, query);
        assert!(revision["reason"].is_null(), "{revision}");
        revision["id"].as_str().unwrap().to_owned()
    }

    /// Activates a revision.
    pub(crate) fn activate(&self, id: &str) -> Value {
        self.admin_post(&format!("/v1/revisions/{id}/activate"))
            .ok()
    }

    /// Returns the state of a revision.
    pub(crate) fn state(&self, id: &str) -> String {
        self.admin_get(&format!("/v1/revisions/{id}"))["state"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Returns the id of the active revision.
    pub(crate) fn active(&self) -> String {
        self.admin_get("/v1/revisions")["active"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Returns the command `rostro pipeline` with the address of this server's admin interface.
    pub(crate) fn pipeline(&self, args: &[&str]) -> Command {
        let mut command = rostro();
        command
            .arg("pipeline")
            .args(args)
            .args(["--admin", &self.admin]);
        command
    }
}

/// Returns the text of `/metrics`.
pub(crate) fn metrics(server: &Server) -> String {
    ureq::get(format!("{}/metrics", server.admin))
        .call()
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap()
}

/// Reads a component.
pub(crate) fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

/// Returns the component with an unused section, which makes it another revision.
pub(crate) fn again(component: &[u8], which: u8) -> Vec<u8> {
    // A custom section: its id, its length, the length of its name, its name, and its content.
    [component, &[0, 6, 4, b'c', b'o', b'p', b'y', which]].concat()
}
