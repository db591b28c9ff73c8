//! The hosted side of lockkeeper: the kinds, and the one actor that runs any of them.
//!
//! This crate knows no socket. A crate that defines a kind depends on it; programs that only use the built-in
//! kinds depend on `lockkeeper`, which re-exports what they need.
//!
//! | module | contents | may import |
//! | --- | --- | --- |
//! | [`lockkeeper_protocol`] | ids, faults, operations, MessagePack | |
//! | `kind` | [`Primitive`], [`Serve`], [`Call`], [`Survey`]: the interface of a kind | protocol |
//! | `tables` | tables of millions of entries that grow in small steps | |
//! | `waiting` | [`WaitQueue`]: parked calls in order | tables, kind |
//! | [`sync`], [`data`] | the built-in kinds, pure state machines | waiting, tables, kind |
//! | `host` | the actor that runs a primitive | waiting, tables, kind |
//! | [`Bench`] | a hosted primitive without an actor, for tests | host, kind |

// A library's standard output belongs to its program; its tests may print.
#![cfg_attr(not(test), warn(clippy::print_stdout))]

mod bench;
#[cfg(test)]
mod bulk;
pub mod data;
mod host;
mod kind;
pub mod sync;
mod tables;
mod waiting;

pub use bench::Bench;
pub use kind::{
    Call, HangUp, HoldTimer, Holding, Operations, Outbox, Part, Primitive, Serve, StoredBytes,
    Survey, Waiting,
};
pub use lockkeeper_protocol::{
    Abandoned, BreakReason, CallId, Caller, Claim, Deadlock, Fault, Fence, Operation, Peer, Proof,
    Refusal, SessionId, SignedCall, Stats, Times, WaitsFor, codec,
};
pub use waiting::{Parked, WaitQueue};

// The code with which a manager runs kinds. It is public only for `lockkeeper` and may change with it. A kind
// does not need it, and its tests use the bench.
#[doc(hidden)]
pub use {
    host::{
        CallAtLimit, Client, ContendedObjects, Count, Deadlines, Host, Input, Inputs, Inquiry,
        Mailbox, MailboxReceiver, ObjectReport, RawCall, ReplySink, Sharing, Shell, Tallies, Tally,
        Waits, encode_reply, encode_whole, keep_reply,
    },
    kind::{Answer, Fences, LargeReply, Outcome, Reserve, Share, StoredBudget},
    lockkeeper_protocol::{JobId, ManagerSecret, ObjectName, SECRET_BYTES},
    tables::{Table, hash_number},
};
