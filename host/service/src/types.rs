//! Plain data of other crates that callers of the service use.

pub use rostro_gallery::groups::{Change, GroupId, Groups, GroupsError, Members};
pub use rostro_gallery::{GalleryError, REASONS};
pub use rostro_sandbox::bindings::{Analysis, AnalyzedFace, Decision, Purpose, Reason};
pub use rostro_sandbox::component::{ComponentError, Half};
pub use rostro_sandbox::guest::report::Warning;
pub use rostro_sandbox::pipeline::revision::Revision;
pub use rostro_sandbox::pipeline::run::RunError;
pub use rostro_sandbox::review::Review;
