//! How requests went, for monitoring: counted by route and status, and timed by route and stage.
//!
//! Every label is one of a few that are known beforehand: no caller and no guest can make them
//! many, and none names a person.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use rostro_common::LATENCY_BUCKETS;

/// The stages that have a histogram of their own: those of the default pipeline and of the host.
/// Guests name theirs as they like.
const STAGES: [&str; 14] = [
    "receive",
    "queue",
    "decode",
    "letterbox",
    "detect",
    "align",
    "measure",
    "copy-in",
    "embed",
    "copy-out",
    "crop",
    "search",
    "decide",
    "total",
];

/// What any other stage is counted as.
const OTHER: &str = "other";

/// A label's name and value.
type Label = (&'static str, String);

/// Counts and times; clones share them.
#[derive(Clone, Debug)]
pub struct Traffic {
    requests: Family<[Label; 2], Counter>,
    seconds: Family<[Label; 1], Histogram, fn() -> Histogram>,
    stages: Family<[Label; 1], Histogram, fn() -> Histogram>,
}

impl Default for Traffic {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            stages: Family::new_with_constructor(histogram),
        }
    }
}

impl Traffic {
    /// Has them written with the other metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests",
            "Requests that were answered, by route and status",
            self.requests.clone(),
        );
        let help = "Time from a request's head to its answer, by route";
        registry.register("request_seconds", help, self.seconds.clone());
        registry.register(
            "stage_seconds",
            "Time of a stage of recognising, by stage",
            self.stages.clone(),
        );
    }

    /// Counts a request: its route as it is written, its status, and how long it took.
    pub(crate) fn note(&self, route: &str, status: u16, took: Duration) {
        let route = ("route", route.to_owned());
        self.requests
            .get_or_create(&[route.clone(), ("status", status.to_string())])
            .inc();
        self.seconds
            .get_or_create(&[route])
            .observe(took.as_secs_f64());
    }

    /// Takes note of how long the stages of a request took.
    pub(crate) fn note_stages(&self, stages: &[(String, Duration)]) {
        for (stage, took) in stages {
            let known = STAGES
                .into_iter()
                .find(|known| known == stage)
                .unwrap_or(OTHER);
            self.stages
                .get_or_create(&[("stage", known.to_owned())])
                .observe(took.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_cannot_make_labels_many() {
        let traffic = Traffic::default();
        traffic.note("/process_frame", 200, Duration::from_millis(20));
        let stages: Vec<(String, Duration)> = (0..1000)
            .map(|number| (format!("stage-{number}"), Duration::ZERO))
            .collect();
        traffic.note_stages(&stages);
        traffic.note_stages(&[("detect".to_owned(), Duration::from_millis(7))]);
        let mut registry = Registry::with_prefix("rostro");
        traffic.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("rostro_requests_total{route=\"/process_frame\",status=\"200\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("rostro_stage_seconds_count{stage=\"other\"} 1000"),
            "{text}"
        );
        assert!(
            text.contains("rostro_stage_seconds_bucket{le=\"0.01\",stage=\"detect\"} 1"),
            "{text}"
        );
        assert_eq!(text.matches("rostro_stage_seconds_count").count(), 2);
    }
}
