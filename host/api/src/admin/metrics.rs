//! `GET /metrics`: metrics in the text format of OpenMetrics.
//!
//! Collectors read the deployment at each scrape, so that no label of a removed revision remains.
//! No label names a person.

use std::collections::BTreeMap;
use std::fmt;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use rostro_service::deployment::{Counts, Deployment, RevisionStatus, Statuses};
use rostro_service::executor::Load;
use rostro_service::types::{Half, REASONS};

use super::fleet::FleetCollector;
use super::reload::LastReload;
use super::sessions::SessionsCollector;
use super::state::Admin;
use crate::error::ApiError;
use crate::metrics::Traffic;

/// Content type of the answer.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Metrics of revisions.
#[derive(Debug)]
struct RevisionsCollector(Statuses);

/// Metrics of the executor.
#[derive(Debug)]
struct WorkersCollector(Load);

/// Metrics of people.
#[derive(Debug)]
struct PeopleCollector {
    /// People with templates for the active revision.
    known: usize,
    /// People who must be enrolled again for it.
    needs_enrolment: usize,
}

/// Numbers of unusable files in the gallery, by reason.
#[derive(Debug)]
struct SkippedFilesCollector(BTreeMap<&'static str, usize>);

/// Number of lost lines of the audit log.
#[derive(Debug)]
struct AuditLinesCollector(u64);

/// Metrics of the last reload.
#[derive(Debug)]
struct ReloadsCollector(LastReload);

/// Metrics of the log.
#[derive(Debug)]
struct LogCollector {
    dropped: u64,
}

/// Serves the metrics.
pub(super) async fn scrape(State(admin): State<Admin>) -> Result<Response, ApiError> {
    let (load, traffic, reload) = (
        admin.executor.load(),
        admin.traffic.clone(),
        admin.reload.last(),
    );
    let dropped = (admin.dropped_lines)();
    let sessions = SessionsCollector::of(&admin.service);
    let text = admin
        .run(move |deployment| Ok(text(deployment, load, &traffic, reload, dropped, sessions)))
        .await?;
    let text = text
        .map_err(|error| ApiError::internal("internal", "The metrics cannot be written.", error))?;
    Ok(([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

fn text(
    deployment: &Deployment,
    load: Load,
    traffic: &Traffic,
    reload: LastReload,
    dropped: u64,
    sessions: SessionsCollector,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("rostro");
    traffic.register(&mut registry);
    let (guests, models) = deployment.meters();
    guests.register(&mut registry);
    models.register(&mut registry);
    let (known, needs_enrolment) = deployment.active().view.counts();
    registry.register_collector(Box::new(PeopleCollector {
        known,
        needs_enrolment,
    }));
    registry.register_collector(Box::new(SkippedFilesCollector(
        deployment.files_left_alone(),
    )));
    registry.register_collector(Box::new(RevisionsCollector(deployment.statuses())));
    registry.register_collector(Box::new(WorkersCollector(load)));
    registry.register_collector(Box::new(ReloadsCollector(reload)));
    registry.register_collector(Box::new(AuditLinesCollector(deployment.audit().lost())));
    registry.register_collector(Box::new(LogCollector { dropped }));
    registry.register_collector(Box::new(sessions));
    if let Some(status) = deployment.fleet_status() {
        registry.register_collector(Box::new(FleetCollector {
            status,
            stale_answers: deployment.stale_answers(),
        }));
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for PeopleCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, value) in [
            (
                "people",
                "People that the active revision recognises",
                self.known,
            ),
            (
                "people_to_enrol",
                "People who are stored and must be enrolled again for the active revision",
                self.needs_enrolment,
            ),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

impl Collector for SkippedFilesCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let kind = ConstGauge::new(0_i64).metric_type();
        let help = "Files of the gallery that cannot be used and are left alone, by reason";
        let mut files = encoder.encode_descriptor("gallery_files_left_alone", help, None, kind)?;
        for reason in REASONS {
            let count = self.0.get(reason).copied().unwrap_or_default();
            ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
                .encode(files.encode_family(&[("reason", reason)])?)?;
        }
        Ok(())
    }
}

impl Collector for AuditLinesCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let lost = ConstCounter::new(self.0);
        let help = "Lines of the audit log that could not be written since the start";
        lost.encode(encoder.encode_descriptor(
            "audit_lines_lost",
            help,
            None,
            lost.metric_type(),
        )?)
    }
}

impl Collector for ReloadsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let success = ConstGauge::new(i64::from(self.0.is_success()));
        let help = "Whether the last reload could use every file; 1 before the first";
        success.encode(encoder.encode_descriptor(
            "reload_success",
            help,
            None,
            success.metric_type(),
        )?)?;
        let time = ConstGauge::new(self.0.time.as_second());
        let help = "When the last reload was, or the start, in seconds since 1970";
        time.encode(encoder.encode_descriptor(
            "reload_timestamp_seconds",
            help,
            None,
            time.metric_type(),
        )?)
    }
}

impl Collector for LogCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let dropped = ConstCounter::new(self.dropped);
        let help = "Log lines that were lost because their reader was too slow or the write failed";
        dropped.encode(encoder.encode_descriptor(
            "log_lines_dropped",
            help,
            None,
            dropped.metric_type(),
        )?)
    }
}

