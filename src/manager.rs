//! The manager as programs see it: started here, spawned as a process, or connected to.

mod inspection;
mod objects;
mod reach;

use std::{
    process,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use lockkeeper_actors::{Primitive, Refusal};
use serde::{Deserialize, Serialize};

pub use self::objects::Named;
use self::reach::Reach;
use crate::{
    Address, CallError, Deadlocks, Limits, StartError,
    address::Claim,
    arbiters::{Arbiters, Threads},
    client::background,
    deadlock::Plan,
    kinds::{Kinds, Registrations},
    part::MOST_ARBITERS,
    process::{Child, END_PATIENCE, Role},
    program,
    server::Server,
};

/// A manager that hosts objects for processes to share. Counterpart of Python's `SyncManager`.
///
/// A handle: clones are the same manager. The manager ends when the last handle of whoever started
/// it is dropped, or with [`Self::shutdown`]; then there is no process, no socket and no waiting
/// client left of it.
///
/// The drop of that handle waits for the manager's end, which takes milliseconds, unless an
/// operation of a kind of your own takes longer: it waits for a manager on a thread until the
/// operation is over, and for one that is a process at most five seconds, then it is killed.
#[derive(Clone, Debug)]
pub struct Manager {
    reach: Arc<Reach>,
    /// Empty for a manager that somebody else started.
    owned: Option<Arc<Owned>>,
}

impl Manager {
    /// Starts a manager on a thread of this process, reachable for its children.
    ///
    /// # Errors
    ///
    /// Returns an error when the system gives no socket or thread.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, the manager ends: nothing is left of it.
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// Starts a manager as a process of its own, which is this program once more. It ends with
    /// this process at the latest.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::NotAProgram`] unless [`program`](crate::program) was called first
    /// thing in main, and [`StartError::Child`] when the process does not get ready.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, the process is ended.
    pub async fn spawn() -> Result<Self, StartError> {
        Self::builder().spawn().await
    }

    /// Connects to the manager at an address, which goes on when this handle is dropped. The address of
    /// an object of it, as tokens have it, will do.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::NoManager`] when there is none, and [`CallError::Disconnected`] when
    /// it does not speak this version of the protocol.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is left but a connection that closes by itself.
    pub async fn connect(address: impl Into<Address>) -> Result<Self, CallError> {
        Ok(Self {
            reach: Arc::new(Reach::to(&address.into()).await?),
            owned: None,
        })
    }

    /// Prepares a manager with an address, limits, or kinds of its own.
    #[must_use]
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::default()
    }

    /// Where the manager is reached: its first arbiter, if it has several.
    #[must_use]
    pub fn address(&self) -> &Address {
        self.reach.address()
    }

    /// Ends the object of that name: all who wait for it get [`CallError::Gone`], all guards are
    /// lost, and the name is free. The name of an anonymous one is in its token.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Fault`] with `UnknownObject` when there is none of that name.
    ///
    /// # Cancel safety
    ///
    /// Dropped midway, the object may have been removed.
    pub async fn remove(&self, name: &str) -> Result<(), CallError> {
        self.reach.arbiter_of(Some(name)).await?.remove(name).await
    }

    /// Ends the manager, for all its handles and clients, and waits until it is gone. A manager
    /// that somebody else started goes on.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the manager ends also when this is dropped. Dropped before, it is no more than
    /// the drop of this handle.
    pub async fn shutdown(self) {
        if let Some(owned) = self.owned {
            // It takes a thread that may be blocked; a failure would mean that it is gone.
            let _ = background().spawn_blocking(move || owned.end()).await;
        }
    }
}

/// A manager to be.
#[derive(Debug)]
pub struct ManagerBuilder {
    address: Option<Address>,
    arbiters: usize,
    limits: Limits,
    kinds: Registrations,
    deadlocks: Option<Deadlocks>,
}

impl Default for ManagerBuilder {
    fn default() -> Self {
        Self {
            address: None,
            arbiters: 1,
            limits: Limits::default(),
            kinds: Registrations::default(),
            deadlocks: None,
        }
    }
}

/// What a spawned manager is told.
#[derive(Debug, Serialize, Deserialize)]
struct Config {
    address: Address,
    arbiters: u32,
    limits: Limits,
    deadlocks: Option<Plan>,
}

/// The role of a spawned manager.
pub(crate) const ROLE: &str = "manager";

