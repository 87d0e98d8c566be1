//! Nodes that share a database, as operators see, drain and measure them.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::Method;

use crate::database::{migrate, migrated};
use crate::fleet::hammer::proxy::{Link, Proxy};
use crate::harness::{Answer, Options, Server, component, drawn, eventually, output_of, rostro};
use crate::operator::{bytes, metrics};
use crate::postgres::{OwnDatabase, Postgres};

/// Metrics of a node, with their labels.
const METRICS: [&str; 15] = [
    "rostro_audit_unsent_bytes",
    "rostro_fleet_stale_reads",
    "rostro_fleet_stale_answers_total",
    "rostro_fleet_lag_changes",
    "rostro_fleet_lease_age_seconds",
    "rostro_fleet_lease_valid",
    "rostro_fleet_expulsions_total",
    "rostro_fleet_joins_total",
    "rostro_database_connections{state=\"idle\"}",
    "rostro_database_connections{state=\"used\"}",
    "rostro_database_pool_waits_total",
    "rostro_database_statements_total{kind=\"read\"}",
    "rostro_database_statements_total{kind=\"change\"}",
    "rostro_database_statements_total{kind=\"lease\"}",
    "rostro_database_reconnects_total",
];

/// Length of a lease of the nodes.
const LEASE: Duration = Duration::from_secs(1);

/// Options of a node on a database.
fn node(database: &OwnDatabase, name: &str) -> Options {
    node_at(database.url(), name)
}

/// Options of a node that reaches its database at an address.
fn node_at(url: &str, name: &str) -> Options {
    Options::drawn()
        .arg("--database", url)
        .arg("--node", name)
        .arg("--lease", "1")
}

