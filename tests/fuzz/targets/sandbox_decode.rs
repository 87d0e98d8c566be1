//! A picture, decoded in the sandbox by the default component: the result equals that of the native
//! code.
//!
//! The fuzzer sees no coverage of WebAssembly, but it sees that of the native decoder. Inputs also
//! come from `image_decode`.
#![no_main]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use rostro_common::cores::Cores;
use rostro_common::text::sanitize_lines;
use rostro_fuzz::pictures::{self, PIXELS};
use rostro_inference::OnnxRuntime;
use rostro_models::Pack;
use rostro_sandbox::bindings::Purpose;
use rostro_sandbox::component::CompiledComponent;
use rostro_sandbox::engine::Engine;
use rostro_sandbox::error::RunError;
use rostro_sandbox::limits::Limits;
use rostro_sandbox::pipeline::revision::Revision;
use rostro_sandbox::pipeline::stage::{StageRequest, Tuning};
use rostro_sdk::decode::{DecodeError, decode_at_least};

/// Longer than the timeout of the fuzzer, which reports slow inputs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer side of the detector input, as small as possible because detections do not matter here.
const SIDE: u32 = 32;

/// The default pipeline, which decodes pictures at full size, and a variant that reduces them.
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
        let request = StageRequest {
            runtime: &runtime,
            pack: &pack,
            vision: plugin.clone(),
            policy: None,
            limits: &BTreeMap::new(),
            settings: &BTreeMap::new(),
            tuning: &tuning,
        };
        Revision::stage(request, || (Instant::now() + PATIENCE).into())
            .expect("the default pipeline can be staged")
    };
    Pipelines {
        whole: stage("square"),
        reduced: stage("frame"),
    }
}

/// Result of decoding a picture.
#[derive(Debug, PartialEq)]
enum Decoded {
    Size(u32, u32),
    TooLarge(u32, u32, u64),
    /// The reason.
    Undecodable(String),
}

impl Decoded {
    /// Keeps only the words of a reason, because the host bounds it and puts it on one line.
    fn undecodable(why: &str) -> Self {
        let why = sanitize_lines(&why.chars().take(500).collect::<String>());
        assert!(!why.is_empty());
        Self::Undecodable(why.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

fn in_sandbox(pipeline: &Arc<Revision>, bytes: &[u8]) -> Decoded {
    match pipeline
        .begin(Instant::now() + PATIENCE)
        .analyze(bytes, Purpose::Detect)
    {
        Ok(analysis) => Decoded::Size(analysis.width, analysis.height),
        Err(RunError::TooLarge {
            width,
            height,
            max_pixels,
        }) => Decoded::TooLarge(width, height, max_pixels),
        Err(RunError::Undecodable(why)) => Decoded::undecodable(&why),
        // Small inputs do not fill the memory of a guest, so a limit is an error, too.
        Err(error) => panic!("{error:?}"),
    }
}

fn natively(bytes: &[u8], least: u32) -> Decoded {
    match decode_at_least(bytes, PIXELS, least) {
        Ok(decoded) => Decoded::Size(decoded.full.0, decoded.full.1),
        Err(DecodeError::TooLarge {
            width,
            height,
            max_pixels,
        }) => Decoded::TooLarge(width, height, max_pixels),
        Err(DecodeError::Undecodable(why)) => Decoded::undecodable(&why),
    }
}

fn init() {
    pictures::seeds();
    PIPELINES.get_or_init(pipelines);
}

fuzz_target!(init: init(), |bytes: &[u8]| {
    let bytes = &pictures::with_checksums(bytes);
    let Pipelines { whole, reduced } = PIPELINES.get().expect("set before any input");
    let natively = [u32::MAX, SIDE].map(|least| natively(bytes, least));
    assert_eq!(in_sandbox(whole, bytes), natively[0]);
    // The guest may decode it again at full size for a face that would lose detail.
    let sandboxed = in_sandbox(reduced, bytes);
    assert!(natively.contains(&sandboxed), "{sandboxed:?} in the sandbox, {natively:?} natively");
});
