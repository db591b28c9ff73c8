//! The inside of a manager, or of one of its shards: lets clients in, and ends with all of them.
//!
//! Runs in an actix system, on one shard with the supervisor, the hosts and the sessions, so
//! that no call crosses threads.

use std::{
    cell::RefCell,
    future::Future,
    rc::Rc,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use actix::Actor;
use lockkeeper_actors::Shell;
use lockkeeper_protocol::SessionId;
use tokio::{task::JoinSet, time};

use crate::{
    address,
    limits::Limits,
    server::{
        claim::claim::Claim,
        deadlock::{policy::Deadlocks, watch::watch},
        kinds::Kinds,
        session::{
            context::{CHUNK_BYTES, Context},
            session,
        },
        supervisor::supervisor::Supervisor,
    },
    telemetry::{
        manager::{self, ManagerSpan},
        metrics::Numbers,
    },
    transport::unix::{Door, Link, OpenDoor, Socket},
};

/// A manager that is bound and serves nobody yet.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) claim: Claim,
    pub(crate) door: Door,
    pub(crate) kinds: Kinds,
    pub(crate) limits: Limits,
    pub(crate) deadlocks: Option<Deadlocks>,
}

/// How long a manager that has no file descriptors left waits before it lets the next client in.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

impl Server {
    /// Serves clients on this thread, in an actix system of its own, until `stop` is over.
    pub(crate) fn run(self, stop: impl Future + 'static) {
        // The main future of a system is polled whenever anything is; so it is one that only waits.
        let serve = async { actix_rt::spawn(self.serve(stop)).await };
        // A panic has been printed where it happened.
        let _ = actix_rt::System::new().block_on(serve);
    }

    /// Serves clients until `stop` is over. Then every session is hung up and the socket is gone.
    async fn serve(self, stop: impl Future) {
        let Self {
            claim,
            door,
            kinds,
            limits,
            deadlocks,
        } = self;
        // A door that cannot be registered lets nobody in, and its clients are told.
        let door = match door.open() {
            Ok(door) => door,
            Err(error) => return manager::door_failed(&error),
        };
        let shard_of = claim.shard_of();
        let reign = ManagerSpan::begin(claim.address(), shard_of);
        // Fences ascend for each object, and an object is always with the same shard.
        let shell = Shell::new(Arc::new(AtomicU64::new(shard_of.incarnation)));
        let deadlines = actix_rt::spawn(shell.deadlines().clone().run());
        let numbers = Numbers::of(&shell);
        let supervisor = Supervisor::new(kinds, limits, Rc::clone(&shell), shard_of).start();
        let seeks_deadlocks = deadlocks.is_some();
        let watch = deadlocks.map(|policy| {
            let watch = watch(policy, Rc::clone(&shell), supervisor.clone());
            actix_rt::spawn(watch)
        });
        let context = Rc::new(Context {
            supervisor,
            shell,
            limits,
            shard_of,
            seeks_deadlocks,
            scratch: RefCell::new(vec![0; CHUNK_BYTES].into()),
        });
        let mut sessions = JoinSet::new();
        tokio::select! {
            _ = stop => {}
            () = let_in(&door, &context, &mut sessions) => {}
            () = numbers.keep_publishing() => {}
        }
        // First nobody finds the manager any more, then those inside are hung up.
        drop((claim, door));
        sessions.shutdown().await;
        deadlines.abort();
        if let Some(watch) = watch {
            watch.abort();
        }
        drop((numbers, reign));
    }
}

/// Lets clients in, for ever.
async fn let_in(door: &OpenDoor, context: &Rc<Context>, sessions: &mut JoinSet<()>) {
    let mut ids = context.shard_of.session_ids();
    loop {
        tokio::select! {
            Some(_) = sessions.join_next() => {}
            socket = accept(door) => {
                let is_own = socket.peer_uid().is_ok_and(|uid| uid == Some(address::own_uid()));
                let Ok(link) = Link::new(socket.into()) else { continue };
                let most = context.limits.sessions;
                if !is_own {
                    let reason = "this manager serves its own user alone".to_owned();
                    session::refuse(&link, reason, context.limits);
                } else if sessions.len() >= most {
                    let reason = format!("limit reached: at most {most} sessions");
                    session::refuse(&link, reason, context.limits);
                } else {
                    let Some(id) = ids.next() else { continue };
                    let session = session::serve(link, SessionId::new(id), Rc::clone(context));
                    sessions.spawn_local(session);
                }
            }
        }
    }
}

/// Waits for the next client.
async fn accept(door: &OpenDoor) -> Socket {
    loop {
        match door.accept().await {
            Ok(socket) => return socket,
            // Most likely too many open files; the client waits in the socket's queue meanwhile.
            Err(error) => {
                manager::accept_failed(&error);
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