fn database_command(database: &OwnDatabase, args: &[&str]) -> Output {
    rostro()
        .args(args)
        .args(["--database", database.url()])
        .output()
        .unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns what `rostro nodes --json` prints.
pub(crate) fn list(database: &OwnDatabase) -> Value {
    let mut command = rostro();
    let command = command.args(["nodes", "--json", "--database", database.url()]);
    serde_json::from_str(&output_of(command)).unwrap()
}

/// Returns the value of a metric; none without it.
fn value(server: &Server, sample: &str) -> Option<f64> {
    let text = metrics(server);
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

fn readiness(server: &Server) -> u16 {
    server.ask(&Method::GET, "/readyz", &[], &[]).status
}

/// Nodes are listed as JSON and as a table, a line for each.
#[test]
fn nodes_are_listed() {
    let database = migrated();
    let _servers = [
        node(&database, "one").start(),
        node(&database, "two").start(),
    ];
    let report = || list(&database);
    eventually("two serving nodes", || {
        let report = report();
        let nodes = report["nodes"].as_array().unwrap();
        nodes.len() == 2 && nodes.iter().all(|node| node["state"] == "serving")
    });
    let report = report();
    for (node, name) in report["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .zip(["one", "two"])
    {
        assert_eq!(node["name"], name);
        assert_eq!(node["ready"], true);
        assert_eq!(node["lag"], 0);
        assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
        assert!(
            node["renewed_seconds_ago"].as_f64().unwrap() < 5.0,
            "{node}"
        );
        assert_eq!(node["settings"]["pack"], "testing");
        assert_eq!(node["settings"]["lease"], "1");
        assert_eq!(node["different"].as_object().unwrap().len(), 0);
    }
    let table = database_command(&database, &["nodes"]);
    let table = String::from_utf8(table.stdout).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    let column = lines[0].find("STATE").unwrap();
    assert!(
        lines[1..]
            .iter()
            .all(|line| line[column..].starts_with("serving")),
        "{table}"
    );
}

/// A drained node is not ready and still answers.
#[test]
fn drained_node_still_answers() {
    let database = migrated();
    let (server, other) = (
        node(&database, "one").start(),
        node(&database, "two").start(),
    );
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    let drain = |args: &[&str]| database_command(&database, &[&["nodes", "drain"], args].concat());
    let drained = drain(&["one", "--json"]);
    assert!(drained.status.success(), "{}", error(&drained));
    let report: Value = serde_json::from_slice(&drained.stdout).unwrap();
    assert_eq!(report, json!({ "node": "one", "draining": true }));
    eventually("the drain", || readiness(&server) == 503);
    server
        .ask(&Method::GET, "/readyz", &[], &[])
        .error(503, "draining");
    server
        .ask_admin(&Method::GET, "/readyz", &[], &[])
        .error(503, "draining");
    assert_eq!(server.names(drawn("alice-probe.png")), ["alice"]);
    assert_eq!(readiness(&other), 200);
    let report = list(&database);
    assert_eq!(report["nodes"][0]["state"], "draining");
    assert_eq!(report["nodes"][0]["ready"], false);
    assert!(drain(&["one", "--off"]).status.success());
    eventually("the end of the drain", || readiness(&server) == 200);
    let refused = drain(&["three"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        error(&refused).contains("its nodes are one, two"),
        "{}",
        error(&refused)
    );
}

/// The audit log has the commands that change nodes, with the role that gave them.
#[test]
fn node_commands_are_audited() {
    let database = migrated();
    let _server = node(&database, "one").start();
    let commands: [&[&str]; 6] = [
        &["nodes", "drain", "one"],
        &["nodes", "drain", "one"],
        &["nodes", "drain", "two"],
        &["nodes", "drain", "one", "--off"],
        &["nodes", "stale-reads", "on", "--for", "60"],
        &["nodes", "stale-reads", "off"],
    ];
    for command in commands {
        database_command(&database, command);
    }
    let audit = database_command(&database, &["audit", "--json"]);
    let lines: Value = serde_json::from_slice(&audit.stdout).unwrap();
    let lines: Vec<&Value> = lines.as_array().unwrap().iter().collect();
    let by_command = |line: &&&Value| line["from"].as_str().unwrap().starts_with("command: ");
    let lines: Vec<&&Value> = lines.iter().filter(by_command).collect();
    let column = |name: &str| {
        lines
            .iter()
            .map(|line| line[name].as_str())
            .collect::<Vec<_>>()
    };
    let actions = [
        "drain",
        "drain",
        "drain",
        "end-drain",
        "stale-reads",
        "end-stale-reads",
    ];
    let outcomes = ["done", "unchanged", "refused", "done", "done", "done"];
    assert_eq!(column("action"), actions.map(Some));
    assert_eq!(column("outcome"), outcomes.map(Some));
    let details = [
        Some("one"),
        Some("one"),
        Some("two"),
        Some("one"),
        Some("for up to 60 s"),
        None,
    ];
    assert_eq!(column("detail"), details);
    assert!(
        column("who")
            .iter()
            .all(|who| who.unwrap().starts_with("role ")),
        "{lines:?}"
    );
}

/// A node that is cut off lists no groups, because their members may be deleted.
#[test]
fn cut_off_node_lists_no_groups() {
    let postgres = Postgres::shared();
    let database = postgres.database();
    migrate(&database);
    let one = node(&database, "one").start();
    let proxy = Proxy::start(postgres.address());
    let url = format!(
        "postgresql://postgres@{}/{}",
        proxy.address(),
        database.name()
    );
    let two = node_at(&url, "two").start();
    one.enroll("alice", [drawn("alice-1.png")]).ok();
    one.ask_admin(&Method::PUT, "/v1/groups/maths/people/alice", &[], &[])
        .ok();
    let groups = |path: &str| two.ask_admin(&Method::GET, path, &[], &[]);
    eventually("the group", || groups("/v1/groups/maths").status == 200);
    proxy.set(Link::Cut);
    one.ask_admin(&Method::DELETE, "/v1/people/alice", &[], &[])
        .ok();
    for path in ["/v1/groups", "/v1/groups/maths"] {
        groups(path).error(503, "lease_lost");
    }
    proxy.set(Link::Open);
    eventually("the lease", || groups("/v1/groups").status == 200);
    assert_eq!(groups("/v1/groups/maths").ok()["people"], json!([]));
}

/// A node with other settings does not start, and its error names the keys.
#[test]
fn different_settings_refuse_start() {
    let database = migrated();
    let _one = node(&database, "one").start();
    let other = || node(&database, "two").arg("--similarity-threshold", "0.25");
    let refused = other().refuse();
    assert!(
        refused.contains("one in similarity-threshold (0.25, there the pack's);")
            && refused.contains("--allow-different"),
        "{refused}"
    );
    let two = other().variable("ROSTRO_ALLOW_DIFFERENT", "1").start();
    assert!(two.log().contains("similarity-threshold"), "{}", two.log());
    let report = list(&database);
    assert_eq!(
        report["nodes"][1]["different"]["similarity-threshold"],
        "0.25"
    );
}

/// A changed setting is in the row after a reload.
#[test]
fn reload_updates_settings() {
    let database = migrated();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rostro.toml");
    std::fs::write(&file, "review = 'standard'").unwrap();
    let server = node(&database, "one").arg("--config", &file).start();
    let review = || list(&database)["nodes"][0]["settings"]["review"].clone();
    assert_eq!(review(), "standard");
    std::fs::write(&file, "review = 'strict'").unwrap();
    server.signal("HUP");
    eventually("the new review", || review() == "strict");
}

/// Metrics of nodes are absent without a database.
#[test]
fn metrics_need_database() {
    let text = metrics(&Options::drawn().start());
    assert!(
        !text.contains("rostro_fleet") && !text.contains("rostro_database"),
        "{text}"
    );
    let database = migrated();
    let server = node(&database, "one").start();
    server.enroll("alice", [drawn("alice-1.png")]).ok();
    for sample in METRICS {
        assert!(value(&server, sample).is_some(), "{sample}");
    }
    assert_eq!(value(&server, "rostro_fleet_lease_valid"), Some(1.0));
    assert_eq!(value(&server, "rostro_fleet_joins_total"), Some(1.0));
    assert_eq!(value(&server, "rostro_fleet_expulsions_total"), Some(0.0));
    let statements = |kind: &str| {
        let sample = format!("rostro_database_statements_total{{kind=\"{kind}\"}}");
        value(&server, &sample).unwrap()
    };
    assert!(statements("change") >= 1.0);
    let leases = statements("lease");
    eventually("a renewal", || statements("lease") > leases);
    let age = value(&server, "rostro_fleet_lease_age_seconds").unwrap();
    assert!(age < 1.0, "{age}");
}

/// With stale reads no recognition fails while the database is away. Deletions are made, and do not
/// succeed before they are turned off.
#[test]
fn stale_reads_bridge_outage() {
    let postgres = Postgres::start();
    let database = postgres.database();
    migrate(&database);
    let servers = [
        node(&database, "one").start(),
        node(&database, "two").start(),
    ];
    servers[0].enroll("alice", [drawn("alice-1.png")]).ok();
    let probe = || drawn("alice-probe.png");
    eventually("alice on both nodes", || {
        servers
            .iter()
            .all(|server| server.names(probe()) == ["alice"])
    });
    assert!(stale_seconds(&servers[0].recognize(probe())).is_none());
    assert_eq!(value(&servers[0], "rostro_fleet_stale_reads"), Some(0.0));
    assert_eq!(list(&database)["stale_reads"]["state"], "off");

    let switch = |args: &[&str]| {
        let output = database_command(&database, &[&["nodes", "stale-reads"], args].concat());
        assert!(output.status.success(), "{}", error(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = switch(&["on", "--for", "600"]);
    assert!(
        text.contains("up to 600 s without a lease; each node learns it"),
        "{text}"
    );
    eventually("both know it", || {
        servers
            .iter()
            .all(|server| value(server, "rostro_fleet_stale_reads") == Some(1.0))
    });
    let report = list(&database);
    assert_eq!(report["stale_reads"]["state"], "on");
    assert_eq!(report["stale_reads"]["seconds"], 600);
    assert_eq!(report["nodes"][0]["stale_reader"], true);
    let table = database_command(&database, &["nodes"]).stdout;
    let table = String::from_utf8(table).unwrap();
    assert!(
        table.starts_with("stale reads are on, for up to 600 s\n") && table.contains("STALE"),
        "{table}"
    );

    postgres.stop();
    let begun = Instant::now();
    while begun.elapsed() < 4 * LEASE {
        for server in &servers {
            assert_eq!(server.names(probe()), ["alice"]);
            assert_eq!(readiness(server), 200);
        }
    }
    for server in &servers {
        let answer = server.recognize(probe());
        let age = stale_seconds(&answer).unwrap();
        assert!((1..30).contains(&age), "{age}");
        assert!(value(server, "rostro_fleet_stale_answers_total") >= Some(1.0));
        assert_eq!(value(server, "rostro_fleet_lease_valid"), Some(0.0));
    }
    let delete = || servers[0].ask_admin(&Method::DELETE, "/v1/people/alice", &[], &[]);
    delete().error(503, "database_unavailable");
    postgres.start_again();
    eventually("leases", || {
        let answers = servers.iter().map(|server| server.recognize(probe()));
        answers
            .into_iter()
            .all(|answer| answer.status == 200 && stale_seconds(&answer).is_none())
    });

    delete().error(504, "stale_readers");
    for server in &servers {
        assert_eq!(server.names(probe()), ["Unknown"]);
    }
    let id = servers[0].staged(&bytes(component("variant")), "");
    let activate = || servers[0].admin_post(&format!("/v1/revisions/{id}/activate"));
    eventually("both nodes stage it", || activate().status == 504);
    activate().error(504, "stale_readers");
    assert_eq!(
        servers.each_ref().map(Server::active),
        [id.clone(), id.clone()]
    );
    assert_eq!(switch(&["off"]), "stale reads are off\n");
    let report: Value = serde_json::from_str(&switch(&["off", "--json"])).unwrap();
    assert_eq!(
        (&report["state"], &report["nodes"]),
        (&json!("off"), &json!([]))
    );
    activate().ok();
    assert_eq!(delete().ok()["deleted"], false);
    servers[1].enroll("alice", [drawn("alice-1.png")]).ok();
    delete().ok();
    assert_eq!(value(&servers[0], "rostro_fleet_stale_reads"), Some(0.0));
}

/// Returns the seconds that the header of an answer without a lease has.
fn stale_seconds(answer: &Answer) -> Option<u64> {
    let value = answer.headers.get("x-rostro-stale")?;
    value.to_str().unwrap().parse().ok()
}
