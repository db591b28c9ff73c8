//! `Endpoint`: the place of an address, and the transport of its scheme.

use std::{collections::BTreeMap, io, sync::Arc, thread, time::Duration};

use lockkeeper_sys::Inherited;

use tokio::{runtime::Handle, sync::oneshot};

#[cfg(feature = "net")]
use crate::transport::tls::connect::Tls;
use crate::{
    address::{Address, MEMORY, TLS, UNIX, add_scheme},
    transport::{
        listener::Listener, memory::Memory, stream::Stream, transport::Transport, unix::Unix,
    },
};

/// A place, and the transport that reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    transport: Arc<dyn Transport>,
    place: String,
}

/// The transports that this program has registered, by scheme.
static REGISTERED: Inherited<BTreeMap<String, Arc<dyn Transport>>> =
    Inherited::new(BTreeMap::new());

/// Registers a transport. It replaces an earlier one of the same scheme.
pub(crate) fn register(scheme: &str, transport: Arc<dyn Transport>) {
    add_scheme(scheme);
    let replaced = REGISTERED.with(|all| all.insert(scheme.to_owned(), transport));
    // The drop is code of the program, so it runs while the table is unlocked.
    drop(replaced);
}

/// Returns whether a scheme belongs to a transport of this crate, with or without the feature `net`.
pub(crate) fn is_built_in(scheme: &str) -> bool {
    matches!(scheme, UNIX | MEMORY | TLS)
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
            UNIX => Arc::new(Unix),
            MEMORY => Arc::new(Memory),
            #[cfg(feature = "net")]
            TLS => match address.network() {
                Some(place) => Arc::new(Tls::to(place)),
                None => return Err(io::ErrorKind::InvalidInput.into()),
            },
            other => REGISTERED.with(|all| all.get(other).cloned()).ok_or_else(|| {
                let why = format!(
                    "this program has no transport for {other:?}: \
                     add it with program().transport({other:?}, ..), or write ./{other}:.. for a path"
                );
                io::Error::new(io::ErrorKind::Unsupported, why)
            })?,
        };
        Ok(Self {
            transport,
            place: place.to_owned(),
        })
    }

    /// Connects to the place. If both ends are in this process, the first poll completes it.
    ///
    /// # Errors
    ///
    /// As [`Transport::connect`].
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime, unless both ends are in this process.
    pub(crate) async fn connect(&self, patience: Duration) -> io::Result<Arc<dyn Stream>> {
        if self.is_in_process() {
            return self.transport.connect(&self.place, patience);
        }
        if let Some(connected) = self.transport.connect_at_once(&self.place) {
            return connected;
        }
        let Self { transport, place } = self.clone();
        let (tell, connected) = oneshot::channel();
        let runtime = Handle::current();
        // This starts a thread. tokio's blocking pool would leave the work in its queue if no thread can be
        // started, and report no error.
        let connect = move || {
            let _runtime = runtime.enter();
            // An error means that the caller has stopped waiting.
            let _ = tell.send(transport.connect(&place, patience));
        };
        let name = "lockkeeper-connect".to_owned();
        thread::Builder::new().name(name).spawn(connect)?;
        // A transport may ignore the patience, and must not make all callers wait.
        match tokio::time::timeout(patience.saturating_mul(2), connected).await {
            Ok(connected) => {
                connected.unwrap_or_else(|_| Err(io::Error::other("its transport panicked")))
            }
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("its transport did not connect within {patience:?}"),
            )),
        }
    }

    /// Binds the place.
    ///
    /// # Errors
    ///
    /// As [`Transport::listen`].
    pub(crate) fn listen(&self) -> io::Result<Box<dyn Listener>> {
        self.transport.listen(&self.place)
    }

    /// Returns whether the ends may be on different machines, so that sessions have leases.
    pub(crate) fn is_network(&self) -> bool {
        self.transport.is_network()
    }

    /// Returns whether both ends are always in this process.
    pub(crate) fn is_in_process(&self) -> bool {
        self.transport.is_in_process()
    }
}
