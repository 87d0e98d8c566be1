//! Implementation of the interfaces of `rostro:pipeline` that guests import, in each version.

use std::time::Duration;

use super::report::LogLevel;
use super::state::GuestState;
use crate::bindings::{ChannelOrder, Model, ReviewLevel, v0_1, v0_2};

/// Implements the imports of one version. The types of both differ only in their path.
macro_rules! impl_imports {
    ($interfaces:path $(, $more:item)*) => {
        const _: () = {
            use interfaces::{samples, settings, telemetry};
            use $interfaces as interfaces;

            impl settings::Host for GuestState {
                fn get_thresholds(&mut self) -> settings::Thresholds {
                    let thresholds = self.settings().thresholds;
                    settings::Thresholds {
                        detection: thresholds.detection,
                        similarity: thresholds.similarity,
                    }
                }

                fn max_pixels(&mut self) -> u64 {
                    self.settings().max_pixels
                }

                fn memory_limit(&mut self) -> u64 {
                    self.limits().memory_bytes() as u64
                }

                fn get_model(&mut self, role: String) -> Option<settings::Model> {
                    let Model {
                        graph,
                        input,
                        width,
                        height,
                        mean,
                        std,
                        channels,
                        dimension,
                    } = self.settings().models.get(&role)?.clone();
                    Some(settings::Model {
                        graph,
                        input,
                        width,
                        height,
                        mean,
                        std,
                        channels: match channels {
                            ChannelOrder::Rgb => settings::ChannelOrder::Rgb,
                            ChannelOrder::Bgr => settings::ChannelOrder::Bgr,
                        },
                        dimension,
                    })
                }

                fn get_review(&mut self) -> settings::ReviewLevel {
                    match self.review_level() {
                        ReviewLevel::Off => settings::ReviewLevel::Off,
                        ReviewLevel::Standard => settings::ReviewLevel::Standard,
                        ReviewLevel::Strict => settings::ReviewLevel::Strict,
                    }
                }

                fn get(&mut self, key: String) -> Option<String> {
                    self.setting(&key)
                }

                fn refused(&mut self, key: String, message: String) {
                    self.report_mut().refuse_setting(&key, &message);
                }

                $($more)*
            }

            impl samples::Host for GuestState {
                fn raw(&mut self, face: u32, embedding: Vec<f32>) {
                    self.report_mut().add_raw_sample(face, embedding);
                }
            }

            impl telemetry::Host for GuestState {
                fn stage(&mut self, name: String, nanoseconds: u64) {
                    self.add_stage(name, Duration::from_nanos(nanoseconds));
                }

                fn log(&mut self, level: telemetry::Level, message: String) {
                    let level = match level {
                        telemetry::Level::Debug => LogLevel::Debug,
                        telemetry::Level::Info => LogLevel::Info,
                        telemetry::Level::Warn => LogLevel::Warn,
                    };
                    self.log_line(level, &message);
                }

                fn warning(&mut self, code: String, message: String) {
                    self.report_mut().add_warning(code, &message);
                }
            }
        };
    };
}

impl_imports!(v0_1::vision::rostro::pipeline);
impl_imports!(
    v0_2::about::rostro::pipeline,
    fn state_limit(&mut self) -> u64 {
        self.limits().state_bytes() as u64
    }
);
