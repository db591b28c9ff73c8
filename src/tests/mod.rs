//! What the tests of sessions and of connections share, and PROTOCOL.md held against the code.

pub(crate) mod protocol;
pub(crate) mod raw;
