//! The chaos test's rooms: what the processes share, what they do with it, and who watches them.
//!
//! Invariant: nothing that judges (notes, ledgers, logs) rests on the library. It rests on files,
//! which a process that is killed leaves whole: each record is written at once, within one page.

mod barriers;
pub(crate) mod caretaker;
mod conditions;
mod events;
mod exclusive;
pub(crate) mod items;
mod keyed;
pub(crate) mod latches;
pub(crate) mod ledger;
pub(crate) mod log;
pub(crate) mod notes;
mod permits;
mod queues;
mod rw_locks;
pub(crate) mod scene;
mod several;
mod values;
pub(crate) mod verdict;
pub(crate) mod worker;
