//! Duplicates: people who may be one person under two ids. The templates of all people are compared
//! with each other, a page at a time.
//!
//! A comparison of many people takes a core for seconds. It runs on a low-priority thread of its
//! own, one at a time. A page ends after [`PAGE_TIME`], and the work is cancelled when its caller
//! leaves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use rostro_common::ids::PersonId;
use rostro_index::AlikePair;

use super::Service;
use crate::ServiceError;
use crate::audit::{Action, ActionOutcome};
use crate::deployment::{Actor, lower_priority};
use crate::people::View;

/// Time after which a page ends.
const PAGE_TIME: Duration = Duration::from_secs(10);

/// People compared in one step. After each step the page may end.
const STEP: usize = 16;

/// The most people reported as similar to one template. A template with more shows no face.
const MOST_SIMILAR: usize = 32;

/// A query for a page of duplicates.
#[derive(Clone, Debug)]
pub struct DuplicatesQuery {
    /// Person after which the page begins.
    pub after: Option<PersonId>,
    /// Least similarity to report. None for the active revision's threshold of recognition.
    pub threshold: Option<f32>,
    /// Number of pairs after which the page ends, at the next person.
    pub limit: usize,
}

/// A page of pairs.
#[derive(Debug)]
pub struct Duplicates {
    /// Each pair once, under the first of its two ids.
    pub pairs: Vec<AlikePair>,
    /// Least similarity that is reported.
    pub threshold: f32,
    /// Number of people that were compared with all others.
    pub compared: usize,
    /// Person after which the next page begins, if there is one.
    pub next: Option<PersonId>,
}

/// Reason why people cannot be compared now.
#[derive(Debug, thiserror::Error)]
pub enum DuplicatesError {
    /// Another comparison is running.
    #[error("people are being compared for another request")]
    UnderWay,
    /// This node may not answer from memory.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The thread could not start, or it failed.
    #[error("the comparison failed: {0}")]
    Thread(#[from] io::Error),
}

impl Service {
    /// Compares people with all others that the active revision recognises, and records that in the
    /// audit log.
    ///
    /// # Errors
    ///
    /// [`DuplicatesError`].
    pub async fn duplicates(
        &self,
        query: DuplicatesQuery,
        actor: &Actor,
    ) -> Result<Duplicates, DuplicatesError> {
        let permit = Arc::clone(&self.comparing)
            .try_acquire_owned()
            .map_err(|_| DuplicatesError::UnderWay)?;
        let lease = self.take_lease()?;
        let active = self.deployment.active();
        let (deployment, actor) = (Arc::clone(&self.deployment), actor.clone());
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = scopeguard::guard(Arc::clone(&cancelled), |cancelled| {
            cancelled.store(true, Ordering::Relaxed)
        });
        let (send, receive) = oneshot::channel();
        let span = tracing::Span::current();
        std::thread::Builder::new()
            .name("duplicates".to_owned())
            .spawn(move || {
                let _span = span.entered();
                lower_priority();
                let threshold = query
                    .threshold
                    .unwrap_or(active.revision.thresholds().similarity);
                let page = compare(
                    &active.view,
                    &query,
                    threshold,
                    Instant::now() + PAGE_TIME,
                    &cancelled,
                );
                // Recorded before the answer, because the caller may be gone afterwards.
                deployment.record_gallery(&actor, Action::ListDuplicates, ActionOutcome::Done);
                // Released before the answer, because the caller may ask for the next page at once.
                drop(permit);
                // The receiver is gone if the caller left.
                let _ = send.send(page);
            })?;
        let page = receive
            .await
            .map_err(|_| io::Error::other("its thread ended early"))?;
        self.check_lease(lease)?;
        Ok(page)
    }
}

fn compare(
    view: &View,
    query: &DuplicatesQuery,
    threshold: f32,
    until: Instant,
    cancelled: &AtomicBool,
) -> Duplicates {
    let ids = view.known_ids();
    let start = query
        .after
        .as_ref()
        .map_or(0, |after| ids.partition_point(|id| id <= after));
    let rest = ids.get(start..).unwrap_or_default();
    let mut page = Duplicates {
        pairs: Vec::new(),
        threshold,
        compared: 0,
        next: None,
    };
    for step in rest.chunks(STEP) {
        // Each pair is found from both sides.
        let mut pairs = view
            .alike(step, MOST_SIMILAR, threshold)
            .into_iter()
            .filter(|pair| pair.id < pair.other)
            .peekable();
        for id in step {
            while let Some(pair) = pairs.next_if(|pair| pair.id == *id) {
                page.pairs.push(pair);
            }
            page.compared += 1;
            if page.pairs.len() >= query.limit {
                break;
            }
        }
        if page.pairs.len() >= query.limit
            || Instant::now() >= until
            || cancelled.load(Ordering::Relaxed)
        {
            break;
        }
    }
    if page.compared < rest.len() {
        page.next = page
            .compared
            .checked_sub(1)
            .and_then(|last| rest.get(last))
            .cloned();
    }
    page
}
