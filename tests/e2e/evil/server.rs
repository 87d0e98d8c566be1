//! A server with an evil pipeline beside an honest one, and what it uses.

use std::fs;
use std::time::{Duration, Instant};

use rostro_evil::modes::{Asked, Mode, image};

use crate::harness::{Answer, BOUNDARY, Server, component, drawn, file, multipart, text};
use crate::operator::bytes;

/// Requests worked on at a time: one for the evil one, the others for the honest.
pub(super) const WORKERS: usize = 4;

/// A server with the evil pipeline beside an honest one.
#[derive(Debug)]
pub(super) struct Evil {
    pub(super) server: Server,
    id: String,
    /// The header `x-rostro-canary` by which it is asked.
    header: &'static str,
    /// Files of people.
    pub(super) enrolled: usize,
}

impl Evil {
    /// Has the evil pipeline answer those who ask for it: as the canary, or as the active one
    /// beside a canary that answers everybody else.
    pub(super) fn set_up(server: Server, is_active: bool) -> Self {
        server
            .enroll("alice", [drawn("alice-1.png"), drawn("alice-2.png")])
            .ok();
        let honest = server.active();
        let id = server.staged(&bytes(component("evil")), "");
        if is_active {
            server
                .admin_post(&format!(
                    "/v1/revisions/{id}/activate?allow_contract_change=true"
                ))
                .ok();
            // Known to the evil pipeline, so that there is a candidate to decide on.
            server.enroll("mallory", [drawn("bob-1.png")]).ok();
            server
                .admin_post(&format!(
                    "/v1/revisions/{honest}/canary?share=1&allow_contract_change=true"
                ))
                .ok();
        } else {
            server
                .admin_post(&format!(
                    "/v1/revisions/{id}/canary?share=0&allow_contract_change=true"
                ))
                .ok();
        }
        let mut evil = Self {
            server,
            id,
            header: if is_active { "never" } else { "always" },
            enrolled: 0,
        };
        evil.enrolled = evil.enrolled();
        evil
    }

    pub(super) fn enrolled(&self) -> usize {
        fs::read_dir(&self.server.gallery).unwrap().count()
    }

    /// Has it misbehave.
    pub(super) fn ask(&self, mode: &Mode, argument: &[u8]) -> Answer {
        let image = image(mode.name, argument);
        match mode.asked {
            Asked::Frame => self.frame(&image),
            Asked::Enrollment => {
                let form = multipart(&[
                    text("student_id", "victim"),
                    file("images", "evil.jpg", image),
                ]);
                let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
                self.server
                    .post_with("/process-images", &[("content-type", &content_type)], &form)
            }
        }
    }

    pub(super) fn frame(&self, image: &[u8]) -> Answer {
        self.server.post_with(
            "/process_frame",
            &[
                ("content-type", "image/png"),
                ("x-rostro-canary", self.header),
            ],
            image,
        )
    }

    /// Asserts that as many requests are worked on at a time as there are workers: none is kept by
    /// what was tried before. One that waited for a worker until its deadline was never begun, and
    /// is no failure of the pipeline.
    pub(super) fn check_workers(&self) {
        let failures = || {
            self.server.admin_get(&format!("/v1/revisions/{}", self.id))["failures"]
                .as_u64()
                .unwrap()
        };
        let before = failures();
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..WORKERS)
                .map(|_| scope.spawn(|| self.frame(&image("spin", b"")).status))
                .collect();
            asked
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(statuses, [504; WORKERS]);
        // The answer is sent at the deadline, the guest interrupted some milliseconds later.
        until("the end of every worker's run", || {
            failures() >= before + WORKERS as u64
        });
    }
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{what} does not come"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a process uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// The most memory that it held at a time, in bytes.
    pub(crate) peak: u64,
    pub(super) threads: usize,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|line| line.split_whitespace().next())
            .unwrap();
        Self {
            peak: peak.parse::<u64>().unwrap() << 10,
            threads: fs::read_dir(format!("/proc/{pid}/task")).unwrap().count(),
        }
    }
}
