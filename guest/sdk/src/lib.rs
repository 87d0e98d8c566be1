//! The building blocks of a Rostro pipeline: pure functions on plain slices, tested natively.
//!
//! In the order in which a picture goes through them: [`decode`], [`scales`], [`letterbox`], [`scrfd`], [`align`], [`afar`], [`embed`], [`measure`], [`review`]
//! and [`decide`]. A pipeline is written against the traits of [`host`], and says what it saw in the types of [`analysis`]; a component binds
//! both to the interfaces of `wit/` with `wit-bindgen`, as `guest/insightface` does.

pub mod afar;
pub mod align;
pub mod analysis;
pub mod decide;
pub mod decode;
pub mod embed;
pub mod geometry;
pub mod host;
pub mod letterbox;
pub mod measure;
mod resize;
pub mod review;
pub mod scales;
pub mod scrfd;
pub mod tensor;
