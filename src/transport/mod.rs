//! Streams of bytes between a client and a manager.

pub(crate) mod unix;
