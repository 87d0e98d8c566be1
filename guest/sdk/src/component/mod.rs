//! Adapters between the native traits and the interfaces of `wit/`, for [`crate::export`].

mod imports;
mod worlds;

use std::marker::PhantomData;

use self::imports::HostImports;
use crate::analysis::{self, AnalyzeError};
use crate::bindings::exports::rostro::pipeline::{about, vision};
use crate::bindings::rostro::pipeline::types;
use crate::image::decode::DecodeError;
use crate::image::geometry::Rect;
use crate::policy::Policy;
use crate::vision::Vision;

#[doc(hidden)]
pub use rostro_decide_world as decide_world;
#[doc(hidden)]
pub use rostro_policy_world as policy_world;

/// Makes a component of a type, in one of three forms:
///
/// - `export!(Mine)` of a [`Vision`] and [`Policy`]: a whole pipeline.
/// - `export!(policy: Mine)` of a [`Policy`] alone, for use with another component's vision.
/// - `export!(decide: Mine)` of the methods of a [`Policy`] that decide on frames. Review and
///   templates are the other component's, and those of `Mine` are not exported.
///
/// Use it once a crate, of the type `cdylib`, built for `wasm32-wasip2`. A native build ignores it,
/// so that tests run with plain `cargo test`.
#[macro_export]
macro_rules! export {
    (policy: $policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = $crate::component::Component<$policy>;
    $crate::component::policy_world::export_policy!(Component with_types_in $crate::component::policy_world);
        };
    };
    (decide: $policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = $crate::component::Component<$policy>;
    $crate::component::decide_world::export_decide!(Component with_types_in $crate::component::decide_world);
        };
    };
    ($pipeline:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Component = $crate::component::Component<$pipeline>;
    $crate::bindings::export_pipeline!(Component with_types_in $crate::bindings);
        };
    };
}

/// The exported component of a pipeline or policy, for [`crate::export`] only.
#[derive(Debug)]
pub struct Component<T>(PhantomData<T>);

impl<T: Vision + Policy> about::Guest for Component<T> {
    fn describe() -> about::Description {
        let host = HostImports::default();
        <T as Vision>::check_settings(&host);
        <T as Policy>::check_settings(&host);
        let analysis::Description {
            identity,
            models,
            contract,
        } = T::describe();
        let settings = <T as Vision>::settings().into_iter();
        about::Description {
            identity: types::Identity {
                name: identity.name.into_owned(),
                version: identity.version.into_owned(),
            },
            models: models.into_iter().map(str::to_owned).collect(),
            contract: Some(about::EmbeddingContract {
                recognizer: contract.recognizer.to_owned(),
                alignment: contract.alignment.to_owned(),
                preprocessing: contract.preprocessing.to_owned(),
            }),
            settings: settings
                .chain(<T as Policy>::settings())
                .map(Into::into)
                .collect(),
            // The host keeps both states under this one number.
            state_version: <T as Vision>::STATE_VERSION
                .wrapping_mul(1 << 16)
                .wrapping_add(<T as Policy>::STATE_VERSION),
        }
    }
}

impl<T: Vision> vision::Guest for Component<T> {
    fn analyze(
        image: Vec<u8>,
        purpose: vision::Purpose,
        context: types::RequestContext,
        state: Option<Vec<u8>>,
    ) -> Result<vision::Analysis, vision::VisionError> {
        let host = HostImports::from(context);
        let analysis = match (purpose, state) {
            (vision::Purpose::Recognize, Some(state)) => T::analyze_frame(&host, image, &state),
            (vision::Purpose::Recognize, None) => {
                T::analyze(&host, image, analysis::Purpose::Recognize)
            }
            (vision::Purpose::Enroll, _) => T::analyze(&host, image, analysis::Purpose::Enroll),
            (vision::Purpose::Detect, _) => T::analyze(&host, image, analysis::Purpose::Detect),
        };
        analysis.map(to_wit_analysis).map_err(to_wit_error)
    }
}
fn to_wit_analysis(analysis: analysis::Analysis) -> vision::Analysis {
    vision::Analysis {
        width: analysis.width,
        height: analysis.height,
        faces: analysis.faces.into_iter().map(to_wit_face).collect(),
        state: analysis.state,
    }
}

fn to_wit_face(face: analysis::AnalyzedFace) -> vision::AnalyzedFace {
    let Rect { x1, y1, x2, y2 } = face.bounds;
    let known = types::Face {
        bounds: types::BoundingBox { x1, y1, x2, y2 },
        score: face.score,
        landmarks: face
            .landmarks
            .into_iter()
            .map(|point| types::Point {
                x: point.x,
                y: point.y,
            })
            .collect(),
        measures: face
            .measures
            .into_iter()
            .map(|measure| types::Measure {
                name: measure.name.into_owned(),
                value: measure.value,
            })
            .collect(),
    };
    vision::AnalyzedFace {
        face: known,
        track: face.track,
        embedding: face.embedding,
    }
}

fn to_wit_error(error: AnalyzeError) -> vision::VisionError {
    match error {
        AnalyzeError::Image(DecodeError::Undecodable(cause)) => {
            vision::VisionError::Undecodable(cause)
        }
        AnalyzeError::Image(DecodeError::TooLarge {
            width,
            height,
            max_pixels,
        }) => vision::VisionError::TooLarge(vision::Oversize {
            width,
            height,
            max_pixels,
        }),
        AnalyzeError::Model(cause) => vision::VisionError::Model(cause),
    }
}
