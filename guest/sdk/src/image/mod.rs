//! Pixels: decoding, resizing, and the crops and tensors that models take.

pub mod align;
pub mod decode;
pub mod distance;
pub mod geometry;
pub mod letterbox;
pub mod region;
mod resize;
mod vector;
