//! One session for each client: frames become messages to mailboxes, answers become frames.

pub(crate) mod context;
mod control;
mod hello;
mod objects;
mod outgoing;
mod receive;
mod report_pipe;
pub(crate) mod session;

#[cfg(test)]
mod tests;
