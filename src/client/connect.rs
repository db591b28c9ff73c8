//! Connects a process to an address: it returns the existing connection, or opens a new one.

use std::{
    collections::HashMap,
    fs, future, io, mem,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task,
    time::Duration,
};

use lockkeeper_protocol::{
    SessionId, ShardOf,
    frame::{self, Capabilities, FormerSession, Request, Response},
};
use lockkeeper_sys::{OnlyHere, PerProcess, Private};
use tokio::sync::{Notify, watch};

use crate::{
    address::Address,
    background,
    client::{
        advice::{Asker, advice},
        beats::{forget_former, former},
        connection::{CONNECT_PATIENCE, Connection, Shared},
        lease::{BootTime, Lease},
        settings,
        spin::Spin,
        state::{Session, lock},
    },
    error::{CallError, lack},
    files::{self, own_uid},
    telemetry::client,
    transport::{endpoint::Endpoint, stream::Stream, unix::UnixStream},
};

/// The connections of this process that are in use.
static CONNECTIONS: PerProcess<Mutex<HashMap<Address, Weak<Connection>>>> = PerProcess::new();

/// The connection attempts in progress, one per address. Otherwise thousands of calls at the start of a
/// program would fill the manager's queue.
static ATTEMPTS: PerProcess<Mutex<HashMap<Address, Attempt>>> = PerProcess::new();

/// The result of an attempt, once it has one.
type Attempt = watch::Receiver<Option<Result<Arc<Connection>, CallError>>>;

/// Whether connections last as long as this process.
static KEEPS: AtomicBool = AtomicBool::new(false);

/// The connections that last as long as this process.
static KEPT: PerProcess<Mutex<Vec<Arc<Connection>>>> = PerProcess::new();

/// Keeps all later connections for as long as this process lives, as a worker does. Otherwise each of its tasks
/// would connect again, and a ticket that a task passes on would end with the task's connection.
pub(crate) fn keep_connections() {
    KEEPS.store(true, Ordering::Relaxed);
}

/// Returns whether this process is a worker: only workers keep their connections.
fn asker() -> Asker {
    if KEEPS.load(Ordering::Relaxed) {
        Asker::Worker
    } else {
        Asker::Program
    }
}

impl Connection {
    /// Returns the connection of this process to an address. It opens a new one if none exists with the
    /// settings chosen for the address.
    pub(crate) async fn to(address: &Address) -> Result<Arc<Self>, CallError> {
        if let Some(connection) = Self::existing(address) {
            return Ok(connection);
        }
        if Endpoint::of(address).is_ok_and(|endpoint| endpoint.is_in_process()) {
            // The manager may run on the caller's own runtime, whose clock a test may have paused. It
            // continues as soon as that runtime waits for another one.
            let outcome = Box::pin(Self::connect(address.clone())).await;
            if let Err(why) = &outcome {
                client::not_connected(address, why);
            }
            return outcome;
        }
        // An attempt that began before this call may have looked before the manager or the chosen settings
        // existed. Its success counts for this call, its failure does not.
        let (attempt, is_own) = Self::attempt(address);
        let mut outcome = outcome_of(address, attempt).await;
        let is_of_use = outcome.as_ref().is_ok_and(|it| it.has_chosen_settings());
        if !is_of_use && !is_own {
            let (attempt, _) = Self::attempt(address);
            outcome = outcome_of(address, attempt).await;
        }
        if let Err(why) = &outcome {
            client::not_connected(address, why);
        }
        outcome
    }

