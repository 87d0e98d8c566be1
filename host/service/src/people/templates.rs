//! Templates of one person in each view.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rostro_common::sample::Sample;

use super::PeopleError;
use super::view::{View, matching_embeddings};

/// Time limit for an inactive policy to make the templates of one person, because the enrolment
/// waits for it.
pub(super) const TEMPLATE_TIMEOUT: Duration = Duration::from_millis(500);

/// Maximum number of attempts after transient failures, because a stalled machine uses up the time
/// limit, too.
const ATTEMPTS: usize = 3;

/// Templates of one person by view.
#[derive(Debug)]
pub(super) struct TemplatesByView {
    samples: Vec<Sample>,
    views: Vec<(Arc<View>, TemplateOutcome)>,
}

/// Templates of one person in one view.
#[derive(Clone, Debug)]
pub(super) enum TemplateOutcome {
    /// Templates that the policy made.
    Made(Vec<Vec<f32>>),
    /// The person has no samples of the view's contract.
    NoSamples,
    /// The policy makes no templates of the samples.
    Failed,
}

impl TemplatesByView {
    /// Creates an entry without views.
    pub(super) fn new(samples: Vec<Sample>) -> Self {
        Self {
            samples,
            views: Vec::new(),
        }
    }

    /// Sets the templates of one view.
    pub(super) fn with(mut self, view: &Arc<View>, templates: Option<&[Vec<f32>]>) -> Self {
        let outcome = match templates {
            Some(templates) => TemplateOutcome::Made(templates.to_vec()),
            None => TemplateOutcome::Failed,
        };
        self.views.push((Arc::clone(view), outcome));
        self
    }

    /// Makes the templates for views that have no entry yet.
    pub(super) fn make_missing(&mut self, views: Vec<Arc<View>>) {
        for view in views {
            if self.of(&view).is_none() {
                let outcome = make(&view, &self.samples);
                self.views.push((view, outcome));
            }
        }
    }

    /// Returns the outcome of one view.
    pub(super) fn of(&self, view: &Arc<View>) -> Option<&TemplateOutcome> {
        self.views
            .iter()
            .find(|(other, _)| Arc::ptr_eq(other, view))
            .map(|(_, outcome)| outcome)
    }
}

fn make(view: &View, samples: &[Sample]) -> TemplateOutcome {
    if matching_embeddings(samples, view.contract()).is_empty() {
        return TemplateOutcome::NoSamples;
    }
    if !view.is_complete() {
        return TemplateOutcome::Failed;
    }
    let attempt = || view.templates_of(samples, &(Instant::now() + TEMPLATE_TIMEOUT).into());
    let is_transient = |templates: &Result<_, PeopleError>| matches!(templates, Err(PeopleError::Run(error)) if error.is_transient());
    let mut templates = attempt();
    for _ in 1..ATTEMPTS {
        if !is_transient(&templates) {
            break;
        }
        templates = attempt();
    }
    match templates {
        Ok(templates) => TemplateOutcome::Made(templates.unwrap_or_default()),
        Err(error) => {
            tracing::warn!(
                "a policy that is not active cannot make a person's templates and is not asked again; it will not recognise them: {error}"
            );
            view.mark_incomplete();
            TemplateOutcome::Failed
        }
    }
}
