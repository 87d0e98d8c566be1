//! Halves of a pipeline: vision and policy, exported by one component or by two.

/// Half of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Finds faces and makes embeddings.
    Vision,
    /// Reviews photos, makes templates and decides on identities.
    Policy,
}

impl Half {
    /// Both halves.
    pub const ALL: [Self; 2] = [Self::Vision, Self::Policy];

    /// Returns the name of the half's interface.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vision => "vision",
            Self::Policy => "policy",
        }
    }
}

/// One value for each half of a pipeline.
#[derive(Clone, Debug, Default)]
pub struct PerHalf<T> {
    /// Value of the vision half.
    pub vision: T,
    /// Value of the policy half.
    pub policy: T,
}

impl<T> PerHalf<T> {
    /// Returns the value of one half.
    pub fn of(&self, half: Half) -> &T {
        match half {
            Half::Vision => &self.vision,
            Half::Policy => &self.policy,
        }
    }
}
