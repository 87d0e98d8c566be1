//! Parameters in queries and forms: the group of the search, and unknown or misspelt names.

use serde_json::json;
use ureq::http::Method;

use crate::harness::{Answer, Options, Server, drawn, file, text};

/// Starts a server with alice and bob, where only bob is in the group `maths`.
fn server() -> Server {
    let server = Options::drawn().start();
    for person in ["alice", "bob"] {
        server
            .enroll(person, [drawn(&format!("{person}-1.png"))])
            .ok();
    }
    server
        .ask_admin(&Method::PUT, "/v1/groups/maths/people/bob", &[], &[])
        .ok();
    server
}

/// Sends a picture of alice as the body.
fn ask_bare(server: &Server, query: &str) -> Answer {
    server.post(
        &format!("/process_frame{query}"),
        Some("image/png"),
        &drawn("alice-probe.png"),
    )
}

/// Sends a picture of alice in a form with these text fields.
fn ask_form(server: &Server, query: &str, fields: &[(&'static str, &str)]) -> Answer {
    let fields = fields.iter().map(|(name, value)| text(name, value));
    let parts: Vec<_> = fields
        .chain([file("image", "a.png", drawn("alice-probe.png"))])
        .collect();
    server.form(&format!("/process_frame{query}"), &parts)
}

fn identity(answer: &Answer) -> &str {
    assert_eq!(answer.status, 200, "{}", answer.json);
    answer.json["recognized_faces"][0]["identity"]
        .as_str()
        .unwrap()
}

/// Only bob is in the group, so alice is unknown wherever the group counts.
#[test]
fn query_and_form_select_group() {
    let server = server();
    for query in ["", "?", "?camera=3", "?schedule_id="] {
        assert_eq!(identity(&ask_bare(&server, query)), "alice", "{query}");
        assert_eq!(
            identity(&ask_form(&server, query, &[("schedule_id", "")])),
            "alice",
            "{query}"
        );
    }
    for query in [
        "?group=maths",
        "?camera=3&group=maths",
        "?%67roup=m%61ths",
        "?schedule_id=maths",
        "?group=maths&schedule_id=other",
    ] {
        assert_eq!(identity(&ask_bare(&server, query)), "Unknown", "{query}");
        assert_eq!(
            identity(&ask_form(&server, query, &[])),
            "Unknown",
            "{query}"
        );
    }
    assert_eq!(
        identity(&ask_form(
            &server,
            "",
            &[("group", "maths"), ("schedule_id", "other")]
        )),
        "Unknown"
    );
    assert_eq!(
        identity(&ask_form(
            &server,
            "?group=maths",
            &[("schedule_id", "other")]
        )),
        "Unknown"
    );
    ask_bare(&server, "?group=physics").error(404, "unknown_group");
    ask_bare(&server, "?schedule_id=physics").error(404, "unknown_group");
}

/// A search without the intended group could name a person outside of it.
#[test]
fn ambiguous_group_is_refused() {
    let server = server();
    for query in [
        "?group=",
        "?group",
        "?group=%20",
        "?group=maths&group=maths",
        "?group=maths&group=physics",
    ] {
        ask_bare(&server, query).error(400, "invalid_group");
        ask_form(&server, query, &[]).error(400, "invalid_group");
    }
    for (query, fields) in [
        ("", &[("group", "")][..]),
        ("?group=maths", &[("group", "maths")]),
        ("?group=maths", &[("group", "")]),
        ("", &[("group", "maths"), ("group", "maths")]),
        ("", &[("group", "maths"), ("group", "physics")]),
        ("?schedule_id=maths", &[("schedule_id", "physics")]),
    ] {
        ask_form(&server, query, fields).error(400, "invalid_group");
    }
    for name in ["group", "schedule_id"] {
        let as_file = [
            file(name, "group.txt", "maths"),
            file("image", "a.png", drawn("alice-probe.png")),
        ];
        assert!(
            server
                .form("/process_frame", &as_file)
                .error(400, "invalid_group")
                .contains(name)
        );
    }
}

#[test]
fn old_endpoints_refuse_misspelt_group() {
    let server = server();
    for name in [
        "gruop",
        "Group",
        "groups",
        "group_id",
        "schedule",
        "scheduleId",
    ] {
        let error = ask_bare(&server, &format!("?{name}=maths")).error(400, "invalid_query");
        assert!(error.contains(name) && error.contains("write '"), "{error}");
        let photos = [
            text("student_id", "carol"),
            file("images", "a.png", drawn("carol-1.png")),
        ];
        server
            .form(&format!("/process-images?{name}=maths"), &photos)
            .error(400, "invalid_query");
    }
    // Links that were escaped twice.
    for query in ["?amp;group=maths", "?x=1&amp;group=maths", "?group%3Dmaths"] {
        ask_bare(&server, query).error(400, "invalid_query");
    }
    ask_form(&server, "", &[("gruop", "maths")]).error(400, "unknown_field");
    ask_form(&server, "", &[("Schedule-Id", "maths")]).error(400, "unknown_field");
    // Other parameters are ignored, as by the replaced service.
    assert_eq!(
        identity(&ask_form(
            &server,
            "?t=1&crop=yes&camera=a&camera=b",
            &[("quality", "high")]
        )),
        "alice"
    );
    server
        .form(
            "/process-images?t=1&group=maths",
            &[
                text("student_id", "alice"),
                file("images", "a.png", drawn("alice-1.png")),
            ],
        )
        .ok();
}

#[test]
fn v1_refuses_unknown_parameters() {
    let server = server();
    let image = drawn("alice-probe.png");
    for path in [
        "/v1/detect?group=maths",
        "/v1/embeddings?x",
        "/v1/people/alice/photos?review=strict",
    ] {
        server
            .post(path, Some("image/png"), &image)
            .error(400, "invalid_query");
    }
    let digest = server.active();
    for (method, path) in [
        (Method::GET, "/v1/people?limt=3"),
        (Method::GET, "/v1/people?limit=3&x=1"),
        (Method::GET, "/v1/people/alice?verbose"),
        (Method::GET, "/v1/groups?x=1"),
        (Method::DELETE, "/v1/people/alice?dry_run=true"),
        (Method::DELETE, "/v1/groups/maths?dry_run=true"),
        (Method::PUT, "/v1/groups/maths/people/alice?force=1"),
        (Method::GET, "/v1/revisions?x=1"),
        (Method::POST, "/v1/rollback?dry_run=1"),
        (Method::GET, &format!("/v1/revisions/{digest}?x=1")),
        (Method::DELETE, &format!("/v1/revisions/{digest}?x=1")),
        (
            Method::POST,
            &format!("/v1/revisions/{digest}/activate?x=1"),
        ),
    ] {
        server
            .ask_admin(&method, path, &[], &[])
            .error(400, "invalid_query");
    }
    // The refused requests had no effect.
    assert_eq!(
        server.admin_get("/v1/people?limit=3")["people"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        server.admin_get("/v1/groups/maths")["people"],
        json!(["bob"])
    );
}

#[test]
fn probes_and_pages_ignore_parameters() {
    let server = server();
    for path in [
        "/healthz?gruop=1",
        "/readyz?x=1",
        "/?gruop=x",
        "/api?x",
        "/page.js?v=3",
        "/openapi.json?x=1",
    ] {
        assert_eq!(
            ureq::get(format!("{}{path}", server.url))
                .call()
                .unwrap()
                .status(),
            200,
            "{path}"
        );
    }
    assert_eq!(
        ureq::get(format!("{}/metrics?gruop=1", server.admin))
            .call()
            .unwrap()
            .status(),
        200
    );
}
