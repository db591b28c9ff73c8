//! The network transport: TLS 1.3 over TCP, between sides that have proved to each other that they have a key.
//!
//! rustls works on bytes alone, so the caller that waits for an answer still reads it itself, and no task stands
//! between. Only this folder names a TCP socket, rustls or rcgen.
//!
//! | file | contents |
//! | --- | --- |
//! | `socket` | TCP sockets with their options |
//! | `identity`, `identities`, `credentials` | certificates, the files that have them, and the settings of TLS |
//! | `stream` | TLS over a socket, as a `Stream` |
//! | `failure` | the texts of its errors |
//! | `resumable`, `sent` | a stream that outlives the connections below it |
//! | `connect` | the client's side: connects, and proves its key |
//! | `accept` | the manager's side: accepts, and checks the key |

pub(crate) mod accept;
pub(crate) mod connect;
mod credentials;
mod failure;
pub(crate) mod identities;
pub(crate) mod identity;
pub(crate) mod resumable;
pub(crate) mod sent;
mod socket;
mod stream;

#[cfg(test)]
mod tests;
