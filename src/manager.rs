//! The manager as programs see it: started here, spawned as a process, or connected to.

mod inspection;
mod objects;

use std::{
    process,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

use lockkeeper_actors::{Primitive, Refusal};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

pub use self::objects::Named;
use crate::{
    Address, CallError, Deadlocks, Limits, StartError,
    address::Claim,
    client::{Connection, background},
    deadlock::Plan,
    kinds::Registrations,
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
    connection: Arc<Connection>,
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

    /// Connects to the manager at an address, which goes on when this handle is dropped.
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
        let connection = Connection::to(&address.into()).await?;
        Ok(Self {
            connection,
            owned: None,
        })
    }

    /// Prepares a manager with an address, limits, or kinds of its own.
    #[must_use]
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::default()
    }

    /// Where the manager is reached.
    #[must_use]
    pub fn address(&self) -> &Address {
        self.connection.address()
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
        self.connection.remove(name).await
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
#[derive(Debug, Default)]
pub struct ManagerBuilder {
    address: Option<Address>,
    limits: Limits,
    kinds: Registrations,
    deadlocks: Option<Deadlocks>,
}

/// What a spawned manager is told.
#[derive(Debug, Serialize, Deserialize)]
struct Config {
    address: Address,
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

    /// Sets what the manager takes from its clients at the most.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.in_range();
        self
    }

    /// Has the manager look for callers that wait for one another, and sets what it does about them.
    /// Its clients say with each call which task or thread calls, which costs some bytes a call.
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

    /// Adds a kind of your own whose objects `make` makes, which may capture what they need.
    #[must_use]
    pub fn register_with<P: Primitive>(
        mut self,
        make: impl Fn(P::Spec) -> Result<P, Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.kinds.push(make);
        self
    }

    /// Starts the manager on a thread of this process, with a runtime of its own, so that any
    /// async or plain program can embed it.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::AddressInUse`] when a live manager is there,
    /// [`StartError::BadAddress`] when no socket can be there, [`StartError::System`] when there
    /// is no thread to be had.
    ///
    /// # Cancel safety
    ///
    /// As [`Manager::start`].
    pub async fn start(self) -> Result<Manager, StartError> {
        let address = self.address.unwrap_or_else(Address::unused);
        let mut kinds = program::kinds();
        self.kinds.add_to(&mut kinds);
        let (claim, door) = Claim::stake(address.clone())?;
        let server = Server {
            claim,
            door,
            kinds,
            limits: self.limits,
            deadlocks: self.deadlocks,
        };
        let owned = Owned::new(Owner::thread(server)?);
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
            limits: self.limits,
            deadlocks: deadlocks.transpose()?,
        };
        let mut child = Child::start(ROLE, &config)?;
        child.ready().await?;
        Manager::own(&address, Owned::new(Owner::Process(Box::new(child)))).await
    }
}

impl Manager {
    async fn own(address: &Address, owned: Owned) -> Result<Self, StartError> {
        let connection = Connection::to(address).await?;
        Ok(Self {
            connection,
            owned: Some(Arc::new(owned)),
        })
    }
}

/// The running manager that a handle owns, until it was ended.
#[derive(Debug)]
struct Owned(Mutex<Option<Owner>>);

#[derive(Debug)]
enum Owner {
    Thread(oneshot::Sender<()>, JoinHandle<()>),
    Process(Box<Child>),
}

impl Owner {
    fn thread(server: Server) -> Result<Self, StartError> {
        let (stop, stopped) = oneshot::channel();
        let serve = move || server.run(stopped);
        let thread = thread::Builder::new()
            .name("lockkeeper".to_owned())
            .spawn(serve)
            .map_err(|error| StartError::System(error.to_string()))?;
        Ok(Self::Thread(stop, thread))
    }
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
            Some(Owner::Thread(stop, thread)) => {
                // It may have stopped already, and a panic has been printed where it happened.
                let _ = stop.send(());
                if thread.thread().id() != thread::current().id() {
                    let _ = thread.join();
                }
            }
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
    let staked = role
        .config::<Config>()
        .map_err(|error| error.to_string())
        .and_then(|config| {
            let (claim, door) = Claim::stake(config.address).map_err(|error| error.to_string())?;
            Ok(Server {
                claim,
                door,
                kinds: program::kinds(),
                limits: config.limits,
                deadlocks: config.deadlocks.map(Deadlocks::from),
            })
        })
        .and_then(|server| {
            let (stop, stopped) = oneshot::channel::<()>();
            let watch = role.lifeline.watch(move || {
                drop(stop);
                // An operation that does not end must not keep the process. It takes nothing with
                // it: what is left at the address may be a successor's by then.
                thread::sleep(END_PATIENCE);
                process::exit(EXIT_STUCK);
            });
            watch.map_err(|error| error.to_string())?;
            Ok((server, stopped))
        });
    match staked {
        Ok((server, stopped)) => {
            role.lifeline.ready();
            server.run(stopped);
        }
        Err(why) => role.lifeline.failed(why),
    }
}
