//! Metrics of requests: counts by route and status, and times by route and stage.
//!
//! The values of labels are fixed, so that neither callers nor guests can increase their number. No
//! label names a person.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use rostro_common::LATENCY_BUCKETS;

/// Stages with their own histogram: those of the default pipeline and of the host. Guests choose
/// the names of their stages.
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

/// Label of all other stages.
const OTHER: &str = "other";

/// Name and value of a label.
type Label = (&'static str, String);

/// Counts and times of requests. Clones share them.
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
    /// Adds the metrics to a registry.
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

    /// Records a request by its route, its status and its time.
    pub(crate) fn record(&self, route: &str, status: u16, time: Duration) {
        let route = ("route", route.to_owned());
        self.requests
            .get_or_create(&[route.clone(), ("status", status.to_string())])
            .inc();
        self.seconds
            .get_or_create(&[route])
            .observe(time.as_secs_f64());
    }

    /// Records the times of the stages of a request.
    pub(crate) fn record_stages(&self, stages: &[(String, Duration)]) {
        for (stage, time) in stages {
            let label = STAGES
                .into_iter()
                .find(|known| known == stage)
                .unwrap_or(OTHER);
            self.stages
                .get_or_create(&[("stage", label.to_owned())])
                .observe(time.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_stages_share_one_label() {
        let traffic = Traffic::default();
        traffic.record("/process_frame", 200, Duration::from_millis(20));
        let stages: Vec<(String, Duration)> = (0..1000)
            .map(|number| (format!("stage-{number}"), Duration::ZERO))
            .collect();
        traffic.record_stages(&stages);
        traffic.record_stages(&[("detect".to_owned(), Duration::from_millis(7))]);
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
