//! `ManagerBuilder`: the settings of a manager, and the ways to start it.

use lockkeeper_actors::Primitive;
use lockkeeper_protocol::{MAX_SHARDS, Refusal};

use crate::{
    address::Address,
    error::StartError,
    limits::Limits,
    manager::{
        hosting::{Config, Inside, Owned, Owner, ROLE},
        manager::Manager,
    },
    process::child::Child,
    server::{
        deadlock::policy::Deadlocks,
        kinds::{self, Registrations},
        shards::Shards,
    },
};

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

    /// Prepares a manager with an address, limits, or kinds of its own.
    #[must_use]
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::default()
    }
}

/// A manager to be.
#[derive(Debug)]
pub struct ManagerBuilder {
    address: Option<Address>,
    shards: usize,
    limits: Limits,
    kinds: Registrations,
    deadlocks: Option<Deadlocks>,
}

impl Default for ManagerBuilder {
    fn default() -> Self {
        Self {
            address: None,
            shards: 1,
            limits: Limits::default(),
            kinds: Registrations::default(),
            deadlocks: None,
        }
    }
}

impl ManagerBuilder {
    /// Sets where the manager is reached, for programs that share no parent. Without it the
    /// address is one that no other manager has.
    #[must_use]
    pub fn address(mut self, address: impl Into<Address>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Spreads the manager's objects over that many threads, 1 to 64: each object is on one of
    /// them, its *shard*, and no call crosses from one to another. An object with a name is where
    /// its name says, those without one are made on each in turn. The first shard is reached at
    /// the manager's address, the others at that with `.1`, `.2` and so on behind it; handles and
    /// tokens know. Without it there is one, which is what most managers need.
    ///
    /// It pays where one shard is busy all the time, cores are left, and the calls go to many
    /// objects: an object is never faster than its shard. It costs a connection, and so a session,
    /// for each shard that a client uses; [`Limits`] are for each shard. Calls to objects of
    /// different shards are in no order, and a snapshot of [`Manager::inspect`] has a moment of
    /// its own for each. Deadlocks are not looked for: a circle may go over several.
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
    /// assert_ne!(jobs.token().address(), stock.token().address());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Sets what the manager takes from its clients at the most: each of its shards, where it has
    /// several.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits.in_range();
        self
    }

    /// Has the manager look for callers that wait for one another, and sets what it does about them.
    /// Its clients say with each call which task or thread calls, which costs some bytes a call. It has one
    /// shard then: see [`Self::shards`].
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

    /// Adds a kind of your own whose objects `make` makes, which may capture what they need. Each shard
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
    /// async or plain program can embed it; on as many threads as it has shards.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::AddressInUse`] when a live manager is there,
    /// [`StartError::BadAddress`] when no socket can be there, [`StartError::System`] when there
    /// is no thread to be had, [`StartError::Unusable`] for a number of shards that cannot be, and for
    /// several that are to look for deadlocks.
    ///
    /// # Cancel safety
    ///
    /// As [`Manager::start`].
    pub async fn start(self) -> Result<Manager, StartError> {
        let shards = self.checked_shards()?;
        let address = self.address.unwrap_or_else(Address::unused);
        let mut kinds = kinds::kinds();
        self.kinds.add_to(&mut kinds);
        let inside = Inside {
            kinds,
            limits: self.limits,
            deadlocks: self.deadlocks,
        };
        let shards = Shards::start(inside.bind(&address, shards)?)?;
        let owned = Owned::new(Owner::Threads(shards.run_on_thread()?));
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
        let shards = self.checked_shards()?;
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
            shards,
            limits: self.limits,
            deadlocks: deadlocks.transpose()?,
        };
        let mut child = Child::start(ROLE, &config)?;
        child.ready().await?;
        Manager::own(&address, Owned::new(Owner::Process(Box::new(child)))).await
    }

    /// How many shards there are to be, if there can be so many.
    fn checked_shards(&self) -> Result<u32, StartError> {
        let asked = self.shards;
        if asked > 1 && self.deadlocks.is_some() {
            return Err(StartError::Unusable(format!(
                "deadlocks may go over the objects of several shards, and each knows its own: \
                 have one shard in place of {asked}, or no .deadlocks(..)"
            )));
        }
        let shards = u32::try_from(asked).ok();
        let shards = shards.filter(|shards| (1..=MAX_SHARDS).contains(shards));
        shards.ok_or_else(|| {
            let most = MAX_SHARDS;
            StartError::Unusable(format!("a manager has 1 to {most} shards, not {asked}"))
        })
    }
}
