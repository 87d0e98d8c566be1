//! Implementation of the exports that policies have, for each world of `wit/`, which all have types
//! of their own.

use std::borrow::Cow;

use super::imports::{HostImports, index_of};
use super::{Component, decide_world, policy_world};
use crate::host::{Context, Setting, SettingKind};
use crate::image::geometry::{Point, Rect};
use crate::policy::{Candidate, Decision, Event, Policy, Probe, Review, Ruling};
use crate::types::{Face, Identity, Measure, Reason};

/// Implements the description of a policy in a world.
macro_rules! impl_policy_about {
    ($world:path) => {
        const _: () = {
            use world::exports::rostro::pipeline::about;
            use world::rostro::pipeline::types;
            use $world as world;

            impl<T: Policy> about::Guest for Component<T> {
                fn describe() -> about::Description {
                    T::check_settings(&HostImports::default());
                    let Identity { name, version } = T::identity();
                    about::Description {
                        identity: types::Identity {
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
        };
    };
}

/// Implements the conversion of a setting to the types of a world.
macro_rules! impl_setting {
    ($world:path) => {
        const _: () = {
            use world::exports::rostro::pipeline::about;
            use $world as world;

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

/// Implements the conversions from the shared types of a world.
macro_rules! impl_types {
    ($world:path) => {
        const _: () = {
            use world::rostro::pipeline::types;
            use $world as world;

            impl From<types::Face> for Face {
                fn from(face: types::Face) -> Self {
                    let types::BoundingBox { x1, y1, x2, y2 } = face.bounds;
                    let measure = |measure: types::Measure| Measure {
                        name: Cow::Owned(measure.name),
                        value: measure.value,
                    };
                    let point = |point: types::Point| Point {
                        x: point.x,
                        y: point.y,
                    };
                    Self {
                        bounds: Rect { x1, y1, x2, y2 },
                        score: face.score,
                        landmarks: face.landmarks.into_iter().map(point).collect(),
                        measures: face.measures.into_iter().map(measure).collect(),
                    }
                }
            }

            impl From<types::RequestContext> for HostImports {
                fn from(context: types::RequestContext) -> Self {
                    Self {
                        context: Context {
                            stream: context.stream,
                            group: context.group,
                            time: context.time,
                            text: context.context,
                        },
                    }
                }
            }
        };
    };
}

/// Implements review and template of a world, which has its own types.
macro_rules! impl_enrollment {
    ($world:path) => {
        const _: () = {
            use world::exports::rostro::pipeline::{review, template};
            use world::rostro::pipeline::types;
            use $world as world;

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

            impl<T: Policy> review::Guest for Component<T> {
                fn review(
                    faces: Vec<types::Face>,
                    context: types::RequestContext,
                ) -> review::ReviewOutcome {
                    let faces: Vec<Face> = faces.into_iter().map(Into::into).collect();
                    match T::review(&HostImports::from(context), &faces) {
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
        };
    };
}

/// Implements the rule of who is who of a world.
macro_rules! impl_decide {
    ($world:path) => {
        const _: () = {
            use world::exports::rostro::pipeline::decide;
            use world::rostro::pipeline::types;
            use $world as world;

            fn probe(probe: decide::Probe) -> Probe {
                let candidate = |candidate: decide::Candidate| Candidate {
                    id: candidate.id,
                    similarity: candidate.similarity,
                };
                Probe {
                    face: probe.face.into(),
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

            impl<T: Policy> decide::Guest for Component<T> {
                fn decide(
                    probes: Vec<decide::Probe>,
                    context: types::RequestContext,
                    state: Option<Vec<u8>>,
                ) -> decide::Outcome {
                    let probes: Vec<Probe> = probes.into_iter().map(probe).collect();
                    let outcome =
                        T::decide_frame(&HostImports::from(context), &probes, state.as_deref());
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

impl_setting!(crate::bindings);
impl_types!(crate::bindings);
impl_enrollment!(crate::bindings);
impl_decide!(crate::bindings);

impl_policy_about!(policy_world);
impl_setting!(policy_world);
impl_types!(policy_world);
impl_enrollment!(policy_world);
impl_decide!(policy_world);

impl_policy_about!(decide_world);
impl_setting!(decide_world);
impl_types!(decide_world);
impl_decide!(decide_world);
