//! Comparison with the other nodes before this one serves.

use std::collections::{BTreeMap, HashMap};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::settings::{Difference, LEASE, compare};
use crate::connection::DatabaseError;

/// Which differences do not keep a node from serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tolerance {
    /// None, at a start.
    Nothing,
    /// All but the length of the lease, at a start with `--allow-different`.
    Settings,
    /// All, for a node that served before an outage.
    Everything,
}

/// A lease of another node, with its settings.
#[derive(Clone, Debug)]
pub(super) struct OtherNode {
    lease: Uuid,
    node: String,
    renewed: i64,
    settings: BTreeMap<String, String>,
}

/// A node with other settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DifferentNode {
    node: String,
    differences: Vec<Difference>,
}

/// Result of a comparison.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The node may serve. These nodes differ and are tolerated.
    Admitted(Vec<DifferentNode>),
    /// Leases with other settings may have ended, because their nodes were killed.
    Undecided,
    /// Live nodes have other settings.
    Refused(Vec<DifferentNode>),
}

/// Tells live nodes with other settings from the leases that dead ones left.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Numbers of renewals of the leases with other settings, as they were first seen.
    seen: HashMap<Uuid, i64>,
}

impl Admission {
    /// Returns true if nothing was compared yet.
    pub(super) fn is_new(&self) -> bool {
        self.seen.is_empty()
    }

    /// Compares the settings of this node with those of the leases that are not expelled.
    pub(super) fn judge(
        &mut self,
        own: &BTreeMap<String, String>,
        others: Vec<OtherNode>,
        tolerance: Tolerance,
    ) -> Verdict {
        let mut tolerated = Vec::new();
        let mut live = Vec::new();
        let mut is_undecided = false;
        for other in others {
            let differences = compare(own, &other.settings);
            if differences.is_empty() {
                continue;
            }
            let is_tolerated = match tolerance {
                Tolerance::Nothing => false,
                Tolerance::Settings => differences.iter().all(|one| one.key != LEASE),
                Tolerance::Everything => true,
            };
            let different = DifferentNode {
                node: other.node,
                differences,
            };
            if is_tolerated {
                tolerated.push(different);
            } else if *self.seen.entry(other.lease).or_insert(other.renewed) != other.renewed {
                live.push(different);
            } else {
                is_undecided = true;
            }
        }
        match (live.is_empty(), is_undecided) {
            (false, _) => Verdict::Refused(live),
            (true, true) => Verdict::Undecided,
            (true, false) => Verdict::Admitted(tolerated),
        }
    }
}

/// Reads the leases of others that are not expelled, with their settings.
pub(super) async fn read_others(
    client: &ClientWrapper,
    own: Uuid,
) -> Result<Vec<OtherNode>, DatabaseError> {
    let statement = client
        .prepare_cached(
            "SELECT lease, node, renewed, settings FROM lease \
             WHERE NOT is_expelled AND lease <> $1 ORDER BY node",
        )
        .await?;
    let rows = client.query(&statement, &[&own]).await?;
    rows.iter()
        .map(|row| {
            let Json(settings) = row.try_get(3)?;
            Ok(OtherNode {
                lease: row.get(0),
                node: row.get(1),
                renewed: row.get(2),
                settings,
            })
        })
        .collect()
}

/// Describes nodes with other settings, as "NODE in KEY (X, there Y)".
pub(super) fn describe(nodes: &[DifferentNode]) -> String {
    let one = |different: &DifferentNode| {
        let differences: Vec<String> = different
            .differences
            .iter()
            .map(ToString::to_string)
            .collect();
        format!("{} in {}", different.node, differences.join(", "))
    };
    nodes
        .iter()
        .map(one)
        .collect::<Vec<_>>()
        .join(", and from ")
}

/// Returns the error of a node that live nodes refuse.
pub(super) fn refusal(nodes: &[DifferentNode]) -> DatabaseError {
    let mut differences = nodes.iter().flat_map(|node| &node.differences);
    DatabaseError::DifferentSettings {
        nodes: describe(nodes),
        is_lease: differences.any(|difference| difference.key == LEASE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn other(renewed: i64, pairs: &[(&str, &str)]) -> Vec<OtherNode> {
        vec![OtherNode {
            lease: Uuid::nil(),
            node: "two".to_owned(),
            renewed,
            settings: settings(pairs),
        }]
    }

    fn is_admitted(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Admitted(_))
    }

    #[test]
    fn renewed_lease_refuses() {
        let (own, there) = (settings(&[("pack", "a")]), [("pack", "b")]);
        let mut admission = Admission::default();
        let mut judge = |renewed| admission.judge(&own, other(renewed, &there), Tolerance::Nothing);
        assert_eq!(judge(7), Verdict::Undecided);
        assert_eq!(judge(7), Verdict::Undecided);
        let Verdict::Refused(nodes) = judge(8) else {
            panic!("a live node is ignored");
        };
        assert_eq!(describe(&nodes), "two in pack (a, there b)");
    }

    /// The lease of a killed node is expelled after its length, and is no longer listed then.
    #[test]
    fn ended_lease_does_not_refuse() {
        let own = settings(&[("pack", "a")]);
        let mut admission = Admission::default();
        let mut judge = |others| admission.judge(&own, others, Tolerance::Nothing);
        assert_eq!(judge(other(7, &[("pack", "b")])), Verdict::Undecided);
        assert!(is_admitted(&judge(Vec::new())));
    }

    #[test]
    fn allowance_excludes_lease() {
        let own = settings(&[("lease", "5"), ("pack", "a")]);
        let judge = |pairs: &[(&str, &str)], tolerance| {
            Admission::default().judge(&own, other(1, pairs), tolerance)
        };
        let pack = [("lease", "5"), ("pack", "b")];
        let lease = [("lease", "6"), ("pack", "a")];
        assert!(is_admitted(&judge(&pack, Tolerance::Settings)));
        assert_eq!(judge(&lease, Tolerance::Settings), Verdict::Undecided);
        assert!(is_admitted(&judge(&lease, Tolerance::Everything)));
    }
}
