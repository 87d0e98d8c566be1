//! From a revision's ingredients to something that can serve.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_common::digest::Sha256Digest;
use rostro_common::shutdown::Shutdown;
use rostro_inference::OnnxRuntime;
use rostro_models::{Manifest, Pack, PackError};
use rostro_sandbox::component::CompiledComponent;
use rostro_sandbox::component::error::ComponentError;
use rostro_sandbox::engine::Engine;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::self_test::{SelfTest, SelfTestError};
use rostro_sandbox::pipeline::stage::{StageError, StageRequest, Tuning};

use super::live::ReadyRevision;
use super::record::{RevisionSpec, Store};
use crate::people::{People, PeopleError, ViewReport};

/// How long a revision may take to make everybody's templates.
const PATIENCE: Duration = Duration::from_secs(120);

/// What revisions are made with.
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
    /// The people that templates are made of.
    pub people: Arc<People>,
    /// The test that a revision must pass.
    pub self_test: SelfTest,
    /// Cancels staging when the process ends.
    pub shutdown: Shutdown,
}

/// Why a revision cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// Its pack cannot be used.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// A component that was kept is gone.
    #[error("the component {digest} cannot be read back: {cause}; push it again")]
    Component {
        /// Which.
        digest: Sha256Digest,
        /// Why.
        cause: io::Error,
    },
    /// A component cannot run here.
    #[error(transparent)]
    Unusable(#[from] ComponentError),
    /// It does not fit its models.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The models of its pack were changed since.
    #[error(
        "the models of the pack `{0}` are no longer those that it was staged with; push it again to stage it with these"
    )]
    OtherModels(String),
    /// It does not do what it must.
    #[error("the self-test failed: {0}")]
    SelfTest(#[from] SelfTestError),
    /// The process is stopping, which says nothing about the revision.
    #[error("the service is stopping")]
    Stopping,
    /// The people cannot be prepared for it.
    #[error("cannot prepare the people of the gallery: {0}")]
    People(#[from] PeopleError),
}

impl RevisionBuilder {
    /// The id that a revision of these ingredients has.
    ///
    /// # Errors
    ///
    /// If there is no such pack, or it is damaged.
    pub(crate) fn id(&self, spec: &RevisionSpec) -> Result<Sha256Digest, PackError> {
        let pack = Pack::open(&self.models, &spec.pack)?;
        Ok(spec.inputs(pack.manifest()).id())
    }

    /// Returns the manifest of a pack, if it can be read.
    pub(crate) fn manifest(&self, pack: &str) -> Option<Manifest> {
        Pack::read_manifest(&self.models, pack)
    }

    /// Compiles and inspects a component.
    pub(crate) fn plugin(
        &self,
        store: &Store,
        digest: Sha256Digest,
    ) -> Result<CompiledComponent, MakeError> {
        let bytes = store
            .component(digest)
            .map_err(|cause| MakeError::Component { digest, cause })?;
        Ok(CompiledComponent::load(&self.engine, &bytes)?)
    }

    /// Makes the revision `id`: compiled, with its models, tried, and with the people as it sees
    /// them. A shutdown ends it as soon as the step that is under way ends, or at once where guests
    /// run.
    ///
    /// # Errors
    ///
    /// [`MakeError`] says what is wrong with it; nothing is left behind.
    pub(crate) fn make(
        &self,
        store: &Store,
        id: Sha256Digest,
        spec: &RevisionSpec,
    ) -> Result<(Arc<ReadyRevision>, ViewReport), MakeError> {
        let made = self.try_make(store, id, spec);
        // Whatever failed did so because it was cancelled, or could have been.
        made.map_err(|error| {
            if self.shutdown.has_begun() {
                MakeError::Stopping
            } else {
                error
            }
        })
    }

    fn try_make(
        &self,
        store: &Store,
        id: Sha256Digest,
        spec: &RevisionSpec,
    ) -> Result<(Arc<ReadyRevision>, ViewReport), MakeError> {
        self.enter("compile", id)?;
        let pack = Pack::open(&self.models, &spec.pack)?;
        if spec.inputs(pack.manifest()).id() != id {
            return Err(MakeError::OtherModels(spec.pack.clone()));
        }
        let vision = self.plugin(store, spec.vision)?;
        let policy = spec
            .policy
            .map(|digest| self.plugin(store, digest))
            .transpose()?;
        // One that spins when it is asked what it is keeps others waiting to be staged no longer
        // than one that does so in its self-test.
        let timeout = self.self_test.deadline;
        self.enter("load models", id)?;
        let scope = || self.shutdown.scope(Instant::now() + timeout);
        let request = StageRequest {
            runtime: &self.onnx,
            pack: &pack,
            vision,
            policy,
            limits: &spec.limits,
            tuning: &self.tuning,
        };
        let revision = Revision::stage(request, scope)?;
        self.enter("self-test", id)?;
        self.self_test.run(&revision, &self.shutdown)?;
        self.enter("make templates", id)?;
        let (view, report) = self
            .people
            .view(&revision, &self.shutdown.scope(Instant::now() + PATIENCE))?;
        Ok((ReadyRevision::new(revision, view), report))
    }

    /// Begins a step, unless the process is stopping.
    fn enter(&self, step: &'static str, id: Sha256Digest) -> Result<(), MakeError> {
        tracing::debug!(revision = id.short(), step, "staging");
        if self.shutdown.has_begun() {
            Err(MakeError::Stopping)
        } else {
            Ok(())
        }
    }
}
