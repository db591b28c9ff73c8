//! Frames, framing and the local socket: the only file that names interprocess.
//!
//! A frame is its length as four bytes, big-endian, and that many bytes of MessagePack: an array
//! whose first element says which frame it is. PROTOCOL.md tells it to strangers; the two are held
//! against each other by a test.
//!
//! Invariant: nothing that a peer sends makes this file panic, or allocate more than it has sent.

use std::{
    fmt,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    path::Path,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};

use interprocess::{
    ConnectWaitMode,
    local_socket::{
        ConnectOptions, GenericFilePath, Listener, ListenerNonblockingMode, ListenerOptions, Name,
        Stream, ToFsName,
        traits::{Listener as _, StreamCommon as _},
    },
    os::unix::local_socket::ListenerOptionsExt,
};
use lockkeeper_actors::{
    Fault,
    codec::{self, BlobRef, CodecError},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};
use tokio::io::{Interest, unix::AsyncFd};
use tokio_util::bytes::{Buf, Bytes, BytesMut};

/// The first word of every session.
pub(crate) const MAGIC: &str = "lockkeeper";

/// The version of the protocol. Both sides must speak the same.
pub(crate) const VERSION: u32 = 1;

/// The largest frame that is sent before the manager has said how much it takes.
pub(crate) const FIRST_FRAME_BYTES: usize = 1 << 16;

/// What a client says.
#[derive(Debug, PartialEq)]
pub(crate) enum Request<'a> {
    /// The first frame of a session.
    Hello {
        version: u32,
        pid: u32,
        program: &'a str,
        label: &'a str,
    },
    /// Opens an object: a new one without a name, or the one of that name, which is made if there
    /// is a spec.
    Open {
        seq: u64,
        kind: &'a str,
        name: Option<&'a str>,
        spec: Option<BlobRef<'a>>,
    },
    /// Calls an object.
    Call {
        seq: u64,
        object: u32,
        operation: u32,
        micros: Option<u64>,
        arguments: BlobRef<'a>,
    },
    /// Calls an object and wants no answer.
    Cast {
        seq: u64,
        object: u32,
        operation: u32,
        arguments: BlobRef<'a>,
    },
    /// Undoes an earlier call.
    Withdraw { object: u32, seq: u64 },
    /// Ends the object of that name.
    Remove { seq: u64, name: &'a str },
}

/// What a manager says.
#[derive(Debug, PartialEq)]
pub(crate) enum Response<'a> {
    /// The answer to `Hello`.
    Welcome {
        version: u32,
        incarnation: u64,
        session: u64,
        frame_bytes: u64,
    },
    /// The answer to `Open`: the object's number and name, and its operations in order.
    Opened {
        seq: u64,
        object: u32,
        name: String,
        operations: Vec<String>,
    },
    /// The answer to a call, or to `Remove`.
    Reply { seq: u64, body: BlobRef<'a> },
    /// Why there is no such answer.
    Fault { seq: u64, fault: Fault },
    /// The grant that the call got is void.
    Revoked { seq: u64 },
    /// The object is no more.
    Gone { object: u32 },
    /// Why the manager ends the session.
    Bye { reason: String },
}

impl Serialize for Request<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hello {
                version,
                pid,
                program,
                label,
            } => (1, MAGIC, version, pid, program, label).serialize(serializer),
            Self::Open {
                seq,
                kind,
                name,
                spec,
            } => (2, seq, kind, name, spec).serialize(serializer),
            Self::Call {
                seq,
                object,
                operation,
                micros,
                arguments,
            } => (3, seq, object, operation, micros, arguments).serialize(serializer),
            Self::Cast {
                seq,
                object,
                operation,
                arguments,
            } => (4, seq, object, operation, arguments).serialize(serializer),
            Self::Withdraw { object, seq } => (5, object, seq).serialize(serializer),
            Self::Remove { seq, name } => (6, seq, name).serialize(serializer),
        }
    }
}

impl Serialize for Response<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Welcome {
                version,
                incarnation,
                session,
                frame_bytes,
            } => (65, version, incarnation, session, frame_bytes).serialize(serializer),
            Self::Opened {
                seq,
                object,
                name,
                operations,
            } => (66, seq, object, name, operations).serialize(serializer),
            Self::Reply { seq, body } => (67, seq, body).serialize(serializer),
            Self::Fault { seq, fault } => (68, seq, fault).serialize(serializer),
            Self::Revoked { seq } => (69, seq).serialize(serializer),
            Self::Gone { object } => (70, object).serialize(serializer),
            Self::Bye { reason } => (71, reason).serialize(serializer),
        }
    }
}

/// Reads the next element of a frame, which must be there.
fn field<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(sequence: &mut A) -> Result<T, A::Error> {
    sequence
        .next_element()?
        .ok_or_else(|| de::Error::custom("the frame ends too early"))
}

