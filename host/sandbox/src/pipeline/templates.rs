//! Templates of a person, made by a policy in an instance of its own.

use std::sync::Arc;

use rostro_common::cancel::CancelScope;

use super::call::{call, check_templates, load_policy, start_without_models};
use super::revision::Revision;
use crate::component::CompiledComponent;
use crate::error::RunError;
use crate::guest::Guest;
use crate::half::Half;
use crate::settings::Settings;

/// Maker of templates: the policy of a revision with its settings, without models.
#[derive(Clone, Debug)]
pub struct Templates {
    policy: CompiledComponent,
    settings: Arc<Settings>,
    dimension: usize,
}

impl Revision {
    /// Returns the maker of templates of this revision.
    pub fn templates(&self) -> Templates {
        let (policy, settings) = self.policy_component();
        Templates {
            policy: policy.clone(),
            settings: Arc::clone(settings),
            dimension: self.contract().dimension,
        }
    }
}

impl Templates {
    /// Makes the templates of a person with these embeddings.
    ///
    /// # Errors
    ///
    /// If the policy fails or its answer is invalid.
    pub fn make(
        &self,
        embeddings: &[Vec<f32>],
        scope: &CancelScope,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        let (component, half) = (&self.policy, Half::Policy);
        let mut guest = start_without_models(component, half, &self.settings, scope)?;
        let policy = load_policy(component, &mut guest)?;
        let work = |guest: &mut Guest| {
            policy
                .rostro_pipeline_policy()
                .call_template(&mut guest.store, embeddings)
        };
        let templates = call(component, half, &mut guest, work)?;
        check_templates(component, templates, self.dimension)
    }
}
