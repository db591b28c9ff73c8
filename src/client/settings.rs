//! The settings of this process as a client, for each manager that it has chosen settings for.
//!
//! They are stored apart from the connections, so a later connection has them too. Invariant: the settings of
//! one manager do not affect connections to another.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lockkeeper_protocol::{Shard, ShardOf, cut};
use lockkeeper_sys::Inherited;

use crate::address::Address;

/// The settings of this process as a client of a manager.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    label: String,
    pub(super) spin: Duration,
    pub(super) on_loss: OnLoss,
}

/// The effect of a lost connection on the next call of a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OnLoss {
    /// The call fails.
    #[default]
    Fail,
    /// The call reconnects.
    Reconnect,
}

/// The longest time to poll for an answer.
const MOST_SPIN: Duration = Duration::from_millis(1);

/// The chosen settings, by the location of the manager's shard. A forked child inherits those of its parent.
static CHOSEN: Inherited<BTreeMap<String, Arc<Settings>>> = Inherited::new(BTreeMap::new());

impl Settings {
    /// Sets the text that names this process.
    pub(crate) fn label(&mut self, label: &str) {
        cut(label).clone_into(&mut self.label);
    }

    /// Sets how long calls poll for their answers before they sleep.
    pub(crate) fn spin(&mut self, time: Duration) {
        self.spin = time.min(MOST_SPIN);
    }

    /// Makes proxies reconnect after a loss.
    pub(crate) const fn reconnect(&mut self) {
        self.on_loss = OnLoss::Reconnect;
    }

    /// Applies the settings to the manager at an address. Later connections have them.
    pub(crate) fn choose(self, address: &Address) {
        let settings = Arc::new(self);
        CHOSEN.with(|chosen| chosen.insert(key(address), settings));
    }

    pub(super) fn name(&self) -> &str {
        &self.label
    }

    /// Applies the settings to all shards of a manager, given the address of one of them.
    pub(super) fn choose_for_all(self: &Arc<Self>, address: &Address, shard_of: ShardOf) {
        let Some(manager) = address.of_manager(shard_of.shard) else {
            return;
        };
        CHOSEN.with(|chosen| {
            // Other settings may have been chosen since the connection was begun.
            if chosen.get(&key(address)) == Some(self) {
                let shards = Shard::all(shard_of.shard.of());
                let places = shards.map(|shard| key(&manager.of(shard)));
                chosen.extend(places.map(|place| (place, Arc::clone(self))));
            }
        });
    }
}

/// Returns the settings that were chosen for the manager at an address.
pub(super) fn chosen(address: &Address) -> Option<Arc<Settings>> {
    CHOSEN.with(|chosen| chosen.get(&key(address)).cloned())
}

/// The location of an address, without the user whose manager is accepted there.
fn key(address: &Address) -> String {
    let (scheme, place) = address.parts();
    format!("{scheme}:{place}")
}
