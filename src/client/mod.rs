//! The client: one connection per process and address, and its calls in flight.
//!
//! | module | contents |
//! | --- | --- |
//! | `state` | the session as data, without I/O: bytes in, bytes out, calls in flight |
//! | `deadline`, `spin`, `wakers` | the time limit of a call, polling before sleep, and wakers |
//! | `connection` | the session, its stream and the one lock around them |
//! | `advice` | the advice in an error that no manager was reached |
//! | `settings` | the settings of this process for each manager: label, polling, reconnection |
//! | `connect` | one connection per address: hello and welcome |
//! | `thread`, `driver` | the readers of a connection: a plain thread, or the driver task of a runtime |
//! | `pending` | a request in flight, which withdraws its call when it is dropped |
//! | `calls`, `grants`, `side_channel`, `owner` | the functions that proxies use; the identity of a caller |

mod advice;
mod beats;
pub(crate) mod calls;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod deadline;
mod driver;
mod grants;
mod lease;
pub(crate) mod owner;
mod pending;
pub(crate) mod settings;
pub(crate) mod side_channel;
mod spin;
pub(crate) mod state;
pub(crate) mod thread;
mod wakers;

#[cfg(test)]
mod tests;
