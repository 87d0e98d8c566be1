//! Parameters in queries and forms: the group that is searched, and names that are unknown or
//! misspelt.

use serde_json::json;
use ureq::http::Method;

use crate::harness::{Answer, Options, Server, drawn, file, text};

/// A server that knows alice and bob, with bob alone in the group `maths`.
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

/// Asks who alice is, by the image alone.
fn ask_bare(server: &Server, query: &str) -> Answer {
    server.post(
        &format!("/process_frame{query}"),
        Some("image/png"),
        &drawn("alice-probe.png"),
    )
}

/// Asks who alice is, by a form with these text fields.
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

/// Bob is the only one of the group, so that alice is unknown wherever the group counts.
#[test]
fn group_counts_in_query_and_form() {
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

/// Searching everybody for a group that was meant otherwise could name somebody who is not in it.
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
fn misspelt_group_is_refused_by_old_endpoints() {
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
    // Whatever else the replaced service ignored is ignored.
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
fn unknown_parameters_are_refused_under_v1() {
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
    // Nothing of it was done.
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
fn probes_pages_and_metrics_ignore_parameters() {
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