    /// Records that this process ends the manager at an address, so the ends of its connections are no news.
    pub(crate) fn expect_end(manager: &Address) {
        let connections = lock(CONNECTIONS.get_or_init(Mutex::default));
        let all: Vec<_> = connections.values().filter_map(Weak::upgrade).collect();
        // The loop runs with the map unlocked: its handles may be the last ones, whose drop ends a stream.
        drop(connections);
        for connection in all {
            let shard = connection.shard_of.shard;
            if connection.address.of_manager(shard).as_ref() == Some(manager) {
                connection.ends_here.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Returns the number of sessions that the shard had before this one.
    pub(crate) fn sessions_before(&self) -> u64 {
        self.shard_of.sessions_before(self.session.number())
    }

    /// Returns the attempt to connect to an address, and whether this call began it. The attempt continues
    /// when the caller that began it is dropped.
    fn attempt(address: &Address) -> (Attempt, bool) {
        let mut attempts = lock(ATTEMPTS.get_or_init(Mutex::default));
        if let Some(attempt) = attempts.get(address) {
            return (attempt.clone(), false);
        }
        let background = match background::start() {
            Ok(background) => background,
            Err(error) => {
                let why = lack(&error);
                let address = address.clone();
                let advice = String::new();
                let failed = Err(CallError::NoManager {
                    address,
                    why,
                    advice,
                });
                return (watch::channel(Some(failed)).1, true);
            }
        };
        let (tell, attempt) = watch::channel(None);
        attempts.insert(address.clone(), attempt.clone());
        drop(attempts);
        let address = address.clone();
        drop(background.spawn(async move {
            let connecting = background.spawn(Self::connect(address.clone()));
            let outcome = connecting
                .await
                .unwrap_or_else(|error| Err(CallError::Protocol(error.to_string())));
            lock(ATTEMPTS.get_or_init(Mutex::default)).remove(&address);
            let _ = tell.send(Some(outcome));
        }));
        (attempt, true)
    }

    fn existing(address: &Address) -> Option<Arc<Self>> {
        let connections = lock(CONNECTIONS.get_or_init(Mutex::default));
        let existing = connections.get(address)?.upgrade();
        drop(connections);
        // This runs with the map unlocked: the check may wake other callers, and end the connection.
        existing.filter(|connection| connection.has_chosen_settings() && connection.is_alive())
    }

    /// Returns whether it has the settings that are chosen for its address now.
    fn has_chosen_settings(&self) -> bool {
        settings::chosen(&self.address).is_none_or(|chosen| chosen == self.settings)
    }

    /// Registers a connection as that of this process to its address, unless one is alive that has the
    /// settings chosen for the address: then it returns that one.
    fn entered(self: Arc<Self>) -> Arc<Self> {
        let connections = lock(CONNECTIONS.get_or_init(Mutex::default));
        let other = connections.get(&self.address).and_then(Weak::upgrade);
        match other {
            Some(other) if other.ended().is_none() && other.has_chosen_settings() => {
                drop(connections);
                other
            }
            // It is dropped with the map unlocked: this may be the last handle.
            _replaced => self.enter_in(connections),
        }
    }

    /// Registers a connection as that of this process to its address, and replaces an earlier one.
    fn enter_in(
        self: Arc<Self>,
        mut connections: MutexGuard<'_, HashMap<Address, Weak<Self>>>,
    ) -> Arc<Self> {
        connections.retain(|_, connection| connection.strong_count() > 0);
        connections.insert(self.address.clone(), Arc::downgrade(&self));
        drop(connections);
        if KEEPS.load(Ordering::Relaxed) {
            let mut kept = lock(KEPT.get_or_init(Mutex::default));
            // A replaced connection lasts for as long as it is used. Its drop may end a stream, so it comes
            // after the lock.
            let is_kept =
                |other: &Arc<Self>| other.address != self.address && other.ended().is_none();
            let (mut still_kept, replaced): (Vec<_>, Vec<_>) =
                mem::take(&mut *kept).into_iter().partition(is_kept);
            still_kept.push(Arc::clone(&self));
            *kept = still_kept;
            drop(kept);
            drop(replaced);
        }
        self
    }

    async fn connect(address: Address) -> Result<Arc<Self>, CallError> {
        // The attempt before this one may have ended since.
        if let Some(connection) = Self::existing(&address) {
            return Ok(connection);
        }
        let no_manager = |error: io::Error| {
            let refused = error.kind() == io::ErrorKind::ConnectionRefused;
            let there = address.path().filter(|_| refused);
            let there = there.and_then(|path| fs::metadata(path).ok());
            if let Some(why) = there.and_then(|there| files::no_socket(&there)) {
                let advice = match address.variable() {
                    Some(variable) => format!("correct the address in {variable}"),
                    None => "use the path of the socket of a manager that runs".to_owned(),
                };
                return CallError::NoManager {
                    address: address.clone(),
                    why,
                    advice,
                };
            }
            let (why, advice) = match (address.path(), error.kind()) {
                // Something is there, and the reason says what to do.
                (None, io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidData) => {
                    (error.to_string(), String::new())
                }
                // The path is free: it has no socket, or one without a listener.
                (_, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) | (None, _) => {
                    (error.to_string(), advice(&address, asker()))
                }
                // The reason contains the advice.
                (Some(path), _) => {
                    let variable = address.variable();
                    let variable =
                        variable.map(|variable| format!("the address is the one in {variable}"));
                    let why = files::explain(path, &error).to_string();
                    (why, variable.unwrap_or_default())
                }
            };
            CallError::NoManager {
                address: address.clone(),
                why,
                advice,
            }
        };
        let endpoint = Endpoint::of(&address).map_err(no_manager)?;
        let stream = endpoint
            .connect(CONNECT_PATIENCE)
            .await
            .map_err(no_manager)?;
        check_user(&address, &*stream)?;
        // Another caller may have connected to an in-process address meanwhile.
        Ok(Self::greet(address, stream).await?.entered())
    }

    /// Connects to a manager over a socket that this process inherited, and registers that as its connection
    /// to the address.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::greet`].
    pub(crate) async fn over(
        socket: Private<OwnedFd>,
        address: &Address,
    ) -> Result<Arc<Self>, CallError> {
        let lacking = |error: io::Error| CallError::NoManager {
            address: address.clone(),
            why: lack(&error),
            advice: String::new(),
        };
        let stream = UnixStream::try_from(socket).map_err(lacking)?;
        // The caller may run outside of a runtime.
        let background = background::start().map_err(lacking)?;
        let greeting = background.spawn(Self::greet(address.clone(), Arc::new(stream)));
        let greeted = greeting.await;
        let greeted = greeted.unwrap_or_else(|error| Err(CallError::Protocol(error.to_string())));
        // An earlier manager at the address may be about to end, so this connection replaces that one.
        Ok(greeted?.enter_in(lock(CONNECTIONS.get_or_init(Mutex::default))))
    }

    /// Sends the hello over a stream and waits for the welcome.
    ///
    /// # Errors
    ///
    /// Returns an error when the manager closes the connection, does not answer, or speaks another protocol.
    pub(crate) async fn greet(
        address: Address,
        stream: Arc<dyn Stream>,
    ) -> Result<Arc<Self>, CallError> {
        let lost = |why: String| CallError::Disconnected {
            address: address.clone(),
            why,
        };
        let mut state = Session::new(frame::FIRST_FRAME_BYTES);
        let settings = settings::chosen(&address).unwrap_or_default();
        let former = former(&address);
        let sent = BootTime::now();
        let frame = {
            // The caller's runtime may have no timer, or a paused clock.
            let background = background::start().map_err(|error| lost(lack(&error)))?;
            let _runtime = background.enter();
            tokio::time::timeout(
                CONNECT_PATIENCE,
                hello(&stream, &mut state, settings.name(), former),
            )
        };
        let frame = match frame.await {
            Ok(Ok(frame)) => frame,
            Ok(Err(why)) => return Err(lost(why)),
            Err(_) => return Err(lost(format!("no welcome within {CONNECT_PATIENCE:?}"))),
        };
        let (session, secret, shard_of, frame_bytes, capabilities, endpoints, lease) =
            match Response::decode(&frame) {
                Ok(Response::Welcome {
                    version: frame::VERSION,
                    incarnation,
                    session,
                    secret,
                    frame_bytes,
                    capabilities,
                    shard,
                    endpoints,
                    lease_millis,
                }) => (
                    SessionId::new(session),
                    secret,
                    ShardOf { incarnation, shard },
                    usize::try_from(frame_bytes).unwrap_or(usize::MAX),
                    capabilities,
                    // A later release may have addresses that this one does not know.
                    endpoints.iter().filter_map(|it| it.parse().ok()).collect(),
                    lease_millis
                        .map(|millis| Arc::new(Lease::new(Duration::from_millis(millis), sent))),
                ),
                Ok(Response::Welcome { version, .. }) => {
                    return Err(CallError::Protocol(format!(
                        "it speaks version {version}, not {}",
                        frame::VERSION
                    )));
                }
                Ok(Response::Bye { reason }) => return Err(lost(reason)),
                Ok(_) => {
                    return Err(CallError::Protocol(
                        "the first frame is no welcome".to_owned(),
                    ));
                }
                Err(error) => return Err(CallError::Protocol(error.to_string())),
            };
        state.allow(frame_bytes);
        if let Some(lease) = &lease {
            state.beats.begin(lease);
        }
        // The manager may have sent more frames with its welcome, such as the reason for a hang-up.
        state.take_in().map_err(lost)?;
        client::connected(&address, session);
        settings.choose_for_all(&address, shard_of);
        if let Some(former) = former {
            forget_former(&address, former);
        }
        let connection = Arc::new(Self {
            address,
            session,
            secret,
            frame_bytes,
            shard_of,
            endpoints,
            capabilities,
            stream: OnlyHere::new(stream),
            shared: OnlyHere::new(Mutex::new(Shared::new(state))),
            waiters: Arc::default(),
            spin: Spin::new(settings.spin),
            settings,
            has_ended: AtomicBool::new(false),
            ends_here: AtomicBool::new(false),
            lease,
            changed: Notify::new(),
        });
        connection.keep_lease();
        Ok(connection)
    }
}

/// Refuses a manager of another user, unless that is root or the user in the address.
pub(super) fn check_user(address: &Address, stream: &dyn Stream) -> Result<(), CallError> {
    let own = own_uid();
    let (why, advice) = match stream.peer_user() {
        Some(user) if [own, 0].contains(&user.uid) || address.owner() == Some(user.uid) => {
            return Ok(());
        }
        Some(user) => {
            let (place, uid) = (address.parts().1, user.uid);
            (
                format!("it is there, but it is uid {uid}'s, and this process is uid {own}"),
                format!("to trust that user, connect to unix:{place}#uid:{uid}"),
            )
        }
        None if stream.is_trusted() => return Ok(()),
        None => (
            "it is there, but its stream neither names its user nor is trusted".to_owned(),
            format!(
                "if it only leads to this user's processes, let is_trusted() of the Stream of {:?} return true, else \
                 let peer_user() return the user",
                address.parts().0
            ),
        ),
    };
    Err(CallError::NoManager {
        address: address.clone(),
        why,
        advice,
    })
}

/// Waits for the result of an attempt.
async fn outcome_of(address: &Address, mut attempt: Attempt) -> Result<Arc<Connection>, CallError> {
    let outcome = async move {
        let outcome = attempt.wait_for(Option::is_some).await;
        outcome.map(|outcome| outcome.clone())
    };
    // The parent's attempt continues only in the parent.
    match OnlyHere::future(outcome).await {
        None => Err(CallError::Forked {
            what: format!("the attempt to connect to {address}"),
        }),
        Some(Ok(Some(outcome))) => outcome,
        Some(Ok(None) | Err(_)) => Err(CallError::Protocol(
            "the attempt to connect was given up".to_owned(),
        )),
    }
}

/// Sends the hello and returns the first frame of the answer.
async fn hello(
    stream: &Arc<dyn Stream>,
    session: &mut Session,
    label: &str,
    former: Option<FormerSession>,
) -> Result<Vec<u8>, String> {
    let attached = Arc::clone(stream).attach().map_err(|error| lack(&error))?;
    let program = std::env::current_exe().unwrap_or_default();
    let program = program.file_name().unwrap_or_default().to_string_lossy();
    let request = Request::Hello {
        version: frame::VERSION,
        pid: std::process::id(),
        program: &program,
        label,
        capabilities: Capabilities::ALL,
        former,
    };
    session.push(&request).map_err(|error| error.to_string())?;
    // A manager that refuses its clients may have closed the stream already. The write error is ignored, so
    // that the reason can be read.
    let _ = future::poll_fn(|task| session.write(|bytes| attached.poll_write(task, bytes))).await;
    loop {
        let read = |task: &mut task::Context<'_>| {
            session.read_first(|scratch| attached.poll_read(task, scratch))
        };
        if let Some(frame) = future::poll_fn(read).await? {
            return Ok(frame);
        }
    }
}
