//! The runtime of a test, and the watchdog that ends a hung test.
//!
//! Each test has its own watchdog. It aborts the process, so a hung test fails the run and prints
//! its name.

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

/// The environment variables that set the length of a long test.
const LENGTHS: [&str; 2] = ["LOCKKEEPER_CHAOS_SECONDS", "LOCKKEEPER_HOSTILE_SECONDS"];

/// Returns the time limit of a test: one minute, or two minutes more than the length that an
/// environment variable sets.
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

/// Aborts the process unless it is dropped within the time limit.
#[derive(Debug)]
pub struct Watchdog {
    _sender: Sender<()>,
}

impl Watchdog {
    /// Starts to watch the test on this thread. The name of the thread is that of the test.
    pub fn start() -> Self {
        let limit = time_limit();
        let (sender, dropped) = mpsc::channel::<()>();
        let test = thread::current().name().unwrap_or("a test").to_owned();
        thread::spawn(move || {
            if dropped.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                // The harness would capture the output of `eprintln!`.
                let _ = writeln!(io::stderr(), "{test} took longer than {limit:?}");
                process::abort();
            }
        });
        Self { _sender: sender }
    }
}
