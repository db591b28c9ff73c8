//! The client's side of a network connection: connects, and proves to the manager that it has the key.
//!
//! If the connection is lost, a thread tries to connect again until the stream is resumed, the manager refuses
//! to resume it, or the stream is no longer used. Invariant: the client sends nothing else before it has
//! checked the proof of the manager.

use std::{
    io,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use lockkeeper_protocol::handshake::{
    self, ClientBegun, ConnectionSecret, HandshakeError, Key, MOST_HANDSHAKE_BYTES, Nonce,
    resume::{Resume, Resumed},
};
use rustix::event::PollFlags;

use crate::{
    certificate_files::{CertificateFiles, files_for},
    keys::key_for,
    network_place::NetworkPlace,
    transport::{
        listener::Listener,
        stream::Stream,
        tls::{
            failure::{of_manager, of_tls},
            identity::{begin_client, credentials},
            resumable::{AtLoss, Resumable},
            sent::KeptBudget,
            socket::{Deadline, connect_to, wait},
            stream::TlsStream,
        },
        transport::Transport,
    },
};

/// The time limit for a connection, from the look-up of its name to the proof of the manager.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time for which a client repeats its attempts while the manager closes its connections at once.
const CROWDED: Duration = Duration::from_secs(2);

/// The first pause between two attempts to connect again. It doubles up to a maximum.
const PAUSE: Duration = Duration::from_millis(50);
const MOST_PAUSE: Duration = Duration::from_secs(1);

/// The endpoints of managers, to which clients connect.
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
    /// Connects to the place that this value was made for, which includes the fingerprint. The argument has no
    /// fingerprint.
    fn connect(&self, _place: &str, patience: Duration) -> io::Result<Arc<dyn Stream>> {
        let deadline = Deadline::after(patience.min(PATIENCE));
        let endpoint = self.place.endpoint();
        let key = key_for(&endpoint).map_err(denied)?;
        let files = files_for(&endpoint).map_err(denied)?;
        let connected = loop {
            let connected = connect(&self.place, &key, &files, false, deadline);
            let is_closed = connected.as_ref().is_err_and(is_closed_early);
            if !is_closed || !deadline.allows(PATIENCE - CROWDED) {
                break connected;
            }
            // The manager does so while too many clients of one machine prove their keys.
            thread::sleep(PAUSE);
        };
        let (stream, secret) = connected.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut if error.get_ref().is_none() => {
                let why = format!("it was silent for {:?}", patience.min(PATIENCE));
                io::Error::new(io::ErrorKind::TimedOut, why)
            }
            _ if is_closed_early(&error) => {
                let why = "it closed the connection before it had proved its key, as a service that does not speak \
                           TLS would, or a manager to which too many clients of this machine connect at once";
                io::Error::new(error.kind(), why)
            }
            _ => error,
        })?;
        let origin = Arc::new(Origin {
            place: self.place.clone(),
            key,
            files,
            secret,
        });
        let again = move |stream| {
            let origin = Arc::clone(&origin);
            let name = "lockkeeper-resume".to_owned();
            let work = move || origin.resume(&stream);
            thread::Builder::new().name(name).spawn(work).map(drop)
        };
        // A client has few connections, so one bound for each is enough.
        let kept = KeptBudget::new(usize::MAX);
        let at_loss = AtLoss::Connect(Box::new(again));
        Ok(Resumable::new(Arc::new(stream), at_loss, kept))
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

/// Returns whether the other side closed the connection before it had sent anything.
fn is_closed_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// What the client needs to connect again.
struct Origin {
    place: NetworkPlace,
    key: Key,
    /// They are read for each connection, so that short-lived certificates can be replaced.
    files: CertificateFiles,
    /// The secret of the first connection.
    secret: ConnectionSecret,
}

impl Origin {
    /// Repeats attempts to connect until the stream is resumed or has ended.
    fn resume(&self, stream: &Weak<Resumable>) {
        let mut pause = PAUSE;
        loop {
            let Some(suspended) = stream.upgrade().and_then(|stream| stream.suspend()) else {
                return;
            };
            let outcome = self.connect(suspended.received);
            let Some(stream) = stream.upgrade() else {
                return;
            };
            match outcome {
                Ok((below, received)) => {
                    if stream.refusal(received).is_none() {
                        stream.resume(&suspended, Arc::new(below), received);
                    }
                    return;
                }
                Err(Failure::ForGood(why)) => return stream.end(why),
                Err(Failure::ForNow) => {}
            }
            drop(stream);
            thread::sleep(pause);
            pause = MOST_PAUSE.min(pause * 2);
        }
    }

