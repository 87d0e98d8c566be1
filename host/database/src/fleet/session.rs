//! Joining, renewing and listening, on a connection of its own.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object};
use rostro_gallery::ledger::RETENTION_MS;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::types::Json;
use uuid::Uuid;

use super::Fleet;
use super::admission::{Admission, Tolerance, Verdict, describe, read_others, refusal};
use super::clock::since_boot;
use super::leases::{LeaseList, LeaseRow, Watch, expel, milliseconds};
use super::position::{Epoch, Position};
use super::stale;
use crate::connection::{BackgroundTask, DatabaseError, StatementKind};

/// Key of the advisory lock that a service shares, and that a command has alone: "rostro" in ASCII.
pub(crate) const WRITER_LOCK: i64 = 0x726f_7374_726f;

/// Longest time between two renewals.
const MAX_PERIOD: Duration = Duration::from_secs(1);

/// Time between two attempts to connect.
const RETRY: Duration = Duration::from_millis(200);

/// Number of renewals between two removals of rows that no node needs.
const SWEEP_TURNS: u32 = 30;

/// The row of this node, which outlives a connection.
#[derive(Debug)]
struct Member {
    lease: Uuid,
    epoch: Epoch,
    /// Number to apply before the lease is published.
    target: u64,
    admission: Admission,
}

/// What a renewal found.
enum Renewal {
    Renewed,
    /// The lease was expelled or belongs to another epoch.
    Refused,
}

impl Fleet {
    /// Starts to join and to renew, on the thread of the connections, until the result is dropped.
    pub(crate) fn start(self: &Arc<Self>) -> BackgroundTask {
        let fleet = Arc::clone(self);
        self.database.spawn(async move {
            let mut member = None;
            // Connections at the last report: an outage is reported once.
            let mut reported = None;
            while !fleet.is_leaving.load(Ordering::SeqCst) {
                match fleet.run_session(&mut member).await {
                    Err(reason @ DatabaseError::DifferentSettings { .. }) => {
                        fleet.refuse(reason).await;
                        return;
                    }
                    Err(error) => {
                        let sessions = Some(fleet.observations.sessions());
                        if reported != sessions {
                            tracing::warn!("this node cannot renew its lease: {error}");
                            reported = sessions;
                        }
                    }
                    Ok(()) => {}
                }
                sleep(RETRY).await;
            }
        })
    }

    /// Renews the lease until the connection breaks.
    async fn run_session(&self, member: &mut Option<Member>) -> Result<(), DatabaseError> {
        let client = self.within(self.database.client()).await?;
        let client = Object::take(client);
        self.within(async {
            let row = client
                .query_one("SELECT pg_try_advisory_lock_shared($1)", &[&WRITER_LOCK])
                .await?;
            if !row.get::<_, bool>(0) {
                return Err(DatabaseError::InUse);
            }
            client.batch_execute("LISTEN rostro_change").await?;
            Ok(())
        })
        .await?;
        self.observations.count_session();
        // Notifications of the time without a connection are lost.
        self.changes.set();
        let mut position = self.position.subscribe();
        let mut turn = 0_u32;
        while !client.is_closed() && !self.is_leaving.load(Ordering::SeqCst) {
            let next = Instant::now() + self.period();
            if member.is_none() {
                *member = Some(self.within(self.join(&client)).await?);
                self.changes.set();
            }
            self.turn(&client, member).await?;
            if turn.is_multiple_of(SWEEP_TURNS) {
                self.within(sweep(&client)).await?;
            }
            turn = turn.wrapping_add(1);
            loop {
                tokio::select! {
                    () = self.database.notified() => {
                        self.changes.set();
                        if client.is_closed() {
                            break;
                        }
                    }
                    () = self.urgent.notified() => break,
                    _ = position.changed(), if !self.membership.is_published() => break,
                    () = tokio::time::sleep_until(next) => break,
                }
            }
            // The timer finds changes after a lost notification.
            self.changes.set();
        }
        Ok(())
    }

    /// Renews the lease, publishes it once everything is applied, and expels leases that ended.
    async fn turn(
        &self,
        client: &ClientWrapper,
        member: &mut Option<Member>,
    ) -> Result<(), DatabaseError> {
        let Some(own) = member else { return Ok(()) };
        let begun = since_boot();
        match self.within(self.renew(client, own)).await? {
            Renewal::Renewed => self.membership.extend(begun, self.options.lease),
            Renewal::Refused => {
                self.membership.resign();
                *member = None;
                tracing::warn!("this node lost its lease and joins again");
                return Ok(());
            }
        }
        let applied = self.position.number_in(&own.epoch);
        if !self.membership.is_published()
            && applied.is_some_and(|applied| applied >= own.target)
            && self.within(self.admit(client, own)).await?
        {
            self.membership.publish();
            tracing::info!(
                node = self.options.node,
                lease = %own.lease,
                change = own.target,
                "joined the fleet"
            );
        }
        self.within(self.watch_leases(client)).await
    }

