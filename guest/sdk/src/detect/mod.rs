//! Models: detection of faces and their embeddings.

pub mod detector;
pub mod embed;
pub mod faces;
pub mod recognizer;
pub mod scales;
pub mod scrfd;
pub mod tensor;
