//! The building blocks of a Rostro pipeline: pure functions on plain slices, tested natively.
//!
//! In the order in which a picture goes through them: [`decode`], [`scales`], [`letterbox`], [`scrfd`], [`align`], [`embed`], [`measure`], [`review`]
//! and [`decide`]. A component binds them to the interfaces of `wit/` with `wit-bindgen`, as `guest/insightface` does.

pub mod align;
pub mod decide;
pub mod decode;
pub mod embed;
pub mod geometry;
pub mod letterbox;
pub mod measure;
mod resize;
pub mod review;
pub mod scales;
pub mod scrfd;
pub mod tensor;
