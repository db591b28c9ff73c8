//! Keyed kinds: a lock, or some permits, for each of any number of keys in one object.
//!
//! `keyed` is the state machine, `entries` the table of keys, and `faces` the two kinds made of it.

pub(crate) mod entries;
pub(crate) mod faces;
pub(crate) mod keyed;

pub use faces::{KeyedLock, KeyedSemaphore, OneAKey, SeveralAKey};
pub use keyed::{Face, Keyed};

#[cfg(test)]
mod tests;
