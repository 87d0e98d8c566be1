//! What one guest may use in one request, and the limiter that holds it to that.

use std::collections::BTreeMap;

use wasmtime::ResourceLimiter;

/// What a guest may use in one request. The defaults are tight: each is some times what the default pipeline needs for its worst accepted
/// input. Time is not among them: it is the request's deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    memory_bytes: usize,
    table_elements: usize,
    instances: usize,
    transfer_bytes: usize,
    handles: usize,
    tensors: usize,
    log_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A 40-megapixel photo is 120 MB as RGB, decoded from as much again; the detector's tensor and outputs add 10 MB.
            memory_bytes: 512 << 20,
            // Function pointers of a Rust component: some thousands.
            table_elements: 20_000,
            // A Rust component has one of its own and the shims that adapt it; those with an interpreter some more.
            instances: 32,
            // The largest single call carries a detector's input: 50 MB at 2048×2048, under 10 MB at usual sizes.
            transfer_bytes: 64 << 20,
            // Nine outputs of a detector, an input, a graph and its context are alive at a time, and a few streams of WASI.
            handles: 32,
            // Nine outputs of a detector and the next input.
            tensors: 16,
            // A panic message with its location is under 1 KB; the rest is for debugging.
            log_bytes: 16 << 10,
        }
    }
}

/// A limit that an operator sets: its name, and between which values it may be.
const RANGES: [(&str, usize, usize); 7] = [
    ("memory-mib", 16, 4095),
    ("table-elements", 100, 1_000_000),
    ("instances", 1, 1000),
    ("transfer-mib", 1, 1024),
    ("handles", 8, 1000),
    ("tensors", 2, 1000),
    ("log-kib", 0, 1024),
];

/// A limit that cannot be set so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// There is none of that name.
    #[error("there is no limit `{name}`; there are {}", RANGES.map(|(name, ..)| name).join(", "))]
    Unknown {
        /// The name.
        name: String,
    },
    /// It is no number in its range.
    #[error("the limit {name} is `{value}`; it must be a number from {least} to {most}")]
    Range {
        /// Which.
        name: String,
        /// Its value.
        value: String,
        /// The least that it may be.
        least: usize,
        /// The most that it may be.
        most: usize,
    },
}

impl Limits {
    /// The default limits, but these: values by name, `memory-mib` in MiB and so on.
    ///
    /// # Errors
    ///
    /// [`LimitError`] names the limit and what it may be.
    pub fn with(changes: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        let mut limits = Self::default();
        for (name, text) in changes {
            let range = RANGES.iter().find(|(known, ..)| known == name);
            let &(name, least, most) = range.ok_or_else(|| LimitError::Unknown { name: name.clone() })?;
            let value = text.parse().ok().filter(|value| (least..=most).contains(value));
            let value: usize = value.ok_or_else(|| LimitError::Range { name: name.to_owned(), value: text.clone(), least, most })?;
            match name {
                "memory-mib" => limits.memory_bytes = value << 20,
                "table-elements" => limits.table_elements = value,
                "instances" => limits.instances = value,
                "transfer-mib" => limits.transfer_bytes = value << 20,
                "handles" => limits.handles = value,
                "tensors" => limits.tensors = value,
                _ => limits.log_bytes = value << 10,
            }
        }
        Ok(limits)
    }

    /// Bytes of all linear memories of a guest and of the tensors that the host holds for it, together.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Elements of one table.
    #[must_use]
    pub fn table_elements(&self) -> usize {
        self.table_elements
    }

    /// Core instances in one component.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// Bytes that a guest may hand to the host in one call or answer.
    #[must_use]
    pub fn transfer_bytes(&self) -> usize {
        self.transfer_bytes
    }

    /// Resources (tensors, graphs, streams) that a guest may hold at a time.
    #[must_use]
    pub fn handles(&self) -> usize {
        self.handles
    }

    /// Tensors that a guest may hold at a time.
    #[must_use]
    pub fn tensors(&self) -> usize {
        self.tensors
    }

    /// Bytes of log lines, and again of standard error, that are kept of a request.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log_bytes
    }
}

