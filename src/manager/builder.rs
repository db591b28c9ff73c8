//! `ManagerBuilder`: the settings of a manager, and the ways to start it.

use std::{
    io,
    os::fd::AsFd,
    path::{self, PathBuf},
    time::Duration,
};

use lockkeeper_actors::Primitive;
use lockkeeper_protocol::{MAX_SHARDS, Refusal};
use lockkeeper_sys::OnlyHere;

#[cfg(feature = "net")]
use crate::manager::network::{NetworkSettings, refuse_endpoint};
use crate::{
    access::Access,
    address::Address,
    address_error::AddressError,
    background::background,
    error::{CallError, StartError, lack},
    limits::Limits,
    manager::{
        hosting::{Config, Inside, Owned, Owner, ROLE, with_owner},
        manager::Manager,
    },
    process::{child::Child, output::Surroundings},
    server::{
        deadlock::policy::DeadlockPolicy,
        kinds::{self, Registrations},
        server::ServerRuntime,
        session::lease_rule::{LEASES, LeaseRule},
        shards::Shards,
        state::state::State,
    },
    transport::{endpoint::Endpoint, handed::socket_pair},
};

/// The settings of a manager that is not started yet.
///
/// ```no_run
/// # async fn build() -> Result<lockkeeper::Manager, lockkeeper::StartError> {
/// use lockkeeper::{Limits, Manager, deadlock::DeadlockPolicy};
///
/// let limits = Limits { sessions: 1_000, ..Limits::default() };
/// let builder = Manager::builder().address("jobs").limits(limits);
/// let manager = builder.deadlocks(DeadlockPolicy::new().print()).start().await?;
/// # Ok(manager)
/// # }
/// ```
#[derive(Debug)]
pub struct ManagerBuilder {
    address: Option<Result<Address, AddressError>>,
    access: Access,
    pub(super) state: Option<PathBuf>,
    lease: LeaseRule,
    shards: usize,
    limits: Limits,
    kinds: Registrations,
    deadlocks: Option<DeadlockPolicy>,
    #[cfg(feature = "net")]
    pub(super) network: NetworkSettings,
}

impl Default for ManagerBuilder {
    fn default() -> Self {
        Self {
            address: None,
            access: Access::default(),
            state: None,
            lease: LeaseRule::default(),
            shards: 1,
            limits: Limits::default(),
            kinds: Registrations::default(),
            deadlocks: None,
            #[cfg(feature = "net")]
            network: NetworkSettings::default(),
        }
    }
}

