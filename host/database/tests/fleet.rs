//! Several nodes on one database, against a real server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../../../tests/e2e/postgres.rs"]
mod postgres;
mod support;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rostro_database::nodes::{self, NodeState};
use rostro_database::stale::{self, StaleState};
use rostro_database::{AuditLineOf, Database, FleetOptions, NodeSettings, PostgresStore};
use rostro_gallery::{BatchOutcome, GalleryError, PendingCause, Store};

use crate::postgres::OwnDatabase;
use crate::support::node::{LEASE, TestNode, eventually, migrated, person, sample};
use crate::support::{fleet, open};

#[test]
fn changes_reach_other_nodes() {
    let own = migrated();
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    one.enrol("alice");
    let time = eventually("alice is seen", || two.sees("alice"));
    assert!(time < Duration::from_millis(500), "{time:?}");
    let maths = "maths".parse().unwrap();
    one.store.add_to_group(&maths, &[person("alice")]).unwrap();
    eventually("the group is seen", || {
        two.store.groups().groups_of(&person("alice")) == [maths.clone()]
    });
    two.delete("alice", Duration::from_secs(5)).unwrap();
    assert!(!one.sees("alice"));
    eventually("the group is empty", || {
        one.store.groups().groups_of(&person("alice")).is_empty()
    });
}

/// The file of a person is removed on the nodes that have it before a deletion is answered.
#[test]
fn deletion_removes_files_everywhere() {
    let own = migrated();
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    one.enrol("alice");
    let file = one.folder.path().join("gallery/alice.csv");
    assert!(file.is_file());
    eventually("alice is seen", || two.sees("alice"));
    two.delete("alice", Duration::from_secs(5)).unwrap();
    assert!(!file.exists());
}

/// A node that does not apply changes is waited for while its lease is renewed.
#[test]
fn deletion_waits_for_paused_node() {
    let own = migrated();
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    one.enrol("alice");
    eventually("alice is seen", || two.sees("alice"));
    two.is_paused.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(200));
    let pending = one.delete("alice", 3 * LEASE).unwrap_err();
    assert_eq!(pending, ["two"]);
    assert!(two.store.lease().is_some() && two.sees("alice"));
    two.is_paused.store(false, Ordering::SeqCst);
    one.delete("alice", Duration::from_secs(5)).unwrap();
    assert!(!two.sees("alice"));
}

/// A dead node is waited for until its lease has ended, and one that left is not.
#[test]
fn deletion_waits_for_lease_of_dead_node() {
    let own = migrated();
    let one = TestNode::join(&own, "one");
    one.enrol("alice");
    let two = TestNode::join(&own, "two");
    two.store.leave();
    two.kill();
    one.delete("alice", LEASE / 2).unwrap();
    one.enrol("bob");
    TestNode::join(&own, "three").kill();
    let time = one.delete("bob", 10 * LEASE).unwrap();
    assert!(time > LEASE / 2 && time < 5 * LEASE, "{time:?}");
}

/// An expelled node answers nothing until it has joined again.
#[test]
fn expelled_node_joins_again() {
    let own = migrated();
    let node = TestNode::join(&own, "one");
    let before = node.store.lease().unwrap();
    own.execute("UPDATE rostro.lease SET is_expelled = true");
    eventually("a new lease", || {
        node.store.lease().is_some_and(|lease| lease != before)
    });
}

/// A node that misses rows of the feed compares all people.
#[test]
fn missing_rows_are_noticed() {
    let own = migrated();
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    one.enrol("alice");
    one.enrol("bob");
    eventually("both are seen", || two.sees("alice") && two.sees("bob"));
    two.is_paused.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(200));
    one.delete("alice", Duration::ZERO).unwrap_err();
    one.enrol("carol");
    own.execute("DELETE FROM rostro.change");
    two.is_paused.store(false, Ordering::SeqCst);
    eventually("carol is seen", || two.sees("carol"));
    assert!(!two.sees("alice") && two.sees("bob"));
}

