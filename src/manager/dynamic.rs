//! Opens an object of any kind by names and bytes.

use crate::{error::CallError, manager::manager::Manager, untyped::Object};

impl Object {
    /// Opens an object of the kind with that name. Without an object name it creates a new object; otherwise
    /// it opens the object with that name, and creates it from the spec if needed. The spec is the
    /// MessagePack encoding of the kind's spec.
    ///
    /// # Errors
    ///
    /// Returns [`CallError::Fault`] with `UnknownKind`, which contains the kind, or with `BadArguments` if
    /// the bytes are no spec of the kind. Returns also the errors of [`Named`](crate::builders::Named).
    ///
    /// # Cancel safety
    ///
    /// See [`Manager::lock`].
    pub async fn open(
        manager: &Manager,
        kind: &str,
        name: Option<&str>,
        spec: &[u8],
    ) -> Result<Self, CallError> {
        let connection = manager.reach.shard_of(name).await?;
        Self::open_over(connection, kind, name, spec).await
    }

    /// Returns a handle of the object of that kind and name, which the manager looks up at the first call. A call
    /// returns [`CallError::NoObject`] when there is none, and [`CallError::Fault`] with `WrongKind` for one of
    /// another kind.
    ///
    /// # Errors
    ///
    /// Returns an error when the shard that has the name cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// The call changes nothing.
    pub async fn find(manager: &Manager, kind: &str, name: &str) -> Result<Self, CallError> {
        let shard = manager.reach.shard_of(Some(name)).await?;
        Ok(Self::at(shard.address().clone(), kind, name))
    }
}
