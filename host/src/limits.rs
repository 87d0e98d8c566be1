//! What one guest may use, and the limiter that holds it to that.

use wasmtime::ResourceLimiter;

/// What a guest may use in one request. The defaults are tight: each is some times what the default pipeline needs
/// for its worst accepted input.
#[derive(Clone, Debug)]
pub struct Limits {
    memory_bytes: usize,
    table_elements: usize,
    transfer_bytes: usize,
    handles: usize,
    log_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A 40-megapixel photo is 120 MB as RGB, decoded from as much again; the detector's tensor and outputs add 10 MB.
            memory_bytes: 512 << 20,
            // Function pointers of a Rust component: some thousands.
            table_elements: 20_000,
            // The largest single call carries a detector's input: 50 MB at 2048×2048, under 10 MB at usual sizes.
            transfer_bytes: 64 << 20,
            // Nine outputs of a detector, an input, a graph and its context are alive at a time, and a few streams of WASI. Each may be
            // as large as a call: this bounds what a guest can make the host hold.
            handles: 32,
            // A panic message with its location is under 1 KB; the rest is for debugging.
            log_bytes: 16 << 10,
        }
    }
}

impl Limits {
    /// Linear memory in bytes, of all memories of a guest together. Less refuses larger photos, more lets a runaway guest take more.
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Linear memory in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Elements of one table.
    #[must_use]
    pub fn table_elements(&self) -> usize {
        self.table_elements
    }

    /// Bytes that a guest may hand to the host in one call.
    #[must_use]
    pub fn transfer_bytes(&self) -> usize {
        self.transfer_bytes
    }

    /// Resources (tensors, graphs, streams) that a guest may hold at a time.
    #[must_use]
    pub fn handles(&self) -> usize {
        self.handles
    }

    /// Bytes of log lines and of standard error that are kept of a request.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log_bytes
    }
}

/// A limit was hit.
#[derive(Clone, Debug, thiserror::Error)]
#[error("limit `{name}` of {limit} reached: {current} in use, {wanted} wanted")]
pub struct LimitReached {
    /// Which limit.
    pub name: &'static str,
    /// Its value.
    pub limit: usize,
    /// What was in use.
    pub current: usize,
    /// What was asked for.
    pub wanted: usize,
}

/// Holds one store to its [`Limits`].
#[derive(Debug)]
pub(crate) struct Limiter {
    memory_bytes: usize,
    memory_used: usize,
    table_elements: usize,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { memory_bytes: limits.memory_bytes, memory_used: 0, table_elements: limits.table_elements }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.memory_used.saturating_add(desired.saturating_sub(current));
        if used > self.memory_bytes {
            // Trapping here names the limit; answering `false` would let the guest die of it in its own words.
            return Err(LimitReached { name: "memory-bytes", limit: self.memory_bytes, current: self.memory_used, wanted: used }.into());
        }
        self.memory_used = used;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.table_elements {
            return Err(LimitReached { name: "table-elements", limit: self.table_elements, current, wanted: desired }.into());
        }
        Ok(true)
    }
}
