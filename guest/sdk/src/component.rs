//! From the native traits to the interfaces of `wit/`: what [`crate::export`] puts around a
//! pipeline.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::time::Duration;

use crate::analysis::{self, AnalyzeError, Measure};
use crate::bindings::exports::rostro::pipeline::vision;
use crate::bindings::rostro::pipeline::{samples, settings, telemetry, types};
use crate::bindings::wasi::nn::errors::Error;
use crate::bindings::wasi::nn::graph::load_by_name;
use crate::bindings::wasi::nn::inference::GraphExecutionContext;
use crate::bindings::wasi::nn::tensor::{Tensor, TensorType};
use crate::decode::DecodeError;
use crate::geometry::{Point, Rect};
use crate::host::{self, Host, Level, ModelSpec, Output, ReviewLevel, Settings, Thresholds};
use crate::policy::{Candidate, Decision, Face, Identity, Policy, Probe, Reason, Review};
use crate::tensor::{Channels, Normalization};
use crate::vision::Vision;

#[doc(hidden)]
pub use rostro_policy_world as policy_world;

/// Makes a component of a type: `export!(Mine)` of one that is [`Vision`] and [`Policy`],
/// `export!(policy: Mine)` of one that is [`Policy`] alone and decides beside another component's
/// vision.
///
/// Once a crate, of the type `cdylib`, built for `wasm32-wasip2`. Natively it does nothing, so that
/// tests run with plain `cargo test`.
#[macro_export]
macro_rules! export {
    (policy: $policy:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::component::Exported<$policy>;
    $crate::component::policy_world::export_policy!(Exported with_types_in $crate::component::policy_world);
        };
    };
    ($pipeline:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::component::Exported<$pipeline>;
    $crate::bindings::export_pipeline!(Exported with_types_in $crate::bindings);
        };
    };
}

/// A pipeline or a policy behind the interfaces: what [`crate::export`] exports. Not for direct
/// use.
#[derive(Debug)]
pub struct Exported<T>(PhantomData<T>);

impl<T: Vision> vision::Guest for Exported<T> {
    fn describe() -> vision::Description {
        T::check_settings(&Outside);
        let analysis::Description {
            identity,
            models,
            contract,
        } = T::describe();
        vision::Description {
            identity: types::Identity {
                name: identity.name.into_owned(),
                version: identity.version.into_owned(),
            },
            models: models.into_iter().map(str::to_owned).collect(),
            contract: vision::EmbeddingContract {
                recognizer: contract.recognizer.to_owned(),
                alignment: contract.alignment.to_owned(),
                preprocessing: contract.preprocessing.to_owned(),
            },
        }
    }

    fn analyze(
        image: Vec<u8>,
        purpose: vision::Purpose,
    ) -> Result<vision::Analysis, vision::VisionError> {
        let purpose = match purpose {
            vision::Purpose::Recognize => analysis::Purpose::Recognize,
            vision::Purpose::Enroll => analysis::Purpose::Enroll,
            vision::Purpose::Detect => analysis::Purpose::Detect,
        };
        T::analyze(&Outside, image, purpose)
            .map(seen)
            .map_err(refusal)
    }
}

/// The interface `policy` of a world, whose types are its own.
macro_rules! policy_of {
    ($types:path, $policy:path) => {
        const _: () = {
            use $policy as policy;
            use $types as types;

            fn inward(face: types::Face) -> Face {
                let types::BoundingBox { x1, y1, x2, y2 } = face.bounds;
                let measure = |measure: types::Measure| Measure {
                    name: Cow::Owned(measure.name),
                    value: measure.value,
                };
                Face {
                    bounds: Rect { x1, y1, x2, y2 },
                    score: face.score,
                    landmarks: face
                        .landmarks
                        .into_iter()
                        .map(|point| Point {
                            x: point.x,
                            y: point.y,
                        })
                        .collect(),
                    measures: face.measures.into_iter().map(measure).collect(),
                }
            }

            fn reason(
                Reason {
                    code,
                    message,
                    measured,
                }: Reason,
            ) -> policy::Reason {
                let (value, limit) = measured.unzip();
                policy::Reason {
                    code: code.into_owned(),
                    message: message.into_owned(),
                    value,
                    limit,
                }
            }

            fn probe(probe: policy::Probe) -> Probe {
                let candidate = |candidate: policy::Candidate| Candidate {
                    id: candidate.id,
                    similarity: candidate.similarity,
                };
                Probe {
                    face: inward(probe.face),
                    candidates: probe.candidates.into_iter().map(candidate).collect(),
                }
            }

            fn decision(decision: Decision) -> policy::Decision {
                match decision {
                    Decision::Known {
                        candidate,
                        confidence,
                    } => policy::Decision::Known(policy::Match {
                        candidate: index_of(candidate),
                        confidence,
                    }),
                    Decision::Unknown(code) => policy::Decision::Unknown(code.into_owned()),
                }
            }

            impl<T: Policy> policy::Guest for Exported<T> {
                fn describe() -> types::Identity {
                    T::check_settings(&Outside);
                    let Identity { name, version } = T::identity();
                    types::Identity {
                        name: name.into_owned(),
                        version: version.into_owned(),
                    }
                }

                fn review(faces: Vec<types::Face>) -> policy::ReviewOutcome {
                    let faces: Vec<Face> = faces.into_iter().map(inward).collect();
                    match T::review(&Outside, &faces) {
                        Review::Accept(index) => policy::ReviewOutcome::Accept(index_of(index)),
                        Review::Reject(reasons) => {
                            policy::ReviewOutcome::Reject(reasons.into_iter().map(reason).collect())
                        }
                    }
                }

                fn template(samples: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
                    T::template(&Outside, &samples)
                }

                fn decide(probes: Vec<policy::Probe>) -> Vec<policy::Decision> {
                    let probes: Vec<Probe> = probes.into_iter().map(probe).collect();
                    T::decide(&Outside, &probes)
                        .into_iter()
                        .map(decision)
                        .collect()
                }
            }
        };
    };
}

