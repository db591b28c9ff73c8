//! `AddressClaim`: the exclusive right of a running manager to its address, for any transport.
//!
//! A path is claimed by a claim file and an abstract name (see `lock_file`), and the manager checks both
//! regularly. For other transports the listener itself is the claim.

use std::{
    future, io,
    time::{Duration, SystemTime},
};

use lockkeeper_protocol::{ManagerSecret, SECRET_BYTES, Shard, ShardOf};
use tokio::{task, time};

use crate::{
    access::Access,
    address::Address,
    error::StartError,
    server::{claim::socket_file::SocketFile, state::state::State},
    transport::{endpoint::Endpoint, listener::Listener, unix::UnixListener},
};

/// The exclusive right of one shard of a manager to its address. Dropping the claim and the listener
/// frees the address.
#[derive(Debug)]
pub(crate) struct AddressClaim {
    address: Address,
    shard_of: ShardOf,
    secret: ManagerSecret,
    socket: Option<SocketFile>,
}

/// The interval at which a manager checks that its files are still its own.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);

pub(crate) type ClaimedAddress = (AddressClaim, Box<dyn Listener>);

impl AddressClaim {
    /// Claims an address for a manager of one shard, and binds it.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::acquire_all`].
    pub(crate) fn acquire(address: &Address) -> Result<ClaimedAddress, StartError> {
        let claimed = Self::acquire_all(address, 1, &Access::default(), None)?.pop();
        claimed.ok_or_else(|| StartError::BadAddress {
            address: address.clone(),
            why: "it has no shard".to_owned(),
        })
    }

    /// Claims an address for a manager of `shards` shards, and binds one socket for each. Reserves the
    /// first fences of a manager with a state folder.
    ///
    /// # Errors
    ///
    /// Returns an error when a live manager has the address, when it cannot be bound, or when the fences cannot
    /// be reserved.
    pub(crate) fn acquire_all(
        address: &Address,
        shards: u32,
        access: &Access,
        state: Option<&State>,
    ) -> Result<Vec<ClaimedAddress>, StartError> {
        let bound: Vec<(_, Box<dyn Listener>)> = match address.path() {
            Some(path) => SocketFile::claim_all(address, path, shards, access)?
                .into_iter()
                .map(|(socket, listener)| (Some(socket), Box::new(listener) as _))
                .collect(),
            None => Shard::all(shards)
                .map(|shard| Ok((None, listen(address.of(shard))?)))
                .collect::<Result<_, StartError>>()?,
        };
        // The incarnation is drawn after the bind: the previous manager at this address drew numbers until
        // its end.
        let incarnation = match state {
            Some(state) => state.begin(clock(), shards)?,
            None => clock(),
        };
        let secret = secret()?;
        let claim = |(shard, (socket, listener))| {
            let claim = Self {
                address: address.of(shard),
                shard_of: ShardOf { incarnation, shard },
                secret,
                socket,
            };
            (claim, listener)
        };
        Ok(Shard::all(shards).zip(bound).map(claim).collect())
    }

    /// Waits until the socket was removed and bound again, and returns the new listener. It checks every few
    /// seconds. For a transport without a path it waits for ever.
    ///
    /// # Errors
    ///
    /// Returns the reason if the address is lost; the manager then has to end.
    pub(crate) async fn moved(&mut self) -> Result<Box<dyn Listener>, String> {
        loop {
            time::sleep(CHECK_INTERVAL).await;
            let Some(socket) = &mut self.socket else {
                return future::pending().await;
            };
            let looked = if socket.is_missing() {
                self.look_aside().await?
            } else {
                socket.look()?
            };
            if let Some(listener) = looked {
                return Ok(Box::new(listener));
            }
        }
    }

    /// Checks the socket, and binds it again if it is missing, on another thread, because the sweep of its
    /// folder may wait for other programs. If the future is dropped, that thread removes the socket.
    async fn look_aside(&mut self) -> Result<Option<UnixListener>, String> {
        let Some(mut socket) = self.socket.take() else {
            return Ok(None);
        };
        let looked = task::spawn_blocking(move || {
            let looked = socket.look();
            (socket, looked)
        });
        let (socket, looked) = looked.await.map_err(|error| error.to_string())?;
        self.socket = Some(socket);
        looked
    }

    /// Returns the reason if the address is lost.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.socket.as_ref()?.lost()
    }

    pub(crate) const fn address(&self) -> &Address {
        &self.address
    }

    /// The secret with which the manager signs the calls of its sessions.
    pub(crate) const fn secret(&self) -> ManagerSecret {
        self.secret
    }

    /// The shard and the incarnation of the manager.
    pub(crate) const fn shard_of(&self) -> ShardOf {
        self.shard_of
    }
}

/// Draws the secret of this incarnation of the manager.
fn secret() -> Result<ManagerSecret, StartError> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| StartError::System(format!("it has no random numbers: {error}")))?;
    Ok(ManagerSecret::new(bytes))
}

/// Binds an address that is not a path.
fn listen(address: Address) -> Result<Box<dyn Listener>, StartError> {
    let listening = Endpoint::of(&address).and_then(|endpoint| endpoint.listen());
    listening.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => StartError::AddressInUse { address },
        _ => StartError::BadAddress {
            address,
            why: error.to_string(),
        },
    })
}

/// Returns the time of the wall clock in nanoseconds: the incarnation of a manager, from which fences and session
/// ids count up, unless its state folder has a higher number.
fn clock() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos())
        .unwrap_or(u64::MAX >> 1)
        .max(1)
}
