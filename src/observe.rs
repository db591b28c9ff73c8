//! What is told of managers, sessions, clients and pools to whoever listens: events and numbers.
//!
//! Each function is named for the fact that it takes note of. docs/OBSERVING.md lists what is told,
//! and a test holds it against the code. Invariant: `tracing` and `metrics` are named in this room
//! alone, and here nothing is formatted while nobody listens.

mod call;
mod numbers;

use std::{fmt::Display, rc::Rc, sync::Arc};

use lockkeeper_actors::{Deadlock, Peer, SessionId, Shell, data::TaskFault};

pub(crate) use self::{
    call::{Calling, cast, numbered},
    numbers::Numbers,
};
use crate::{Address, CallError, StartError, TaskError, part::Home, process::Ending};

/// The targets of events, by which a subscriber chooses.
mod target {
    pub(super) const MANAGER: &str = "lockkeeper::manager";
    pub(super) const SESSION: &str = "lockkeeper::session";
    pub(super) const CLIENT: &str = "lockkeeper::client";
    pub(super) const CALL: &str = "lockkeeper::call";
    pub(super) const POOL: &str = "lockkeeper::pool";
}

/// The time of a manager, from its first client to its last.
#[derive(Debug)]
pub(crate) struct Reign(Address);

impl Reign {
    /// A manager serves at an address. Of several arbiters the first one tells it, for all.
    pub(crate) fn begin(address: &Address, home: Home) -> Option<Self> {
        let Home { incarnation, part } = home;
        let arbiters = part.of();
        (part.index() == 0).then(|| {
            tracing::info!(target: target::MANAGER, %address, incarnation, arbiters, "manager started");
            Self(address.clone())
        })
    }
}

impl Drop for Reign {
    fn drop(&mut self) {
        tracing::info!(target: target::MANAGER, address = %self.0, "manager ended");
    }
}

/// A manager has no socket to be reached by.
pub(crate) fn door_failed(why: &impl Display) {
    tracing::error!(target: target::MANAGER, %why, "manager cannot let clients in");
}

/// A manager has no file descriptor left for the next client, or the system fails otherwise.
pub(crate) fn accept_failed(why: &impl Display) {
    tracing::warn!(target: target::MANAGER, %why, "client kept waiting");
}

/// Callers wait for one another, and would for ever.
pub(crate) fn deadlock_found(deadlock: &Deadlock) {
    tracing::warn!(target: target::MANAGER, callers = deadlock.size, %deadlock, "deadlock found");
}

/// A client was sent away before it had a session.
pub(crate) fn client_refused(reason: &str) {
    metrics::counter!(numbers::REFUSED_CLIENTS).increment(1);
    tracing::warn!(target: target::SESSION, reason, "client refused");
}

/// The stay of a client with a manager. Dropped before its end, it is the manager that ends.
#[derive(Debug)]
pub(crate) struct Stay {
    id: SessionId,
    peer: Arc<Peer>,
    has_ended: bool,
}

impl Stay {
    /// A client has a session.
    pub(crate) fn begin(id: SessionId, peer: &Arc<Peer>) -> Self {
        metrics::counter!(numbers::SESSIONS_BEGUN).increment(1);
        metrics::gauge!(numbers::SESSIONS).increment(1.0);
        tracing::debug!(
            target: target::SESSION,
            session = id.number(),
            pid = peer.pid,
            program = peer.program,
            label = peer.label,
            "session begun"
        );
        Self {
            id,
            peer: Arc::clone(peer),
            has_ended: false,
        }
    }

    /// The client has left, or has done what it must not.
    pub(crate) fn end(mut self, offence: Option<&str>) {
        self.has_ended = true;
        let Some(reason) = offence else {
            return self.end_well("left", "the client left");
        };
        tracing::warn!(
            target: target::SESSION,
            session = self.id.number(),
            pid = self.peer.pid,
            program = self.peer.program,
            label = self.peer.label,
            reason,
            "session ended"
        );
        Self::count("offence");
    }

    fn end_well(&self, how: &'static str, reason: &str) {
        tracing::debug!(
            target: target::SESSION,
            session = self.id.number(),
            pid = self.peer.pid,
            program = self.peer.program,
            label = self.peer.label,
            reason,
            "session ended"
        );
        Self::count(how);
    }

    fn count(how: &'static str) {
        metrics::gauge!(numbers::SESSIONS).decrement(1.0);
        metrics::counter!(numbers::SESSIONS_ENDED, "how" => how).increment(1);
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end_well("shutdown", "the manager ends");
        }
    }
}

/// Bytes came from a client.
pub(crate) fn received(shell: &Rc<Shell>, bytes: usize) {
    shell
        .tallies()
        .received
        .add(u64::try_from(bytes).unwrap_or_default());
}

/// Bytes went to a client.
pub(crate) fn sent(shell: &Rc<Shell>, bytes: usize) {
    shell
        .tallies()
        .sent
        .add(u64::try_from(bytes).unwrap_or_default());
}

/// This process has a session with a manager.
pub(crate) fn connected(address: &Address, session: SessionId) {
    metrics::counter!(numbers::CONNECTS).increment(1);
    let session = session.number();
    tracing::debug!(target: target::CLIENT, %address, session, "connected");
}

