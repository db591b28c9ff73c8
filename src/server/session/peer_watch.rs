//! `PeerWatches`: ends a session when the process of its client has ended.
//!
//! A forked child may keep the stream of a process that has ended, so the stream does not end. The session
//! then reads what the process sent before, and ends as at the end of the stream.
//!
//! Invariant: a watch costs nothing per call, and little memory per session, since one task waits for all
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

/// The processes of a shard's clients whose ends are watched.
#[derive(Default)]
pub(crate) struct PeerWatches {
    sessions: Sessions,
    /// The task that waits for them, once it is started.
    waiting: OnceCell<(Rc<PeerEnds>, AbortOnDropHandle<()>)>,
}

type Sessions = Rc<RefCell<FxHashMap<u64, Rc<Outgoing>>>>;

impl PeerWatches {
    /// Returns the set of watched processes, and starts the task that waits for them if it does not run yet.
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

    /// Ends the task that waits, as an error of the system would.
    #[cfg(test)]
    pub(super) async fn fail(&self) {
        let (_, task) = self.waiting.get().expect("a process is watched");
        task.abort();
        while !task.is_finished() {
            task::yield_now().await;
        }
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

/// Ends the session of each process that ends.
async fn wait(ends: Rc<PeerEnds>, sessions: Sessions) {
    let reported = ends.report(|id| {
        if let Some(outgoing) = sessions.borrow().get(&id) {
            outgoing.break_off();
            outgoing.task.wake();
        }
    });
    // If the runtime cannot wait any more, it is about to shut down, and the sessions end with it.
    let _ = reported.await;
}

/// How the session notices the end of its client's process.
pub(super) enum PeerWatch {
    /// The client is this process, so it ends with the manager.
    OwnProcess,
    /// The shard's task waits for the end of the process.
    Process(#[expect(dead_code, reason = "its drop ends the wait")] Watched),
    /// The session notices only the end of the stream.
    StreamAlone,
}

/// A process whose end is watched. Its drop stops the watch.
pub(super) struct Watched {
    id: u64,
    process: OwnedFd,
    watches: Rc<PeerWatches>,
}

impl PeerWatch {
    /// Starts to watch the process at the other end of a session's stream. `pid` is its id, if the kernel knows
    /// it.
    pub(super) fn begin(
        id: SessionId,
        pid: Option<u32>,
        stream: &dyn Stream,
        outgoing: &Rc<Outgoing>,
        watches: &Rc<PeerWatches>,
    ) -> Self {
        if pid == Some(process::id()) {
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

    /// Records in a peer how the session notices its end.
    pub(super) fn note(&self, peer: Peer) -> Peer {
        match self {
            Self::OwnProcess | Self::Process(_) => peer,
            Self::StreamAlone => peer.with_unnoticed_death(),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watches.remove(self.id, &self.process);
    }
}
