//! A server with an evil and an honest pipeline, and its resource usage.

use std::fs;

use rostro_evil::modes::{Asked, Mode, image};

use crate::harness::{
    Answer, BOUNDARY, Server, component, drawn, eventually, file, multipart, text,
};
use crate::operator::bytes;

/// Workers of the server: one for evil requests, the others for honest ones.
pub(super) const WORKERS: usize = 4;

/// A server with an evil and an honest pipeline.
#[derive(Debug)]
pub(super) struct Evil {
    pub(super) server: Server,
    id: String,
    /// The value of `x-rostro-canary` that selects the evil pipeline.
    header: &'static str,
    /// Number of gallery entries after the set-up.
    pub(super) enrolled: usize,
}

impl Evil {
    /// Stages the evil pipeline as the canary, or as the active one with an honest canary.
    ///
    /// In both cases only requests with the header `x-rostro-canary` reach it.
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
            // The evil pipeline knows this person, so that there is a candidate to decide on.
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

    /// Sends a request that triggers the mode.
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

    /// Asserts that no earlier request still holds a worker, so that all workers run at once.
    ///
    /// A request that waits for a worker until its deadline never begins and counts as no failure.
    pub(super) fn check_workers(&self) {
        let failures = || {
            self.server.admin_get(&format!("/v1/revisions/{}", self.id))["failures"]
                .as_u64()
                .unwrap()
        };
        let before = failures();
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let requests: Vec<_> = (0..WORKERS)
                .map(|_| scope.spawn(|| self.frame(&image("spin", b"")).status))
                .collect();
            requests
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(statuses, [504; WORKERS]);
        // The answer is sent at the deadline. The guest is interrupted some milliseconds later.
        eventually("the end of every worker's run", || {
            failures() >= before + WORKERS as u64
        });
    }
}

/// Memory and threads of a process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Peak memory in bytes.
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
