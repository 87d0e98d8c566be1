//! Limits of one guest in one request, their enforcement, and usage for monitoring.

mod budget;
mod limiter;
mod meter;
mod reached;
mod settings;
mod usage;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub(crate) use budget::MemoryBudget;
pub use budget::OutOfCapacity;
pub(crate) use limiter::Limiter;
pub use meter::{GuestMeter, GuestMeters, Seconds};
pub use reached::LimitReached;
pub use settings::LimitError;
pub use usage::Usage;

use settings::LimitSetting;

/// Largest component that is compiled, in bytes. JavaScript and Python components contain their
/// interpreters, 12 to 18 MB.
pub const MAX_COMPONENT_BYTES: usize = 64 << 20;

/// Limits of a guest in one request.
///
/// The defaults are tight: a small multiple of the default pipeline's need for its worst accepted
/// input, or the maximum of the interface. A revision has the service's limits, or tighter ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    memory_bytes: usize,
    table_elements: usize,
    instances: usize,
    transfer_bytes: usize,
    handles: usize,
    tensors: usize,
    log_bytes: usize,
    faces: usize,
    templates: usize,
    state_bytes: usize,
    time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A 40-megapixel photo is 120 MB as RGB, decoded from as much again; the detector's
            // tensor and outputs add 10 MB.
            memory_bytes: 512 << 20,
            // A Rust component has some thousands of function pointers.
            table_elements: 20_000,
            // A Rust component has its own and those of its shims; a Python component has 38.
            instances: 64,
            // The largest single call carries a detector's input: 50 MB at 2048×2048, under 10 MB
            // at usual sizes.
            transfer_bytes: 64 << 20,
            // Nine outputs of a detector, an input, a graph and its context are alive at a time, and
            // a few streams of WASI.
            handles: 32,
            // Nine outputs of a detector and the next input.
            tensors: 16,
            // A panic message with its location is under 1 KB; the rest is for debugging.
            log_bytes: 16 << 10,
            // Four times the largest class photo in the tests, and the maximum of the interface.
            faces: 1024,
            // The maximum of the interface; the default policy makes two of each photo.
            templates: 16,
            // The default pipeline keeps some 600 bytes of each track, and a class has 30 to 60.
            state_bytes: 256 << 10,
            // As long as any deadline, because the request's own ends a guest, by default after
            // 30 s. An operator may set less for a revision.
            time: Duration::from_hours(1),
        }
    }
}

impl Limits {
    /// Changes the default limits. Values are by name, in the unit of the name.
    ///
    /// # Errors
    ///
    /// [`LimitError`] names the limit and its range.
    pub fn with(changes: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        Self::default().changed_by(changes)
    }

    /// Tightens the limits, for a revision with limits of its own.
    ///
    /// # Errors
    ///
    /// [`LimitError`], also for a value above the current limit.
    pub fn tightened(&self, changes: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        for (name, value) in changes {
            let setting = LimitSetting::find(name)?;
            let most = (setting.get)(self);
            if setting.parse(value)? > most {
                return Err(LimitError::Above {
                    name: name.clone(),
                    value: value.clone(),
                    most,
                });
            }
        }
        self.clone().changed_by(changes)
    }

    /// Returns the smaller of the current and the given value for each limit. A revision keeps its
    /// limits although the service's may have become tighter since.
    ///
    /// # Errors
    ///
    /// [`LimitError`] for an unknown name or an invalid value.
    pub fn at_most(&self, changes: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        let mut limits = self.clone();
        for (name, text) in changes {
            let setting = LimitSetting::find(name)?;
            let value = setting.parse(text)?.min((setting.get)(self));
            (setting.set)(&mut limits, value);
        }
        Ok(limits)
    }

    fn changed_by(mut self, changes: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        for (name, text) in changes {
            let setting = LimitSetting::find(name)?;
            (setting.set)(&mut self, setting.parse(text)?);
        }
        Ok(self)
    }