struct RequestVisitor;

impl<'de> Visitor<'de> for RequestVisitor {
    type Value = Request<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request: an array that begins with its number")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let s = &mut seq;
        Ok(match field::<u8, _>(s)? {
            1 => {
                if field::<&str, _>(s)? != MAGIC {
                    return Err(de::Error::custom("the first frame does not say lockkeeper"));
                }
                let version = field(s)?;
                if version != VERSION {
                    // Only what stands before is the same in all versions.
                    while s.next_element::<de::IgnoredAny>()?.is_some() {}
                    return Ok(Request::Hello {
                        version,
                        pid: 0,
                        program: "",
                        label: "",
                    });
                }
                Request::Hello {
                    version,
                    pid: field(s)?,
                    program: field(s)?,
                    label: field(s)?,
                }
            }
            2 => Request::Open {
                seq: field(s)?,
                kind: field(s)?,
                name: field(s)?,
                spec: field(s)?,
            },
            3 => Request::Call {
                seq: field(s)?,
                object: field(s)?,
                operation: field(s)?,
                micros: field(s)?,
                arguments: field(s)?,
            },
            4 => Request::Cast {
                seq: field(s)?,
                object: field(s)?,
                operation: field(s)?,
                arguments: field(s)?,
            },
            5 => Request::Withdraw {
                object: field(s)?,
                seq: field(s)?,
            },
            6 => Request::Remove {
                seq: field(s)?,
                name: field(s)?,
            },
            other => return Err(de::Error::custom(format!("there is no request {other}"))),
        })
    }
}

impl<'de> Deserialize<'de> for Request<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RequestVisitor)
    }
}

struct ResponseVisitor;

impl<'de> Visitor<'de> for ResponseVisitor {
    type Value = Response<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a response: an array that begins with its number")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let s = &mut seq;
        Ok(match field::<u8, _>(s)? {
            65 => Response::Welcome {
                version: field(s)?,
                incarnation: field(s)?,
                session: field(s)?,
                frame_bytes: field(s)?,
            },
            66 => Response::Opened {
                seq: field(s)?,
                object: field(s)?,
                name: field(s)?,
                operations: field(s)?,
            },
            67 => Response::Reply {
                seq: field(s)?,
                body: field(s)?,
            },
            68 => Response::Fault {
                seq: field(s)?,
                fault: field(s)?,
            },
            69 => Response::Revoked { seq: field(s)? },
            70 => Response::Gone { object: field(s)? },
            71 => Response::Bye { reason: field(s)? },
            other => return Err(de::Error::custom(format!("there is no response {other}"))),
        })
    }
}

impl<'de> Deserialize<'de> for Response<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ResponseVisitor)
    }
}

/// Appends a frame to a buffer, which is as before when that fails.
///
/// # Errors
///
/// Returns an error when the message does not encode, or has more bytes than `most`.
pub(crate) fn append<T: Serialize>(
    buffer: &mut Vec<u8>,
    message: &T,
    most: usize,
) -> Result<(), CodecError> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    let encoded = codec::encode_into(buffer, message).and_then(|()| {
        let length = buffer.len() - start - HEADER;
        match u32::try_from(length) {
            Ok(header) if length <= most => Ok(header),
            Ok(_) | Err(_) => Err(CodecError::new(format!(
                "a message of {length} bytes is above the limit of {most}"
            ))),
        }
    });
    match encoded {
        Ok(header) => {
            if let Some(place) = buffer.get_mut(start..start + HEADER) {
                place.copy_from_slice(&header.to_be_bytes());
            }
            Ok(())
        }
        Err(error) => {
            buffer.truncate(start);
            Err(error)
        }
    }
}

/// The bytes of a frame before its message.
const HEADER: usize = 4;

/// Bytes that came in, on their way to be frames.
#[derive(Debug)]
pub(crate) struct Inbox {
    buffer: BytesMut,
    most: usize,
}

impl Inbox {
    /// An inbox that refuses messages of more bytes than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            most,
        }
    }

    /// Takes larger messages from now on.
    pub(crate) fn allow(&mut self, most: usize) {
        self.most = most;
    }

    /// Adds bytes as they were read.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole message.
    ///
    /// # Errors
    ///
    /// Returns an error when the message is above the limit; the stream is of no use then.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, CodecError> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
        if length > self.most {
            return Err(CodecError::new(format!(
                "a frame of {length} bytes is above the limit of {}",
                self.most
            )));
        }
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// A connected local socket that never blocks and belongs to no runtime.
#[derive(Debug)]
pub(crate) struct Socket(Stream);

impl Socket {
    /// Connects to the socket at a path, and waits at most that long when its queue is full.
    pub(crate) fn connect(path: &Path, wait: Duration) -> io::Result<Self> {
        ConnectOptions::new()
            .name(name(path)?)
            .wait_mode(ConnectWaitMode::Timeout(wait))
            .nonblocking_stream(true)
            .connect_sync()
            .map(Self)
    }

