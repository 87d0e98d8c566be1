//! What one guest may use in one request, and the limiter that holds it to that.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;
use wasmtime::ResourceLimiter;

/// What a guest may use in one request. The defaults are tight: each is some times what the default pipeline needs for its worst accepted
/// input, or what the interface allows. Every revision is held to the service's, or to tighter ones of its own.
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
    time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A 40-megapixel photo is 120 MB as RGB, decoded from as much again; the detector's tensor and outputs add 10 MB.
            memory_bytes: 512 << 20,
            // Function pointers of a Rust component: some thousands.
            table_elements: 20_000,
            // A Rust component has one of its own and the shims that adapt it; one of Python has 38.
            instances: 64,
            // The largest single call carries a detector's input: 50 MB at 2048×2048, under 10 MB at usual sizes.
            transfer_bytes: 64 << 20,
            // Nine outputs of a detector, an input, a graph and its context are alive at a time, and a few streams of WASI.
            handles: 32,
            // Nine outputs of a detector and the next input.
            tensors: 16,
            // A panic message with its location is under 1 KB; the rest is for debugging.
            log_bytes: 16 << 10,
            // Four times the largest class photo that is tested; the most that the interface allows.
            faces: 1024,
            // The most that the interface allows; the default policy makes two of each photo.
            templates: 16,
            // As long as any deadline: the request's own ends a guest, by default after 30 s, unless an operator gives a revision less.
            time: Duration::from_hours(1),
        }
    }
}

