//! Adapters between the native traits and the interfaces of `wit/`, for [`crate::export`].

use std::borrow::Cow;
use std::marker::PhantomData;
use std::time::Duration;

use crate::analysis::{self, AnalyzeError};
use crate::bindings::exports::rostro::pipeline::{about, vision};
use crate::bindings::rostro::pipeline::{samples, settings, telemetry, types};
use crate::bindings::wasi::nn::errors::Error;
use crate::bindings::wasi::nn::graph::load_by_name;
use crate::bindings::wasi::nn::inference::GraphExecutionContext;
use crate::bindings::wasi::nn::tensor::{Tensor, TensorType};
use crate::detect::tensor::{Channels, Normalization};
use crate::host::{
    self, Context, Host, Level, ModelSpec, Output, ReviewLevel, Setting, SettingKind, Settings,
    Thresholds,
};
use crate::image::decode::DecodeError;
use crate::image::geometry::{Point, Rect};
use crate::policy::{Candidate, Decision, Event, Policy, Probe, Review, Ruling};
use crate::types::{Face, Identity, Measure, Reason};
use crate::vision::Vision;

#[doc(hidden)]
pub use rostro_policy_world as policy_world;

/// Makes a component of a type: `export!(Mine)` of a [`Vision`] and [`Policy`], or `export!(policy:
/// Mine)` of a [`Policy`] alone, for use with another component's vision.
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

impl<T: Policy> policy_world::exports::rostro::pipeline::about::Guest for Component<T> {
    fn describe() -> policy_world::exports::rostro::pipeline::about::Description {
        T::check_settings(&HostImports::default());
        let Identity { name, version } = T::identity();
        policy_world::exports::rostro::pipeline::about::Description {
            identity: policy_world::rostro::pipeline::types::Identity {
                name: name.into_owned(),
                version: version.into_owned(),
            },
            models: Vec::new(),
            contract: None,
            settings: T::settings().into_iter().map(Into::into).collect(),
            state_version: T::STATE_VERSION,
        }
    }
}

/// Implements the conversion of a setting to the types of a world.
macro_rules! impl_setting {
    ($about:path) => {
        const _: () = {
            use $about as about;

            impl From<Setting> for about::Setting {
                fn from(setting: Setting) -> Self {
                    let range = |min, max| about::NumberRange { min, max };
                    Self {
                        name: setting.name.to_owned(),
                        value: match setting.kind {
                            SettingKind::Text => about::SettingType::Text,
                            SettingKind::Flag => about::SettingType::Flag,
                            SettingKind::Integer(min, max) => {
                                about::SettingType::Integer(range(min, max))
                            }
                            SettingKind::Number(min, max) => {
                                about::SettingType::Number(range(min, max))
                            }
                            SettingKind::Choice(choices) => about::SettingType::Choice(
                                choices.iter().map(|choice| (*choice).to_owned()).collect(),
                            ),
                        },
                        default: setting.default.into_owned(),
                        description: setting.description.to_owned(),
                        by_request: setting.by_request,
                    }
                }
            }
        };
    };
}

