//! `Manager`: the handle of a manager that was started here, spawned as a process, or connected to.

use std::sync::Arc;

use crate::{
    address::Address,
    address_error::AddressError,
    error::{CallError, StartError},
    manager::{hosting::Owned, shards::Reach},
};

/// A manager that hosts objects for processes to share. Counterpart of Python's `SyncManager`.
///
/// A handle: clones are the same manager. The manager ends when the last handle from its start is
/// dropped, or with [`Self::shutdown`]. Then no process, no socket and no waiting call of it is left.
///
/// The drop of that handle waits for the manager's end, which takes milliseconds, unless an
/// operation of a kind of your own takes longer: it waits for a manager on a thread until the
/// operation is over, and for one that is a process at most five seconds, then it is killed.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lockkeeper::Manager;
///
/// let manager = Manager::start().await?;
/// let lock = manager.named("stock").lock().await?;
///
/// // Another program would connect by the same address and name.
/// let other = Manager::connect(manager.address().clone()).await?;
/// let same = other.named("stock").lock().await?;
/// let _guard = lock.acquire().await?;
/// assert!(same.try_acquire().await?.is_none());
/// # Ok(())
/// # }
/// ```
#[doc(alias = "SyncManager")]
#[doc(alias = "BaseManager")]
#[derive(Clone, Debug)]
pub struct Manager {
    pub(super) reach: Arc<Reach>,
    /// Empty for a manager that this handle has connected to.
    pub(super) owned: Option<Arc<Owned>>,
}

impl Manager {
    /// Connects to the manager at an address, which goes on when this handle is dropped. The address of
    /// an object of it, as tokens have it, will do. [`Self::client`] connects with settings.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Address`] for a text that is no address, [`CallError::NoManager`] when there is
    /// no manager, or only one of a user that the address does not name, and [`CallError::Disconnected`] when
    /// it does not speak this version of the protocol.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing is left but a connection that closes by itself.
    pub async fn connect<A>(address: A) -> Result<Self, CallError>
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        let address = address.try_into().map_err(Into::into)?;
        Ok(Self {
            reach: Arc::new(Reach::to(&address).await?),
            owned: None,
        })
    }

    /// Where the manager is reached: its first shard, if it has several.
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
    #[doc(alias = "unlink")]
    pub async fn remove(&self, name: &str) -> Result<(), CallError> {
        self.reach.shard_of(Some(name)).await?.remove(name).await
    }

    /// Ends the manager, for all its handles and clients, and waits until it is gone. A manager
    /// that this handle has connected to goes on.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the manager ends also when this is dropped. Dropped before, it is no more than
    /// the drop of this handle.
    pub async fn shutdown(self) {
        if let Some(owned) = self.owned {
            owned.shut_down().await;
        }
    }
}

impl Manager {
    pub(super) async fn own(address: &Address, owned: Owned) -> Result<Self, StartError> {
        Ok(Self {
            reach: Arc::new(Reach::to(address).await?),
            owned: Some(Arc::new(owned)),
        })
    }
}
