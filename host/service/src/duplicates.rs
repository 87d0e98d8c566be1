//! People who may be one and the same under two ids: everybody's templates are compared with
//! everybody else's, a page at a time.
//!
//! A comparison of many people takes a core for seconds. It runs on a thread of its own that steps
//! back for requests, one at a time; a page ends after [`PAGE`], and the work ends when its caller
//! leaves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use rostro_common::ids::PersonId;
use rostro_index::AlikePair;

use super::Service;
use crate::audit::{Action, ActionOutcome};
use crate::deployment::{Actor, step_back};
use crate::people::View;

/// The time after which a page ends.
const PAGE: Duration = Duration::from_secs(10);

/// People whose templates are compared at a time. After each of these the page may end.
const AT_A_TIME: usize = 16;

/// The most people that are reported to be alike to one template. A template with more is of no
/// face.
const MOST: usize = 32;

/// Which people to compare.
#[derive(Clone, Debug)]
pub struct DuplicatesQuery {
    /// The person after whom to begin.
    pub after: Option<PersonId>,
    /// The least similarity to report; by default that at which the active revision names a person.
    pub threshold: Option<f32>,
    /// The number of pairs after which the page ends, at the next person.
    pub limit: usize,
}

/// A page of pairs.
#[derive(Debug)]
pub struct Duplicates {
    /// Each pair once, under the first of the two ids.
    pub pairs: Vec<AlikePair>,
    /// The least similarity that is reported.
    pub threshold: f32,
    /// How many people were compared with everybody.
    pub compared: usize,
    /// The last of them, if there are more.
    pub next: Option<PersonId>,
}

/// Why people cannot be compared now.
#[derive(Debug, thiserror::Error)]
pub enum DuplicatesError {
    /// One comparison runs at a time.
    #[error("people are being compared for another request")]
    UnderWay,
    /// No thread, or it failed.
    #[error("the comparison failed: {0}")]
    Thread(#[from] io::Error),
}

impl Service {
    /// Compares people with everybody else whom the active revision recognises, and records that in
    /// the audit log.
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
        let live = self.deployment.active();
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
                step_back();
                let threshold = query
                    .threshold
                    .unwrap_or(live.revision.thresholds().similarity);
                let page = compare(
                    &live.view,
                    &query,
                    threshold,
                    Instant::now() + PAGE,
                    &cancelled,
                );
                // Before it is answered: what was read is recorded.
                deployment.note_gallery(&actor, Action::ListDuplicates, ActionOutcome::Done);
                // Whoever has the answer may ask for the next page.
                drop(permit);
                // The caller may be gone.
                let _ = send.send(page);
            })?;
        receive
            .await
            .map_err(|_| io::Error::other("its thread ended early").into())
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
    for some in rest.chunks(AT_A_TIME) {
        // Each pair is found from both sides.
        let mut pairs = view
            .alike(some, MOST, threshold)
            .into_iter()
            .filter(|pair| pair.id < pair.other)
            .peekable();
        for id in some {
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
