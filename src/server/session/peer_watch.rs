//! `PeerWatches`: breaks sessions off when the processes of their clients have ended.
//!
//! A forked child may keep the stream of a process that has ended, and the stream does not end then. The
//! session reads what the process has sent before, and then it ends as at the end of the stream.
//!
//! Invariant: a call costs nothing for this, and a session little memory, since one task waits for all
//! processes of a shard.

use std::{
    cell::{OnceCell, RefCell},
    io,
    os::fd::OwnedFd,
    process,
    rc::Rc,
};

use lockkeeper_protocol::{Peer, SessionId};
use rustc_hash::FxHashMap;
use tokio::task;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    server::session::outgoing::Outgoing,
    transport::{peer_process::PeerEnds, stream::Stream},
};

/// The processes of a shard's clients whose ends are noticed.
#[derive(Default)]
pub(crate) struct PeerWatches {
    sessions: Sessions,
    /// What waits for them, once there is one.
    waiting: OnceCell<(Rc<PeerEnds>, AbortOnDropHandle<()>)>,
}

/// Sessions by their numbers.
type Sessions = Rc<RefCell<FxHashMap<u64, Rc<Outgoing>>>>;

impl PeerWatches {
    /// Returns what waits for the processes, and begins to wait if nothing does yet.
    fn ends(&self) -> io::Result<&PeerEnds> {
        if self.waiting.get().is_none() {
            let ends = Rc::new(PeerEnds::new()?);
            let task = task::spawn_local(wait(Rc::clone(&ends), Rc::clone(&self.sessions)));
            let _ = self.waiting.set((ends, AbortOnDropHandle::new(task)));
        }
        let waiting = self.waiting.get();
        let waiting = waiting.filter(|(_, task)| !task.is_finished());
        let (ends, _) = waiting.ok_or(io::ErrorKind::NotConnected)?;
        Ok(ends)
    }

    fn add(&self, id: u64, process: &OwnedFd, outgoing: &Rc<Outgoing>) -> io::Result<()> {
        self.ends()?.add(process, id)?;
        self.sessions.borrow_mut().insert(id, Rc::clone(outgoing));
        Ok(())
    }

    fn remove(&self, id: u64, process: &OwnedFd) {
        self.sessions.borrow_mut().remove(&id);
        if let Some((ends, _)) = self.waiting.get() {
            ends.remove(process);
        }
    }
}

/// Breaks off the session of each process that ends.
async fn wait(ends: Rc<PeerEnds>, sessions: Sessions) {
    let reported = ends.report(|id| {
        if let Some(outgoing) = sessions.borrow().get(&id) {
            outgoing.break_off();
            if let Some(session) = outgoing.writer.take() {
                session.wake();
            }
        }
    });
    // If the runtime cannot wait any more, it is about to end, and the sessions end with it.
    let _ = reported.await;
}

/// How the end of a client's process is noticed.
pub(super) enum PeerWatch {
    /// The client is this process, whose end is the end of the manager.
    OwnProcess,
    /// The task of the shard waits for the end of the process.
    Process(#[expect(dead_code, reason = "its drop ends the wait")] Watched),
    /// Only the end of the stream is noticed.
    StreamAlone,
}

/// A process whose end is noticed. Its drop ends that.
pub(super) struct Watched {
    id: u64,
    process: OwnedFd,
    watches: Rc<PeerWatches>,
}

impl PeerWatch {
    /// Begins to wait for the process at the other end of a session's stream.
    pub(super) fn begin(
        id: SessionId,
        stream: &dyn Stream,
        outgoing: &Rc<Outgoing>,
        watches: &Rc<PeerWatches>,
    ) -> Self {
        if stream.peer_pid() == Some(process::id()) {
            return Self::OwnProcess;
        }
        let Some(process) = stream.peer_end() else {
            return Self::StreamAlone;
        };
        let id = id.number();
        if watches.add(id, &process, outgoing).is_err() {
            return Self::StreamAlone;
        }
        Self::Process(Watched {
            id,
            process,
            watches: Rc::clone(watches),
        })
    }

    /// Notes in a peer how its end is noticed.
    pub(super) fn note(&self, peer: Peer) -> Peer {
        match self {
            Self::OwnProcess | Self::Process(_) => peer,
            Self::StreamAlone => peer.unwatched(),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watches.remove(self.id, &self.process);
    }
}
