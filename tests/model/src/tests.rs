use super::*;

const PAIR: Protocol = Protocol {
    serving: &[NodeId::A, NodeId::B],
    waiting: &[NodeId::A],
    changes: &[Change::Deletion],
    drift: 1,
    failover: Failover::Never,
    has_pruning: false,
    has_early_check: false,
    without: None,
};
const CHANGES: Protocol = Protocol {
    serving: &[NodeId::B],
    changes: &[Change::Deletion, Change::Activation],
    has_pruning: true,
    ..PAIR
};
const FAIL: Protocol = Protocol {
    failover: Failover::Asynchronous,
    has_pruning: false,
    ..CHANGES
};

fn run(name: &str, p: Protocol) {
    let t = std::time::Instant::now();
    let s = search(&p, |s| s.request == Request::Broken);
    println!("{name}: {} states {:?} path {:?}", s.states, t.elapsed(), s.path.as_ref().map(Vec::len));
    for a in s.path.into_iter().flatten() { println!("   {a}"); }
}
#[test]
fn size() { println!("{}", size_of::<State>()); }
#[test]
fn changes() { run("changes", CHANGES); }
#[test]
fn pair() { run("pair", PAIR); }
#[test]
fn fail() { run("fail", FAIL); }
use Safeguard::*;
const ALLS: [Safeguard; 19] = [Margin, LeaseFromRequest, WatchFromAnswer, WaitForLease, CompareBeforeExpelling, RefuseExpelled, LeaseBeforeCounter, ApplyBeforeServing, KeepNamesakes, NoteBeforeView, CheckAfterWork, SameIncarnation, CommitBeforeListing, ApplyBeforeAcknowledging, RepeatedChangeWaits, NodeEpoch, WaiterEpoch, SettleEpoch, NoticeGap];
fn faults(p: Protocol) {
    for s in ALLS {
        let t = std::time::Instant::now();
        let r = search(&Protocol { without: Some(s), ..p }, |s| s.request == Request::Broken);
        println!("{s:?}: {} states {:?} path {:?}", r.states, t.elapsed(), r.path.as_ref().map(Vec::len));
        if std::env::var("SHOW").is_ok() { for a in r.path.into_iter().flatten() { println!("   {a}"); } }
    }
}
#[test]
fn fchanges() { faults(CHANGES); }
#[test]
fn fpair() { faults(PAIR); }
#[test]
fn ffail() { faults(FAIL); }
#[test]
fn both() { run("both", Protocol { waiting: &[NodeId::A, NodeId::B], ..PAIR }); }
#[test]
fn three() { run("three", Protocol { serving: &[NodeId::A, NodeId::B, NodeId::C], ..PAIR }); }
#[test]
fn two_waiters() { run("two_waiters", Protocol { serving: &[NodeId::B], waiting: &[NodeId::A, NodeId::C], ..PAIR }); }
#[test]
fn sync_no_epoch() { run("sync_no_epoch", Protocol { failover: Failover::Synchronous, without: Some(NodeEpoch), ..FAIL}); 
run("sync_no_wepoch", Protocol { failover: Failover::Synchronous, without: Some(WaiterEpoch), ..FAIL}); 
run("sync_no_settle", Protocol { failover: Failover::Synchronous, without: Some(SettleEpoch), ..FAIL}); }
#[test]
fn early() { run("early", Protocol { has_early_check: true, without: Some(CheckAfterWork), ..PAIR});  run("early", Protocol { has_early_check: true, without: Some(CheckAfterWork), ..CHANGES}); }
