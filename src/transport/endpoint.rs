//! Transports by the schemes of addresses: how a stream to an address is made.
//!
//! An address is `scheme:place`, or a path, which is a place of the Unix transport. Unix sockets and
//! memory are built in; a program registers others by [`Program::transport`](crate::Program::transport).

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;

use crate::{
    address::Address,
    transport::{
        listener::Listener,
        stream::Stream,
        unix::{self, Unix},
    },
};

/// A way to reach managers: what makes streams to the addresses of one scheme, and listeners at them.
pub trait Transport: Send + Sync + 'static {
    /// Connects to a place, and waits while the manager there is too busy to accept, for `patience` at
    /// the most.
    ///
    /// # Errors
    ///
    /// Returns an error when no manager accepts streams at that place.
    fn connect<'a>(
        &'a self,
        place: &'a str,
        patience: Duration,
    ) -> BoxFuture<'a, io::Result<Arc<dyn Stream>>>;

    /// Binds a place, so that streams can be accepted there.
    ///
    /// # Errors
    ///
    /// Returns an error when the place is taken, or cannot be bound.
    fn listen(&self, place: &str) -> io::Result<Box<dyn Listener>>;

    /// Returns whether both ends are always in one process.
    ///
    /// A caller connects to such a place on its own runtime, by that runtime's clock. To any other place
    /// all callers of a process share one attempt, which a runtime in the background makes.
    fn is_in_process(&self) -> bool {
        false
    }
}

/// A place, and the transport that reaches it.
#[derive(Clone)]
pub(crate) struct Endpoint {
    transport: Arc<dyn Transport>,
    place: String,
}

/// The transports that this program has registered, by scheme.
static REGISTERED: LazyLock<Mutex<BTreeMap<String, Arc<dyn Transport>>>> =
    LazyLock::new(Mutex::default);

fn registered() -> MutexGuard<'static, BTreeMap<String, Arc<dyn Transport>>> {
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a transport. A later one of the same scheme takes the place of an earlier one.
pub(crate) fn register(scheme: &str, transport: Arc<dyn Transport>) {
    registered().insert(scheme.to_owned(), transport);
}

impl Endpoint {
    /// Finds the transport of an address.
    ///
    /// # Errors
    ///
    /// Returns an error when this program has registered no transport of the address's scheme.
    pub(crate) fn of(address: &Address) -> io::Result<Self> {
        let (scheme, place) = address.parts();
        let transport: Arc<dyn Transport> = match scheme {
            unix::SCHEME => Arc::new(Unix),
            other => registered().get(other).cloned().ok_or_else(|| {
                let why = format!("this program has registered no transport for {other:?}");
                io::Error::new(io::ErrorKind::Unsupported, why)
            })?,
        };
        Ok(Self {
            transport,
            place: place.to_owned(),
        })
    }

    /// Connects to the place.
    ///
    /// # Errors
    ///
    /// As [`Transport::connect`].
    pub(crate) async fn connect(&self, patience: Duration) -> io::Result<Arc<dyn Stream>> {
        self.transport.connect(&self.place, patience).await
    }

    /// Binds the place.
    ///
    /// # Errors
    ///
    /// As [`Transport::listen`].
    pub(crate) fn listen(&self) -> io::Result<Box<dyn Listener>> {
        self.transport.listen(&self.place)
    }

    /// Returns whether both ends are always in this process.
    pub(crate) fn is_in_process(&self) -> bool {
        self.transport.is_in_process()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.place).finish()
    }
}
