//! Descriptions of components, requested before they have any models.

use std::sync::Arc;

use rostro_common::cancel::CancelScope;

use super::call::{call, load_policy, load_vision, start_without_models};
use crate::bindings::{Description, Identity};
use crate::component::CompiledComponent;
use crate::error::RunError;
use crate::guest::Guest;
use crate::half::Half;
use crate::settings::Settings;
use crate::settings::names::SettingNames;

/// Returns the description of a vision component, and the settings that it asked for.
///
/// # Errors
///
/// If the component fails or refuses a setting.
pub fn describe_vision(
    component: &CompiledComponent,
    settings: &Settings,
    scope: &CancelScope,
) -> Result<(Description, SettingNames), RunError> {
    let half = Half::Vision;
    let mut guest = start_without_models(component, half, &Arc::new(settings.clone()), scope)?;
    let vision = load_vision(component, &mut guest)?;
    let description = call(component, half, &mut guest, |guest| {
        vision
            .rostro_pipeline_vision()
            .call_describe(&mut guest.store)
    })?;
    Ok((description, setting_names(component, half, &guest)?))
}

/// Returns the identity of a policy component, and the settings that it asked for.
///
/// # Errors
///
/// If the component fails or refuses a setting.
pub fn describe_policy(
    component: &CompiledComponent,
    settings: &Settings,
    scope: &CancelScope,
) -> Result<(Identity, SettingNames), RunError> {
    let half = Half::Policy;
    let mut guest = start_without_models(component, half, &Arc::new(settings.clone()), scope)?;
    let policy = load_policy(component, &mut guest)?;
    let identity = call(component, half, &mut guest, |guest| {
        policy
            .rostro_pipeline_policy()
            .call_describe(&mut guest.store)
    })?;
    Ok((identity, setting_names(component, half, &guest)?))
}

/// Returns the settings that a guest asked for, unless it refused one.
fn setting_names(
    component: &CompiledComponent,
    half: Half,
    guest: &Guest,
) -> Result<SettingNames, RunError> {
    let report = guest.store.data().report();
    if let Some(refused) = report.refused() {
        return Err(refused.clone().into());
    }
    let is_complete = component.has_complete_settings(half) && !report.is_requested_truncated();
    Ok(SettingNames::new(report.requested().clone(), is_complete))
}
