//! `PoolStatus`: what a pool has to do, and with how many workers.

/// The state of a pool at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// How many tasks wait for a worker.
    pub waiting: u64,
    /// How many tasks workers have, whether or not their outcomes are still waited for. Each worker runs the
    /// first of its own.
    pub running: u64,
    /// How many workers wait for a task.
    pub idle: u64,
    /// How many places have no worker, because none gets ready: the pool goes on trying, at least every 10
    /// seconds, unless workers have reported that they cannot work.
    pub empty: u64,
}