/// A limit was hit.
#[derive(Clone, Debug, thiserror::Error)]
#[error("limit `{name}` of {limit} reached: {asked}")]
pub struct LimitReached {
    /// Which limit.
    pub name: &'static str,
    /// Its value, as it is set.
    pub limit: usize,
    /// What was asked for.
    pub asked: String,
}

impl LimitReached {
    /// More was wanted than there is, of which `used` was in use.
    pub(crate) fn wanted(name: &'static str, limit: usize, used: usize, wanted: usize) -> Self {
        Self { name, limit, asked: format!("{used} in use, {wanted} wanted") }
    }

    fn memory(limit: usize, used: usize, wanted: usize) -> Self {
        Self { name: "memory-mib", limit: limit >> 20, asked: format!("{used} bytes in use, {wanted} wanted") }
    }
}

/// Holds one store to its [`Limits`].
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    memory_used: usize,
    /// Bytes of tensors that the host holds for the guest.
    tensor_bytes: usize,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), memory_used: 0, tensor_bytes: 0 }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes note of the tensors that are alive, `count` of `bytes` together, one of which was just made.
    ///
    /// # Errors
    ///
    /// If they are too many, or too large beside the guest's memory.
    pub(crate) fn tensors(&mut self, count: usize, bytes: usize) -> Result<(), LimitReached> {
        if count > self.limits.tensors {
            return Err(LimitReached::wanted("tensors", self.limits.tensors, count - 1, count));
        }
        let used = self.memory_used.saturating_add(bytes);
        if used > self.limits.memory_bytes {
            let before = self.memory_used.saturating_add(self.tensor_bytes);
            return Err(LimitReached::memory(self.limits.memory_bytes, before, used));
        }
        self.tensor_bytes = bytes;
        Ok(())
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let memory = self.memory_used.saturating_add(desired.saturating_sub(current));
        let used = memory.saturating_add(self.tensor_bytes);
        if used > self.limits.memory_bytes {
            // Trapping here names the limit; answering `false` would let the guest die of it in its own words.
            let before = self.memory_used.saturating_add(self.tensor_bytes);
            return Err(LimitReached::memory(self.limits.memory_bytes, before, used).into());
        }
        self.memory_used = memory;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.limits.table_elements {
            return Err(LimitReached::wanted("table-elements", self.limits.table_elements, current, desired).into());
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Result<Limits, LimitError> {
        Limits::with(&[(name.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn a_limit_is_set_by_its_name_or_refused_with_what_it_may_be() {
        assert_eq!(with("memory-mib", "64").unwrap().memory_bytes(), 64 << 20);
        assert_eq!(with("transfer-mib", "2").unwrap().transfer_bytes(), 2 << 20);
        assert_eq!(with("log-kib", "0").unwrap().log_bytes(), 0);
        for (name, ..) in RANGES {
            let error = with(name, "99999999").unwrap_err().to_string();
            assert!(error.starts_with(&format!("the limit {name} is `99999999`; it must be a number from ")), "{error}");
        }
        let error = with("memory", "1").unwrap_err().to_string();
        assert!(error.starts_with("there is no limit `memory`; there are memory-mib, table-elements"), "{error}");
    }

    #[test]
    fn tensors_count_against_the_memory() {
        let mut limiter = Limiter::new(&with("memory-mib", "16").unwrap());
        limiter.memory_growing(0, 8 << 20, None).unwrap();
        limiter.tensors(1, 8 << 20).unwrap();
        let error = limiter.tensors(2, (8 << 20) + 1).unwrap_err().to_string();
        assert_eq!(error, "limit `memory-mib` of 16 reached: 16777216 bytes in use, 16777217 wanted");
        assert!(limiter.memory_growing(8 << 20, (8 << 20) + 1, None).is_err());
        // They went: the memory is free again.
        limiter.tensors(1, 0).unwrap();
        limiter.memory_growing(8 << 20, 16 << 20, None).unwrap();
        let error = limiter.tensors(17, 0).unwrap_err().to_string();
        assert_eq!(error, "limit `tensors` of 16 reached: 16 in use, 17 wanted");
    }
}
