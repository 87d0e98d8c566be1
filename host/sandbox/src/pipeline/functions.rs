//! Calls of a pipeline's functions, translated to the version that a component was built for.
//!
//! The host's types are those of the latest version. Earlier ones lack the request context and
//! streams, so their components see each frame alone.

use super::call::{call, missing};
use crate::bindings::v0_1::policy::exports::rostro::pipeline::policy as policy_v01;
use crate::bindings::v0_1::vision::exports::rostro::pipeline::vision as vision_v01;
use crate::bindings::v0_2::vision::exports::rostro::pipeline::vision::Oversize;
use crate::bindings::{
    Decision, Description, EmbeddingContract, Face, GuestContext, Match, Outcome, Probe, Purpose,
    RawAnalysis, RawFace, Reason, ReviewOutcome, Ruling, VisionError,
};
use crate::component::exports::Exports;
use crate::component::{CompiledComponent, Function};
use crate::error::RunError;
use crate::guest::Guest;
use crate::half::Half;

/// Loads an interface of an instance by its indices, and calls a function of it.
macro_rules! load_and_call {
    ($component:expr, $guest:expr, $function:expr, $indices:expr, |$host:ident, $store:ident| $work:expr) => {{
        let indices = $indices.as_ref().ok_or_else(|| missing($function))?;
        call($component, $function.half(), $guest, |guest| {
            let $host = indices.load(&mut guest.store, &guest.instance)?;
            let $store = &mut guest.store;
            $work
        })
    }};
}

/// Returns what a component says of itself, in the instance of one half. Components for version 0.1
/// describe each half.
pub(super) fn describe(
    component: &CompiledComponent,
    half: Half,
    guest: &mut Guest,
) -> Result<Description, RunError> {
    match (component.functions(), half) {
        (Exports::V01(exports), Half::Vision) => load_and_call!(
            component,
            guest,
            Function::Vision,
            exports.vision,
            |host, store| host.rostro_pipeline_vision().call_describe(store)
        )
        .map(Description::from),
        (Exports::V01(exports), Half::Policy) => load_and_call!(
            component,
            guest,
            Function::Decide,
            exports.policy,
            |host, store| host.rostro_pipeline_policy().call_describe(store)
        )
        .map(|identity| Description {
            identity,
            models: Vec::new(),
            contract: None,
            settings: Vec::new(),
            state_version: 0,
        }),
        (Exports::V02(exports), half) => call(component, half, guest, |guest| {
            let about = exports.about.load(&mut guest.store, &guest.instance)?;
            about
                .rostro_pipeline_about()
                .call_describe(&mut guest.store)
        }),
    }
}

/// Analyzes an image. `state` is that of the stream.
pub(super) fn analyze(
    component: &CompiledComponent,
    guest: &mut Guest,
    image: &[u8],
    purpose: Purpose,
    context: &GuestContext,
    state: Option<&[u8]>,
) -> Result<Result<RawAnalysis, VisionError>, RunError> {
    let function = Function::Vision;
    match component.functions() {
        Exports::V01(exports) => {
            load_and_call!(component, guest, function, exports.vision, |host, store| {
                host.rostro_pipeline_vision()
                    .call_analyze(store, image, purpose.into())
            })
            .map(|answer| answer.map(RawAnalysis::from).map_err(VisionError::from))
        }
        Exports::V02(exports) => {
            load_and_call!(component, guest, function, exports.vision, |host, store| {
                host.rostro_pipeline_vision()
                    .call_analyze(store, image, purpose, context, state)
            })
        }
    }
}

/// Reviews the faces of an enrolment photo.
pub(super) fn review(
    component: &CompiledComponent,
    guest: &mut Guest,
    faces: &[Face],
    context: &GuestContext,
) -> Result<ReviewOutcome, RunError> {
    let function = Function::Review;
    match component.functions() {
        Exports::V01(exports) => {
            load_and_call!(component, guest, function, exports.policy, |host, store| {
                host.rostro_pipeline_policy().call_review(store, faces)
            })
            .map(ReviewOutcome::from)
        }
        Exports::V02(exports) => {
            load_and_call!(component, guest, function, exports.review, |host, store| {
                host.rostro_pipeline_review()
                    .call_review(store, faces, context)
            })
        }
    }
}

/// Makes the templates of a person with these samples.
pub(super) fn template(
    component: &CompiledComponent,
    guest: &mut Guest,
    samples: &[Vec<f32>],
) -> Result<Vec<Vec<f32>>, RunError> {
    let function = Function::Template;
    match component.functions() {
        Exports::V01(exports) => {
            load_and_call!(component, guest, function, exports.policy, |host, store| {
                host.rostro_pipeline_policy().call_template(store, samples)
            })
        }
        Exports::V02(exports) => {
            load_and_call!(
                component,
                guest,
                function,
                exports.template,
                |host, store| {
                    host.rostro_pipeline_template()
                        .call_template(store, samples)
                }
            )
        }
    }
}

