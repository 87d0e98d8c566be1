//! How models fare, for monitoring.
//!
//! Labels are the roles of installed packs, which an operator chose, and kinds of failures: few,
//! and none of a guest's making. A model keeps its handles, so nothing is looked up for a run.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use rostro_common::LATENCY_BUCKETS;
use rostro_common::cancel::CancelScope;

use super::ModelError;

/// A label's name and value.
type ModelLabel = (&'static str, String);

/// How all models fare; clones share it.
#[derive(Clone, Debug)]
pub struct ModelMeters {
    seconds: Family<[ModelLabel; 1], Histogram, fn() -> Histogram>,
    waits: Family<[ModelLabel; 1], Histogram, fn() -> Histogram>,
    images: Family<[ModelLabel; 1], Counter>,
    failures: Family<[ModelLabel; 2], Counter>,
}

/// How one model fares.
#[derive(Debug)]
pub(super) struct ModelMeter {
    seconds: Histogram,
    images: Counter,
    refused: Counter,
    late: Counter,
    cancelled: Counter,
    failed: Counter,
}

impl Default for ModelMeters {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        Self {
            seconds: Family::new_with_constructor(histogram),
            waits: Family::new_with_constructor(histogram),
            images: Family::default(),
            failures: Family::default(),
        }
    }
}

impl ModelMeters {
    /// Has them written with the other metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time of a guest's call of a model that gave an answer, with waiting for sessions, by model";
        registry.register("inference_seconds", help, self.seconds.clone());
        let help = "Time that a run waited for a session, by model; a call with several images may have several runs";
        registry.register("inference_wait_seconds", help, self.waits.clone());
        registry.register(
            "inference_images",
            "Images on which a model gave an answer, by model",
            self.images.clone(),
        );
        let help = "Calls of a model that gave none, by model and reason: refused (its inputs), late (no session in time), cancelled (nobody waits any more) or failed";
        registry.register("inference_failures", help, self.failures.clone());
    }

    /// That of the model for a role.
    pub(super) fn of(&self, role: &str) -> ModelMeter {
        let model = || ("model", role.to_owned());
        let failures = |reason: &str| {
            self.failures
                .get_or_create_owned(&[model(), ("reason", reason.to_owned())])
        };
        ModelMeter {
            seconds: self.seconds.get_or_create_owned(&[model()]),
            images: self.images.get_or_create_owned(&[model()]),
            refused: failures("refused"),
            late: failures("late"),
            cancelled: failures("cancelled"),
            failed: failures("failed"),
        }
    }

    /// Where the model for a role notes how long its runs wait.
    pub(super) fn waits(&self, role: &str) -> Histogram {
        self.waits
            .get_or_create_owned(&[("model", role.to_owned())])
    }
}

impl ModelMeter {
    /// Counts a call that gave an answer on so many images.
    pub(super) fn note(&self, images: usize, took: Duration) {
        self.images.inc_by(images as u64);
        self.seconds.observe(took.as_secs_f64());
    }

    /// Counts one whose inputs were refused.
    pub(super) fn note_refusal(&self) {
        self.refused.inc();
    }

    /// Counts one that gave no answer.
    pub(super) fn note_failure(&self, error: &ModelError, scope: &CancelScope) {
        match error {
            ModelError::Late { .. } if scope.is_cancelled() => self.cancelled.inc(),
            ModelError::Late { .. } => self.late.inc(),
            _ => self.failed.inc(),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_model_has_few_labels_however_often_it_is_prepared_and_fails() {
        let meters = ModelMeters::default();
        for name in ["detector", "recognizer"].into_iter().cycle().take(100) {
            // Each revision that is staged prepares its models.
            let meter = meters.of(name);
            meter.note(3, Duration::from_millis(7));
            meter.note_refusal();
            let (late, (cancelled, waiter)) = (
                CancelScope::from(Instant::now()),
                CancelScope::with_guard(Instant::now()),
            );
            drop(waiter);
            for wanted in [late, cancelled] {
                meter.note_failure(
                    &ModelError::Late {
                        name: name.to_owned(),
                    },
                    &wanted,
                );
            }
            meters.waits(name).observe(0.0);
        }
        let mut registry = Registry::with_prefix("rostro");
        meters.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "rostro_inference_seconds_bucket{le=\"0.01\",model=\"detector\"} 50",
            "rostro_inference_seconds_count{model=\"detector\"} 50",
            "rostro_inference_wait_seconds_count{model=\"recognizer\"} 50",
            "rostro_inference_images_total{model=\"recognizer\"} 150",
            "rostro_inference_failures_total{model=\"detector\",reason=\"refused\"} 50",
            "rostro_inference_failures_total{model=\"detector\",reason=\"late\"} 50",
            "rostro_inference_failures_total{model=\"detector\",reason=\"cancelled\"} 50",
            "rostro_inference_failures_total{model=\"detector\",reason=\"failed\"} 0",
        ] {
            assert!(
                text.lines().any(|other| other == line),
                "{line} is not in {text}"
            );
        }
        assert_eq!(text.matches("rostro_inference_failures_total").count(), 8);
    }
}