/// This process got no session with a manager.
pub(crate) fn not_connected(address: &Address, why: &CallError) {
    tracing::debug!(target: target::CLIENT, %address, %why, "not connected");
}

/// This process has lost its session.
pub(crate) fn disconnected(address: &Address, session: SessionId, why: &str) {
    metrics::counter!(numbers::DISCONNECTS).increment(1);
    let session = session.number();
    tracing::warn!(target: target::CLIENT, %address, session, why, "disconnected");
}

/// This process has ended its session, since nobody used it any more.
pub(crate) fn parted(address: &Address, session: SessionId) {
    let session = session.number();
    tracing::debug!(target: target::CLIENT, %address, session, "connection closed");
}

/// A worker process was started.
pub(crate) fn worker_started(place: usize, pid: Option<u32>) {
    metrics::counter!(numbers::WORKERS_STARTED).increment(1);
    tracing::debug!(target: target::POOL, place, pid, "worker started");
}

/// A worker process takes tasks from now on.
pub(crate) fn worker_ready(place: usize, pid: Option<u32>) {
    tracing::debug!(target: target::POOL, place, pid, "worker ready");
}

/// A worker process did not get ready.
pub(crate) fn worker_not_ready(place: usize, why: &StartError) {
    metrics::counter!(numbers::WORKERS_ENDED, "how" => "not_ready").increment(1);
    tracing::warn!(target: target::POOL, place, %why, "worker not ready");
}

/// A worker process has ended: it has gone home, has made room for another, or has died.
pub(crate) fn worker_ended(place: usize, pid: Option<u32>, ending: &Ending) {
    let status = &*ending.status;
    let how = if ending.is_done || ending.is_well {
        tracing::debug!(target: target::POOL, place, pid, status, "worker ended");
        "done"
    } else {
        tracing::warn!(target: target::POOL, place, pid, status, "worker died");
        "died"
    };
    metrics::counter!(numbers::WORKERS_ENDED, "how" => how).increment(1);
}

/// A place in a pool stays empty.
pub(crate) fn place_given_up(place: usize) {
    tracing::error!(target: target::POOL, place, "worker's place stays empty");
}

/// Tasks of that name have ended: they have their outputs, or have none, and why.
pub(crate) fn tasks_ended<'a, R: 'a>(
    task: &str,
    outcomes: impl Iterator<Item = Result<&'a R, &'a TaskError>>,
) {
    let mut done = 0;
    for outcome in outcomes {
        match outcome {
            Ok(_) => done += 1,
            Err(why) => task_failed(task, why),
        }
    }
    if done > 0 {
        metrics::counter!(numbers::TASKS, "outcome" => "done").increment(done);
    }
}

/// A task has no output.
#[cold]
fn task_failed(task: &str, why: &TaskError) {
    let outcome = if let TaskError::Failed(TaskFault::Panicked(message)) = why {
        tracing::warn!(target: target::POOL, task, why = message, "task panicked");
        "panicked"
    } else if let TaskError::Failed(TaskFault::WorkerDied { pid }) = why {
        tracing::warn!(target: target::POOL, task, pid, "task failed: its worker died");
        "worker_died"
    } else {
        tracing::debug!(target: target::POOL, task, %why, "task failed");
        "failed"
    };
    metrics::counter!(numbers::TASKS, "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fmt};

    use tracing_subscriber::{
        filter::LevelFilter,
        fmt as lines,
        layer::{Layer, SubscriberExt},
        registry,
    };

    use super::*;

    thread_local! {
        static FORMATTED: Cell<u32> = const { Cell::new(0) };
    }

    /// Counts how often it is put into words.
    struct Touchy;

    impl Display for Touchy {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            FORMATTED.set(FORMATTED.get() + 1);
            f.write_str("touched")
        }
    }

    /// Takes note of facts whose words count, and tells how often they were formed.
    fn formatted() -> u32 {
        FORMATTED.set(0);
        door_failed(&Touchy);
        accept_failed(&Touchy);
        Calling::begin("lock", "l", "acquire").end(&Err::<(), _>(Touchy));
        FORMATTED.get()
    }

    fn formatted_before(level: LevelFilter) -> u32 {
        let listener = lines::layer().with_writer(std::io::sink).with_filter(level);
        tracing::subscriber::with_default(registry().with(listener), formatted)
    }

    #[test]
    fn nothing_is_formatted_while_nobody_listens() {
        assert_eq!(formatted(), 0);
        assert_eq!(formatted_before(LevelFilter::OFF), 0);
        // The door is an error, the accept a warning.
        assert_eq!(formatted_before(LevelFilter::ERROR), 1);
        assert_eq!(formatted_before(LevelFilter::WARN), 2);
        assert!(formatted_before(LevelFilter::TRACE) > 2);
    }

    #[test]
    fn call_that_nobody_listens_to_carries_one_empty_pointer() {
        let calling = Calling::begin("lock", "l", "acquire");
        assert!(!calling.is_heard());
        assert_eq!(size_of_val(&calling), size_of::<usize>());
        let listener = lines::layer().with_writer(std::io::sink);
        tracing::subscriber::with_default(registry().with(listener), || {
            assert!(Calling::begin("lock", "l", "acquire").is_heard());
        });
    }
}
