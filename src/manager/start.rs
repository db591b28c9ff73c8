//! `Manager::start`, `spawn` and `in_memory`: managers with the default settings, and the builder for others.

use crate::{
    error::StartError,
    manager::{builder::ManagerBuilder, manager::Manager},
};

impl Manager {
    /// Starts a manager on a thread of this process. Child processes can connect to it.
    ///
    /// # Errors
    ///
    /// Returns an error when the system cannot create a socket or a thread.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the manager ends and leaves nothing behind.
    pub async fn start() -> Result<Self, StartError> {
        Self::builder().start().await
    }

    /// Starts a manager as a separate process that runs this program. It ends at the latest when this process
    /// ends.
    ///
    /// # Errors
    ///
    /// Returns [`StartError::ProgramNotCalled`] unless [`program`](crate::program) was called at the start of
    /// main, and [`StartError::ChildFailed`] when the process does not get ready.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the process is ended.
    pub async fn spawn() -> Result<Self, StartError> {
        Self::builder().spawn().await
    }

    /// Starts a manager in memory for a test. It runs in tasks of the test's runtime until the test ends. See
    /// [`ManagerBuilder::in_memory`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use lockkeeper::{CallError, Manager};
    ///
    /// Manager::in_memory(async |manager| {
    ///     let lock = manager.lock().await?;
    ///     let guard = lock.acquire().await?;
    ///     assert!(lock.try_acquire().await?.is_none());
    ///     drop(guard);
    ///     Ok(())
    /// })
    /// .await?
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`ManagerBuilder::in_memory`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the test and the manager end and leave nothing behind.
    pub async fn in_memory<T>(test: impl AsyncFnOnce(Self) -> T) -> Result<T, StartError> {
        Self::builder().in_memory(test).await
    }

    /// Creates a builder for a manager with its own address, limits or kinds.
    #[must_use]
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::default()
    }
}
