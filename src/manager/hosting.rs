//! The owner of a manager that this program started: threads of this process, a child process, or tasks of
//! the owner's runtime.

use std::{
    ffi::OsString,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use lockkeeper_sys::{OnlyHere, Private};
use serde::{Deserialize, Serialize};
use tokio::task;
use tokio_util::sync::CancellationToken;

use crate::{
    access::Access,
    address::Address,
    background::drop_elsewhere,
    client::connection::Connection,
    error::{StartError, lack},
    limits::Limits,
    process::{
        child::{Child, END_PATIENCE},
        exit::exit,
        role::Role,
    },
    server::{
        budgets::Budgets,
        claim::address_claim::AddressClaim,
        deadlock::policy::{DeadlockPolicy, Plan},
        kinds::{self, Kinds},
        server::{Server, ServerRuntime},
        session::lease_rule::LeaseRule,
        shards::{Shards, Threads},
        state::state::State,
    },
    transport::{endpoint::Endpoint, handed::accept_first},
};
#[cfg(feature = "net")]
use crate::{background::background, error::CallError, manager::network::Network};

/// The configuration of a spawned manager.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) address: Address,
    pub(super) shards: u32,
    pub(super) limits: Limits,
    pub(super) deadlocks: Option<Plan>,
    pub(super) access: Access,
    /// The absolute path of the state folder.
    pub(super) state: Option<OsString>,
    pub(super) lease: LeaseRule,
    #[cfg(feature = "net")]
    pub(super) network: Option<Network>,
}

/// The role name of a spawned manager.
pub(crate) const ROLE: &str = "manager";

/// The exit code of a manager whose operation did not end in time.
const EXIT_STUCK: i32 = 72;

/// The settings that all shards of a manager share.
pub(super) struct Inside {
    pub(super) kinds: Kinds,
    pub(super) limits: Limits,
    pub(super) deadlocks: Option<DeadlockPolicy>,
    pub(super) access: Access,
    /// The state folder, which this manager has locked.
    pub(super) state: Option<State>,
    /// The leases of sessions over a network.
    pub(super) lease: LeaseRule,
    #[cfg(feature = "net")]
    pub(super) network: Option<Network>,
}

impl Inside {
    /// Returns how long the manager has to wait before [`Self::bind`]: clients of a predecessor that did not end
    /// cleanly may be unaware of its end.
    pub(super) fn silence(&self) -> Duration {
        self.state
            .as_ref()
            .map_or(Duration::ZERO, State::begin_silence)
    }

    /// Does the same as [`Self::bind`], and on another thread if there are endpoints on the network: the names of their
    /// hosts may take seconds to resolve, and the caller's runtime must run on meanwhile.
    pub(super) async fn bind_elsewhere(
        self,
        address: &Address,
        shards: u32,
    ) -> Result<Vec<Server>, StartError> {
        #[cfg(feature = "net")]
        if self.network.is_some() {
            let (inside, place) = (self, address.clone());
            let bound = background().spawn_blocking(move || inside.bind(&place, shards));
            // The thread is one of this process, so a forked child would wait for it for ever.
            return match OnlyHere::future(bound).await {
                Some(Ok(bound)) => bound,
                Some(Err(error)) => Err(StartError::System(format!(
                    "the thread that binds the endpoints of the manager has ended: {error}"
                ))),
                None => Err(StartError::Call(CallError::Forked {
                    what: format!("the manager at {address}"),
                })),
            };
        }
        self.bind(address, shards)
    }

    /// Creates the servers of that many shards, bound at an address. They accept no client yet.
    pub(super) fn bind(self, address: &Address, shards: u32) -> Result<Vec<Server>, StartError> {
        let is_claim_far = Endpoint::of(address).is_ok_and(|endpoint| endpoint.is_network());
        #[cfg(feature = "net")]
        let has_endpoints = self.network.is_some();
        #[cfg(not(feature = "net"))]
        let has_endpoints = false;
        let lease = (is_claim_far || has_endpoints).then_some(LeaseRule {
            is_claim_far,
            ..self.lease
        });
        if let Some(lease) = lease {
            let Some(state) = &self.state else {
                return Err(StartError::InvalidSettings(format!(
                    "{address} is one of a network, where leases of clients that are cut off stay valid for a while, \
                     also after a restart of the manager: give it a state_folder, which records the leases"
                )));
            };
            state.promise(lease.length)?;
        }
        let claimed =
            AddressClaim::acquire_all(address, shards, &self.access, self.state.as_ref())?;
        let state = self.state.map(Arc::new);
        let budgets = Budgets::new(self.limits);
        let server = |(claim, listener)| Server {
            claim,
            listener,
            others: Vec::new(),
            endpoints: Arc::default(),
            kinds: self.kinds.clone(),
            limits: self.limits,
            budgets: budgets.clone(),
            deadlocks: self.deadlocks.clone(),
            lease,
            access: self.access.clone(),
            state: state.clone(),
            left: None,
        };
        let servers: Vec<_> = claimed.into_iter().map(server).collect();
        #[cfg(feature = "net")]
        let servers = match self.network {
            Some(network) => {
                network.bind(servers, state.as_deref(), shards, self.lease.frees_on_close)?
            }
            None => servers,
        };
        Ok(servers)
    }
}

/// The running manager that a handle owns, until it was ended. A forked child owns none.
#[derive(Debug)]
pub(super) struct Owned {
    owner: OnlyHere<Mutex<Option<Owner>>>,
    address: Address,
}

#[derive(Debug)]
pub(super) enum Owner {
    Threads(Threads),
    Process(Box<Child>),
    Tasks(Tasks),
}