/// In another epoch nodes load anew, and deletions wait for leases that a failover may have lost.
#[test]
fn new_epoch_is_loaded_and_settled() {
    let own = migrated();
    let node = TestNode::join(&own, "one");
    node.enrol("alice");
    let before = node.store.lease().unwrap();
    let restored = "BEGIN; DELETE FROM rostro.person; DELETE FROM rostro.change; \
                    UPDATE rostro.gallery SET generation = generation + 1, counter = 0; COMMIT";
    own.execute(restored);
    eventually("a new lease", || {
        node.store.lease().is_some_and(|lease| lease != before)
    });
    assert!(!node.sees("alice"));
    node.enrol("bob");
    let time = node.delete("bob", 10 * LEASE).unwrap();
    assert!(time > LEASE / 2, "{time:?}");
    node.enrol("carol");
    let again = node.delete("carol", 10 * LEASE).unwrap();
    assert!(again < time, "{again:?}, {time:?}");
}

/// Returns the options of a node with some settings.
fn with_settings(node: &str, settings: &[(&str, &str)]) -> FleetOptions {
    let settings = settings.iter();
    FleetOptions {
        settings: NodeSettings::new(
            settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
        ),
        ..fleet(node)
    }
}

/// A node with other settings than a live one leaves no lease behind.
#[test]
fn different_settings_refuse_join() {
    let own = migrated();
    let options = |node: &str, pack| with_settings(node, &[("lease", "1"), ("pack", pack)]);
    let _one = TestNode::try_join(&own, options("one", "mobile")).unwrap();
    let refused = TestNode::try_join(&own, options("two", "testing"));
    let error = refused.err().unwrap().to_string();
    assert!(
        error.contains("differs from one in pack (testing, there mobile);")
            && error.contains("--allow-different"),
        "{error}"
    );
    assert_eq!(nodes::list(&open(&own)).unwrap().nodes.len(), 1);
    let allowed = FleetOptions {
        allows_different: true,
        ..options("two", "testing")
    };
    let _two = TestNode::try_join(&own, allowed).unwrap();
    let list = nodes::list(&open(&own)).unwrap();
    assert_eq!(list.nodes.len(), 2);
    assert_eq!(list.different_keys(), BTreeSet::from(["pack"]));
}

/// Waiters need leases of one length.
#[test]
fn different_lease_is_never_allowed() {
    let own = migrated();
    let _one = TestNode::try_join(&own, with_settings("one", &[("lease", "1")])).unwrap();
    let options = FleetOptions {
        allows_different: true,
        ..with_settings("two", &[("lease", "2")])
    };
    let error = TestNode::try_join(&own, options).err().unwrap().to_string();
    assert!(error.contains("lease (2, there 1);"), "{error}");
}

/// A killed node does not keep its successor with other settings from starting.
#[test]
fn dead_node_does_not_refuse_settings() {
    let own = migrated();
    TestNode::try_join(&own, with_settings("one", &[("pack", "mobile")]))
        .unwrap()
        .kill();
    let begun = Instant::now();
    let next = TestNode::try_join(&own, with_settings("one", &[("pack", "testing")])).unwrap();
    let time = begun.elapsed();
    assert!(time > LEASE / 2 && time < 5 * LEASE, "{time:?}");
    assert_eq!(next.store.fleet_status().unwrap().expulsions, 1);
}

/// A node that served before an outage joins again although settings differ.
#[test]
fn rejoin_ignores_settings() {
    let own = migrated();
    let node = TestNode::try_join(&own, with_settings("one", &[("pack", "mobile")])).unwrap();
    let allowed = FleetOptions {
        allows_different: true,
        ..with_settings("two", &[("pack", "testing")])
    };
    let _other = TestNode::try_join(&own, allowed).unwrap();
    let before = node.store.lease().unwrap();
    own.execute("UPDATE rostro.lease SET is_expelled = true WHERE node = 'one'");
    eventually("a new lease", || {
        node.store.lease().is_some_and(|lease| lease != before)
    });
    assert_eq!(node.store.fleet_status().unwrap().joins, 2);
}

