//! The peers that are Python's: `multiprocessing`'s SyncManager and Pool, played by `sync_manager.py`.

use crate::contest::{Player, Side};
use std::time::Duration;

const SCRIPT: &str = include_str!("sync_manager.py");

/// Clients that use the objects of one SyncManager, its host and each client a python3 of its own.
pub(crate) const SYNC_MANAGER: Side = Side {
    name: "SyncManager",
    needs: &["python3"],
    player: Player::Python(SCRIPT),
    hosts: &["host"],
    worker: "client",
    patience: Duration::ZERO,
};

/// One that sets an event, and one that waits for it.
pub(crate) const SYNC_MANAGER_WAKERS: Side = Side {
    hosts: &["host", "waiter"],
    worker: "setter",
    ..SYNC_MANAGER
};

/// One that starts SyncManagers.
pub(crate) const SYNC_MANAGER_STARTERS: Side = Side {
    hosts: &[],
    worker: "starter",
    patience: Duration::from_secs(5),
    ..SYNC_MANAGER
};

/// A process with a pool.
pub(crate) const PYTHON_POOL: Side = Side {
    name: "Python's Pool",
    hosts: &[],
    worker: "pool-owner",
    patience: Duration::from_secs(5),
    ..SYNC_MANAGER
};
