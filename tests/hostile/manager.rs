//! The manager under attack: a process of its own, whose memory and last words are looked at.

use std::{fs, path::PathBuf};

use lockkeeper::Manager;
use lockkeeper_test_support::report;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::budget;

/// What the manager is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Post {
    pub(crate) address: String,
    /// Where its standard error goes.
    pub(crate) errors: PathBuf,
}

/// Serves until SIGTERM, and ends as any manager does.
pub(crate) async fn manager(Post { address, errors }: Post) {
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
