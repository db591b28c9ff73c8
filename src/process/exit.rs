//! `exit`: ends a child process in a limited time.
//!
//! An exit runs code of the program: handlers of `atexit`, destructors of thread-local values, and the flush of
//! standard output, which may be a full pipe. That code may never return, and a second exit would wait for the
//! first one.

use std::{process, thread, time::Duration};

use rustix::process::{Signal, getpid, kill_process};

/// The time limit for the code that an exit runs.
const EXIT_PATIENCE: Duration = Duration::from_secs(2);

/// Exits. If the code that the exit runs does not return in time, SIGKILL ends the process.
pub(crate) fn exit(code: i32) -> ! {
    let killer = thread::Builder::new().spawn(|| {
        thread::sleep(EXIT_PATIENCE);
        kill();
    });
    if killer.is_err() {
        kill();
    }
    process::exit(code)
}

/// Ends this process without any further code.
fn kill() {
    // A process may always signal itself.
    let _ = kill_process(getpid(), Signal::KILL);
}
