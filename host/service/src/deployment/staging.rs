//! The thread that stages: one revision after the other, out of the way of requests.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};

use rostro_common::digest::Sha256Digest;

use super::Deployment;

/// How polite the thread is (19 at most): it gets the time that nobody else wants, and a little
/// more.
#[cfg(unix)]
const NICE: i32 = 10;

/// Where revisions are sent to be staged.
pub(super) type StagingQueue = Sender<Sha256Digest>;

/// A queue, and its other end for [`start`].
pub(super) fn queue() -> (StagingQueue, Receiver<Sha256Digest>) {
    channel()
}

/// Starts the thread; it ends with the deployment.
pub(super) fn start(
    deployment: &Arc<Deployment>,
    jobs: Receiver<Sha256Digest>,
) -> std::io::Result<()> {
    let deployment = Arc::downgrade(deployment);
    // Compiling takes all threads of the pool that it is called in: here it is this one alone.
    let alone = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "staging".to_owned())
        .start_handler(|_| step_back())
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
                alone.install(|| deployment.stage_now(id));
            }
        })?;
    Ok(())
}

/// Lets every other thread go first.
pub(crate) fn step_back() {
    // On Linux this is of the calling thread alone. Where it is refused, staging is only less
    // polite.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE);
}
