//! What every end-to-end test runs in: a runtime of its own, and a watchdog.
//!
//! Knows nothing of the tests. A hung test does not hang the run: it aborts it, with its name.

use std::{
    env,
    future::Future,
    io::{self, Write},
    process,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use tokio::runtime::Builder;

/// How long a test may take: a minute, and for a test that is told how long to last, that and two
/// minutes more.
fn patience() -> Duration {
    let seconds = env::var("LOCKKEEPER_CHAOS_SECONDS").ok();
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    let minute = Duration::from_secs(60);
    seconds.map_or(minute, |seconds| minute * 2 + Duration::from_secs(seconds))
}

/// Runs a test on a runtime of two threads, under a watchdog.
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let _watchdog = Watchdog::start();
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime can be had")
        .block_on(test)
}

/// Ends the whole process when it is not dropped in time.
#[derive(Debug)]
pub(crate) struct Watchdog {
    _leash: Sender<()>,
}

impl Watchdog {
    /// Watches the test on this thread, which bears its name.
    pub(crate) fn start() -> Self {
        let patience = patience();
        let (leash, held) = mpsc::channel::<()>();
        let test = thread::current().name().unwrap_or("a test").to_owned();
        thread::spawn(move || {
            if held.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                // Not by a macro, whose words the harness would keep until the test is over.
                let _ = writeln!(io::stderr(), "{test} took longer than {patience:?}");
                process::abort();
            }
        });
        Self { _leash: leash }
    }
}
