//! The methods of a builder that give a manager endpoints on the network, with the feature `net`.

use std::path::PathBuf;

use crate::{address::Address, address_error::AddressError, manager::builder::ManagerBuilder};

impl ManagerBuilder {
    /// Makes the manager listen at a network address too, `tls://host:port`, for clients on other machines. A
    /// manager may have any number of such endpoints, for all of its shards, beside its own address. With port 0
    /// the system chooses one; [`Manager::endpoints`](crate::Manager::endpoints) returns it.
    ///
    /// The manager needs a [key file](Self::key_file), because over a network the kernel does not report the
    /// user of a client, and a [state folder](Self::state_folder), which keeps the key pair of its endpoints. A
    /// client that has a key may do everything, unless the key file takes rights from that key.
    ///
    /// The name of a host is resolved when the manager starts, within 5 seconds, and the runtime that awaits the start
    /// runs on meanwhile.
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
    ///
    /// A line has the name of a key, its hexadecimal digits, and options that take rights from clients with that key:
    ///
    /// | option | a client with the key |
    /// | --- | --- |
    /// | `no-admin` | may not remove, inspect or force open objects, or call operations of own kinds that are [administrative](crate::kind::Operation::IS_ADMINISTRATIVE) |
    /// | `prefix=ci/` | may use only objects whose names begin with `ci/`, and objects without a name that such a key has made |
    /// | `sessions=20` | has at most 20 sessions at a time with all others that have the key, for each [shard](Self::shards) |
    /// | `calls=1000` | has at most 1000 calls of one session that wait for an answer |
    ///
    /// What they may not do fails with [`Fault::NotAllowed`](crate::errors::Fault::NotAllowed). The rights of a session
    /// are those that the file had when it began. Without options a client may do everything. A prefix has no spaces
    /// and at most 255 bytes, and limits are at least 1. A file with any other word is refused.
    #[must_use]
    pub fn key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.network.key_file = Some(path.into());
        self
    }
}