    /// Compares the settings with those of the other nodes. Returns false if it must be repeated.
    async fn admit(&self, client: &ClientWrapper, own: &mut Member) -> Result<bool, DatabaseError> {
        let others = read_others(client, own.lease).await?;
        let tolerance = match (self.membership.count(), self.options.allows_different) {
            (0, false) => Tolerance::Nothing,
            (0, true) => Tolerance::Settings,
            _ => Tolerance::Everything,
        };
        let is_first = own.admission.is_new();
        let settings = self.options.settings.values();
        match own.admission.judge(&settings, others, tolerance) {
            Verdict::Admitted(different) => {
                if !different.is_empty() {
                    tracing::warn!("this node differs from {}", describe(&different));
                }
                Ok(true)
            }
            Verdict::Undecided => {
                if is_first {
                    tracing::info!(
                        "waiting for leases with other settings to be renewed or to end"
                    );
                }
                Ok(false)
            }
            Verdict::Refused(different) => Err(refusal(&different)),
        }
    }

    /// Writes a lease, and then reads the number up to which changes must be applied.
    async fn join(&self, client: &ClientWrapper) -> Result<Member, DatabaseError> {
        self.database.count(StatementKind::Lease);
        let lease = Uuid::now_v7();
        let length = i32::try_from(self.options.lease.as_millis()).unwrap_or(i32::MAX);
        let row = client
            .query_one(
                "INSERT INTO lease (lease, node, version, length_ms, applied, settings, \
                 is_draining, stale_ms, address) VALUES ($1, $2, $3, $4, 0, $5, $6, $7, $8) \
                 RETURNING epoch()",
                &[
                    &lease,
                    &self.options.node,
                    &env!("CARGO_PKG_VERSION"),
                    &length,
                    &Json(self.options.settings.values()),
                    &self.observations.is_draining(),
                    &self.stale_limit_ms(),
                    &self.options.address.as_deref().unwrap_or_default(),
                ],
            )
            .await?;
        let epoch = row.get::<_, Option<&str>>(0);
        let epoch: Epoch = epoch
            .ok_or(DatabaseError::Damaged("the row of the gallery"))?
            .into();
        let former = self.lock_own().replace(lease);
        self.lock_former().extend(former);
        self.forget_former_leases(client, &epoch).await?;
        // A transaction of its own: a change that it does not see was committed after the lease,
        // and is waited for.
        let row = client
            .query_opt(
                "SELECT counter FROM gallery WHERE epoch() = $1",
                &[&&*epoch],
            )
            .await?;
        let counter: i64 = row.ok_or(DatabaseError::OtherEpoch)?.get(0);
        Ok(Member {
            lease,
            epoch,
            target: u64::try_from(counter).unwrap_or_default(),
            admission: Admission::default(),
        })
    }

    async fn renew(
        &self,
        client: &ClientWrapper,
        member: &Member,
    ) -> Result<Renewal, DatabaseError> {
        self.database.count(StatementKind::Lease);
        let applied = self.position.number_in(&member.epoch);
        let statement = client
            .prepare_cached(
                "UPDATE lease SET renewed = renewed + 1, applied = $2, is_serving = $3, \
                 settings = $5, revisions = $6::text::jsonb, health = $9, is_ready = $10, \
                 renewed_at = now(), stale_number = $7, \
                 stale_ms = greatest($8, CASE WHEN $3 THEN allowed_ms ELSE 0 END) \
                 FROM (SELECT counter, stale_number AS latest_number, \
                       CASE stale_reads WHEN 'on' THEN stale_ms ELSE 0 END AS allowed_ms \
                       FROM gallery) AS gallery \
                 WHERE lease = $1 AND NOT is_expelled AND epoch() = $4 AND $2 <= counter \
                 RETURNING is_draining, counter, allowed_ms, latest_number",
            )
            .await?;
        let number = i64::try_from(applied.unwrap_or_default()).unwrap_or(i64::MAX);
        let revisions = self.lock_revisions().clone();
        let health = self.lock_health().clone();
        let renewed = client
            .query_opt(
                &statement,
                &[
                    &member.lease,
                    &number,
                    &self.membership.is_published(),
                    &&*member.epoch,
                    &Json(self.options.settings.values()),
                    &revisions,
                    &self.membership.stale_number(),
                    &self.stale_limit_ms(),
                    &health.report,
                    &health.is_ready,
                ],
            )
            .await?;
        let Some(row) = renewed else {
            return Ok(Renewal::Refused);
        };
        let latest = Position {
            epoch: Arc::clone(&member.epoch),
            number: u64::try_from(row.get::<_, i64>(1)).unwrap_or_default(),
        };
        self.observations.record_renewal(latest, row.get(0));
        self.adopt_stale_reads(milliseconds(row.get(2)), row.get(3));
        Ok(Renewal::Renewed)
    }

    /// Adopts the setting of stale reads, and reports at once that this node knows it.
    fn adopt_stale_reads(&self, limit: Duration, number: i64) {
        let is_new = self.membership.stale_number() != number;
        self.membership.adopt_stale_reads(limit, number);
        if is_new {
            match limit.is_zero() {
                true => tracing::info!("this node answers only under a lease"),
                false => tracing::warn!(
                    seconds = limit.as_secs(),
                    "an operator allows answers without a lease, which may name deleted people"
                ),
            }
            self.urgent.notify_one();
        }
    }

