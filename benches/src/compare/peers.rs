//! The Python peers: `multiprocessing`'s SyncManager and Pool, run by `sync_manager.py`.

use crate::contest::{Executable, Side};
use std::time::Duration;

const SCRIPT: &str = include_str!("sync_manager.py");

/// Clients that use the objects of one SyncManager. The host and each client are separate python3
/// processes.
pub(crate) const SYNC_MANAGER: Side = Side {
    name: "SyncManager",
    needs: &["python3"],
    executable: Executable::Python(SCRIPT),
    hosts: &["host"],
    worker: "client",
    patience: Duration::ZERO,
};

/// A process that sets an event, and a process that waits for it.
pub(crate) const SYNC_MANAGER_WAKERS: Side = Side {
    hosts: &["host", "waiter"],
    worker: "setter",
    ..SYNC_MANAGER
};

/// A process that starts SyncManagers.
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
