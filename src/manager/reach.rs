//! The arbiters of a manager as a handle reaches them: each over a connection of its own, once it is used.
//!
//! Invariant: all connections of a handle are to the manager that it was made for, and none to one that
//! came after it at the same address.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::future::try_join_all;
use tokio::sync::OnceCell;

use crate::{
    Address, CallError,
    client::Connection,
    part::{Home, Part},
};

/// How a handle reaches the arbiters of its manager.
#[derive(Debug)]
pub(super) struct Reach {
    first: Arc<Connection>,
    others: Vec<Other>,
    /// How many objects without a name were opened before, by which arbiters have them in turn.
    turn: AtomicU64,
}

/// An arbiter that is connected to when it is needed.
#[derive(Debug)]
struct Other {
    part: Part,
    connection: OnceCell<Arc<Connection>>,
}

impl Reach {
    /// Reaches the manager at an address, which may be that of any of its arbiters.
    pub(super) async fn to(address: &Address) -> Result<Self, CallError> {
        let connection = Connection::to(address).await?;
        let home = connection.home();
        if home.part.index() == 0 {
            return Ok(Self::over(connection));
        }
        let manager = address.of_manager(home.part).ok_or_else(|| {
            CallError::Protocol(format!("no manager has an arbiter at {address}"))
        })?;
        let first = Home {
            part: home.part.first(),
            ..home
        };
        let reach = Self::over(check(Connection::to(&manager).await?, first)?);
        let other = reach.others.iter().find(|other| other.part == home.part);
        if let Some(other) = other {
            // Nobody else knows it yet.
            let _ = other.connection.set(connection);
        }
        Ok(reach)
    }

    fn over(first: Arc<Connection>) -> Self {
        let other = |part| Other {
            part,
            connection: OnceCell::new(),
        };
        Self {
            others: Part::all(first.home().part.of())
                .skip(1)
                .map(other)
                .collect(),
            // Processes that make an object each begin with different arbiters.
            turn: AtomicU64::new(first.sessions_before()),
            first,
        }
    }

    /// Where the manager is reached.
    pub(super) fn address(&self) -> &Address {
        self.first.address()
    }

    /// The first arbiter, which is the only one of most managers.
    pub(super) const fn first(&self) -> &Arc<Connection> {
        &self.first
    }

    /// The arbiter of that name, or whose turn it is to have an object without one.
    pub(super) async fn arbiter_of(
        &self,
        name: Option<&str>,
    ) -> Result<&Arc<Connection>, CallError> {
        let part = self.first.home().part;
        let index = match name {
            Some(name) => part.owner(name),
            None if self.others.is_empty() => 0,
            None => part.in_turn(self.turn.fetch_add(1, Ordering::Relaxed)),
        };
        let others = &mut self.others.iter();
        match others.find(|other| other.part.index() == index) {
            Some(other) => self.arbiter(other).await,
            None => Ok(&self.first),
        }
    }

    /// All arbiters, in order.
    pub(super) async fn all(&self) -> Result<Vec<&Arc<Connection>>, CallError> {
        let others = self.others.iter().map(|other| self.arbiter(other));
        let mut all = vec![&self.first];
        all.extend(try_join_all(others).await?);
        Ok(all)
    }

    async fn arbiter<'a>(&self, other: &'a Other) -> Result<&'a Arc<Connection>, CallError> {
        let connect = || async {
            let address = self.address().of(other.part);
            let connected = Connection::to(&address).await;
            let connection = connected.map_err(|error| match error {
                // It was there when the handle was made.
                CallError::NoManager { address, why } => CallError::Disconnected { address, why },
                error => error,
            })?;
            let home = Home {
                part: other.part,
                ..self.first.home()
            };
            check(connection, home)
        };
        other.connection.get_or_try_init(connect).await
    }
}

/// Makes sure that a connection is to that arbiter of that manager.
fn check(connection: Arc<Connection>, home: Home) -> Result<Arc<Connection>, CallError> {
    if connection.home() == home {
        return Ok(connection);
    }
    Err(CallError::Disconnected {
        address: connection.address().clone(),
        why: "another manager is there by now".to_owned(),
    })
}
