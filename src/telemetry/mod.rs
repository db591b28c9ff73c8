//! Events through `tracing` and numbers through `metrics`, for managers, sessions, clients and pools.
//!
//! Each function is named for the fact that it records. docs/OBSERVING.md lists all of them, and a test
//! holds it against the code. Invariant: `tracing` and `metrics` are named in this folder alone, and
//! nothing is formatted here while there is no subscriber.

pub(crate) mod call;
pub(crate) mod client;
pub(crate) mod manager;
pub(crate) mod metrics;
pub(crate) mod pool;
pub(crate) mod session;
mod target;
