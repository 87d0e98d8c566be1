//! The Wasmtime engine that runs every guest.
//!
//! What it is: one engine for the process, with the component model, epoch interruption and a
//! pooling allocator. What bounds it: the pool holds as many instances as can run at once, each no
//! larger than [`Limits`] allows. What it costs: address space for the pool (not memory), and one
//! thread that wakes every [`TICK`]. Where the system does not give the addresses, memory is
//! allocated for each instance instead, and every access of a guest is checked, which is slower.

use std::path::Path;
use std::time::Duration;

use wasmtime::{
    Cache, CacheConfig, Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig,
};

use crate::limits::{Budget, GuestMeters, Limits};

/// How often running guests look whether their time is up. Finer costs wake-ups of an idle process;
/// coarser delays the end of a guest that spins.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Linear memories in one component: its own, and one that an adapter may bring.
const MEMORIES: u32 = 4;

/// Tables in one component: its function table and those of shims.
const TABLES: u32 = 16;

/// Stack of a guest. Decoders recurse little; deep recursion is a bug or an attack and traps.
const STACK_BYTES: usize = 1 << 20;

/// Memory that an instance leaves to the next one in its place, zeroed instead of given back:
/// faulting pages in anew takes longer than writing them. A frame of 640×480 touches about half of
/// it. What lies above goes back to the system.
const KEEP_RESIDENT: usize = 16 << 20;

/// Addresses reserved for each memory without the pool, and again when it grows: more would be
/// refused as the pool was.
const UNPOOLED_RESERVATION: u64 = 16 << 20;

/// Addresses after each memory without the pool that trap.
const UNPOOLED_GUARD: u64 = 64 << 10;

/// The Wasmtime engine, with the thread that advances its epoch.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: wasmtime::Engine,
    limits: Limits,
    meters: GuestMeters,
}

impl Engine {
    /// Makes an engine whose pool serves `concurrency` guests at a time.
    ///
    /// # Errors
    ///
    /// If the sandbox cannot be set up on this machine.
    pub fn new(limits: Limits, concurrency: usize) -> wasmtime::Result<Self> {
        Self::with_cache(limits, concurrency, None)
    }

    /// The same, but what was compiled is kept in `cache`: an absolute path of a folder that nobody
    /// else may write into, because what is in it is run. It is found by the digests of the
    /// component and of all that compiling depends on; what cannot be read is compiled anew.
    ///
    /// # Errors
    ///
    /// As [`Self::new`], or if the folder cannot be used.
    pub fn with_cache(
        limits: Limits,
        concurrency: usize,
        cache: Option<&Path>,
    ) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        if let Some(folder) = cache {
            let mut cache = CacheConfig::new();
            cache.with_directory(folder);
            config.cache(Some(Cache::new(cache)?));
        }
        config
            .epoch_interruption(true)
            .max_wasm_stack(STACK_BYTES)
            // Host calls are synchronous and requests run on threads of their own: no fibers, no
            // event loop in a store.
            .concurrency_support(false)
            .memory_init_cow(true);
        let inner = match wasmtime::Engine::new(&pooled(config.clone(), &limits, concurrency)) {
            Ok(engine) => engine,
            Err(error) => without_pool(config, error)?,
        };
        tick(&inner)?;
        Ok(Self {
            inner,
            limits,
            meters: GuestMeters::default(),
        })
    }

    /// The same, whose guests have so many bytes of memory together.
    #[must_use]
    pub fn with_memory(self, bytes: usize) -> Self {
        Self {
            meters: GuestMeters::within(Budget::new(bytes)),
            ..self
        }
    }

    /// The engine itself, for compiling and linking.
    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    /// What every guest is held to.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// What its guests take.
    pub fn meters(&self) -> &GuestMeters {
        &self.meters
    }
}

fn pooled(mut config: Config, limits: &Limits, concurrency: usize) -> Config {
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(
        limits,
        concurrency,
    )));
    config
}

/// An engine that reserves little address space, for machines that refused the pool's.
fn without_pool(
    mut config: Config,
    refused: wasmtime::Error,
) -> wasmtime::Result<wasmtime::Engine> {
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_reservation(UNPOOLED_RESERVATION)
        .memory_reservation_for_growth(UNPOOLED_RESERVATION)
        .memory_guard_size(UNPOOLED_GUARD);
    // If this fails, too, the first error says more of the cause.
    let Ok(engine) = wasmtime::Engine::new(&config) else {
        return Err(refused);
    };
    tracing::warn!(
        "cannot reserve addresses for all guests ({refused:#}): they get memory one by one, and run slower; allow the process more addresses \
         (`ulimit -v unlimited`, no LimitAS=), or lower --workers"
    );
    Ok(engine)
}

fn pool(limits: &Limits, concurrency: usize) -> PoolingAllocationConfig {
    // A request may hold two guests (vision, and a policy of its own) and make somebody's templates
    // in a third for another revision, and one may be staged, and one look on as a shadow, beside
    // those.
    let instances = u32::try_from(limits.instances()).unwrap_or(u32::MAX);
    let guests = u32::try_from(concurrency)
        .unwrap_or(u32::MAX / 64)
        .saturating_mul(3)
        .saturating_add(6);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(guests)
        .total_core_instances(guests.saturating_mul(instances))
        .total_memories(guests.saturating_mul(MEMORIES))
        .total_tables(guests.saturating_mul(TABLES))
        .max_core_instances_per_component(instances)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        // Each place that is kept warm keeps that much. One that was a retired revision's is taken
        // before a cold one.
        .max_unused_warm_slots(u32::try_from(concurrency).unwrap_or(u32::MAX))
        .max_memory_size(limits.memory_bytes())
        .table_elements(limits.table_elements())
        // Scanning the page map to keep pages can leave a swapped-out dirty page behind: the next
        // request would see it.
        .pagemap_scan(Enabled::No);
    pool
}

/// Starts the thread that advances the epoch until the engine is gone.
fn tick(engine: &wasmtime::Engine) -> wasmtime::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })?;
    Ok(())
}