    /// Returns every limit by its name, in the unit of the name.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, usize)> {
        settings::SETTINGS
            .map(|setting| (setting.name, (setting.get)(self)))
            .into_iter()
    }

    /// Returns the values of the named limits in canonical form. Unknown names are left out. Two
    /// revisions with equal limits in different spelling thus have equal values.
    pub fn named<'n>(
        &self,
        names: impl IntoIterator<Item = &'n String>,
    ) -> BTreeMap<String, String> {
        let value = |name: &'n String| {
            let setting = LimitSetting::find(name).ok()?;
            Some((name.clone(), (setting.get)(self).to_string()))
        };
        names.into_iter().filter_map(value).collect()
    }

    pub(super) fn time_ms(&self) -> usize {
        usize::try_from(self.time.as_millis()).unwrap_or(usize::MAX)
    }

    /// Returns the bytes of all linear memories of a guest and of the tensors that the host holds
    /// for it, together.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Returns the elements of one table.
    #[must_use]
    pub fn table_elements(&self) -> usize {
        self.table_elements
    }

    /// Returns the core instances of one component.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.instances
    }

    /// Returns the bytes that a guest may pass to the host in one call or answer.
    #[must_use]
    pub fn transfer_bytes(&self) -> usize {
        self.transfer_bytes
    }

    /// Returns the resources (tensors, graphs, streams) that a guest may hold at a time.
    #[must_use]
    pub fn handles(&self) -> usize {
        self.handles
    }

    /// Returns the tensors that a guest may hold at a time.
    #[must_use]
    pub fn tensors(&self) -> usize {
        self.tensors
    }

    /// Returns the bytes of log lines, and again of standard error, that are kept of a request.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    /// Returns the faces that one answer of vision may have.
    #[must_use]
    pub fn faces(&self) -> usize {
        self.faces
    }

    /// Returns the templates that a policy may make of a person.
    #[must_use]
    pub fn templates(&self) -> usize {
        self.templates
    }

    /// Returns the bytes of one state of a stream. 0 forbids states and tracks.
    #[must_use]
    pub fn state_bytes(&self) -> usize {
        self.state_bytes
    }

    /// Returns the time limit of a guest in one request.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Returns the limits that can affect templates, the others at their defaults.
    #[must_use]
    pub fn of_templates(&self) -> Self {
        Self {
            state_bytes: Self::default().state_bytes,
            ..self.without_time_limit()
        }
    }

    /// Returns the limits with the default time, which leaves only the request's deadline.
    #[must_use]
    pub fn without_time_limit(&self) -> Self {
        Self {
            time: Self::default().time,
            ..self.clone()
        }
    }

    /// Returns the end of a guest that starts now: the request's deadline or the end of the guest's
    /// own time, the earlier of the two.
    #[must_use]
    pub(crate) fn end(&self, deadline: Instant) -> Instant {
        Instant::now()
            .checked_add(self.time)
            .map_or(deadline, |own| own.min(deadline))
    }
}

#[cfg(test)]
mod tests {
    use super::settings::SETTINGS;
    use super::*;

    fn with(name: &str, value: &str) -> Result<Limits, LimitError> {
        Limits::with(&[(name.to_owned(), value.to_owned())].into())
    }

    #[test]
    fn invalid_limit_names_its_range() {
        assert_eq!(with("memory-mib", "64").unwrap().memory_bytes(), 64 << 20);
        assert_eq!(with("transfer-mib", "2").unwrap().transfer_bytes(), 2 << 20);
        assert_eq!(with("log-kib", "0").unwrap().log_bytes(), 0);
        for LimitSetting { name, .. } in SETTINGS {
            let error = with(name, "99999999").unwrap_err().to_string();
            assert!(
                error.starts_with(&format!(
                    "the limit {name} is `99999999`; it must be a number from "
                )),
                "{error}"
            );
        }
        let error = with("memory", "1").unwrap_err().to_string();
        assert!(
            error.starts_with("there is no limit `memory`; there are memory-mib, table-elements"),
            "{error}"
        );
    }

    #[test]
    fn revision_limits_only_tighten() {
        let service = with("memory-mib", "64").unwrap();
        let own = |name: &str, value: &str| {
            service.tightened(&[(name.to_owned(), value.to_owned())].into())
        };
        assert_eq!(
            own("memory-mib", "32").unwrap(),
            with("memory-mib", "32").unwrap()
        );
        assert_eq!(own("memory-mib", "64").unwrap(), service);
        // A service that became tighter caps the limits of its revisions.
        let at_most = |value: &str| {
            service
                .at_most(&[("memory-mib".to_owned(), value.to_owned())].into())
                .unwrap()
        };
        assert_eq!(
            ["32", "64", "65"].map(|value| at_most(value).memory_bytes() >> 20),
            [32, 64, 64]
        );
        let error = own("memory-mib", "65").unwrap_err().to_string();
        assert!(
            error.contains("`65`; the service's own is 64, which no revision exceeds"),
            "{error}"
        );
        // Every limit can be tightened to its smallest value.
        for LimitSetting {
            name, least, get, ..
        } in SETTINGS
        {
            assert_eq!(get(&own(name, &least.to_string()).unwrap()), least);
        }
        assert!(matches!(
            own("memory", "1"),
            Err(LimitError::Unknown { .. })
        ));
    }

    #[test]
    fn guest_ends_at_earlier_deadline() {
        let now = Instant::now();
        let own = with("time-ms", "50").unwrap();
        assert_eq!(own.end(now), now);
        assert!(own.end(now + Duration::from_secs(60)) < now + Duration::from_secs(30));
        assert_eq!(
            Limits::default().end(now + Duration::from_secs(60)),
            now + Duration::from_secs(60)
        );
    }
}
