//! The attacked manager: a separate process, whose memory and standard error are checked.

use std::{fs, path::PathBuf};

use lockkeeper::Manager;
use lockkeeper_test_support::report;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::budget;

/// The configuration of the manager.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ManagerConfig {
    pub(crate) address: String,
    /// The file for its standard error.
    pub(crate) errors: PathBuf,
}

/// Serves until SIGTERM, and then ends normally.
pub(crate) async fn manager(ManagerConfig { address, errors }: ManagerConfig) {
    let errors = fs::File::create(errors).expect("the folder exists");
    rustix::stdio::dup2_stderr(&errors).expect("the file is open");
    let builder = Manager::builder().address(address);
    let manager = builder.limits(budget::limits()).start().await;
    let manager = manager.expect("the address is free");
    let mut end = signal(SignalKind::terminate()).expect("the system has signals");
    report("serves");
    end.recv().await;
    manager.shutdown().await;
    report("ended");
}

/// Returns the peak memory of a process in bytes, if it is running.
pub(crate) fn peak_bytes(pid: u32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: usize = peak.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Returns the share of processor time that a process received while it was runnable, from 0 to 1. It is
/// lower if other processes used the processors, and 1 if the system does not report it.
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
