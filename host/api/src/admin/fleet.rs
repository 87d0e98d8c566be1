//! Metrics of a node that shares a database.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use rostro_service::types::FleetStatus;

/// Metrics of this node and of its database.
#[derive(Debug)]
pub(super) struct FleetCollector {
    pub status: FleetStatus,
    /// Number of answers without a lease.
    pub stale_answers: u64,
}

impl Collector for FleetCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = &self.status;
        let lag = i64::try_from(status.lag).unwrap_or(i64::MAX);
        for (name, help, value) in [
            (
                "fleet_lag_changes",
                "Changes in the database that this node has not applied, as of its last renewal",
                lag,
            ),
            (
                "fleet_lease_valid",
                "Whether the lease of this node is valid, so that it answers",
                i64::from(status.is_leased),
            ),
            (
                "fleet_stale_reads",
                "Whether an operator allows this node to recognise people without a lease",
                i64::from(status.may_be_stale),
            ),
        ] {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        let bytes = status.unsent_audit_bytes;
        for (name, help, unit, value) in [
            (
                "fleet_lease_age",
                "Time since the last renewal of the lease began",
                Unit::Seconds,
                status.lease_age.as_secs_f64(),
            ),
            (
                "audit_unsent",
                "Lines of the audit log that wait on this node for the database",
                Unit::Bytes,
                u32::try_from(bytes).map_or(f64::from(u32::MAX), f64::from),
            ),
        ] {
            let gauge = ConstGauge::new(value);
            let kind = gauge.metric_type();
            gauge.encode(encoder.encode_descriptor(name, help, Some(&unit), kind)?)?;
        }
        for (name, help, value) in [
            (
                "fleet_expulsions",
                "Leases of other nodes that this one expelled since the start",
                status.expulsions,
            ),
            (
                "fleet_joins",
                "Times that this node joined the fleet since the start",
                status.joins,
            ),
            (
                "fleet_stale_answers",
                "Recognitions that were answered without a lease since the start",
                self.stale_answers,
            ),
            (
                "database_reconnects",
                "Times that the connection which renews the lease was made again",
                status.reconnects,
            ),
            (
                "database_pool_waits",
                "Times that work found every connection in use and waited",
                status.database.pool_waits,
            ),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        self.encode_database(&mut encoder)
    }
}

impl FleetCollector {
    fn encode_database(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let database = &self.status.database;
        let kind = ConstGauge::new(0_i64).metric_type();
        let help = "Connections of the pool, by whether they are in use";
        let mut connections =
            encoder.encode_descriptor("database_connections", help, None, kind)?;
        for (state, count) in [("idle", database.idle), ("used", database.used)] {
            ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
                .encode(connections.encode_family(&[("state", state)])?)?;
        }
        let kind = ConstCounter::new(0_u64).metric_type();
        let help = "Statements by kind; those of a transaction count once";
        let mut statements = encoder.encode_descriptor("database_statements", help, None, kind)?;
        for (kind, count) in database.statements {
            ConstCounter::new(count).encode(statements.encode_family(&[("kind", kind)])?)?;
        }
        Ok(())
    }
}
