//! `ClientBuilder`: the settings of this process as a client of a manager, chosen when it connects.

#[cfg(feature = "net")]
use std::path::{Path, PathBuf};
use std::{sync::Arc, time::Duration};

use crate::{
    address::Address,
    address_error::AddressError,
    client::settings::Settings,
    error::CallError,
    manager::{manager::Manager, shards::Reach},
};
#[cfg(feature = "net")]
use crate::{certificate_files::CertificateFiles, manager::network::choose_files};

/// The settings of a connection to a manager; created by [`Manager::client`].
///
/// The connection becomes the one that this process has to that manager, for all its shards. Proxies that are
/// opened by the handle of [`Self::connect`] use it, and so do all that are deserialized or opened by their
/// token afterwards. The settings apply to that manager only, until others are chosen: a later connection to
/// it has them too, and a forked child inherits them. Existing proxies and guards keep their connection, so
/// connect first. The connections of a pool's worker last from task to task, so choose the settings in its
/// [`initializer`](crate::builders::PoolBuilder::initializer), which takes the address as an argument.
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
    #[cfg(feature = "net")]
    key_file: Option<PathBuf>,
    #[cfg(feature = "net")]
    certificates: CertificateFiles,
}

impl ClientBuilder {
    /// Names this process in `inspect`, in deadlock reports, and in the marks that it leaves if it dies. At
    /// most 255 bytes are kept.
    pub fn label(mut self, label: &str) -> Self {
        self.settings.label(label);
        self
    }

    /// Sets how long a call polls for its answer before the thread sleeps. The default is zero, which means
    /// no polling; the maximum is a millisecond.
    ///
    /// A useful value is twice the round-trip time, for example 20 microseconds. That makes an uncontended call
    /// up to twice as fast if the manager has a core of its own, and everything slower if it does not. The thread
    /// does nothing else meanwhile, so other tasks of its runtime wait.
    pub fn spin(mut self, time: Duration) -> Self {
        self.settings.spin(time);
        self
    }

    /// Makes proxies reconnect when their connection is lost, for example after a restart of the manager.
    ///
    /// The loss itself is the same as without this setting: calls in progress end with
    /// [`CallError::Disconnected`], because the manager may have served them, and all holds are lost. The next
    /// call of a proxy reconnects, with one attempt. If that fails, the call returns its error, such as
    /// [`CallError::NoManager`].
    ///
    /// A restarted manager has none of the earlier manager's objects:
    /// - A proxy that this process opened by name opens the name again as before, which creates the object if
    ///   it does not exist yet. A proxy that this process received finds the object by its name, and its
    ///   calls return [`CallError::NoObject`] until the object exists. An object
    ///   without a name is [`CallError::Gone`].
    /// - The contents of the objects are gone: items, values, marks of holders that died, the counts of
    ///   latches, barriers and events. A value has its initial value, a queue is empty, an event is not set
    ///   and its generation is 0.
    /// - Fences are higher than all fences of the earlier manager.
    ///
    /// A manager that continues, for example after it has closed the session of this client, still has the
    /// objects; an object that was removed meanwhile is [`CallError::Gone`]. Handles do not reconnect.
    pub const fn reconnect(mut self) -> Self {
        self.settings.reconnect();
        self
    }

    /// Sets the file with the key of the manager, for an address `tls://host:port`. The client uses the first
    /// key of the file. By default it is the file that the variable `LOCKKEEPER_KEY_FILE` names. The file is read
    /// for each connection. Workers of a [`Pool`](crate::Pool) get the keys that this process has
    /// when they are started.
    #[cfg(feature = "net")]
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_file = Some(path.into());
        self
    }

    /// Sets the file with the authorities, in PEM, one of which has to have signed the certificate of the manager at
    /// `tls://host:port`, for that host. By default it is the file that the variable `LOCKKEEPER_CA_FILE` names; without
    /// one the client trusts the manager that proves the key. A fingerprint in the address is checked as well. The
    /// manager needs a [`certificate`](crate::builders::ManagerBuilder::certificate).
    ///
    /// The file is read for each connection. Workers of a [`Pool`](crate::Pool) get what it has when they are started.
    #[cfg(feature = "net")]
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.certificates.set_ca(path.as_ref());
        self
    }

    /// Sets the files, in PEM, with the certificate that this process shows to a manager with a
    /// [`client_ca`](crate::builders::ManagerBuilder::client_ca), and with its private key. The first certificate of
    /// `chain_file` belongs to the key, and the authorities between it and that of the manager follow. Other users must
    /// not be able to read `key_file`, whose key is not encrypted. The default is what the variables
    /// `LOCKKEEPER_CERTIFICATE_FILE` and `LOCKKEEPER_CERTIFICATE_KEY_FILE` name. A manager that wants no certificate
    /// sees none.
    ///
    /// The files are read for each connection. Workers of a [`Pool`](crate::Pool) get what they have when they are
    /// started.
    #[cfg(feature = "net")]
    pub fn certificate(mut self, chain_file: impl AsRef<Path>, key_file: impl AsRef<Path>) -> Self {
        let (chain, key) = (chain_file.as_ref(), key_file.as_ref());
        self.certificates.set_own(chain, key);
        self
    }

    /// Connects to the manager at an address. An existing connection of this process with the same settings
    /// is used again.
    ///
    /// The settings are kept even if the connection fails.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Manager::connect`].
    ///
    /// # Cancel safety
    ///
    /// See [`Manager::connect`].
    pub async fn connect<A>(self, address: A) -> Result<Manager, CallError>
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        let address = address.try_into().map_err(Into::into)?;
        #[cfg(feature = "net")]
        choose_files(&address, self.key_file, self.certificates)?;
        self.settings.choose(&address);
        Ok(Manager {
            reach: Arc::new(Reach::to(&address).await?),
            owned: None,
        })
    }
}

impl Manager {
    /// Creates a builder for a connection with settings: the label of this process, whether calls poll, and
    /// whether proxies reconnect.
    pub fn client() -> ClientBuilder {
        ClientBuilder::default()
    }
}
