//! What one guest may use in one request, the limiter that holds it to that, and what it used, also
//! for monitoring.

mod budget;
mod limiter;
mod meter;
mod usage;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

pub(crate) use budget::Budget;
pub use budget::OutOfCapacity;
pub(crate) use limiter::Limiter;
pub use meter::{GuestMeter, GuestMeters, Seconds};
pub use usage::Usage;

/// What a guest may use in one request. The defaults are tight: each is some times what the default
/// pipeline needs for its worst accepted input, or what the interface allows. Every revision is
/// held to the service's, or to tighter ones of its own.
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
            // A 40-megapixel photo is 120 MB as RGB, decoded from as much again; the detector's
            // tensor and outputs add 10 MB.
            memory_bytes: 512 << 20,
            // Function pointers of a Rust component: some thousands.
            table_elements: 20_000,
            // A Rust component has one of its own and the shims that adapt it; one of Python has
            // 38.
            instances: 64,
            // The largest single call carries a detector's input: 50 MB at 2048×2048, under 10 MB
            // at usual sizes.
            transfer_bytes: 64 << 20,
            // Nine outputs of a detector, an input, a graph and its context are alive at a time,
            // and a few streams of WASI.
            handles: 32,
            // Nine outputs of a detector and the next input.
            tensors: 16,
            // A panic message with its location is under 1 KB; the rest is for debugging.
            log_bytes: 16 << 10,
            // Four times the largest class photo that is tested; the most that the interface
            // allows.
            faces: 1024,
            // The most that the interface allows; the default policy makes two of each photo.
            templates: 16,
            // As long as any deadline: the request's own ends a guest, by default after 30 s,
            // unless an operator gives a revision less.
            time: Duration::from_hours(1),
        }
    }
}

/// A limit that an operator sets.
struct Setting {
    name: &'static str,
    /// Between which values it may be.
    least: usize,
    most: usize,
    /// Reads and writes it, in the unit of its name.
    get: fn(&Limits) -> usize,
    set: fn(&mut Limits, usize),
}

/// Every limit, as it is set.
const SETTINGS: [Setting; 10] = [
    setting(
        "memory-mib",
        16,
        4095,
        |limits| limits.memory_bytes >> 20,
        |limits, value| limits.memory_bytes = value << 20,
    ),
    setting(
        "table-elements",
        100,
        1_000_000,
        |limits| limits.table_elements,
        |limits, value| limits.table_elements = value,
    ),
    setting(
        "instances",
        1,
        1000,
        |limits| limits.instances,
        |limits, value| limits.instances = value,
    ),
    setting(
        "transfer-mib",
        1,
        1024,
        |limits| limits.transfer_bytes >> 20,
        |limits, value| limits.transfer_bytes = value << 20,
    ),
    setting(
        "handles",
        8,
        1000,
        |limits| limits.handles,
        |limits, value| limits.handles = value,
    ),
    setting(
        "tensors",
        2,
        1000,
        |limits| limits.tensors,
        |limits, value| limits.tensors = value,
    ),
    setting(
        "log-kib",
        0,
        1024,
        |limits| limits.log_bytes >> 10,
        |limits, value| limits.log_bytes = value << 10,
    ),
    setting(
        "faces",
        1,
        1024,
        |limits| limits.faces,
        |limits, value| limits.faces = value,
    ),
    setting(
        "templates",
        1,
        16,
        |limits| limits.templates,
        |limits, value| limits.templates = value,
    ),
    setting(
        "time-ms",
        10,
        3_600_000,
        Limits::time_ms,
        |limits, value| limits.time = Duration::from_millis(value as u64),
    ),
];

const fn setting(
    name: &'static str,
    least: usize,
    most: usize,
    get: fn(&Limits) -> usize,
    set: fn(&mut Limits, usize),
) -> Setting {
    Setting {
        name,
        least,
        most,
        get,
        set,
    }
}

impl Setting {
    fn named(name: &str) -> Result<&'static Self, LimitError> {
        // As much of a name as anybody reads.
        let unknown = || LimitError::Unknown {
            name: name.chars().take(64).collect(),
        };
        SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .ok_or_else(unknown)
    }

    fn parse(&self, text: &str) -> Result<usize, LimitError> {
        let Self {
            name, least, most, ..
        } = *self;
        let value = text
            .parse()
            .ok()
            .filter(|value| (least..=most).contains(value));
        value.ok_or_else(|| LimitError::Range {
            name: name.to_owned(),
            value: text.chars().take(64).collect(),
            least,
            most,
        })
    }
}

