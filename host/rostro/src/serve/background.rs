//! Periodic work next to the requests.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rostro_common::shutdown::Shutdown;
use rostro_service::Service;
use rostro_service::audit::Audit;
use rostro_service::deployment::Deployment;
use rostro_service::people::{PendingPeople, People};

/// Longest time between two looks for changes of other programs.
const SCAN_PERIOD: Duration = Duration::from_secs(2);

/// Applies changes of other nodes, and files that another program writes into the gallery. Renews
/// the locks of replaced folders.
pub(super) async fn follow_changes(
    people: Weak<People>,
    deployment: Weak<Deployment>,
    shutdown: Shutdown,
) {
    let pending = Arc::new(Mutex::new(PendingPeople::default()));
    let mut failed = false;
    loop {
        let (Some(people), Some(deployment)) = (people.upgrade(), deployment.upgrade()) else {
            return;
        };
        if shutdown.has_begun() {
            return;
        }
        let pending = Arc::clone(&pending);
        let scan = tokio::task::spawn_blocking(move || {
            people.wait_for_changes(SCAN_PERIOD);
            deployment.check_lock();
            deployment.follow(&mut pending.lock().unwrap_or_else(PoisonError::into_inner))
        });
        // A panic in one scan is a bug, and must not end the later ones.
        let Ok(result) = scan.await else {
            continue;
        };
        match &result {
            Ok(0) => {}
            Ok(people) => tracing::info!(people, "loaded changes of other programs"),
            Err(error) if !failed => {
                tracing::warn!("cannot look for changes of other programs: {error}")
            }
            Err(_) => {}
        }
        failed = result.is_err();
    }
}

/// Writes back removed keys of the audit log each minute, and removes expired lines once a day.
pub(super) async fn maintain_audit_log(deployment: Arc<Deployment>) {
    loop {
        for _ in 0..24 * 60 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            run_on_audit_log(&deployment, Audit::write_back_keys).await;
        }
        run_on_audit_log(&deployment, Audit::remove_old).await;
    }
}

async fn run_on_audit_log(deployment: &Arc<Deployment>, work: fn(&Audit)) {
    let deployment = Arc::clone(deployment);
    if let Err(error) = tokio::task::spawn_blocking(move || work(deployment.audit())).await {
        tracing::error!("cannot maintain the audit log: {error}");
    }
}

/// Drops the memory of streams that must not be used any more, each second.
pub(super) async fn drop_outdated_streams(service: Weak<Service>) {
    while let Some(service) = service.upgrade() {
        service.drop_outdated_streams();
        drop(service);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Writes counts of sessions and deletes expired ones, every ten seconds.
pub(super) async fn maintain_sessions(service: Weak<Service>) {
    let mut failed = false;
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let Some(service) = service.upgrade() else {
            return;
        };
        let maintained = tokio::task::spawn_blocking(move || service.maintain_sessions()).await;
        let result = maintained.unwrap_or(Ok(()));
        if let Err(error) = &result
            && !failed
        {
            tracing::error!("cannot write the counts of sessions: {error}");
        }
        failed = result.is_err();
    }
}
