//! `Listener` and `Acceptor`: the contract for accepting streams at an address.

use std::{
    fmt, io,
    sync::Arc,
    task::{Context, Poll},
};

use crate::transport::stream::Stream;

/// A bound address that is not attached to a runtime yet. Dropping it frees the address.
pub trait Listener: fmt::Debug + Send + 'static {
    /// Attaches the listener to the current runtime, which then accepts streams.
    ///
    /// # Errors
    ///
    /// Returns an error when the runtime cannot wait for streams.
    fn attach(self: Box<Self>) -> io::Result<Box<dyn Acceptor>>;
}

/// A listener that is attached to a runtime. Dropping it frees the address.
pub trait Acceptor: fmt::Debug + 'static {
    /// Accepts the next stream, or registers the task to be woken when there is one.
    ///
    /// An error concerns the system, such as a lack of descriptors, and not one stream. The manager
    /// tries again later.
    fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Stream>>>;
}
