//! Kills, stops and inspects other processes.

use std::fs::{self, DirEntry};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::until::until;

/// Kills a process with SIGKILL.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Sends a signal to a process. Does nothing when the process has ended.
///
/// # Panics
///
/// Panics when `pid` is not a process id.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // This fails only when the process has ended.
    let _ = kill_process(pid.expect("a process id is above zero"), signal);
}

/// Sends a signal to all processes of the group that `pid` leads.
///
/// # Panics
///
/// Panics when `pid` is not a process id.
pub fn signal_group(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // This fails only when all of them have ended.
    let _ = kill_process_group(pid.expect("a process id is above zero"), signal);
}

/// Returns whether a process is running. A zombie is not.
pub fn is_running(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name is in parentheses, and may contain any character.
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, Some(Some('Z' | 'X')) | None)
}

/// Returns the children of a process, including zombies.
///
/// # Panics
///
/// Panics when `/proc` cannot be read.
pub fn children_of(pid: u32) -> Vec<u32> {
    let pid = pid.to_string();
    let child = |entry: DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name is in parentheses. The state and the parent follow it.
        let (_, rest) = stat.rsplit_once(") ")?;
        let is_child = rest.split(' ').nth(1) == Some(&pid);
        is_child.then(|| entry.file_name().to_str()?.parse().ok())?
    };
    let processes = fs::read_dir("/proc").expect("the system has /proc");
    processes.flatten().filter_map(child).collect()
}

/// Stops a process with SIGSTOP. When this returns, none of its threads runs.
///
/// # Panics
///
/// Panics when the process has ended.
pub async fn stop(pid: u32) {
    signal(pid, Signal::STOP);
    until("the process has stopped", || async { is_stopped(pid) }).await;
    assert!(is_running(pid), "process {pid} has ended");
}

/// Returns whether all threads of a process are stopped. Each thread stops separately, some time
/// after the signal.
fn is_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    threads
        .expect("the process exists")
        .flatten()
        .all(|thread| {
            // A thread that has ended meanwhile is not running.
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ")
                .is_none_or(|(_, rest)| rest.starts_with('T'))
        })
}
