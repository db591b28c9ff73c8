//! Events through `tracing` and numbers through `metrics`, for managers, sessions, clients and pools.
//!
//! Each function is named after the fact that it records. docs/OBSERVING.md lists all events and numbers,
//! and a test compares the list with the code. It may import `address`, `error`, the protocol, and the
//! counters of the actors.
//!
//! Invariant: no other folder imports `tracing` or `metrics`, and without a subscriber nothing is
//! formatted.

pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod manager;
pub(crate) mod metrics;
pub(crate) mod pool;
pub(crate) mod session;
mod target;
