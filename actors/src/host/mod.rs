//! The actor that runs a primitive, and the state that all actors of one shard share.
//!
//! It may import `kind`, `waiting` and the protocol, and knows no built-in kind.
//!
//! | module | contents |
//! | --- | --- |
//! | `input` | the messages to a host |
//! | `host`, `slices`, `unfinished`, `reports` | [`Host`]: one turn for each input, or several; the reports about its object |
//! | `mailbox` | the actor context of a host; the only user of actix's mailbox internals |
//! | `shell` | [`Shell`]: outbox, deadlines and reply sinks of a shard |
//! | `behind`, `sharing` | the hosts with messages left over; the sessions of one client, which share limits |
//! | `deadlines`, `contended` | the deadlines of a shard, and its objects with waiting calls |
//! | `endings`, `freed` | the hang-ups of sessions with many objects; freed memory, sorted in small steps |
//! | `tally`, `watch`, `client` | counters per kind; events of one object, and who made a call |

pub(crate) mod behind;
pub(crate) mod client;
pub(crate) mod contended;
pub(crate) mod deadlines;
pub(crate) mod endings;
pub(crate) mod freed;
pub(crate) mod host;
pub(crate) mod input;
pub(crate) mod mailbox;
pub(crate) mod openers;
pub(crate) mod replies;
pub(crate) mod reports;
pub(crate) mod sharing;
pub(crate) mod shell;
pub(crate) mod slices;
pub(crate) mod tally;
pub(crate) mod unfinished;
pub(crate) mod watch;

pub use client::Client;
pub use contended::ContendedObjects;
pub use deadlines::Deadlines;
pub use host::Host;
pub use input::{CallAtLimit, Input, Inputs, Inquiry, Mailbox, ObjectReport, RawCall};
pub use mailbox::MailboxReceiver;
pub use replies::{encode_reply, encode_whole, keep_reply};
pub use sharing::Sharing;
pub use shell::{ReplySink, Shell};
pub use tally::{Count, Tallies, Tally, Waits};
