//! `Server`: one shard of a manager. It accepts clients, serves them, and ends all sessions when it ends.
//!
//! The supervisor, the hosts and the sessions of a shard run on one thread, in one actix system or, for a
//! manager in memory, on the runtime of its owner. No call crosses threads.

use std::{
    cell::{OnceCell, RefCell},
    future::{self, Future},
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use actix::Actor;
use lockkeeper_actors::{Fences, Reserve, Shell};
use lockkeeper_protocol::{SessionId, Shard};
use lockkeeper_sys::OnlyHere;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    task::JoinSet,
    time,
};

use crate::{
    access::{Access, Principal},
    address::Address,
    background,
    error::{StartError, lack},
    limits::Limits,
    server::{
        acceptors::Acceptors,
        budgets::Budgets,
        claim::address_claim::AddressClaim,
        deadlock::{policy::DeadlockPolicy, watch::watch},
        kinds::Kinds,
        session::{
            clients::Clients,
            context::{Context, LeftClient},
            farewell::refuse,
            in_mailboxes::AllInMailboxes,
            lease::Lease,
            lease_rule::LeaseRule,
            serve::serve,
            sizes::{CALLS_AT_LIMIT, CHUNK_BYTES},
        },
        spare::Spare,
        state::state::State,
        supervisor::supervisor::Supervisor,
    },
    telemetry::{
        manager::{self, ManagerSpan, Serves},
        metrics::Numbers,
    },
    transport::{
        endpoint::Endpoint,
        listener::{Acceptor, Listener},
        stream::Stream,
    },
    want::remedy,
};

/// A manager that is bound and does not serve clients yet.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) claim: AddressClaim,
    pub(crate) listener: Box<dyn Listener>,
    /// The listeners for clients that do not come by the claimed address.
    pub(crate) others: Vec<Box<dyn Listener>>,
    /// The addresses at which clients on other machines reach the manager.
    pub(crate) endpoints: Arc<[Address]>,
    pub(crate) kinds: Kinds,
    pub(crate) limits: Limits,
    pub(crate) budgets: Budgets,
    pub(crate) deadlocks: Option<DeadlockPolicy>,
    /// The leases of sessions, if clients on other machines can reach the manager.
    pub(crate) lease: Option<LeaseRule>,
    pub(crate) access: Access,
    /// The state folder, which the shards of a manager share.
    pub(crate) state: Option<Arc<State>>,
    /// The channel for clients that have left, if this is the server of a pool.
    pub(crate) left: Option<mpsc::UnboundedSender<LeftClient>>,
}

impl Server {
    /// The server of a pool, which sends the clients that have left to a channel.
    pub(crate) fn of_pool(
        claim: AddressClaim,
        listener: Box<dyn Listener>,
        limits: Limits,
        left: mpsc::UnboundedSender<LeftClient>,
    ) -> Self {
        Self {
            claim,
            listener,
            others: Vec::new(),
            endpoints: Arc::default(),
            kinds: Kinds::of_pool(),
            budgets: Budgets::new(limits),
            limits,
            deadlocks: None,
            lease: None,
            access: Access::default(),
            state: None,
            left: Some(left),
        }
    }
}

/// The runtime of a server. It is created before the server's thread, where an error can still be returned.
#[derive(Debug)]
pub(crate) struct ServerRuntime(Option<Runtime>);

impl ServerRuntime {
    /// Creates the runtime of the first shard in a process that may have no runtime yet.
    ///
    /// # Errors
    ///
    /// Returns an error when the system has no descriptors or threads left.
    pub(crate) fn new() -> Result<Self, StartError> {
        // The background runtime must be the first runtime of a program's process.
        let started = background::start();
        Self::built(started.and_then(|_| background::build(&mut Builder::new_current_thread())))
    }

    /// Creates the first runtime of a process that only serves, which needs no background runtime. The caller must
    /// not be on a runtime.
    ///
    /// # Errors
    ///
    /// Returns an error when the system has no descriptors left.
    pub(crate) fn of_own_process() -> Result<Self, StartError> {
        Self::built(background::build_first(&mut Builder::new_current_thread()))
    }

    /// Creates the runtime of another shard.
    ///
    /// # Errors
    ///
    /// Returns an error when the system has no descriptors left.
    pub(crate) fn of_another_shard() -> Result<Self, StartError> {
        Self::built(background::build(&mut Builder::new_current_thread()))
    }

