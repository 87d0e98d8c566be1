//! The watched folder: a component that appears in it is staged, and activated if that is wanted.
//!
//! Files appear by rename: write elsewhere on the same disk, or under a name that begins with a dot, and rename. A file that is copied into place
//! is taken when two looks at it, a second apart, show the same.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use super::record::Status;
use super::{Actor, Deployment, Given, Outcome};
use crate::config::FolderAction;
use crate::digest::Sha256Digest;
use crate::plugin::MAX_COMPONENT_BYTES;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What a file looks like without reading it.
type Look = (u64, Option<SystemTime>);

/// What is known of the folder's files.
#[derive(Debug, Default)]
struct Known {
    /// As they were at the last look.
    last: HashMap<PathBuf, Look>,
    /// As they were when they were taken.
    taken: HashMap<PathBuf, Look>,
    /// Revisions that are to be activated when they are staged, in the order in which they came.
    pending: Vec<Sha256Digest>,
}

impl Deployment {
    /// Watches a folder as long as this lives.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or a thread cannot be started.
    pub(crate) fn watch(self: &Arc<Self>, folder: &Path, action: FolderAction) -> std::io::Result<()> {
        let named = |error: std::io::Error| std::io::Error::new(error.kind(), format!("the watched folder {}: {error}", folder.display()));
        fs::create_dir_all(folder).map_err(named)?;
        fs::read_dir(folder).map_err(named)?;
        // What was taken before a restart is not taken again: an operator may have decided otherwise since.
        let mut known = Known::default();
        known.taken.extend(components(folder).unwrap_or_default().into_iter().filter(|(path, _)| self.knows(path)));
        let (deployment, folder) = (Arc::downgrade(self), folder.to_owned());
        std::thread::Builder::new().name("watched-folder".to_owned()).spawn(move || {
            while let Some(deployment) = Weak::upgrade(&deployment).filter(|deployment| !deployment.workshop.shutdown.has_begun()) {
                deployment.look_into(&folder, action, &mut known);
                drop(deployment);
                std::thread::sleep(LOOK);
            }
        })?;
        Ok(())
    }

    fn look_into(&self, folder: &Path, action: FolderAction, known: &mut Known) {
        let Some(now) = components(folder) else { return };
        let mut fresh: Vec<(&PathBuf, Look)> = now
            .iter()
            .filter(|(path, look)| known.last.get(*path) == Some(look) && known.taken.get(*path) != Some(look))
            .map(|(path, look)| (path, *look))
            .collect();
        // The newest is staged last, and so activated last.
        fresh.sort_by_key(|(path, (_, modified))| (*modified, (*path).clone()));
        for (path, look) in fresh {
            known.taken.insert(path.clone(), look);
            if let Some(Outcome { id, .. }) = self.take_file(path)
                && action == FolderAction::Activate
            {
                known.pending.push(id);
            }
        }
        known.taken.retain(|path, _| now.contains_key(path));
        known.last = now;
        known.pending.retain(|id| self.activate_if_staged(*id));
    }

    /// Whether any revision that is remembered is made of this file.
    fn knows(&self, path: &Path) -> bool {
        let Ok(bytes) = read(path) else { return false };
        let digest = Sha256Digest::of(&bytes);
        self.locked().record.revisions.iter().any(|entry| entry.ingredients.components().any(|component| component == digest))
    }

    fn take_file(&self, path: &Path) -> Option<Outcome> {
        let actor = Actor::part(&format!("folder: {}", path.display()));
        match read(path) {
            Ok(bytes) => self.push(Given { bytes, ..Given::default() }, &actor).ok(),
            Err(error) => {
                tracing::warn!("cannot read {}: {error}", path.display());
                None
            }
        }
    }

    /// Activates a revision if it is staged; whether it is still to be waited for.
    fn activate_if_staged(&self, id: Sha256Digest) -> bool {
        let status = self.locked().record.entry(id).map(|entry| entry.status.clone());
        match status {
            Some(Status::Staging) => true,
            Some(Status::Staged) => {
                // A refusal is in the audit log, with what to do.
                let _ = self.activate(id, false, &Actor::part("folder"));
                false
            }
            Some(Status::Failed(_) | Status::Retired) | None => false,
        }
    }
}

/// A component, or as much more than may be as is enough to refuse it.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The components in a folder and what they look like; those that begin with a dot are being written. None if it cannot be read.
fn components(folder: &Path) -> Option<HashMap<PathBuf, Look>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!("cannot look into {}: {error}", folder.display());
            return None;
        }
    };
    let component = |entry: fs::DirEntry| {
        let path = entry.path();
        let name = path.file_name()?.to_str()?;
        let is_component = !name.starts_with('.') && path.extension().is_some_and(|extension| extension == "wasm");
        let metadata = entry.metadata().ok().filter(|metadata| is_component && metadata.is_file())?;
        Some((path, (metadata.len(), metadata.modified().ok())))
    };
    Some(entries.flatten().filter_map(component).collect())
}
