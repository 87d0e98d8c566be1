//! Putting samples of unknown age in force.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use rostro_common::ids::{ContractId, EnrolmentId, PersonId};

use crate::csv_file;
use crate::enrolment::{enrolment_of, has_unknown_age, with_enrolment};
use crate::error::GalleryError;
use crate::folder::{CsvGallery, read_person};

impl CsvGallery {
    /// Puts files of unknown age in force at the operator's request. Returns their number. If a
    /// person has no own file, the latest other one becomes it.
    ///
    /// # Errors
    ///
    /// If the gallery cannot be read or written. Files before the failure are then in force.
    pub fn trust_contracts(&self) -> Result<usize, GalleryError> {
        let mut people: BTreeMap<PersonId, Vec<(ContractId, PathBuf)>> = BTreeMap::new();
        for (contract, path) in self
            .contract_files()
            .map_err(GalleryError::folder("read", &self.folder))?
        {
            if let Ok((id, _)) = read_person(&path) {
                people.entry(id).or_default().push((contract, path));
            }
        }
        let mut trusted = 0;
        for (id, others) in people {
            let _lock = self.lock_person(&id);
            trusted += self
                .trust_person(&id, others)
                .map_err(|cause| GalleryError::Write {
                    folder: self.folder.clone(),
                    cause,
                })?;
        }
        Ok(trusted)
    }

    fn trust_person(
        &self,
        id: &PersonId,
        mut others: Vec<(ContractId, PathBuf)>,
    ) -> io::Result<usize> {
        let path = self.path_of(id);
        let own = match csv_file::read(&self.own_file(id)) {
            Ok(own) => own,
            Err(csv_file::SampleFileError::Io(error))
                if error.kind() == io::ErrorKind::NotFound =>
            {
                let modified = |path: &PathBuf| {
                    path.metadata()
                        .and_then(|about| about.modified())
                        .unwrap_or(SystemTime::UNIX_EPOCH)
                };
                others.sort_by_key(|(_, path)| modified(path));
                let newest = others
                    .last()
                    .map(|(_, path)| csv_file::read(path).unwrap_or_default());
                newest.unwrap_or_default()
            }
            // An operator repairs or quarantines a damaged own file first.
            Err(_) => return Ok(0),
        };
        let enrolment = enrolment_of(&own)
            .cloned()
            .unwrap_or_else(EnrolmentId::unique);
        let mut trusted = 0;
        for (contract, other) in others {
            let samples = csv_file::read(&other).unwrap_or_default();
            if has_unknown_age(&own, &contract, &samples) {
                self.write_contract(&contract, id, &with_enrolment(&samples, &enrolment))?;
                trusted += 1;
            }
        }
        let is_promoted = !own.is_empty() && !self.own_file(id).exists();
        if trusted > 0 || is_promoted {
            // This write puts all of them in force at once.
            self.write(&path, &with_enrolment(&own, &enrolment))?;
        }
        Ok(trusted + usize::from(is_promoted))
    }
}
