//! The methods of a builder that give a manager endpoints on the network, with the feature `net`.

use std::path::{Path, PathBuf};

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

    /// Sets the files, in PEM, with the certificate that the manager shows at its endpoints, and with its private key,
    /// in place of one that it makes itself. The first certificate of `chain_file` belongs to the key, and the
    /// authorities that have signed it follow. Clients check it by
    /// [`ca_file`](crate::builders::ClientBuilder::ca_file); both sides need the [key file](Self::key_file) as well.
    ///
    /// Other users must not be able to read `key_file`, whose key is not encrypted. The manager reads both files again
    /// when one has changed. [`Manager::endpoints`](crate::Manager::endpoints) then has no fingerprint, because the
    /// next certificate may have another.
    ///
    /// ```no_run
    /// # async fn serve() -> Result<(), lockkeeper::StartError> {
    /// use lockkeeper::Manager;
    ///
    /// let manager = Manager::builder()
    ///     .address("jobs")
    ///     .listen("tls://locks.example:7000")
    ///     .key_file("/etc/jobs/locks.key")
    ///     .certificate("/etc/jobs/chain.pem", "/etc/jobs/private.pem")
    ///     .client_ca("/etc/jobs/clients.pem")
    ///     .state_folder("/var/lib/jobs/locks");
    /// let manager = manager.start().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn certificate(mut self, chain_file: impl AsRef<Path>, key_file: impl AsRef<Path>) -> Self {
        let (chain, key) = (chain_file.as_ref(), key_file.as_ref());
        self.network.certificates.set_own(chain, key);
        self
    }

    /// Makes the manager refuse clients at its endpoints that show no certificate of an authority in a file, in PEM.
    /// Clients show it by [`certificate`](crate::builders::ClientBuilder::certificate), and need the
    /// [key file](Self::key_file) as well. The manager reads the file again when it has changed.
    ///
    /// A line of the key file may have the fingerprint of a client's certificate in place of a key, and options:
    /// `sha256:5a5a.. no-admin prefix=ci/`. A client that shows that certificate has the rights of this line, and not
    /// those of its key.
    #[must_use]
    pub fn client_ca(mut self, file: impl AsRef<Path>) -> Self {
        self.network.certificates.set_ca(file.as_ref());
        self
    }
}
