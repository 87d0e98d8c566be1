//! The default pipeline: SCRFD finds faces, five landmarks align them, ArcFace embeds them, and the most similar person above a threshold is
//! who each is. The parts are `rostro-sdk`'s; this crate says how they are put together ([`analyze`]), and makes a component of it.
//!
//! Settings of its own: `detector-size` (`auto`, the default, looks as often and as closely as a picture asks for; a number of pixels looks
//! once, with the longer side of that length) and `letterbox` (`frame`, the default, pads a picture only to multiples of 32; `square` looks
//! once and enrols faces only as they are, exactly as insightface does), and `rivals` (`on`, the default, asks for more similarity where somebody
//! else is nearly as similar; `off` knows only the threshold).

pub mod analyze;
mod bindings;
mod component;
pub mod detect;
mod policy;

/// The component.
#[derive(Debug)]
pub struct Insightface;
