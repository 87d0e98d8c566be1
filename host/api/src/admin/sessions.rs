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
        let up = |receiver: &ReceiverStatus| u64::from(receiver.state == ReceiverState::Working);
        let gauges: [(&str, &str, &dyn Fn(&ReceiverStatus) -> u64); 2] = [
            (
                "delivery_up",
                "Whether the last attempt to deliver events to a receiver succeeded",
                &up,
            ),
            (
                "delivery_waiting",
                "Events of sessions that a receiver has not received, at most",
                &|receiver| receiver.waiting,
            ),
        ];
        for (name, help, value) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, gauge(0).metric_type())?;
            for receiver in &self.receivers {
                let value = usize::try_from(value(receiver)).unwrap_or(usize::MAX);
                gauge(value)
                    .encode(family.encode_family(&[("receiver", receiver.name.as_str())])?)?;
            }
        }
        let counters: [(&str, &str, &dyn Fn(&ReceiverStatus) -> u64); 2] = [
            (
                "deliveries",
                "Events that a receiver confirmed since the start",
                &|receiver| receiver.delivered,
            ),
            (
                "delivery_failures",
                "Attempts to deliver events to a receiver that failed since the start",
                &|receiver| receiver.failed_attempts,
            ),
        ];
        for (name, help, value) in counters {
            let kind = ConstCounter::new(0_u64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for receiver in &self.receivers {
                ConstCounter::new(value(receiver))
                    .encode(family.encode_family(&[("receiver", receiver.name.as_str())])?)?;
            }
        }
        Ok(())
    }
}
