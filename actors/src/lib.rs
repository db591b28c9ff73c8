//! The hosted side of lockkeeper: the primitives, and the one actor that runs any of them.
//!
//! This crate knows no socket. It is what a kind of one's own depends on; programs that only use
//! the built-in kinds depend on `lockkeeper`, which re-exports what they need.
//!
//! | room | what is in it | may know |
//! | --- | --- | --- |
//! | [`Primitive`], [`Operation`], [`Serve`] | what a kind is | nothing else |
//! | [`Call`], [`CallId`], [`Outbox`] | one call and its answer, the pure side | codec |
//! | [`Operations`] | number on the wire to typed call | primitive, call, codec |
//! | [`Survey`] | who holds and who waits, as a kind tells it | call ids |
//! | [`Tenure`], [`Stats`] | how long, and how often | outbox |
//! | [`Deadlock`] | who waits for whom in a circle | peers |
//! | [`WaitQueue`], `Lines`, `Roster`, `Index` | parked calls in order, and how one is found | call ids |
//! | [`sync`], [`data`] | the built-in kinds, pure state machines | all of the above |
//! | `Host`, `Input`, `Mailbox`, `Shell` | the actor round a primitive | all of the above |
//! | `Name` | what an object is known by | nothing else |
//! | `Tally`, `Watch` | what is noticed of objects: numbers, and events for who listens | host |
//! | `Crowds` | which objects somebody waits for | mailboxes |
//! | `Deadlines` | when a parked call has waited long enough | mailboxes |
//! | [`Bench`] | a hosted primitive without an actor, for tests | host |
//! | [`codec`] | MessagePack | serde |
//! | [`Fault`], [`Refusal`] | errors that cross the wire | serde |

// A library's standard output is its program's; its tests are free to print.
#![cfg_attr(not(test), warn(clippy::print_stdout))]

mod bench;
mod call;
pub mod codec;
mod crowds;
pub mod data;
mod deadlines;
mod deadlock;
mod fault;
mod host;
mod index;
mod lines;
mod name;
mod observe;
mod operations;
mod panics;
mod primitive;
mod roster;
mod shell;
mod stats;
mod survey;
pub mod sync;
mod tally;
mod tenure;
mod wait_queue;

pub use bench::Bench;
pub use call::{Call, CallId, Fence, Outbox, SessionId};
pub use deadlock::{Claim, Deadlock, Member, Wait};
pub use fault::{Breach, Fault, Refusal};
pub use host::HangUp;
pub use operations::Operations;
pub use primitive::{Operation, Primitive, Serve};
pub use shell::{Abandoned, Peer};
pub use stats::{Stats, Times};
pub use survey::{Holding, Part, Survey, Waiting};
pub use tenure::Tenure;
pub use wait_queue::{Parked, WaitQueue};

// What a manager runs the kinds with. It is public for `lockkeeper` alone and may change with it; a
// kind of one's own never meets it, and its tests have the bench.
#[doc(hidden)]
pub use {
    call::{Answer, Outcome},
    crowds::Crowds,
    deadlines::Deadlines,
    host::{Host, Input, Inputs, Inquiry, Mailbox, Post, RawCall, Report},
    name::Name,
    panics::panic_message,
    shell::{Shell, Sink},
    tally::{Count, Tallies, Tally, Waits},
};
