//! Rules that decide which samples of other contracts are in force.

use rostro_common::ids::{ContractId, EnrolmentId};
use rostro_common::sample::Sample;

/// Returns the enrolment of all samples of an own file; none if they differ or have none.
pub fn enrolment_of(own: &[Sample]) -> Option<&EnrolmentId> {
    let first = own.first()?.enrolment.as_ref()?;
    own.iter()
        .all(|sample| sample.enrolment.as_ref() == Some(first))
        .then_some(first)
}

/// Returns true if the own file has samples of the contract, which are newer than those of any
/// other file.
fn has_contract(own: &[Sample], contract: &ContractId) -> bool {
    own.iter()
        .any(|sample| sample.contract.as_ref() == Some(contract))
}

/// Returns the samples of another file that are in force.
pub fn in_force(own: &[Sample], contract: &ContractId, samples: Vec<Sample>) -> Vec<Sample> {
    let enrolment = enrolment_of(own).filter(|_| !has_contract(own, contract));
    let counts = |sample: &Sample| {
        sample.contract.as_ref() == Some(contract)
            && enrolment.is_some()
            && sample.enrolment.as_ref() == enrolment
    };
    samples.into_iter().filter(counts).collect()
}

/// Returns true if some samples of another file may be older than the person's own.
pub(crate) fn has_unknown_age(own: &[Sample], contract: &ContractId, samples: &[Sample]) -> bool {
    let is_unknown = |sample: &Sample| sample.enrolment.is_none() || enrolment_of(own).is_none();
    !has_contract(own, contract)
        && samples
            .iter()
            .filter(|sample| sample.contract.as_ref() == Some(contract))
            .any(is_unknown)
}

/// Returns true if another file is left of an earlier enrolment: both files have one, and the two
/// differ.
pub(crate) fn is_stale(own: &[Sample], samples: &[Sample]) -> bool {
    let Some(enrolment) = enrolment_of(own) else {
        return false;
    };
    samples.iter().all(|sample| {
        sample
            .enrolment
            .as_ref()
            .is_some_and(|other| other != enrolment)
    })
}

/// Returns the samples by contract, in the order in which the contracts appear. Samples without a
/// contract count as the first one's.
pub fn group_by_contract(samples: &[Sample]) -> Vec<(Option<ContractId>, Vec<Sample>)> {
    let mut groups: Vec<(Option<ContractId>, Vec<Sample>)> = Vec::new();
    for sample in samples {
        let target = groups
            .iter()
            .position(|(contract, _)| sample.contract.is_none() || *contract == sample.contract);
        match target.and_then(|target| groups.get_mut(target)) {
            Some((_, group)) => group.push(sample.clone()),
            None => groups.push((sample.contract.clone(), vec![sample.clone()])),
        }
    }
    groups
}

/// Returns the samples with this enrolment.
pub fn with_enrolment(samples: &[Sample], enrolment: &EnrolmentId) -> Vec<Sample> {
    samples
        .iter()
        .map(|sample| Sample {
            enrolment: Some(enrolment.clone()),
            ..sample.clone()
        })
        .collect()
}
