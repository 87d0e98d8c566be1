//! Makes a revision of its parts, up to the point where it can serve.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_common::cores::Cores;
use rostro_common::digest::Sha256Digest;
use rostro_common::shutdown::Shutdown;
use rostro_gallery::{DatabaseFailure, GalleryError};
use rostro_inference::OnnxRuntime;
use rostro_models::{Manifest, Pack, PackError};
use rostro_sandbox::component::CompiledComponent;
use rostro_sandbox::component::error::ComponentError;
use rostro_sandbox::engine::Engine;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::self_test::{DrawnFrames, SelfTest, SelfTestError};
use rostro_sandbox::pipeline::stage::{StageError, StageRequest, Tuning};

use super::ready::ReadyRevision;
use super::record::RevisionSpec;
use super::shortened;
use super::state_folder::StateFolder;
use crate::people::{FillMode, People, PeopleError, ViewReport};

/// Time that a revision may take for the templates of all people.
const TEMPLATES_TIMEOUT: Duration = Duration::from_secs(120);

/// Makes revisions. The fields are the service's parts that it needs.
#[derive(Debug)]
pub struct RevisionBuilder {
    /// Compiles and runs components.
    pub engine: Engine,
    /// Loads models.
    pub onnx: OnnxRuntime,
    /// The folder of installed packs.
    pub models: PathBuf,
    /// Limits and thresholds.
    pub tuning: Tuning,
    /// The stored people, for their templates.
    pub people: Arc<People>,
    /// The test that a revision must pass.
    pub self_test: SelfTest,
    /// Cancels staging when the process ends.
    pub shutdown: Shutdown,
    /// Cores for the people of the gallery while no request is served: at most one for each
    /// worker, because each needs an instance of the policy.
    pub start_cores: Cores,
}

/// Occasion on which a revision is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A start serves it again. It passed the self-test when it was staged.
    Restore,
    /// A start serves it for the first time.
    Configure,
    /// It is staged while another one serves, whose requests need the cores.
    Stage,
}

/// A revision that can serve, and its templates of the people.
#[derive(Debug)]
pub(crate) struct StagedRevision {
    pub(crate) ready: Arc<ReadyRevision>,
    pub(crate) report: ViewReport,
}

/// End of staging.
#[derive(Debug)]
pub(crate) enum StagingOutcome {
    /// The revision can serve.
    Ready(StagedRevision),
    /// The revision cannot serve, for this reason.
    Failed(String),
    /// The database did not answer, so that a retry may succeed.
    Interrupted(String),
    /// Staging panicked: a bug of the host.
    Panicked,
}

