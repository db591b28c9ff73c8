//! The actor round a primitive, and what the actors of one shard share.
//!
//! | module | contents |
//! | --- | --- |
//! | `input` | what a host is told |
//! | `host` | [`Host`]: one turn for one input |
//! | `mailbox` | how messages reach it; names actix's mailbox internals alone |
//! | `shell` | what the hosts of one shard share: outbox, deadlines, the ways back to sessions |
//! | `deadlines` | one ordered table of deadlines a shard |
//! | `contended` | the objects of a shard that calls wait for |
//! | `tally`, `watch` | what is counted and told of objects |
//! | `openers` | the sessions that have opened an object |

pub(crate) mod contended;
pub(crate) mod deadlines;
pub(crate) mod host;
pub(crate) mod input;
pub(crate) mod mailbox;
pub(crate) mod openers;
pub(crate) mod panics;
pub(crate) mod shell;
pub(crate) mod tally;
pub(crate) mod watch;

pub use contended::ContendedObjects;
pub use deadlines::Deadlines;
pub use host::Host;
pub use input::{Input, Inputs, Inquiry, Mailbox, RawCall, Report};
pub use mailbox::MailboxReceiver;
pub use panics::panic_message;
pub use shell::{ReplySink, Shell};
pub use tally::{Count, Tallies, Tally, Waits};
