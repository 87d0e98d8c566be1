//! Indices by which the functions of a component are called, by the version that it was built for.

use wasmtime::component::InstancePre;

use super::error::ComponentError;
use super::function::Function;
use super::imports::exported_versions;
use super::version::Minor;
use crate::bindings::{v0_1, v0_2};
use crate::guest::state::GuestState;

/// Exports of a component that was built for version 0.1.
pub(crate) struct ExportsV01 {
    pub(crate) vision: Option<v0_1::vision::VisionHostIndices>,
    pub(crate) policy: Option<v0_1::policy::PolicyHostIndices>,
    /// Whether both halves ask for all their settings in `describe`, as of 0.1.2.
    pub(crate) has_complete_settings: bool,
}

/// Exports of a component that was built for version 0.2.
pub(crate) struct ExportsV02 {
    pub(crate) about: v0_2::about::AboutHostIndices,
    pub(crate) vision: Option<v0_2::vision::VisionHostIndices>,
    pub(crate) review: Option<v0_2::review::ReviewHostIndices>,
    pub(crate) template: Option<v0_2::template::TemplateHostIndices>,
    pub(crate) decide: Option<v0_2::decide::DecideHostIndices>,
}

/// Exports of a component, by the version that it was built for.
pub(crate) enum Exports {
    V01(ExportsV01),
    V02(ExportsV02),
}

impl Exports {
    /// Finds the functions among the names of a component's exports.
    ///
    /// # Errors
    ///
    /// If no function is exported, or if one has another type than the interface.
    pub(super) fn find(
        pre: &InstancePre<GuestState>,
        names: &[String],
    ) -> Result<Self, ComponentError> {
        let versions = exported_versions(names)?;
        let find = |interface| versions.has(interface);
        let mismatch = ComponentError::InterfaceMismatch;
        Ok(match versions.minor {
            Minor::V0_1 => Self::V01(ExportsV01 {
                vision: find("vision")
                    .then(|| v0_1::vision::VisionHostIndices::new(pre))
                    .transpose()
                    .map_err(mismatch)?,
                policy: find("policy")
                    .then(|| v0_1::policy::PolicyHostIndices::new(pre))
                    .transpose()
                    .map_err(mismatch)?,
                has_complete_settings: versions.has_complete_settings,
            }),
            Minor::V0_2 => Self::V02(ExportsV02 {
                about: v0_2::about::AboutHostIndices::new(pre).map_err(mismatch)?,
                vision: find("vision")
                    .then(|| v0_2::vision::VisionHostIndices::new(pre))
                    .transpose()
                    .map_err(mismatch)?,
                review: find("review")
                    .then(|| v0_2::review::ReviewHostIndices::new(pre))
                    .transpose()
                    .map_err(mismatch)?,
                template: find("template")
                    .then(|| v0_2::template::TemplateHostIndices::new(pre))
                    .transpose()
                    .map_err(mismatch)?,
                decide: find("decide")
                    .then(|| v0_2::decide::DecideHostIndices::new(pre))
                    .transpose()
                    .map_err(mismatch)?,
            }),
        })
    }

    /// Returns true if the component has a function.
    pub(crate) fn has(&self, function: Function) -> bool {
        match (self, function) {
            (Self::V01(exports), Function::Vision) => exports.vision.is_some(),
            (Self::V01(exports), _) => exports.policy.is_some(),
            (Self::V02(exports), Function::Vision) => exports.vision.is_some(),
            (Self::V02(exports), Function::Review) => exports.review.is_some(),
            (Self::V02(exports), Function::Template) => exports.template.is_some(),
            (Self::V02(exports), Function::Decide) => exports.decide.is_some(),
        }
    }

    /// Returns the minor version that the component was built for.
    pub(crate) fn minor(&self) -> Minor {
        match self {
            Self::V01(_) => Minor::V0_1,
            Self::V02(_) => Minor::V0_2,
        }
    }
}
