//! `Endpoints`: the bound endpoints of a manager, and the listener of each shard for the clients that come by them.

use std::{
    cell::RefCell,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::{
    address::Address,
    certificate_files::CertificateFiles,
    error::{StartError, lack},
    keys::KeyRing,
    server::{
        network::{
            gate::{Gate, GateThread},
            identity_file,
        },
        state::state::State,
    },
    transport::{
        listener::{Acceptor, Listener},
        stream::Stream,
        tls::{accept::TlsEndpoint, identities::Identities},
    },
};

/// The endpoints of a manager that does not serve clients yet.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// The addresses, with the ports that are bound.
    pub(crate) addresses: Arc<[Address]>,
    /// One for each shard.
    pub(crate) listeners: Vec<Box<dyn Listener>>,
}

impl Endpoints {
    /// Binds endpoints, and starts the thread that checks the keys of their clients.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::InvalidSettings`] for a certificate file that cannot be used,
    /// [`StartError::BadAddress`] for an endpoint that cannot be bound, [`StartError::BadState`] when the
    /// state folder cannot keep the key pair, and [`StartError::System`] when the system cannot create a thread.
    pub(crate) fn bind(
        addresses: &[Address],
        keys: KeyRing,
        certificates: CertificateFiles,
        state: &State,
        shards: u32,
        frees_on_close: bool,
    ) -> Result<Self, StartError> {
        let made = identity_file::open(state.path())?;
        let identities =
            Identities::open(made, certificates).map_err(StartError::InvalidSettings)?;
        let bound = addresses.iter().map(|address| {
            let bad = |error: io::Error| StartError::BadAddress {
                address: address.clone(),
                why: match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        "another process listens there: use another port".to_owned()
                    }
                    io::ErrorKind::AddrNotAvailable => {
                        "the host is not this machine: use one of its addresses, or 0.0.0.0 or [::] for all of them"
                            .to_owned()
                    }
                    _ => lack(&error),
                },
            };
            let place = address.network();
            let place = place.ok_or_else(|| bad(io::ErrorKind::InvalidInput.into()))?;
            TlsEndpoint::bind(&place, &identities).map_err(bad)
        });
        let bound: Vec<_> = bound.collect::<Result<_, _>>()?;
        let addresses = bound
            .iter()
            .map(|endpoint| endpoint.address().clone())
            .collect();
        let channels = (0..shards).map(|_| unbounded_channel());
        let (senders, receivers): (Vec<_>, Vec<_>) = channels.unzip();
        let thread = GateThread::start(bound, Gate::new(keys, senders, frees_on_close))?;
        let mut thread = Some(thread);
        let listener = |streams| -> Box<dyn Listener> {
            // The first shard owns the thread, because all shards end together.
            let thread = thread.take();
            Box::new(Passed { streams, thread })
        };
        Ok(Self {
            addresses,
            listeners: receivers.into_iter().map(listener).collect(),
        })
    }
}

/// The streams that the gate passes to a shard.
#[derive(Debug)]
struct Passed {
    streams: UnboundedReceiver<Arc<dyn Stream>>,
    thread: Option<GateThread>,
}

impl Listener for Passed {
    fn attach(self: Box<Self>) -> io::Result<Box<dyn Acceptor>> {
        Ok(Box::new(PassedAcceptor {
            streams: RefCell::new(self.streams),
            _thread: self.thread,
        }))
    }
}

#[derive(Debug)]
struct PassedAcceptor {
    streams: RefCell<UnboundedReceiver<Arc<dyn Stream>>>,
    _thread: Option<GateThread>,
}

impl Acceptor for PassedAcceptor {
    fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<Arc<dyn Stream>>> {
        match ready!(self.streams.borrow_mut().poll_recv(task)) {
            Some(stream) => Poll::Ready(Ok(stream)),
            // The manager ends, and with it the thread.
            None => Poll::Pending,
        }
    }
}
