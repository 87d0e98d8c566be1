//! `cargo xtask soak fleet`: three nodes on one database under load and faults.

#[path = "../fleet/mod.rs"]
mod hammer;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use self::hammer::{Length, Plan, outage};
use crate::Args;

const NODES: usize = 3;

/// Default of `serve --lease`.
const DEFAULT_LEASE: Duration = Duration::from_secs(5);

/// Loads the fleet. Two sequences of faults overlap.
pub(crate) fn run(args: &Args, folder: &Path) -> Result<()> {
    let clients = usize::from(args.connections).div_ceil(NODES);
    eprintln!(
        "── {} minutes of load and faults, {clients} connections to each of {NODES} nodes, seed {}",
        args.minutes, args.seed
    );
    let report = hammer::run(&Plan {
        seed: args.seed,
        nodes: NODES,
        lease: Duration::from_secs(2),
        clients,
        people: 32,
        calm: Duration::from_secs(8),
        sequences: 2,
        length: Length::Time(Duration::from_secs_f64(args.minutes * 60.0)),
        folder: folder.join("fleet"),
    });
    println!("\n{report}");
    ensure!(
        report.answered("enrolment") > 0 && report.answers_after_deletions() > 0,
        "no deletion was checked"
    );
    ensure!(
        report.answered_changes() > 0 && report.answers_after_changes() > 0,
        "no change of revisions was checked"
    );
    let folder = folder.join("fleet");
    ensure!(
        report.is_clean(),
        "promises were broken; the history and logs are in {}",
        folder.display()
    );
    eprintln!("── the soak passed");
    Ok(())
}

/// Takes the database away under load, without and with stale reads.
pub(crate) fn run_outage(args: &Args, seconds: u64, folder: &Path) -> Result<()> {
    eprintln!("── load of {NODES} nodes, without the database for {seconds} s");
    let run = |stale_reads| {
        let report = outage::run(&outage::Plan {
            seed: args.seed,
            nodes: NODES,
            lease: DEFAULT_LEASE,
            outage: Duration::from_secs(seconds),
            stale_reads,
            folder: folder.join("fleet"),
        });
        println!("\n{report}");
        report
    };
    run(false).assert_recovered();
    eprintln!("── the same with stale reads");
    run(true).assert_uninterrupted();
    eprintln!("── the soak passed");
    Ok(())
}
