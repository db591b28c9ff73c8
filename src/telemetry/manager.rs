//! Events and numbers of managers.

use std::{fmt::Display, path::Path};

use lockkeeper_protocol::{Deadlock, ShardOf};

use crate::{address::Address, telemetry::target};

/// The lifetime of a manager, from its start to its end.
#[derive(Debug)]
pub(crate) struct ManagerSpan(Address);

impl ManagerSpan {
    /// A manager serves at an address. Of several shards, the first one records it for all.
    pub(crate) fn begin(address: &Address, shard_of: ShardOf) -> Option<Self> {
        let ShardOf { incarnation, shard } = shard_of;
        let shards = shard.of();
        (shard.index() == 0).then(|| {
            tracing::info!(target: target::MANAGER, %address, incarnation, shards, "manager started");
            Self(address.clone())
        })
    }
}

impl Drop for ManagerSpan {
    fn drop(&mut self) {
        tracing::info!(target: target::MANAGER, address = %self.0, "manager ended");
    }
}

/// A manager could not bind its socket.
pub(crate) fn listen_failed(why: &impl Display) {
    tracing::error!(target: target::MANAGER, %why, "manager cannot let clients in");
}

/// A manager could not accept a client, because it has no file descriptor left or for another system error.
pub(crate) fn accept_failed(why: &impl Display) {
    tracing::warn!(target: target::MANAGER, %why, "client kept waiting");
}

/// The socket of a manager was removed, and is bound anew.
pub(crate) fn address_restored(address: &Address) {
    tracing::warn!(target: target::MANAGER, %address, "socket bound anew");
}

/// The files of a manager belong to another manager now, so it ends.
pub(crate) fn address_lost(address: &Address, why: &str) {
    tracing::error!(target: target::MANAGER, %address, why, "manager lost its address");
}

/// The claim file alone protects a manager's path: if it is removed, a second manager can start there.
pub(crate) fn claim_is_weak(path: &Path, why: &str) {
    tracing::warn!(
        target: target::MANAGER,
        path = %path.display(),
        why,
        "claim rests on its file alone"
    );
}

/// Callers wait for one another, and would wait for ever.
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
    struct Touchy;

    impl Display for Touchy {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            FORMATTED.set(FORMATTED.get() + 1);
            f.write_str("touched")
        }
    }

    /// Records events with such values, and returns how often they were formatted.
    fn formatted() -> u32 {
        FORMATTED.set(0);
        listen_failed(&Touchy);
        accept_failed(&Touchy);
        Calling::begin("lock", "l", "acquire").end(&Err::<(), _>(Touchy));
        FORMATTED.get()
    }

    fn formatted_before(level: LevelFilter) -> u32 {
        let listener = lines::layer().with_writer(std::io::sink).with_filter(level);
        tracing::subscriber::with_default(registry().with(listener), formatted)
    }

    #[test]
    fn nothing_is_formatted_while_nobody_listens() {
        assert_eq!(formatted(), 0);
        assert_eq!(formatted_before(LevelFilter::OFF), 0);
        // A listener that fails is an error; a failed accept is a warning.
        assert_eq!(formatted_before(LevelFilter::ERROR), 1);
        assert_eq!(formatted_before(LevelFilter::WARN), 2);
        assert!(formatted_before(LevelFilter::TRACE) > 2);
    }

    #[test]
    fn call_that_nobody_listens_to_carries_one_empty_pointer() {
        let calling = Calling::begin("lock", "l", "acquire");
        assert!(!calling.is_heard());
        assert_eq!(size_of_val(&calling), size_of::<usize>());
        let listener = lines::layer().with_writer(std::io::sink);
        tracing::subscriber::with_default(registry().with(listener), || {
            assert!(Calling::begin("lock", "l", "acquire").is_heard());
        });
    }
}
