//! Export of the gallery as an archive.

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
    /// Writes every person of every contract, every group, and every tombstone to an archive file
    /// without a name.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be read, or the disk has no room for the archive.
    pub fn export(&self, actor: &Actor) -> Result<ArchiveFile, ArchiveError> {
        let exported = self.export_all();
        self.deployment.record_gallery(
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
        // Read first, so that every later deletion has a higher number.
        let numbered = self.people.store().archive_number();
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
            // One person at a time, because a gallery can be larger than memory.
            let samples = match self.people.samples(&id) {
                Ok(Some(samples)) => samples,
                // Deleted meanwhile.
                Ok(None) => continue,
                Err(cause) => {
                    left_out.push(format!("{id}: {cause}"));
                    continue;
                }
            };
            let mut contracts: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
            for sample in samples {
                // Every sample has a contract once any revision has served.
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
                "the export omits unreadable files of the gallery"
            );
            archive.start_file(super::OMITTED_FILE, options)?;
            for line in &left_out {
                writeln!(archive, "{line}")?;
            }
        }
        for (group, _) in self.groups().list() {
            archive.start_file(format!("groups/{group}"), options)?;
            let members = self.groups().members(&group).unwrap_or_default();
            // Without members that were added after the people were read.
            let mut members: Vec<&PersonId> =
                members.iter().filter(|id| exported.contains(*id)).collect();
            members.sort();
            for id in members {
                writeln!(archive, "{id}")?;
            }
        }
        // Written last, so that an import omits people that were deleted during the export.
        let tombstones = self.people.store().tombstones()?;
        for (gallery, key) in tombstones
            .galleries()
            .filter(|(gallery, _)| tombstones.in_gallery(*gallery).next().is_some())
        {
            archive.start_file(format!("{}{gallery}", super::TOMBSTONE_FOLDER), options)?;
            origin::write_tombstones(&tombstones, gallery, &key, &mut archive)?;
        }
        Ok(archive
            .finish()?
            .into_inner()
            .map_err(|error| error.into_error())?)
    }
}

/// Converts a time to that of ZIP, in UTC; the earliest one if it is out of range.
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
