//! Components that the revisions of a record need.

use rostro_common::digest::Sha256Digest;

use super::Record;

/// A component of a revision that is not retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeededComponent {
    /// The revision.
    pub revision: Sha256Digest,
    /// The component.
    pub digest: Sha256Digest,
}

/// Lists the components that a record of revisions needs.
///
/// # Errors
///
/// The reason why it is not a record.
pub fn needed_components(record: &[u8]) -> Result<Vec<NeededComponent>, String> {
    let record = Record::parse(record)?;
    let needed = record
        .revisions
        .iter()
        .filter(|entry| entry.status.needs_components());
    let components = needed.flat_map(|entry| {
        let revision = entry.id;
        let digests = entry.spec.components();
        digests.map(move |digest| NeededComponent { revision, digest })
    });
    Ok(components.collect())
}