    fn built(runtime: io::Result<Runtime>) -> Result<Self, StartError> {
        let runtime = runtime.map_err(|error| StartError::System(lack(&error)))?;
        Ok(Self(Some(runtime)))
    }

    /// Enters the runtime, so that sockets are attached to it.
    #[cfg(feature = "net")]
    pub(super) fn enter(&self) -> Option<tokio::runtime::EnterGuard<'_>> {
        self.0.as_ref().map(Runtime::enter)
    }

    /// Runs a future on this thread.
    #[cfg(feature = "net")]
    pub(super) fn block_on<F: Future>(&self, future: F) -> Option<F::Output> {
        Some(self.0.as_ref()?.block_on(future))
    }
}

impl Drop for ServerRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Another kind of shutdown would panic in async code.
            runtime.shutdown_background();
        }
    }
}

/// The pause before the next accept when the manager has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

impl Server {
    /// Serves clients on this thread, in an actix system of its own, until `stop` completes.
    pub(crate) fn run(self, mut runtime: ServerRuntime, stop: impl Future + 'static) {
        let Some(runtime) = runtime.0.take() else {
            return;
        };
        // The main future of a system is polled on every wakeup, so it only waits for the spawned task.
        let serve = async { actix_rt::spawn(self.serve(stop)).await };
        // The panic hook has already printed a panic.
        let _ = actix_rt::System::with_tokio_rt(|| runtime).block_on(serve);
    }

    /// Serves clients until `stop` completes. Then it ends every session and frees the address.
    ///
    /// It must run where actors can: in a [`LocalSet`](tokio::task::LocalSet). In a forked child, which may
    /// have a copy of the task, it stops serving, and does not touch the manager's sockets and files.
    pub(crate) async fn serve(self, stop: impl Future) {
        OnlyHere::future(self.serve_here(stop)).await;
    }

    async fn serve_here(self, stop: impl Future) {
        let Self {
            mut claim,
            listener,
            others,
            endpoints,
            kinds,
            limits,
            budgets:
                Budgets {
                    stored,
                    unread,
                    arriving,
                },
            deadlocks,
            lease,
            access,
            state,
            left,
        } = self;
        let mut acceptors = match Acceptors::attach(listener, others) {
            Ok(acceptors) => acceptors,
            Err(error) => return manager::listen_failed(&error),
        };
        let shard_of = claim.shard_of();
        let serves = match left {
            Some(_) => Serves::Pool,
            None => Serves::Clients,
        };
        let span = ManagerSpan::begin(claim.address(), shard_of, serves);
        // Fences ascend for each object: an object always belongs to the same shard.
        let reserve = match &state {
            Some(state) => {
                state.begin_shard();
                state.reserve()
            }
            None => Arc::new(Reserve::unlimited()),
        };
        let fences = Fences::within(shard_of.incarnation, Arc::clone(&reserve));
        let secret = claim.secret();
        let shell = Shell::within(fences, secret, stored);
        let deadlines = actix_rt::spawn(shell.deadlines().clone().run());
        let endings = actix_rt::spawn(shell.keep_hanging_up());
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
            calls_at_limit: CALLS_AT_LIMIT,
            shard_of,
            secret,
            endpoints,
            unread,
            arriving,
            seeks_deadlocks,
            watches: Rc::default(),
            left,
            scratch: RefCell::new(vec![0; CHUNK_BYTES].into()),
            lease,
            in_mailboxes: AllInMailboxes::default(),
            clients: Clients::default(),
            counts: Rc::default(),
            leased: Rc::default(),
            end: OnceCell::new(),
        });
        let mut ids = context.shard_of.session_ids();
        let mut sessions = JoinSet::new();
        // A manager in memory needs no descriptors.
        let mut spare = match Endpoint::of(claim.address()) {
            Ok(endpoint) if endpoint.is_in_process() => Spare::default(),
            Ok(_) | Err(_) => Spare::take(),
        };
        {
            let mut stop = pin!(stop);
            let mut lost_state = pin!(state_is_lost(state.as_ref(), shard_of.shard));
            let mut publishing = pin!(numbers.keep_publishing());
            loop {
                let moved = tokio::select! {
                    _ = &mut stop => break,
                    () = accept_clients(
                        &acceptors,
                        &mut spare,
                        &access,
                        &context,
                        &reserve,
                        &mut ids,
                        &mut sessions,
                    ) => break,
                    () = &mut publishing => break,
                    () = &mut lost_state => break,
                    moved = claim.moved() => moved,
                };
                match moved {
                    Ok(listener) => match acceptors.replace(listener) {
                        Ok(()) => manager::address_restored(claim.address()),
                        Err(error) => {
                            manager::listen_failed(&error);
                            break;
                        }
                    },
                    Err(why) => {
                        manager::address_lost(claim.address(), &why);
                        break;
                    }
                }
            }
        }
        if let Some(why) = claim.lost() {
            let _ = context.end.set(format!("it has lost its address: {why}"));
        } else if let Some(why) = state.as_ref().and_then(|state| state.lost()) {
            let _ = context.end.set(why);
        }
        // The address is freed before the sessions end, so that new clients do not find this manager.
        drop((claim, acceptors));
        context.leased.end_all().await;
        sessions.shutdown().await;
        deadlines.abort();
        endings.abort();
        if let Some(watch) = watch {
            watch.abort();
        }
        drop((numbers, span));
        // No client can be granted anything any more.
        if let Some(state) = state {
            state.end_shard(context.leased.has_unaware()).await;
        }
    }
}