    /// Connects again, and returns the number of bytes that the manager has read.
    fn connect(&self, received: u64) -> Result<(TlsStream, u64), Failure> {
        let deadline = Deadline::after(PATIENCE);
        let (stream, _) = connect(&self.place, &self.key, &self.files, true, deadline)?;
        let resume = Resume {
            secret: self.secret,
            received,
        };
        let told = |error| of_manager(error, self.key.name());
        let resume = resume.message().map_err(told)?;
        send(&stream, &resume, deadline)?;
        let answer = receive(&stream, deadline)?;
        match Resumed::read(&answer) {
            Ok(resumed) => Ok((stream, resumed.received)),
            Err(HandshakeError::Refused(why)) => Err(Failure::ForGood(why)),
            Err(error) => Err(told(error).into()),
        }
    }
}

/// Why the client could not resume the stream.
enum Failure {
    /// It may succeed later.
    ForNow,
    /// The manager or the session has ended.
    ForGood(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The manager's machine reports that nothing listens at the port any more.
            io::ErrorKind::ConnectionRefused => Self::ForGood(error.to_string()),
            _ => Self::ForNow,
        }
    }
}

fn denied(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// Connects, and proves the key. Returns the secret of the connection too.
pub(super) fn connect(
    place: &NetworkPlace,
    key: &Key,
    files: &CertificateFiles,
    resumes: bool,
    deadline: Deadline,
) -> io::Result<(TlsStream, ConnectionSecret)> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, why);
    if place.port == 0 {
        return Err(invalid(
            "port 0 is for listen() alone: ask the manager for its endpoints()",
        ));
    }
    let credentials = credentials(files).map_err(denied)?;
    let socket = connect_to(&place.host, place.port, deadline)?;
    let host = socket.get()?.peer_addr()?.ip();
    let connection = begin_client(&place.host, place.fingerprint, credentials);
    let connection = connection.map_err(|error| of_tls(&error))?;
    let stream = TlsStream::new(socket, connection, host);
    let certificate = until_ready(&stream, deadline, PollFlags::IN, || stream.certificate());
    let certificate = certificate.map_err(|error| match (&files.ca, error.kind()) {
        (Some(ca), io::ErrorKind::PermissionDenied) => {
            denied(format!("{error} (the CA file is {ca})"))
        }
        _ => error,
    })?;
    let mut nonce: Nonce = [0; size_of::<Nonce>()];
    getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
    let failed = |error| of_manager(error, key.name());
    let begun = ClientBegun::new(key.clone(), certificate, nonce, place.shard, resumes);
    let begun = begun.map_err(failed)?;
    send(&stream, begun.message(), deadline)?;
    let challenge = receive(&stream, deadline)?;
    let proved = begun.challenged(&challenge).map_err(failed)?;
    send(&stream, proved.message(), deadline)?;
    let accepted = receive(&stream, deadline)?;
    let secret = proved.accepted(&accepted).map_err(failed)?;
    stream.authenticated();
    Ok((stream, secret))
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

/// Receives a message, and reads nothing of what follows it.
fn receive(stream: &TlsStream, deadline: Deadline) -> io::Result<Vec<u8>> {
    let mut header = [0; size_of::<u32>()];
    read_exactly(stream, &mut header, deadline)?;
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > MOST_HANDSHAKE_BYTES {
        let why =
            format!("a message of {length} bytes is above the limit of {MOST_HANDSHAKE_BYTES}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let mut message = vec![0; length];
    read_exactly(stream, &mut message, deadline)?;
    Ok(message)
}

fn read_exactly(stream: &TlsStream, mut rest: &mut [u8], deadline: Deadline) -> io::Result<()> {
    while !rest.is_empty() {
        let read = until_ready(stream, deadline, PollFlags::IN, || stream.try_read(rest))?;
        if read == 0 {
            let why = "it closed the connection before it had proved that it has the key";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        }
        rest = rest.get_mut(read..).unwrap_or_default();
    }
    Ok(())
}
