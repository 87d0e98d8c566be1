//! The default pipeline: SCRFD finds faces, five landmarks align them, ArcFace embeds them, and the most similar person above a threshold is
//! who each is. The parts are `rostro-sdk`'s; this crate says how they are put together.
//!
//! Settings of its own: `detector-size` (pixels of the longer side of the detector's input, default 640) and `letterbox` (`frame`, the default,
//! pads a picture only to multiples of 32; `square` is exactly insightface's).

mod bindings;
mod models;
mod policy;
mod vision;

/// The component.
#[derive(Debug)]
pub struct Insightface;