/// Reserves fences on the disk as they are needed. The first shard does so for all. Completes when the manager
/// has to end, because it has used up those that it could reserve.
async fn state_is_lost(state: Option<&Arc<State>>, shard: Shard) {
    match state {
        Some(state) if shard.index() == 0 => {
            manager::state_opened(state.path(), &state.previous_end());
            Arc::clone(state).keep_reserving().await;
        }
        Some(_) | None => future::pending().await,
    }
}

async fn accept_clients(
    acceptor: &dyn Acceptor,
    spare: &mut Spare,
    access: &Access,
    context: &Rc<Context>,
    reserve: &Reserve,
    ids: &mut impl Iterator<Item = u64>,
    sessions: &mut JoinSet<()>,
) {
    loop {
        tokio::select! {
            Some(_) = sessions.join_next() => {}
            stream = accept(acceptor, spare, context.limits) => {
                let most = context.limits.sessions;
                let user = stream.peer_user();
                let lease = context.lease.filter(|rule| rule.covers(&*stream));
                let Some(principal) = Principal::of(&*stream, access) else {
                    refuse(&*stream, access.refusal(user), context.limits);
                    continue;
                };
                if sessions.len() >= most {
                    let reason = format!(
                        "limit reached: at most {most} sessions: raise `sessions` of Manager::builder().limits(..)"
                    );
                    refuse(&*stream, reason, context.limits);
                } else {
                    let Some(id) = ids.next().filter(|id| reserve.covers(*id)) else {
                        let reason = "the manager is about to end: it has used up the numbers of sessions that \
                                      it had reserved in its state folder";
                        refuse(&*stream, reason.to_owned(), context.limits);
                        continue;
                    };
                    let id = SessionId::new(id);
                    let client = match context.counts.admit(id, principal) {
                        Ok(client) => client,
                        Err(reason) => {
                            refuse(&*stream, reason, context.limits);
                            continue;
                        }
                    };
                    // Most sessions have no lease, so a box takes less room in them.
                    let lease = lease.map(|rule| Box::new(Lease::begin(rule, id, context)));
                    let session = serve(stream, client, lease, Rc::clone(context));
                    // The future is boxed here. In the block it would take space in the task as well.
                    let session = OnlyHere::future(session);
                    sessions.spawn_local(async {
                        session.await;
                    });
                }
            }
        }
    }
}

/// Waits for the next client. If the system has no descriptor for it, the client waits in the listener's
/// queue for a while and is then refused with the reason.
async fn accept(acceptor: &dyn Acceptor, spare: &mut Spare, limits: Limits) -> Arc<dyn Stream> {
    loop {
        match future::poll_fn(|task| acceptor.poll_accept(task)).await {
            Ok(stream) => {
                spare.is_not_needed();
                return stream;
            }
            Err(error) => {
                manager::accept_failed(&error);
                if remedy(&error).is_none() || !spare.give_up() {
                    time::sleep(ACCEPT_PAUSE).await;
                } else if let Some(Ok(stream)) = poll_once(acceptor).await {
                    let why = lack(&error);
                    let reason = format!("the manager's process cannot take another client: {why}");
                    refuse(&*stream, reason, limits);
                }
                spare.restore();
            }
        }
    }
}

/// Accepts a client if there is one now.
async fn poll_once(acceptor: &dyn Acceptor) -> Option<io::Result<Arc<dyn Stream>>> {
    future::poll_fn(|task| match acceptor.poll_accept(task) {
        Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
