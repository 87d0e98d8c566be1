//! The service without HTTP: recognition, enrolment and the people, on revisions of a pipeline.
//!
//! Modules, along the way of a request:
//!
//! - `streams`, `sessions`: frames in their order, and the presence that they show,
//! - [`executor`]: admission, fair queueing, worker threads and deadlines,
//! - `recognize`, `analyze`, `enroll`: an image's way to the sandbox and back,
//! - [`people`]: the stored people and their indices, one for each embedding contract,
//! - `manage`, `duplicates`, [`transfer`]: listing, deletion, comparison, export and import,
//! - [`deployment`]: revisions, their routes, staging, roll back and the circuit breaker,
//! - [`audit`]: the log of what operators and callers changed,
//! - `error` and [`types`]: the error of a request, and plain data for callers of this crate.
//!
//! Place in the workspace: `rostro` → `api` → **`service`** → `sandbox` → {`inference`, `models`};
//! the service also uses `gallery`, `index`, `sessions` and
//! `delivery`, and every crate uses `common`. It decides nothing
//! about a face itself: the pipeline's vision finds faces, and the policy names them.

mod analyze;
pub mod audit;
pub mod deployment;
mod duplicates;
mod enroll;
mod error;
pub mod executor;
mod manage;
pub mod people;
mod recognize;
mod sessions;
mod streams;
pub mod transfer;
pub mod types;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Mutex, Semaphore};

use rostro_delivery::{Delivery, ReceiverStatus};
use rostro_sandbox::review::Review;
use rostro_sessions::{SessionStore, SessionStoreError};

use crate::deployment::{Deployment, Outcome, ReadyRevision};
use crate::executor::{Client, Executor, RequestContext};
use crate::people::People;
use crate::sessions::LiveSessions;
use crate::streams::Streams;

pub use analyze::{Analyses, Comparison, FacePair};
pub use duplicates::{DuplicatesError, DuplicatesQuery};
pub use enroll::{EnrollRequest, Enrollment, EnrollmentWarning, Mode, PhotoIssue, PhotoOutcome};
pub use error::{RevisionError, ServiceError};
pub use recognize::{FrameInput, Identification, Recognition, RecognizedFace, probes};
pub use rostro_sandbox::bindings::{Candidate, Face, Purpose};
pub use sessions::{
    SessionFrame, SessionRecognition, SessionRequest, SessionRequestError, Subscription,
};
pub use streams::Stream;
pub use transfer::{
    ArchiveDeletions, ArchiveError, ArchiveFile, ArchiveFolder, DeletionsError, ImportOptions,
    ImportReport, PeopleList,
};

/// The use cases of the service, and what they share.
#[derive(Debug)]
pub struct Service {
    deployment: Arc<Deployment>,
    people: Arc<People>,
    executor: Executor,
    /// The least strict review of enrolment photos.
    review: ArcSwap<Review>,
    /// Held while an archive is exported or imported: one at a time.
    archiving: Arc<Mutex<()>>,
    archives: ArchiveFolder,
    /// Held while people are compared with each other: one comparison at a time.
    comparing: Arc<Semaphore>,
    streams: Streams,
    sessions: LiveSessions,
    /// Delivery of the sessions' events.
    delivery: Delivery,
}

/// An encoded photo as it was sent.
#[derive(Debug)]
pub struct Photo {
    /// Name of its field of the form.
    pub field: &'static str,
    /// The client's name of the file.
    pub file_name: String,
    /// The bytes of an image file.
    pub content: Bytes,
}

impl Service {
    /// Returns a service of these parts.
    #[must_use]
    pub fn new(
        deployment: Arc<Deployment>,
        people: Arc<People>,
        executor: Executor,
        review: Review,
        archives: ArchiveFolder,
        sessions: Arc<SessionStore>,
        delivery: Delivery,
    ) -> Self {
        Self {
            deployment,
            people,
            executor,
            review: ArcSwap::from_pointee(review),
            archiving: Arc::default(),
            archives,
            comparing: Arc::new(Semaphore::new(1)),
            streams: Streams::default(),
            sessions: LiveSessions::new(sessions),
            delivery,
        }
    }

    /// Returns the revisions.
    pub fn deployment(&self) -> &Arc<Deployment> {
        &self.deployment
    }

    /// Returns the executor.
    pub fn executor(&self) -> &Executor {
        &self.executor
    }

    /// Returns the stored people.
    pub fn people(&self) -> &Arc<People> {
        &self.people
    }

    /// Sets the least strict review of later enrolments.
    pub fn set_review(&self, review: Review) {
        self.review.store(Arc::new(review));
    }

    /// Returns the deadline of a request that arrives now.
    #[must_use]
    pub(crate) fn deadline(&self) -> Instant {
        self.executor.deadline()
    }

    /// Returns the state of each receiver of events.
    pub fn receivers(&self) -> Vec<ReceiverStatus> {
        self.delivery.status()
    }

    /// Writes the counts of sessions that are only in memory, ends the deliveries, and leaves the
    /// fleet. Blocks until deliveries in flight have ended.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub fn finish(&self) -> Result<(), SessionStoreError> {
        self.delivery.begin_stop();
        let written = self.sessions.store().checkpoint();
        // Before the wait: other nodes must not wait for this one.
        self.people.leave();
        self.delivery.stop();
        written
    }

    /// Waits until the service stops.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        self.executor.stopping()
    }

    /// Returns the estimated time that a new request would wait for a worker.
    pub fn expected_wait(&self) -> Duration {
        self.executor.expected_wait()
    }

    /// Returns the context of a request that arrives now.
    #[must_use]
    pub fn context(&self, client: Client) -> RequestContext {
        RequestContext {
            client,
            deadline: self.executor.deadline(),
        }
    }

    /// Records how a client's request ended on a revision, for the circuit breaker.
    fn record_outcome(&self, ready: &ReadyRevision, client: &Client, outcome: &Outcome) {
        if matches!(outcome, Outcome::Failure(_)) {
            // The log line at the end of the request names the revision.
            tracing::Span::current()
                .record("revision", tracing::field::display(ready.id().short()));
        }
        self.deployment.record_outcome(ready, client, outcome);
    }
}
