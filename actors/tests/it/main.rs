//! The tests of the hosted kinds and of the actor that runs them, in one binary.
//!
//! The tests use no processes and no sockets. Kinds run on the bench, and some tests run real
//! actors.

mod condition;
mod host;
mod keyed_calls;
mod laws;
mod models;
mod rw_lock_waiters;
mod schedule;
mod seeds;
mod series;
mod stats;
mod stored;
mod surveys;
mod trust;
