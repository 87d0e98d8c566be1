//! ONNX Runtime alone on the same tensors, in every arrangement that may be the quickest.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::TensorRef;
use rostro_host::Pack;

use crate::native::Fed;

/// One way of giving the cores to the models.
pub(crate) struct Arrangement {
    pub(crate) name: String,
    detector: Session,
    /// One: the faces in turn. Several: side by side.
    recognizers: Vec<Session>,
}

impl Arrangement {
    /// Every arrangement: detector and recogniser with 1, 2, ... threads and the faces in turn,
    /// waiting threads asleep or spinning; and the detector with all threads and the faces side by
    /// side with one each.
    pub(crate) fn all(environment: &Environment, pack: &Pack, cores: usize) -> Result<Vec<Self>> {
        let session = |role: &str, threads: usize, spin: bool| -> Result<Session> {
            let (_, bytes) = pack.model(role).context("a model of the pack")?;
            Ok(load(environment, bytes, threads, spin)?)
        };
        let mut all = Vec::new();
        for threads in 1..=cores {
            for spin in [false, true] {
                // A single thread waits for no other.
                if threads == 1 && spin {
                    continue;
                }
                let name = format!(
                    "{threads} threads{}, faces in turn",
                    if spin { ", spinning" } else { "" }
                );
                let recognizers = vec![session("recognizer", threads, spin)?];
                all.push(Self {
                    name,
                    detector: session("detector", threads, spin)?,
                    recognizers,
                });
            }
        }
        let recognizers = (0..cores)
            .map(|_| session("recognizer", 1, false))
            .collect::<Result<_>>()?;
        all.push(Self {
            name: format!("{cores} threads, faces side by side"),
            detector: session("detector", cores, false)?,
            recognizers,
        });
        Ok(all)
    }

    /// Runs everything that was fed to the models, and drops what they say.
    pub(crate) fn run(&mut self, fed: &[Fed]) -> Result<()> {
        for look in fed.iter().filter(|fed| fed.role == "detector") {
            run(&mut self.detector, look.shape, &look.values)?;
        }
        let faces: Vec<&[f32]> = fed
            .iter()
            .filter(|fed| fed.role == "recognizer")
            .flat_map(faces)
            .collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let work = |session: &mut Session| -> Result<()> {
                while let Some(face) = faces.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(session, [1, 3, 112, 112], face)?;
                }
                Ok(())
            };
            let Some((own, others)) = self.recognizers.split_first_mut() else {
                return Ok(());
            };
            let others: Vec<_> = others
                .iter_mut()
                .take(faces.len().saturating_sub(1))
                .map(|session| scope.spawn(move || work(session)))
                .collect();
            work(own)?;
            others.into_iter().try_for_each(|other| {
                other
                    .join()
                    .unwrap_or_else(|_| anyhow::bail!("a thread panicked"))
            })
        })
    }
}

fn load(
    environment: &Environment,
    bytes: &[u8],
    threads: usize,
    spin: bool,
) -> Result<Session, ort::Error> {
    let builder =
        SessionBuilder::new(environment)?.with_optimization_level(GraphOptimizationLevel::All)?;
    let builder = builder
        .with_independent_thread_pool()?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?;
    builder
        .with_intra_op_spinning(spin)?
        .with_log_level(ort::logging::LogLevel::Error)?
        .commit_from_memory(bytes)
}

fn faces(batch: &Fed) -> impl Iterator<Item = &[f32]> {
    batch.values.chunks_exact(3 * 112 * 112)
}

fn run(session: &mut Session, shape: [usize; 4], values: &[f32]) -> Result<()> {
    let input = TensorRef::from_array_view((shape.map(|length| length as i64).to_vec(), values))?;
    session.run(ort::inputs![input])?;
    Ok(())
}
