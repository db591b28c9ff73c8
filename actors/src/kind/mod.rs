//! The interface between a kind and its host: pure, without an actor, a clock or a socket.
//!
//! It may import the protocol only.
//!
//! | module | contents |
//! | --- | --- |
//! | `primitive` | the traits [`Primitive`] and [`Serve`], and the operation table of a kind |
//! | `call` | [`Call`], which must be answered, and [`Outbox`], which collects the answers |
//! | `answer`, `dropped` | an entry of an outbox, and the fault of a call that is dropped |
//! | `large_reply` | a reply that is encoded when its session has room for it |
//! | `budget`, `held_bytes` | [`StoredBytes`]: bytes that an object stores, counted against a limit; and its holds |
//! | `survey` | [`Survey`]: the holders and waiters of an object at one moment |
//! | `hang_up` | [`HangUp`]: the end of a session |
//! | `hold_timer`, `object_stats` | wait times, hold times and counts of one object |

pub(crate) mod answer;
pub(crate) mod budget;
pub(crate) mod call;
mod dropped;
pub(crate) mod fences;
pub(crate) mod hang_up;
pub(crate) mod held_bytes;
pub(crate) mod hold_timer;
pub(crate) mod large_reply;
pub(crate) mod object_stats;
pub(crate) mod primitive;
pub(crate) mod survey;

pub use answer::{Answer, Outcome};
pub use budget::{Share, StoredBudget, StoredBytes};
pub use call::{Call, Outbox};
pub use fences::{Fences, Reserve};
pub use hang_up::HangUp;
pub use hold_timer::HoldTimer;
pub use large_reply::LargeReply;
pub use primitive::{Operations, Primitive, Serve};
pub use survey::{Holding, Part, Survey, Waiting};
