//! Holding a guest to its limits.

use wasmtime::ResourceLimiter;

use super::{GuestMeter, LimitReached, Limits, Usage};

/// Holds one store to its [`Limits`].
#[derive(Debug)]
pub(crate) struct Limiter {
    limits: Limits,
    meter: GuestMeter,
    /// Bytes of linear memory.
    memory_used: usize,
    /// Bytes of tensors that the host holds for the guest.
    tensor_bytes: usize,
    /// The most of each so far.
    most: Usage,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits, meter: GuestMeter) -> Self {
        Self {
            limits: limits.clone(),
            meter,
            memory_used: 0,
            tensor_bytes: 0,
            most: Usage::default(),
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The most of each so far.
    pub(crate) fn most(&self) -> Usage {
        self.most
    }

    /// Takes note of the tensors that are alive, `count` of `bytes` together, one of which was just
    /// made.
    ///
    /// # Errors
    ///
    /// If they are too many, or too large beside the guest's memory or that of all guests.
    pub(crate) fn tensors(&mut self, count: usize, bytes: usize) -> wasmtime::Result<()> {
        if count > self.limits.tensors {
            return Err(
                LimitReached::wanted("tensors", self.limits.tensors, count - 1, count).into(),
            );
        }
        let used = self.memory_used.saturating_add(bytes);
        if used > self.limits.memory_bytes {
            let before = self.memory_used.saturating_add(self.tensor_bytes);
            return Err(LimitReached::memory(self.limits.memory_bytes, before, used).into());
        }
        match bytes.checked_sub(self.tensor_bytes) {
            Some(more) => self.meter.budget().take(more)?,
            None => self.meter.budget().give_back(self.tensor_bytes - bytes),
        }
        self.tensor_bytes = bytes;
        self.most.memory_bytes = self.most.memory_bytes.max(used);
        self.most.tensors = self.most.tensors.max(count);
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
        let memory = self.memory_used.saturating_add(growth);
        let used = memory.saturating_add(self.tensor_bytes);
        if used > self.limits.memory_bytes {
            // Trapping here names the limit; answering `false` would let the guest die of it in its
            // own words.
            let before = self.memory_used.saturating_add(self.tensor_bytes);
            return Err(LimitReached::memory(self.limits.memory_bytes, before, used).into());
        }
        // Wasmtime refuses it after this, and what is not there must not be counted.
        if maximum.is_some_and(|most| desired > most) {
            return Ok(false);
        }
        self.meter.budget().take(growth)?;
        self.meter.note_growth(growth);
        self.memory_used = memory;
        self.most.memory_bytes = self.most.memory_bytes.max(used);
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
        self.most.table_elements = self.most.table_elements.max(desired);
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.limits.instances
    }
}

/// However a guest ends, its memory is no longer in use.
impl Drop for Limiter {
    fn drop(&mut self) {
        self.meter
            .budget()
            .give_back(self.memory_used.saturating_add(self.tensor_bytes));
        self.meter
            .note_end(self.memory_used, self.most.memory_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Budget, GuestMeters};
    use super::*;
    use crate::component::Half;

    fn small() -> Limits {
        Limits::with(&[("memory-mib".to_owned(), "16".to_owned())].into()).unwrap()
    }

    #[test]
    fn tensors_count_against_the_memory() {
        let mut limiter = Limiter::new(&small(), GuestMeters::default().of(Half::Vision).clone());
        limiter.memory_growing(0, 8 << 20, None).unwrap();
        limiter.tensors(1, 8 << 20).unwrap();
        let error = limiter.tensors(2, (8 << 20) + 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "limit `memory-mib` of 16 reached: 16777216 bytes in use, 16777217 wanted"
        );
        assert!(
            limiter
                .memory_growing(8 << 20, (8 << 20) + 1, None)
                .is_err()
        );
        // They went: the memory is free again.
        limiter.tensors(1, 0).unwrap();
        limiter.memory_growing(8 << 20, 16 << 20, None).unwrap();
        let error = limiter.tensors(17, 0).unwrap_err().to_string();
        assert_eq!(error, "limit `tensors` of 16 reached: 16 in use, 17 wanted");
    }

    #[test]
    fn guests_share_their_memory_and_give_it_back() {
        let meters = GuestMeters::within(Budget::new(8 << 20));
        let limiter = || Limiter::new(&small(), meters.of(Half::Vision).clone());
        let (mut one, mut other) = (limiter(), limiter());
        one.memory_growing(0, 4 << 20, None).unwrap();
        one.tensors(1, 2 << 20).unwrap();
        let error = other.memory_growing(0, 3 << 20, None).unwrap_err();
        assert!(
            error
                .downcast_ref::<super::super::OutOfCapacity>()
                .is_some(),
            "{error}"
        );
        assert!(other.tensors(1, 3 << 20).is_err());
        // What was refused was not taken, and what is not held any more is free.
        one.tensors(1, 1 << 20).unwrap();
        other.memory_growing(0, 3 << 20, None).unwrap();
        drop(one);
        other.memory_growing(3 << 20, 8 << 20, None).unwrap();
    }

    #[test]
    fn memory_is_counted_while_it_is_there_whatever_ends_it() {
        let meters = GuestMeters::default();
        let meter = meters.of(Half::Vision);
        let mut one = Limiter::new(&small(), meter.clone());
        one.memory_growing(0, 1 << 20, None).unwrap();
        one.memory_growing(1 << 20, 3 << 20, Some(4 << 20)).unwrap();
        let mut other = Limiter::new(&small(), meter.clone());
        other.memory_growing(0, 4 << 20, None).unwrap();
        assert_eq!(meter.memory(), 7 << 20);
        // What is refused, for the limit or for the memory's own maximum, is not there.
        assert!(one.memory_growing(3 << 20, 17 << 20, None).is_err());
        assert!(!one.memory_growing(3 << 20, 5 << 20, Some(4 << 20)).unwrap());
        assert_eq!(
            (meter.memory(), one.most().memory_bytes),
            (7 << 20, 3 << 20)
        );
        drop(other);
        assert_eq!(meter.memory(), 3 << 20);
        let panics = move || {
            let _held = one;
            panic!("a bug");
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(meter.memory(), 0);
    }
}
