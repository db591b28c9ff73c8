//! Threads that end alone, by a raw system call or because a filter of system calls (seccomp) kills them. No other
//! code of the process runs then, and the process goes on with its other threads.
//!
//! Without `/proc` no such end is noticed.

use std::{fs, future::pending, time::Duration};

use rustix::process::Pid;

use crate::process::within::within;

/// The interval between two checks of a thread.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Waits until the first thread of a child has ended while others go on.
pub(super) async fn first_has_ended(child: Option<u32>) {
    let Some(child) = child else {
        return pending().await;
    };
    let mut looks = 0;
    // While a process ends, its first thread may have ended before the others, so one look is not enough.
    while looks < 2 {
        let _ = within(CHECK_INTERVAL, pending::<()>()).await;
        looks = if is_without_first_thread(child) {
            looks + 1
        } else {
            0
        };
    }
}

/// Returns whether the first thread of a process has ended, and it has others.
fn is_without_first_thread(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| lacks_first_thread(&stat).unwrap_or_default())
}

fn lacks_first_thread(stat: &str) -> Option<bool> {
    // The name is in parentheses, and may contain any character. The state is the first field behind it, and the
    // number of threads the eighteenth.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    let threads = fields.nth(16)?.parse::<u64>().ok()?;
    Some(state == "Z" && threads > 1)
}

/// Returns whether a thread of this process has ended.
pub(crate) fn has_ended(thread: Pid) -> bool {
    let is_there = |path: &str| fs::exists(path).unwrap_or(true);
    // Without /proc there is nothing to see.
    let path = format!("/proc/self/task/{}", thread.as_raw_nonzero());
    !is_there(&path) && fs::exists("/proc/self/task").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{process, thread, time::Instant};

    use rustix::thread::gettid;

    use super::*;

    #[test]
    fn only_a_process_without_its_first_thread_and_with_others_lacks_it() {
        let stat = |state: &str, threads: u32| {
            format!("7 (a) Z b) {state} 1 7 7 0 -1 64 1 0 0 0 1 2 0 0 20 0 {threads} 0 99 0 0")
        };
        assert_eq!(lacks_first_thread(&stat("Z", 2)), Some(true));
        assert_eq!(lacks_first_thread(&stat("Z", 1)), Some(false));
        assert_eq!(lacks_first_thread(&stat("S", 2)), Some(false));
        assert_eq!(lacks_first_thread("7 (a"), None);
        assert!(!is_without_first_thread(process::id()));
    }

    #[test]
    fn ended_threads_are_told_from_those_that_run() {
        let ended = thread::spawn(gettid).join().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !has_ended(ended) {
            assert!(Instant::now() < deadline, "it has not ended");
            thread::yield_now();
        }
        assert!(!has_ended(gettid()));
    }
}
