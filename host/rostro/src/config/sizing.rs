//! Budgets that fit the machine. Defaults follow the memory that this process may use; explicit
//! values are checked against it.
//!
//! The memory is divided into a fixed part (program and models), and parts for the workers, the
//! people, the pipelines and the bodies of requests. All budgets together stay below the limit,
//! because the kernel kills a process that exceeds it, with all its requests. The part of the
//! people is an estimate: it lowers the budgets, and never keeps a service from starting.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use rostro_database::{Database, schema};
use rostro_index::Method;
use rostro_models::Pack;

use super::fleet::add_models;
use super::memory::Memory;
use super::{Config, ConfigError, ServeArgs, cores};

/// MiB of the program itself: code, ONNX Runtime, compiling, connections, and one run of a detector
/// on a large input.
const PROGRAM: usize = 224;

/// MiB of each worker outside its pipeline's memory: ONNX Runtime's sessions and a cached instance.
const WORKER: usize = 24;

/// MiB of loaded models for each MiB of their files, because ONNX Runtime reads, copies and packs
/// the weights.
const WEIGHTS: usize = 3;

/// Bytes of one person in memory without templates.
const PERSON: usize = 1024;

/// Number of templates of one person: one in each of two views.
const TEMPLATES: usize = 2;

/// Dimension of an embedding if the pack does not name it.
const DEFAULT_DIMENSION: usize = 512;

/// MiB of a pipeline that processes one usual frame.
const LEAST_GUEST: usize = 96;

/// Smallest value of `memory-mib`.
const SMALLEST_GUEST: usize = 16;

/// MiB for bodies with which one caller can send a usual photo.
const LEAST_BODIES: usize = 32;

/// MiB of a guest that decodes an image of [`MAX_MEGAPIXELS`].
const LARGE_GUEST: usize = 512;

/// Megapixels of the largest image that fits [`LARGE_GUEST`].
const MAX_MEGAPIXELS: usize = 40;

/// Largest body in MiB if the memory suffices.
const DEFAULT_BODY: usize = 128;

/// Largest image in MiB if the memory suffices.
const DEFAULT_IMAGE: usize = 100;

/// Cores and memory that the process may use.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Number of cores.
    pub cores: NonZeroUsize,
    /// Memory, if the system states a limit.
    pub memory: Option<Memory>,
}

impl Machine {
    /// Reads the cores and the memory limit of this process.
    pub(crate) fn of_this_process() -> Self {
        Self {
            cores: cores(),
            memory: Memory::of_this_process(),
        }
    }
}

/// Error: the memory is less than the service needs.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot fit the service into {available} MiB of memory ({limited_by}): it needs at least {needed} MiB, {fixed} for the program, the pack \
     `{pack}` and --workers {workers}, {guests} for pipelines and {bodies} for bodies; {remedy}",
    needed = fixed + guests + bodies,
    limited_by = limited_by.display()
)]
pub(crate) struct TooLittleMemory {
    available: usize,
    limited_by: PathBuf,
    pack: String,
    workers: usize,
    /// MiB of the program, the models and the workers.
    fixed: usize,
    guests: usize,
    bodies: usize,
    remedy: Remedy,
}

/// Remedy: the flags that can be lowered, or the limit to raise.
#[derive(Debug)]
struct Remedy {
    flags: Vec<&'static str>,
    limited_by: PathBuf,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.flags.is_empty() {
            write!(f, "lower {}, or ", self.flags.join(", "))?;
        }
        f.write_str(match self.limited_by.to_str() {
            Some(Memory::ADDRESSES) => "raise the limit of addresses (`ulimit -v unlimited`, `LimitAS=infinity` of a unit)",
            Some(Memory::MACHINE) => "use a machine with more memory, or a smaller pack (`rostro models list`)",
            _ => "allow it more (`memory.max` of its control group, `docker run --memory`, `limits.memory` of the container)",
        })
    }
}

/// Values that an operator set, which no default replaces.
#[derive(Clone, Copy, Debug, Default)]
struct ExplicitValues {
    workers: bool,
    /// In MiB. Without an explicit limit of one guest this is a lower bound.
    guests: Option<usize>,
    guest: bool,
    /// In MiB. Without an explicit largest body this is a lower bound.
    bodies: Option<usize>,
    body: bool,
    image: bool,
    megapixels: bool,
}

impl ExplicitValues {
    fn of(args: &ServeArgs) -> Self {
        const GUEST: &str = "memory-mib";
        Self {
            workers: args.workers.is_some(),
            guests: args.max_guests_mib,
            guest: args.limit.contains_key(GUEST)
                || args.limits.iter().any(|(name, _)| name == GUEST),
            bodies: args.max_bodies_mib,
            body: args.max_body_mib.is_some(),
            image: args.max_image_mib.is_some(),
            megapixels: args.max_megapixels.is_some(),
        }
    }

