//! Ids of revisions: SHA-256 over everything that a revision is made of.
//!
//! Ids are persisted and appear in answers, so their input is explicit bytes that no type or
//! library can change:
//!
//! - A domain string with a version precedes all fields.
//! - A field is a tag (one byte), a length (8 bytes), and a value. A list repeats its tag.
//! - Numbers are little-endian; a model, setting or limit is a field that contains fields.
//! - A field at its default is left out, so that a later field does not change earlier ids.
//!
//! Version 1 hashed Rust's debug output. Stored records may have its ids, as former ids.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use rostro_common::digest::Sha256Digest;
use rostro_models::{Channels, Manifest, ModelSpec};

use super::revision::digest_parts;

/// Domain and version of the hash.
const DOMAIN: &[u8] = b"rostro.revision.v2\0";

/// Tags of the fields of a revision. A tag is never used again for another field.
mod tag {
    pub(super) const VISION: u8 = 1;
    pub(super) const POLICY: u8 = 2;
    pub(super) const MODEL: u8 = 3;
    pub(super) const SETTING: u8 = 4;
    pub(super) const DETECTION_THRESHOLD: u8 = 5;
    pub(super) const SIMILARITY_THRESHOLD: u8 = 6;
    pub(super) const LIMIT: u8 = 7;
    /// A setting of the revision's own, where `SETTING` is one of the pack.
    pub(super) const OWN_SETTING: u8 = 8;
    /// Fields of a setting or a limit.
    pub(super) const KEY: u8 = 1;
    pub(super) const VALUE: u8 = 2;
    /// Fields of a model.
    pub(super) const ROLE: u8 = 1;
    pub(super) const SHA256: u8 = 2;
    pub(super) const WIDTH: u8 = 3;
    pub(super) const HEIGHT: u8 = 4;
    pub(super) const MEAN: u8 = 5;
    pub(super) const STD: u8 = 6;
    pub(super) const CHANNELS: u8 = 7;
    pub(super) const DIMENSION: u8 = 8;
    pub(super) const BATCH: u8 = 9;
}

/// Input of a revision's id.
///
/// The manifest contributes all that a guest can read of the pack, because equal models with other
/// thresholds are another revision.
#[derive(Clone, Copy, Debug)]
pub struct RevisionInputs<'a> {
    /// Digest of the vision component.
    pub vision: Sha256Digest,
    /// Digest of the policy component, if it is another one.
    pub policy: Option<Sha256Digest>,
    /// Manifest of the model pack.
    pub manifest: &'a Manifest,
    /// Limits of the revision's own, by name.
    pub limits: &'a BTreeMap<String, String>,
    /// Settings of the revision's own, by name.
    pub settings: &'a BTreeMap<String, String>,
}

/// Sequence of tagged fields.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn add(&mut self, tag: u8, value: &[u8]) {
        self.0.push(tag);
        self.0.extend((value.len() as u64).to_le_bytes());
        self.0.extend(value);
    }

    fn add_number(&mut self, tag: u8, value: Option<u32>) {
        if let Some(value) = value {
            self.add(tag, &value.to_le_bytes());
        }
    }

    fn add_entry(&mut self, tag: u8, key: &str, value: &str) {
        let mut entry = Self::default();
        entry.add(tag::KEY, key.as_bytes());
        entry.add(tag::VALUE, value.as_bytes());
        self.add(tag, &entry.0);
    }
}

impl RevisionInputs<'_> {
    /// Returns the revision's id.
    #[must_use]
    pub fn id(&self) -> Sha256Digest {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(self.fields().0);
        Sha256Digest(hash.finalize().into())
    }

    fn fields(&self) -> Fields {
        let Manifest {
            models,
            settings,
            thresholds,
            ..
        } = self.manifest;
        let mut fields = Fields::default();
        fields.add(tag::VISION, &self.vision.0);
        if let Some(policy) = self.policy.filter(|policy| *policy != self.vision) {
            fields.add(tag::POLICY, &policy.0);
        }
        for (role, spec) in models {
            fields.add(tag::MODEL, &model_fields(role, spec).0);
        }
        for (key, value) in settings {
            fields.add_entry(tag::SETTING, key, value);
        }
        fields.add(
            tag::DETECTION_THRESHOLD,
            &thresholds.detection.to_le_bytes(),
        );
        fields.add(
            tag::SIMILARITY_THRESHOLD,
            &thresholds.similarity.to_le_bytes(),
        );
        for (name, value) in self.limits {
            fields.add_entry(tag::LIMIT, name, value);
        }
        for (name, value) in self.settings {
            fields.add_entry(tag::OWN_SETTING, name, value);
        }
        fields
    }

    /// Returns the id by version 1, which programs before version 2 stored.
    ///
    /// The format strings are frozen: they reproduce the debug output of that time.
    #[must_use]
    pub fn former_id(&self) -> Sha256Digest {
        let number =
            |value: Option<u32>| value.map_or("None".to_owned(), |value| format!("Some({value})"));
        let models = self.manifest.models.iter().map(|(role, spec)| {
            let channels = match spec.channels {
                Channels::Rgb => "Rgb",
                Channels::Bgr => "Bgr",
            };
            format!(
                "{role} {} {}×{} {} {} {channels} {} {}",
                spec.sha256,
                number(spec.width),
                number(spec.height),
                spec.mean,
                spec.std,
                number(spec.dimension),
                number(spec.batch),
            )
        });
        let settings = self.manifest.settings.iter();
        let settings = settings.map(|(key, value)| format!("{key}={value}"));
        let thresholds = self.manifest.thresholds;
        let thresholds = format!("{} {}", thresholds.detection, thresholds.similarity);
        let limits = self
            .limits
            .iter()
            .map(|(name, value)| format!("limit {name}={value}"));
        // Programs of that time had none of these, so that no id of theirs changes.
        let own = self
            .settings
            .iter()
            .map(|(name, value)| format!("own setting {name}={value}"));
        let texts: Vec<String> = models
            .chain(settings)
            .chain([thresholds])
            .chain(limits)
            .chain(own)
            .collect();
        let components = [self.vision.0, self.policy.unwrap_or(self.vision).0];
        let parts = components
            .iter()
            .map(|digest| digest.as_slice())
            .chain(texts.iter().map(|text| text.as_bytes()));
        Sha256Digest(digest_parts(parts))
    }
}

