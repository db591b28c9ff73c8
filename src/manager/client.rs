//! `ClientBuilder`: how this process is a client of a manager, chosen where it connects.

use std::{sync::Arc, time::Duration};

use crate::{
    address::Address,
    address_error::AddressError,
    client::settings::Settings,
    error::CallError,
    manager::{manager::Manager, shards::Reach},
};

/// A connection to a manager about to be made, with settings: by [`Manager::client`].
///
/// The connection becomes the one of this process to that manager, for all its shards: proxies that are opened
/// by the handle which [`Self::connect`] returns use it, and so do all that are deserialized or opened by their
/// token from then on. The settings are kept for that manager, and for no other, until others are chosen: a
/// connection that is made anew has them too, and a forked child has those of its parent. Proxies and guards
/// that are in use stay with the connection that they have, so connect before all else; in a worker of a pool,
/// whose connections last from task to task, by its [`initializer`](crate::builders::PoolBuilder::initializer), which is given
/// the address.
///
/// ```
/// use std::time::Duration;
///
/// use lockkeeper::Manager;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let owner = Manager::start().await?;
/// # let address = owner.address();
/// let manager = Manager::client()
///     .label("ingest 3")
///     .spin(Duration::from_micros(20))
///     .reconnect()
///     .connect(address)
///     .await?;
/// let lock = manager.named("jobs").lock().await?;
/// let guard = lock.acquire().await?;
/// let holder = &lock.info().await?.parts[0].holders[0];
/// assert_eq!(holder.process.label, "ingest 3");
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "settings have no effect before connect()"]
pub struct ClientBuilder {
    settings: Settings,
}

impl ClientBuilder {
    /// Names this process to those who see what it holds and waits for: in `inspect`, in a deadlock, and
    /// in what it leaves behind if it dies. At most 255 bytes are kept.
    pub fn label(mut self, label: &str) -> Self {
        self.settings.label(label);
        self
    }

    /// Has calls look for their answers that long before they let the thread sleep. Zero, the default, is not
    /// at all; more than a millisecond is taken for one.
    ///
    /// Some 20 microseconds are twice a round trip. It makes a call that nobody contends for up to twice
    /// as fast while the manager has a core of its own, and everything slower while it has not. The
    /// thread does nothing else meanwhile: other tasks of its runtime wait for as long.
    pub fn spin(mut self, time: Duration) -> Self {
        self.settings.spin(time);
        self
    }

    /// Has proxies connect anew when their connection is lost, as when the manager was started again.
    ///
    /// The loss itself is as without it: calls that are under way end with [`CallError::Disconnected`], since
    /// they may have been served, and what was held is lost. The next call of a proxy connects anew, once; if
    /// that fails, its error is that of the call, such as [`CallError::NoManager`].
    ///
    /// A manager that was started again has none of the objects of the one before:
    /// - A proxy that this process has opened by a name opens the name again as it did before, which makes the
    ///   object if no other process has made it yet. One that it was sent finds the object by its name, and its
    ///   calls return [`Fault::UnknownObject`](crate::errors::Fault) until there is one. An object without a name is
    ///   [`CallError::Gone`].
    /// - What the objects kept is gone: items, values, marks of holders that died, the counts of latches,
    ///   barriers and events. A value is what it is made with, a queue is empty, an event is not set and its
    ///   generation is 0.
    /// - Fences are higher than all that the manager before has given out.
    ///
    /// A manager that goes on, as one that has hung up this client, still has the objects; one that was removed
    /// meanwhile is [`CallError::Gone`]. Handles do not connect anew.
    pub const fn reconnect(mut self) -> Self {
        self.settings.reconnect();
        self
    }

    /// Connects to the manager at an address. A connection of this process that has the same settings is
    /// used again.
    ///
    /// The settings are kept also when no manager is reached.
    ///
    /// # Errors
    ///
    /// As [`Manager::connect`].
    ///
    /// # Cancel safety
    ///
    /// As [`Manager::connect`].
    pub async fn connect<A>(self, address: A) -> Result<Manager, CallError>
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        let address = address.try_into().map_err(Into::into)?;
        self.settings.choose(&address);
        Ok(Manager {
            reach: Arc::new(Reach::to(&address).await?),
            owned: None,
        })
    }
}

impl Manager {
    /// Begins a connection with settings of this process as a client: its label, whether calls spin, whether
    /// proxies connect anew.
    pub fn client() -> ClientBuilder {
        ClientBuilder::default()
    }
}
