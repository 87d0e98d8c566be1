//! What the author of a Rostro pipeline builds on.
//!
//! A pipeline is a type that is [`vision::Vision`] and [`policy::Policy`], or [`policy::Policy`] alone, and [`export!`] makes a component of it. Both
//! are written against the traits of [`host`], which a component answers with what it imports, and a test natively: `cargo test` needs no WebAssembly.
//!
//! The building blocks of the default pipeline are pure functions on plain slices, in the order in which a picture goes through them: [`decode`],
//! [`scales`], [`letterbox`], [`scrfd`] (all in [`detector`]), [`align`], [`afar`], [`embed`] (in [`recognizer`]), [`measure`], [`review`] and
//! [`decide`]. What was seen is said in the types of [`analysis`].

pub mod afar;
pub mod align;
pub mod analysis;
pub mod bindings;
pub mod component;
pub mod decide;
pub mod decode;
pub mod detector;
pub mod embed;
pub mod geometry;
pub mod host;
pub mod letterbox;
pub mod measure;
pub mod policy;
pub mod recognizer;
mod resize;
pub mod review;
pub mod scales;
pub mod scrfd;
pub mod tensor;
pub mod testing;
pub mod vision;
