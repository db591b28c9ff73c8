//! The manager's side of a network connection: accepts it, and checks that the client has a key.
//!
//! Nothing here counts or limits connections: that is up to `server/network`. Invariant: a stream is returned only
//! after the client has proved its key.

use std::{
    future, io,
    net::{IpAddr, TcpListener},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use lockkeeper_protocol::{
    frame::{Encode, Inbox, Response},
    handshake::{
        self, ConnectionSecret, HandshakeError, MOST_HANDSHAKE_BYTES, ManagerBegun, Nonce,
        resume::{Resume, Resumed},
    },
};
use lockkeeper_sys::Private;
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    address::Address,
    keys::KeyRing,
    network_place::NetworkPlace,
    peer_rights::PeerRights,
    transport::{
        register::register,
        stream::{AttachedStream, Stream},
        tls::{
            failure::{NOT_OURS, of_client},
            identities::Identities,
            identity::Identity,
            resumable::{AtLoss, Resumable},
            sent::KeptBudget,
            socket::{Deadline, accept, bind, resolve},
            stream::TlsStream,
        },
    },
};

/// The time limit for resolving the name of the host to listen at.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(5);

/// The time that a refused client has to read the reason.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);

/// A bound endpoint that accepts no client yet.
#[derive(Debug)]
pub(crate) struct TlsEndpoint {
    listener: Private<TcpListener>,
    identities: Identities,
    address: Address,
}

impl TlsEndpoint {
    /// Binds a place, for a manager with that identity.
    ///
    /// # Errors
    ///
    /// Returns an error when the place is not on this machine or in use.
    pub(crate) fn bind(place: &NetworkPlace, identities: &Identities) -> io::Result<Self> {
        let found = resolve(&place.host, place.port, Deadline::after(RESOLVE_PATIENCE))?;
        let address = found.first().ok_or(io::ErrorKind::NotFound)?;
        let listener = bind(*address)?;
        let port = listener.get()?.local_addr()?.port();
        let place = NetworkPlace {
            host: place.host.clone(),
            port,
            shard: 0,
            fingerprint: identities.fingerprint(),
        };
        Ok(Self {
            listener,
            identities: identities.clone(),
            address: Address::of_network(&place),
        })
    }

    /// Returns the address, with the port that is bound and the fingerprint of the public key, if that does not
    /// change.
    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// Attaches the endpoint to the current runtime.
    ///
    /// # Errors
    ///
    /// Returns an error when the socket cannot be registered with the runtime.
    pub(crate) fn attach(self) -> io::Result<TlsAcceptor> {
        Ok(TlsAcceptor {
            listener: register(self.listener, Interest::READABLE)?,
            identities: self.identities,
        })
    }
}

/// An endpoint that is attached to a runtime.
#[derive(Debug)]
pub(crate) struct TlsAcceptor {
    listener: AsyncFd<Private<TcpListener>>,
    identities: Identities,
}

impl TlsAcceptor {
    /// Waits for the next caller, of which only the machine is known.
    ///
    /// # Errors
    ///
    /// Returns an error of the system, such as a lack of descriptors.
    pub(crate) async fn accept(&self) -> io::Result<Caller> {
        future::poll_fn(|task| self.poll_accept(task)).await
    }

    fn poll_accept(&self, task: &mut Context<'_>) -> Poll<io::Result<Caller>> {
        loop {
            let mut ready = ready!(self.listener.poll_read_ready(task))?;
            let (socket, from) = match accept(self.listener.get_ref()) {
                Ok(accepted) => accepted,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        ready.clear_ready();
                        continue;
                    }
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    _ => return Poll::Ready(Err(error)),
                },
            };
            let (identity, not_read) = self.identities.current();
            let connection = identity.begin().map_err(io::Error::other)?;
            let stream = TlsStream::new(socket, connection, from.ip());
            return Poll::Ready(Ok(Caller {
                stream: Arc::new(stream),
                host: from.ip().to_canonical(),
                identity,
                not_read,
            }));
        }
    }
}

/// A connection whose other side has not proved anything.
#[derive(Debug)]
pub(crate) struct Caller {
    stream: Arc<TlsStream>,
    host: IpAddr,
    identity: Identity,
    /// Why the certificate files could not be read again.
    not_read: Option<String>,
}

