//! The client: one connection per process and address, and the calls that are in flight on it.

pub(crate) mod calls;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod deadline;
mod driver;
mod grants;
mod pending;
pub(crate) mod side_channel;
pub(crate) mod spin;
pub(crate) mod state;
pub(crate) mod thread;
mod wakers;

#[cfg(test)]
mod tests;