/// The tasks of a manager that runs on its owner's runtime, one for each shard.
#[derive(Clone, Debug)]
pub(super) struct Tasks {
    stop: CancellationToken,
    gone: CancellationToken,
}

impl Tasks {
    /// Starts one task for each shard.
    ///
    /// # Panics
    ///
    /// Panics outside a [`LocalSet`](task::LocalSet).
    pub(super) fn start(servers: Vec<Server>) -> Self {
        let tasks = Self {
            stop: CancellationToken::new(),
            gone: CancellationToken::new(),
        };
        let shards = servers.into_iter().map(|server| {
            let all_end = tasks.stop.clone().drop_guard();
            let serve = server.serve(tasks.stop.clone().cancelled_owned());
            task::spawn_local(async move {
                serve.await;
                drop(all_end);
            })
        });
        let shards: Vec<_> = shards.collect();
        let gone = tasks.gone.clone().drop_guard();
        task::spawn_local(async move {
            for shard in shards {
                // The panic hook has already printed a panic.
                let _ = shard.await;
            }
            drop(gone);
        });
        tasks
    }

    /// Ends all tasks and waits until they are gone.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.gone.cancelled().await;
    }
}

impl Owned {
    pub(super) fn new(owner: Owner, address: &Address) -> Self {
        Self {
            owner: OnlyHere::new(Mutex::new(Some(owner))),
            address: address.clone(),
        }
    }

    /// The id of the process of the manager, if that is a child of this process that still runs.
    pub(super) fn pid(&self) -> Option<u32> {
        let owner = self.owner.get()?.lock();
        match owner.unwrap_or_else(PoisonError::into_inner).as_mut()? {
            Owner::Process(child) => child.running_pid(),
            Owner::Threads(_) | Owner::Tasks(_) => None,
        }
    }

    /// Ends the manager and waits until it is gone. A thread finishes its current turn first, and a process
    /// is killed if it takes too long. Tasks end at their next poll, without a wait.
    fn end(&self) {
        match self.take() {
            Some(Owner::Threads(threads)) => threads.end(),
            Some(Owner::Process(child)) => child.end(),
            Some(Owner::Tasks(tasks)) => tasks.stop.cancel(),
            None => {}
        }
    }

    /// Does the same without blocking this thread.
    pub(super) async fn shutdown(&self) {
        OnlyHere::future(self.shut_down_here()).await;
    }

    async fn shut_down_here(&self) {
        match self.take() {
            Some(Owner::Tasks(tasks)) => tasks.end().await,
            Some(Owner::Threads(threads)) => threads.shutdown().await,
            Some(owner @ Owner::Process(_)) => {
                // The drop ends the manager, which blocks, so it runs on another thread.
                drop_elsewhere(Self::new(owner, &self.address)).await;
            }
            None => {}
        }
    }

    fn take(&self) -> Option<Owner> {
        let owner = self.owner.get()?.lock();
        let owner = owner.unwrap_or_else(PoisonError::into_inner).take()?;
        Connection::expect_end(&self.address);
        Some(owner)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.end();
    }
}

/// Makes the first shard accept the connection of the manager's owner. The owner connects to the other shards
/// by their addresses when it first uses them, because many programs never do.
pub(super) fn with_owner(
    owner: Option<Private<OwnedFd>>,
    servers: Vec<Server>,
) -> Result<Vec<Server>, StartError> {
    let lacking =
        "it has no room for the descriptor that it is handed: raise its limit of open files";
    let owner = owner.ok_or_else(|| StartError::System(lacking.to_owned()))?;
    let mut servers = servers.into_iter();
    let mut all = Vec::with_capacity(servers.len());
    if let Some(first) = servers.next() {
        let listener = accept_first(owner, first.listener);
        let listener = listener.map_err(|error| StartError::System(lack(&error)))?;
        all.push(Server { listener, ..first });
    }
    all.extend(servers);
    Ok(all)
}

/// The main function of a manager process: serves until its parent lets it end.
pub(crate) fn work(mut role: Role) {
    let owner = role.handed.pop();
    let bound = role
        .config::<Config>()
        .map_err(|error| error.to_string())
        .and_then(|config| {
            let state = config.state.map(PathBuf::from);
            let servers = state.as_deref().map(State::open).transpose();
            let servers = servers.and_then(|state| {
                let inside = Inside {
                    kinds: kinds::kinds(),
                    limits: config.limits,
                    deadlocks: config.deadlocks.map(DeadlockPolicy::from),
                    access: config.access,
                    state,
                    lease: config.lease,
                    #[cfg(feature = "net")]
                    network: config.network,
                };
                let silence = inside.silence();
                if !silence.is_zero() && !role.lifeline.wait(silence) {
                    return Err(StartError::ChildFailed("its parent has ended".to_owned()));
                }
                inside.bind(&config.address, config.shards)
            });
            let servers = servers.and_then(|servers| with_owner(owner, servers));
            let shards = servers
                .and_then(|servers| Shards::start(servers, ServerRuntime::of_own_process()?));
            shards.map_err(|error| error.to_string())
        })
        .and_then(|shards| {
            let stop = shards.stop();
            // The owner of a manager closes the lifeline to stop it.
            let ignore = || {};
            let watch = role.lifeline.watch(ignore, move || {
                stop.cancel();
                // An operation that does not end must not keep the process alive. The process exits without
                // cleaning up, because the files at the address may belong to a successor by then.
                thread::sleep(END_PATIENCE);
                exit(EXIT_STUCK);
            });
            watch.map_err(|error| lack(&error))?;
            Ok(shards)
        });
    match bound {
        Ok(shards) => {
            role.lifeline.ready();
            shards.run();
        }
        Err(why) => role.lifeline.failed(why),
    }
}