/// A changed setting reaches the row when the lease is renewed.
#[test]
fn renewal_writes_settings() {
    let own = migrated();
    let options = with_settings("one", &[("review", "off")]);
    let settings = options.settings.clone();
    let _node = TestNode::try_join(&own, options).unwrap();
    let database = open(&own);
    settings.set("review", "strict");
    eventually("the new value", || {
        let list = nodes::list(&database).unwrap();
        list.nodes
            .iter()
            .all(|node| node.settings["review"] == "strict")
    });
}

/// A drained node keeps its lease, even a new one, until an operator ends it.
#[test]
fn drained_node_keeps_lease() {
    let own = migrated();
    let node = TestNode::join(&own, "one");
    let database = open(&own);
    let state = || nodes::list(&database).unwrap().nodes.pop().unwrap().state;
    let is_draining = || node.store.fleet_status().unwrap().is_draining;
    assert!(!is_draining());
    nodes::set_draining(&database, "one", true, UNRECORDED).unwrap();
    eventually("the drain", is_draining);
    assert_eq!(state(), NodeState::Draining);
    let before = node.store.lease().unwrap();
    own.execute("DELETE FROM rostro.lease");
    eventually("a new lease", || {
        node.store.lease().is_some_and(|lease| lease != before)
    });
    assert!(is_draining());
    nodes::set_draining(&database, "one", false, UNRECORDED).unwrap();
    eventually("the end of the drain", || !is_draining());
    eventually("a node that serves", || state() == NodeState::Serving);
    let error = nodes::set_draining(&database, "two", true, UNRECORDED).unwrap_err();
    assert!(error.to_string().contains("its nodes are one"), "{error}");
}

/// A node that does not apply changes lags behind.
#[test]
fn paused_node_lags() {
    let own = migrated();
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    let lag = |node: &TestNode| node.store.fleet_status().unwrap().lag;
    two.is_paused.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(200));
    one.enrol("alice");
    one.enrol("bob");
    eventually("the lag", || lag(&two) == 2);
    let list = nodes::list(&open(&own)).unwrap();
    assert_eq!(list.lag(&list.nodes[1]), 2);
    two.is_paused.store(false, Ordering::SeqCst);
    eventually("no lag", || lag(&one) == 0 && lag(&two) == 0);
}

/// Returns whether stale reads are on, as operators see it.
fn stale_state(database: &Database) -> StaleState {
    nodes::list(database).unwrap().stale_reads.state
}

/// Expels a node and keeps it from joining again, as a lost connection does.
fn cut_off(own: &OwnDatabase, name: &str) {
    // The trigger locks the table, and the update must not hold a row then.
    let statements = format!(
        "CREATE FUNCTION rostro.refuse() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE 'cut off'; END $$; \
         CREATE TRIGGER cut BEFORE INSERT ON rostro.lease FOR EACH ROW \
         WHEN (NEW.node = '{name}') EXECUTE FUNCTION rostro.refuse(); \
         UPDATE rostro.lease SET is_expelled = true WHERE node = '{name}'"
    );
    own.execute(&statements);
}

/// Leaves no line in the audit log.
const UNRECORDED: AuditLineOf<'static> = &|_| Vec::new();

const HOUR: Duration = Duration::from_secs(3600);
const SECONDS: Duration = Duration::from_secs(10);

/// Changes are made and not promised while nodes may answer without a lease.
#[test]
fn stale_reads_refuse_promises() {
    let own = migrated();
    let database = open(&own);
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    one.enrol("alice");
    one.delete("alice", SECONDS).unwrap();
    assert!(two.store.stale_age().is_none());
    stale::turn_on(&database, HOUR, UNRECORDED).unwrap();
    eventually("both know it", || {
        one.store.stale_age().is_some() && two.store.stale_age().is_some()
    });
    one.enrol("bob");
    eventually("bob is seen", || two.sees("bob"));
    let deletion = one.store.delete_person(&person("bob")).unwrap();
    one.store.acknowledge(deletion.number);
    let pending = one
        .store
        .wait_applied(&deletion.shared, Instant::now() + SECONDS)
        .unwrap_err();
    assert_eq!(pending.cause, PendingCause::StaleReaders);
    assert!(!two.sees("bob"), "live nodes are waited for");
    let (setting, nodes) = stale::turn_off(&database, SECONDS, UNRECORDED).unwrap();
    assert_eq!((setting.state, nodes), (StaleState::Off, Vec::new()));
    assert!(one.store.stale_age().is_none() && two.store.stale_age().is_none());
    one.delete("bob", SECONDS).unwrap();
}

