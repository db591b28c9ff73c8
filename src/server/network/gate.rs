//! `Gate`: accepts the callers of a manager's endpoints, checks that they have a key, and passes them to their shards.
//!
//! Invariant: a caller that has proved nothing takes no time of a shard, and a bounded part of this process:
//! one of [`MOST_CALLERS`] slots, a socket and a few kilobytes, for at most [`PATIENCE`] and [`PENALTY`]. A panic closes
//! no endpoint: it is an event, and callers are accepted again.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use futures::future::join_all;
use lockkeeper_protocol::{caught, panic_message};
use tokio::{
    sync::{Semaphore, mpsc::UnboundedSender, oneshot},
    task::{JoinError, JoinSet},
    time,
};

use crate::{
    error::{StartError, lack},
    keys::KeyRing,
    server::{
        network::{
            pending_slots::{MOST_OF_ONE, PendingSlots},
            streams::Streams,
        },
        server::ServerRuntime,
    },
    telemetry::{manager, session},
    transport::{
        stream::Stream,
        tls::{
            accept::{Authenticated, Caller, TlsAcceptor, TlsEndpoint},
            sent::KeptBudget,
        },
    },
};

/// The most callers of all machines that have not proved a key yet. Further ones wait in the queue of the system.
const MOST_CALLERS: usize = 256;

/// The most bytes that all streams keep together. A stream beyond that can be resumed only if its client lacks
/// no bytes.
const MOST_KEPT: usize = 1 << 28;

/// The time limit for a caller to prove its key.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time for which a caller that failed keeps its slot, so that a machine cannot try keys faster.
const PENALTY: Duration = Duration::from_secs(1);

/// The pause before the next accept when the manager has no descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The pause after a panic, before callers are accepted again.
const PANIC_PAUSE: Duration = Duration::from_millis(100);

/// The longest wait for the end of the thread, which may be waiting for the disk that has the key file.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// The state that the callers of all endpoints share.
#[derive(Debug)]
pub(super) struct Gate {
    keys: KeyRing,
    /// The channels to the shards.
    shards: Vec<UnboundedSender<Arc<dyn Stream>>>,
    streams: Streams,
    /// Whether a session ends with its connection.
    frees_on_close: bool,
    /// The budget of the bytes that the streams keep in order to be resumed.
    kept: KeptBudget,
    room: Arc<Semaphore>,
    slots: PendingSlots,
}

impl Gate {
    pub(super) fn new(
        keys: KeyRing,
        shards: Vec<UnboundedSender<Arc<dyn Stream>>>,
        frees_on_close: bool,
    ) -> Self {
        Self {
            keys,
            shards,
            streams: Streams::default(),
            frees_on_close,
            kept: KeptBudget::new(MOST_KEPT),
            room: Arc::new(Semaphore::new(MOST_CALLERS)),
            slots: PendingSlots::default(),
        }
    }

