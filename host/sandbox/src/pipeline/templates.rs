//! Templates of a person, made by a policy in an instance of its own.

use std::sync::Arc;

use rostro_common::cancel::CancelScope;

use super::call::{check_templates, start_without_models};
use super::functions;
use super::revision::Revision;
use crate::component::{CompiledComponent, Function};
use crate::error::RunError;
use crate::half::Half;
use crate::settings::Settings;

/// Maker of templates: the component of a revision that makes them with its settings, without
/// models.
#[derive(Clone, Debug)]
pub struct Templates {
    component: CompiledComponent,
    settings: Arc<Settings>,
    dimension: usize,
}

impl Revision {
    /// Returns the maker of templates of this revision.
    pub fn templates(&self) -> Templates {
        let (component, settings) = self.component(Function::Template);
        Templates {
            component: component.clone(),
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
        let component = &self.component;
        let mut guest = start_without_models(component, Half::Policy, &self.settings, scope)?;
        let templates = functions::template(component, &mut guest, embeddings)?;
        check_templates(component, templates, self.dimension)
    }
}