/// A limit that cannot be set so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// There is none of that name.
    #[error("there is no limit `{name}`; there are {}", SETTINGS.map(|setting| setting.name).join(", "))]
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
    #[error(
        "the limit {name} of a revision is `{value}`; the service's own is {most}, which no revision exceeds: raise that with --limit"
    )]
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
        for (name, value) in changes {
            let setting = Setting::named(name)?;
            let most = (setting.get)(self);
            if setting.parse(value)? > most {
                return Err(LimitError::Above {
                    name: name.clone(),
                    value: value.clone(),
                    most,
                });
            }
        }
        self.clone().changed(changes)
    }

    /// These limits, but tighter where `changes` are: what a revision with limits of its own is
    /// held to by a service that may itself have become tighter since.
    ///
    /// # Errors
    ///
    /// [`LimitError`] if one is none.
    pub fn at_most(&self, changes: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        let mut limits = self.clone();
        for (name, text) in changes {
            let setting = Setting::named(name)?;
            let value = setting.parse(text)?.min((setting.get)(self));
            (setting.set)(&mut limits, value);
        }
        Ok(limits)
    }

    fn changed(mut self, changes: &BTreeMap<String, String>) -> Result<Self, LimitError> {
        for (name, text) in changes {
            let setting = Setting::named(name)?;
            (setting.set)(&mut self, setting.parse(text)?);
        }
        Ok(self)
    }

    /// These limits by name, as they are set, those that there are: what two revisions have in
    /// common that were given the same in other words.
    pub fn named<'n>(
        &self,
        names: impl IntoIterator<Item = &'n String>,
    ) -> BTreeMap<String, String> {
        let value = |name: &'n String| {
            Some((
                name.clone(),
                (Setting::named(name).ok()?.get)(self).to_string(),
            ))
        };
        names.into_iter().filter_map(value).collect()
    }

    fn time_ms(&self) -> usize {
        usize::try_from(self.time.as_millis()).unwrap_or(usize::MAX)
    }

    /// Bytes of all linear memories of a guest and of the tensors that the host holds for it,
    /// together.
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
    pub fn without_time_limit(&self) -> Self {
        Self {
            time: Self::default().time,
            ..self.clone()
        }
    }

    /// When a guest that begins now must be done: at the request's deadline, or before it if its
    /// own time is up then.
    #[must_use]
    pub(crate) fn end(&self, deadline: Instant) -> Instant {
        Instant::now()
            .checked_add(self.time)
            .map_or(deadline, |own| own.min(deadline))
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
        Self {
            name,
            limit,
            asked: format!("{used} in use, {wanted} wanted"),
        }
    }

    /// An answer has more than is taken.
    pub(crate) fn returned(name: &'static str, limit: usize, returned: usize) -> Self {
        Self {
            name,
            limit,
            asked: format!("{returned} returned"),
        }
    }

    /// A guest's own time was up.
    pub(crate) fn time(limits: &Limits) -> Self {
        Self {
            name: "time-ms",
            limit: limits.time_ms(),
            asked: "it was still at work".to_owned(),
        }
    }

    pub(crate) fn memory(limit: usize, used: usize, wanted: usize) -> Self {
        Self {
            name: "memory-mib",
            limit: limit >> 20,
            asked: format!("{used} bytes in use, {wanted} wanted"),
        }
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
        for Setting { name, .. } in SETTINGS {
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
    fn a_revision_is_held_tighter_than_the_service_and_never_looser() {
        let service = with("memory-mib", "64").unwrap();
        let own = |name: &str, value: &str| {
            service.tightened(&[(name.to_owned(), value.to_owned())].into())
        };
        assert_eq!(
            own("memory-mib", "32").unwrap(),
            with("memory-mib", "32").unwrap()
        );
        assert_eq!(own("memory-mib", "64").unwrap(), service);
        // A service that became tighter since holds a revision to that.
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
        // Every limit that can be set can be tightened to its least.
        for Setting {
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
    fn a_guest_ends_at_its_own_time_or_at_the_deadline() {
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
