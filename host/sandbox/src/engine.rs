//! Wasmtime engine that runs every guest.
//!
//! - Purpose: one engine for the process, with the component model, epoch interruption and a
//!   pooling allocator.
//! - Bounds: the pool holds as many instances as can run at once, each within [`Limits`].
//! - Cost: address space for the pool (not memory), and one thread that wakes every `TICK`.
//!
//! If the system refuses the addresses, memory is allocated for each instance. Every memory access
//! of a guest is then checked, which is slower.

use std::path::Path;
use std::time::Duration;

use wasmtime::{
    Cache, CacheConfig, Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig,
};

use crate::limits::{GuestMeters, Limits, MemoryBudget};

/// Interval at which running guests check their deadline. A shorter one wakes an idle process more
/// often; a longer one delays the end of a guest that spins.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Linear memories of one component: its own, and those of adapters.
const MEMORIES: u32 = 4;

/// Tables of one component: its function table, and those of shims.
const TABLES: u32 = 16;

/// Stack of a guest. Decoders recurse little, so deep recursion is a bug or an attack, and traps.
const STACK_BYTES: usize = 1 << 20;

/// Memory of a pool slot that is zeroed for the next instance instead of returned to the system,
/// because faulting pages in takes longer than writing them. A frame of 640×480 touches about half.
const KEEP_RESIDENT: usize = 16 << 20;

/// Addresses reserved for each memory without the pool, and again when it grows. The system would
/// refuse more, as it refused the pool.
const UNPOOLED_RESERVATION: u64 = 16 << 20;

/// Guard addresses after each memory without the pool, which trap.
const UNPOOLED_GUARD: u64 = 64 << 10;

/// Wasmtime engine with the thread that advances its epoch.
#[derive(Clone, Debug)]
pub struct Engine {
    inner: wasmtime::Engine,
    limits: Limits,
    meters: GuestMeters,
}

impl Engine {
    /// Creates an engine with a pool for `concurrency` requests at a time.
    ///
    /// # Errors
    ///
    /// If the sandbox cannot be set up on this machine.
    pub fn new(limits: Limits, concurrency: usize) -> wasmtime::Result<Self> {
        Self::with_cache(limits, concurrency, None)
    }

    /// Creates an engine that caches compiled code in `cache`, an absolute path.
    ///
    /// No other user may write into the folder, because its content is executed. The key is the
    /// digest of the component and of everything that compilation depends on. Unreadable entries
    /// are compiled again.
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
            // Host calls are synchronous and requests run on threads of their own, so stores need
            // neither fibers nor an event loop.
            .concurrency_support(false)
            .memory_init_cow(true);
        let inner = match wasmtime::Engine::new(&pooled(config.clone(), &limits, concurrency)) {
            Ok(engine) => engine,
            Err(error) => without_pool(config, error)?,
        };
        start_ticker(&inner)?;
        Ok(Self {
            inner,
            limits,
            meters: GuestMeters::default(),
        })
    }

    /// Limits the memory of all guests together to a number of bytes.
    #[must_use]
    pub fn with_memory(self, bytes: usize) -> Self {
        Self {
            meters: GuestMeters::with_budget(MemoryBudget::new(bytes)),
            ..self
        }
    }

    /// Returns the engine for compiling and linking.
    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner
    }

    /// Returns the limits of every guest.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the meters of its guests.
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

/// Creates an engine that reserves little address space, for machines that refused the pool's.
fn without_pool(
    mut config: Config,
    pool_error: wasmtime::Error,
) -> wasmtime::Result<wasmtime::Engine> {
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_reservation(UNPOOLED_RESERVATION)
        .memory_reservation_for_growth(UNPOOLED_RESERVATION)
        .memory_guard_size(UNPOOLED_GUARD);
    // If this fails too, the first error says more about the cause.
    let Ok(engine) = wasmtime::Engine::new(&config) else {
        return Err(pool_error);
    };
    tracing::warn!(
        "cannot reserve addresses for all guests ({pool_error:#}): each guest's memory is \
         allocated separately, which is slower; allow the process more addresses (`ulimit -v \
         unlimited`, no LimitAS=), or lower --workers"
    );
    Ok(engine)
}

fn pool(limits: &Limits, concurrency: usize) -> PoolingAllocationConfig {
    // A request may use three guests: vision, a policy of its own, and the policy of another
    // revision for a person's templates. Six more serve staging and the shadow.
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
        // Each warm slot keeps its resident memory. Slots of retired revisions are reused before
        // cold ones.
        .max_unused_warm_slots(u32::try_from(concurrency).unwrap_or(u32::MAX))
        .max_memory_size(limits.memory_bytes())
        .table_elements(limits.table_elements())
        // Scanning the page map can miss a swapped-out dirty page, which would leak the memory of
        // one request to the next.
        .pagemap_scan(Enabled::No);
    pool
}

/// Starts the thread that advances the epoch until the engine is dropped.
fn start_ticker(engine: &wasmtime::Engine) -> wasmtime::Result<()> {
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
