//! Keyed kinds: a lock, or a number of permits, for each key of one object.
//!
//! `keyed` is the state machine, `entries` the table of keys, `look` the reports of an object, and `faces`
//! defines the two kinds.

pub(crate) mod entries;
pub(crate) mod faces;
pub(crate) mod keyed;
pub(crate) mod look;

pub use faces::{KeyedLock, KeyedSemaphore, OneAKey, SeveralAKey};
pub use keyed::{Face, Keyed};

#[cfg(test)]
mod tests;