/// A limit that an operator sets: its name, and between which values it may be.
const RANGES: [(&str, usize, usize); 10] = [
    ("memory-mib", 16, 4095),
    ("table-elements", 100, 1_000_000),
    ("instances", 1, 1000),
    ("transfer-mib", 1, 1024),
    ("handles", 8, 1000),
    ("tensors", 2, 1000),
    ("log-kib", 0, 1024),
    ("faces", 1, 1024),
    ("templates", 1, 16),
    ("time-ms", 10, 3_600_000),
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
    /// A revision would get more than the service gives anybody.
    #[error("the limit {name} of a revision is `{value}`; the service's own is {most}, which no revision exceeds: raise that with --limit")]
    Above {
        /// Which.
        name: String,
        /// Its value.
        value: String,
        /// The service's.
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
        Self::default().changed(changes)
    }

    /// These limits, but tighter where `changes` say so: a revision's own.
    ///
    /// # Errors
    ///
    /// [`LimitError`], also for one that is not as tight as these.
    pub fn tightened(&self, changes: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        let limits = self.clone().changed(changes)?;
        for (name, value) in changes {
            let most = self.value(name);
            if limits.value(name) > most {
                return Err(LimitError::Above { name: name.clone(), value: value.clone(), most });
            }
        }
        Ok(limits)
    }

    /// These limits, but tighter where `changes` are: what a revision with limits of its own is held to by a service that may itself have
    /// become tighter since.
    ///
    /// # Errors
    ///
    /// [`LimitError`] if one is none.
    pub fn at_most(&self, changes: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        let wanted = self.clone().changed(changes)?;
        let tighter = changes.iter().filter(|(name, _)| wanted.value(name) < self.value(name));
        self.clone().changed(&tighter.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn changed(mut self, changes: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        let limits = &mut self;
        for (name, text) in changes {
            let range = RANGES.iter().find(|(known, ..)| known == name);
            let &(name, least, most) = range.ok_or_else(|| LimitError::Unknown { name: name.chars().take(64).collect() })?;
            let value = text.parse().ok().filter(|value| (least..=most).contains(value));
            let value: usize = value.ok_or_else(|| LimitError::Range { name: name.to_owned(), value: text.clone(), least, most })?;
            match name {
                "memory-mib" => limits.memory_bytes = value << 20,
                "table-elements" => limits.table_elements = value,
                "instances" => limits.instances = value,
                "transfer-mib" => limits.transfer_bytes = value << 20,
                "handles" => limits.handles = value,
                "tensors" => limits.tensors = value,
                "log-kib" => limits.log_bytes = value << 10,
                "faces" => limits.faces = value,
                "templates" => limits.templates = value,
                _ => limits.time = Duration::from_millis(value as u64),
            }
        }
        Ok(self)
    }

    /// These limits by name, as they are set: what two revisions have in common that were given the same in other words.
    pub(crate) fn named<'n>(&self, names: impl IntoIterator<Item = &'n String>) -> BTreeMap<String, String> {
        names.into_iter().map(|name| (name.clone(), self.value(name).to_string())).collect()
    }

    /// A limit's value as it is set: `memory-mib` in MiB and so on.
    fn value(&self, name: &str) -> usize {
        match name {
            "memory-mib" => self.memory_bytes >> 20,
            "table-elements" => self.table_elements,
            "instances" => self.instances,
            "transfer-mib" => self.transfer_bytes >> 20,
            "handles" => self.handles,
            "tensors" => self.tensors,
            "log-kib" => self.log_bytes >> 10,
            "faces" => self.faces,
            "templates" => self.templates,
            _ => usize::try_from(self.time.as_millis()).unwrap_or(usize::MAX),
        }
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

    /// Faces that one answer of vision may have.
    #[must_use]
    pub fn faces(&self) -> usize {
        self.faces
    }

    /// Templates that a policy may make of a person.
    #[must_use]
    pub fn templates(&self) -> usize {
        self.templates
    }

    /// A guest's own time in one request.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.time
    }

    /// The same, but with all the time that a request's deadline gives.
    #[must_use]
    pub(crate) fn unhurried(&self) -> Self {
        Self { time: Self::default().time, ..self.clone() }
    }

    /// When a guest that begins now must be done: at the request's deadline, or before it if its own time is up then.
    #[must_use]
    pub(crate) fn end(&self, deadline: Instant) -> Instant {
        Instant::now().checked_add(self.time).map_or(deadline, |own| own.min(deadline))
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

    /// An answer has more than is taken.
    pub(crate) fn returned(name: &'static str, limit: usize, returned: usize) -> Self {
        Self { name, limit, asked: format!("{returned} returned") }
    }

    /// A guest's own time was up.
    pub(crate) fn time(limits: &Limits) -> Self {
        Self { name: "time-ms", limit: limits.value("time-ms"), asked: "it was still at work".to_owned() }
    }

    pub(crate) fn memory(limit: usize, used: usize, wanted: usize) -> Self {
        Self { name: "memory-mib", limit: limit >> 20, asked: format!("{used} bytes in use, {wanted} wanted") }
    }
}

/// The most that a request's guests used of what they may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Linear memory and tensors together.
    pub memory_bytes: usize,
    /// Tensors at a time.
    pub tensors: usize,
    /// Elements of a table.
    pub table_elements: usize,
    /// Bytes of log lines.
    pub log_bytes: usize,
    /// Time from the start of a guest until its last answer.
    pub milliseconds: u64,
}

impl Usage {
    /// The more of each.
    #[must_use]
    pub fn most(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            tensors: self.tensors.max(other.tensors),
            table_elements: self.table_elements.max(other.table_elements),
            log_bytes: self.log_bytes.max(other.log_bytes),
            milliseconds: self.milliseconds.max(other.milliseconds),
        }
    }

    /// What was used beside what may be.
    #[must_use]
    pub fn beside(&self, limits: &Limits) -> String {
        let mib = |bytes: usize| bytes.div_ceil(1 << 20);
        format!(
            "{} of {} MiB of memory, {} of {} tensors, {} of {} table elements, {} of {} bytes of log, {} ms at the longest",
            mib(self.memory_bytes),
            mib(limits.memory_bytes),
            self.tensors,
            limits.tensors,
            self.table_elements,
            limits.table_elements,
            self.log_bytes,
            limits.log_bytes,
            self.milliseconds
        )
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, {} tensors", self.memory_bytes.div_ceil(1 << 20), self.tensors)
    }
}

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
    fn a_revision_is_held_tighter_than_the_service_and_never_looser() {
        let service = with("memory-mib", "64").unwrap();
        let own = |name: &str, value: &str| service.tightened(&[(name.to_owned(), value.to_owned())].into());
        assert_eq!(own("memory-mib", "32").unwrap(), with("memory-mib", "32").unwrap());
        assert_eq!(own("memory-mib", "64").unwrap(), service);
        // A service that became tighter since holds a revision to that.
        let at_most = |value: &str| service.at_most(&[("memory-mib".to_owned(), value.to_owned())].into()).unwrap();
        assert_eq!([at_most("32").value("memory-mib"), at_most("64").value("memory-mib"), at_most("65").value("memory-mib")], [32, 64, 64]);
        let error = own("memory-mib", "65").unwrap_err().to_string();
        assert!(error.contains("`65`; the service's own is 64, which no revision exceeds"), "{error}");
        // Every limit that can be set can be tightened to its least.
        for (name, least, _) in RANGES {
            assert_eq!(own(name, &least.to_string()).unwrap().value(name), least);
        }
        assert!(matches!(own("memory", "1"), Err(LimitError::Unknown { .. })));
    }

    #[test]
    fn a_guest_ends_at_its_own_time_or_at_the_deadline() {
        let now = Instant::now();
        let own = with("time-ms", "50").unwrap();
        assert_eq!(own.end(now), now);
        assert!(own.end(now + Duration::from_secs(60)) < now + Duration::from_secs(30));
        assert_eq!(Limits::default().end(now + Duration::from_secs(60)), now + Duration::from_secs(60));
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
