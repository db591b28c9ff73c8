//! The support of the tests of sessions and of connections, and a comparison of PROTOCOL.md with
//! the code.

pub(crate) mod protocol;
pub(crate) mod raw;
mod state;
mod timeouts;