/// A node that was cut off keeps others from promising until it has joined again.
#[test]
fn stale_reads_end_with_rejoin() {
    let own = migrated();
    let database = open(&own);
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    one.enrol("alice");
    stale::turn_on(&database, HOUR, UNRECORDED).unwrap();
    eventually("two knows it", || two.store.stale_age().is_some());
    cut_off(&own, "two");
    eventually("no lease", || two.store.lease().is_none());
    assert!(two.store.stale_age().is_some());
    let (setting, nodes) = stale::turn_off(&database, 2 * LEASE, UNRECORDED).unwrap();
    assert_eq!(setting.state, StaleState::Ending);
    assert_eq!(nodes, ["two"]);
    assert!(two.store.stale_age().is_some());
    assert_eq!(one.delete("alice", LEASE).unwrap_err(), ["two"]);
    own.execute("DROP TRIGGER cut ON rostro.lease");
    eventually("the end", || stale_state(&database) == StaleState::Off);
    assert!(two.store.stale_age().is_none());
    one.delete("alice", SECONDS).unwrap();
}

/// A node that never returns ends stale reads by its own clock, and the others wait for longer.
#[test]
fn stale_reads_end_after_limit() {
    let own = migrated();
    let database = open(&own);
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    let limit = 4 * LEASE;
    stale::turn_on(&database, limit, UNRECORDED).unwrap();
    eventually("two knows it", || two.store.stale_age().is_some());
    cut_off(&own, "two");
    stale::turn_off(&database, Duration::ZERO, UNRECORDED).unwrap();
    let begun = Instant::now();
    while stale_state(&database) != StaleState::Off {
        assert!(begun.elapsed() < 3 * limit);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(two.store.stale_age().is_none());
    assert!(begun.elapsed() > limit, "{:?}", begun.elapsed());
    one.enrol("alice");
    one.delete("alice", SECONDS).unwrap();
}

/// A node that lacks answered deletions may not begin to answer without a lease.
#[test]
fn stale_reads_begin_under_lease() {
    let own = migrated();
    let database = open(&own);
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    one.enrol("alice");
    eventually("alice is seen", || two.sees("alice"));
    two.is_paused.store(true, Ordering::SeqCst);
    cut_off(&own, "two");
    eventually("no lease", || two.store.lease().is_none());
    one.delete("alice", SECONDS).unwrap();
    stale::turn_on(&database, HOUR, UNRECORDED).unwrap();
    eventually("one knows it", || one.store.stale_age().is_some());
    own.execute("DROP TRIGGER cut ON rostro.lease");
    std::thread::sleep(2 * LEASE);
    assert!(two.sees("alice") && two.store.stale_age().is_none());
    two.is_paused.store(false, Ordering::SeqCst);
    eventually("two knows it", || two.store.stale_age().is_some());
    assert!(!two.sees("alice"));
}

/// Leases that a failover lost have no row, so that their end is waited for.
#[test]
fn stale_reads_outlast_failover() {
    let own = migrated();
    let database = open(&own);
    let node = TestNode::join(&own, "one");
    stale::turn_on(&database, 3 * LEASE, UNRECORDED).unwrap();
    eventually("the node knows it", || node.store.stale_age().is_some());
    let before = node.store.lease().unwrap();
    let raise = "UPDATE rostro.gallery SET generation = generation + 1";
    own.execute(raise);
    eventually("a new lease", || {
        node.store.lease().is_some_and(|lease| lease != before)
    });
    let begun = Instant::now();
    let (setting, _) = stale::turn_off(&database, LEASE, UNRECORDED).unwrap();
    assert_eq!(setting.state, StaleState::Ending);
    eventually("the end", || stale_state(&database) == StaleState::Off);
    assert!(begun.elapsed() > 3 * LEASE, "{:?}", begun.elapsed());
}

/// The limit of nodes that may not know another one counts until stale reads have ended.
#[test]
fn stale_limit_shrinks_after_end() {
    let own = migrated();
    let database = open(&own);
    let limit = |seconds| {
        let setting = stale::turn_on(&database, Duration::from_secs(seconds), UNRECORDED).unwrap();
        setting.limit.as_secs()
    };
    assert_eq!((limit(60), limit(30), limit(90)), (60, 60, 90));
    let (setting, _) = stale::turn_off(&database, Duration::ZERO, UNRECORDED).unwrap();
    assert_eq!(setting.state, StaleState::Off);
    assert_eq!(limit(30), 30);
}

#[test]
fn ids_differ_by_more_than_case() {
    let own = migrated();
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    one.enrol("alice");
    let refused = two.store.replace(&person("ALICE"), &[sample()]);
    assert!(matches!(refused, Err(GalleryError::IdTaken)), "{refused:?}");
    two.enrol("alice");
    // An import stores people in batches.
    let samples = [sample()];
    let (taken, bob) = (person("ALICE"), person("bob"));
    let batch = [(&taken, samples.as_slice()), (&bob, samples.as_slice())];
    let outcomes = two.store.replace_all(&batch).outcomes;
    assert_eq!(outcomes[0], BatchOutcome::IdTaken);
    assert!(
        matches!(outcomes[1], BatchOutcome::Stored(_)),
        "{outcomes:?}"
    );
    let only = two.store.replace_all(&batch[..1]);
    assert_eq!(only.outcomes, [BatchOutcome::IdTaken]);
    assert!(only.failure.is_none() && two.store.read(&taken).unwrap().is_none());
}

/// A command has the database alone.
#[test]
fn command_excludes_nodes() {
    let own = migrated();
    let node = TestNode::join(&own, "one");
    let refused = PostgresStore::open_alone(open(&own), &Instant::now().into());
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("stop it first"), "{error}");
    node.store.leave();
    drop(node);
    let begun = Instant::now();
    while PostgresStore::open_alone(open(&own), &Instant::now().into()).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

/// A node may read a person who was enrolled again while it applies the deletion before that. The
/// next deletion must reach it, although it saw no row with the new key.
#[test]
fn person_read_early_is_deleted() {
    let own = migrated();
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    one.enrol("alice");
    eventually("alice is seen", || two.sees("alice"));
    two.is_paused.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(200));
    let alice = person("alice");
    one.store.delete_person(&alice).unwrap();
    assert!(two.store.rescan().unwrap().deleted.contains(&alice));
    one.store.replace(&alice, &[sample()]).unwrap();
    assert!(two.store.read(&alice).unwrap().is_some());
    two.store.acknowledge_rescan();
    one.store.delete_person(&alice).unwrap();
    assert!(two.store.rescan().unwrap().deleted.contains(&alice));
}

