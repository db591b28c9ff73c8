//! The methods of a builder that give a manager endpoints on the network, with the feature `net`.

use std::path::PathBuf;

use crate::{address::Address, address_error::AddressError, manager::builder::ManagerBuilder};

impl ManagerBuilder {
    /// Makes the manager listen at a network address too, `tls://host:port`, for clients on other machines. A
    /// manager may have any number of such endpoints, for all of its shards, beside its own address. With port 0
    /// the system chooses one; [`Manager::endpoints`](crate::Manager::endpoints) returns it.
    ///
    /// The manager needs a [key file](Self::key_file), because a network tells nothing about the user of a client,
    /// and a [state folder](Self::state_folder), which keeps the key pair of its endpoints. A client that has a key
    /// may do everything.
    ///
    /// Sessions over the network have a [lease](Self::lease).
    ///
    /// ```no_run
    /// # async fn serve() -> Result<(), lockkeeper::StartError> {
    /// use lockkeeper::Manager;
    ///
    /// let manager = Manager::builder()
    ///     .address("jobs")
    ///     .listen("tls://0.0.0.0:7000")
    ///     .key_file("/etc/jobs/locks.key")
    ///     .state_folder("/var/lib/jobs/locks");
    /// let manager = manager.start().await?;
    /// println!("{}", manager.endpoints()[0]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn listen<A>(mut self, endpoint: A) -> Self
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        let endpoint = endpoint.try_into().map_err(Into::into);
        self.network.endpoints.push(endpoint);
        self
    }

    /// Sets the file with the keys that clients on other machines may have, as
    /// [`make_key_file`](crate::net::make_key_file) makes it. By default it is the one that the variable
    /// `LOCKKEEPER_KEY_FILE` names. The manager reads the file again when it has changed.
    #[must_use]
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.network.key_file = Some(path.into());
        self
    }
}