/// The exit code of a manager that was still in the middle of an operation when it was to end.
const EXIT_STUCK: i32 = 72;

impl ManagerBuilder {
    /// Sets where the manager is reached, for programs that share no parent. Without it the
    /// address is one that no other manager has.
    #[must_use]
    pub fn address(mut self, address: impl Into<Address>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Spreads the manager's objects over that many threads, 1 to 64: each object is on one of
    /// them, its *arbiter*, and no call crosses from one to another. An object with a name is where
    /// its name says, those without one are made on each in turn. The first arbiter is reached at
    /// the manager's address, the others at that with `.1`, `.2` and so on behind it; handles and
    /// tokens know. Without it there is one, which is what most managers need.
    ///
    /// It pays where one arbiter is busy all the time, cores are left, and the calls go to many
    /// objects: an object is never faster than its arbiter. It costs a connection, and so a session,
    /// for each arbiter that a client uses; [`Limits`] are for each arbiter. Calls to objects of
    /// different arbiters are in no order, and a snapshot of [`Manager::inspect`] has a moment of
    /// its own for each. Deadlocks are not looked for: a circle may go over several.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use lockkeeper::Manager;
    ///
    /// let manager = Manager::builder().arbiters(2).start().await?;
    /// let jobs = manager.named("jobs").lock().await?;
    /// let stock = manager.named("stock").lock().await?;
    /// // Their names have put them on different threads.
    /// assert_ne!(jobs.token().address(), stock.token().address());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn arbiters(mut self, arbiters: usize) -> Self {
        self.arbiters = arbiters;
        self
    }

    /// Sets what the manager takes from its clients at the most: each of its arbiters, where it has
    /// several.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.in_range();
        self
    }

    /// Has the manager look for callers that wait for one another, and sets what it does about them.
    /// Its clients say with each call which task or thread calls, which costs some bytes a call. It has one
    /// arbiter then: see [`Self::arbiters`].
    #[must_use]
    pub fn deadlocks(mut self, deadlocks: Deadlocks) -> Self {
        self.deadlocks = Some(deadlocks);
        self
    }

    /// Adds a kind of your own.
    #[must_use]
    pub fn register<P: Primitive>(self) -> Self {
        self.register_with(P::create)
    }

    /// Adds a kind of your own whose objects `make` makes, which may capture what they need. Each arbiter
    /// calls it on its own thread.
    #[must_use]
    pub fn register_with<P: Primitive>(
        mut self,
        make: impl Fn(P::Spec) -> Result<P, Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.kinds.push(make);
        self
    }

    /// Starts the manager on a thread of this process, with a runtime of its own, so that any
    /// async or plain program can embed it; on as many threads as it has arbiters.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::AddressInUse`] when a live manager is there,
    /// [`StartError::BadAddress`] when no socket can be there, [`StartError::System`] when there
    /// is no thread to be had, [`StartError::Unusable`] for a number of arbiters that cannot be, and for
    /// several that are to look for deadlocks.
    ///
    /// # Cancel safety
    ///
    /// As [`Manager::start`].
    pub async fn start(self) -> Result<Manager, StartError> {
        let arbiters = self.checked_arbiters()?;
        let address = self.address.unwrap_or_else(Address::unused);
        let mut kinds = program::kinds();
        self.kinds.add_to(&mut kinds);
        let inside = Inside {
            kinds,
            limits: self.limits,
            deadlocks: self.deadlocks,
        };
        let arbiters = Arbiters::start(inside.bind(&address, arbiters)?)?;
        let owned = Owned::new(Owner::Threads(arbiters.run_on_thread()?));
        Manager::own(&address, owned).await
    }

    /// Starts the manager as a process of its own. Kinds of your own are registered where the
    /// program starts then: `program().kind::<K>()`.
    ///
    /// # Errors
    ///
    /// As [`Self::start`] and [`Manager::spawn`], and [`StartError::Unusable`] when kinds were
    /// registered here or a function was to hear of deadlocks.
    ///
    /// # Cancel safety
    ///
    /// As [`Manager::spawn`].
    pub async fn spawn(self) -> Result<Manager, StartError> {
        let arbiters = self.checked_arbiters()?;
        if !self.kinds.is_empty() {
            return Err(StartError::Unusable(
                "kinds registered here cannot go to another process: \
                 register them with program().kind::<K>()"
                    .to_owned(),
            ));
        }
        let deadlocks = self.deadlocks.as_ref().map(|deadlocks| {
            deadlocks.portable().ok_or_else(|| {
                StartError::Unusable(
                    "a function that deadlocks are reported to cannot go to another process: \
                     have them printed, or ask with manager.deadlocks()"
                        .to_owned(),
                )
            })
        });
        let address = self.address.unwrap_or_else(Address::unused);
        let config = Config {
            address: address.clone(),
            arbiters,
            limits: self.limits,
            deadlocks: deadlocks.transpose()?,
        };
        let mut child = Child::start(ROLE, &config)?;
        child.ready().await?;
        Manager::own(&address, Owned::new(Owner::Process(Box::new(child)))).await
    }

    /// How many arbiters there are to be, if there can be so many.
    fn checked_arbiters(&self) -> Result<u32, StartError> {
        let asked = self.arbiters;
        if asked > 1 && self.deadlocks.is_some() {
            return Err(StartError::Unusable(format!(
                "deadlocks may go over the objects of several arbiters, and each knows its own: \
                 have one arbiter in place of {asked}, or no .deadlocks(..)"
            )));
        }
        let arbiters = u32::try_from(asked).ok();
        let arbiters = arbiters.filter(|arbiters| (1..=MOST_ARBITERS).contains(arbiters));
        arbiters.ok_or_else(|| {
            let most = MOST_ARBITERS;
            StartError::Unusable(format!("a manager has 1 to {most} arbiters, not {asked}"))
        })
    }
}