/// A client that has proved its key.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(super) stream: Arc<TlsStream>,
    /// The name of the key.
    pub(crate) key: String,
    /// The shard that the client wants to reach, which exists.
    pub(crate) shard: u32,
    pub(crate) secret: ConnectionSecret,
    /// Set if the client goes on with an earlier connection.
    pub(crate) resume: Option<Resume>,
}

impl Authenticated {
    /// Begins the stream of a new client. With `frees_on_close` it ends with its first connection.
    pub(crate) fn begin(self, frees_on_close: bool, kept: KeptBudget) -> Arc<Resumable> {
        let at_loss = if frees_on_close {
            AtLoss::End
        } else {
            AtLoss::Wait
        };
        Resumable::new(self.stream, at_loss, kept)
    }

    /// Resumes the stream of an earlier connection, or refuses the client if there is none. The caller limits
    /// the time.
    ///
    /// # Errors
    ///
    /// Returns the reason why the stream is not resumed, which was sent to the client.
    pub(crate) async fn go_on(self, stream: Option<Arc<Resumable>>) -> Result<(), String> {
        let attached = Arc::clone(&self.stream).attach();
        let attached = attached.map_err(|error| error.to_string())?;
        let received = self.resume.map_or(0, |resume| resume.received);
        let suspended = stream.as_ref().and_then(|stream| {
            let suspended = stream.suspend()?;
            Some((stream, suspended))
        });
        let gap = suspended
            .as_ref()
            .and_then(|(stream, _)| stream.refusal(received));
        let reason = match (suspended, gap) {
            (Some((stream, suspended)), None) => {
                let answer = Resumed {
                    received: suspended.received,
                };
                let answer = answer.message().map_err(|error| format!("{error:?}"))?;
                if let Err(Refusal::Silent(why) | Refusal::Told(why)) =
                    send(&*attached, &answer).await
                {
                    return Err(why);
                }
                stream.resume(&suspended, self.stream, received);
                return Ok(());
            }
            (_, Some(gap)) => gap,
            (None, None) => "its session has ended".to_owned(),
        };
        // The client may have left.
        let _ = tokio::time::timeout(REFUSAL_PATIENCE, refuse(&*attached, &reason)).await;
        Err(reason)
    }
}

impl Caller {
    /// Returns the machine that the connection comes from.
    pub(crate) const fn host(&self) -> IpAddr {
        self.host
    }

    /// Returns why the certificate files could not be read again, once for each change of them.
    pub(crate) const fn not_read(&self) -> Option<&String> {
        self.not_read.as_ref()
    }

    /// Performs the handshake of a manager with `shards` shards. The caller limits the time.
    ///
    /// # Errors
    ///
    /// Returns the reason why the client is refused. It was sent to the client if the client speaks the
    /// protocol.
    pub(crate) async fn authenticate(
        self,
        keys: &KeyRing,
        shards: u32,
    ) -> Result<Authenticated, String> {
        let attached = Arc::clone(&self.stream).attach();
        let attached = attached.map_err(|error| error.to_string())?;
        match self.shake(&*attached, keys, shards).await {
            Ok(shaken) => {
                self.stream.admit(shaken.rights);
                Ok(Authenticated {
                    stream: self.stream,
                    key: shaken.key,
                    shard: shaken.shard,
                    secret: shaken.secret,
                    resume: shaken.resume,
                })
            }
            Err(Refusal::Silent(why)) => {
                if self.identity.wants_certificates() {
                    // A client without the right certificate has sent more already. If the socket were closed with
                    // that, the system would discard the alert that says why.
                    let _ = tokio::time::timeout(REFUSAL_PATIENCE, discard(&*attached)).await;
                }
                Err(why)
            }
            Err(Refusal::Told(reason)) => {
                // The client may have left.
                let _ = tokio::time::timeout(REFUSAL_PATIENCE, refuse(&*attached, &reason)).await;
                Err(reason)
            }
        }
    }

