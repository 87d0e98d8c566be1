//! CPU time and memory of guests, for monitoring.
//!
//! The label is the half of the pipeline, so there are two series of each metric. Handles are
//! looked up once, so a request only adds to atomic numbers. The histogram's lock is taken once an
//! instance.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use rostro_common::processor_time::processor_time;
use rostro_inference::model_time::ModelTime;

use super::MemoryBudget;
use crate::half::{Half, PerHalf};

/// Counter of seconds.
pub type Seconds = Counter<f64, AtomicU64>;

/// Label with the half of a pipeline.
type HalfLabel = [(&'static str, &'static str); 1];

/// Meter of the guests of one half. Clones share the metrics.
#[derive(Clone, Debug)]
pub struct GuestMeter {
    seconds: Seconds,
    instances: Counter,
    memory: Gauge,
    peak: Histogram,
    budget: MemoryBudget,
}

/// Meters of the guests of an engine.
#[derive(Clone, Debug)]
pub struct GuestMeters {
    halves: PerHalf<GuestMeter>,
    seconds: Family<HalfLabel, Seconds>,
    instances: Family<HalfLabel, Counter>,
    memory: Family<HalfLabel, Gauge>,
    peak: Family<HalfLabel, Histogram, fn() -> Histogram>,
}

impl Default for GuestMeters {
    fn default() -> Self {
        Self::with_budget(MemoryBudget::new(usize::MAX))
    }
}

impl GuestMeters {
    /// Creates meters of guests that share a memory budget.
    pub(crate) fn with_budget(budget: MemoryBudget) -> Self {
        // From 1 MiB to 4 GiB, the maximum of a linear memory.
        let histogram: fn() -> Histogram =
            || Histogram::new(exponential_buckets(f64::from(1 << 20), 2.0, 13));
        let peak = Family::new_with_constructor(histogram);
        let (seconds, instances, memory) =
            (Family::default(), Family::default(), Family::default());
        let meter = |half: Half| {
            let label = [("guest", half.name())];
            GuestMeter {
                seconds: seconds.get_or_create_owned(&label),
                instances: instances.get_or_create_owned(&label),
                memory: memory.get_or_create_owned(&label),
                peak: peak.get_or_create_owned(&label),
                budget: budget.clone(),
            }
        };
        let halves = PerHalf {
            vision: meter(Half::Vision),
            policy: meter(Half::Policy),
        };
        Self {
            halves,
            seconds,
            instances,
            memory,
            peak,
        }
    }

    /// Returns the meter of a half.
    pub(crate) fn of(&self, half: Half) -> &GuestMeter {
        self.halves.of(half)
    }

    /// Registers the metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time on the processor of guests' own work, with making their instances and \
                    without models, by half of the pipeline";
        registry.register("guest_seconds", help, self.seconds.clone());
        registry.register(
            "guest_instances",
            "Instances that were made, by half of the pipeline",
            self.instances.clone(),
        );
        let help = "Linear memory of the instances that there are now, by half of the pipeline";
        registry.register("guest_memory_bytes", help, self.memory.clone());
        let help = "The most memory that an instance had, with the tensors that the host held for \
                    it, by half of the pipeline";
        registry.register("guest_peak_memory_bytes", help, self.peak.clone());
    }
}

impl GuestMeter {
    /// Runs work of a guest, and adds its CPU time, without that of models, to this meter and to
    /// `also`.
    pub(crate) fn time<T>(
        &self,
        models: &ModelTime,
        also: &Seconds,
        work: impl FnOnce() -> T,
    ) -> T {
        let (started, models_before) = (processor_time(), models.spent());
        // A guard counts the time even if the work panics.
        let _guard = scopeguard::guard((), |()| {
            let in_models = models.spent().saturating_sub(models_before);
            let own = processor_time()
                .saturating_sub(started)
                .saturating_sub(in_models)
                .as_secs_f64();
            self.seconds.inc_by(own);
            also.inc_by(own);
        });
        work()
    }

    /// Counts a new instance.
    pub(crate) fn count_instance(&self) {
        self.instances.inc();
    }

    /// Returns the linear memory of the current instances.
    #[cfg(test)]
    pub(super) fn memory(&self) -> i64 {
        self.memory.get()
    }

    /// Returns the meter with an unlimited memory budget of its own.
    pub(crate) fn outside_shared_memory(&self) -> Self {
        Self {
            budget: MemoryBudget::new(usize::MAX),
            ..self.clone()
        }
    }

    /// Returns the memory budget that all guests share.
    pub(super) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// Adds the growth of an instance's linear memory.
    pub(super) fn add_memory(&self, bytes: usize) {
        self.memory.inc_by(signed(bytes));
    }

    /// Removes an instance's linear memory, and records its peak with tensors.
    pub(super) fn end_instance(&self, linear: usize, peak: usize) {
        self.memory.dec_by(signed(linear));
        self.peak.observe(peak as f64);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Uses CPU time on this thread.
    fn compute() {
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(started);
        }
    }

    #[test]
    fn time_excludes_models_and_waiting() {
        let meters = GuestMeters::default();
        let (meter, time, also) = (
            meters.of(Half::Vision),
            ModelTime::default(),
            Seconds::default(),
        );
        meter.time(&time, &also, || time.time(compute));
        meter.time(&time, &also, || {
            std::thread::sleep(Duration::from_millis(60))
        });
        // The resolution of the clock may be a hundredth of a second.
        assert!(meter.seconds.get() < 0.03, "{} s", meter.seconds.get());
        meter.time(&time, &also, compute);
        let spent = meter.seconds.get();
        assert!(spent > 0.0, "{spent} s");
        assert_eq!(
            (also.get(), meters.of(Half::Policy).seconds.get()),
            (spent, 0.0)
        );
    }

    #[test]
    fn panicking_work_is_counted() {
        let meters = GuestMeters::default();
        let (time, also) = (ModelTime::default(), Seconds::default());
        let panics = || {
            meters.of(Half::Policy).time(&time, &also, || {
                compute();
                panic!("a bug");
            })
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert!(meters.of(Half::Policy).seconds.get() > 0.0);
    }

    #[test]
    fn metrics_have_both_halves_initially() {
        let mut registry = Registry::with_prefix("rostro");
        GuestMeters::default().register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in [
            "guest_seconds_total",
            "guest_instances_total",
            "guest_memory_bytes",
            "guest_peak_memory_bytes_count",
        ] {
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| line.starts_with(&format!("rostro_{name}{{")))
                .collect();
            assert_eq!(lines.len(), 2, "{name}: {lines:?}");
        }
        for size in ["1048576.0", "4294967296.0"] {
            assert!(
                text.contains(&format!(
                    "rostro_guest_peak_memory_bytes_bucket{{le=\"{size}\",guest=\"vision\"}} 0"
                )),
                "{text}"
            );
        }
    }
}
