//! The client's side of a network connection: connects, and proves to the manager that it has the key.
//!
//! Invariant: the client sends nothing else before it has checked the proof of the manager.

use std::{io, sync::Arc, time::Duration};

use lockkeeper_protocol::{
    frame::Inbox,
    handshake::{self, ClientBegun, HandshakeError, MOST_HANDSHAKE_BYTES, Nonce},
};
use rustix::event::PollFlags;

use crate::{
    keys::key_for,
    network_place::NetworkPlace,
    transport::{
        listener::Listener,
        stream::Stream,
        tls::{
            identity::begin_client,
            socket::{Deadline, connect_to, wait},
            stream::TlsStream,
            trouble::{of_manager, of_tls},
        },
        transport::Transport,
    },
};

/// The time in which a connection has to be usable, from the look-up of its name to the proof of the manager.
const PATIENCE: Duration = Duration::from_secs(5);

/// The endpoints of managers, as clients reach them.
#[derive(Debug)]
pub(crate) struct Tls {
    place: NetworkPlace,
}

impl Tls {
    pub(crate) const fn to(place: NetworkPlace) -> Self {
        Self { place }
    }
}

impl Transport for Tls {
    /// Connects to the place that this value was made for. It has the fingerprint, which a place of the contract has
    /// not.
    fn connect(&self, _place: &str, patience: Duration) -> io::Result<Arc<dyn Stream>> {
        let deadline = Deadline::after(patience.min(PATIENCE));
        let stream = connect(&self.place, deadline).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut if error.get_ref().is_none() => {
                let why = format!("it was silent for {:?}", patience.min(PATIENCE));
                io::Error::new(io::ErrorKind::TimedOut, why)
            }
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => {
                let why = "it closed the connection before it had proved its key, as a service that does not speak \
                           TLS would";
                io::Error::new(error.kind(), why)
            }
            _ => error,
        })?;
        Ok(Arc::new(stream))
    }

    fn is_network(&self) -> bool {
        true
    }

    fn listen(&self, _place: &str) -> io::Result<Box<dyn Listener>> {
        let why = "a manager has an address on its own machine first: give the endpoint to \
                   ManagerBuilder::listen";
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }
}

fn connect(place: &NetworkPlace, deadline: Deadline) -> io::Result<TlsStream> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
    if place.port == 0 {
        return Err(invalid(
            "port 0 is for listen() alone: ask the manager for its endpoints()",
        ));
    }
    let key = key_for(&place.endpoint());
    let key = key.map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))?;
    let name = key.name().to_owned();
    let socket = connect_to(&place.host, place.port, deadline)?;
    let host = socket.get()?.peer_addr()?.ip();
    let connection = begin_client(place.fingerprint).map_err(|error| of_tls(&error))?;
    let stream = TlsStream::new(socket, connection, host);
    let certificate = until_ready(&stream, deadline, PollFlags::IN, || stream.certificate())?;
    let mut nonce: Nonce = [0; size_of::<Nonce>()];
    getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
    let mut inbox = Inbox::new(MOST_HANDSHAKE_BYTES);
    let failed = |error| of_manager(error, &name);
    let begun = ClientBegun::new(key, certificate, nonce, place.shard).map_err(failed)?;
    send(&stream, begun.message(), deadline)?;
    let challenge = receive(&stream, &mut inbox, deadline)?;
    let proved = begun.challenged(&challenge).map_err(failed)?;
    send(&stream, proved.message(), deadline)?;
    let accepted = receive(&stream, &mut inbox, deadline)?;
    proved.accepted(&accepted).map_err(failed)?;
    if !inbox.is_empty() {
        let early = HandshakeError::BadMessage("it went on before the client had begun".to_owned());
        return Err(failed(early));
    }
    stream.authenticated();
    Ok(stream)
}

/// Repeats an operation until the stream is ready for it.
fn until_ready<T>(
    stream: &TlsStream,
    deadline: Deadline,
    flags: PollFlags,
    mut operation: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
        let descriptor = stream.descriptor().ok_or(io::ErrorKind::NotConnected)?;
        wait(descriptor, flags, deadline)?;
    }
}

fn send(stream: &TlsStream, message: &[u8], deadline: Deadline) -> io::Result<()> {
    let mut bytes = Vec::new();
    let appended = handshake::append(&mut bytes, message);
    appended.map_err(|error| io::Error::other(format!("{error:?}")))?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let write = || stream.try_write(rest);
        let written = until_ready(stream, deadline, PollFlags::OUT, write)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

fn receive(stream: &TlsStream, inbox: &mut Inbox, deadline: Deadline) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 1024];
    loop {
        let message = inbox.next_message().map_err(io::Error::other)?;
        if let Some(message) = message {
            return Ok(message.to_vec());
        }
        let read = || stream.try_read(&mut buffer);
        match until_ready(stream, deadline, PollFlags::IN, read)? {
            0 => {
                let why = "it closed the connection before it had proved that it has the key";
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
            }
            length => inbox.feed(buffer.get(..length).unwrap_or_default()),
        }
    }
}