    /// Returns the flags of these values that raise the memory use.
    fn flags(self) -> Vec<&'static str> {
        let flags = [
            (self.workers, "--workers"),
            (self.guests.is_some(), "--max-guests-mib"),
            (self.guest, "--limit memory-mib"),
            (self.bodies.is_some(), "--max-bodies-mib"),
            (self.body, "--max-body-mib"),
            (self.image, "--max-image-mib"),
        ];
        flags
            .into_iter()
            .filter_map(|(is_set, flag)| is_set.then_some(flag))
            .collect()
    }
}

impl ServeArgs {
    /// Validates the configuration with defaults that fit the machine.
    ///
    /// # Errors
    ///
    /// As [`ServeArgs::validate`], or [`ConfigError::Memory`] if the machine has too little memory
    /// for it.
    pub(crate) fn fit(self, machine: &Machine) -> Result<Config, ConfigError> {
        let explicit = ExplicitValues::of(&self);
        let config = self.validate()?;
        let fixed = PROGRAM + WEIGHTS * mib(Pack::file_bytes(&config.models, &config.pack));
        let dimension = Pack::dimension(&config.models, &config.pack).unwrap_or(DEFAULT_DIMENSION);
        let people = people_mib(count_people(&config), dimension, config.search);
        add_models(&config);
        fit_budgets(config, explicit, machine, fixed, people)
    }
}

/// Sets the budgets that the machine allows. The program and the models take `fixed` MiB, and the
/// people about `people`.
fn fit_budgets(
    mut config: Config,
    explicit: ExplicitValues,
    machine: &Machine,
    fixed: usize,
    people: usize,
) -> Result<Config, ConfigError> {
    config.machine = machine.clone();
    let Some(memory) = &machine.memory else {
        return Ok(config);
    };
    let available = memory.mib();
    if !explicit.workers {
        let most = available.saturating_sub(fixed + people) / (WORKER + LEAST_GUEST);
        config.workers = NonZeroUsize::new(most)
            .unwrap_or(NonZeroUsize::MIN)
            .min(machine.cores);
        // Each core that runs models has its own sessions, which take memory.
        config.machine.cores = machine.cores.min(config.workers);
    }
    let workers = config.workers.get();
    let fixed = fixed + WORKER * workers;
    // Each budget has a useful maximum, and a minimum that one request needs.
    let guest = mib(config.limits.memory_bytes());
    let guests_wanted = if explicit.guests.is_some() {
        mib(config.guest_bytes)
    } else {
        default_guests(workers).max(guest)
    };
    let guests_least = explicit
        .guests
        .unwrap_or(LEAST_GUEST)
        .max(if explicit.guest {
            guest
        } else {
            SMALLEST_GUEST
        });
    let bodies_wanted = mib(config.bodies.memory_bytes);
    let (body, image) = (
        mib(config.bodies.body_bytes),
        mib(config.bodies.image_bytes),
    );
    let bodies_least = match explicit {
        ExplicitValues {
            bodies: None,
            body: false,
            image: true,
            ..
        } => LEAST_BODIES.max(2 * image.min(body)),
        ExplicitValues {
            bodies, body: true, ..
        } => bodies.unwrap_or_default().max(2 * body),
        ExplicitValues { bodies, .. } => bodies.unwrap_or(LEAST_BODIES),
    };
    let Some(spare) = available.checked_sub(fixed + guests_least + bodies_least) else {
        return Err(ConfigError::Memory(Box::new(TooLittleMemory {
            available,
            limited_by: memory.limited_by.clone(),
            pack: config.pack,
            workers,
            fixed,
            guests: guests_least,
            bodies: bodies_least,
            remedy: Remedy {
                flags: explicit.flags(),
                limited_by: memory.limited_by.clone(),
            },
        })));
    };
    config.memory_short_mib = people.saturating_sub(spare);
    let people = people.min(spare);
    let spare = spare - people;
    // Two thirds of the spare memory go to the pipelines; each side also gets what the other does
    // not use.
    let guests = guests_wanted.min(guests_least + spare * 2 / 3);
    let bodies = bodies_wanted.min(bodies_least + spare - (guests - guests_least));
    let guests = guests_wanted.min(available - fixed - people - bodies);
    config.guest_bytes = guests << 20;
    config.bodies.memory_bytes = bodies << 20;
    if !explicit.body {
        config.bodies.body_bytes = DEFAULT_BODY.min(bodies / 2).max(1) << 20;
    }
    if !explicit.image {
        config.bodies.image_bytes = (DEFAULT_IMAGE << 20).min(config.bodies.body_bytes);
    }
    if !explicit.guest && guests < LARGE_GUEST {
        config.limits = config
            .limits
            .at_most(&[("memory-mib".to_owned(), guests.to_string())].into())?;
        if !explicit.megapixels {
            config.tuning.max_pixels =
                1_000_000 * (guests * MAX_MEGAPIXELS / LARGE_GUEST).max(1) as u64;
        }
    }
    Ok(config)
}

