//! A service in this process, with the people of the shared photos.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use bytes::Bytes;
use rostro_common::cores::Cores;
use rostro_common::ids::PersonId;
use rostro_common::shutdown::Shutdown;
use rostro_delivery::{Delivery, Receivers};
use rostro_gallery::groups::Members;
use rostro_gallery::{FolderStore, StateFiles};
use rostro_inference::OnnxRuntime;
use rostro_inference::precision::PrecisionMode;
use rostro_sandbox::bindings::GuestContext;
use rostro_sandbox::engine::Engine;
use rostro_sandbox::limits::Limits;
use rostro_sandbox::pipeline::self_test::SelfTest;
use rostro_sandbox::pipeline::stage::Tuning;
use rostro_sandbox::review::Review;
use rostro_sdk::geometry::Rect;
use rostro_service::audit::{Actor, Audit};
use rostro_service::deployment::{
    Configured, ConfiguredTexts, Deployment, Preference, RevisionBuilder, StateFolder,
};
use rostro_service::executor::{Client, Executor, RequestContext};
use rostro_service::people::People;
use rostro_service::{
    ArchiveFolder, EnrollRequest, FrameInput, Identification, Mode, Photo, PhotoOutcome,
    Recognition, Service, Stream,
};
use rostro_sessions::{SessionLimits, SessionStore};
use tempfile::TempDir;

use crate::harness::{component, root};

/// Time limit of a request, far longer than any takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Most requests that wait.
const QUEUE: usize = 64;

/// The service, its files, and the runtime of its requests.
pub(crate) struct LocalService {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) service: Arc<Service>,
    _folder: TempDir,
}

/// A camera: it sends frames one after another, alone or as a stream.
pub(crate) struct Camera {
    service: Arc<Service>,
    client: Client,
    stream: Option<Arc<Stream>>,
    /// People to search; all if there are none.
    members: Option<Members>,
    time: u64,
    /// Milliseconds from one frame of a stream to the next.
    pub(crate) interval: u64,
}

/// A recognised face.
#[derive(Clone, Debug)]
pub(crate) struct FoundFace {
    pub(crate) bounds: Rect,
    pub(crate) landmarks: Vec<[f32; 2]>,
    pub(crate) name: Option<String>,
    pub(crate) track: Option<u32>,
    /// Similarity of the first candidate.
    pub(crate) similarity: f32,
}

impl LocalService {
    /// Starts a service with the pack and `--precision float`, without people.
    pub(crate) fn start(pack: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        let workers = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let shutdown = Shutdown::default();
        let scope = shutdown.scope(Instant::now() + PATIENCE);
        let gallery = FolderStore::open_locked(&folder.path().join("gallery"), &scope)?;
        let state = StateFolder::open(&folder.path().join("state"), &scope, shutdown.clone())?;
        let store = Arc::new(gallery.with_state(StateFiles::open(state.folder())?));
        let cores = Cores::new(workers);
        let library = rostro_models::runtime::locate(None, &root().join("models/runtime"))?;
        let onnx = OnnxRuntime::load(&library, cores.clone())?.with_precision(PrecisionMode::Float);
        let people = Arc::new(People::new(
            store.clone(),
            Default::default(),
            cores.clone(),
        ));
        let builder = RevisionBuilder {
            engine: Engine::new(Limits::default(), workers.get())
                .map_err(|error| anyhow!("{error}"))?,
            onnx,
            models: root().join("models/installed"),
            tuning: Tuning {
                detection: None,
                similarity: None,
                max_pixels: 40_000_000,
                own: BTreeMap::new(),
            },
            people: Arc::clone(&people),
            self_test: SelfTest::drawn(),
            shutdown: shutdown.clone(),
            start_cores: cores.clone(),
        };
        let configured = Configured {
            vision: std::fs::read(component("insightface"))?,
            policy: None,
            pack: pack.to_owned(),
            texts: ConfiguredTexts::default(),
            may_lack_settings: false,
        };
        let archives = ArchiveFolder::new(state.folder().to_owned(), 1 << 30);
        let (sessions, _) = SessionStore::open(state.folder(), SessionLimits::default())?;
        let sessions = Arc::new(sessions);
        let receivers = Receivers::default();
        let delivery = Delivery::start(receivers, Arc::clone(&sessions), state.folder())?;
        let audit = Audit::new(store, state.folder(), 1, None);
        let (deployment, _) = Deployment::open(builder, state, audit, &configured, 10)?;
        let executor = Executor::new(workers, QUEUE, PATIENCE, cores, shutdown);
        let service = Service::new(
            deployment,
            people,
            executor,
            Review::Off,
            archives,
            sessions,
            delivery,
        );
        Ok(Self {
            runtime,
            service: Arc::new(service),
            _folder: folder,
        })
    }

