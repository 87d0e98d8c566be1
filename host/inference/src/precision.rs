//! Precision of a model's arithmetic: 32-bit floats, or 8-bit integers where the pack has a
//! variant.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rule by which the runs of frames choose their precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrecisionMode {
    /// The 8-bit variant where a measurement found it faster, otherwise floats.
    #[default]
    Auto,
    /// Floats. Variants are not loaded.
    Float,
    /// The 8-bit variant in every run.
    Int8,
}

/// Precision in which a model computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats.
    Float,
    /// 8-bit integers, except for the layers that need floats.
    Int8,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float => "float",
            Self::Int8 => "int8",
        })
    }
}

/// Permission of a guest to compute in 8-bit integers, and the record of whether it did. Clones
/// share the record. The default permits floats alone, because embeddings that are stored or
/// handed out must not depend on the processor.
#[derive(Clone, Debug, Default)]
pub struct PrecisionGrant {
    permits_int8: bool,
    used_int8: Arc<AtomicBool>,
}

impl PrecisionGrant {
    /// Returns a grant that permits 8-bit integers.
    #[must_use]
    pub fn int8() -> Self {
        Self {
            permits_int8: true,
            ..Self::default()
        }
    }

    /// Returns the least precision of the guest's runs so far.
    #[must_use]
    pub fn used(&self) -> Precision {
        if self.used_int8.load(Ordering::Relaxed) {
            Precision::Int8
        } else {
            Precision::Float
        }
    }

    pub(super) fn permits_int8(&self) -> bool {
        self.permits_int8
    }

    pub(super) fn record_int8(&self) {
        self.used_int8.store(true, Ordering::Relaxed);
    }
}