    /// Accepts the callers of an endpoint, for ever.
    async fn accept_all(self: &Arc<Self>, endpoint: &TlsAcceptor) -> Infallible {
        let mut callers = JoinSet::new();
        loop {
            let caller = tokio::select! {
                Some(ended) = callers.join_next() => {
                    if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
                        manager::gate_failed(&panic_message(panic));
                    }
                    continue;
                }
                caller = endpoint.accept() => match caller {
                    Ok(caller) => caller,
                    Err(error) => {
                        manager::accept_failed(&error);
                        time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            // The machine is checked first: a machine with too many callers must not make others wait.
            let host = caller.host();
            let slot = match self.slots.take(host) {
                Ok(slot) => slot,
                Err(refused) => {
                    // Any host can cause this, so only some of these refusals are events.
                    if refused.is_power_of_two() {
                        let why = format!(
                            "{MOST_OF_ONE} connections of its machine have not proved a key yet, \
                             and {refused} more were closed"
                        );
                        session::caller_refused(host, &why);
                    }
                    continue;
                }
            };
            let room = Arc::clone(&self.room).acquire_owned().await;
            let gate = Arc::clone(self);
            callers.spawn(async move {
                let is_known = gate.check(caller).await;
                drop(room);
                if !is_known {
                    time::sleep(PENALTY).await;
                }
                drop(slot);
            });
        }
    }

    /// Checks the key of a caller, and passes it to its shard. Returns whether it has proved a key.
    async fn check(&self, caller: Caller) -> bool {
        let host = caller.host();
        if let Some(error) = self.keys.refresh() {
            manager::keys_not_read(&error);
        }
        if let Some(why) = caller.not_read() {
            manager::keys_not_read(why);
        }
        let shards = u32::try_from(self.shards.len()).unwrap_or(u32::MAX);
        let checked = time::timeout(PATIENCE, caller.authenticate(&self.keys, shards));
        let why = match checked.await {
            Ok(Ok(client)) => {
                self.pass_on(host, client).await;
                return true;
            }
            Ok(Err(why)) => why,
            Err(_) => format!("it has not proved a key within {PATIENCE:?}"),
        };
        session::caller_refused(host, &why);
        false
    }
}

impl Gate {
    /// Passes a client on to its shard, or to the stream that it resumes.
    async fn pass_on(&self, host: IpAddr, client: Authenticated) {
        if let Some(resume) = client.resume {
            let stream = self.streams.find(&resume.secret, &client.key);
            match time::timeout(PATIENCE, client.go_on(stream)).await {
                Ok(Ok(())) => session::resumed(host),
                Ok(Err(why)) => session::not_resumed(host, &why),
                // The client has not read the answer, and tries again.
                Err(_) => {}
            }
            return;
        }
        let shard = usize::try_from(client.shard).ok();
        if let Some(shard) = shard.and_then(|shard| self.shards.get(shard)) {
            let (secret, key) = (client.secret, client.key.clone());
            let stream = client.begin(self.frees_on_close, self.kept.clone());
            self.streams.insert(&secret, key, &stream);
            // The shard may have ended, and with it this thread soon.
            let _ = shard.send(stream);
        }
    }
}

/// The thread of a gate. Its drop ends the thread and frees the endpoints.
#[derive(Debug)]
pub(super) struct GateThread {
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    /// Closed when the thread has ended.
    ended: mpsc::Receiver<()>,
}

impl GateThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::System`] when the system lacks descriptors or threads.
    pub(super) fn start(endpoints: Vec<TlsEndpoint>, gate: Gate) -> Result<Self, StartError> {
        let lacking = |error| StartError::System(lack(&error));
        let runtime = ServerRuntime::new()?;
        let acceptors = {
            let _runtime = runtime.enter();
            let acceptors = endpoints.into_iter().map(TlsEndpoint::attach);
            acceptors.collect::<Result<Vec<_>, _>>().map_err(lacking)?
        };
        let (stop, mut stopped) = oneshot::channel();
        let (end, ended) = mpsc::channel::<()>();
        let gate = Arc::new(gate);
        let run = move || {
            loop {
                let accept = acceptors.iter().map(|endpoint| gate.accept_all(endpoint));
                let serve = async {
                    tokio::select! {
                        _ = &mut stopped => {}
                        _ = join_all(accept) => {}
                    }
                };
                let Err(panic) = caught(|| runtime.block_on(serve)) else {
                    break;
                };
                // The endpoints are still bound, and their callers are accepted again. Those whose keys were being
                // checked are closed.
                manager::gate_failed(&panic);
                let pause = async { time::timeout(PANIC_PAUSE, &mut stopped).await };
                if !matches!(runtime.block_on(pause), Some(Err(_))) {
                    break;
                }
            }
            drop(runtime);
            drop(end);
        };
        let name = "lockkeeper-net".to_owned();
        thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(lacking)?;
        Ok(Self {
            stop: Some(stop),
            ended,
        })
    }
}

impl Drop for GateThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The thread never sends, so the error is that it has ended or the time is up.
        let _ = self.ended.recv_timeout(END_PATIENCE);
    }
}
