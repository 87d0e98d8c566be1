//! The actions of the audit log, and their outcomes.

use clap::ValueEnum;
use serde::Serialize;

/// An action of an operator, a caller or a part of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Upload of a component.
    Push,
    /// New revision of the same components with other settings.
    ChangeSettings,
    /// Staging of a component from the folder.
    Stage,
    /// Activation of a revision.
    Activate,
    /// Start with the recorded revision.
    Restore,
    /// Start with the configured revision.
    Configure,
    /// Return to the previous revision.
    Rollback,
    /// Start of a canary.
    Canary,
    /// End of a canary.
    EndCanary,
    /// Start of a shadow.
    Shadow,
    /// End of a shadow.
    EndShadow,
    /// Removal of a revision.
    Retire,
    /// Roll back by the circuit breaker.
    Break,
    /// Enrolment of a person.
    Enrol,
    /// Addition of photos to a person's samples.
    AddPhotos,
    /// Deletion of a person.
    DeletePerson,
    /// Reading of a person's embedding.
    ReadEmbedding,
    /// Search for similar people.
    ListDuplicates,
    /// Addition of a member to a group.
    AddToGroup,
    /// Removal of a member from a group.
    RemoveFromGroup,
    /// Deletion of a group.
    DeleteGroup,
    /// Export of the gallery.
    Export,
    /// Import of an archive.
    Import,
    /// Replacement of a person by an import.
    ImportPerson,
    /// Drain of a node.
    Drain,
    /// End of a drain.
    EndDrain,
    /// Permission for answers without a lease.
    StaleReads,
    /// End of that permission.
    EndStaleReads,
}

/// Outcome of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ActionOutcome {
    /// It began; another line has its outcome.
    Begun,
    /// It took effect.
    Done,
    /// It changed nothing.
    Unchanged,
    /// It was not allowed or not possible.
    Refused,
    /// It failed.
    Failed,
    /// A revision can serve.
    Staged,
    /// The revision of the configuration serves after a start.
    Configured,
    /// The revision that served before serves after a start.
    Restored,
}

impl ActionOutcome {
    /// Returns the outcome as it is written.
    pub(crate) fn name(self) -> String {
        name(self)
    }

    /// Returns the outcome of a change that was not refused.
    pub fn of_change(changed: bool) -> Self {
        if changed { Self::Done } else { Self::Unchanged }
    }
}

impl Action {
    /// Returns every outcome that the action can have, and whether its lines belong to a person.
    pub(super) fn rule(self) -> (&'static [ActionOutcome], bool) {
        use ActionOutcome::{
            Begun, Configured, Done, Failed, Refused, Restored, Staged, Unchanged,
        };

        const CHANGE: &[ActionOutcome] = &[Done, Unchanged, Refused];
        const WRITE: &[ActionOutcome] = &[Done, Unchanged, Failed];
        match self {
            Self::Push
            | Self::ChangeSettings
            | Self::Drain
            | Self::EndDrain
            | Self::Rollback
            | Self::Canary
            | Self::EndCanary
            | Self::Shadow
            | Self::EndShadow
            | Self::Retire => (CHANGE, false),
            Self::Stage => (&[Staged, Failed], false),
            Self::Activate => (&[Configured, Restored, Done, Unchanged, Refused], false),
            Self::Restore => (&[Failed], false),
            Self::Configure => (&[Unchanged], false),
            Self::Break => (&[Done, Refused], false),
            Self::Enrol
            | Self::AddPhotos
            | Self::DeletePerson
            | Self::AddToGroup
            | Self::RemoveFromGroup => (WRITE, true),
            Self::ReadEmbedding => (&[Done, Refused, Failed], true),
            Self::DeleteGroup => (WRITE, false),
            Self::Export => (&[Done, Failed], false),
            Self::ListDuplicates => (&[Done], false),
            Self::Import => (&[Begun, Done, Failed], false),
            Self::ImportPerson => (&[Done], true),
            Self::StaleReads => (&[Done], false),
            Self::EndStaleReads => (&[Done, Unchanged], false),
        }
    }
}

/// Returns an action or an outcome as it is written.
pub fn name(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// docs/audit.md has a row for each action, in this order, with every outcome and whether the
    /// line belongs to a person.
    #[test]
    fn page_lists_all_actions() {
        let page =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/audit.md"))
                .unwrap();
        let rows: Vec<Vec<&str>> = page
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
            .filter(|cells: &Vec<&str>| cells.len() == 4)
            .collect();
        let row = |action: Action| {
            let (outcomes, person) = action.rule();
            let outcomes: Vec<String> = outcomes
                .iter()
                .map(|outcome| format!("`{}`", outcome.name()))
                .collect();
            (
                format!("`{}`", name(action)),
                outcomes.join(", "),
                if person { "yes" } else { "" },
            )
        };
        let expected: Vec<_> = Action::value_variants().iter().copied().map(row).collect();
        let found: Vec<_> = rows
            .iter()
            .map(|cells| (cells[0].to_owned(), cells[2].to_owned(), cells[3]))
            .collect();
        assert_eq!(found, expected);
        assert!(rows.iter().all(|cells| cells[1].len() > 10), "{rows:?}");
    }
}