/// Returns the default MiB for the pipelines of all workers. A frame takes 20 to 100, an image of
/// 40 megapixels 200.
pub(super) fn default_guests(workers: usize) -> usize {
    256_usize
        .saturating_mul(workers)
        .clamp(1024, super::MAX_MIB)
}

/// Returns the number of people in the database, or else of the gallery's files. A database that
/// cannot be used counts as empty, because the start reports it.
fn count_people(config: &Config) -> usize {
    let Some(options) = &config.database else {
        return config.gallery.read_dir().map_or(0, Iterator::count);
    };
    let counted = Database::open(options).and_then(|database| schema::count(&database));
    counted.map_or(0, |counts| {
        usize::try_from(counts.people).unwrap_or(usize::MAX)
    })
}

/// Estimates the MiB that people take.
fn people_mib(count: usize, dimension: usize, search: Method) -> usize {
    let number = match search {
        Method::Exact | Method::Approximate { .. } => size_of::<f32>(),
        Method::Int8 { .. } => size_of::<i8>(),
    };
    mib(count.saturating_mul(PERSON + TEMPLATES * number * dimension))
}

/// Converts bytes to MiB, rounded up.
fn mib(bytes: usize) -> usize {
    bytes.div_ceil(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cores: usize, mib: u64) -> Machine {
        let memory = Memory {
            bytes: mib << 20,
            limited_by: "/sys/fs/cgroup/memory.max".into(),
        };
        Machine {
            cores: NonZeroUsize::new(cores).unwrap(),
            memory: Some(memory),
        }
    }

    fn fit(toml: &str, cores: usize, mib: u64) -> Result<Config, String> {
        let args: ServeArgs = toml::from_str(toml).unwrap();
        let explicit = ExplicitValues::of(&args);
        fit_budgets(
            args.validate().unwrap(),
            explicit,
            &machine(cores, mib),
            PROGRAM,
            0,
        )
        .map_err(|error| error.to_string())
    }

    /// Returns workers, cores for models, then MiB of all guests, one guest, all bodies, a body and
    /// an image, then megapixels.
    fn budgets(config: &Config) -> [usize; 8] {
        [
            config.workers.get(),
            config.machine.cores.get(),
            mib(config.guest_bytes),
            mib(config.limits.memory_bytes()),
            mib(config.bodies.memory_bytes),
            mib(config.bodies.body_bytes),
            mib(config.bodies.image_bytes),
            usize::try_from(config.tuning.max_pixels / 1_000_000).unwrap(),
        ]
    }

    #[test]
    fn sizing_large_machine_keeps_defaults() {
        for (cores, mib) in [(2, 24_000), (4, 4_096), (2, 2_048)] {
            assert_eq!(
                budgets(&fit("", cores, mib).unwrap()),
                [cores, cores, 1024, 512, 512, 128, 100, 40],
                "{cores} cores, {mib} MiB"
            );
        }
        assert_eq!(
            budgets(&fit("", 16, 65_536).unwrap()),
            [16, 16, 4096, 512, 512, 128, 100, 40]
        );
    }

    #[test]
    fn sizing_small_machine_lowers_budgets() {
        assert_eq!(
            budgets(&fit("", 2, 512).unwrap()),
            [2, 2, 170, 170, 70, 35, 35, 13]
        );
        assert_eq!(
            budgets(&fit("", 2, 1024).unwrap()),
            [2, 2, 512, 512, 240, 120, 100, 40]
        );
        // With many cores and little memory not every core gets a worker.
        assert_eq!(
            budgets(&fit("", 64, 512).unwrap()),
            [2, 2, 170, 170, 70, 35, 35, 13]
        );
    }

    /// Budgets never exceed the machine, with and without explicit values.
    #[test]
    fn sizing_budgets_stay_within_memory() {
        let configurations = [
            "",
            "workers = 3",
            "max-body-mib = 20",
            "max-bodies-mib = 64",
            "max-guests-mib = 200",
            "max-image-mib = 20",
            "[limit]\nmemory-mib = 128",
        ];
        for toml in configurations {
            for cores in [1, 2, 7, 64] {
                for available in (128..6000).step_by(61) {
                    let Ok(config) = fit(toml, cores, available) else {
                        continue;
                    };
                    let all = PROGRAM
                        + WORKER * config.workers.get()
                        + mib(config.guest_bytes)
                        + mib(config.bodies.memory_bytes);
                    assert!(all as u64 <= available, "{toml} {cores} {available}: {all}");
                    assert!(
                        config.limits.memory_bytes() <= config.guest_bytes,
                        "{toml} {cores} {available}"
                    );
                    assert!(
                        2 * config.bodies.body_bytes <= config.bodies.memory_bytes,
                        "{toml} {cores} {available}"
                    );
                }
            }
        }
    }

    /// Many people lower the budgets, but never prevent a start.
    #[test]
    fn sizing_many_people_lower_budgets() {
        let fit = |people| {
            fit_budgets(
                ServeArgs::default().validate().unwrap(),
                ExplicitValues::default(),
                &machine(2, 512),
                PROGRAM,
                people,
            )
            .unwrap()
        };
        let (none, some, many) = (fit(0), fit(100), fit(100_000));
        assert_eq!((none.memory_short_mib, some.memory_short_mib), (0, 0));
        assert!(some.guest_bytes + some.bodies.memory_bytes + (100 << 20) <= (512 - PROGRAM) << 20);
        assert!(some.guest_bytes < none.guest_bytes && some.workers <= none.workers);
        assert_eq!(
            [
                many.workers.get(),
                mib(many.guest_bytes),
                mib(many.bodies.memory_bytes)
            ],
            [1, LEAST_GUEST, LEAST_BODIES]
        );
        assert!(many.memory_short_mib > 90_000, "{}", many.memory_short_mib);
    }

    /// A gallery of a district takes a fraction of a small container.
    #[test]
    fn sizing_people_follow_dimension() {
        let gallery = tempfile::tempdir().unwrap();
        for number in 0..1000 {
            std::fs::write(gallery.path().join(format!("{number}.csv")), "").unwrap();
        }
        let args = ServeArgs {
            gallery: Some(gallery.path().to_owned()),
            ..ServeArgs::default()
        };
        let count = count_people(&args.validate().unwrap());
        let people = |dimension, search| people_mib(count, dimension, search);
        assert_eq!(people(128, Method::Exact), 2);
        assert_eq!(people(512, Method::Exact), 5);
        assert_eq!(people(2048, Method::Exact), 17);
        assert_eq!(people(2048, Method::Int8 { above: 0 }), 5);
    }

    #[test]
    fn sizing_explicit_values_win() {
        let config = fit(
            "workers = 1\nmax-body-mib = 50\nmax-megapixels = 30\n[limit]\nmemory-mib = 128",
            2,
            512,
        )
        .unwrap();
        let [workers, _, guests, guest, bodies, body, image, megapixels] = budgets(&config);
        assert_eq!(
            (workers, guest, body, image, megapixels),
            (1, 128, 50, 50, 30)
        );
        assert!(guests >= 128 && bodies >= 100, "{guests} {bodies}");
        // A flag counts like a key of the file.
        let args = ServeArgs {
            limits: vec![("memory-mib".into(), "128".into())],
            ..ServeArgs::default()
        };
        assert!(ExplicitValues::of(&args).guest);
    }

    #[test]
    fn sizing_too_little_memory_names_remedy() {
        let least = PROGRAM + WORKER + LEAST_GUEST + LEAST_BODIES;
        fit("", 1, least as u64).unwrap();
        let error = fit("", 1, least as u64 - 1).unwrap_err();
        let expected = format!(
            "into {} MiB of memory (/sys/fs/cgroup/memory.max): it needs at least {least} MiB",
            least - 1
        );
        assert!(
            error.contains(&expected) && error.contains("docker run --memory"),
            "{error}"
        );
        for (toml, flags) in [
            ("max-guests-mib = 4096", "lower --max-guests-mib, or"),
            ("max-bodies-mib = 4096", "lower --max-bodies-mib, or"),
            ("max-body-mib = 400", "lower --max-body-mib, or"),
            (
                "workers = 64\n[limit]\nmemory-mib = 64",
                "lower --workers, --limit memory-mib, or",
            ),
        ] {
            let error = fit(toml, 2, 512).unwrap_err();
            assert!(error.contains(flags), "{error}");
        }
        // The remedy depends on the source of the limit.
        for (limited_by, remedy) in [
            (Memory::ADDRESSES, "ulimit -v unlimited"),
            (Memory::MACHINE, "a smaller pack"),
        ] {
            let memory = Memory {
                bytes: 100 << 20,
                limited_by: limited_by.into(),
            };
            let machine = Machine {
                cores: NonZeroUsize::MIN,
                memory: Some(memory),
            };
            let config = ServeArgs::default().validate().unwrap();
            let error = fit_budgets(config, ExplicitValues::default(), &machine, PROGRAM, 0)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(remedy) && !error.contains("docker"),
                "{error}"
            );
        }
    }
}
