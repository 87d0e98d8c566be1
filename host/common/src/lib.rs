//! What every crate of the host uses: ids, digests, files, cores, cancellation and text. It knows
//! no other crate of the host.

pub mod cancel;
pub mod cores;
pub mod digest;
pub mod fs;
pub mod keyed_hash;
pub mod parallel;
pub mod person;
pub mod processor_time;
pub mod shutdown;
pub mod text;
pub mod vector;

/// Upper ends of the buckets of latency histograms, in seconds.
pub const LATENCY_BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];
