//! The stored sample of an enrolment photo.

use crate::ids::{ContractId, EnrolmentId};

/// Stored result of one enrolment photo.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Embedding that templates are made of, not normalised.
    pub embedding: Vec<f32>,
    /// Raw output of the recogniser if `embedding` differs from it, such as a mean. It is never
    /// matched.
    pub raw: Option<Vec<f32>>,
    /// Contract of the embedding; `None` if the replaced service wrote the sample.
    pub contract: Option<ContractId>,
    /// Score of the detector for the face; `None` if the replaced service wrote the sample.
    pub det_score: Option<f32>,
    /// Enrolment that the sample belongs to; `None` if the replaced service or an early version
    /// wrote the sample.
    pub enrolment: Option<EnrolmentId>,
}
