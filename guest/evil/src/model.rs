//! Misuse of tensors and models.

use crate::answer::{Answer, honest};
use rostro_sdk::bindings::exports::rostro::pipeline::vision::VisionError;
use rostro_sdk::bindings::rostro::pipeline::settings;
use rostro_sdk::bindings::wasi::nn::errors::Error;
use rostro_sdk::bindings::wasi::nn::graph::{ExecutionTarget, GraphEncoding, load, load_by_name};
use rostro_sdk::bindings::wasi::nn::inference::GraphExecutionContext;
use rostro_sdk::bindings::wasi::nn::tensor::{Tensor, TensorType};

const DETECTOR: &str = "detector";
const RECOGNIZER: &str = "recognizer";

/// Runs the mode; None for modes of other modules.
pub(crate) fn act(mode: &str, argument: &[u8]) -> Option<Answer> {
    let floats = |role, dimensions: &[u32], bytes| run(role, dimensions, TensorType::Fp32, bytes);
    Some(match mode {
        "spin-model" => spin(),
        "tensor-length" => refused([
            floats(DETECTOR, &[1, 3, 64, 64], 64),
            floats(RECOGNIZER, &[1, 3, 112, 112], 3 * 112 * 112 * 4 + 4),
        ]),
        "tensor-dimensions" => refused([
            floats(DETECTOR, &[1, 3, 0, 0], 0),
            floats(RECOGNIZER, &[1, 3, 0, 112], 0),
            floats(DETECTOR, &[u32::MAX; 4], 4),
            floats(DETECTOR, &[u32::MAX; 40], 4),
            floats(DETECTOR, &[1; 40], 4),
            floats(DETECTOR, &[], 4),
        ]),
        "tensor-rows" => {
            let rows = std::str::from_utf8(argument)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(u32::MAX);
            refused([floats(RECOGNIZER, &[rows, 3, 0, 112], 0)])
        }
        "tensor-type" => refused([
            run(DETECTOR, &[1, 3, 64, 64], TensorType::U8, 3 * 64 * 64),
            run(
                RECOGNIZER,
                &[1, 3, 112, 112],
                TensorType::I64,
                3 * 112 * 112 * 8,
            ),
            run(DETECTOR, &[1, 3, 64, 64], TensorType::Fp16, 3 * 64 * 64 * 2),
        ]),
        "tensor-shape" => refused([
            floats(DETECTOR, &[3, 64 * 64], 3 * 64 * 64 * 4),
            floats(DETECTOR, &[1, 4, 64, 64], 4 * 64 * 64 * 4),
            floats(RECOGNIZER, &[1, 3, 56, 224], 3 * 112 * 112 * 4),
            floats(RECOGNIZER, &[3, 1, 112, 112], 3 * 112 * 112 * 4),
        ]),
        "tensors" => {
            let kept: Vec<Tensor> = (0..10_000)
                .map(|_| Tensor::new(&[1], TensorType::U8, &[0]))
                .collect();
            std::mem::forget(kept);
            honest()
        }
        "tensor-bytes" => keep(&vec![0; 48 << 20]),
        "transfer" => {
            let data = vec![0; 200 << 20];
            let length = Tensor::new(&[200 << 20], TensorType::U8, &data)
                .data()
                .len();
            if length == data.len() {
                honest()
            } else {
                error("the tensor is another".to_owned())
            }
        }
        "model-name" => refused(
            [
                "",
                "admin",
                "DETECTOR",
                "../detector",
                "/etc/passwd",
                "detector\0",
            ]
            .map(|name| load_by_name(name).map(drop).map_err(to_text)),
        ),
        "model-log" => {
            let name = "\n2026-01-01T00:00:00Z ERROR rostro::forged: \u{1b}[31m".repeat(20_000);
            refused([(); 50].map(|()| {
                load_by_name(&name)
                    .map(drop)
                    .map_err(|error| error.data().len().to_string())
            }))
        }
        "handles" => {
            let kept: Vec<_> = (0..10_000).map(|_| load_by_name(DETECTOR)).collect();
            std::mem::forget(kept);
            honest()
        }
        "load-bytes" => refused(
            [GraphEncoding::Onnx, GraphEncoding::Autodetect].map(|encoding| {
                let model = vec![8_u8, 9, 58, 0];
                load(&[model], encoding, ExecutionTarget::Cpu)
                    .map(drop)
                    .map_err(to_text)
            }),
        ),
        _ => return None,
    })
}

/// Runs the detector on the largest pictures without end, so that the deadline fires while ONNX
/// Runtime runs.
fn spin() -> Answer {
    loop {
        if let Err(cause) = run(
            DETECTOR,
            &[1, 3, 2048, 2048],
            TensorType::Fp32,
            3 * 2048 * 2048 * 4,
        ) {
            return error(cause);
        }
    }
}

/// Leaks tensors without end.
fn keep(data: &[u8]) -> ! {
    loop {
        std::mem::forget(Tensor::new(&[1], TensorType::U8, data));
    }
}

/// Returns an error if all attempts were refused, as expected, and else an honest result.
fn refused<const N: usize>(attempts: [Result<(), String>; N]) -> Answer {
    let errors: Result<Vec<String>, usize> = attempts
        .into_iter()
        .enumerate()
        .map(|(index, attempt)| attempt.err().ok_or(index))
        .collect();
    match errors {
        Ok(errors) => error(errors.join("; ")),
        Err(index) => {
            eprintln!("attempt {index} was not refused");
            honest()
        }
    }
}

fn error(cause: String) -> Answer {
    Err(VisionError::Model(cause))
}

/// Runs a model on this many bytes of zero.
fn run(role: &str, dimensions: &[u32], ty: TensorType, bytes: usize) -> Result<(), String> {
    let (context, input) = context(role)?;
    let tensor = Tensor::new(dimensions, ty, &vec![0; bytes]);
    context
        .compute(vec![(input, tensor)])
        .map(drop)
        .map_err(to_text)
}

/// Loads a granted model and returns it with its input's name.
fn context(role: &str) -> Result<(GraphExecutionContext, String), String> {
    let granted =
        settings::get_model(role).ok_or_else(|| format!("no model for the role `{role}`"))?;
    let context = load_by_name(&granted.graph)
        .map_err(to_text)?
        .init_execution_context()
        .map_err(to_text)?;
    Ok((context, granted.input))
}

fn to_text(error: Error) -> String {
    error.data()
}
