//! `Manager`: the handle of a manager that this process has started, spawned or connected to.

use std::{fmt, os::fd::OwnedFd, sync::Arc};

use lockkeeper_sys::Private;

use crate::{
    address::Address,
    address_error::AddressError,
    client::connection::Connection,
    error::{CallError, StartError},
    manager::{hosting::Owned, shards::Reach},
};

/// A manager that hosts objects which processes share. Counterpart of Python's `SyncManager`.
///
/// This type is a handle: its clones refer to the same manager. The manager ends when the last handle from
/// its start is dropped, or with [`Self::shutdown`]. Then no process, no socket and no waiting call of it is
/// left.
///
/// The drop of the last handle waits for the manager's end, which takes milliseconds unless an operation of a
/// registered kind takes longer. If the manager runs on a thread, the drop waits until that operation is
/// over. If it is a process, the drop waits at most five seconds and then kills it.
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
#[derive(Clone)]
pub struct Manager {
    pub(super) reach: Arc<Reach>,
    /// Empty if this handle has connected to the manager.
    pub(super) owned: Option<Arc<Owned>>,
}

impl Manager {
    /// Connects to the manager at an address. The manager continues when this handle is dropped. The address
    /// of one of its objects, as in tokens, works too. [`Self::client`] connects with settings.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Address`] for a text that is not an address, [`CallError::NoManager`] when there is
    /// no manager, or only one of a user that the address does not name, and [`CallError::Disconnected`] when
    /// the manager does not speak this version of the protocol.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the only remainder is a connection that closes by itself.
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

    /// Returns the address of the manager, which is that of its first shard.
    #[must_use]
    pub fn address(&self) -> &Address {
        self.reach.address()
    }

    /// Returns the addresses at which clients on other machines reach the manager, each with the port and the
    /// fingerprint of the public key. The host is that of the address that the manager was told to listen at, so
    /// another machine may know it by another name. A program without the feature `net` gets none.
    #[must_use]
    pub fn endpoints(&self) -> &[Address] {
        self.reach.first().endpoints()
    }

    /// Returns the id of the manager's process if this handle has [spawned](Self::spawn) it and it still runs,
    /// else `None`. A manager that runs on threads of this process has no process of its own.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.owned.as_ref()?.pid()
    }

    /// Removes the object with that name. All its waiters get [`CallError::Gone`], all its guards are lost,
    /// and the name becomes free. The token of an anonymous object contains its name.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::NoObject`] if no object has that name.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the object may have been removed.
    #[doc(alias = "unlink")]
    #[doc(alias = "delete")]
    pub async fn remove(&self, name: &str) -> Result<(), CallError> {
        self.reach.shard_of(Some(name)).await?.remove(name).await
    }

    /// Ends the manager, for all its handles and clients, and waits until it is gone. A manager that this
    /// handle has connected to continues.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped after its first poll, the manager still ends. If it is dropped before, the
    /// effect is that of dropping this handle.
    pub async fn shutdown(self) {
        if let Some(owned) = self.owned {
            owned.shutdown().await;
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manager({})", self.address())
    }
}

impl Manager {
    pub(super) async fn own(address: &Address, owned: Owned) -> Result<Self, StartError> {
        Ok(Self {
            reach: Arc::new(Reach::to(address).await?),
            owned: Some(Arc::new(owned)),
        })
    }

    /// The manager that this process owns, and reaches over a socket that it has handed to the manager.
    pub(super) async fn own_over(
        socket: Private<OwnedFd>,
        address: &Address,
        owned: Owned,
    ) -> Result<Self, StartError> {
        let connection = Connection::over(socket, address).await?;
        Ok(Self {
            reach: Arc::new(Reach::over(connection)),
            owned: Some(Arc::new(owned)),
        })
    }
}