/// Decides on the faces of a frame. `state` is that of the stream.
pub(super) fn decide(
    component: &CompiledComponent,
    guest: &mut Guest,
    probes: &[Probe],
    context: &GuestContext,
    state: Option<&[u8]>,
) -> Result<Outcome, RunError> {
    let function = Function::Decide;
    match component.functions() {
        Exports::V01(exports) => {
            let earlier: Vec<policy_v01::Probe> =
                probes.iter().map(policy_v01::Probe::from).collect();
            let decisions =
                load_and_call!(component, guest, function, exports.policy, |host, store| {
                    host.rostro_pipeline_policy().call_decide(store, &earlier)
                })?;
            Ok(outcome_of_decisions(decisions, probes))
        }
        Exports::V02(exports) => {
            load_and_call!(component, guest, function, exports.decide, |host, store| {
                host.rostro_pipeline_decide()
                    .call_decide(store, probes, context, state)
            })
        }
    }
}

/// Returns the outcome of a policy that hides no candidate and has neither events nor a state.
fn outcome_of_decisions(decisions: Vec<policy_v01::Decision>, probes: &[Probe]) -> Outcome {
    let counts = probes.iter().map(|probe| probe.candidates.len());
    // Validation refuses another number of rulings than of probes.
    let counts = counts.chain(std::iter::repeat(0));
    let rulings = decisions.into_iter().zip(counts);
    Outcome {
        rulings: rulings
            .map(|(decision, candidates)| Ruling {
                decision: decision.into(),
                candidates: (0..u32::try_from(candidates).unwrap_or(u32::MAX)).collect(),
            })
            .collect(),
        events: Vec::new(),
        state: None,
    }
}

impl From<vision_v01::Description> for Description {
    fn from(earlier: vision_v01::Description) -> Self {
        let vision_v01::EmbeddingContract {
            recognizer,
            alignment,
            preprocessing,
        } = earlier.contract;
        Self {
            identity: earlier.identity,
            models: earlier.models,
            contract: Some(EmbeddingContract {
                recognizer,
                alignment,
                preprocessing,
            }),
            settings: Vec::new(),
            state_version: 0,
        }
    }
}

impl From<Purpose> for vision_v01::Purpose {
    fn from(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Recognize => Self::Recognize,
            Purpose::Enroll => Self::Enroll,
            Purpose::Detect => Self::Detect,
        }
    }
}

impl From<vision_v01::Analysis> for RawAnalysis {
    fn from(earlier: vision_v01::Analysis) -> Self {
        let face = |earlier: vision_v01::AnalyzedFace| RawFace {
            face: earlier.face,
            track: None,
            embedding: earlier.embedding,
        };
        Self {
            width: earlier.width,
            height: earlier.height,
            faces: earlier.faces.into_iter().map(face).collect(),
            state: None,
        }
    }
}

impl From<vision_v01::VisionError> for VisionError {
    fn from(earlier: vision_v01::VisionError) -> Self {
        match earlier {
            vision_v01::VisionError::Undecodable(cause) => Self::Undecodable(cause),
            vision_v01::VisionError::TooLarge(vision_v01::Oversize {
                width,
                height,
                max_pixels,
            }) => Self::TooLarge(Oversize {
                width,
                height,
                max_pixels,
            }),
            vision_v01::VisionError::Model(cause) => Self::Model(cause),
        }
    }
}

impl From<policy_v01::ReviewOutcome> for ReviewOutcome {
    fn from(earlier: policy_v01::ReviewOutcome) -> Self {
        let reason = |earlier: policy_v01::Reason| Reason {
            code: earlier.code,
            message: earlier.message,
            value: earlier.value,
            limit: earlier.limit,
        };
        match earlier {
            policy_v01::ReviewOutcome::Accept(index) => Self::Accept(index),
            policy_v01::ReviewOutcome::Reject(reasons) => {
                Self::Reject(reasons.into_iter().map(reason).collect())
            }
        }
    }
}

impl From<&Probe> for policy_v01::Probe {
    fn from(probe: &Probe) -> Self {
        let candidates = probe.candidates.iter();
        Self {
            face: probe.face.clone(),
            candidates: candidates
                .map(|candidate| policy_v01::Candidate {
                    id: candidate.id.clone(),
                    similarity: candidate.similarity,
                })
                .collect(),
        }
    }
}

impl From<policy_v01::Decision> for Decision {
    fn from(earlier: policy_v01::Decision) -> Self {
        match earlier {
            policy_v01::Decision::Known(policy_v01::Match {
                candidate,
                confidence,
            }) => Self::Known(Match {
                candidate,
                confidence,
            }),
            policy_v01::Decision::Unknown(code) => Self::Unknown(code),
        }
    }
}
