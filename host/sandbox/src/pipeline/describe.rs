//! Descriptions of components, requested before they have any models.

use std::sync::Arc;

use rostro_common::cancel::CancelScope;

use super::call::start_without_models;
use super::functions;
use crate::bindings::Description;
use crate::component::CompiledComponent;
use crate::component::exports::Exports;
use crate::error::RunError;
use crate::half::Half;
use crate::settings::Settings;
use crate::settings::names::SettingNames;
use crate::validate;

/// Returns the description of a component in its role, and the names of the settings that it knows.
/// The role is `Vision` for a component that provides vision, with or without rules.
///
/// # Errors
///
/// If the component fails or refuses a setting, or if its description breaks a rule.
pub fn describe(
    component: &CompiledComponent,
    role: Half,
    settings: &Settings,
    scope: &CancelScope,
) -> Result<(Description, SettingNames), RunError> {
    let settings = Arc::new(settings.clone());
    let (description, mut names) = describe_half(component, role, &settings, scope)?;
    // As of 0.1.2, each half asks for its own settings.
    if let (Half::Vision, Exports::V01(exports)) = (role, component.functions())
        && exports.has_complete_settings
        && component.has_half(Half::Policy)
    {
        names.extend(describe_half(component, Half::Policy, &settings, scope)?.1);
    }
    Ok((description, names))
}

/// Returns the description of one half. Components as of 0.2 have one for both.
fn describe_half(
    component: &CompiledComponent,
    half: Half,
    settings: &Arc<Settings>,
    scope: &CancelScope,
) -> Result<(Description, SettingNames), RunError> {
    let mut guest = start_without_models(component, half, settings, scope)?;
    let description = functions::describe(component, half, &mut guest)?;
    let report = guest.store.data().report();
    if let Some(refused) = report.refused() {
        return Err(refused.clone().into());
    }
    let names = match component.functions() {
        Exports::V01(exports) => SettingNames::new(
            report.requested().clone(),
            exports.has_complete_settings && !report.is_requested_truncated(),
        ),
        Exports::V02(_) => {
            let names = description.settings.iter();
            SettingNames::new(names.map(|setting| setting.name.clone()).collect(), true)
        }
    };
    let description = match half {
        Half::Vision => validate::description::vision(description)?,
        Half::Policy => validate::description::rules(description)?,
    };
    Ok((description, names))
}
