//! How an object of any kind is opened by names and bytes.

use crate::{error::CallError, manager::manager::Manager, proxy::dynamic::Object};

impl Object {
    /// Opens an object of the kind of that name: a new one without a name, else the one of that name, made of
    /// the spec if need be. The spec is the MessagePack of the kind's.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Fault`] with `UnknownKind`, which names it, and with `BadArguments` for bytes that
    /// are no spec of the kind; else as [`Named`](crate::builders::Named).
    ///
    /// # Cancel safety
    ///
    /// As [`Manager::lock`].
    pub async fn open(
        manager: &Manager,
        kind: &str,
        name: Option<&str>,
        spec: &[u8],
    ) -> Result<Self, CallError> {
        let connection = manager.reach.shard_of(name).await?;
        Self::open_over(connection, kind, name, spec).await
    }

    /// Names the object of that kind and name, which is looked for when it is first used. A call returns
    /// [`CallError::Fault`] with `UnknownObject` when there is none, and with `WrongKind` for one of another kind.
    ///
    /// # Errors
    ///
    /// Returns an error when the shard that has the name cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropped at any point, nothing has changed.
    pub async fn find(manager: &Manager, kind: &str, name: &str) -> Result<Self, CallError> {
        let shard = manager.reach.shard_of(Some(name)).await?;
        Ok(Self::at(shard.address().clone(), kind, name))
    }
}
