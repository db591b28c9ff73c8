//! How many samples a contest takes, and how long each is.

use std::time::Duration;

/// The number and the length of the samples.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// The number of rounds that are kept.
    pub(crate) rounds: usize,
    /// The length of one sample.
    pub(crate) window: Duration,
}
