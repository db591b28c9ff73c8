//! The contract of what accepts streams at an address.

use std::{
    fmt, io,
    sync::Arc,
    task::{Context, Poll},
};

use crate::transport::stream::Stream;

/// A bound address that belongs to no runtime yet. Its drop frees the address.
pub trait Listener: fmt::Debug + Send + 'static {
    /// Attaches the current runtime, which accepts streams from then on.
    ///
    /// # Errors
    ///
    /// Returns an error when the runtime cannot wait for streams.
    fn attach(self: Box<Self>) -> io::Result<Box<dyn Acceptor>>;
}

/// A listener to which a runtime is attached. Its drop frees the address.
pub trait Acceptor: fmt::Debug + 'static {
    /// Accepts the next stream, or registers the task to be woken when there is one.
    ///
    /// An error is about the system, such as too few descriptors; the manager tries again later.
    fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Stream>>>;
}
