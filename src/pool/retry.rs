//! `Retry`: when a task that has failed runs again.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use lockkeeper_protocol::operations::RetryRule;

/// When a task of a pool that has failed runs again.
///
/// A task runs again after the death of its worker, and after an output that it calls
/// [transient](crate::Task::is_transient); after a panic only with [`Self::panics`]. It does not run again after its
/// [time limit](crate::builders::PoolBuilder::time_limit) or a [kill](crate::TaskHandle::kill). An attempt that failed
/// may have had effects, so only a task that may run twice should have retries; it asks [`attempt`] which attempt
/// it is.
///
/// Each attempt is followed by a pause: a random time between a half and the whole of 100 ms, doubled with each
/// further attempt, up to 10 s. Other tasks run meanwhile.
///
/// ```no_run
/// use std::time::Duration;
///
/// use lockkeeper::{Pool, Retry};
///
/// # async fn start() -> Result<(), lockkeeper::StartError> {
/// // At most five attempts, also after panics, with pauses from one second to a minute.
/// let (first, longest) = (Duration::from_secs(1), Duration::from_secs(60));
/// let retry = Retry::attempts(5).panics().backoff(first, longest);
/// let pool = Pool::builder(4).retry(retry).start().await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry(pub(super) RetryRule);

impl Retry {
    /// Runs each task at most that many times, with the first time; 0 means 1.
    #[must_use]
    pub const fn attempts(most: u32) -> Self {
        Self(RetryRule {
            attempts: if most == 0 { 1 } else { most },
            deaths: true,
            panics: false,
            transient: true,
            first_pause: 100_000,
            longest_pause: 10_000_000,
        })
    }

    /// Runs a task again after a panic, too.
    #[must_use]
    pub const fn panics(mut self) -> Self {
        self.0.panics = true;
        self
    }

    /// Does not run a task again whose worker died.
    #[must_use]
    pub const fn not_deaths(mut self) -> Self {
        self.0.deaths = false;
        self
    }

    /// Sets the greatest pause after the first attempt, and the greatest one of all. Without a first pause a task runs
    /// again at once, ahead of all waiting tasks.
    #[must_use]
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.0.first_pause = micros(first);
        self.0.longest_pause = micros(longest);
        self
    }
}

/// The microseconds of a time, at most as many as a number has.
pub(super) const fn micros(time: Duration) -> u64 {
    match time.as_secs().checked_mul(1_000_000) {
        Some(micros) => micros.saturating_add(time.subsec_micros() as u64),
        None => u64::MAX,
    }
}

/// The attempt of the task that this process runs.
static ATTEMPT: AtomicU32 = AtomicU32::new(1);

/// Returns how often the task that this worker process runs was begun, with this time: 1 in the first attempt, and
/// outside of workers. See [`Retry`].
#[must_use]
pub fn attempt() -> u32 {
    ATTEMPT.load(Ordering::Relaxed)
}

/// Records the attempt of the task that this worker begins.
pub(super) fn begin_attempt(attempt: u32) {
    ATTEMPT.store(attempt, Ordering::Relaxed);
}
