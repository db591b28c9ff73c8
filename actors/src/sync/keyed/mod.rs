//! Keyed kinds: a lock, or a number of permits, for each key of one object.
//!
//! `keyed` is the state machine, `calls` and `entries` the tables of calls and keys, `look` the reports of an object, and
//! `variants` defines the two kinds.

pub(crate) mod calls;
pub(crate) mod entries;
pub(crate) mod keyed;
pub(crate) mod look;
pub(crate) mod variants;

pub use keyed::{Keyed, KeyedVariant};
pub use variants::{KeyedLock, KeyedSemaphore, ManyPermits, SinglePermit};

#[cfg(test)]
mod tests;
