//! `ManagerBuilder::in_memory`: a manager in tasks of a test's own runtime.

use std::time::Duration;

use lockkeeper_protocol::caught;
use tokio::task::LocalSet;

use crate::{
    address::Address,
    error::StartError,
    manager::{
        builder::{ManagerBuilder, is_in_process},
        hosting::{Owned, Owner, Tasks},
        manager::Manager,
    },
};

impl ManagerBuilder {
    /// Runs a test with this manager in memory. Its sessions and objects are tasks of the test's runtime,
    /// clients reach it through memory, and it ends with the test, even if the test panics. It has no thread,
    /// socket or file. (A client still has its background thread.)
    ///
    /// The manager uses the time of the runtime. With a paused clock (tokio's `test-util`), a test of an
    /// hour's timeout takes no time, and events happen in the order of their times:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use lockkeeper::{CallError, Manager};
    /// use tokio::time::Instant;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // In a function with #[tokio::test(start_paused = true)].
    /// Manager::in_memory(async |manager| {
    ///     let lock = manager.lock().await?;
    ///     let _guard = lock.acquire().await?;
    ///     let (hour, begun) = (Duration::from_secs(3600), Instant::now());
    ///     let late = lock.acquire().timeout(hour).await;
    ///     assert!(matches!(late, Err(CallError::TimedOut(_))));
    ///     assert!(begun.elapsed() >= hour);
    ///     Ok(())
    /// })
    /// .await?
    /// # }
    /// ```
    ///
    /// The test has a handle that owns the manager: [`Manager::shutdown`] and the drop of the last clone end
    /// it, as for any other manager. Other tasks of this process reach it by its address and by proxies.
    /// Other processes cannot reach it, so the tasks of a [`Pool`](crate::Pool) need a manager of
    /// [`Self::start`]. A wait on another runtime or on a plain thread uses the clock there, and a paused
    /// clock advances while its own runtime only waits for such a wait. With a paused clock, therefore,
    /// connect to the manager from the test's own runtime: the manager may see no traffic of another thread for
    /// what its clock counts as hours. [`Wait::blocking`](crate::Wait::blocking) and
    /// [`block_on`](crate::block_on) belong on other threads, as in any async code.
    ///
    /// The future is not `Send`: await it in the test, not in a spawned task.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::InvalidSettings`] for an invalid number of shards, for several shards with a deadlock
    /// search, for an address that is not within this process, as `memory:NAME` is, with a state folder, and in a
    /// runtime without timers. Returns
    /// [`StartError::AddressInUse`] when a live manager of this process has the name.
    ///
    /// # Panics
    ///
    /// Panics when the test panics, and outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// See [`Manager::in_memory`].
    pub async fn in_memory<T>(self, test: impl AsyncFnOnce(Manager) -> T) -> Result<T, StartError> {
        let shards = self.checked_shards()?;
        let address = self.checked_address(Address::unused_in_memory)?;
        if !is_in_process(&address) {
            return Err(StartError::InvalidSettings(format!(
                "{address} is reachable for other processes, for which start() is: \
                 use memory:NAME, or no address"
            )));
        }
        // tokio has no function that says whether a runtime has timers, and panics without them.
        if caught(|| drop(tokio::time::sleep(Duration::ZERO))).is_err() {
            return Err(StartError::InvalidSettings(
                "a manager in memory measures deadlines by the tokio runtime of this task, which has no timers: \
                 build it with enable_all(), or with enable_time()"
                    .to_owned(),
            ));
        }
        if let Some(state) = &self.state {
            return Err(StartError::InvalidSettings(format!(
                "a manager in memory has no files, and would not use the state folder {}: use start(), or \
                 leave out state_folder",
                state.display()
            )));
        }
        #[cfg(feature = "net")]
        self.network.refuse_in_memory()?;
        let servers = self.into_inside()?.bind(&address, shards)?;
        let hosted = async {
            let tasks = Tasks::start(servers);
            let owned = Owned::new(Owner::Tasks(tasks.clone()), &address);
            let manager = Manager::own(&address, owned).await?;
            let outcome = test(manager).await;
            tasks.end().await;
            Ok(outcome)
        };
        LocalSet::new().run_until(hosted).await
    }
}
