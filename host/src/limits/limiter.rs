//! Holding a guest to its limits.

use wasmtime::ResourceLimiter;

use super::{LimitReached, Limits, Usage};

/// Holds one store to its [`Limits`].
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    memory_used: usize,
    /// Bytes of tensors that the host holds for the guest.
    tensor_bytes: usize,
    /// The most of each so far.
    most: Usage,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), memory_used: 0, tensor_bytes: 0, most: Usage::default() }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The most of each so far.
    pub(crate) fn most(&self) -> Usage {
        self.most
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
        self.most.memory_bytes = self.most.memory_bytes.max(used);
        self.most.tensors = self.most.tensors.max(count);
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
        self.most.memory_bytes = self.most.memory_bytes.max(used);
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.limits.table_elements {
            return Err(LimitReached::wanted("table-elements", self.limits.table_elements, current, desired).into());
        }
        self.most.table_elements = self.most.table_elements.max(desired);
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_count_against_the_memory() {
        let mut limiter = Limiter::new(&Limits::with(&[("memory-mib".to_owned(), "16".to_owned())].into()).unwrap());
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