impl Collector for WorkersCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Load {
            workers,
            busy,
            waiting,
        } = self.0;
        for (name, help, value) in [
            (
                "workers",
                "Requests that are worked on at a time at most",
                workers,
            ),
            ("workers_busy", "Workers that work on something now", busy),
            (
                "requests_waiting",
                "Requests that wait for a worker now",
                waiting,
            ),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

impl RevisionsCollector {
    /// Encodes a counter of each revision for which `value` returns a number.
    fn encode_counters(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&RevisionStatus) -> Option<u64>,
    ) -> fmt::Result {
        let kind = ConstCounter::new(0_u64).metric_type();
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        for revision in &self.0.revisions {
            if let Some(value) = value(revision) {
                ConstCounter::new(value)
                    .encode(metric.encode_family(&[("revision", revision.id.to_string())])?)?;
            }
        }
        Ok(())
    }

    /// Encodes the guest time of each ready revision.
    fn encode_guest_seconds(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = ConstCounter::new(0.0_f64).metric_type();
        let help =
            "Time on the processor of a revision's guests without models, by half of the pipeline";
        let mut metric = encoder.encode_descriptor("revision_guest_seconds", help, None, kind)?;
        for revision in &self.0.revisions {
            let Some(seconds) = &revision.guest_seconds else {
                continue;
            };
            for half in [Half::Vision, Half::Policy] {
                let labels = [
                    ("revision", revision.id.to_string()),
                    ("guest", half.name().to_owned()),
                ];
                ConstCounter::new(*seconds.of(half)).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Collector for RevisionsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let gauge = ConstGauge::new(0_i64).metric_type();
        let mut states = encoder.encode_descriptor(
            "revision",
            "Revisions that are known, each with its state",
            None,
            gauge,
        )?;
        for revision in &self.0.revisions {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let labels = [
                ("revision", revision.id.to_string()),
                ("state", revision.state.to_string()),
                ("name", text(&revision.name)),
                ("version", text(&revision.version)),
                ("pack", revision.pack.clone()),
            ];
            ConstGauge::new(1_i64).encode(states.encode_family(&labels)?)?;
        }
        let broken = ConstCounter::new(self.0.broken);
        let help = "Revisions that the circuit breaker took out since the start";
        broken.encode(encoder.encode_descriptor(
            "revisions_broken",
            help,
            None,
            broken.metric_type(),
        )?)?;

        let stuck = ConstCounter::new(self.0.stuck);
        let help = "Times that the breaker would have taken out the active revision, and no other \
                    could serve";
        stuck.encode(encoder.encode_descriptor(
            "revisions_stuck",
            help,
            None,
            stuck.metric_type(),
        )?)?;
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Times that the breaker fired, by its rule and whether the revision was taken \
                    out or no other could serve";
        let mut trips = encoder.encode_descriptor("breaker_trips", help, None, kind)?;
        for (rule, outcome, count) in self.0.trips.counts() {
            ConstCounter::new(count)
                .encode(trips.encode_family(&[("rule", rule), ("outcome", outcome)])?)?;
        }
        self.encode_counters(
            encoder,
            "revision_requests",
            "Requests that a revision worked on",
            |revision| revision.requests,
        )?;
        let help = "Requests that failed by a revision's fault";
        self.encode_counters(encoder, "revision_failures", help, |revision| {
            revision.failures
        })?;
        self.encode_guest_seconds(encoder)?;
        let shadow = |count: fn(&Counts) -> u64| {
            move |revision: &RevisionStatus| revision.agreement.as_ref().map(count)
        };
        self.encode_counters(
            encoder,
            "shadow_frames",
            "Frames that a shadow and the active revision both saw",
            shadow(|counts| counts.frames),
        )?;
        let help =
            "Frames of a shadow's share that it did not see, for want of a worker or of memory";
        self.encode_counters(
            encoder,
            "shadow_skipped",
            help,
            shadow(|counts| counts.skipped),
        )?;
        self.encode_counters(
            encoder,
            "shadow_failed",
            "Frames on which a shadow failed",
            shadow(|counts| counts.failed),
        )?;
        self.encode_counters(
            encoder,
            "shadow_faces",
            "Faces that either saw",
            shadow(|counts| counts.faces),
        )?;
        self.encode_counters(
            encoder,
            "shadow_same_face",
            "Faces that both saw",
            shadow(|counts| counts.same_face),
        )?;
        self.encode_counters(
            encoder,
            "shadow_only_active",
            "Faces that only the active revision saw",
            shadow(|counts| counts.only_active),
        )?;
        self.encode_counters(
            encoder,
            "shadow_only_shadow",
            "Faces that only the shadow saw",
            shadow(|counts| counts.only_shadow),
        )?;
        let help = "Faces that both saw and to which both gave the same name, or none";
        self.encode_counters(
            encoder,
            "shadow_same_identity",
            help,
            shadow(|counts| counts.same_identity),
        )
    }
}
