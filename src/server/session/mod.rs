//! One session for each client: it turns frames into messages to mailboxes, and answers into frames.
//!
//! It may import `supervisor`, `inspection` and `kinds` of the server. Invariant: it names no kind.

pub(crate) mod admitted;
mod buffer;
pub(crate) mod buffer_budget;
pub(crate) mod clients;
pub(crate) mod context;
mod control;
mod delivery;
pub(crate) mod farewell;
mod held_back;
mod hello;
pub(crate) mod in_mailboxes;
mod incoming;
pub(super) mod lease;
pub(crate) mod lease_rule;
pub(crate) mod leased;
mod objects;
mod outgoing;
mod outlast;
mod peer_watch;
mod receive;
mod reply_sink;
mod report_pipe;
mod requests;
pub(crate) mod serve;
mod session;
mod session_task;
mod shown;
pub(crate) mod sizes;
mod stall;

#[cfg(test)]
mod tests;
