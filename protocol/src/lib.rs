//! The data that a client and a manager of lockkeeper share, and its encoding.
//!
//! This crate has no runtime, no I/O and no actor. Read it together with PROTOCOL.md. Programs depend on
//! `lockkeeper`, which re-exports what they need. Everything else here is public only for the other crates of
//! the workspace, and changes with them.
//!
//! | module | contents |
//! | --- | --- |
//! | [`codec`] | MessagePack: values through serde, frames element by element |
//! | [`frame`] | the messages of both sides, and how a stream is split into them |
//! | [`handshake`] | the proof of a shared key, before a session over a network |
//! | [`operations`] | the operations, replies, specs and statuses of the built-in kinds |
//! | [`Operation`] | the trait of an operation |
//! | [`SessionId`], [`CallId`], [`JobId`], [`Fence`], [`ObjectName`] | identifiers |
//! | [`Proof`], [`SignedCall`] | a grant as an argument, and the MAC that lets another session name it |
//! | [`Shard`], [`ShardOf`] | the shard of a name, a number or a session |
//! | [`Peer`], [`Abandoned`] | the process behind a session, and the mark that its end leaves |
//! | [`Fault`], [`Refusal`], [`BreakReason`] | the errors of calls, and what broke a barrier |
//! | [`Snapshot`], [`ObjectInfo`] | holders and waiters, as data and as a table |
//! | [`Deadlock`] | callers that wait for one another, as data and as text |
//! | [`Printable`], [`PrintableText`] | names and sentences of a peer, escaped as they are shown |

// A library's standard output belongs to its program; its tests may print.
#![cfg_attr(not(test), warn(clippy::print_stdout))]

pub mod codec;
mod deadlock;
mod fault;
pub mod frame;
pub mod handshake;
mod ids;
mod inspection;
mod operation;
pub mod operations;
mod panics;
mod peer;
mod printable;
mod proof;
mod shard;

pub use deadlock::{Caller, Claim, Deadlock, WaitsFor};
pub use fault::{BreakReason, Fault, FaultClass, Refusal, WrongKind, WrongSpec};
pub use ids::{CallId, Fence, JobId, ObjectName, SessionId};
pub use inspection::{CallInfo, ObjectInfo, Page, PartInfo, Question, Snapshot, Stats, Times};
pub use operation::Operation;
pub use panics::{caught, panic_message};
pub use peer::{Abandoned, Peer, cut};
pub use printable::{Printable, PrintableText};
pub use proof::{ManagerSecret, Proof, SECRET_BYTES, SessionSecret, SignedCall};
pub use shard::{MAX_SHARDS, Shard, ShardOf};
