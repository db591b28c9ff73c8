//! Events and numbers of managers.

use std::{fmt::Display, path::Path, time::Duration};

use lockkeeper_protocol::{Deadlock, ShardOf};

use crate::{address::Address, telemetry::target};

/// The lifetime of a manager, from its start to its end.
#[derive(Debug)]
pub(crate) struct ManagerSpan {
    address: Address,
    serves: Serves,
}

/// Whom a manager serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Serves {
    /// The clients at its address.
    Clients,
    /// One pool of this process.
    Pool,
}

impl ManagerSpan {
    /// Records that a manager serves at an address. Only the first of several shards does so.
    pub(crate) fn begin(address: &Address, shard_of: ShardOf, serves: Serves) -> Option<Self> {
        let ShardOf { incarnation, shard } = shard_of;
        let shards = shard.of();
        (shard.index() == 0).then(|| {
            let pid = std::process::id();
            match serves {
                Serves::Clients => tracing::info!(
                    target: target::MANAGER, %address, pid, incarnation, shards, "manager started"
                ),
                Serves::Pool => tracing::debug!(
                    target: target::MANAGER, %address, pid, incarnation, shards, "manager started"
                ),
            }
            let address = address.clone();
            Self { address, serves }
        })
    }
}

impl Drop for ManagerSpan {
    fn drop(&mut self) {
        let address = &self.address;
        match self.serves {
            Serves::Clients => tracing::info!(target: target::MANAGER, %address, "manager ended"),
            Serves::Pool => tracing::debug!(target: target::MANAGER, %address, "manager ended"),
        }
    }
}

/// Records that a manager could not bind its socket.
pub(crate) fn listen_failed(why: &impl Display) {
    tracing::error!(target: target::MANAGER, %why, "manager cannot let clients in");
}

/// Records that a manager could not accept a client, because it has no file descriptor left or because of
/// another system error.
pub(crate) fn accept_failed(why: &impl Display) {
    tracing::warn!(target: target::MANAGER, %why, "client kept waiting");
}

/// Records that a manager could not read its key file again, and accepts the keys that it has.
#[cfg(feature = "net")]
pub(crate) fn keys_not_read(why: &impl Display) {
    tracing::warn!(target: target::MANAGER, %why, "keys not read again");
}

/// Records that the thread that checks keys has panicked, and continues.
#[cfg(feature = "net")]
pub(crate) fn gate_failed(why: &str) {
    tracing::error!(target: target::MANAGER, why, "check of keys failed");
}

/// Records that the socket of a manager was removed and is bound again.
pub(crate) fn address_restored(address: &Address) {
    tracing::warn!(target: target::MANAGER, %address, "socket recreated");
}

/// Records that another manager has taken the files of a manager, which ends.
pub(crate) fn address_lost(address: &Address, why: &str) {
    tracing::error!(target: target::MANAGER, %address, why, "manager lost its address");
}

/// Records that only the claim file protects a manager's path: if it is removed, a second manager can
/// start there.
pub(crate) fn claim_is_weak(path: &Path, why: &str) {
    tracing::warn!(
        target: target::MANAGER,
        path = %path.display(),
        why,
        "address claimed by its lock file only"
    );
}

/// Records which state folder a manager uses, and how the previous manager ended.
pub(crate) fn state_opened(folder: &Path, previous: &impl Display) {
    tracing::info!(
        target: target::MANAGER,
        folder = %folder.display(),
        %previous,
        "state folder opened"
    );
}

/// Records that a manager waits before it serves, because its predecessor did not end cleanly.
pub(crate) fn silent(folder: &Path, silence: Duration) {
    tracing::warn!(target: target::MANAGER, folder = %folder.display(), ?silence, "manager waits for leases");
}

/// Records that a manager could not write to its state folder.
pub(crate) fn state_not_written(folder: &Path, why: &str) {
    tracing::warn!(target: target::MANAGER, folder = %folder.display(), why, "state not written");
}

/// Records that a manager ends because it could not write to its state folder for too long.
pub(crate) fn state_lost(folder: &Path, why: &str) {
    tracing::error!(target: target::MANAGER, folder = %folder.display(), why, "fences used up");
}

/// Records a deadlock.
pub(crate) fn deadlock_found(deadlock: &Deadlock) {
    tracing::warn!(target: target::MANAGER, callers = deadlock.size, %deadlock, "deadlock found");
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fmt};

    use tracing_subscriber::{
        filter::LevelFilter,
        fmt as lines,
        layer::{Layer, SubscriberExt},
        registry,
    };

    use crate::telemetry::call::Calling;

    use super::*;

    thread_local! {
        static FORMATTED: Cell<u32> = const { Cell::new(0) };
    }

    /// A value that counts how often it is formatted.
    struct CountedDisplay;

    impl Display for CountedDisplay {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            FORMATTED.set(FORMATTED.get() + 1);
            f.write_str("formatted")
        }
    }

    /// Records events with `CountedDisplay` values, and returns how often they were formatted.
    fn formatted() -> u32 {
        FORMATTED.set(0);
        listen_failed(&CountedDisplay);
        accept_failed(&CountedDisplay);
        Calling::begin("lock", "l", "acquire").ended(&CountedDisplay);
        FORMATTED.get()
    }

    fn formatted_before(level: LevelFilter) -> u32 {
        let layer = lines::layer().with_writer(std::io::sink).with_filter(level);
        tracing::subscriber::with_default(registry().with(layer), formatted)
    }

    #[test]
    fn nothing_is_formatted_without_a_subscriber() {
        assert_eq!(formatted(), 0);
        assert_eq!(formatted_before(LevelFilter::OFF), 0);
        // A failed listener is an error, and a failed accept is a warning.
        assert_eq!(formatted_before(LevelFilter::ERROR), 1);
        assert_eq!(formatted_before(LevelFilter::WARN), 2);
        assert!(formatted_before(LevelFilter::TRACE) > 2);
    }

    #[test]
    fn call_without_a_subscriber_contains_one_null_pointer() {
        let calling = Calling::begin("lock", "l", "acquire");
        assert!(!calling.is_recorded());
        assert_eq!(size_of_val(&calling), size_of::<usize>());
        let layer = lines::layer().with_writer(std::io::sink);
        tracing::subscriber::with_default(registry().with(layer), || {
            assert!(Calling::begin("lock", "l", "acquire").is_recorded());
        });
    }
}
