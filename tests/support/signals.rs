//! The life and death of other processes.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// Kills a process with SIGKILL.
pub(crate) fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Sends a process a signal. One that has ended is left in peace.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // It fails only when the process is gone.
    let _ = kill_process(pid.expect("a process id is above zero"), signal);
}

/// Whether a process runs. One that has ended and whose parent did not ask does not.
pub(crate) fn is_running(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name stands in parentheses and may hold any character.
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
    !matches!(state, Some(Some('Z' | 'X')) | None)
}
