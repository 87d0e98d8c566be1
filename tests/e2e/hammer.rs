//! Load generator: continuous requests over several connections during another action.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Outcome of one request.
#[derive(Clone, Debug)]
pub(crate) struct Shot {
    pub(crate) begun: Instant,
    pub(crate) took: Duration,
    /// HTTP status; `None` without a response.
    pub(crate) status: Option<u16>,
    /// Id of the revision that answered.
    pub(crate) revision: String,
    /// Identity of the first face.
    pub(crate) identity: String,
}

/// Load generator. Each connection sends its next request after the last response.
#[derive(Debug)]
pub(crate) struct Hammer {
    stop: Arc<AtomicBool>,
    shots: Arc<Mutex<Vec<Shot>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Hammer {
    /// Starts sending a picture to `/process_frame` over `connections` connections.
    pub(crate) fn begin(url: &str, picture: &[u8], connections: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let shots = Arc::new(Mutex::new(Vec::new()));
        let threads = (0..connections).map(|_| {
            let (url, picture) = (format!("{url}/process_frame"), picture.to_vec());
            let (stop, shots) = (Arc::clone(&stop), Arc::clone(&shots));
            std::thread::spawn(move || {
                let agent: ureq::Agent = ureq::Agent::config_builder()
                    .http_status_as_error(false)
                    .timeout_global(Some(Duration::from_secs(60)))
                    .build()
                    .into();
                while !stop.load(Ordering::Relaxed) {
                    let shot = fire(&agent, &url, &picture);
                    shots.lock().unwrap().push(shot);
                }
            })
        });
        let threads = threads.collect();
        Self {
            stop,
            shots,
            threads,
        }
    }

    /// Waits for `more` further responses.
    pub(crate) fn wait_for(&self, more: usize) {
        let wanted = self.shots.lock().unwrap().len() + more;
        while self.shots.lock().unwrap().len() < wanted {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the load and returns all requests in the order of their responses.
    pub(crate) fn end(self) -> Vec<Shot> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        self.shots.lock().unwrap().clone()
    }
}

fn fire(agent: &ureq::Agent, url: &str, picture: &[u8]) -> Shot {
    let begun = Instant::now();
    let answer = agent
        .post(url)
        .header("content-type", "image/png")
        .send(picture);
    let Ok(mut answer) = answer else {
        return Shot {
            begun,
            took: begun.elapsed(),
            status: None,
            revision: String::new(),
            identity: String::new(),
        };
    };
    let revision = answer
        .headers()
        .get("x-rostro-pipeline")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let text = answer.body_mut().read_to_string().unwrap_or_default();
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    let identity = json["recognized_faces"][0]["identity"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    Shot {
        begun,
        took: begun.elapsed(),
        status: Some(answer.status().as_u16()),
        revision,
        identity,
    }
}

/// Activation of a revision: time of the request, time of the response, and revision.
#[derive(Clone, Debug)]
pub(crate) struct Activation {
    pub(crate) asked: Instant,
    pub(crate) answered: Instant,
    pub(crate) revision: String,
}

impl Shot {
    /// Returns the revisions that may serve this request. These are the last one activated before
    /// it began, and all that were requested before it ended. Returns `None` if no activation was
    /// answered before it began.
    pub(crate) fn may_be_served_by<'a>(
        &self,
        activations: &'a [Activation],
    ) -> Option<Vec<&'a str>> {
        let last = activations
            .iter()
            .rposition(|activation| activation.answered <= self.begun)?;
        let ended = self.begun + self.took;
        let since = activations[last + 1..]
            .iter()
            .take_while(|activation| activation.asked <= ended);
        Some(
            std::iter::once(&activations[last])
                .chain(since)
                .map(|activation| activation.revision.as_str())
                .collect(),
        )
    }
}

/// Returns the 99th percentile of the request times.
pub(crate) fn p99(shots: &[Shot]) -> Duration {
    let mut times: Vec<Duration> = shots.iter().map(|shot| shot.took).collect();
    times.sort();
    times
        .get(times.len() * 99 / 100)
        .copied()
        .unwrap_or_default()
}
