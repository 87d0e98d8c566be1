//! End-to-end tests: a real `rostro serve`, real components, real models, over HTTP.
//!
//! What they need is made by `cargo xtask test`: the components in `target/guest`, ONNX Runtime in
//! `models/runtime`, libfaketime for `clock`, PostgreSQL for `database` and `fleet`, PgBouncer for
//! `pgbouncer`, nginx for `proxies`, ffmpeg and an RTSP server for `cameras`, a program with
//! another schema for `rolling_upgrade`, and for the modules with real people, `gates`,
//! `identification` and `parity`, the pack `mobile` and the folder that `ROSTRO_SHARED` names (by
//! default `../shared` next to the repository). `disks` and `database` mount file systems in a
//! private namespace, and `gallery_files` needs a C compiler.
//! Anything missing fails the test with what to run.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod archives;
mod audit;
mod authors;
mod bad_input;
mod bodies;
mod bounds;
mod breaker;
mod cameras;
mod clients;
mod clock;
mod connections;
mod contracts;
mod crashes;
mod database;
mod disks;
mod duplicates;
mod enrollment;
mod evil;
mod examples;
mod faults;
mod fleet;
mod gallery_files;
mod gates;
mod hammer;
mod harness;
mod identification;
mod logging;
mod machines;
mod models;
mod monitoring;
mod nodes;
mod operator;
mod overload;
mod parity;
mod people;
mod pgbouncer;
mod pictures;
mod postgres;
mod precision;
mod presence;
mod proxies;
mod publisher;
mod queries;
mod readiness;
mod recognition;
mod reload;
mod replacement;
mod reports;
mod revisions;
mod rolling_upgrade;
mod scaffolds;
mod sessions;
mod shared_revisions;
mod shared_sessions;
mod staging;
mod start;
mod stopping;
mod streams;
mod upgrades;
mod uploads;
mod watch;
