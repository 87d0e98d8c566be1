//! A picture, decoded in the sandbox by the component that serves: what it says is what the same
//! code says of it natively.
//!
//! WebAssembly tells a fuzzer nothing of what it reaches; the native decoder does. Inputs come from
//! `image_decode`, too.
#![no_main]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use rostro_fuzz::pictures::{self, PIXELS};
use rostro_common::cores::Cores;
use rostro_common::text::sanitize_lines;
use rostro_inference::OnnxRuntime;
use rostro_models::Pack;
use rostro_sandbox::bindings::Purpose;
use rostro_sandbox::component::CompiledComponent;
use rostro_sandbox::engine::Engine;
use rostro_sandbox::limits::Limits;
use rostro_sandbox::pipeline::revision::{Revision, Tuning};
use rostro_sandbox::pipeline::run::RunError;
use rostro_sdk::decode::{DecodeError, decode_at_least};

/// Longer than the fuzzer waits: it reports what is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longer side of the picture as the detector sees it: as few pixels as it takes. What it finds
/// in them does not matter here.
const SIDE: u32 = 32;

/// The default pipeline, which decodes pictures whole, and which decodes them at part of their
/// size.
struct Pipelines {
    whole: Arc<Revision>,
    reduced: Arc<Revision>,
}

static PIPELINES: OnceLock<Pipelines> = OnceLock::new();

fn pipelines() -> Pipelines {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = fuzz.join("../..");
    let component = std::fs::read(root.join("target/guest/insightface.wasm"))
        .expect("the component; run: cargo xtask setup --pack testing");
    let library = rostro_models::runtime::locate(None, &root.join("models/runtime"))
        .expect("ONNX Runtime; run: cargo xtask setup --pack testing");
    let runtime = OnnxRuntime::load(&library, Cores::new(NonZeroUsize::MIN)).expect("ONNX Runtime");
    let pack = Pack::open(&root.join("models/installed"), "testing")
        .expect("the pack testing, part of the program");
    let engine = Engine::with_cache(Limits::default(), 1, Some(&fuzz.join("target/compiled")))
        .expect("an engine");
    let plugin = CompiledComponent::load(&engine, &component).expect("the component is one");
    let stage = |letterbox: &str| {
        let own = [
            ("detector-size", &*SIDE.to_string()),
            ("letterbox", letterbox),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let tuning = Tuning {
            detection: None,
            similarity: None,
            max_pixels: PIXELS,
            own: own.into(),
        };
        Revision::stage(
            &runtime,
            &pack,
            plugin.clone(),
            None,
            &BTreeMap::new(),
            &tuning,
            || (Instant::now() + PATIENCE).into(),
        )
        .expect("the default pipeline can be staged")
    };
    Pipelines {
        whole: stage("square"),
        reduced: stage("frame"),
    }
}

/// What is said of a picture.
#[derive(Debug, PartialEq)]
enum Said {
    Size(u32, u32),
    TooLarge(u32, u32, u64),
    /// For this reason.
    Undecodable(String),
}

impl Said {
    /// Of a reason the words count: the host bounds it and puts it on one line.
    fn undecodable(why: &str) -> Self {
        let why = sanitize_lines(&why.chars().take(500).collect::<String>());
        assert!(!why.is_empty());
        Self::Undecodable(why.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

fn in_sandbox(pipeline: &Arc<Revision>, bytes: &[u8]) -> Said {
    match pipeline
        .begin(Instant::now() + PATIENCE)
        .analyze(bytes, Purpose::Detect)
    {
        Ok(analysis) => Said::Size(analysis.width, analysis.height),
        Err(RunError::TooLarge {
            width,
            height,
            max_pixels,
        }) => Said::TooLarge(width, height, max_pixels),
        Err(RunError::Undecodable(why)) => Said::undecodable(&why),
        // Some kilobytes do not unpack to a guest's memory: a limit is no answer either.
        Err(error) => panic!("{error:?}"),
    }
}

fn natively(bytes: &[u8], least: u32) -> Said {
    match decode_at_least(bytes, PIXELS, least) {
        Ok(decoded) => Said::Size(decoded.full.0, decoded.full.1),
        Err(DecodeError::TooLarge {
            width,
            height,
            max_pixels,
        }) => Said::TooLarge(width, height, max_pixels),
        Err(DecodeError::Undecodable(why)) => Said::undecodable(&why),
    }
}

fn init() {
    pictures::seeds();
    PIPELINES.get_or_init(pipelines);
}

fuzz_target!(init: init(), |bytes: &[u8]| {
    let bytes = &pictures::with_checksums(bytes);
    let Pipelines { whole, reduced } = PIPELINES.get().expect("made before any input");
    let natively = [u32::MAX, SIDE].map(|least| natively(bytes, least));
    assert_eq!(in_sandbox(whole, bytes), natively[0]);
    // It may be decoded whole after that, for a face in it that would lose.
    let said = in_sandbox(reduced, bytes);
    assert!(natively.contains(&said), "{said:?} in the sandbox, {natively:?} natively");
});
