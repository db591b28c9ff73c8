//! The state that all sessions of a shard share, and the reasons for the end of a session.

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
use tokio::sync::{mpsc, oneshot};

use crate::{
    address::Address,
    limits::Limits,
    server::{
        session::{
            admitted::Counts, buffer_budget::BufferBudget, clients::Clients,
            in_mailboxes::AllInMailboxes, lease_rule::LeaseRule, leased::Leased,
            peer_watch::PeerWatches,
        },
        supervisor::supervisor::Supervisor,
    },
    telemetry::session,
};

/// The state that all sessions of a shard share.
pub(crate) struct Context {
    pub(crate) supervisor: Addr<Supervisor>,
    pub(crate) shell: Rc<Shell>,
    pub(crate) limits: Limits,
    /// The most unanswered calls of a session beyond `Limits::calls_in_flight`.
    pub(crate) calls_at_limit: usize,
    pub(crate) shard_of: ShardOf,
    pub(crate) secret: ManagerSecret,
    /// The addresses at which clients on other machines reach the manager.
    pub(crate) endpoints: Arc<[Address]>,
    /// The budget of unread bytes for all sessions of the manager.
    pub(crate) unread: Arc<BufferBudget>,
    /// The budget of messages that have arrived in part, for all sessions of the manager.
    pub(crate) arriving: Arc<BufferBudget>,
    /// Whether the manager searches for deadlocks, and so has to know the caller of each call.
    pub(crate) seeks_deadlocks: bool,
    /// The processes whose ends the shard watches.
    pub(crate) watches: Rc<PeerWatches>,
    /// The channel for clients of a pool that have left.
    pub(crate) left: Option<mpsc::UnboundedSender<LeftClient>>,
    /// The buffer that all sessions read into, one after the other.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// The leases of sessions over a network.
    pub(crate) lease: Option<LeaseRule>,
    /// The bytes of messages that may not have reached their objects.
    pub(crate) in_mailboxes: AllInMailboxes,
    /// The clients, by their processes or keys.
    pub(crate) clients: Clients,
    /// How many sessions each key has.
    pub(crate) counts: Rc<Counts>,
    /// The sessions with a lease.
    pub(crate) leased: Rc<Leased>,
    /// The reason for the manager's end, if it was not told to end.
    pub(crate) end: OnceCell<String>,
}

/// A client of a pool whose session is about to end. Its calls are withdrawn once this value is dropped.
#[derive(Debug)]
pub(crate) struct LeftClient {
    pub(crate) pid: u32,
    #[expect(dead_code, reason = "its drop lets the session end")]
    session: oneshot::Sender<()>,
}

impl LeftClient {
    /// Returns the client, and a future that waits until the client is dropped.
    pub(super) fn new(pid: u32) -> (Self, impl Future) {
        let (session, dropped) = oneshot::channel();
        (Self { pid, session }, dropped)
    }
}

impl Context {
    /// The reason for the end of the manager.
    pub(super) fn why_it_ends(&self) -> String {
        match self.end.get() {
            Some(why) => why.clone(),
            None => "it was shut down, or its last handle was dropped".to_owned(),
        }
    }
}

/// The reason for the end of a session.
#[derive(Debug)]
pub(super) enum End {
    /// The client is gone.
    Left,
    /// The client is gone, and has not read all that was written to it.
    LeftUnread,
    /// The client has said that its session ends.
    Goodbye,
    /// A later session of the client has replaced this one.
    Replaced,
    /// The manager ends.
    WithManager,
    /// The lease of the session has ended, and with it what the client holds.
    Lapsed(String),
    /// The client broke a rule of the protocol, which the `Bye` names.
    Offence(String),
}

impl End {
    /// The rule that the client broke, if it broke one.
    pub(super) fn offence(&self) -> Option<&str> {
        match self {
            Self::Left | Self::LeftUnread | Self::Goodbye | Self::Replaced | Self::WithManager => {
                None
            }
            Self::Offence(reason) | Self::Lapsed(reason) => Some(reason),
        }
    }

    /// The same reason for a client without a session.
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
            // Linux returns this error for a Unix socket whose other end was closed with unread bytes.
            io::ErrorKind::ConnectionReset => Self::LeftUnread,
            _ => Self::Left,
        }
    }
}

/// Yields behind every task that is ready now. Tokio's own yield polls for I/O first, which would cost a
/// system call per chunk.
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
