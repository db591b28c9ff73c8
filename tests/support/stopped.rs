//! Processes that stand still.

use std::fs;

use rustix::process::Signal;

use crate::{
    signals::{is_running, signal},
    until::until,
};

/// Stops a process with SIGSTOP. When this returns, none of its threads runs.
pub(crate) async fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    until("it has stopped", || async { is_stopped(pid) }).await;
    assert!(is_running(pid), "it is not dead");
}

/// Whether all threads of a process are stopped. Each is so on its own, some time after the signal.
fn is_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    threads.expect("it is there").flatten().all(|thread| {
        // One that has ended meanwhile runs no more.
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}
