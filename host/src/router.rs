//! Which revision serves a request.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::revision::Revision;

/// Points at the active revision. A request takes it once, at its start, and keeps it to its end.
#[derive(Debug)]
pub(crate) struct Router {
    active: ArcSwap<Revision>,
}

impl Router {
    /// A router to one revision.
    #[must_use]
    pub(crate) fn new(active: Arc<Revision>) -> Self {
        Self { active: ArcSwap::new(active) }
    }

    /// The revision for a request that begins now.
    #[must_use]
    pub(crate) fn active(&self) -> Arc<Revision> {
        self.active.load_full()
    }
}