fn model_fields(role: &str, spec: &ModelSpec) -> Fields {
    let ModelSpec {
        sha256,
        width,
        height,
        mean,
        std,
        channels,
        dimension,
        batch,
        ..
    } = spec;
    let mut fields = Fields::default();
    fields.add(tag::ROLE, role.as_bytes());
    fields.add(tag::SHA256, sha256.as_bytes());
    fields.add_number(tag::WIDTH, *width);
    fields.add_number(tag::HEIGHT, *height);
    fields.add(tag::MEAN, &mean.to_le_bytes());
    fields.add(tag::STD, &std.to_le_bytes());
    match channels {
        Channels::Rgb => {}
        Channels::Bgr => fields.add(tag::CHANNELS, &[1]),
    }
    fields.add_number(tag::DIMENSION, *dimension);
    fields.add_number(tag::BATCH, *batch);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"
        name = "golden"
        description = "for tests"
        license = "none"
        thresholds = { detection = 0.5, similarity = 0.35 }
        settings = { letterbox = "square", rivals = "3" }

        [models.detector]
        file = "detector.onnx"
        sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
        max_size = 1
        mean = 127.5
        std = 128.0
        channels = "bgr"

        [models.recognizer]
        file = "recognizer.onnx"
        sha256 = "2222222222222222222222222222222222222222222222222222222222222222"
        max_size = 1
        width = 112
        height = 112
        mean = 127.5
        std = 127.5
        batch = 8
        dimension = 512
    "#;

    fn manifest() -> Manifest {
        Manifest::parse(MANIFEST).unwrap()
    }

    fn limits() -> BTreeMap<String, String> {
        BTreeMap::from([("memory-mib".to_owned(), "64".to_owned())])
    }

    static NO_SETTINGS: BTreeMap<String, String> = BTreeMap::new();

    fn inputs<'a>(
        manifest: &'a Manifest,
        limits: &'a BTreeMap<String, String>,
    ) -> RevisionInputs<'a> {
        RevisionInputs {
            settings: &NO_SETTINGS,
            vision: Sha256Digest([1; 32]),
            policy: Some(Sha256Digest([2; 32])),
            manifest,
            limits,
        }
    }

    /// Stored records and other hosts depend on these ids: they never change.
    #[test]
    fn ids_are_fixed() {
        let (manifest, limits) = (manifest(), limits());
        let inputs = inputs(&manifest, &limits);
        assert_eq!(
            inputs.id().to_string(),
            "ef0a057ccdd92a37943ce51c234ecb49d6c2fd1e3090129f7f2e415bafdd357d"
        );
        assert_eq!(
            inputs.former_id().to_string(),
            "1a5676dc8a46c76489ca3f640ddd5e1f2d36744aa2a5e629d2e1d16ea0603064"
        );
    }

    #[test]
    fn each_input_changes_id() {
        let (base, limits) = (manifest(), limits());
        let id = inputs(&base, &limits).id();
        let changes: [fn(&mut Manifest); 9] = [
            |it| it.thresholds.detection = 0.51,
            |it| it.thresholds.similarity = 0.36,
            |it| {
                drop(
                    it.settings
                        .insert("letterbox".to_owned(), "frame".to_owned()),
                )
            },
            |it| drop(it.models.remove("detector")),
            |it| it.models.get_mut("detector").unwrap().channels = Channels::Rgb,
            |it| it.models.get_mut("detector").unwrap().width = Some(640),
            |it| it.models.get_mut("detector").unwrap().height = Some(640),
            |it| it.models.get_mut("recognizer").unwrap().batch = None,
            |it| it.models.get_mut("recognizer").unwrap().mean = 127.0,
        ];
        let mut ids = vec![id];
        for change in changes {
            let mut changed = base.clone();
            change(&mut changed);
            ids.push(inputs(&changed, &limits).id());
        }
        ids.push(inputs(&base, &BTreeMap::new()).id());
        let own = BTreeMap::from([("tracking".to_owned(), "off".to_owned())]);
        ids.push(
            RevisionInputs {
                settings: &own,
                ..inputs(&base, &limits)
            }
            .id(),
        );
        let policy = None;
        ids.push(
            RevisionInputs {
                policy,
                ..inputs(&base, &limits)
            }
            .id(),
        );
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn equal_components_have_one_id() {
        let (manifest, limits) = (manifest(), limits());
        let of = |policy| RevisionInputs {
            policy,
            ..inputs(&manifest, &limits)
        };
        let (none, same) = (of(None), of(Some(Sha256Digest([1; 32]))));
        assert_eq!(none.id(), same.id());
        assert_eq!(none.former_id(), same.former_id());
    }
}
