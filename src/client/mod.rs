//! The client: one connection per process and address, and its calls in flight.
//!
//! | module | contents |
//! | --- | --- |
//! | `state` | the session as data, without I/O: bytes in, bytes out, calls in flight |
//! | `deadline`, `spin`, `wakers` | how long a call waits, looking before sleeping, who is woken |
//! | `connection` | the session, its stream and the one lock around them |
//! | `advice` | what to do where no manager is reached |
//! | `settings` | what this process has chosen for each manager: label, spin, reconnection |
//! | `connect` | one connection per address: hello and welcome |
//! | `thread`, `driver` | who reads: a plain thread for itself, or the driver task of a runtime |
//! | `pending` | a request in flight, which withdraws its call when it is dropped |
//! | `calls`, `grants`, `side_channel` | what a proxy calls |

mod advice;
pub(crate) mod calls;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod deadline;
mod driver;
mod grants;
mod pending;
pub(crate) mod settings;
pub(crate) mod side_channel;
mod spin;
pub(crate) mod state;
pub(crate) mod thread;
mod wakers;

#[cfg(test)]
mod tests;