    async fn shake(
        &self,
        attached: &dyn AttachedStream,
        keys: &KeyRing,
        shards: u32,
    ) -> Result<Shaken, Refusal> {
        let mut inbox = Inbox::new(MOST_HANDSHAKE_BYTES);
        let message = receive(attached, &mut inbox).await?;
        if !self.stream.is_ours() {
            return Err(Refusal::Silent(NOT_OURS.to_owned()));
        }
        let told = |name: &str, error| Refusal::Told(of_client(error, name));
        let begun = ManagerBegun::read(&message).map_err(|error| told("", error))?;
        let (shard, resumes) = (begun.shard(), begun.resumes());
        let name = begun.key().to_owned();
        let (key, rights) = keys
            .find(&name, self.stream.peer_fingerprint())
            .ok_or_else(|| {
                let name = name.escape_default();
                Refusal::Told(format!("the manager has no key of the name \"{name}\""))
            })?;
        let mut nonce: Nonce = [0; size_of::<Nonce>()];
        getrandom::fill(&mut nonce).map_err(|error| Refusal::Silent(error.to_string()))?;
        let failed = |error| told(&name, error);
        let challenged = begun.challenge(key, self.identity.certificate(), nonce);
        let challenged = challenged.map_err(failed)?;
        send(attached, challenged.message()).await?;
        let message = receive(attached, &mut inbox).await?;
        if !inbox.is_empty() {
            let early = "it went on before the manager had proved its key".to_owned();
            return Err(failed(HandshakeError::BadMessage(early)));
        }
        let (accepted, secret) = challenged.proved(&message).map_err(failed)?;
        if shard >= shards {
            let why = format!("this manager has no shard {shard}, only {shards}");
            return Err(Refusal::Told(why));
        }
        send(attached, &accepted).await?;
        let resume = if resumes {
            let message = receive(attached, &mut inbox).await?;
            Some(Resume::read(&message).map_err(failed)?)
        } else {
            None
        };
        Ok(Shaken {
            key: name,
            rights,
            shard,
            secret,
            resume,
        })
    }
}

/// The result of a handshake.
struct Shaken {
    key: String,
    rights: PeerRights,
    shard: u32,
    secret: ConnectionSecret,
    resume: Option<Resume>,
}

/// Why a client is refused.
enum Refusal {
    /// The client is gone, or does not speak the protocol.
    Silent(String),
    /// The client is told the reason.
    Told(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Silent(error.to_string())
    }
}

async fn receive(attached: &dyn AttachedStream, inbox: &mut Inbox) -> Result<Vec<u8>, Refusal> {
    let mut buffer = [0; 1024];
    loop {
        let message = inbox.next_message();
        let message = message.map_err(|error| Refusal::Told(error.to_string()))?;
        if let Some(message) = message {
            return Ok(message.to_vec());
        }
        match future::poll_fn(|task| attached.poll_read(task, &mut buffer)).await? {
            0 => {
                return Err(Refusal::Silent(
                    "it left before it had proved a key".to_owned(),
                ));
            }
            length => inbox.feed(buffer.get(..length).unwrap_or_default()),
        }
    }
}

async fn send(attached: &dyn AttachedStream, message: &[u8]) -> Result<(), Refusal> {
    let mut bytes = Vec::new();
    let appended = handshake::append(&mut bytes, message);
    appended.map_err(|error| Refusal::Silent(format!("{error:?}")))?;
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let written = future::poll_fn(|task| attached.poll_write(task, rest)).await?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// The most reads after an alert. The client has sent one message after its certificate.
const MOST_DISCARDED: usize = 8;

/// Reads what a client has sent after a failure of TLS, until it has left.
async fn discard(attached: &dyn AttachedStream) {
    let mut buffer = [0; 1024];
    for _ in 0..MOST_DISCARDED {
        let read = future::poll_fn(|task| attached.poll_read(task, &mut buffer)).await;
        match read {
            // TLS repeats its failure for all that follows.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Tells a client why it is refused, and waits until it has left: if a socket is closed with unread bytes, the system
/// discards what was sent.
async fn refuse(attached: &dyn AttachedStream, reason: &str) -> Result<(), Refusal> {
    let mut bye = Vec::new();
    let reason = reason.to_owned();
    let encoded = Response::Bye { reason }.encode_into(&mut bye, MOST_HANDSHAKE_BYTES);
    encoded.map_err(|error| Refusal::Silent(error.to_string()))?;
    send(attached, &bye).await?;
    let mut buffer = [0; 1024];
    while future::poll_fn(|task| attached.poll_read(task, &mut buffer)).await? > 0 {}
    Ok(())
}
