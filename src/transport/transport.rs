//! `Transport`: the contract of a transport, which connects to the addresses of one scheme and
//! binds them.

use std::{fmt, io, sync::Arc, time::Duration};

use crate::transport::{listener::Listener, stream::Stream};

/// Connects to the places of one scheme, and binds them.
///
/// A program adds a transport with [`Program::transport`](crate::builders::Program::transport). The
/// process and its children then use it for each address `scheme:place`. A manager with several
/// shards binds `place`, `place.1`, `place.2` and so on.
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
/// `tests/it/own_transport.rs` in the repository is a complete transport over TCP, in one file.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Connects to a place. If the manager there is too busy to accept, waits for at most `patience`.
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

    /// Binds a place.
    ///
    /// # Errors
    ///
    /// Returns [`io::ErrorKind::AddrInUse`] when a live listener has the place, and any other error
    /// when it cannot be bound.
    fn listen(&self, place: &str) -> io::Result<Box<dyn Listener>>;

    /// Returns whether the two ends of a stream may be on different machines.
    ///
    /// If so, the end of a stream does not prove that the process at the other end has closed it or ended: a
    /// device between them may have cut one direction. Each session then has a *lease*, and a manager at such an
    /// address needs a [state folder](crate::builders::ManagerBuilder::state_folder).
    fn is_network(&self) -> bool {
        false
    }

    /// Returns whether both ends are always in one process.
    ///
    /// If so, each caller connects on its own thread and runtime, so [`Self::connect`] must not
    /// block. Otherwise all callers of a process share one attempt, which runs on a background
    /// thread.
    fn is_in_process(&self) -> bool {
        false
    }
}
