//! The runtime that a test runs in, and the watchdog that ends a hung test.
//!
//! The watchdog is per test, not per binary. It aborts the process, so that a hung test fails the
//! run with its name instead of hanging the run.

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

/// The variables that set the length of a test that is as long as asked for.
const LENGTHS: [&str; 2] = ["LOCKKEEPER_CHAOS_SECONDS", "LOCKKEEPER_HOSTILE_SECONDS"];

/// How long a test may take: one minute. Where a variable sets the length of a test, that length and
/// two minutes.
fn time_limit() -> Duration {
    let seconds = LENGTHS.map(|name| env::var(name).ok()?.parse().ok());
    let seconds = seconds.into_iter().flatten().max();
    let minute = Duration::from_secs(60);
    seconds.map_or(minute, |seconds| minute * 2 + Duration::from_secs(seconds))
}

/// Runs a test on a runtime of two threads, under a watchdog.
///
/// # Panics
///
/// Panics when the system gives no runtime.
pub fn run<F: Future>(test: F) -> F::Output {
    let _watchdog = Watchdog::start();
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system gives a runtime")
        .block_on(test)
}

/// Aborts the process unless it is dropped in time.
#[derive(Debug)]
pub struct Watchdog {
    _sender: Sender<()>,
}

impl Watchdog {
    /// Watches the test on this thread, to which the harness gives the test's name.
    pub fn start() -> Self {
        let limit = time_limit();
        let (sender, dropped) = mpsc::channel::<()>();
        let test = thread::current().name().unwrap_or("a test").to_owned();
        thread::spawn(move || {
            if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // The harness captures what `eprintln!` prints until the test is over.
                let _ = writeln!(io::stderr(), "{test} took longer than {limit:?}");
                process::abort();
            }
        });
        Self { _sender: sender }
    }
}