/// A deletion of a person who is not stored ends memberships on every node.
#[test]
fn deletion_ends_memberships_everywhere() {
    let own = migrated();
    let (one, two) = (TestNode::join(&own, "one"), TestNode::join(&own, "two"));
    let door = "door".parse().unwrap();
    one.store.add_to_group(&door, &[person("alice")]).unwrap();
    let is_member = |node: &TestNode| !node.store.groups().groups_of(&person("alice")).is_empty();
    eventually("the member is seen", || is_member(&two));
    one.delete("alice", Duration::from_secs(5)).unwrap();
    assert!(!is_member(&one) && !is_member(&two));
}

/// Tombstones are removed after 400 days, as in a folder.
#[test]
fn expired_tombstones_are_removed() {
    let own = migrated();
    let insert = "INSERT INTO rostro.tombstone (gallery, mac, number, deleted_at) \
                  SELECT id, sha256(days::text::bytea), 1, \
                  (extract(epoch FROM now() - days * interval '1 day') * 1000)::bigint \
                  FROM rostro.gallery, unnest('{1, 399, 401}'::int[]) days";
    own.execute(insert);
    let _node = TestNode::join(&own, "one");
    let count = "SELECT count(*) FROM rostro.tombstone";
    eventually("the removal", || own.query(count) == "2");
}
