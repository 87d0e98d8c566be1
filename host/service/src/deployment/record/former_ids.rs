//! Former ids of revisions, stored by programs that hashed ids by version 1.
//!
//! In memory, entries and roles have current ids. The file keeps the former id of such an entry as
//! `id`, and the current one as `current_id`. After a rollback an earlier program thus finds its
//! own ids, and serves those revisions.

use std::collections::HashMap;

use rostro_common::digest::Sha256Digest;
use rostro_models::Manifest;

use super::{Record, RevisionEntry, RevisionSpec};

impl RevisionEntry {
    /// Returns true if the current or the former id begins with a text.
    pub(in crate::deployment) fn has_id_prefix(&self, prefix: &str) -> bool {
        [Some(self.id), self.former_id]
            .into_iter()
            .flatten()
            .any(|id| id.to_string().starts_with(prefix))
    }
}

impl Record {
    /// Exchanges current and former ids, as between memory and the file. Its own inverse.
    pub(in crate::deployment) fn exchange_ids(&mut self) {
        let mut exchanged = HashMap::new();
        for entry in &mut self.revisions {
            if let Some(other) = &mut entry.former_id {
                exchanged.insert(entry.id, *other);
                std::mem::swap(&mut entry.id, other);
            }
        }
        self.replace_roles(&exchanged);
    }

    /// Replaces ids of version 1 by current ones. Returns true if an id changed.
    ///
    /// An id is replaced only if the pack's manifest still yields it. Otherwise the revision cannot
    /// serve anyway. `configured` is known although its entry may have been forgotten.
    pub(in crate::deployment) fn adopt_current_ids(
        &mut self,
        configured: &RevisionSpec,
        read_manifest: impl Fn(&str) -> Option<Manifest>,
    ) -> bool {
        let mut manifests: HashMap<String, Option<Manifest>> = HashMap::new();
        let mut ids = |spec: &RevisionSpec| {
            let manifest = manifests
                .entry(spec.pack.clone())
                .or_insert_with(|| read_manifest(&spec.pack));
            let inputs = spec.inputs(manifest.as_ref()?);
            Some((inputs.former_id(), inputs.id()))
        };
        let mut adopted: HashMap<Sha256Digest, Sha256Digest> =
            ids(configured).into_iter().collect();
        let mut has_changed = self.configured.is_some_and(|id| adopted.contains_key(&id));
        for entry in &mut self.revisions {
            if let Some((former, current)) = ids(&entry.spec)
                && entry.id == former
            {
                entry.id = current;
                entry.former_id = Some(former);
                adopted.insert(former, current);
                has_changed = true;
            }
        }
        self.replace_roles(&adopted);
        self.remove_duplicates();
        has_changed
    }

    /// Removes entries that were pushed before a rollback, and again by the earlier program.
    fn remove_duplicates(&mut self) {
        let adopted: Vec<Sha256Digest> = self
            .revisions
            .iter()
            .filter(|entry| entry.former_id.is_some())
            .map(|entry| entry.id)
            .collect();
        self.revisions
            .retain(|entry| entry.former_id.is_some() || !adopted.contains(&entry.id));
    }

    fn replace_roles(&mut self, ids: &HashMap<Sha256Digest, Sha256Digest>) {
        let shares = [&mut self.canary, &mut self.shadow].into_iter().flatten();
        let roles = [&mut self.configured, &mut self.active, &mut self.previous];
        for id in roles
            .into_iter()
            .flatten()
            .chain(shares.map(|share| &mut share.id))
        {
            if let Some(other) = ids.get(id) {
                *id = *other;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Record that a program of version 1 wrote: the configured revision, an active one with a
    /// policy and a limit of its own, and a canary with a limit.
    const FORMER_RECORD: &str = include_str!("testdata/former_record.json");

    /// Manifest of the pack `testing` at that time.
    const MANIFEST: &str = include_str!("testdata/former_manifest.toml");

    fn read_manifest(pack: &str) -> Option<Manifest> {
        (pack == "testing").then(|| Manifest::parse(MANIFEST).unwrap())
    }

    /// Returns the record and the specification of the configured revision.
    fn former_record() -> (Record, RevisionSpec) {
        let mut record: Record = serde_json::from_str(FORMER_RECORD).unwrap();
        record.exchange_ids();
        let configured = record.entry(record.configured.unwrap()).unwrap();
        let spec = configured.spec.clone();
        (record, spec)
    }

    #[test]
    fn former_record_keeps_roles() {
        let (mut record, configured) = former_record();
        let former = record.clone();
        assert!(record.adopt_current_ids(&configured, read_manifest));
        for (former, current) in [
            (former.configured, record.configured),
            (former.active, record.active),
            (former.previous, record.previous),
            (
                former.canary.map(|share| share.id),
                record.canary.map(|share| share.id),
            ),
        ] {
            let (former, entry) = (former.unwrap(), record.entry(current.unwrap()).unwrap());
            let manifest = read_manifest(&entry.spec.pack).unwrap();
            assert_eq!(entry.id, entry.spec.inputs(&manifest).id());
            assert_eq!(entry.former_id, Some(former));
            assert!(entry.has_id_prefix(&former.short()));
            assert!(entry.has_id_prefix(&entry.id.short()));
        }
    }

    /// A revision with a changed pack cannot serve, so its id stays.
    #[test]
    fn changed_pack_keeps_former_id() {
        let (mut record, configured) = former_record();
        let id = record.revisions[2].id;
        record.revisions[2].spec.pack = "changed".to_owned();
        record.adopt_current_ids(&configured, read_manifest);
        assert_eq!(record.entry(id).unwrap().former_id, None);
        assert_eq!(record.canary.unwrap().id, id);
    }

    /// An earlier program reads the ids that it wrote.
    #[test]
    fn written_record_has_former_ids() {
        let (mut record, configured) = former_record();
        record.adopt_current_ids(&configured, read_manifest);
        let adopted = record.clone();
        record.exchange_ids();
        let written = serde_json::to_value(&record).unwrap();
        let former: serde_json::Value = serde_json::from_str(FORMER_RECORD).unwrap();
        for key in [
            "form",
            "configured",
            "active",
            "previous",
            "canary",
            "shadow",
        ] {
            assert_eq!(written[key], former[key], "{key}");
        }
        for (written, former) in written["revisions"]
            .as_array()
            .unwrap()
            .iter()
            .zip(former["revisions"].as_array().unwrap())
        {
            let mut written = written.clone();
            written.as_object_mut().unwrap().remove("current_id");
            assert_eq!(&written, former);
        }
        let mut read: Record = serde_json::from_value(written).unwrap();
        read.exchange_ids();
        assert_eq!(read, adopted);
    }

    #[test]
    fn adopting_twice_changes_nothing() {
        let (mut record, configured) = former_record();
        record.adopt_current_ids(&configured, read_manifest);
        let adopted = record.clone();
        assert!(!record.adopt_current_ids(&configured, read_manifest));
        assert_eq!(record, adopted);
    }

    /// A revision is pushed, the program rolled back, and the revision pushed again.
    #[test]
    fn repushed_revision_has_one_entry() {
        let (mut record, configured) = former_record();
        let mut pushed = record.revisions[0].clone();
        pushed.id = pushed.spec.inputs(&read_manifest("testing").unwrap()).id();
        record.revisions.insert(0, pushed);
        let count = record.revisions.len();
        record.adopt_current_ids(&configured, read_manifest);
        assert_eq!(record.revisions.len(), count - 1);
    }
}
