//! Writing the archive of a gallery.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufWriter, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use rostro_common::ids::PersonId;
use rostro_common::sample::Sample;
use rostro_gallery::write_samples;

use super::{ArchiveError, ArchiveFile, origin};
use crate::audit::{Action, ActionOutcome};
use crate::deployment::Actor;
use crate::{Service, ServiceError};

impl Service {
    /// Everybody, of every contract, every group, and every tombstone, as a file without a name.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be read, or there is no room for the archive.
    pub fn export(&self, actor: &Actor) -> Result<ArchiveFile, ArchiveError> {
        let exported = self.export_all();
        self.deployment.note_gallery(
            actor,
            Action::Export,
            if exported.is_ok() {
                ActionOutcome::Done
            } else {
                ActionOutcome::Failed
            },
        );
        exported
    }

    fn export_all(&self) -> Result<ArchiveFile, ArchiveError> {
        let began = jiff::Timestamp::now();
        // Before anything is read: a deletion that comes later has a higher number, whether the
        // archive has the person or not.
        let numbered = self.people.numbered();
        let (ids, problems) = self.people.ids().map_err(ServiceError::from)?;
        let mut left_out: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let mut archive =
            ZipWriter::new(BufWriter::with_capacity(256 << 10, self.archives.create()));
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip_time(began));
        archive.start_file(origin::NAME, options)?;
        archive.write_all(&origin::text(numbered, began))?;
        let mut exported: HashSet<PersonId> = HashSet::new();
        for id in ids {
            // One at a time: a gallery can be larger than memory.
            let samples = match self.people.samples(&id) {
                Ok(Some(samples)) => samples,
                // Deleted since.
                Ok(None) => continue,
                Err(cause) => {
                    left_out.push(format!("{id}: {cause}"));
                    continue;
                }
            };
            let mut contracts: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
            for sample in samples {
                // Every sample has one, once any revision has served.
                let Some(contract) = &sample.contract else {
                    continue;
                };
                contracts
                    .entry(contract.to_string())
                    .or_default()
                    .push(sample);
            }
            for (contract, samples) in contracts {
                archive.start_file(format!("people/{contract}/{id}.csv"), options)?;
                write_samples(&samples, &mut archive)?;
            }
            exported.insert(id);
        }
        if !left_out.is_empty() {
            tracing::warn!(
                files = left_out.len(),
                "the export lacks files of the gallery that cannot be read"
            );
            archive.start_file(super::LEFT_OUT, options)?;
            for line in &left_out {
                writeln!(archive, "{line}")?;
            }
        }
        for (group, _) in self.groups().list() {
            archive.start_file(format!("groups/{group}"), options)?;
            let members = self.groups().members(&group).unwrap_or_default();
            // Without those who came since the people were read.
            let mut members: Vec<&PersonId> =
                members.iter().filter(|id| exported.contains(*id)).collect();
            members.sort();
            for id in members {
                writeln!(archive, "{id}")?;
            }
        }
        // Last, so that people who were deleted meanwhile are left out when the archive is taken
        // in.
        let tombstones = self.people.ledger().tombstones();
        for (gallery, key) in tombstones
            .galleries()
            .filter(|(gallery, _)| tombstones.in_gallery(*gallery).next().is_some())
        {
            archive.start_file(format!("{}{gallery}", super::TOMBSTONES), options)?;
            origin::write_tombstones(&tombstones, gallery, &key, &mut archive)?;
        }
        Ok(archive
            .finish()?
            .into_inner()
            .map_err(|error| error.into_error())?)
    }
}

/// A time as ZIP has it, in UTC; the earliest that it can say where it cannot say this one.
fn zip_time(time: jiff::Timestamp) -> zip::DateTime {
    let time = time.to_zoned(jiff::tz::TimeZone::UTC);
    let small = |number: i8| u8::try_from(number).ok();
    let parts = || {
        let (year, month, day) = (
            u16::try_from(time.year()).ok()?,
            small(time.month())?,
            small(time.day())?,
        );
        zip::DateTime::from_date_and_time(
            year,
            month,
            day,
            small(time.hour())?,
            small(time.minute())?,
            small(time.second())?,
        )
        .ok()
    };
    parts().unwrap_or_default()
}
