//! The contract of a transport: what makes streams to the addresses of one scheme.

use std::{fmt, io, sync::Arc, time::Duration};

use crate::transport::{listener::Listener, stream::Stream};

/// A way to reach managers: makes streams to the places of one scheme, and listeners at them.
///
/// A program adds one with [`Program::transport`](crate::Program::transport). An address
/// `scheme:place` is then reached through it, by this process and by its children, and a manager
/// with several shards binds `place`, `place.1`, `place.2` and so on.
///
/// The outline of a transport, without the streams themselves:
///
/// ```
/// use std::{io, sync::Arc, time::Duration};
///
/// use lockkeeper::transport::{Listener, Stream, Transport};
///
/// #[derive(Debug)]
/// struct Tunnel;
///
/// impl Transport for Tunnel {
///     fn connect(&self, place: &str, patience: Duration) -> io::Result<Arc<dyn Stream>> {
///         let why = format!("no tunnel leads to {place} within {patience:?}");
///         Err(io::Error::new(io::ErrorKind::NotFound, why))
///     }
///
///     fn listen(&self, place: &str) -> io::Result<Box<dyn Listener>> {
///         let why = format!("{place} is at the other end of the tunnel");
///         Err(io::Error::new(io::ErrorKind::Unsupported, why))
///     }
/// }
///
/// lockkeeper::program().transport("tunnel", Tunnel).init();
/// ```
///
/// `tests/it/own_transport.rs` in the repository has a whole one, over TCP, in one file.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Connects to a place, and waits while the manager there is too busy to accept, for `patience` at
    /// the most.
    ///
    /// The calling thread may block, unless the transport [is in one process](Self::is_in_process).
    ///
    /// # Errors
    ///
    /// Returns an error when no manager accepts streams at that place.
    fn connect(&self, place: &str, patience: Duration) -> io::Result<Arc<dyn Stream>>;

    /// Connects without blocking, or returns `None` if that is not possible now. Internal: it saves a thread.
    #[doc(hidden)]
    fn connect_at_once(&self, _place: &str) -> Option<io::Result<Arc<dyn Stream>>> {
        None
    }

    /// Binds a place, so that streams can be accepted there.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::AddrInUse`] when a live listener has the place, and any other error
    /// when it cannot be bound.
    fn listen(&self, place: &str) -> io::Result<Box<dyn Listener>>;

    /// Returns whether both ends are always in one process.
    ///
    /// A caller connects to such a place on its own thread and runtime, so [`Self::connect`] must not
    /// block. To any other place all callers of a process share one attempt, which a thread in the
    /// background makes.
    fn is_in_process(&self) -> bool {
        false
    }
}