impl<T: Vision> vision::Guest for Component<T> {
    fn analyze(
        image: Vec<u8>,
        purpose: vision::Purpose,
        context: types::RequestContext,
        state: Option<Vec<u8>>,
    ) -> Result<vision::Analysis, vision::VisionError> {
        let host = HostImports {
            context: Context {
                stream: context.stream,
                group: context.group,
                time: context.time,
                text: context.context,
            },
        };
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

/// Implements the rules of a world, which has its own types.
macro_rules! impl_rules {
    ($types:path, $exports:path) => {
        const _: () = {
            use exports::{decide, review, template};
            use $exports as exports;
            use $types as types;

            fn from_wit_face(face: types::Face) -> Face {
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

            fn host(context: types::RequestContext) -> HostImports {
                HostImports {
                    context: Context {
                        stream: context.stream,
                        group: context.group,
                        time: context.time,
                        text: context.context,
                    },
                }
            }

            fn reason(
                Reason {
                    code,
                    message,
                    measured,
                }: Reason,
            ) -> review::Reason {
                let (value, limit) = measured.unzip();
                review::Reason {
                    code: code.into_owned(),
                    message: message.into_owned(),
                    value,
                    limit,
                }
            }

            fn probe(probe: decide::Probe) -> Probe {
                let candidate = |candidate: decide::Candidate| Candidate {
                    id: candidate.id,
                    similarity: candidate.similarity,
                };
                Probe {
                    face: from_wit_face(probe.face),
                    candidates: probe.candidates.into_iter().map(candidate).collect(),
                    track: probe.track,
                    is_fresh: probe.is_fresh,
                }
            }

            fn ruling(Ruling { decision, shown }: Ruling) -> decide::Ruling {
                let decision = match decision {
                    Decision::Known {
                        candidate,
                        confidence,
                    } => decide::Decision::Known(decide::Match {
                        candidate: index_of(candidate),
                        confidence,
                    }),
                    Decision::Unknown(code) => decide::Decision::Unknown(code.into_owned()),
                };
                decide::Ruling {
                    decision,
                    candidates: shown.into_iter().map(index_of).collect(),
                }
            }

            fn event(event: Event) -> decide::Event {
                decide::Event {
                    code: event.code.into_owned(),
                    face: event.face.map(index_of),
                    value: event.value,
                    message: event.message.into_owned(),
                }
            }

            impl<T: Policy> review::Guest for Component<T> {
                fn review(
                    faces: Vec<types::Face>,
                    context: types::RequestContext,
                ) -> review::ReviewOutcome {
                    let faces: Vec<Face> = faces.into_iter().map(from_wit_face).collect();
                    match T::review(&host(context), &faces) {
                        Review::Accept(index) => review::ReviewOutcome::Accept(index_of(index)),
                        Review::Reject(reasons) => {
                            review::ReviewOutcome::Reject(reasons.into_iter().map(reason).collect())
                        }
                    }
                }
            }

            impl<T: Policy> template::Guest for Component<T> {
                fn template(samples: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
                    T::template(&HostImports::default(), &samples)
                }
            }

            impl<T: Policy> decide::Guest for Component<T> {
                fn decide(
                    probes: Vec<decide::Probe>,
                    context: types::RequestContext,
                    state: Option<Vec<u8>>,
                ) -> decide::Outcome {
                    let probes: Vec<Probe> = probes.into_iter().map(probe).collect();
                    let outcome = T::decide_frame(&host(context), &probes, state.as_deref());
                    decide::Outcome {
                        rulings: outcome.rulings.into_iter().map(ruling).collect(),
                        events: outcome.events.into_iter().map(event).collect(),
                        state: outcome.state,
                    }
                }
            }
        };
    };
}

impl_setting!(crate::bindings::exports::rostro::pipeline::about);
impl_setting!(policy_world::exports::rostro::pipeline::about);
impl_rules!(
    crate::bindings::rostro::pipeline::types,
    crate::bindings::exports::rostro::pipeline
);
impl_rules!(
    policy_world::rostro::pipeline::types,
    policy_world::exports::rostro::pipeline
);

/// Converts an index. One that is too large for the interface becomes the largest, which the host
/// refuses.
fn index_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
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

/// The host, through the imports of a component.
#[derive(Debug, Default)]
struct HostImports {
    context: Context,
}

impl Settings for HostImports {
    fn context(&self) -> Context {
        self.context.clone()
    }

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

    fn state_limit(&self) -> usize {
        usize::try_from(settings::state_limit()).unwrap_or(usize::MAX)
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

impl Host for HostImports {
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
        let to_text = |error: Error| format!("{role}: {}", error.data());
        let context = load_by_name(&granted.graph)
            .map_err(to_text)?
            .init_execution_context()
            .map_err(to_text)?;
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

/// A model of the pack that runs through `wasi:nn`.
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
        // Tensors are little-endian, as is the memory of WebAssembly.
        let tensor = HostImports::default().timed("copy-in", || {
            Tensor::new(&dimensions, TensorType::Fp32, bytemuck::cast_slice(input))
        });
        let outputs = HostImports::default().timed(stage, || {
            self.context
                .compute(vec![(self.granted.input.clone(), tensor)])
        });
        let outputs = outputs.map_err(|error| format!("{}: {}", self.role, error.data()))?;
        HostImports::default().timed("copy-out", || {
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