    /// Two sockets that are connected to each other, in memory alone.
    #[cfg(test)]
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let end = |fd: std::os::unix::net::UnixStream| -> io::Result<Self> {
            fd.set_nonblocking(true)?;
            Ok(Self(
                interprocess::os::unix::uds_local_socket::Stream::from(fd).into(),
            ))
        };
        let (one, other) = std::os::unix::net::UnixStream::pair()?;
        Ok((end(one)?, end(other)?))
    }

    /// The user at the other end.
    pub(crate) fn peer_uid(&self) -> io::Result<Option<u32>> {
        Ok(self.0.peer_creds()?.euid())
    }

    /// Reads what is there, `WouldBlock` if that is nothing.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        retry(|| (&self.0).read(buffer))
    }

    /// Writes what fits, `WouldBlock` if that is nothing.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        retry(|| (&self.0).write(bytes))
    }

    /// Ends the stream in both directions, for whoever reads from it.
    pub(crate) fn shut_down(&self) {
        let Stream::UdSocket(stream) = &self.0;
        // A stream that is down already has nobody to tell.
        let _ = stream.inner().shutdown(std::net::Shutdown::Both);
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        let Stream::UdSocket(stream) = &self.0;
        stream.inner().as_raw_fd()
    }
}

/// A connected local socket as one runtime knows it.
///
/// It is registered for reading alone. A socket that is registered for writing too wakes its
/// reader each time that the peer reads, which costs a system call a message; so it is registered
/// for that only once it was full.
#[derive(Debug)]
pub(crate) struct Link {
    socket: AsyncFd<Arc<Socket>>,
    room: OnceLock<AsyncFd<OwnedFd>>,
}

impl Link {
    /// Registers a socket with the current runtime, beside others that it may be registered with.
    pub(crate) fn new(socket: Arc<Socket>) -> io::Result<Self> {
        Ok(Self {
            socket: register(socket, Interest::READABLE)?,
            room: OnceLock::new(),
        })
    }

    /// Reads what is there, or waits until there is something. Zero is the end.
    pub(crate) fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            // A runtime that has ended reads nothing; another one does.
            let Ok(mut ready) = ready!(self.socket.poll_read_ready(context)) else {
                return Poll::Pending;
            };
            match self.socket.get_ref().try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Ok(length) => {
                    if 0 < length && length < buffer.len() {
                        // A read that did not fill the buffer has emptied the socket.
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(length));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Writes what fits, or waits until something does.
    pub(crate) fn poll_write(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.get_ref().try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.room()?.poll_write_ready(context))?.clear_ready();
                }
                written => return Poll::Ready(written),
            }
        }
    }

    fn room(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        if let Some(room) = self.room.get() {
            return Ok(room);
        }
        // One runtime knows a descriptor once, so this is another one of the same socket.
        let Stream::UdSocket(stream) = &self.socket.get_ref().0;
        let room = register(stream.inner().try_clone()?.into(), Interest::WRITABLE)?;
        Ok(self.room.get_or_init(|| room))
    }
}

/// A bound local socket that belongs to no runtime yet.
#[derive(Debug)]
pub(crate) struct Door(Listener);

/// A bound local socket that lets clients in.
#[derive(Debug)]
pub(crate) struct OpenDoor(AsyncFd<Door>);

impl Door {
    /// Binds a socket at a path where there is none, for this user alone.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        ListenerOptions::new()
            .name(name(path)?)
            .reclaim_name(false)
            .mode(0o600)
            .nonblocking(ListenerNonblockingMode::Both)
            .create_sync()
            .map(Self)
    }

    /// Registers the socket with the current runtime.
    pub(crate) fn open(self) -> io::Result<OpenDoor> {
        register(self, Interest::READABLE).map(OpenDoor)
    }
}

impl AsRawFd for Door {
    fn as_raw_fd(&self) -> RawFd {
        let Listener::UdSocket(listener) = &self.0;
        listener.as_fd().as_raw_fd()
    }
}

impl OpenDoor {
    /// Lets the next client in.
    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        loop {
            let mut ready = self.0.readable().await?;
            match retry(|| ready.get_inner().0.accept()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                accepted => return accepted.map(Socket),
            }
        }
    }
}

/// Registers a descriptor with the current runtime.
#[expect(
    deprecated,
    reason = "the successor is unsafe, for types whose descriptor may change; those here own theirs"
)]
fn register<T: AsRawFd>(io: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(io, interest)
}

fn name(path: &Path) -> io::Result<Name<'_>> {
    path.to_fs_name::<GenericFilePath>()
}

fn retry<T>(mut operation: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match operation() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
