//! Shared foundations of the host's crates.
//!
//! | module | content |
//! | --- | --- |
//! | [`ids`] | ids of people, contracts and enrolments |
//! | [`sample`] | the stored sample of an enrolment photo |
//! | [`digest`] | SHA-256 digests, which identify components, models and revisions |
//! | [`keyed_hash`] | HMAC of ids that must not be stored themselves |
//! | [`cancel`] | deadline and cancellation of work |
//! | [`shutdown`] | end of the process: cancels background work and waits for the rest |
//! | [`cores`] | accounting of the processor's cores |
//! | [`parallel`] | data-parallel work on idle cores |
//! | [`processor_time`] | processor time of a thread |
//! | [`fs`] | bounded reads, atomic writes, durable folders and locks |
//! | [`text`] | sanitising of untrusted text for terminals and logs |
//! | [`vector`] | arithmetic on embeddings |
//!
//! All crates of the host (rostro → api → service → sandbox → {inference, models}, service →
//! {gallery, index}) use it, and it uses none of them.

pub mod cancel;
pub mod cores;
pub mod digest;
pub mod fs;
pub mod ids;
pub mod keyed_hash;
pub mod parallel;
pub mod processor_time;
pub mod sample;
pub mod shutdown;
pub mod text;
pub mod vector;

/// Upper bounds of the buckets of latency histograms, in seconds.
pub const LATENCY_BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];
