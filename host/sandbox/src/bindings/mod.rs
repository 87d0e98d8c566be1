//! Generated host side of `wit/`, one module for each minor version of `rostro:pipeline`.
//!
//! The types of the latest version are those of the host. [`component::exports`](crate::component)
//! translates those of earlier versions to them.

#![allow(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::use_self,
    reason = "generated code"
)]

pub mod v0_1;
pub mod v0_2;

pub use v0_2::about::exports::rostro::pipeline::about::{
    Description, EmbeddingContract, NumberRange, Setting, SettingType,
};
pub(crate) use v0_2::about::rostro::pipeline::settings::{ChannelOrder, Model, ReviewLevel};
pub use v0_2::about::rostro::pipeline::types::{
    BoundingBox, Face, Identity, Measure, Point, RequestContext as GuestContext,
};
pub use v0_2::decide::exports::rostro::pipeline::decide::{
    Candidate, Decision, Event, Match, Outcome, Probe, Ruling,
};
pub use v0_2::review::exports::rostro::pipeline::review::{Reason, ReviewOutcome};
pub use v0_2::vision::exports::rostro::pipeline::vision::{
    Analysis as RawAnalysis, AnalyzedFace as RawFace, Purpose, VisionError,
};