    /// Watches all leases, so that a deletion need not wait for a node that ended long ago.
    async fn watch_leases(&self, client: &ClientWrapper) -> Result<(), DatabaseError> {
        self.database.count(StatementKind::Lease);
        let list = LeaseList::read(client).await?;
        let now = since_boot();
        let ended = self.observe(&list, now);
        let others = list.leases.iter().filter(|row| !self.is_own(row.lease));
        let others = others.map(|row| row.health.clone());
        self.observations.record_others(others.collect());
        for lease in ended {
            self.expel(client, &lease, &list.epoch).await?;
        }
        if !list.is_settled {
            self.settle_epoch(client, &list, now).await?;
        }
        let ended = self.lock_watch().observe_stale_reads(&list, now);
        if !ended.leases.is_empty() {
            stale::forget(client, &ended.leases, &list.epoch).await?;
        }
        if ended.has_ended {
            stale::end(client, &list).await?;
        }
        Ok(())
    }

    /// Records that the row of the new lease says what this node believes, and not the former ones.
    async fn forget_former_leases(
        &self,
        client: &ClientWrapper,
        epoch: &Epoch,
    ) -> Result<(), DatabaseError> {
        let former = self.lock_former().clone();
        if !former.is_empty() {
            stale::forget(client, &former, epoch).await?;
            self.lock_former().clear();
        }
        Ok(())
    }

    /// Returns for how long this node believes that it may answer without a lease, for its row.
    fn stale_limit_ms(&self) -> i32 {
        let limit = self.membership.stale_limit().as_millis();
        i32::try_from(limit).unwrap_or(i32::MAX)
    }

    fn lock_watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn observe(&self, list: &LeaseList, now: Duration) -> Vec<LeaseRow> {
        self.lock_watch().observe(list, now)
    }

    pub(super) async fn expel(
        &self,
        client: &ClientWrapper,
        lease: &LeaseRow,
        epoch: &Epoch,
    ) -> Result<(), DatabaseError> {
        if expel(client, lease, epoch).await? {
            self.observations.count_expulsion();
            tracing::warn!(
                node = lease.node,
                lease = %lease.lease,
                "expelled a node that stopped renewing its lease"
            );
        }
        Ok(())
    }

    /// Marks the epoch as settled once every lease that a failover may have lost has ended.
    async fn settle_epoch(
        &self,
        client: &ClientWrapper,
        list: &LeaseList,
        now: Duration,
    ) -> Result<(), DatabaseError> {
        let lengths = list.leases.iter().map(|lease| lease.length);
        let longest = lengths.fold(self.options.lease, Duration::max);
        let has_ended = self.lock_watch().has_outlived(&list.epoch, longest, now);
        if has_ended {
            client
                .execute(
                    "UPDATE gallery SET settled_epoch = $1 WHERE epoch() = $1",
                    &[&&*list.epoch],
                )
                .await?;
        }
        Ok(())
    }

    /// Removes the lease of this node, which answers nothing any more.
    pub(crate) async fn leave(&self) -> Result<(), DatabaseError> {
        self.is_leaving.store(true, Ordering::SeqCst);
        self.membership.resign();
        let own = *self.lock_own();
        let Some(lease) = own else { return Ok(()) };
        let leases: Vec<Uuid> = self.lock_former().iter().copied().chain([lease]).collect();
        let client = self.within(self.database.client()).await?;
        self.within(async {
            client
                .execute("DELETE FROM lease WHERE lease = ANY ($1)", &[&leases])
                .await?;
            Ok(())
        })
        .await
    }

    /// Returns the time between two renewals.
    fn period(&self) -> Duration {
        (self.options.lease / 5).min(MAX_PERIOD)
    }

    /// Bounds a wait for the database, so that another connection is tried while the lease lasts.
    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, DatabaseError>>,
    ) -> Result<T, DatabaseError> {
        let limit = self.options.lease / 3;
        timeout(limit, work)
            .await
            .unwrap_or(Err(DatabaseError::Silent(limit)))
    }
}

/// Removes rows that no node needs: changes that all applied or that are an hour old, after which
/// a node loads anew, leases that ended, and tombstones that have expired by the server's clock.
async fn sweep(client: &ClientWrapper) -> Result<(), DatabaseError> {
    client
        .batch_execute(&format!(
            "DELETE FROM change WHERE made_at < now() - interval '1 hour' \
             OR number <= (SELECT min(applied) FROM lease WHERE NOT is_expelled); \
             DELETE FROM lease WHERE is_expelled AND stale_ms = 0 \
             AND renewed_at < now() - interval '1 hour'; \
             DELETE FROM tombstone \
             WHERE deleted_at < extract(epoch FROM now()) * 1000 - {RETENTION_MS}"
        ))
        .await?;
    Ok(())
}
