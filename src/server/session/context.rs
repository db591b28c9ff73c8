//! What all sessions of a shard share, and the reasons for which a session ends.

use std::{
    cell::{OnceCell, RefCell},
    future, io,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use actix::Addr;
use lockkeeper_actors::Shell;
use lockkeeper_protocol::{ManagerSecret, ShardOf};
use tokio::sync::mpsc;

use crate::{
    limits::Limits,
    server::{
        session::{peer_watch::PeerWatches, unread::UnreadBudget},
        supervisor::supervisor::Supervisor,
    },
    telemetry::session,
};

/// What all sessions of a shard share.
pub(crate) struct Context {
    pub(crate) supervisor: Addr<Supervisor>,
    pub(crate) shell: Rc<Shell>,
    pub(crate) limits: Limits,
    pub(crate) shard_of: ShardOf,
    pub(crate) secret: ManagerSecret,
    /// What all sessions of the manager may leave unread together.
    pub(crate) unread: Arc<UnreadBudget>,
    /// Whether the manager looks for deadlocks, and so has to know who calls.
    pub(crate) seeks_deadlocks: bool,
    /// The processes whose ends are noticed.
    pub(crate) watches: Rc<PeerWatches>,
    /// Where to report the process ids of clients whose sessions have ended.
    pub(crate) ended: Option<mpsc::UnboundedSender<u32>>,
    /// Where all sessions read into, one after the other.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// Why the manager ends, if not because it was told to.
    pub(crate) end: OnceCell<String>,
}

/// Why a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client is gone.
    Left,
    /// The client is gone, and has not read all that was written to it.
    LeftUnread,
    /// The client did what it must not, and is told.
    Offence(String),
}

impl End {
    /// What the client did that it must not.
    pub(super) fn offence(&self) -> Option<&str> {
        match self {
            Self::Left | Self::LeftUnread => None,
            Self::Offence(reason) => Some(reason),
        }
    }

    /// The same for a client that never had a session.
    pub(super) fn before_hello(self) -> Self {
        if let Some(reason) = self.offence() {
            session::client_refused(reason);
        }
        self
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // Linux says this of a Unix socket whose other end was closed with unread bytes.
            io::ErrorKind::ConnectionReset => Self::LeftUnread,
            _ => Self::Left,
        }
    }
}

/// Steps behind every task that is ready now. Unlike tokio's own yield it does not look for I/O
/// first, which would cost a system call a chunk.
pub(super) async fn let_others_run() {
    let mut stepped_back = false;
    future::poll_fn(|context| {
        if stepped_back {
            return Poll::Ready(());
        }
        stepped_back = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
