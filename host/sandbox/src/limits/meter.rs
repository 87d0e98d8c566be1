//! What guests take of the machine, for monitoring: time on the processor, and memory.
//!
//! Labels name halves of a pipeline, of which there are two. Handles are looked up once, so a
//! request adds to atomic numbers; the one histogram has a lock, which is taken once an instance.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use rostro_common::processor_time::processor_time;
use rostro_inference::model_time::ModelTime;

use super::Budget;
use crate::component::{Half, PerHalf};

/// Seconds, counted.
pub type Seconds = Counter<f64, AtomicU64>;

/// Which half of a pipeline, as a label.
type HalfLabel = [(&'static str, &'static str); 1];

/// What the guests of one half take; clones share it.
#[derive(Clone, Debug)]
pub struct GuestMeter {
    seconds: Seconds,
    instances: Counter,
    memory: Gauge,
    peak: Histogram,
    budget: Budget,
}

/// What the guests of an engine take.
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
        Self::within(Budget::new(usize::MAX))
    }
}

impl GuestMeters {
    /// Those of guests that have this memory together.
    pub(crate) fn within(budget: Budget) -> Self {
        // From 1 MiB to 4 GiB, which is all that a guest can have.
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

    /// Those of a half.
    pub(crate) fn of(&self, half: Half) -> &GuestMeter {
        self.halves.of(half)
    }

    /// Has them written with the other metrics.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time on the processor of guests' own work, with making their instances and without models, by half of the pipeline";
        registry.register("guest_seconds", help, self.seconds.clone());
        registry.register(
            "guest_instances",
            "Instances that were made, by half of the pipeline",
            self.instances.clone(),
        );
        let help = "Linear memory of the instances that there are now, by half of the pipeline";
        registry.register("guest_memory_bytes", help, self.memory.clone());
        let help = "The most memory that an instance had, with the tensors that the host held for it, by half of the pipeline";
        registry.register("guest_peak_memory_bytes", help, self.peak.clone());
    }
}

impl GuestMeter {
    /// Does some work of a guest's, and counts the time that it takes on the processor, here and
    /// for `also`, but for that of its models.
    pub(crate) fn time<T>(
        &self,
        models: &ModelTime,
        also: &Seconds,
        work: impl FnOnce() -> T,
    ) -> T {
        let (begun, before) = (processor_time(), models.spent());
        // Counted even if the work panics.
        let _counted = scopeguard::guard((), |()| {
            let in_models = models.spent().saturating_sub(before);
            let own = processor_time()
                .saturating_sub(begun)
                .saturating_sub(in_models)
                .as_secs_f64();
            self.seconds.inc_by(own);
            also.inc_by(own);
        });
        work()
    }

    /// Counts an instance that was made.
    pub(crate) fn note_instance(&self) {
        self.instances.inc();
    }

    /// Linear memory of the instances that there are now.
    #[cfg(test)]
    pub(super) fn memory(&self) -> i64 {
        self.memory.get()
    }

    /// The same, with memory that is not of what all have together.
    pub(crate) fn apart(&self) -> Self {
        Self {
            budget: Budget::new(usize::MAX),
            ..self.clone()
        }
    }

    /// The memory that all guests have together.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// An instance has so much more linear memory.
    pub(super) fn note_growth(&self, bytes: usize) {
        self.memory.inc_by(signed(bytes));
    }

    /// An instance with so much linear memory is gone, which had `most` with its tensors.
    pub(super) fn note_end(&self, linear: usize, most: usize) {
        self.memory.dec_by(signed(linear));
        self.peak.observe(most as f64);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// Keeps this thread's processor busy for a while.
    fn compute() {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(60) {
            std::hint::black_box(begun);
        }
    }

    #[test]
    fn a_guest_is_charged_for_its_own_work_and_not_for_its_models_or_for_waiting() {
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
        // The clock may tell no more than hundredths of a second.
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
    fn work_that_panics_is_charged_for() {
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
    fn both_halves_are_written_from_the_start_and_no_other() {
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
