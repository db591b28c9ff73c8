//! The manager under attack: a process of its own, whose memory and last words are looked at.

use std::{fs, path::PathBuf};

use lockkeeper::Manager;
use lockkeeper_test_support::report;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::budget;

/// What the manager is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ManagerConfig {
    pub(crate) address: String,
    /// Where its standard error goes.
    pub(crate) errors: PathBuf,
}

/// Serves until SIGTERM, and ends as any manager does.
pub(crate) async fn manager(ManagerConfig { address, errors }: ManagerConfig) {
    let errors = fs::File::create(errors).expect("the folder is there");
    rustix::stdio::dup2_stderr(&errors).expect("it is open");
    let builder = Manager::builder().address(address);
    let manager = builder.limits(budget::limits()).start().await;
    let manager = manager.expect("the address is free");
    let mut end = signal(SignalKind::terminate()).expect("the system has signals");
    report("serves");
    end.recv().await;
    manager.shutdown().await;
    report("ended");
}

/// The most memory that a process has had so far, in bytes, if it runs.
pub(crate) fn peak_bytes(pid: u32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: usize = peak.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

/// How much of the processor time that a process could have used it has had, from 0 to 1. It has had less
/// where other processes used the processors; 1 if the system does not tell.
pub(crate) fn processor_share(pid: u32) -> f64 {
    let (mut ran, mut waited) = (0, 0);
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    for thread in threads.into_iter().flatten().flatten() {
        let stat = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        let mut times = stat
            .split_whitespace()
            .map(|time| time.parse().unwrap_or(0));
        ran += times.next().unwrap_or(0u64);
        waited += times.next().unwrap_or(0);
    }
    if ran == 0 {
        return 1.0;
    }
    ran as f64 / (ran + waited) as f64
}
