//! Metrics of sessions and of the receivers of their events.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use rostro_service::Service;
use rostro_service::types::{ReceiverState, ReceiverStatus};

/// Metrics of sessions and receivers. No label names a person, a stream or a session.
#[derive(Debug)]
pub(super) struct SessionsCollector {
    open: usize,
    ended: usize,
    receivers: Vec<ReceiverStatus>,
}

impl SessionsCollector {
    pub(super) fn of(service: &Service) -> Self {
        let (open, ended) = service.sessions().counts();
        Self {
            open,
            ended,
            receivers: service.receivers(),
        }
    }
}

/// A metric of each receiver.
struct ReceiverMetric {
    name: &'static str,
    help: &'static str,
    value: fn(&ReceiverStatus) -> u64,
}

impl ReceiverMetric {
    fn encode<M: EncodeMetric>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        receivers: &[ReceiverStatus],
        metric: impl Fn(u64) -> M,
    ) -> fmt::Result {
        let kind = metric(0).metric_type();
        let mut family = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for receiver in receivers {
            let labels = [("receiver", receiver.name.as_str())];
            metric((self.value)(receiver)).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn gauge(value: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

impl Collector for SessionsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Sessions that are kept, by state";
        let mut sessions =
            encoder.encode_descriptor("sessions", help, None, gauge(0).metric_type())?;
        for (state, count) in [("open", self.open), ("ended", self.ended)] {
            gauge(count).encode(sessions.encode_family(&[("state", state)])?)?;
        }
        if self.receivers.is_empty() {
            return Ok(());
        }
        let up = ReceiverMetric {
            name: "delivery_up",
            help: "Whether the last attempt to deliver events to a receiver succeeded",
            value: |receiver| u64::from(receiver.state == ReceiverState::Working),
        };
        let waiting = ReceiverMetric {
            name: "delivery_waiting",
            help: "Events of sessions that a receiver has not received, at most",
            value: |receiver| receiver.waiting,
        };
        for metric in [up, waiting] {
            metric.encode(&mut encoder, &self.receivers, |value| {
                gauge(usize::try_from(value).unwrap_or(usize::MAX))
            })?;
        }
        let delivered = ReceiverMetric {
            name: "deliveries",
            help: "Events that a receiver confirmed since the start",
            value: |receiver| receiver.delivered,
        };
        let failed = ReceiverMetric {
            name: "delivery_failures",
            help: "Attempts to deliver events to a receiver that failed since the start",
            value: |receiver| receiver.failed_attempts,
        };
        for metric in [delivered, failed] {
            metric.encode(&mut encoder, &self.receivers, ConstCounter::new)?;
        }
        Ok(())
    }
}