impl Manager {
    async fn own(address: &Address, owned: Owned) -> Result<Self, StartError> {
        Ok(Self {
            reach: Arc::new(Reach::to(address).await?),
            owned: Some(Arc::new(owned)),
        })
    }
}

/// What is the same for all arbiters of a manager.
struct Inside {
    kinds: Kinds,
    limits: Limits,
    deadlocks: Option<Deadlocks>,
}

impl Inside {
    /// Makes the servers of that many arbiters, which are bound at an address and serve nobody yet.
    fn bind(self, address: &Address, arbiters: u32) -> Result<Vec<Server>, StartError> {
        let claimed = Claim::stake_all(address, arbiters)?;
        let server = |(claim, door)| Server {
            claim,
            door,
            kinds: self.kinds.clone(),
            limits: self.limits,
            deadlocks: self.deadlocks.clone(),
        };
        Ok(claimed.into_iter().map(server).collect())
    }
}

/// The running manager that a handle owns, until it was ended.
#[derive(Debug)]
struct Owned(Mutex<Option<Owner>>);

#[derive(Debug)]
enum Owner {
    Threads(Threads),
    Process(Box<Child>),
}

impl Owned {
    const fn new(owner: Owner) -> Self {
        Self(Mutex::new(Some(owner)))
    }

    /// Ends the manager and waits until it is gone: a thread is not to be had before its current
    /// turn is over, a process is killed when it takes too long.
    fn end(&self) {
        let owner = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match owner {
            Some(Owner::Threads(threads)) => threads.end(),
            Some(Owner::Process(child)) => child.end(),
            None => {}
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a process that was started as a manager does, until its parent lets go of it.
pub(crate) fn work(mut role: Role) {
    let bound = role
        .config::<Config>()
        .map_err(|error| error.to_string())
        .and_then(|config| {
            let inside = Inside {
                kinds: program::kinds(),
                limits: config.limits,
                deadlocks: config.deadlocks.map(Deadlocks::from),
            };
            let servers = inside.bind(&config.address, config.arbiters);
            let arbiters = servers.and_then(Arbiters::start);
            arbiters.map_err(|error| error.to_string())
        })
        .and_then(|arbiters| {
            let stop = arbiters.stop();
            let watch = role.lifeline.watch(move || {
                stop.cancel();
                // An operation that does not end must not keep the process. It takes nothing with
                // it: what is left at the address may be a successor's by then.
                thread::sleep(END_PATIENCE);
                process::exit(EXIT_STUCK);
            });
            watch.map_err(|error| error.to_string())?;
            Ok(arbiters)
        });
    match bound {
        Ok(arbiters) => {
            role.lifeline.ready();
            arbiters.run();
        }
        Err(why) => role.lifeline.failed(why),
    }
}
