//! Streams of bytes between clients and managers. No other folder names a socket.
//!
//! | module | contents |
//! | --- | --- |
//! | `stream` | the contract of a stream |
//! | `listener` | the contract of what accepts streams |
//! | `endpoint` | transports by the schemes of addresses |
//! | `unix` | Unix sockets |

pub(crate) mod endpoint;
pub(crate) mod listener;
pub(crate) mod stream;
pub(crate) mod unix;