policy_of!(
    crate::bindings::rostro::pipeline::types,
    crate::bindings::exports::rostro::pipeline::policy
);
policy_of!(
    policy_world::rostro::pipeline::types,
    policy_world::exports::rostro::pipeline::policy
);

/// An index that is too large for the interface is none that the host knows, which says so.
fn index_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn seen(analysis: analysis::Analysis) -> vision::Analysis {
    vision::Analysis {
        width: analysis.width,
        height: analysis.height,
        faces: analysis.faces.into_iter().map(seen_face).collect(),
    }
}

fn seen_face(face: analysis::AnalyzedFace) -> vision::AnalyzedFace {
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
        embedding: face.embedding,
    }
}

fn refusal(error: AnalyzeError) -> vision::VisionError {
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

/// The host, through what a component imports.
#[derive(Debug)]
struct Outside;

impl Settings for Outside {
    fn thresholds(&self) -> Thresholds {
        let settings::Thresholds {
            detection,
            similarity,
        } = settings::get_thresholds();
        Thresholds {
            detection,
            similarity,
        }
    }

    fn setting(&self, key: &str) -> Option<String> {
        settings::get(key)
    }

    fn review_level(&self) -> ReviewLevel {
        match settings::get_review() {
            settings::ReviewLevel::Off => ReviewLevel::Off,
            settings::ReviewLevel::Standard => ReviewLevel::Standard,
            settings::ReviewLevel::Strict => ReviewLevel::Strict,
        }
    }

    fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Debug => telemetry::Level::Debug,
            Level::Info => telemetry::Level::Info,
            Level::Warn => telemetry::Level::Warn,
        };
        telemetry::log(level, message);
    }

    fn warning(&self, code: &str, message: &str) {
        telemetry::warning(code, message);
    }

    fn refused(&self, key: &str, message: &str) {
        settings::refused(key, message);
    }
}

impl Host for Outside {
    type Model = Model;

    fn max_pixels(&self) -> u64 {
        settings::max_pixels()
    }

    fn memory(&self) -> u64 {
        settings::memory_limit()
    }

    fn load(&self, role: &str) -> Result<Model, String> {
        let granted = settings::get_model(role).ok_or_else(|| {
            format!("the host grants no model for the role `{role}`; name it in `describe`, and run on a pack that fills it")
        })?;
        let said = |error: Error| format!("{role}: {}", error.data());
        let context = load_by_name(&granted.graph)
            .map_err(said)?
            .init_execution_context()
            .map_err(said)?;
        Ok(Model {
            role: role.to_owned(),
            granted,
            context,
        })
    }

    fn stage(&self, name: &str, time: Duration) {
        telemetry::stage(name, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn raw_sample(&self, face: usize, embedding: &[f32]) {
        samples::raw(index_of(face), embedding);
    }
}

/// A model of the pack, run through `wasi:nn`.
#[derive(Debug)]
struct Model {
    role: String,
    granted: settings::Model,
    context: GraphExecutionContext,
}

impl host::Model for Model {
    fn spec(&self) -> ModelSpec {
        let settings::Model {
            width,
            height,
            mean,
            std,
            channels,
            ..
        } = self.granted;
        let channels = match channels {
            settings::ChannelOrder::Rgb => Channels::Rgb,
            settings::ChannelOrder::Bgr => Channels::Bgr,
        };
        ModelSpec {
            size: width
                .zip(height)
                .map(|(width, height)| (width as usize, height as usize)),
            normalization: Normalization {
                mean,
                std,
                channels,
            },
        }
    }

    fn run(
        &self,
        stage: &str,
        input: &[f32],
        count: usize,
        width: usize,
        height: usize,
    ) -> Result<Vec<Output>, String> {
        let dimensions =
            [count, 3, height, width].map(|length| u32::try_from(length).unwrap_or(u32::MAX));
        // The bytes of numbers, as they lie in memory: WebAssembly is little-endian, as tensors
        // are.
        let tensor = Outside.timed("copy-in", || {
            Tensor::new(&dimensions, TensorType::Fp32, bytemuck::cast_slice(input))
        });
        let outputs = Outside.timed(stage, || {
            self.context
                .compute(vec![(self.granted.input.clone(), tensor)])
        });
        let outputs = outputs.map_err(|error| format!("{}: {}", self.role, error.data()))?;
        Outside.timed("copy-out", || {
            outputs
                .into_iter()
                .map(|(name, tensor)| self.read(&name, &tensor))
                .collect()
        })
    }
}

impl Model {
    fn read(&self, name: &str, tensor: &Tensor) -> Result<Output, String> {
        if tensor.ty() != TensorType::Fp32 {
            return Err(format!(
                "{}: the output `{name}` is not of 32-bit floats",
                self.role
            ));
        }
        Ok(Output::new(&tensor.dimensions(), tensor.data()))
    }
}
