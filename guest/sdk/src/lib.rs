//! The building blocks of a Rostro pipeline: pure functions on plain slices, tested natively.
//!
//! In the order in which a picture goes through them: [`decode`], [`letterbox`], [`scrfd`], [`align`], [`embed`], [`measure`], [`review`]
//! and [`decide`]. The features `pipeline` and `policy-only` add [`component`], the glue of a WebAssembly component for that world.

#[cfg(any(feature = "pipeline", feature = "policy-only"))]
pub mod component;

pub mod align;
pub mod decide;
pub mod decode;
pub mod embed;
pub mod geometry;
pub mod letterbox;
pub mod measure;
mod resize;
pub mod review;
pub mod scrfd;
pub mod tensor;
