//! Functions of a pipeline, each of which has an interface as of version 0.2.

use super::version::Minor;
use crate::half::Half;

/// Function of a pipeline. The rules may come from another component than vision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Finds faces and makes embeddings.
    Vision,
    /// Chooses the face of an enrolment photo.
    Review,
    /// Makes the templates of a person.
    Template,
    /// Identifies the faces of a frame.
    Decide,
}

impl Function {
    /// Functions of the policy half.
    pub const RULES: [Self; 3] = [Self::Review, Self::Template, Self::Decide];

    /// Returns the name of the function's interface, as of version 0.2.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Review => "review",
            Self::Template => "template",
            Self::Decide => "decide",
        }
    }

    /// Returns the half that the function belongs to.
    pub fn half(self) -> Half {
        match self {
            Self::Vision => Half::Vision,
            Self::Review | Self::Template | Self::Decide => Half::Policy,
        }
    }

    /// Returns the function's interface in a minor version. Version 0.1 has one for all rules.
    pub(super) fn interface(self, minor: Minor) -> &'static str {
        match minor {
            Minor::V0_1 => self.half().name(),
            Minor::V0_2 => self.name(),
        }
    }
}
