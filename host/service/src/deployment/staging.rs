//! The thread that stages revisions one after the other, at low priority.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};

use rostro_common::digest::Sha256Digest;

use super::Deployment;

/// Niceness of the thread (19 at most): it gets little more than the idle time of the processor.
#[cfg(unix)]
const NICE: i32 = 10;

/// Sender of the ids of revisions to stage.
pub(super) type StagingQueue = Sender<Sha256Digest>;

/// Returns a queue, and its receiver for [`start`].
pub(super) fn queue() -> (StagingQueue, Receiver<Sha256Digest>) {
    channel()
}

/// Starts the thread; it ends with the deployment.
pub(super) fn start(
    deployment: &Arc<Deployment>,
    jobs: Receiver<Sha256Digest>,
) -> std::io::Result<()> {
    let deployment = Arc::downgrade(deployment);
    // Compiling uses all threads of the pool that calls it, so this pool has only one.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "staging".to_owned())
        .start_handler(|_| lower_priority())
        .build()
        .map_err(std::io::Error::other)?;
    std::thread::Builder::new()
        .name("staging-queue".to_owned())
        .spawn(move || {
            for id in jobs {
                let Some(deployment) = Weak::upgrade(&deployment) else {
                    return;
                };
                let _tracked = deployment.builder.shutdown.track();
                pool.install(|| deployment.stage_now(id));
            }
        })?;
    Ok(())
}

/// Lowers the priority of the calling thread.
pub(crate) fn lower_priority() {
    // On Linux a priority belongs to a thread. If it is refused, the thread keeps its priority.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE);
}