    /// Enrols a person. Each photo must be accepted.
    pub(crate) fn enroll(&self, id: &str, photos: Vec<Vec<u8>>) -> Result<()> {
        let photo = |content: Vec<u8>| Photo {
            field: "images",
            file_name: "photo.jpg".to_owned(),
            content: content.into(),
        };
        let request = EnrollRequest {
            id: id.parse()?,
            photos: photos.into_iter().map(photo).collect(),
            review: None,
            mode: Mode::Replace,
            actor: Actor::part("bench"),
        };
        let context = self.service.context(Client::Unknown);
        let enrolment = self
            .runtime
            .block_on(self.service.enroll(request, &context))
            .map_err(|error| anyhow!("{id}: {}", error.cause))?;
        let is_accepted = |photo: &PhotoOutcome| matches!(photo, PhotoOutcome::Accepted { .. });
        ensure!(
            enrolment.photos.iter().all(is_accepted),
            "{id}: {:?}",
            enrolment.photos
        );
        Ok(())
    }

    /// Returns a camera of frames that are recognised alone.
    pub(crate) fn single_frames(&self, name: &str) -> Camera {
        Camera {
            service: Arc::clone(&self.service),
            client: Client::Key(name.into()),
            stream: None,
            members: None,
            time: 1_700_000_000_000,
            interval: 0,
        }
    }

    /// Returns a camera of one stream, with this interval in milliseconds.
    pub(crate) fn stream(&self, name: &str, interval: u64) -> Camera {
        Camera {
            stream: Some(self.service.open_stream()),
            interval,
            ..self.single_frames(name)
        }
    }

    /// Returns the faces of a picture.
    pub(crate) fn faces(&self, picture: Bytes) -> Result<Vec<FoundFace>> {
        let mut camera = self.single_frames("setup");
        let recognition = self.runtime.block_on(camera.send(picture))?;
        Ok(found(&recognition))
    }
}

impl Camera {
    /// Searches among these people only.
    pub(crate) fn among(self, ids: &[String]) -> Result<Self> {
        let ids: Result<HashSet<PersonId>, _> = ids.iter().map(|id| id.parse()).collect();
        Ok(Self {
            members: Some(Arc::new(ids?)),
            ..self
        })
    }

    /// Sends the next frame.
    pub(crate) async fn send(&mut self, image: Bytes) -> Result<Recognition> {
        self.time += self.interval;
        let frame = FrameInput {
            image,
            members: self.members.clone(),
            context: GuestContext {
                stream: self.stream.as_ref().map(|_| "camera".to_owned()),
                group: None,
                time: self.time,
                context: String::new(),
            },
            closeness: None,
            arrived: Instant::now(),
        };
        let context: RequestContext = self.service.context(self.client.clone());
        let recognition = match &self.stream {
            Some(stream) => {
                let service = &self.service;
                service.recognize_in_stream(stream, frame, &context).await
            }
            None => {
                let service = &self.service;
                service.recognize(frame, &context, Preference::None).await
            }
        };
        recognition.map_err(|error| anyhow!("{}", error.cause))
    }
}

/// Returns the faces of an answer.
pub(crate) fn found(recognition: &Recognition) -> Vec<FoundFace> {
    let faces = recognition.faces.iter();
    faces
        .map(|face| {
            let bounds = &face.face.bounds;
            let first = face.candidates.first();
            FoundFace {
                bounds: Rect {
                    x1: bounds.x1,
                    y1: bounds.y1,
                    x2: bounds.x2,
                    y2: bounds.y2,
                },
                landmarks: face
                    .face
                    .landmarks
                    .iter()
                    .map(|point| [point.x, point.y])
                    .collect(),
                name: match &face.identification {
                    Identification::Known { person, .. } => Some(person.id.clone()),
                    Identification::Unknown(_) => None,
                },
                track: face.track,
                similarity: first.map_or(0.0, |candidate| candidate.similarity),
            }
        })
        .collect()
}

/// Returns the folder of a student's photos.
pub(crate) fn student(id: &str, photo: &str) -> PathBuf {
    crate::harness::shared(&format!("faces/students/{id}/{photo}.jpg"))
}