impl ManagerBuilder {
    /// Sets the address of the manager, for programs without a common parent. By default the address is a
    /// unique path. If the text is no valid [`Address`], the start returns an error.
    ///
    /// The start creates the folder of a path and its missing parents. They have mode 0700, or 0711 with
    /// [`Self::allow_uid`] or [`Self::allow_group`], and remain when the manager ends.
    #[must_use]
    pub fn address<A>(mut self, address: A) -> Self
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        self.address = Some(address.try_into().map_err(Into::into));
        self
    }

    /// Opens a manager at a path to another user, by the user's numeric id. The kernel reports to the manager
    /// the user of each client.
    ///
    /// A client of that user may use all objects and create others. It may not [remove](Manager::remove) or
    /// [inspect](Manager::inspect) objects, or call an operation that [is
    /// administrative](crate::kind::Operation::IS_ADMINISTRATIVE), such as `force_unlock`: such a call
    /// returns [`Fault::NotAllowed`](crate::errors::Fault::NotAllowed). Root and the manager's own user may
    /// do everything. The user needs search permission for the folder of the path; a folder that the manager
    /// creates grants it. The client names the manager's user in its [`Address`], unless that user is root. A
    /// manager with another kind of address, such as a name, does not start: [`StartError::InvalidSettings`].
    ///
    /// ```no_run
    /// # async fn serve() -> Result<(), lockkeeper::StartError> {
    /// use lockkeeper::Manager;
    ///
    /// // At uid 1000; the clients of uid 1001 connect to unix:/srv/build/locks.sock#uid:1000.
    /// let manager = Manager::builder().address("/srv/build/locks.sock").allow_uid(1001);
    /// let manager = manager.start().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn allow_uid(mut self, uid: u32) -> Self {
        self.access.uids.push(uid);
        self
    }

    /// Opens a manager at a path to all members of a group, by its numeric id, as [`Self::allow_uid`] does
    /// for a user. Membership is checked when a client connects, and includes supplementary groups.
    #[must_use]
    pub fn allow_group(mut self, gid: u32) -> Self {
        self.access.gids.push(gid);
        self
    }

    /// Sets the folder in which the manager records its fences for later managers, so that fences increase across
    /// restarts even if the clock of the machine was set back.
    ///
    /// Without a state folder fences count up from the clock of the manager's start. With one, the manager
    /// reserves fences there before it gives them out, and the next manager with the same folder starts above
    /// them, however the previous one ended. All managers that host the same objects after each other should use
    /// the same folder. Objects and holds are not stored.
    ///
    /// A manager locks the folder while it runs. The start creates it with mode 0700 if it is missing; its
    /// parent must exist. It must not be in a place that is emptied at a reboot or by programs that clean up,
    /// as `/run` and `/tmp` are, and no other user may write to it. A relative path is resolved against
    /// the current folder at the start.
    ///
    /// If the folder cannot be written to while the manager runs, the manager serves on until it has used up
    /// what it had reserved, at least half a billion grants, and tries each second. Then it ends.
    ///
    /// ```no_run
    /// # async fn serve() -> Result<(), lockkeeper::StartError> {
    /// use lockkeeper::Manager;
    ///
    /// let manager = Manager::builder().address("jobs").state_folder("/var/lib/jobs/locks");
    /// let manager = manager.start().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn state_folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.state = Some(path.into());
        self
    }

    /// Sets the lease of sessions over a [network](crate::transport::Transport::is_network): for how long a
    /// client may be silent before the manager gives away what it holds, from 2 seconds to 5 minutes. The default
    /// is 10 seconds. Sessions on this machine have none.
    ///
    /// A client considers what it holds lost after four fifths of the lease without an answer, so it has always
    /// given up before the manager gives it away, as long as the clocks of both machines run at rates within 11 %
    /// of the true one. A client that is killed or cut off keeps what it holds for at most the lease; one that drops
    /// its last handle frees it at once. After an unclean end the next manager waits for the longest lease of its
    /// [state folder](Self::state_folder) before it serves.
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease.length = lease;
        self
    }

    /// Ends the session of a client on another machine as soon as its connection ends, so that a holder that is killed
    /// there frees at once what it held. By default the session waits for another connection until its lease ends.
    ///
    /// This is safe only in a network in which nothing but the two machines can end a connection: no firewall, no
    /// address translation, no load balancer.
    #[must_use]
    pub const fn free_on_close(mut self) -> Self {
        self.lease.frees_on_close = true;
        self
    }

    /// Spreads the manager's objects over that many threads, 1 to 64; the default is 1. Each object belongs
    /// to one thread, its *shard*, and no call crosses shards. The name of an object determines its shard,
    /// and objects without a name are created on the shards in turn. The first shard listens at the manager's
    /// address, the others at that address with the suffix `.1`, `.2` and so on; handles and tokens find
    /// them.
    ///
    /// Shards help if one shard is always busy, cores are idle, and the calls go to many objects: an object
    /// is never faster than its shard. Each shard that a client uses costs a connection and a session;
    /// [`Limits`] says which limits are per shard. Calls to objects of different shards are not ordered, and
    /// [`Manager::inspect`] takes its snapshot of each shard at a different moment. A manager of several
    /// shards does not search for deadlocks, because a deadlock may span shards.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use lockkeeper::Manager;
    ///
    /// let manager = Manager::builder().shards(2).start().await?;
    /// let jobs = manager.named("jobs").lock().await?;
    /// let stock = manager.named("stock").lock().await?;
    /// // Their names have put them on different threads.
    /// assert_ne!(jobs.token().address, stock.token().address);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Sets the limits of the manager. [`Limits`] says which of them are per shard.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.in_range();
        self
    }

    /// Makes the manager search for deadlocks, and sets what it does about them. Its clients then send the
    /// calling task or thread with each call, which costs some bytes per call. Such a manager has one shard:
    /// see [`Self::shards`].
    #[must_use]
    pub fn deadlocks(mut self, deadlocks: DeadlockPolicy) -> Self {
        self.deadlocks = Some(deadlocks);
        self
    }

    /// Adds a kind that this program defines.
    #[must_use]
    pub fn register<P: Primitive>(self) -> Self {
        self.register_with(P::create)
    }

    /// Adds a kind that this program defines, whose objects `make` creates. `make` may capture values. Each
    /// shard calls it on its own thread.
    #[must_use]
    pub fn register_with<P: Primitive>(
        mut self,
        make: impl Fn(P::Spec) -> Result<P, Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.kinds.push(make);
        self
    }

    /// Starts the manager on a thread of this process for each shard, with its own runtime, so any async or
    /// synchronous program can embed it.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::Address`] for a text that is not an address, [`StartError::AddressInUse`] when a
    /// live manager is at the address, [`StartError::BadAddress`] when no socket can be bound there or this
    /// program has no transport of that scheme, and [`StartError::System`] when the system cannot create a
    /// thread. Returns [`StartError::InvalidSettings`] for an invalid number of shards, for several shards with a
    /// deadlock search, and for a manager that is open to other users and not at a path. Returns
    /// [`StartError::StateInUse`] when another manager uses the state folder, and [`StartError::BadState`] when
    /// the folder cannot be used.
    ///
    /// # Cancel safety
    ///
    /// See [`Manager::start`].
    pub async fn start(self) -> Result<Manager, StartError> {
        let shards = self.checked_shards()?;
        let address = self.checked_address(Address::unused)?;
        let inside = self.into_inside()?;
        wait(inside.silence()).await;
        let servers = inside.bind_elsewhere(&address, shards).await?;
        if !Endpoint::of(&address).is_ok_and(|endpoint| endpoint.is_network()) {
            let shards = Shards::start(servers, ServerRuntime::new()?)?;
            let owned = Owned::new(Owner::Threads(shards.run_on_thread()?), &address);
            return Manager::own(&address, owned).await;
        }
        // This process is no client over the network: its session needs no lease.
        let (own, handed) = socket_pair().map_err(|error| StartError::System(lack(&error)))?;
        let shards = Shards::start(with_owner(Some(handed), servers)?, ServerRuntime::new()?)?;
        let owned = Owned::new(Owner::Threads(shards.run_on_thread()?), &address);
        Manager::own_over(own, &address, owned).await
    }

    /// Starts the manager as a separate process. This program registers its kinds for it at its start:
    /// `program().register::<K>()`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::start`] and [`Manager::spawn`], and [`StartError::InvalidSettings`] when this
    /// builder has kinds or a deadlock callback, or when the address is one within a process.
    ///
    /// # Cancel safety
    ///
    /// See [`Manager::spawn`].
    pub async fn spawn(self) -> Result<Manager, StartError> {
        let shards = self.checked_shards()?;
        if !self.kinds.is_empty() {
            return Err(StartError::InvalidSettings(
                "kinds registered here cannot go to another process: \
                 register them with program().register::<K>()"
                    .to_owned(),
            ));
        }
        let deadlocks = self.deadlocks.as_ref().map(|deadlocks| {
            deadlocks.portable().ok_or_else(|| {
                StartError::InvalidSettings(
                    "a function that deadlocks are reported to cannot go to another process: \
                     have them printed, or ask with manager.deadlocks()"
                        .to_owned(),
                )
            })
        });
        let address = self.checked_address(Address::unused)?;
        if is_in_process(&address) {
            return Err(StartError::InvalidSettings(format!(
                "{address} is reachable only within one process, and the manager is to be another: \
                 use start() in place of spawn(), or another address"
            )));
        }
        let config = Config {
            address: address.clone(),
            shards,
            limits: self.limits,
            deadlocks: deadlocks.transpose()?,
            state: self.absolute_state()?.map(PathBuf::into_os_string),
            #[cfg(feature = "net")]
            network: self.network.checked(self.state.is_some())?,
            access: self.access,
            lease: self.lease,
        };
        let lacking = |error: io::Error| StartError::System(lack(&error));
        // If a forked child kept the manager's end, this process would not notice the end of the manager.
        let (own, handed) = socket_pair().map_err(lacking)?;
        let spawned = async {
            let ends = [handed.as_fd()];
            let surroundings = Surroundings::default();
            let child = Child::start_until_ready(&surroundings, ROLE, &config, &ends).await?;
            drop(handed);
            let owned = Owned::new(Owner::Process(Box::new(child)), &address);
            Manager::own_over(own, &address, owned).await
        };
        // A forked child that has a copy of this future must not kill the manager by dropping it.
        let spawned = OnlyHere::future(spawned).await;
        spawned.unwrap_or_else(|| {
            Err(StartError::Call(CallError::Forked {
                what: format!("the manager at {address}"),
            }))
        })
    }

    /// The settings that all shards share, with the kinds of the program and of this builder.
    pub(super) fn into_inside(self) -> Result<Inside, StartError> {
        let state = self.absolute_state()?;
        let state = state.as_deref().map(State::open).transpose()?;
        let mut kinds = kinds::kinds();
        self.kinds.add_to(&mut kinds);
        Ok(Inside {
            kinds,
            limits: self.limits,
            deadlocks: self.deadlocks,
            #[cfg(feature = "net")]
            network: self.network.checked(state.is_some())?,
            access: self.access,
            state,
            lease: self.lease,
        })
    }

    /// Returns the path of the state folder. A manager in another process may have another current folder.
    fn absolute_state(&self) -> Result<Option<PathBuf>, StartError> {
        let Some(state) = &self.state else {
            return Ok(None);
        };
        let absolute = path::absolute(state).map_err(|error| StartError::BadState {
            folder: state.clone(),
            why: format!("it is no path: {error}"),
        });
        absolute.map(Some)
    }

    /// Returns the address if all users that the manager is open to can use it.
    pub(super) fn checked_address(&self, default: fn() -> Address) -> Result<Address, StartError> {
        let address = self.address.clone().unwrap_or_else(|| Ok(default()))?;
        #[cfg(feature = "net")]
        refuse_endpoint(&address)?;
        if !self.access.is_private() && (address.path().is_none() || address.is_name()) {
            return Err(StartError::InvalidSettings(format!(
                "a manager that is open to other users is at a path, and {address} is not one that they can \
                 reach: give it .address(\"/a/path/that/they/can/reach.sock\"), or leave out allow_uid and \
                 allow_group"
            )));
        }
        Ok(address)
    }

    /// Returns the number of shards if it and the lease are valid.
    pub(super) fn checked_shards(&self) -> Result<u32, StartError> {
        let lease = self.lease.length;
        if !LEASES.contains(&lease) {
            let (least, most) = LEASES.into_inner();
            return Err(StartError::InvalidSettings(format!(
                "a lease is {least:?} to {most:?} long, not {lease:?}"
            )));
        }
        let asked = self.shards;
        if asked > 1 && self.deadlocks.is_some() {
            return Err(StartError::InvalidSettings(format!(
                "deadlocks may go over the objects of several shards, and each knows its own: \
                 have one shard in place of {asked}, or no .deadlocks(..)"
            )));
        }
        let shards = u32::try_from(asked).ok();
        let shards = shards.filter(|shards| (1..=MAX_SHARDS).contains(shards));
        shards.ok_or_else(|| {
            let most = MAX_SHARDS;
            StartError::InvalidSettings(format!("a manager has 1 to {most} shards, not {asked}"))
        })
    }
}

/// Returns whether an address is only reachable within its own process.
pub(super) fn is_in_process(address: &Address) -> bool {
    Endpoint::of(address).is_ok_and(|endpoint| endpoint.is_in_process())
}

/// Waits in a runtime that has a timer, because the caller's may have none.
async fn wait(time: Duration) {
    if time > Duration::ZERO {
        let sleep = {
            let _runtime = background().enter();
            tokio::time::sleep(time)
        };
        OnlyHere::future(sleep).await;
    }
}
