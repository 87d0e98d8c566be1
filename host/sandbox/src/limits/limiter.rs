//! Enforcement of the limits of one store.

use wasmtime::ResourceLimiter;

use super::{GuestMeter, LimitReached, Limits, Usage};

/// Enforces the [`Limits`] of one store, and records its usage.
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    meter: GuestMeter,
    /// Bytes of linear memory.
    memory_bytes: usize,
    /// Bytes of tensors that the host holds for the guest.
    tensor_bytes: usize,
    /// Highest usage so far.
    peak: Usage,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits, meter: GuestMeter) -> Self {
        Self {
            limits: limits.clone(),
            meter,
            memory_bytes: 0,
            tensor_bytes: 0,
            peak: Usage::default(),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the highest usage so far.
    pub(crate) fn peak(&self) -> Usage {
        self.peak
    }

    /// Updates the tensors that the host holds for the guest: `count`, with `bytes` in total.
    ///
    /// # Errors
    ///
    /// If they exceed a limit of the guest, or the memory that all guests share.
    pub(crate) fn set_tensors(&mut self, count: usize, bytes: usize) -> wasmtime::Result<()> {
        if count > self.limits.tensors {
            return Err(
                LimitReached::wanted("tensors", self.limits.tensors, count - 1, count).into(),
            );
        }
        let used = self.memory_bytes.saturating_add(bytes);
        if used > self.limits.memory_bytes {
            let before = self.memory_bytes.saturating_add(self.tensor_bytes);
            return Err(LimitReached::memory(self.limits.memory_bytes, before, used).into());
        }
        match bytes.checked_sub(self.tensor_bytes) {
            Some(more) => self.meter.budget().reserve(more)?,
            None => self.meter.budget().release(self.tensor_bytes - bytes),
        }
        self.tensor_bytes = bytes;
        self.peak.memory_bytes = self.peak.memory_bytes.max(used);
        self.peak.tensors = self.peak.tensors.max(count);
        Ok(())
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let memory = self.memory_bytes.saturating_add(growth);
        let used = memory.saturating_add(self.tensor_bytes);
        if used > self.limits.memory_bytes {
            // An error names the limit. Returning `false` would let the guest fail in its own words.
            let before = self.memory_bytes.saturating_add(self.tensor_bytes);
            return Err(LimitReached::memory(self.limits.memory_bytes, before, used).into());
        }
        // Wasmtime refuses growth above the memory's own maximum, so it must not be counted.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.meter.budget().reserve(growth)?;
        self.meter.add_memory(growth);
        self.memory_bytes = memory;
        self.peak.memory_bytes = self.peak.memory_bytes.max(used);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.limits.table_elements {
            return Err(LimitReached::wanted(
                "table-elements",
                self.limits.table_elements,
                current,
                desired,
            )
            .into());
        }
        self.peak.table_elements = self.peak.table_elements.max(desired);
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }
}

/// Releases the guest's memory, however the guest ends.
impl Drop for Limiter {
    fn drop(&mut self) {
        self.meter
            .budget()
            .release(self.memory_bytes.saturating_add(self.tensor_bytes));
        self.meter
            .end_instance(self.memory_bytes, self.peak.memory_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{GuestMeters, MemoryBudget};
    use super::*;
    use crate::half::Half;

    fn small_limits() -> Limits {
        Limits::with(&[("memory-mib".to_owned(), "16".to_owned())].into()).unwrap()
    }

    #[test]
    fn tensors_count_as_memory() {
        let mut limiter = Limiter::new(
            &small_limits(),
            GuestMeters::default().of(Half::Vision).clone(),
        );
        limiter.memory_growing(0, 8 << 20, None).unwrap();
        limiter.set_tensors(1, 8 << 20).unwrap();
        let error = limiter
            .set_tensors(2, (8 << 20) + 1)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "limit `memory-mib` of 16 reached: 16777216 bytes in use, 16777217 wanted"
        );
        assert!(
            limiter
                .memory_growing(8 << 20, (8 << 20) + 1, None)
                .is_err()
        );
        // Dropped tensors free their memory.
        limiter.set_tensors(1, 0).unwrap();
        limiter.memory_growing(8 << 20, 16 << 20, None).unwrap();
        let error = limiter.set_tensors(17, 0).unwrap_err().to_string();
        assert_eq!(error, "limit `tensors` of 16 reached: 16 in use, 17 wanted");
    }

    #[test]
    fn guests_share_memory_budget() {
        let meters = GuestMeters::with_budget(MemoryBudget::new(8 << 20));
        let limiter = || Limiter::new(&small_limits(), meters.of(Half::Vision).clone());
        let (mut one, mut other) = (limiter(), limiter());
        one.memory_growing(0, 4 << 20, None).unwrap();
        one.set_tensors(1, 2 << 20).unwrap();
        let error = other.memory_growing(0, 3 << 20, None).unwrap_err();
        assert!(
            error
                .downcast_ref::<super::super::OutOfCapacity>()
                .is_some(),
            "{error}"
        );
        assert!(other.set_tensors(1, 3 << 20).is_err());
        // A refused request reserves nothing, and dropped tensors free their memory.
        one.set_tensors(1, 1 << 20).unwrap();
        other.memory_growing(0, 3 << 20, None).unwrap();
        drop(one);
        other.memory_growing(3 << 20, 8 << 20, None).unwrap();
    }

    #[test]
    fn memory_gauge_follows_instances() {
        let meters = GuestMeters::default();
        let meter = meters.of(Half::Vision);
        let mut one = Limiter::new(&small_limits(), meter.clone());
        one.memory_growing(0, 1 << 20, None).unwrap();
        one.memory_growing(1 << 20, 3 << 20, Some(4 << 20)).unwrap();
        let mut other = Limiter::new(&small_limits(), meter.clone());
        other.memory_growing(0, 4 << 20, None).unwrap();
        assert_eq!(meter.memory(), 7 << 20);
        // Refused growth is not counted, whether the limit or the memory's maximum refuses it.
        assert!(one.memory_growing(3 << 20, 17 << 20, None).is_err());
        assert!(!one.memory_growing(3 << 20, 5 << 20, Some(4 << 20)).unwrap());
        assert_eq!(
            (meter.memory(), one.peak().memory_bytes),
            (7 << 20, 3 << 20)
        );
        drop(other);
        assert_eq!(meter.memory(), 3 << 20);
        let panics = move || {
            let _limiter = one;
            panic!("a bug");
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(meter.memory(), 0);
    }
}
