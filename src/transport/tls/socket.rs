//! TCP sockets with their options. A forked child inherits none of them.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use lockkeeper_sys::Private;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, connect, socket_with,
        sockopt::{
            set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl,
            set_tcp_user_timeout, socket_error,
        },
    },
};

/// The time without an acknowledgement after which the system of a client ends a connection.
pub(super) const CLIENT_PATIENCE: Duration = Duration::from_secs(8);

/// The same for a manager. It is longer, so that the client notices first.
pub(super) const MANAGER_PATIENCE: Duration = Duration::from_secs(10);

/// The silence after which the system sends a keepalive probe, and the pause between two probes.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// The time by which an operation has to be done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    pub(super) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Returns whether more than that time is left.
    pub(super) fn allows(self, time: Duration) -> bool {
        self.left() > time
    }

    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

/// Connects to the first of a host's addresses that answers.
///
/// # Errors
///
/// Returns the error of the last address, and an error when the name is not resolved or the time is up.
pub(super) fn connect_to(
    host: &str,
    port: u16,
    deadline: Deadline,
) -> io::Result<Private<TcpStream>> {
    let mut last = None;
    let addresses = resolve(host, port, deadline)?;
    let counts = (1..=u32::try_from(addresses.len()).unwrap_or(u32::MAX)).rev();
    for (address, left) in addresses.into_iter().zip(counts) {
        // An address that does not answer leaves time for the others.
        let part = Deadline::after(deadline.left() / left);
        match connect_one(address, part) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| unresolved(host, "it has no address")))
}

/// Finds the addresses of a host. A name is looked up on another thread, because the look-up has no time limit.
pub(super) fn resolve(host: &str, port: u16, deadline: Deadline) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (sender, receiver) = mpsc::channel();
    let name = host.to_owned();
    let resolve = move || {
        let found = (name.as_str(), port).to_socket_addrs();
        // An error means that the time is up.
        let _ = sender.send(found.map(Iterator::collect::<Vec<_>>));
    };
    let thread = "lockkeeper-resolve".to_owned();
    thread::Builder::new().name(thread).spawn(resolve)?;
    match receiver.recv_timeout(deadline.left()) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(unresolved(host, &error.to_string())),
        Err(_) => Err(unresolved(host, "no answer in time")),
    }
}

fn unresolved(host: &str, why: &str) -> io::Error {
    let why = format!("the name {host} is not resolved: {why}");
    io::Error::new(io::ErrorKind::NotFound, why)
}

fn connect_one(address: SocketAddr, deadline: Deadline) -> io::Result<Private<TcpStream>> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Forks wait while the socket is opened, and not while it connects.
    let socket = Private::open(|| {
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        Ok(TcpStream::from(socket))
    })?;
    prepare(socket.get()?, CLIENT_PATIENCE)?;
    match connect(socket.get()?, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => {
            wait(socket.get()?, PollFlags::OUT, deadline)?;
            socket_error(socket.get()?)??;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(socket)
}

/// Binds a port of this machine.
pub(super) fn bind(address: SocketAddr) -> io::Result<Private<TcpListener>> {
    Private::open(|| {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })
}

/// Accepts the next connection.
///
/// # Errors
///
/// Returns `WouldBlock` when there is none.
pub(super) fn accept(
    listener: &Private<TcpListener>,
) -> io::Result<(Private<TcpStream>, SocketAddr)> {
    let listener = listener.get()?;
    let mut from = None;
    let socket = Private::open(|| {
        let (socket, peer) = listener.accept()?;
        from = Some(peer);
        Ok(socket)
    })?;
    let from = from.ok_or(io::ErrorKind::NotConnected)?;
    socket.get()?.set_nonblocking(true)?;
    prepare(socket.get()?, MANAGER_PATIENCE)?;
    Ok((socket, from))
}

/// Sets the options of a connection.
fn prepare(socket: &TcpStream, patience: Duration) -> io::Result<()> {
    // Otherwise a small frame waits for the acknowledgement of the one before.
    socket.set_nodelay(true)?;
    let millis = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    set_tcp_user_timeout(socket, millis)?;
    // Without keepalive, the end of the other machine is noticed only while something is sent.
    set_socket_keepalive(socket, true)?;
    set_tcp_keepidle(socket, KEEPALIVE)?;
    set_tcp_keepintvl(socket, KEEPALIVE)?;
    set_tcp_keepcnt(socket, 2)?;
    Ok(())
}

/// Waits until a socket is ready.
///
/// # Errors
///
/// Returns `TimedOut` when the time is up before.
pub(super) fn wait(socket: impl AsFd, flags: PollFlags, deadline: Deadline) -> io::Result<()> {
    loop {
        let left = deadline.left();
        if left.is_zero() {
            // The socket may be ready each time, because the other side may send without end.
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(&socket, flags)], Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
