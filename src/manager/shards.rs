//! The connections of a handle to the shards of its manager, each opened on first use.
//!
//! Invariant: all connections of a handle lead to the same incarnation of the manager, never to a later
//! manager at the same address.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::future::try_join_all;
use lockkeeper_protocol::{Shard, ShardOf};
use tokio::sync::OnceCell;

use crate::{address::Address, client::connection::Connection, error::CallError};

/// The connections of a handle to the shards of its manager.
#[derive(Debug)]
pub(super) struct Reach {
    first: Arc<Connection>,
    others: Vec<Other>,
    /// The number of objects without a name that were opened, which determines the shard of the next one.
    turn: AtomicU64,
}

/// A shard other than the first, connected on first use.
#[derive(Debug)]
struct Other {
    shard: Shard,
    connection: OnceCell<Arc<Connection>>,
}

impl Reach {
    /// Connects to the manager at an address, which may be that of any of its shards.
    pub(super) async fn to(address: &Address) -> Result<Self, CallError> {
        let connection = Connection::to(address).await?;
        let shard_of = connection.shard_of();
        if shard_of.shard.index() == 0 {
            return Ok(Self::over(connection));
        }
        let manager = address
            .of_manager(shard_of.shard)
            .ok_or_else(|| CallError::Protocol(format!("no manager has a shard at {address}")))?;
        let first = ShardOf {
            shard: shard_of.shard.first(),
            ..shard_of
        };
        let reach = Self::over(check(Connection::to(&manager).await?, first)?);
        let other = reach
            .others
            .iter()
            .find(|other| other.shard == shard_of.shard);
        if let Some(other) = other {
            // The handle is new, so the cell is empty.
            let _ = other.connection.set(connection);
        }
        Ok(reach)
    }

    /// Creates the connections of a manager whose first shard is at the other end of a connection.
    pub(super) fn over(first: Arc<Connection>) -> Self {
        let other = |shard| Other {
            shard,
            connection: OnceCell::new(),
        };
        Self {
            others: Shard::all(first.shard_of().shard.of())
                .skip(1)
                .map(other)
                .collect(),
            // Processes that each create one object begin with different shards.
            turn: AtomicU64::new(first.sessions_before()),
            first,
        }
    }

    pub(super) fn address(&self) -> &Address {
        self.first.address()
    }

    /// The first shard, which is the only one of most managers.
    pub(super) const fn first(&self) -> &Arc<Connection> {
        &self.first
    }

    /// The shard of an object with that name, or the next shard in turn for an object without one.
    pub(super) async fn shard_of(&self, name: Option<&str>) -> Result<&Arc<Connection>, CallError> {
        self.check_process()?;
        let shard = self.first.shard_of().shard;
        let index = match name {
            Some(name) => shard.owner(name),
            None if self.others.is_empty() => 0,
            None => shard.in_turn(self.turn.fetch_add(1, Ordering::Relaxed)),
        };
        let others = &mut self.others.iter();
        match others.find(|other| other.shard.index() == index) {
            Some(other) => self.shard(other).await,
            None => Ok(&self.first),
        }
    }

    /// All shards, in order.
    pub(super) async fn all(&self) -> Result<Vec<&Arc<Connection>>, CallError> {
        self.check_process()?;
        let others = self.others.iter().map(|other| self.shard(other));
        let mut all = vec![&self.first];
        all.extend(try_join_all(others).await?);
        Ok(all)
    }

    /// Refuses a handle of the parent in a forked child, where a connection may never complete.
    fn check_process(&self) -> Result<(), CallError> {
        match self.first.is_here() {
            true => Ok(()),
            false => Err(CallError::Forked {
                what: format!("the handle of the manager at {}", self.address()),
            }),
        }
    }

    async fn shard<'a>(&self, other: &'a Other) -> Result<&'a Arc<Connection>, CallError> {
        let connect = || async {
            let address = self.address().of(other.shard);
            let connected = Connection::to(&address).await;
            let connection = connected.map_err(|error| match error {
                // The shard existed when the handle was created, so the manager is gone.
                CallError::NoManager { address, why, .. } => {
                    CallError::Disconnected { address, why }
                }
                error => error,
            })?;
            let shard_of = ShardOf {
                shard: other.shard,
                ..self.first.shard_of()
            };
            check(connection, shard_of)
        };
        other.connection.get_or_try_init(connect).await
    }
}

/// Checks that a connection leads to that shard of that manager.
fn check(connection: Arc<Connection>, shard_of: ShardOf) -> Result<Arc<Connection>, CallError> {
    if connection.shard_of() == shard_of {
        return Ok(connection);
    }
    Err(CallError::Disconnected {
        address: connection.address().clone(),
        why: "another manager is there by now".to_owned(),
    })
}