/// Reason why a revision cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Its pack cannot be used.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A stored component cannot be read.
    #[error("the component {digest} cannot be read back: {cause}; push it again")]
    Component {
        /// The component.
        digest: Sha256Digest,
        /// The operating system's error.
        cause: io::Error,
    },
    /// A component cannot run here.
    #[error(transparent)]
    Unusable(#[from] ComponentError),
    /// The components do not fit the models, or each other.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The models of its pack changed since it was staged.
    #[error(
        "the models of the pack `{0}` changed since it was staged; push it again to stage it with the new ones"
    )]
    OtherModels(String),
    /// The models of its pack are other ones than on the node that staged it first.
    #[error(
        "the models of the pack `{0}` are other ones than those of the other nodes; install the pack with the same models with `rostro models install --force`"
    )]
    OtherModelsHere(String),
    /// It fails the self-test.
    #[error("the self-test failed: {0}")]
    SelfTest(#[from] SelfTestError),
    /// The process is stopping, which says nothing about the revision.
    #[error("the service is stopping")]
    Stopping,
    /// The people's templates cannot be made.
    #[error("cannot prepare the people of the gallery: {0}")]
    People(#[from] PeopleError),
}

impl MakeError {
    /// Returns true if the database did not answer and may do so later.
    fn is_transient(&self) -> bool {
        match self {
            Self::People(PeopleError::Gallery(GalleryError::Database(failure))) => {
                failure.is_transient
            }
            Self::Component { cause, .. } => {
                let failure = cause.get_ref();
                let failure = failure.and_then(|cause| cause.downcast_ref::<DatabaseFailure>());
                failure.is_some_and(|failure| failure.is_transient)
            }
            _ => false,
        }
    }
}

impl RevisionBuilder {
    /// Returns the id of a revision of these parts.
    ///
    /// # Errors
    ///
    /// If the pack does not exist or is damaged.
    pub(crate) fn id(&self, spec: &RevisionSpec) -> Result<Sha256Digest, PackError> {
        let pack = Pack::open(&self.models, &spec.pack)?;
        Ok(spec.inputs(pack.manifest()).id())
    }

    /// Returns the id by version 1 of the hash, by which a program before finds the revision; none
    /// if the pack cannot be read.
    pub(crate) fn former_id(&self, spec: &RevisionSpec) -> Option<Sha256Digest> {
        Some(spec.inputs(&self.manifest(&spec.pack)?).former_id())
    }

    /// Returns the manifest of a pack, if it can be read.
    pub(crate) fn manifest(&self, pack: &str) -> Option<Manifest> {
        Pack::read_manifest(&self.models, pack)
    }

    /// Compiles and inspects a component.
    fn component(
        &self,
        folder: &StateFolder,
        digest: Sha256Digest,
    ) -> Result<CompiledComponent, MakeError> {
        let bytes = folder
            .component_of(&**self.people.store(), digest)
            .map_err(|cause| MakeError::Component { digest, cause })?;
        Ok(CompiledComponent::load(&self.engine, &bytes)?)
    }

    /// Makes the revision `id` on the staging thread. A panic becomes an outcome, because a bug in
    /// staging must not end the thread.
    pub(crate) fn stage(
        &self,
        folder: &StateFolder,
        id: Sha256Digest,
        spec: &RevisionSpec,
    ) -> StagingOutcome {
        let staging = AssertUnwindSafe(|| match self.make(folder, id, spec, Occasion::Stage) {
            Ok(staged) => StagingOutcome::Ready(staged),
            Err(error) => {
                let reason = shortened(&error.to_string());
                match self.people.store().is_shared() && error.is_transient() {
                    true => StagingOutcome::Interrupted(reason),
                    false => StagingOutcome::Failed(reason),
                }
            }
        });
        panic::catch_unwind(staging).unwrap_or(StagingOutcome::Panicked)
    }

    /// Makes the revision `id`: compiles it, loads its models, tests it, and makes the templates of
    /// the people. A shutdown cancels running guests at once, and other steps when they end.
    ///
    /// # Errors
    ///
    /// [`MakeError`]; nothing of the revision is kept then.
    pub(crate) fn make(
        &self,
        folder: &StateFolder,
        id: Sha256Digest,
        spec: &RevisionSpec,
        occasion: Occasion,
    ) -> Result<StagedRevision, MakeError> {
        self.try_make(folder, id, spec, occasion).map_err(|error| {
            // After a shutdown has begun, the cancellation may have caused the error.
            if self.shutdown.has_begun() {
                MakeError::Stopping
            } else {
                error
            }
        })
    }

    fn try_make(
        &self,
        folder: &StateFolder,
        id: Sha256Digest,
        spec: &RevisionSpec,
        occasion: Occasion,
    ) -> Result<StagedRevision, MakeError> {
        self.enter("compile", id)?;
        let pack = Pack::open(&self.models, &spec.pack)?;
        if spec.inputs(pack.manifest()).id() != id {
            let pack = spec.pack.clone();
            return Err(match self.people.store().is_shared() {
                true => MakeError::OtherModelsHere(pack),
                false => MakeError::OtherModels(pack),
            });
        }
        let vision = self.component(folder, spec.vision)?;
        let policy = spec
            .policy
            .map(|digest| self.component(folder, digest))
            .transpose()?;
        // A component that spins while it describes itself is stopped after this time, so that
        // other revisions can be staged.
        let timeout = self.self_test.deadline;
        self.enter("load models", id)?;
        let scope = || self.shutdown.scope(Instant::now() + timeout);
        let request = StageRequest {
            runtime: &self.onnx,
            pack: &pack,
            vision,
            policy,
            limits: &spec.limits,
            settings: &spec.settings,
            tuning: &self.tuning,
        };
        let revision = Revision::stage(request, scope)?;
        self.enter("self-test", id)?;
        let frames = match occasion {
            Occasion::Restore => DrawnFrames::First,
            Occasion::Configure | Occasion::Stage => DrawnFrames::All,
        };
        self.self_test.run(&revision, frames, &self.shutdown)?;
        self.enter("make templates", id)?;
        let mode = match occasion {
            Occasion::Restore | Occasion::Configure => FillMode::AtStart(&self.start_cores),
            Occasion::Stage => FillMode::WhileServing,
        };
        let scope = self.shutdown.scope(Instant::now() + TEMPLATES_TIMEOUT);
        let (view, report) = self.people.view(&revision, &scope, mode)?;
        Ok(StagedRevision {
            ready: ReadyRevision::new(revision, view, spec.clone()),
            report,
        })
    }

    /// Logs a step. Fails if the process is stopping.
    fn enter(&self, step: &'static str, id: Sha256Digest) -> Result<(), MakeError> {
        tracing::debug!(revision = id.short(), step, "staging");
        if self.shutdown.has_begun() {
            Err(MakeError::Stopping)
        } else {
            Ok(())
        }
    }
}
