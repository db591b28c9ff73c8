//! `TlsStream`: TLS over a socket that does not block.
//!
//! Invariant: all decrypted bytes are returned before the socket is read again, because rustls buffers a
//! limited number. A write that returned `WouldBlock` has encrypted the beginning of its bytes already; it
//! returns their number once the system has taken the ciphertext.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, TcpStream},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use lockkeeper_protocol::handshake::Certificate;
use lockkeeper_sys::Private;
use rustls::Connection;

use crate::{
    network_place::Fingerprint,
    peer_rights::PeerRights,
    transport::{
        registration::{self, Registrations, Socket},
        stream::{AttachedStream, Stream},
        tls::{
            failure::{NOT_OURS, of_tls},
            identity::{fingerprint, is_ours},
        },
    },
};

/// The most bytes that are encrypted at once. A socket that is full keeps their ciphertext here.
pub(super) const MOST_AT_ONCE: usize = 1 << 16;

/// TLS over a socket. A forked child does not inherit it.
pub(super) struct TlsStream {
    socket: Private<TcpStream>,
    tls: Mutex<Tls>,
    /// The machine at the other end.
    host: IpAddr,
    /// Whether the other side has proved that it has the key.
    is_authenticated: AtomicBool,
    /// What the other side may do, if it is a client.
    rights: OnceLock<PeerRights>,
    registrations: Registrations<Self>,
}

struct Tls {
    connection: Connection,
    /// The bytes that are decrypted, and not read yet.
    decrypted: usize,
    /// Whether the other side has announced that it sends no more.
    has_ended: bool,
    /// The bytes that are encrypted, and whose ciphertext the system has not taken yet.
    encrypted: usize,
}

impl TlsStream {
    pub(super) fn new(socket: Private<TcpStream>, connection: Connection, host: IpAddr) -> Self {
        Self {
            socket,
            tls: Mutex::new(Tls {
                connection,
                decrypted: 0,
                has_ended: false,
                encrypted: 0,
            }),
            host: host.to_canonical(),
            is_authenticated: AtomicBool::new(false),
            rights: OnceLock::new(),
            registrations: Registrations::default(),
        }
    }

    /// Locks the state of TLS. A forked child gets an error before it could wait for a lock of its parent.
    fn lock(&self) -> io::Result<(&TcpStream, MutexGuard<'_, Tls>)> {
        let socket = self.socket.get()?;
        Ok((
            socket,
            self.tls.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    /// Continues the handshake of TLS, and returns the certificate of the manager once it is over.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` when the other side has to send more first.
    pub(super) fn certificate(&self) -> io::Result<Certificate> {
        let (socket, mut tls) = self.lock()?;
        while tls.connection.is_handshaking() {
            tls.receive(socket)?;
        }
        tls.flush(socket)?;
        if !is_ours(&tls.connection) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, NOT_OURS));
        }
        let shown = tls.connection.peer_certificates();
        let shown = shown.and_then(<[_]>::first);
        let shown = shown.ok_or_else(|| io::Error::other("it has shown no certificate"))?;
        Ok(Certificate::of(shown))
    }

    /// Returns whether the other side has named lockkeeper's protocol. The handshake of TLS is over.
    pub(super) fn is_ours(&self) -> bool {
        self.lock().is_ok_and(|(_, tls)| is_ours(&tls.connection))
    }

    /// Returns the fingerprint of the certificate that the other side has shown, if it has. The handshake of TLS is
    /// over.
    pub(super) fn peer_fingerprint(&self) -> Option<Fingerprint> {
        let (_, tls) = self.lock().ok()?;
        let shown = tls.connection.peer_certificates()?.first()?;
        fingerprint(shown).ok()
    }

    /// Records that the other side has proved that it has the key.
    pub(super) fn authenticated(&self) {
        self.is_authenticated.store(true, Ordering::Release);
    }

    /// Records that the other side is a client that has proved its key, and what that key allows.
    pub(super) fn admit(&self, rights: PeerRights) {
        // There is one handshake, so there are no earlier rights.
        let _ = self.rights.set(rights);
        self.authenticated();
    }
}

impl Tls {
    /// Reads from the socket once, and decrypts what is complete. Only called while nothing decrypted is left.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` when the socket is empty, and `UnexpectedEof` for an end during the handshake of TLS.
    fn receive(&mut self, mut socket: &TcpStream) -> io::Result<()> {
        self.flush_now(socket)?;
        let length = retry(|| self.connection.read_tls(&mut socket))?;
        if length == 0 && self.connection.is_handshaking() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let processed = self.connection.process_new_packets();
        // The read may have produced an answer, or the reason for the end. If the socket is full, the next
        // write sends it.
        self.flush_now(socket)?;
        let state = processed.map_err(|error| of_tls(&error))?;
        self.decrypted = state.plaintext_bytes_to_read();
        self.has_ended = state.peer_has_closed();
        Ok(())
    }

    /// Writes ciphertext until there is none left.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` when the socket is full.
    fn flush(&mut self, mut socket: &TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            if retry(|| self.connection.write_tls(&mut socket))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Writes as much ciphertext as the socket takes.
    fn flush_now(&mut self, socket: &TcpStream) -> io::Result<()> {
        match self.flush(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            // What the other side has sent before it left can still be read.
            Err(error) if is_end(&error) => Ok(()),
            flushed => flushed,
        }
    }

    fn read(&mut self, socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.receive(socket)?,
                // A killed process sends no close_notify, so the end of the socket is the end of the stream.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => {
                    let length = read?;
                    self.decrypted = self.decrypted.saturating_sub(length);
                    return Ok(length);
                }
            }
        }
    }

    fn write(&mut self, socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        self.flush(socket)?;
        if self.encrypted == 0 {
            let most = bytes.len().min(MOST_AT_ONCE);
            let beginning = bytes.get(..most).unwrap_or_default();
            self.encrypted = self.connection.writer().write(beginning)?;
            self.flush(socket)?;
        }
        Ok(std::mem::take(&mut self.encrypted))
    }
}

impl Stream for TlsStream {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (socket, mut tls) = self.lock()?;
        tls.read(socket, buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let (socket, mut tls) = self.lock()?;
        tls.write(socket, bytes)
    }

    fn shutdown(&self) {
        if let Ok((socket, mut tls)) = self.lock() {
            tls.connection.send_close_notify();
            // An error means that the connection has ended already.
            let _ = tls.flush_now(socket);
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn attach(self: Arc<Self>) -> io::Result<Box<dyn AttachedStream>> {
        registration::attach(self)
    }

    fn is_trusted(&self) -> bool {
        self.is_authenticated.load(Ordering::Acquire)
    }

    fn peer_rights(&self) -> Option<PeerRights> {
        self.rights.get().cloned()
    }

    fn peer_host(&self) -> Option<String> {
        Some(self.host.to_string())
    }

    fn has_buffered(&self) -> bool {
        let tls = self.lock();
        tls.is_ok_and(|(_, tls)| tls.decrypted > 0 || tls.has_ended)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }
}

impl AsRawFd for TlsStream {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Socket for TlsStream {
    /// A record may be incomplete, or there may be several.
    const SHORT_READ_EMPTIES: bool = false;

    fn registrations(&self) -> &Registrations<Self> {
        &self.registrations
    }

    fn is_here(&self) -> bool {
        self.socket.get().is_ok()
    }
}

/// The state of TLS contains keys.
impl fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("TlsStream");
        shown.field("host", &self.host).finish_non_exhaustive()
    }
}

/// Returns whether an error means that the other side takes no more bytes.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

fn retry<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
